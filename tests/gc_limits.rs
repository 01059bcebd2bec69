//! Limits and what is told as they come near; the map of the heap; heaps on several threads.

use exectrace::gc::{Arena, BlockUsage, Config, Gc, GcCell, GcVec, Mode, Observer, Pressure, Rootable};
use std::cell::RefCell;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Log(RefCell<Vec<Pressure>>);
impl Observer for Log {
    fn memory_pressure(&self, pressure: Pressure) {
        self.0.borrow_mut().push(pressure);
    }
}

type Nodes = Rootable!['gc => GcVec<'gc, Gc<'gc, [u64; 16]>>];

fn arena(config: Config) -> Arena<Nodes, Log> {
    Arena::try_with_observer(config, Log::default(), |_| GcVec::new()).unwrap()
}

/// More is alive than the limit allows, and the program allocates on: the heap grows over the limit, but the program gets on.
#[test]
fn a_limit_that_is_too_small_does_not_end_in_a_death_spiral() {
    for mode in [Mode::StopTheWorld, Mode::Incremental] {
        let mut arena = arena(Config::new().mode(mode).memory_limit_bytes(8 << 20).gc_percent(None));
        for i in 0..200_000 {
            arena.mutate(|mc, v| v.push(mc, mc.alloc([i; 16])));
            arena.safepoint();
        }
        assert!(arena.stats().is_near_limit);
        assert!(arena.observer().0.borrow().contains(&Pressure::NearLimit));
        let (before, begin) = (arena.stats(), Instant::now());
        // Work that allocates and keeps nothing.
        let mut x = 1_u64;
        while begin.elapsed() < Duration::from_millis(if cfg!(debug_assertions) { 1500 } else { 500 }) {
            for _ in 0..100 {
                x = arena.mutate(|mc, _| mc.alloc([x; 16]).iter().fold(x, |a, b| a.wrapping_mul(31).wrapping_add(*b)));
                arena.safepoint();
            }
        }
        let (after, took) = (arena.stats(), begin.elapsed().as_nanos() as u64);
        let gc = after.stw.ns_sum - before.stw.ns_sum + after.assists.ns_sum - before.assists.ns_sum;
        assert!(after.cycles > before.cycles, "the limit is not kept to at all");
        assert!(gc < took / 10 * 7, "{mode:?}: {gc} ns of {took} are the collector's");
        assert_ne!(x, 0);
    }
}

#[test]
fn pressure_is_told_before_an_allocation_fails() {
    let mut arena = arena(Config::new().heap_bytes_max(8 << 20));
    let mut kept = 0;
    while arena.mutate(|mc, v| mc.try_alloc([kept; 16]).and_then(|x| v.try_push(mc, x))).is_ok() {
        kept += 1;
        arena.safepoint();
    }
    assert_eq!(arena.observer().0.borrow().last(), Some(&Pressure::NoMemory));
    // Half of it is let go, and there is room again.
    arena.mutate(|mc, v| v.truncate(mc, v.len() / 2));
    arena.collect();
    arena.mutate(|mc, v| {
        (0..kept / 4).for_each(|i| assert!(mc.try_alloc([i; 16]).is_ok()));
        assert!(v.iter().enumerate().all(|(i, x)| x[3] == i as u64));
    });
    arena.verify().unwrap();
}

#[test]
fn the_map_shows_blocks_and_how_full_they_are() {
    let mut arena = arena(Config::new());
    arena.mutate(|mc, v| {
        (0..10_000).for_each(|i| v.push(mc, mc.alloc([i; 16])));
        mc.alloc([0_u64; 5000]);
    });
    // Every second object dies, and each block keeps the others.
    arena.mutate(|mc, v| {
        for i in 0..5000 {
            v.set(mc, i, v.get(2 * i).unwrap());
        }
        v.truncate(mc, 5000);
    });
    arena.collect();
    let (mut blocks, mut free, mut marked, mut room) = (0, 0, 0, 0);
    arena.for_each_block(|b| match b.usage {
        BlockUsage::Objects { type_name: "[u64; 16]", marked: m, room: r, object_bytes, is_unswept, .. } => {
            assert_eq!((object_bytes, is_unswept, b.blocks), (128, false, 1));
            blocks += 1;
            marked += m;
            room += r;
        }
        BlockUsage::Objects { object_bytes, .. } => assert_ne!(object_bytes, 40_000, "it is dead"),
        _ => free += b.blocks,
    });
    assert_eq!((blocks, marked, room), (40, 5000, 40 * 256));
    let mut drawn = Vec::new();
    arena.write_map(&mut drawn).unwrap();
    let drawn = String::from_utf8(drawn).unwrap();
    assert_eq!(drawn.lines().next().map(str::len), Some(123), "{drawn}");
    assert_eq!(drawn.lines().next().map(|l| l.matches('.').count()), Some(free));
    assert!(drawn.matches('4').count() >= 38, "{drawn}");
}

/// A handle is a pin: the address is the object's, and stays.
#[test]
fn a_handle_pins() {
    let mut arena = arena(Config::new().poison(true).stress(true));
    let root = arena.mutate(|mc, _| mc.root::<Rootable!['gc => GcCell<'gc, u64>]>(mc.alloc(GcCell::new(7))));
    let address = root.as_ptr();
    for _ in 0..5 {
        arena.safepoint();
        arena.collect();
    }
    arena.mutate(|mc, _| {
        let object = root.get(mc);
        assert_eq!((Gc::as_ptr(object).addr(), object.get()), (address.as_ptr().addr(), 7));
    });
}

/// Heaps know nothing of each other, on whichever threads they are.
#[test]
fn heaps_on_several_threads_do_not_meet() {
    std::thread::scope(|s| {
        for t in 0..4_u64 {
            s.spawn(move || {
                let mode = [Mode::StopTheWorld, Mode::Incremental, Mode::Generational][t as usize % 3];
                let config = || Config::new().mode(mode).heap_bytes_min(1 << 18).poison(true);
                // Two on each, by turns.
                let mut arenas = [arena(config()), arena(config())];
                for i in 0..20_000 {
                    let a = &mut arenas[i as usize % 2];
                    a.mutate(|mc, v| {
                        v.push(mc, mc.alloc([t << 32 | i; 16]));
                        if v.len() > 500 {
                            v.swap_remove(mc, i as usize * 7 % 500);
                        }
                    });
                    a.safepoint();
                }
                for (n, a) in arenas.iter_mut().enumerate() {
                    a.collect();
                    a.verify().unwrap();
                    a.mutate(|_, v| assert!(v.iter().all(|x| x[0] >> 32 == t && x[0] as usize % 2 == n)));
                    assert!(a.stats().cycles > 1);
                }
            });
        }
    });
}
