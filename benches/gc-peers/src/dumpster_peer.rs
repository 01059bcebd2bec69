//! The programs on dumpster (its single-threaded half): reference counts, and a search for cycles now and then.

use crate::watch::{skip, tick};
use crate::work::{self, BATCH, Rng, TICK_DEPTH, Trees};
use dumpster::Trace;
use dumpster::unsync::Gc;
use std::cell::RefCell;

pub fn run(program: &str) -> Option<u64> {
    match program {
        "lru" => Some(lru()),
        "vecs" => Some(vecs()),
        "lists" => Some(lists()),
        "wide" => Some(wide()),
        "strings" => Some(strings()),
        _ => work::trees(program, &mut Peer(None)),
    }
}

#[derive(Trace)]
struct Tree {
    left: Option<Gc<Tree>>,
    right: Option<Gc<Tree>>,
}

fn build(depth: u32) -> Gc<Tree> {
    if depth <= TICK_DEPTH {
        return small(depth);
    }
    tick();
    let child = || Some(build(depth - 1));
    Gc::new(Tree { left: child(), right: child() })
}

fn small(depth: u32) -> Gc<Tree> {
    let child = || (depth > 0).then(|| small(depth - 1));
    Gc::new(Tree { left: child(), right: child() })
}

fn count(tree: &Gc<Tree>, depth: u32) -> u64 {
    if depth <= TICK_DEPTH {
        return count_small(tree);
    }
    tick();
    let child = |t: &Gc<Tree>| count(t, depth - 1);
    1 + tree.left.as_ref().map_or(0, child) + tree.right.as_ref().map_or(0, child)
}

fn count_small(tree: &Gc<Tree>) -> u64 {
    1 + tree.left.as_ref().map_or(0, count_small) + tree.right.as_ref().map_or(0, count_small)
}

struct Peer(Option<Gc<Tree>>);

impl Trees for Peer {
    fn temporary(&mut self, depth: u32) -> u64 {
        count(&build(depth), depth)
    }
    fn keep(&mut self, depth: u32) {
        self.0 = Some(build(depth));
    }
    fn count_kept(&mut self, depth: u32) -> u64 {
        self.0.as_ref().map_or(0, |t| count(t, depth))
    }
}

type Link = Option<Gc<Entry>>;

#[derive(Trace)]
struct Entry {
    key: u64,
    value: RefCell<Gc<u64>>,
    chain: RefCell<Link>,
    newer: RefCell<Link>,
    older: RefCell<Link>,
}

#[derive(Trace)]
struct Lru {
    table: Vec<RefCell<Link>>,
    newest: RefCell<Link>,
    oldest: RefCell<Link>,
}

impl Lru {
    fn unlink(&self, e: &Gc<Entry>) {
        let (newer, older) = (e.newer.borrow().clone(), e.older.borrow().clone());
        *newer.as_ref().map_or(&self.newest, |n| &n.older).borrow_mut() = older.clone();
        *older.as_ref().map_or(&self.oldest, |o| &o.newer).borrow_mut() = newer.clone();
    }

    fn link(&self, e: &Gc<Entry>) {
        let newest = self.newest.borrow_mut().replace(e.clone());
        *newest.as_ref().map_or(&self.oldest, |n| &n.newer).borrow_mut() = Some(e.clone());
        *e.newer.borrow_mut() = None;
        *e.older.borrow_mut() = newest;
    }

    fn touch(&self, key: u64, len: &mut u64) -> bool {
        let head = &self.table[key as usize % self.table.len()];
        let mut at = head.borrow().clone();
        while let Some(e) = at {
            if e.key == key {
                self.unlink(&e);
                self.link(&e);
                *e.value.borrow_mut() = Gc::new(key);
                return true;
            }
            at = e.chain.borrow().clone();
        }
        let none = || RefCell::new(None);
        let (value, chain) = (RefCell::new(Gc::new(key)), RefCell::new(head.borrow().clone()));
        let e = Gc::new(Entry { key, value, chain, newer: none(), older: none() });
        *head.borrow_mut() = Some(e.clone());
        self.link(&e);
        *len += 1;
        if *len > work::LRU.0 {
            self.evict();
            *len -= 1;
        }
        false
    }

    fn evict(&self) {
        let victim = self.oldest.borrow().clone().expect("not empty");
        self.unlink(&victim);
        let mut before: Link = None;
        let mut at = self.table[victim.key as usize % self.table.len()].borrow().clone();
        while let Some(e) = at {
            if Gc::ptr_eq(&e, &victim) {
                let head = &self.table[victim.key as usize % self.table.len()];
                *before.as_ref().map_or(head, |b| &b.chain).borrow_mut() = victim.chain.borrow().clone();
                break;
            }
            at = e.chain.borrow().clone();
            before = Some(e);
        }
    }
}

fn lru() -> u64 {
    let (entries, chains, operations) = work::LRU;
    let table = (0..chains).map(|_| RefCell::new(None)).collect();
    let lru = Gc::new(Lru { table, newest: RefCell::new(None), oldest: RefCell::new(None) });
    let (mut hits, mut rng, mut len) = (0, Rng::new(), 0);
    skip();
    for i in 0..operations {
        hits += u64::from(lru.touch(rng.next() % (entries * 3 / 2), &mut len));
        if i % BATCH == 0 {
            tick();
        }
    }
    hits
}

fn vecs() -> u64 {
    let (live, operations) = work::VECS;
    let slots = Gc::new(RefCell::new(vec![None::<Gc<RefCell<Vec<Gc<u64>>>>>; live]));
    let (mut sum, mut rng) = (0, Rng::new());
    skip();
    for op in 0..operations {
        let slot = rng.below(live);
        let leaves = Gc::new(RefCell::new(Vec::new()));
        for i in 0..1 + rng.next() % 8 {
            let leaf = Gc::new(op + i);
            leaves.borrow_mut().push(leaf);
        }
        let old = slots.borrow_mut()[slot].replace(leaves);
        sum += old.map_or(0, |old| old.borrow().iter().map(|leaf| **leaf).sum());
        if op % BATCH == 0 {
            tick();
        }
    }
    sum
}

#[derive(Trace)]
struct Node {
    next: Option<Gc<Node>>,
    value: u64,
}

fn lists() -> u64 {
    let (nodes, lists) = work::LISTS;
    let mut last = None::<Gc<Node>>;
    let mut sum = 0;
    for round in 0..lists {
        let mut list = None;
        for i in 0..nodes {
            list = Some(Gc::new(Node { next: list, value: i + round }));
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
        last = list;
    }
    sum
}

fn wide() -> u64 {
    let (places, operations) = work::WIDE;
    let array = Gc::new(RefCell::new((0..places).map(|i| Gc::new(i as u64)).collect::<Vec<_>>()));
    let (mut sum, mut rng) = (0, Rng::new());
    skip();
    for op in 0..operations {
        let new = Gc::new(op);
        sum += *std::mem::replace(&mut array.borrow_mut()[rng.below(places)], new);
        if op % BATCH == 0 {
            tick();
        }
    }
    sum
}

fn strings() -> u64 {
    let (live, operations) = work::STRINGS;
    let slots = Gc::new(RefCell::new(
        (0..live).map(|i| Gc::new(i.to_string().into_boxed_str())).collect::<Vec<Gc<Box<str>>>>(),
    ));
    let (mut sum, mut rng, mut text) = (0, Rng::new(), String::new());
    skip();
    for op in 0..operations {
        {
            let slots = slots.borrow();
            let (a, b) = (&slots[rng.below(live)], &slots[rng.below(live)]);
            text.clear();
            text.push_str(&a[..a.len().min(32)]);
            text.push_str(&b[..b.len().min(32)]);
        }
        sum += (text.len() + text.as_bytes()[0] as usize) as u64;
        let new = Gc::new(text.as_str().into());
        slots.borrow_mut()[rng.below(live)] = new;
        if op % BATCH == 0 {
            tick();
        }
    }
    sum
}
