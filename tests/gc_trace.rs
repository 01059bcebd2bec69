//! A GC heap in a trace, beside a native heap: what the goal means there, and how collections of the young objects show.

mod guest;

use exectrace::gc::{Arena, Config, Gc, GcCell, Mode, Rootable};
use exectrace::read::{EventKind, Metric, RangeKind, Reader};
use guest::{Memory, turn};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

fn traced(f: impl FnOnce()) -> Vec<u8> {
    let _turn = turn();
    let sink = Memory::new();
    exectrace::start(sink.clone()).unwrap();
    f();
    exectrace::stop().unwrap();
    sink.bytes()
}

/// An object that owns native memory, and says so.
struct Owner<'gc> {
    next: Option<Gc<'gc, Owner<'gc>>>,
    data: Vec<u8>,
}
exectrace::collect_fields!(impl['gc] struct Owner<'gc> { next, data });
type Owners = Rootable!['gc => GcCell<'gc, Option<Gc<'gc, Owner<'gc>>>>];

/// External memory is native memory, so the native heap has counted it already: the goal must not count it once more.
#[test]
fn the_goal_counts_external_memory_once() {
    const EACH: usize = 1 << 20;
    const N: usize = 64;
    let trace = traced(|| {
        let mut arena = Arena::<Owners>::new(Config::new().mode(Mode::StopTheWorld), |_| GcCell::new(None));
        for _ in 0..N {
            arena.mutate(|mc, list| {
                let data = vec![1; EACH];
                mc.adjust_external(EACH as isize);
                list.set(mc, Some(mc.alloc(Owner { next: list.get(), data })));
            });
        }
        arena.collect();
        let stats = arena.stats();
        assert_eq!(stats.bytes_external, N * EACH);
        // The pacer's own goal does contain it.
        assert!(stats.bytes_goal >= 2 * N * EACH, "{stats:?}");
        exectrace::log("test", "now");
        arena.mutate(|_, list| assert_eq!(list.get().unwrap().data[5], 1));
    });
    let mut reader = Reader::new(&*trace).unwrap();
    let (mut heap, mut goal) = (0, 0);
    while let Some(ev) = reader.next_event().unwrap() {
        match ev.kind() {
            EventKind::Metric => match ev.metric() {
                Some(Metric::HeapAlloc(bytes)) => heap = bytes as usize,
                Some(Metric::HeapGoal(bytes)) => goal = bytes as usize,
                _ => {}
            },
            EventKind::Log if ev.log().is_some_and(|l| ev.string(l.category) == "test") => break,
            _ => {}
        }
    }
    // 64 MiB are there, and as much again may come. What else the process holds is little, but the trace is in it.
    let slack = 8 << 20;
    assert!((N * EACH - (1 << 20)..N * EACH + slack).contains(&heap), "{heap}");
    assert!((2 * N * EACH - slack..2 * N * EACH + 2 * slack).contains(&goal), "{goal}");
}

struct Node<'gc> {
    next: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>,
    value: u64,
}
exectrace::collect_fields!(impl['gc] struct Node<'gc> { next, value });
type Nodes = Rootable!['gc => GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>];

/// A minor collection is a pause that the collector's pauses contain, and no cycle.
#[test]
fn minor_collections_are_pauses_of_their_own_kind() {
    let mut minors = 0;
    let mut cycles = 0;
    let trace = traced(|| {
        let mut arena =
            Arena::<Nodes>::new(Config::new().mode(Mode::Generational).heap_bytes_min(16 << 20), |_| GcCell::new(None));
        for i in 0..2_000_000_u64 {
            arena.mutate(|mc, list| {
                let keep = i % 64 == 0;
                let node = mc.alloc(Node { next: GcCell::new(list.get()), value: i });
                if keep {
                    list.set(mc, Some(node));
                }
            });
            arena.safepoint();
        }
        let stats = arena.stats();
        (minors, cycles) = (stats.minors.count, stats.cycles);
        arena.mutate(|_, list| assert_eq!(list.get().unwrap().value % 64, 0));
    });
    assert!(minors > 10, "{minors}");
    let mut reader = Reader::new(&*trace).unwrap();
    let (mut pauses, mut told, mut marks) = (0, 0, 0);
    while let Some(ev) = reader.next_event().unwrap() {
        match ev.kind() {
            EventKind::RangeBegin => match ev.range().map(|r| r.kind) {
                Some(RangeKind::StopTheWorld(why)) if ev.string(why) == "GC minor collection" => pauses += 1,
                Some(RangeKind::GcMark) => marks += 1,
                _ => {}
            },
            EventKind::Log if ev.log().is_some_and(|l| ev.string(l.category) == "gc minor") => told += 1,
            _ => {}
        }
    }
    assert_eq!((pauses, told, marks), (minors, minors, cycles));
    let report = exectrace::analyze::gc(&mut Reader::new(&*trace).unwrap());
    assert_eq!(report.cycles.len() as u64, cycles);
    assert!(report.cycles.iter().all(|c| c.pauses <= 2), "{:?}", report.cycles);
}
