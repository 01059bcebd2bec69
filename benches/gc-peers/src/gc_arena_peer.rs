//! The programs on gc-arena, with its default pacing and a safepoint (`collect_debt`) wherever this package's heap has
//! one.

use crate::watch::{skip, tick};
use crate::work::{self, BATCH, Rng, TICK_DEPTH, Trees};
use gc_arena::lock::{Lock, RefLock};
use gc_arena::{Arena, Collect, Gc, Mutation, Rootable};

pub fn run(program: &str) -> Option<u64> {
    match program {
        "lru" => Some(lru()),
        "vecs" => Some(vecs()),
        "lists" => Some(lists()),
        "wide" => Some(wide()),
        "strings" => Some(strings()),
        _ => work::trees(program, &mut Peer(Arena::new(|mc| Gc::new(mc, Lock::new(None))))),
    }
}

#[derive(Collect)]
#[collect(no_drop)]
struct Tree<'gc> {
    left: Option<Gc<'gc, Tree<'gc>>>,
    right: Option<Gc<'gc, Tree<'gc>>>,
}

fn build<'gc>(mc: &Mutation<'gc>, depth: u32) -> Gc<'gc, Tree<'gc>> {
    if depth <= TICK_DEPTH {
        return small(mc, depth);
    }
    tick();
    let child = || Some(build(mc, depth - 1));
    Gc::new(mc, Tree { left: child(), right: child() })
}

fn small<'gc>(mc: &Mutation<'gc>, depth: u32) -> Gc<'gc, Tree<'gc>> {
    let child = || (depth > 0).then(|| small(mc, depth - 1));
    Gc::new(mc, Tree { left: child(), right: child() })
}

fn count(tree: Gc<'_, Tree<'_>>, depth: u32) -> u64 {
    if depth <= TICK_DEPTH {
        return count_small(tree);
    }
    tick();
    let child = |t: Gc<'_, Tree<'_>>| count(t, depth - 1);
    1 + tree.left.map_or(0, child) + tree.right.map_or(0, child)
}

fn count_small(tree: Gc<'_, Tree<'_>>) -> u64 {
    1 + tree.left.map_or(0, count_small) + tree.right.map_or(0, count_small)
}

type Kept<'gc> = Gc<'gc, Lock<Option<Gc<'gc, Tree<'gc>>>>>;
struct Peer(Arena<Rootable![Kept<'_>]>);

impl Trees for Peer {
    fn temporary(&mut self, depth: u32) -> u64 {
        self.0.mutate(|mc, _| count(build(mc, depth), depth))
    }
    fn keep(&mut self, depth: u32) {
        self.0.mutate(|mc, root| root.set(mc, Some(build(mc, depth))));
    }
    fn count_kept(&mut self, depth: u32) -> u64 {
        self.0.mutate(|_, root| root.get().map_or(0, |t| count(t, depth)))
    }
    fn safepoint(&mut self) {
        self.0.collect_debt();
    }
}

type Link<'gc> = Option<Gc<'gc, RefLock<Entry<'gc>>>>;

#[derive(Collect)]
#[collect(no_drop)]
struct Entry<'gc> {
    key: u64,
    value: Gc<'gc, u64>,
    chain: Link<'gc>,
    newer: Link<'gc>,
    older: Link<'gc>,
}

/// The buckets are objects of their own: a vector of them, which would be more natural, is visited whole again whenever
/// one of them was written to, and takes ten times as long.
#[derive(Collect)]
#[collect(no_drop)]
struct Lru<'gc> {
    table: Vec<Gc<'gc, Lock<Link<'gc>>>>,
    ends: Gc<'gc, RefLock<Ends<'gc>>>,
}

#[derive(Collect)]
#[collect(no_drop)]
struct Ends<'gc> {
    newest: Link<'gc>,
    oldest: Link<'gc>,
    len: u64,
}

impl<'gc> Lru<'gc> {
    fn unlink(&self, mc: &Mutation<'gc>, e: Gc<'gc, RefLock<Entry<'gc>>>) {
        let (newer, older) = (e.borrow().newer, e.borrow().older);
        match newer {
            Some(n) => n.borrow_mut(mc).older = older,
            None => self.ends.borrow_mut(mc).newest = older,
        }
        match older {
            Some(o) => o.borrow_mut(mc).newer = newer,
            None => self.ends.borrow_mut(mc).oldest = newer,
        }
    }

    fn link(&self, mc: &Mutation<'gc>, e: Gc<'gc, RefLock<Entry<'gc>>>) {
        let newest = self.ends.borrow().newest;
        {
            let mut entry = e.borrow_mut(mc);
            entry.newer = None;
            entry.older = newest;
        }
        match newest {
            Some(n) => n.borrow_mut(mc).newer = Some(e),
            None => self.ends.borrow_mut(mc).oldest = Some(e),
        }
        self.ends.borrow_mut(mc).newest = Some(e);
    }

    fn touch(&self, mc: &Mutation<'gc>, key: u64) -> bool {
        let head = self.table[key as usize % self.table.len()];
        let mut at = head.get();
        while let Some(e) = at {
            if e.borrow().key == key {
                self.unlink(mc, e);
                self.link(mc, e);
                e.borrow_mut(mc).value = Gc::new(mc, key);
                return true;
            }
            at = e.borrow().chain;
        }
        let value = Gc::new(mc, key);
        let e = Gc::new(mc, RefLock::new(Entry { key, value, chain: head.get(), newer: None, older: None }));
        head.set(mc, Some(e));
        self.link(mc, e);
        self.ends.borrow_mut(mc).len += 1;
        if self.ends.borrow().len > work::LRU.0 {
            self.evict(mc);
        }
        false
    }

    fn evict(&self, mc: &Mutation<'gc>) {
        let victim = self.ends.borrow().oldest.expect("not empty");
        self.unlink(mc, victim);
        let (key, chain) = (victim.borrow().key, victim.borrow().chain);
        let head = self.table[key as usize % self.table.len()];
        let mut before: Link<'gc> = None;
        let mut at = head.get();
        while let Some(e) = at {
            if Gc::ptr_eq(e, victim) {
                match before {
                    Some(b) => b.borrow_mut(mc).chain = chain,
                    None => head.set(mc, chain),
                }
                break;
            }
            before = at;
            at = e.borrow().chain;
        }
        self.ends.borrow_mut(mc).len -= 1;
    }
}

fn lru() -> u64 {
    let (entries, chains, operations) = work::LRU;
    let mut arena = Arena::<Rootable![Lru<'_>]>::new(|mc| Lru {
        table: (0..chains).map(|_| Gc::new(mc, Lock::new(None))).collect(),
        ends: Gc::new(mc, RefLock::new(Ends { newest: None, oldest: None, len: 0 })),
    });
    let (mut hits, mut rng) = (0, Rng::new());
    skip();
    for _ in 0..operations / BATCH {
        arena.mutate(|mc, lru| {
            for _ in 0..BATCH {
                hits += u64::from(lru.touch(mc, rng.next() % (entries * 3 / 2)));
            }
        });
        arena.collect_debt();
        tick();
    }
    hits
}

type Leaves<'gc> = Gc<'gc, RefLock<Vec<Gc<'gc, u64>>>>;

fn vecs() -> u64 {
    type Root<'gc> = Vec<Gc<'gc, Lock<Option<Leaves<'gc>>>>>;
    let (live, operations) = work::VECS;
    let mut arena = Arena::<Rootable![Root<'_>]>::new(|mc| (0..live).map(|_| Gc::new(mc, Lock::new(None))).collect());
    let (mut sum, mut rng) = (0, Rng::new());
    skip();
    for batch in 0..operations / BATCH {
        arena.mutate(|mc, slots| {
            for op in batch * BATCH..(batch + 1) * BATCH {
                let slot = slots[rng.below(live)];
                let leaves = Gc::new(mc, RefLock::new(Vec::new()));
                for i in 0..1 + rng.next() % 8 {
                    leaves.borrow_mut(mc).push(Gc::new(mc, op + i));
                }
                sum += slot.get().map_or(0, |old| old.borrow().iter().map(|leaf| **leaf).sum());
                slot.set(mc, Some(leaves));
            }
        });
        arena.collect_debt();
        tick();
    }
    sum
}

#[derive(Collect)]
#[collect(no_drop)]
struct Node<'gc> {
    next: Option<Gc<'gc, Node<'gc>>>,
    value: u64,
}

fn lists() -> u64 {
    type Root<'gc> = Gc<'gc, Lock<[Option<Gc<'gc, Node<'gc>>>; 2]>>;
    let (nodes, lists) = work::LISTS;
    let mut arena = Arena::<Rootable![Root<'_>]>::new(|mc| Gc::new(mc, Lock::new([None; 2])));
    let mut sum = 0;
    for round in 0..lists {
        for from in (0..nodes).step_by(BATCH as usize) {
            arena.mutate(|mc, root| {
                let [mut list, last] = root.get();
                for i in from..from + BATCH {
                    list = Some(Gc::new(mc, Node { next: list, value: i + round }));
                }
                root.set(mc, [list, last]);
            });
            arena.collect_debt();
            tick();
        }
        arena.mutate(|mc, root| {
            for list in root.get() {
                let mut at = list;
                while let Some(node) = at {
                    sum += node.value;
                    if node.value % 256 == 0 {
                        tick();
                    }
                    at = node.next;
                }
            }
            root.set(mc, [None, root.get()[0]]);
        });
    }
    sum
}

/// Here too the places are objects of their own.
fn wide() -> u64 {
    type Root<'gc> = Vec<Gc<'gc, Lock<Gc<'gc, u64>>>>;
    let (places, operations) = work::WIDE;
    let mut arena = Arena::<Rootable![Root<'_>]>::new(|mc| {
        (0..places).map(|i| Gc::new(mc, Lock::new(Gc::new(mc, i as u64)))).collect()
    });
    let (mut sum, mut rng) = (0, Rng::new());
    skip();
    for batch in 0..operations / BATCH {
        arena.mutate(|mc, array| {
            for op in batch * BATCH..(batch + 1) * BATCH {
                let place = array[rng.below(places)];
                sum += *place.get();
                place.set(mc, Gc::new(mc, op));
            }
        });
        arena.collect_debt();
        tick();
    }
    sum
}

fn strings() -> u64 {
    type Root<'gc> = Vec<Gc<'gc, Lock<Gc<'gc, Box<str>>>>>;
    let (live, operations) = work::STRINGS;
    let mut arena = Arena::<Rootable![Root<'_>]>::new(|mc| {
        (0..live).map(|i| Gc::new(mc, Lock::new(Gc::new(mc, i.to_string().into())))).collect()
    });
    let (mut sum, mut rng, mut text) = (0, Rng::new(), String::new());
    skip();
    for _ in 0..operations / BATCH {
        arena.mutate(|mc, slots| {
            for _ in 0..BATCH {
                let (a, b) = (slots[rng.below(live)].get(), slots[rng.below(live)].get());
                text.clear();
                text.push_str(&a[..a.len().min(32)]);
                text.push_str(&b[..b.len().min(32)]);
                sum += (text.len() + text.as_bytes()[0] as usize) as u64;
                slots[rng.below(live)].set(mc, Gc::new(mc, text.as_str().into()));
            }
        });
        arena.collect_debt();
        tick();
    }
    sum
}
