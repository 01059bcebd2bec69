//! What no collector has to reach: the programs with an owner for everything, and the trees in a bump allocator that frees
//! nothing by itself.

use crate::watch::{skip, tick};
use crate::work::{self, BATCH, Rng, TICK_DEPTH, Trees};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// With `Box`, and `Rc` in the LRU cache.
pub fn owned(program: &str) -> Option<u64> {
    match program {
        "lru" => Some(lru()),
        "vecs" => Some(vecs()),
        "lists" => Some(lists()),
        "wide" => Some(wide()),
        "strings" => Some(strings()),
        _ => work::trees(program, &mut Boxes(None)),
    }
}

pub fn bump(program: &str) -> Option<u64> {
    work::trees(program, &mut Bump::default())
}

struct Boxes(Option<Box<BoxTree>>);

struct BoxTree {
    left: Option<Box<BoxTree>>,
    right: Option<Box<BoxTree>>,
}

impl Boxes {
    fn build(depth: u32) -> Box<BoxTree> {
        if depth <= TICK_DEPTH {
            return Self::small(depth);
        }
        tick();
        let child = || Some(Self::build(depth - 1));
        Box::new(BoxTree { left: child(), right: child() })
    }
    fn small(depth: u32) -> Box<BoxTree> {
        let child = || (depth > 0).then(|| Self::small(depth - 1));
        Box::new(BoxTree { left: child(), right: child() })
    }
    fn count(tree: &BoxTree, depth: u32) -> u64 {
        if depth <= TICK_DEPTH {
            return Self::count_small(tree);
        }
        tick();
        let child = |t: &BoxTree| Self::count(t, depth - 1);
        1 + tree.left.as_deref().map_or(0, child) + tree.right.as_deref().map_or(0, child)
    }
    fn count_small(tree: &BoxTree) -> u64 {
        let child = |t: &BoxTree| Self::count_small(t);
        1 + tree.left.as_deref().map_or(0, child) + tree.right.as_deref().map_or(0, child)
    }
}

impl Trees for Boxes {
    fn temporary(&mut self, depth: u32) -> u64 {
        Self::count(&Self::build(depth), depth)
    }
    fn keep(&mut self, depth: u32) {
        self.0 = Some(Self::build(depth));
    }
    fn count_kept(&mut self, depth: u32) -> u64 {
        self.0.as_deref().map_or(0, |t| Self::count(t, depth))
    }
}

/// Each temporary tree in an arena of its own, freed at a stroke.
#[derive(Default)]
struct Bump {
    kept: bumpalo::Bump,
    temporary: bumpalo::Bump,
    count: u64,
}

struct BumpTree<'a> {
    left: Option<&'a BumpTree<'a>>,
    right: Option<&'a BumpTree<'a>>,
}

impl Bump {
    fn build(bump: &bumpalo::Bump, depth: u32) -> &BumpTree<'_> {
        if depth <= TICK_DEPTH {
            return Self::small(bump, depth);
        }
        tick();
        let child = || Some(Self::build(bump, depth - 1));
        bump.alloc(BumpTree { left: child(), right: child() })
    }
    fn small(bump: &bumpalo::Bump, depth: u32) -> &BumpTree<'_> {
        let child = || (depth > 0).then(|| Self::small(bump, depth - 1));
        bump.alloc(BumpTree { left: child(), right: child() })
    }
    fn count(tree: &BumpTree<'_>, depth: u32) -> u64 {
        if depth <= TICK_DEPTH {
            return Self::count_small(tree);
        }
        tick();
        let child = |t: &BumpTree<'_>| Self::count(t, depth - 1);
        1 + tree.left.map_or(0, child) + tree.right.map_or(0, child)
    }
    fn count_small(tree: &BumpTree<'_>) -> u64 {
        1 + tree.left.map_or(0, Self::count_small) + tree.right.map_or(0, Self::count_small)
    }
}

impl Trees for Bump {
    fn temporary(&mut self, depth: u32) -> u64 {
        let count = Self::count(Self::build(&self.temporary, depth), depth);
        self.temporary.reset();
        count
    }
    fn keep(&mut self, depth: u32) {
        self.count = Self::count(Self::build(&self.kept, depth), depth);
    }
    fn count_kept(&mut self, _: u32) -> u64 {
        self.count
    }
}

type Link = Option<Rc<Entry>>;

struct Entry {
    key: u64,
    value: RefCell<Rc<u64>>,
    chain: RefCell<Link>,
    newer: RefCell<Weak<Entry>>,
    older: RefCell<Link>,
}

struct Lru {
    table: Vec<RefCell<Link>>,
    newest: RefCell<Link>,
    oldest: RefCell<Weak<Entry>>,
    len: Cell<u64>,
}

impl Lru {
    fn unlink(&self, e: &Rc<Entry>) {
        let (newer, older) = (e.newer.take(), e.older.take());
        *older.as_ref().map_or(&self.oldest, |o| &o.newer).borrow_mut() = newer.clone();
        match newer.upgrade() {
            Some(n) => *n.older.borrow_mut() = older,
            None => *self.newest.borrow_mut() = older,
        }
    }

    fn link(&self, e: &Rc<Entry>) {
        let newest = self.newest.borrow_mut().replace(e.clone());
        *newest.as_ref().map_or(&self.oldest, |n| &n.newer).borrow_mut() = Rc::downgrade(e);
        *e.older.borrow_mut() = newest;
    }

    fn touch(&self, key: u64) -> bool {
        let head = &self.table[key as usize % self.table.len()];
        let mut at = head.borrow().clone();
        while let Some(e) = at {
            if e.key == key {
                self.unlink(&e);
                self.link(&e);
                *e.value.borrow_mut() = Rc::new(key);
                return true;
            }
            at = e.chain.borrow().clone();
        }
        let (value, chain) = (RefCell::new(Rc::new(key)), RefCell::new(head.borrow().clone()));
        let (newer, older) = (RefCell::new(Weak::new()), RefCell::new(None));
        let e = Rc::new(Entry { key, value, chain, newer, older });
        *head.borrow_mut() = Some(e.clone());
        self.link(&e);
        self.len.set(self.len.get() + 1);
        if self.len.get() > work::LRU.0 {
            self.evict();
        }
        false
    }

    fn evict(&self) {
        let victim = self.oldest.borrow().upgrade().expect("not empty");
        self.unlink(&victim);
        let head = &self.table[victim.key as usize % self.table.len()];
        let mut before: Link = None;
        let mut at = head.borrow().clone();
        while let Some(e) = at {
            if Rc::ptr_eq(&e, &victim) {
                *before.as_ref().map_or(head, |b| &b.chain).borrow_mut() = victim.chain.take();
                break;
            }
            at = e.chain.borrow().clone();
            before = Some(e);
        }
        self.len.set(self.len.get() - 1);
    }
}

fn lru() -> u64 {
    let (entries, chains, operations) = work::LRU;
    let lru = Lru {
        table: (0..chains).map(|_| RefCell::new(None)).collect(),
        newest: RefCell::new(None),
        oldest: RefCell::new(Weak::new()),
        len: Cell::new(0),
    };
    let (mut hits, mut rng) = (0, Rng::new());
    skip();
    for i in 0..operations {
        hits += u64::from(lru.touch(rng.next() % (entries * 3 / 2)));
        if i % BATCH == 0 {
            tick();
        }
    }
    // The list would be dropped from its head on, each entry by the one before: a million calls deep.
    std::mem::forget(lru);
    hits
}

fn vecs() -> u64 {
    let (live, operations) = work::VECS;
    let mut slots: Vec<Option<Box<Vec<Box<u64>>>>> = (0..live).map(|_| None).collect();
    let (mut sum, mut rng) = (0, Rng::new());
    skip();
    for op in 0..operations {
        let slot = rng.below(live);
        let mut leaves = Box::new(Vec::new());
        for i in 0..1 + rng.next() % 8 {
            leaves.push(Box::new(op + i));
        }
        sum += slots[slot].replace(leaves).map_or(0, |old| old.iter().map(|leaf| **leaf).sum());
        if op % BATCH == 0 {
            tick();
        }
    }
    sum
}

struct Node {
    next: Option<Box<Node>>,
    value: u64,
}

fn lists() -> u64 {
    let (nodes, lists) = work::LISTS;
    let mut last = None::<Box<Node>>;
    let mut sum = 0;
    for round in 0..lists {
        let mut list = None;
        for i in 0..nodes {
            list = Some(Box::new(Node { next: list, value: i + round }));
            if i % BATCH == 0 {
                tick();
            }
        }
        for list in [&list, &last] {
            let mut at = list.as_ref();
            while let Some(node) = at {
                sum += node.value;
                if node.value % 256 == 0 {
                    tick();
                }
                at = node.next.as_ref();
            }
        }
        // One by one, since dropped by its head it would be a million calls deep.
        while let Some(mut node) = last {
            last = node.next.take();
        }
        last = list;
    }
    while let Some(mut node) = last {
        last = node.next.take();
    }
    sum
}

fn wide() -> u64 {
    let (places, operations) = work::WIDE;
    let mut array: Vec<Box<u64>> = (0..places).map(|i| Box::new(i as u64)).collect();
    let (mut sum, mut rng) = (0, Rng::new());
    skip();
    for op in 0..operations {
        sum += *std::mem::replace(&mut array[rng.below(places)], Box::new(op));
        if op % BATCH == 0 {
            tick();
        }
    }
    sum
}

fn strings() -> u64 {
    let (live, operations) = work::STRINGS;
    let mut slots: Vec<Rc<str>> = (0..live).map(|i| i.to_string().into()).collect();
    let (mut sum, mut rng, mut text) = (0, Rng::new(), String::new());
    skip();
    for op in 0..operations {
        let (a, b) = (&slots[rng.below(live)], &slots[rng.below(live)]);
        text.clear();
        text.push_str(&a[..a.len().min(32)]);
        text.push_str(&b[..b.len().min(32)]);
        sum += (text.len() + text.as_bytes()[0] as usize) as u64;
        slots[rng.below(live)] = text.as_str().into();
        if op % BATCH == 0 {
            tick();
        }
    }
    sum
}
