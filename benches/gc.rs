//! The heap against the limits of what is possible: `Box` and a bump allocator, on programs that are known from other
//! collectors' benchmarks.
//!
//! Each program computes an answer that is checked. Every contender runs in the same process in turn, five times; what
//! is printed is the median, and ratios to the heap's default mode. The other collectors are in `benches/gc-peers`, a
//! package of its own.
//!
//! `cargo bench --bench gc [-- FILTER]`

use exectrace::gc::{Arena, Config, Gc, GcCell, GcRefCell, GcVec, Mode, Mutation, Rootable};
use std::time::{Duration, Instant};

struct Tree<'gc> {
    left: Option<Gc<'gc, Tree<'gc>>>,
    right: Option<Gc<'gc, Tree<'gc>>>,
}
exectrace::collect_fields!(impl['gc] struct Tree<'gc> { left, right });

fn build<'gc>(mc: &Mutation<'gc>, depth: u32) -> Gc<'gc, Tree<'gc>> {
    let child = || (depth > 0).then(|| build(mc, depth - 1));
    mc.alloc(Tree { left: child(), right: child() })
}

fn count(tree: Gc<'_, Tree<'_>>) -> u64 {
    1 + tree.left.map_or(0, count) + tree.right.map_or(0, count)
}

type TreeRoot = Rootable!['gc => GcCell<'gc, Option<Gc<'gc, Tree<'gc>>>>];

/// The Benchmarks Game's program: a long-lived tree, and many short-lived ones of all depths. The sum of all counts.
fn binary_trees(config: Config, depth: u32) -> (u64, u64) {
    let mut arena = Arena::<TreeRoot>::new(config, |_| GcCell::new(None));
    let mut sum = arena.mutate(|mc, _| count(build(mc, depth + 1)));
    arena.safepoint();
    arena.mutate(|mc, root| root.set(mc, Some(build(mc, depth))));
    for d in (4..=depth).step_by(2) {
        for _ in 0..1 << (depth - d + 4) {
            sum += arena.mutate(|mc, _| count(build(mc, d)));
            arena.safepoint();
        }
    }
    sum += arena.mutate(|_, root| count(root.get().unwrap()));
    let stats = arena.stats();
    (sum, stats.stw.ns_max.max(stats.assists.ns_max).max(stats.minors.ns_max))
}

struct BoxTree {
    left: Option<Box<BoxTree>>,
    right: Option<Box<BoxTree>>,
}

fn box_trees(depth: u32) -> (u64, u64) {
    fn build(depth: u32) -> Box<BoxTree> {
        let child = || (depth > 0).then(|| build(depth - 1));
        Box::new(BoxTree { left: child(), right: child() })
    }
    fn count(tree: &BoxTree) -> u64 {
        1 + tree.left.as_deref().map_or(0, count) + tree.right.as_deref().map_or(0, count)
    }
    let mut sum = count(&build(depth + 1));
    let long = build(depth);
    for d in (4..=depth).step_by(2) {
        for _ in 0..1 << (depth - d + 4) {
            sum += count(&build(d));
        }
    }
    (sum + count(&long), 0)
}

/// The node of the LRU cache: in a hash chain and in a doubly linked list, with a boxed value.
struct Entry<'gc> {
    key: u64,
    value: GcCell<'gc, Option<Gc<'gc, u64>>>,
    chain: GcCell<'gc, Option<Gc<'gc, Entry<'gc>>>>,
    newer: GcCell<'gc, Option<Gc<'gc, Entry<'gc>>>>,
    older: GcCell<'gc, Option<Gc<'gc, Entry<'gc>>>>,
}
exectrace::collect_fields!(impl['gc] struct Entry<'gc> { key, value, chain, newer, older });

type Link<'gc> = GcCell<'gc, Option<Gc<'gc, Entry<'gc>>>>;

const BUCKETS_PER_SEGMENT: usize = 512;
/// A part of the hash table: segments keep objects small enough to be marked in steps.
struct Segment<'gc>([Link<'gc>; BUCKETS_PER_SEGMENT]);
exectrace::collect_fields!(impl['gc] struct Segment<'gc>(links));

struct Lru<'gc> {
    table: GcRefCell<'gc, Vec<Gc<'gc, Segment<'gc>>>>,
    newest: Link<'gc>,
    oldest: Link<'gc>,
    len: GcCell<'gc, usize>,
}
exectrace::collect_fields!(impl['gc] struct Lru<'gc> { table, newest, oldest, len });

impl<'gc> Lru<'gc> {
    fn bucket(&self, key: u64) -> Gc<'gc, Segment<'gc>> {
        let table = self.table.borrow();
        table[(key as usize / BUCKETS_PER_SEGMENT) % table.len()]
    }

    fn unlink(&self, mc: &Mutation<'gc>, e: Gc<'gc, Entry<'gc>>) {
        let (newer, older) = (e.newer.get(), e.older.get());
        newer.map_or(&self.newest, |n| &Gc::as_ref(n).older).set(mc, older);
        older.map_or(&self.oldest, |o| &Gc::as_ref(o).newer).set(mc, newer);
    }

    fn link(&self, mc: &Mutation<'gc>, e: Gc<'gc, Entry<'gc>>) {
        e.newer.set(mc, None);
        e.older.set(mc, self.newest.get());
        match self.newest.get() {
            Some(n) => n.newer.set(mc, Some(e)),
            None => self.oldest.set(mc, Some(e)),
        }
        self.newest.set(mc, Some(e));
    }

    fn touch(&self, mc: &Mutation<'gc>, key: u64, capacity: usize) -> bool {
        let segment = self.bucket(key);
        let head = &segment.0[key as usize % BUCKETS_PER_SEGMENT];
        let mut at = head.get();
        while let Some(e) = at {
            if e.key == key {
                self.unlink(mc, e);
                self.link(mc, e);
                e.value.set(mc, Some(mc.alloc(key)));
                return true;
            }
            at = e.chain.get();
        }
        let e = mc.alloc(Entry {
            key,
            value: GcCell::new(Some(mc.alloc(key))),
            chain: GcCell::new(head.get()),
            newer: GcCell::new(None),
            older: GcCell::new(None),
        });
        head.set(mc, Some(e));
        self.link(mc, e);
        self.len.set(mc, self.len.get() + 1);
        if self.len.get() > capacity {
            let victim = self.oldest.get().unwrap();
            self.unlink(mc, victim);
            let segment = self.bucket(victim.key);
            let mut link = &Gc::as_ref(segment).0[victim.key as usize % BUCKETS_PER_SEGMENT];
            while let Some(e) = link.get() {
                if Gc::ptr_eq(e, victim) {
                    link.set(mc, e.chain.get());
                    break;
                }
                link = &Gc::as_ref(e).chain;
            }
            self.len.set(mc, self.len.get() - 1);
        }
        false
    }
}

/// An LRU cache of a million entries under random access: pointers are written all over an old heap. Hits, and the
/// longest batch of 64 operations.
fn lru(config: Config, entries: usize, operations: u64) -> (u64, u64) {
    type Root = Rootable!['gc => Lru<'gc>];
    let segments = (entries / BUCKETS_PER_SEGMENT).next_power_of_two();
    let mut arena = Arena::<Root>::new(config, |mc| Lru {
        table: GcRefCell::new(
            (0..segments).map(|_| mc.alloc(Segment(core::array::from_fn(|_| GcCell::new(None))))).collect(),
        ),
        newest: GcCell::new(None),
        oldest: GcCell::new(None),
        len: GcCell::new(0),
    });
    let (mut hits, mut x, mut longest) = (0, 88_172_645_463_325_252_u64, Duration::ZERO);
    for _ in 0..operations / 64 {
        let begin = Instant::now();
        arena.mutate(|mc, lru| {
            for _ in 0..64 {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                hits += u64::from(lru.touch(mc, (x >> 20) % (entries as u64 * 3 / 2), entries));
            }
        });
        arena.safepoint();
        longest = longest.max(begin.elapsed());
    }
    (hits, longest.as_nanos() as u64)
}

/// A name, and a run that returns its answer and its longest stop in nanoseconds.
type Contender<'a> = (&'a str, &'a dyn Fn() -> (u64, u64));

/// Runs all contenders in turn and prints medians. Their answers must agree.
fn race(filter: Option<&str>, name: &str, contenders: &[Contender]) {
    if filter.is_some_and(|f| !name.contains(f)) {
        return;
    }
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5);
    let mut times = vec![Vec::new(); contenders.len()];
    let mut pauses = vec![0; contenders.len()];
    let mut answer = None;
    for _ in 0..rounds {
        for (i, (_, run)) in contenders.iter().enumerate() {
            let begin = Instant::now();
            let (got, pause) = run();
            times[i].push(begin.elapsed());
            pauses[i] = pauses[i].max(pause);
            assert_eq!(*answer.get_or_insert(got), got, "{name}");
        }
    }
    for t in &mut times {
        t.sort();
    }
    let base = times[0][rounds / 2].as_secs_f64();
    for (i, (contender, _)) in contenders.iter().enumerate() {
        let (min, median, max) = (times[i][0], times[i][rounds / 2], times[i][rounds - 1]);
        println!(
            "{name:8} {contender:12} {:8.1} ms ({:.1}..{:.1})  {:5.2}x  longest stop {:7.3} ms",
            median.as_secs_f64() * 1e3,
            min.as_secs_f64() * 1e3,
            max.as_secs_f64() * 1e3,
            median.as_secs_f64() / base,
            pauses[i] as f64 / 1e6,
        );
    }
}

/// A node of a random graph.
struct Spot<'gc>([GcCell<'gc, Option<Gc<'gc, Spot<'gc>>>>; 4]);
exectrace::collect_fields!(impl['gc] struct Spot<'gc>(links));

/// How long a full mark of a heap takes, in ns for each object, with so many threads: the median of some. Of trees, which
/// lie in the order in which they were made, and of a graph whose nodes refer to others all over the heap.
fn full_marks(filter: Option<&str>, mib: usize) {
    type Forest<'gc> = GcVec<'gc, Gc<'gc, Tree<'gc>>>;
    type Graph<'gc> = GcVec<'gc, Gc<'gc, Spot<'gc>>>;
    for threads in [1, 2, 4] {
        let config = || Config::new().mode(Mode::StopTheWorld).mark_threads(threads);
        if filter.is_none_or(|f| "mark trees".contains(f)) {
            let mut arena = Arena::<Rootable!['gc => Forest<'gc>]>::new(config(), |_| GcVec::new());
            arena.mutate(|mc, forest| (0..mib).for_each(|_| forest.push(mc, build(mc, 15))));
            tell_marks("mark trees", threads, &mut arena, mib << 16);
        }
        if filter.is_none_or(|f| "mark graph".contains(f)) {
            let mut arena = Arena::<Rootable!['gc => Graph<'gc>]>::new(config(), |_| GcVec::new());
            let count = mib << 15;
            arena.mutate(|mc, graph| {
                let mut x = 88_172_645_463_325_252_u64;
                for _ in 0..count {
                    graph.push(mc, mc.alloc(Spot([const { GcCell::new(None) }; 4])));
                }
                for spot in graph.iter() {
                    for link in &Gc::as_ref(spot).0 {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        link.set(mc, graph.get((x >> 20) as usize % count));
                    }
                }
            });
            tell_marks("mark graph", threads, &mut arena, count);
        }
    }
}

fn tell_marks<R: for<'a> exectrace::gc::Rootable<'a> + ?Sized>(
    name: &str,
    threads: usize,
    arena: &mut Arena<R>,
    objects: usize,
) {
    arena.collect();
    let mut times: Vec<u64> = Vec::new();
    for _ in 0..9 {
        let before = arena.stats().stw.ns_sum;
        arena.collect();
        times.push(arena.stats().stw.ns_sum - before);
    }
    times.sort_unstable();
    let ns = |i: usize| times[i] as f64 / objects as f64;
    println!(
        "{name}  {threads} threads  {:8.1} ms ({:.1}..{:.1})  {:.2} ns/object ({:.2}..{:.2}), {} MiB",
        times[4] as f64 / 1e6,
        times[0] as f64 / 1e6,
        times[8] as f64 / 1e6,
        ns(4),
        ns(0),
        ns(8),
        arena.stats().bytes_live >> 20
    );
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let filter = filter.as_deref();
    let quick = std::env::args().any(|a| a == "--test");
    let stw = || Config::new().mode(Mode::StopTheWorld);
    let young = || Config::new().mode(Mode::Generational);
    for depth in if quick { vec![8] } else { vec![16, 18] } {
        race(
            filter,
            &format!("bt{depth}"),
            &[
                ("incremental", &|| binary_trees(Config::new(), depth)),
                ("stw", &|| binary_trees(stw(), depth)),
                ("generational", &|| binary_trees(young(), depth)),
                ("Box", &|| box_trees(depth)),
            ],
        );
    }
    let (entries, operations) = if quick { (1000, 64_000) } else { (1_000_000, 4_000_000) };
    race(
        filter,
        "lru",
        &[("incremental", &|| lru(Config::new(), entries, operations)), ("stw", &|| lru(stw(), entries, operations))],
    );
    full_marks(filter, if quick { 2 } else { 200 });
}
