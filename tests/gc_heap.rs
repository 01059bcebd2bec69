//! The heap as an embedder uses it: what stays, what goes, what is told, and what happens when things fail.

use exectrace::gc::{
    Arena, Config, CycleStats, Gc, GcCell, GcRefCell, Mode, Observer, Reason, Rootable, Static, StwKind,
};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

struct Node<'gc> {
    next: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>,
    value: u64,
}
exectrace::collect_fields!(impl['gc] struct Node<'gc> { next, value });

type List<'gc> = GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>;
type ListArena<O = exectrace::gc::DefaultObserver> = Arena<Rootable!['gc => List<'gc>], O>;

fn small() -> Config {
    Config::new().heap_bytes_min(256 << 10).poison(true)
}

fn list(config: Config) -> ListArena {
    Arena::new(config, |_| GcCell::new(None))
}

fn push<O: Observer>(arena: &mut ListArena<O>, value: u64) {
    arena.mutate(|mc, list| {
        let node = mc.alloc(Node { next: GcCell::new(list.get()), value });
        list.set(mc, Some(node));
    });
}

fn sum<O: Observer>(arena: &mut ListArena<O>) -> (usize, u64) {
    arena.mutate(|_, list| {
        let (mut n, mut sum, mut at) = (0, 0, list.get());
        while let Some(node) = at {
            (n, sum, at) = (n + 1, sum + node.value, node.next.get());
        }
        (n, sum)
    })
}

#[test]
fn what_is_reachable_stays_and_the_rest_goes() {
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        let mut arena = list(small().mode(mode));
        for i in 0..200_000 {
            push(&mut arena, i);
            if i % 1000 == 999 {
                arena.mutate(|mc, list| {
                    // Keep the 100 newest.
                    let last = (0..99).fold(list.get(), |at, _| at.and_then(|n| n.next.get()));
                    last.unwrap().next.set(mc, None);
                });
            }
            arena.safepoint();
        }
        arena.verify().unwrap();
        assert_eq!(sum(&mut arena).0, 100, "{mode:?}");
        let stats = arena.stats();
        assert!(stats.cycles + stats.minors.count >= 10 && stats.cycles_abandoned == 0, "{stats:?}");
        assert!(stats.bytes_live < 1 << 20, "{stats:?}");
        arena.mutate(|mc, list| list.set(mc, None));
        arena.collect();
        arena.verify().unwrap();
        // The root object is left.
        assert_eq!(arena.stats().bytes_live, 16);
    }
}

#[test]
fn ten_million_linked_objects_need_no_stack() {
    // In a build with checks a tenth of it: as deep for a recursion, and done in seconds.
    let n: u64 = if cfg!(miri) {
        3000
    } else if cfg!(debug_assertions) {
        1_000_000
    } else {
        10_000_000
    };
    let run = move || {
        let mut arena = list(Config::new());
        for i in 0..n / 1000 {
            arena.mutate(|mc, list| {
                for k in 0..1000 {
                    let node = mc.alloc(Node { next: GcCell::new(list.get()), value: i * 1000 + k });
                    list.set(mc, Some(node));
                }
            });
            arena.safepoint();
        }
        arena.collect();
        assert_eq!(sum(&mut arena), (n as usize, n * (n - 1) / 2));
        arena.mutate(|mc, list| list.set(mc, None));
        arena.collect();
        assert_eq!(arena.stats().bytes_live, 16);
    };
    // A stack on which recursion would not get far.
    std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
}

struct Noisy {
    drops: Rc<Cell<usize>>,
}
impl Drop for Noisy {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
    }
}
struct Owner<'gc> {
    noisy: Static<Noisy>,
    next: GcCell<'gc, Option<Gc<'gc, Owner<'gc>>>>,
    more: Vec<u8>,
}
exectrace::collect_fields!(impl['gc] struct Owner<'gc> { noisy, next, more });
type Owners = Rootable!['gc => GcCell<'gc, Option<Gc<'gc, Owner<'gc>>>>];

#[test]
fn each_value_is_dropped_once_and_only_when_dead() {
    for (mode, stress) in [
        (Mode::StopTheWorld, false),
        (Mode::Incremental, false),
        (Mode::Incremental, true),
        (Mode::Generational, false),
        (Mode::Generational, true),
    ] {
        let n = if stress || cfg!(miri) { 300 } else { 30_000 };
        let drops = Rc::new(Cell::new(0));
        let mut arena = Arena::<Owners>::new(small().mode(mode).stress(stress), |_| GcCell::new(None));
        for i in 0..n {
            arena.mutate(|mc, root| {
                let next = if i % 10 == 0 { None } else { root.get() };
                let noisy = Static(Noisy { drops: drops.clone() });
                let owner = mc.alloc(Owner { noisy, next: GcCell::new(next), more: vec![i as u8; 100] });
                root.set(mc, Some(owner));
            });
            arena.safepoint();
            arena.mutate(|_, root| {
                let mut at = root.get();
                let mut k: usize = i;
                while let Some(o) = at {
                    assert!(o.more.iter().all(|b| *b == k as u8));
                    k = k.wrapping_sub(1);
                    at = o.next.get();
                }
            });
        }
        arena.collect();
        arena.verify().unwrap();
        assert_eq!(drops.get(), n - 10, "{mode:?}");
        drop(arena);
        assert_eq!((drops.get(), Rc::strong_count(&drops)), (n, 1), "{mode:?}");
    }
}

#[test]
fn handles_keep_objects_and_outlive_the_heap() {
    type Number = Rootable!['gc => Node<'gc>];
    let mut arena = list(small());
    let handles: Vec<_> = (0..1000)
        .map(|value| {
            arena.mutate(|mc, _| {
                let inner = mc.alloc(Node { next: GcCell::new(None), value: value + 1 });
                mc.root::<Number>(mc.alloc(Node { next: GcCell::new(Some(inner)), value }))
            })
        })
        .collect();
    let mut kept: Vec<_> = handles.into_iter().step_by(2).collect();
    arena.collect();
    arena.verify().unwrap();
    assert_eq!(arena.stats().bytes_live, 16 + 1000 * 16);
    for (i, h) in kept.iter().enumerate() {
        arena.mutate(|mc, _| assert_eq!(h.get(mc).next.get().unwrap().value, 2 * i as u64 + 1));
    }
    kept.truncate(1);
    arena.collect();
    assert_eq!(arena.stats().bytes_live, 16 + 2 * 16);
    // Slots are used again.
    let other = arena.mutate(|mc, _| mc.root::<Number>(mc.alloc(Node { next: GcCell::new(None), value: 7 })));
    arena.mutate(|mc, _| assert_eq!((kept[0].get(mc).value, other.get(mc).value), (0, 7)));
    let mut second = list(small());
    second.mutate(|mc, _| assert!(kept[0].try_get(mc).is_none()));
    drop(arena);
    drop(kept);
    second.mutate(|mc, _| assert!(other.try_get(mc).is_none()));
}

#[test]
fn objects_of_all_sizes_and_alignments_keep_their_contents() {
    #[repr(align(128))]
    struct Aligned([u8; 130]);
    exectrace::collect_static!(Aligned);
    type Any = Rootable!['gc => GcRefCell<'gc, Vec<Item<'gc>>>];
    enum Item<'gc> {
        Tiny(Gc<'gc, u8>),
        Unit(Gc<'gc, ()>),
        Odd(Gc<'gc, [u8; 37]>),
        Aligned(Gc<'gc, Aligned>),
        Page(Gc<'gc, [u64; 1000]>),
        Large(Gc<'gc, [u64; 5000]>),
        Larger(Gc<'gc, [[u64; 1000]; 20]>),
    }
    exectrace::collect_fields!(impl['gc] enum Item<'gc> {
        Tiny(a), Unit(a), Odd(a), Aligned(a), Page(a), Large(a), Larger(a)
    });
    let mut arena = Arena::<Any>::new(small(), |_| GcRefCell::new(Vec::new()));
    let rounds = if cfg!(miri) { 5 } else { 400 };
    for i in 0..rounds {
        arena.mutate(|mc, root| {
            let mut items = root.borrow_mut(mc);
            items.push(Item::Tiny(mc.alloc(i as u8)));
            items.push(Item::Unit(mc.alloc(())));
            items.push(Item::Odd(mc.alloc([i as u8; 37])));
            items.push(Item::Aligned(mc.alloc(Aligned([i as u8; 130]))));
            items.push(Item::Page(mc.alloc([i as u64; 1000])));
            items.push(Item::Large(mc.alloc([i as u64; 5000])));
            items.push(Item::Larger(mc.alloc([[i as u64; 1000]; 20])));
            // Half of what is older goes, at changing places.
            if items.len() > 100 {
                let mut k = 0;
                items.retain(|_| {
                    k += 1;
                    k % 2 == i % 2
                });
            }
        });
        arena.safepoint();
    }
    arena.verify().unwrap();
    arena.collect();
    arena.verify().unwrap();
    let live = arena.mutate(|_, root| {
        root.borrow()
            .iter()
            .map(|item| match item {
                Item::Tiny(_) | Item::Unit(_) => 16,
                Item::Odd(x) => {
                    assert!(x.iter().all(|b| *b == x[0]));
                    40
                }
                Item::Aligned(x) => {
                    assert!(Gc::as_ptr(*x).addr().is_multiple_of(128) && x.0.iter().all(|b| *b == x.0[0]));
                    256
                }
                Item::Page(x) => {
                    assert!(x.iter().all(|b| *b == x[0]));
                    8000
                }
                Item::Large(x) => {
                    assert!(x.iter().all(|b| *b == x[0]));
                    40_000
                }
                Item::Larger(x) => {
                    assert!(x.iter().flatten().all(|b| *b == x[0][0]));
                    160_000
                }
            })
            .sum::<usize>()
    });
    let root_bytes = size_of::<GcRefCell<Vec<Item>>>();
    assert_eq!(arena.stats().bytes_live, live + root_bytes);
    let mut counted = 0;
    arena.for_each_type(|t| counted += t.bytes_marked);
    assert_eq!(counted, live + root_bytes);
}

#[test]
fn an_object_too_large_for_a_chunk_has_one_of_its_own() {
    type Huge = Rootable!['gc => GcCell<'gc, Option<Gc<'gc, HugeArray>>>];
    struct HugeArray([u64; 1 << 20]);
    exectrace::collect_static!(HugeArray);
    // 8 MiB, so the value must not be on a test thread's stack of 2 MiB.
    let run = || {
        let mut arena = Arena::<Huge>::new(small(), |_| GcCell::new(None));
        for i in 0..6_u64 {
            arena.mutate(|mc, root| root.set(mc, Some(mc.alloc(HugeArray([i; 1 << 20])))));
            arena.safepoint();
            arena.verify().unwrap();
        }
        arena.mutate(|_, root| assert!(root.get().unwrap().0.iter().all(|x| *x == 5)));
        arena.collect();
        assert!(arena.stats().bytes_mapped < 2 * (9 << 20), "{:?}", arena.stats());
    };
    std::thread::Builder::new().stack_size(128 << 20).spawn(run).unwrap().join().unwrap();
}

#[derive(Default)]
struct Recorder {
    open: RefCell<Vec<&'static str>>,
    seen: RefCell<Vec<&'static str>>,
    reasons: RefCell<Vec<Reason>>,
    cycles: RefCell<Vec<CycleStats>>,
    live: Cell<usize>,
    goal: Cell<usize>,
    reclaimed: Cell<usize>,
}

impl Recorder {
    fn begin(&self, what: &'static str) {
        self.open.borrow_mut().push(what);
        self.seen.borrow_mut().push(what);
    }
    fn end(&self, what: &'static str) {
        assert_eq!(self.open.borrow_mut().pop(), Some(what));
    }
    fn count(&self, what: &'static str) -> usize {
        self.seen.borrow().iter().filter(|x| **x == what).count()
    }
}

impl Observer for Recorder {
    fn cycle_begin(&self, reason: Reason) {
        // A cycle spans calls of `mutate`, so that it is not in a bracket with what comes in between.
        assert!(self.open.borrow().is_empty());
        self.seen.borrow_mut().push("cycle");
        self.reasons.borrow_mut().push(reason);
    }
    fn cycle_end(&self, stats: &CycleStats) {
        assert!(self.open.borrow().is_empty());
        self.cycles.borrow_mut().push(*stats);
        assert_eq!(self.reasons.borrow().len(), self.cycles.borrow().len());
    }
    fn stw_begin(&self, kind: StwKind) {
        self.begin(if kind == StwKind::SweepTermination { "sweep termination" } else { "mark termination" });
    }
    fn stw_end(&self, kind: StwKind) {
        self.end(if kind == StwKind::SweepTermination { "sweep termination" } else { "mark termination" });
    }
    fn assist_begin(&self) {
        self.begin("assist");
    }
    fn assist_end(&self) {
        self.end("assist");
    }
    fn sweep_begin(&self) {
        self.begin("sweep");
    }
    fn sweep_end(&self, swept: usize, reclaimed: usize) {
        assert!(reclaimed <= swept);
        self.reclaimed.set(self.reclaimed.get() + reclaimed);
        self.end("sweep");
    }
    fn live(&self, bytes: usize) {
        self.live.set(bytes);
    }
    fn goal(&self, bytes: usize) {
        self.goal.set(bytes);
    }
}

fn recorded(config: Config) -> ListArena<Recorder> {
    Arena::try_with_observer(config, Recorder::default(), |_| GcCell::new(None)).unwrap()
}

#[test]
fn the_observer_is_told_of_whole_cycles() {
    for mode in [Mode::StopTheWorld, Mode::Incremental] {
        let mut arena = recorded(Config::new().mode(mode).heap_bytes_min(1 << 20));
        for i in 0..300_000 {
            push(&mut arena, i);
            if i % 100_000 == 99_999 {
                arena.mutate(|mc, list| list.set(mc, None));
            }
            arena.safepoint();
        }
        arena.collect();
        let (r, stats) = (arena.observer(), arena.stats());
        assert!(r.open.borrow().is_empty());
        assert_eq!(r.count("cycle") as u64, stats.cycles);
        assert_eq!(r.count("sweep termination"), r.count("cycle"));
        assert_eq!(r.count("mark termination"), r.count("cycle"));
        // Whether a cycle in steps needs assists hangs on how fast the machine marks just then.
        assert!(r.count("assist") == 0 || mode == Mode::Incremental, "{stats:?}");
        assert_eq!(r.count("assist") as u64, stats.assists.count);
        assert!(r.reclaimed.get() > 1 << 20);
        assert_eq!((r.live.get(), r.goal.get()), (stats.bytes_live, stats.bytes_goal));
        let cycles = r.cycles.borrow();
        assert_eq!(cycles.last().unwrap().reason, Reason::Explicit);
        assert_eq!(cycles[0].reason, Reason::HeapGoal);
        for (i, c) in cycles.iter().enumerate() {
            assert_eq!(c.number, i as u64 + 1);
            assert!(!c.abandoned && c.bytes_marked <= c.bytes_live && c.bytes_live <= c.bytes_goal, "{c:?}");
            assert!(c.stw_ns + c.assist_ns <= c.total_ns, "{c:?}");
        }
    }
}

#[test]
fn marking_goes_on_and_ends_inside_of_one_long_mutation() {
    let mut arena = recorded(Config::new().heap_bytes_min(1 << 20));
    for i in 0..200_000 {
        push(&mut arena, i);
    }
    // Two cycles at the least: the first of a heap of unknown speed, and one that is known to mark in steps.
    while !arena.stats().is_marking {
        push(&mut arena, 1);
        arena.safepoint();
    }
    let before = arena.stats().cycles;
    arena.mutate(|mc, list| {
        let held = list.get().unwrap();
        let (value, next) = (held.value, held.next.get().unwrap());
        // Unlink what is held: only the snapshot keeps it.
        list.set(mc, None);
        while mc.stats().is_marking {
            let garbage = mc.alloc(Node { next: GcCell::new(list.get()), value: 3 });
            list.set(mc, Some(garbage));
        }
        assert_eq!((held.value, held.next.get().unwrap().value), (value, next.value));
        for _ in 0..100_000 {
            mc.alloc(Node { next: GcCell::new(None), value: 0xBAD });
        }
        assert_eq!((held.value, held.next.get().unwrap().value), (value, next.value));
    });
    assert_eq!(arena.stats().cycles, before + 1);
    arena.verify().unwrap();
}

#[test]
fn no_memory_is_an_error_at_every_point_and_the_heap_goes_on() {
    let chunk = 4 << 20;
    for (mode, chunks) in [
        (Mode::StopTheWorld, 0),
        (Mode::StopTheWorld, 1),
        (Mode::Incremental, 1),
        (Mode::Incremental, 3),
        (Mode::Generational, 2),
    ] {
        let config = small().mode(mode).heap_bytes_max(chunks * chunk);
        let made = ListArena::try_with_observer(config, (), |_| GcCell::new(None));
        if chunks == 0 {
            assert!(made.is_err());
            continue;
        }
        let mut arena = made.unwrap();
        let mut errors = 0;
        for i in 0.. {
            let full = arena.mutate(|mc, list| match mc.try_alloc(Node { next: GcCell::new(list.get()), value: i }) {
                Ok(node) => {
                    list.set(mc, Some(node));
                    false
                }
                Err(_) => true,
            });
            if full {
                errors += 1;
                arena.verify().unwrap();
                assert!(arena.mutate(|mc, _| mc.try_alloc([0_u64; 20_000]).is_err()));
                if errors % 2 == 0 {
                    arena.mutate(|mc, list| list.set(mc, None));
                }
                arena.collect();
                arena.verify().unwrap();
                if errors == 8 {
                    break;
                }
            }
            arena.safepoint();
        }
        assert!(arena.stats().bytes_mapped <= chunks * chunk);
    }
}

struct Bomb<'gc> {
    armed: Rc<Cell<u32>>,
    list: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>,
}
// SAFETY: shows its reference, or panics.
unsafe impl exectrace::gc::Collect for Bomb<'_> {
    fn visit<V: exectrace::gc::Visitor>(&self, visitor: &mut V) {
        if self.armed.get() > 0 {
            self.armed.set(self.armed.get() - 1);
            panic!("a bomb");
        }
        self.list.visit(visitor);
    }
}

#[test]
fn a_panic_in_visit_abandons_the_cycle_and_loses_nothing() {
    type Bombs = Rootable!['gc => Bomb<'gc>];
    let armed = Rc::new(Cell::new(0));
    let a = armed.clone();
    let mut arena: Arena<Bombs, Recorder> =
        Arena::try_with_observer(small(), Recorder::default(), move |_| Bomb { armed: a, list: GcCell::new(None) })
            .unwrap();
    for round in 0..20_u64 {
        arena.mutate(|mc, bomb| {
            for i in 0..1000 {
                let node = mc.alloc(Node { next: GcCell::new(bomb.list.get()), value: round * 1000 + i });
                bomb.list.set(mc, Some(node));
            }
        });
        armed.set((round % 3) as u32);
        let mut panics = 0;
        while catch_unwind(AssertUnwindSafe(|| arena.collect())).is_err() {
            panics += 1;
            arena.mutate(|mc, _| {
                for _ in 0..5000 {
                    mc.alloc(Node { next: GcCell::new(None), value: 0xBAD });
                }
            });
        }
        assert_eq!(panics, round % 3);
        arena.verify().unwrap();
        arena.mutate(|_, bomb| {
            let mut expected = (round + 1) * 1000;
            let mut at = bomb.list.get();
            while let Some(n) = at {
                expected -= 1;
                assert_eq!(n.value, expected);
                at = n.next.get();
            }
            assert_eq!(expected, 0);
        });
    }
    let (r, stats) = (arena.observer(), arena.stats());
    assert_eq!(stats.cycles_abandoned, (0..20).map(|r| r % 3).sum::<u64>());
    assert_eq!(r.cycles.borrow().iter().filter(|c| c.abandoned).count() as u64, stats.cycles_abandoned);
    assert!(r.open.borrow().is_empty());
}

struct DropBomb(Rc<Cell<u32>>, Rc<Cell<u32>>);
impl Drop for DropBomb {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        if self.0.get() > 0 {
            self.0.set(self.0.get() - 1);
            panic!("a bomb");
        }
    }
}

#[test]
fn a_panic_in_drop_loses_no_other_drop() {
    type Bombs = Rootable!['gc => GcRefCell<'gc, Vec<Gc<'gc, Static<DropBomb>>>>];
    let (armed, dropped) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut arena: Arena<Bombs, Recorder> =
        Arena::try_with_observer(small(), Recorder::default(), |_| GcRefCell::new(Vec::new())).unwrap();
    arena.mutate(|mc, root| {
        for _ in 0..5000 {
            let bomb = mc.alloc(Static(DropBomb(armed.clone(), dropped.clone())));
            root.borrow_mut(mc).push(bomb);
        }
    });
    arena.mutate(|mc, root| root.borrow_mut(mc).truncate(1000));
    armed.set(7);
    let mut panics = 0;
    while catch_unwind(AssertUnwindSafe(|| arena.collect())).is_err() {
        panics += 1;
        arena.verify().unwrap();
        assert!(arena.observer().open.borrow().is_empty());
    }
    assert_eq!((panics, dropped.get()), (7, 4000));
    drop(arena);
    assert_eq!(dropped.get(), 5000);
}

#[test]
fn external_memory_and_limits_drive_cycles() {
    let mut arena = recorded(Config::new());
    arena.mutate(|mc, _| mc.adjust_external(3 << 20));
    arena.safepoint();
    assert_eq!(arena.stats().cycles, 1);
    assert_eq!(arena.stats().bytes_goal, 2 * ((3 << 20) + 16));
    arena.mutate(|mc, _| mc.adjust_external(-(3 << 20)));
    arena.set_gc_percent(None);
    arena.set_memory_limit_bytes(32 << 20);
    for _ in 0..1_000_000 {
        arena.mutate(|mc, _| assert_eq!(mc.alloc([9_u64; 16])[15], 9));
        arena.safepoint();
    }
    let stats = arena.stats();
    assert!(stats.cycles > 2 && stats.bytes_mapped <= 32 << 20, "{stats:?}");
    assert!(arena.observer().reasons.borrow().contains(&Reason::MemoryLimit));
}

#[test]
fn more_types_than_cursors_share_them() {
    struct T<const N: usize>(#[allow(dead_code)] u64);
    // SAFETY: holds nothing.
    unsafe impl<const N: usize> exectrace::gc::Collect for T<N> {
        const NEEDS_VISIT: bool = false;
        fn visit<V: exectrace::gc::Visitor>(&self, _: &mut V) {}
    }
    macro_rules! alloc_types {
        ($mc:ident, $v:expr, $($h:literal)*) => {$(alloc_types!(@ $mc, $v, $h, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);)*};
        (@ $mc:ident, $v:expr, $h:literal, $($l:literal)*) => {$(assert_eq!($mc.alloc(T::<{ $h * 32 + $l }>($v)).0, $v);)*};
    }
    let mut arena = list(small());
    for round in 0..if cfg!(miri) { 2 } else { 50 } {
        arena.mutate(|mc, _| {
            alloc_types!(mc, round, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        });
        arena.verify().unwrap();
        arena.safepoint();
    }
    // 512 types with a block each, and hardly more.
    assert!(arena.stats().bytes_mapped <= 7 * (4 << 20), "{:?}", arena.stats());
}
