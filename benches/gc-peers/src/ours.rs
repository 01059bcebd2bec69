//! The programs on this package's heap, with its safe interface alone.

use crate::watch::{skip, tick};
use crate::work::{self, BATCH, Rng, TICK_DEPTH, Trees};
use exectrace::gc::{Arena, Collect, Config, Gc, GcArray, GcCell, GcString, GcVec, Mutation, Rootable};

pub fn run(program: &str, config: Config) -> Option<u64> {
    match program {
        "lru" => Some(lru(config)),
        "vecs" => Some(vecs(config)),
        "lists" => Some(lists(config)),
        "wide" => Some(wide(config)),
        "strings" => Some(strings(config)),
        _ => work::trees(program, &mut Ours(Arena::new(config, |_| GcCell::new(None)))),
    }
}

#[derive(Collect)]
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
    mc.alloc(Tree { left: child(), right: child() })
}

fn small<'gc>(mc: &Mutation<'gc>, depth: u32) -> Gc<'gc, Tree<'gc>> {
    let child = || (depth > 0).then(|| small(mc, depth - 1));
    mc.alloc(Tree { left: child(), right: child() })
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

struct Ours(Arena<Rootable!['gc => GcCell<'gc, Option<Gc<'gc, Tree<'gc>>>>]>);

impl Trees for Ours {
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
        self.0.safepoint();
    }
}

type Link<'gc> = GcCell<'gc, Option<Gc<'gc, Entry<'gc>>>>;

#[derive(Collect)]
struct Entry<'gc> {
    key: u64,
    value: GcCell<'gc, Gc<'gc, u64>>,
    chain: Link<'gc>,
    newer: Link<'gc>,
    older: Link<'gc>,
}

#[derive(Collect)]
struct Lru<'gc> {
    table: GcArray<'gc, Link<'gc>>,
    newest: Link<'gc>,
    oldest: Link<'gc>,
    len: GcCell<'gc, u64>,
}

impl<'gc> Lru<'gc> {
    fn unlink(&self, mc: &Mutation<'gc>, e: Gc<'gc, Entry<'gc>>) {
        let (newer, older) = (e.newer.get(), e.older.get());
        newer.map_or(&self.newest, |n| &Gc::as_ref(n).older).set(mc, older);
        older.map_or(&self.oldest, |o| &Gc::as_ref(o).newer).set(mc, newer);
    }

    fn link(&self, mc: &Mutation<'gc>, e: Gc<'gc, Entry<'gc>>) {
        e.newer.set(mc, None);
        e.older.set(mc, self.newest.get());
        self.newest.get().map_or(&self.oldest, |n| &Gc::as_ref(n).newer).set(mc, Some(e));
        self.newest.set(mc, Some(e));
    }

    fn bucket(&self, key: u64) -> &'gc Link<'gc> {
        &GcArray::as_slice(self.table)[key as usize % self.table.len()]
    }

    fn touch(&self, mc: &Mutation<'gc>, key: u64) -> bool {
        let head = self.bucket(key);
        let mut at = head.get();
        while let Some(e) = at {
            if e.key == key {
                self.unlink(mc, e);
                self.link(mc, e);
                e.value.set(mc, mc.alloc(key));
                return true;
            }
            at = e.chain.get();
        }
        let none = || GcCell::new(None);
        let value = GcCell::new(mc.alloc(key));
        let e = mc.alloc(Entry { key, value, chain: GcCell::new(head.get()), newer: none(), older: none() });
        head.set(mc, Some(e));
        self.link(mc, e);
        self.len.set(mc, self.len.get() + 1);
        if self.len.get() > work::LRU.0 {
            self.evict(mc);
        }
        false
    }

    fn evict(&self, mc: &Mutation<'gc>) {
        let victim = self.oldest.get().expect("not empty");
        self.unlink(mc, victim);
        let mut link = self.bucket(victim.key);
        while let Some(e) = link.get() {
            if Gc::ptr_eq(e, victim) {
                link.set(mc, e.chain.get());
                break;
            }
            link = &Gc::as_ref(e).chain;
        }
        self.len.set(mc, self.len.get() - 1);
    }
}

fn lru(config: Config) -> u64 {
    let (entries, chains, operations) = work::LRU;
    let mut arena = Arena::<Rootable!['gc => Lru<'gc>]>::new(config, |mc| Lru {
        table: mc.alloc_array(chains, |_| GcCell::new(None)),
        newest: GcCell::new(None),
        oldest: GcCell::new(None),
        len: GcCell::new(0),
    });
    let (mut hits, mut rng) = (0, Rng::new());
    skip();
    for _ in 0..operations / BATCH {
        arena.mutate(|mc, lru| {
            for _ in 0..BATCH {
                hits += u64::from(lru.touch(mc, rng.next() % (entries * 3 / 2)));
            }
        });
        arena.safepoint();
        tick();
    }
    hits
}

type Leaves<'gc> = GcVec<'gc, Gc<'gc, u64>>;

fn vecs(config: Config) -> u64 {
    type Root = Rootable!['gc => GcArray<'gc, GcCell<'gc, Option<Gc<'gc, Leaves<'gc>>>>>];
    let (live, operations) = work::VECS;
    let mut arena = Arena::<Root>::new(config, |mc| mc.alloc_array(live, |_| GcCell::new(None)));
    let (mut sum, mut rng) = (0, Rng::new());
    skip();
    for batch in 0..operations / BATCH {
        arena.mutate(|mc, slots| {
            for op in batch * BATCH..(batch + 1) * BATCH {
                let slot = &slots[rng.below(live)];
                let leaves = mc.alloc(GcVec::new());
                for i in 0..1 + rng.next() % 8 {
                    leaves.push(mc, mc.alloc(op + i));
                }
                sum += slot.replace(mc, Some(leaves)).map_or(0, |old| old.iter().map(|leaf| *leaf).sum());
            }
        });
        arena.safepoint();
        tick();
    }
    sum
}

#[derive(Collect)]
struct Node<'gc> {
    next: Option<Gc<'gc, Node<'gc>>>,
    value: u64,
}

fn lists(config: Config) -> u64 {
    type Root = Rootable!['gc => GcCell<'gc, [Option<Gc<'gc, Node<'gc>>>; 2]>];
    let (nodes, lists) = work::LISTS;
    let mut arena = Arena::<Root>::new(config, |_| GcCell::new([None; 2]));
    let mut sum = 0;
    for round in 0..lists {
        for from in (0..nodes).step_by(BATCH as usize) {
            arena.mutate(|mc, root| {
                let [mut list, last] = root.get();
                for i in from..from + BATCH {
                    list = Some(mc.alloc(Node { next: list, value: i + round }));
                }
                root.set(mc, [list, last]);
            });
            arena.safepoint();
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

fn wide(config: Config) -> u64 {
    type Root = Rootable!['gc => GcArray<'gc, GcCell<'gc, Gc<'gc, u64>>>];
    let (places, operations) = work::WIDE;
    let mut arena = Arena::<Root>::new(config, |mc| mc.alloc_array(places, |i| GcCell::new(mc.alloc(i as u64))));
    let (mut sum, mut rng) = (0, Rng::new());
    skip();
    for batch in 0..operations / BATCH {
        arena.mutate(|mc, array| {
            for op in batch * BATCH..(batch + 1) * BATCH {
                sum += *array[rng.below(places)].replace(mc, mc.alloc(op));
            }
        });
        arena.safepoint();
        tick();
    }
    sum
}

fn strings(config: Config) -> u64 {
    type Root = Rootable!['gc => GcArray<'gc, GcCell<'gc, GcString<'gc>>>];
    let (live, operations) = work::STRINGS;
    let mut arena =
        Arena::<Root>::new(config, |mc| mc.alloc_array(live, |i| GcCell::new(mc.alloc_str(&i.to_string()))));
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
                slots[rng.below(live)].set(mc, mc.alloc_str(&text));
            }
        });
        arena.safepoint();
        tick();
    }
    sum
}
