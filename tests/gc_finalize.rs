//! Finalizers: what has died is told once, whole, and may live on.

use exectrace::gc::{Arena, Config, Ephemeron, Finalizers, Gc, GcCell, GcWeak, Mode, Rootable};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

struct Node<'gc> {
    id: u64,
    next: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>,
    leaf: Option<Gc<'gc, u64>>,
}
exectrace::collect_fields!(impl['gc] struct Node<'gc> { id, next, leaf });
type NodeRoot = Rootable!['gc => Node<'gc>];
type List<'gc> = GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>;

/// Three places of the program's.
struct Top<'gc> {
    list: List<'gc>,
    weak: GcCell<'gc, Option<GcWeak<'gc, Node<'gc>>>>,
    pair: GcCell<'gc, Option<Ephemeron<'gc, Node<'gc>, Gc<'gc, u64>>>>,
}
exectrace::collect_fields!(impl['gc] struct Top<'gc> { list, weak, pair });
type TopRoot = Rootable!['gc => Top<'gc>];

fn arena(config: Config) -> Arena<TopRoot> {
    Arena::new(config, |_| Top { list: GcCell::new(None), weak: GcCell::new(None), pair: GcCell::new(None) })
}

fn node<'gc>(mc: &exectrace::gc::Mutation<'gc>, id: u64) -> Gc<'gc, Node<'gc>> {
    mc.alloc(Node { id, next: GcCell::new(None), leaf: Some(mc.alloc(id)) })
}

#[test]
fn the_dead_come_back_whole_and_once() {
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        let mut arena = arena(Config::new().mode(mode).poison(true));
        let finalizers = arena.mutate(|mc, top| {
            let finalizers: Finalizers<NodeRoot> = mc.finalizers();
            // Two that refer to each other, one of them watched, and one that lives.
            let (a, b, c) = (node(mc, 1), node(mc, 2), node(mc, 3));
            a.next.set(mc, Some(b));
            b.next.set(mc, Some(a));
            finalizers.watch(mc, a);
            finalizers.watch(mc, c);
            top.list.set(mc, Some(c));
            top.weak.set(mc, Some(GcWeak::new(mc, b)));
            top.pair.set(mc, Some(Ephemeron::new(mc, a, mc.alloc(77))));
            finalizers
        });
        arena.collect();
        arena.verify().unwrap();
        arena.mutate(|mc, top| {
            let a = finalizers.next(mc).expect("the dead one");
            let b = a.next.get().expect("what it refers to");
            assert_eq!((a.id, b.id, a.leaf.as_deref(), b.leaf.as_deref()), (1, 2, Some(&1), Some(&2)));
            assert!(Gc::ptr_eq(b.next.get().unwrap(), a));
            assert!(finalizers.next(mc).is_none(), "told once");
            assert!(top.weak.get().unwrap().upgrade(mc).is_none(), "weak references do not see it any more");
            assert_eq!(top.pair.get().unwrap().value(mc).map(|v| **v), Some(77), "ephemerons do");
            // It lives on.
            top.list.get().unwrap().next.set(mc, Some(a));
        });
        arena.collect();
        arena.mutate(|mc, top| {
            assert!(finalizers.next(mc).is_none());
            let c = top.list.get().unwrap();
            assert_eq!(c.next.get().unwrap().next.get().unwrap().leaf.as_deref(), Some(&2));
            finalizers.watch(mc, c.next.get().unwrap());
            top.list.set(mc, None);
        });
        arena.collect();
        arena.mutate(|mc, top| {
            let mut told: Vec<u64> = std::iter::from_fn(|| finalizers.next(mc).map(|n| n.id)).collect();
            told.sort_unstable();
            assert_eq!(told, [1, 3]);
            assert!(top.pair.get().unwrap().key(mc).is_some());
        });
        arena.collect();
        arena.mutate(|mc, top| {
            assert!(finalizers.next(mc).is_none());
            assert!(top.pair.get().unwrap().key(mc).is_none(), "freed at last");
        });
        arena.verify().unwrap();
    }
}

#[test]
fn what_waits_in_a_queue_lives_until_the_queue_goes() {
    let mut arena = arena(Config::new().poison(true));
    let (mut first, second) = arena.mutate(|mc, _| {
        let queues = [mc.finalizers::<NodeRoot>(), mc.finalizers::<NodeRoot>()];
        for id in 0..10 {
            let n = node(mc, id);
            queues.iter().for_each(|q| q.watch(mc, n));
        }
        let [a, b] = queues;
        (Some(a), b)
    });
    for _ in 0..3 {
        arena.collect();
    }
    arena.verify().unwrap();
    arena.mutate(|mc, _| {
        assert_eq!(first.as_ref().unwrap().next(mc).map(|n| n.id), Some(0));
        first = None;
        assert_eq!(second.next(mc).map(|n| n.id), Some(0));
    });
    arena.collect();
    arena.mutate(|mc, _| {
        let rest: Vec<u64> = std::iter::from_fn(|| second.next(mc).map(|n| n.id)).collect();
        assert_eq!(rest, (1..10).collect::<Vec<_>>());
        // The first queue's number is used again, with nothing left in it.
        let third = mc.finalizers::<NodeRoot>();
        assert!(third.next(mc).is_none());
    });
    drop(arena);
    drop(second);
}

#[test]
fn a_queue_that_is_dropped_watches_nothing() {
    let mut arena = arena(Config::new().max_pause(Duration::ZERO));
    for round in 0..20 {
        let finalizers = arena.mutate(|mc, _| {
            let f = mc.finalizers::<NodeRoot>();
            (0..50).for_each(|id| f.watch(mc, node(mc, id)));
            f
        });
        if round % 2 == 0 {
            arena.collect();
        }
        drop(finalizers);
    }
    arena.collect();
    let mut nodes = 0;
    arena.for_each_type(|t| nodes += if t.name.contains("Node") { t.objects_marked } else { 0 });
    assert_eq!(nodes, 0);
}

/// A Rust value in a watched object is dropped when the object is freed, and not when it is finalized.
#[test]
fn drop_comes_after_finalizing() {
    struct Guard(Rc<Cell<u32>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    struct Owner(Guard);
    exectrace::collect_static!(Owner);
    let drops = Rc::new(Cell::new(0));
    let mut arena = Arena::<Rootable!['gc => ()]>::new(Config::new(), |_| ());
    let finalizers = arena.mutate(|mc, _| {
        let f = mc.finalizers::<Rootable!['gc => Owner]>();
        f.watch(mc, mc.alloc(Owner(Guard(drops.clone()))));
        f
    });
    arena.collect();
    assert_eq!(drops.get(), 0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        arena.mutate(|mc, _| {
            let owner = finalizers.next(mc).unwrap();
            assert_eq!(owner.0.0.get(), 0);
            panic!("a finalizer that fails")
        })
    }));
    assert!(panicked.is_err());
    arena.collect();
    assert_eq!(drops.get(), 1);
    arena.mutate(|mc, _| assert!(finalizers.next(mc).is_none()));
}

/// All modes, thousands of objects, cycles in steps and in one go: each dead object is told of once, and no other is.
#[test]
fn random_deaths_are_told_of_once() {
    for (mode, stress) in [
        (Mode::StopTheWorld, false),
        (Mode::Incremental, false),
        (Mode::Generational, false),
        (Mode::Incremental, true),
        (Mode::Generational, true),
    ] {
        let config = Config::new().mode(mode).heap_bytes_min(1 << 16).max_pause(Duration::ZERO).poison(true);
        let mut arena = arena(config.stress(stress));
        let finalizers = arena.mutate(|mc, _| mc.finalizers::<NodeRoot>());
        let (mut told, mut unlinked) = (BTreeSet::new(), BTreeSet::new());
        let mut x = 0x9E37_79B9_u64;
        let rounds = if cfg!(miri) {
            40
        } else if stress {
            400
        } else {
            20_000
        };
        for id in 0..rounds {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            arena.mutate(|mc, top| {
                let new = node(mc, id);
                finalizers.watch(mc, new);
                new.next.set(mc, top.list.get());
                top.list.set(mc, Some(new));
                if x.is_multiple_of(4) {
                    // Cuts a piece off the list, from a random place to the end.
                    let mut at = top.list.get().unwrap();
                    for _ in 0..x / 4 % 20 {
                        let Some(next) = at.next.get() else { break };
                        at = next;
                    }
                    let mut cut = at.next.replace(mc, None);
                    while let Some(n) = cut {
                        assert!(unlinked.insert(n.id));
                        cut = n.next.get();
                    }
                }
                while let Some(dead) = finalizers.next(mc) {
                    assert_eq!(dead.leaf.as_deref(), Some(&dead.id));
                    assert!(unlinked.contains(&dead.id), "{} is alive", dead.id);
                    assert!(told.insert(dead.id), "{} is told of twice", dead.id);
                }
            });
            arena.safepoint();
            if x % 16 == 1 {
                arena.step((x / 16 % 5000) as usize);
            }
        }
        arena.collect();
        arena.verify().unwrap();
        arena.mutate(|mc, _| told.extend(std::iter::from_fn(|| finalizers.next(mc).map(|n| n.id))));
        assert_eq!(told, unlinked);
    }
}
