//! Weak references and ephemerons against a model, in all modes, also while a cycle marks.

use exectrace::gc::{Arena, Config, Ephemeron, Gc, GcCell, GcRefCell, GcWeak, Mode, Rootable};
use std::time::Duration;

struct Key<'gc> {
    id: u64,
    other: GcCell<'gc, Option<Gc<'gc, Key<'gc>>>>,
}
exectrace::collect_fields!(impl['gc] struct Key<'gc> { id, other });

struct State<'gc> {
    strong: GcRefCell<'gc, Vec<Option<Gc<'gc, Key<'gc>>>>>,
    weak: GcRefCell<'gc, Vec<GcWeak<'gc, Key<'gc>>>>,
    pairs: GcRefCell<'gc, Vec<Ephemeron<'gc, Key<'gc>, Gc<'gc, Key<'gc>>>>>,
}
exectrace::collect_fields!(impl['gc] struct State<'gc> { strong, weak, pairs });
type Root = Rootable!['gc => State<'gc>];

fn arena(mode: Mode, stress: bool) -> Arena<Root> {
    let config = Config::new().mode(mode).heap_bytes_min(256 << 10).max_pause(Duration::ZERO).poison(true);
    Arena::new(config.stress(stress), |_| State {
        strong: GcRefCell::new(Vec::new()),
        weak: GcRefCell::new(Vec::new()),
        pairs: GcRefCell::new(Vec::new()),
    })
}

const MODES: [(Mode, bool); 5] = [
    (Mode::StopTheWorld, false),
    (Mode::Incremental, false),
    (Mode::Generational, false),
    (Mode::Incremental, true),
    (Mode::Generational, true),
];

#[test]
fn weak_references_see_the_living_and_only_those() {
    for (mode, stress) in MODES {
        let mut arena = arena(mode, stress);
        let rounds = if stress || cfg!(miri) { 60 } else { 2000 };
        for round in 0..rounds {
            arena.mutate(|mc, state| {
                for i in 0..40 {
                    let key = mc.alloc(Key { id: round * 40 + i, other: GcCell::new(None) });
                    state.weak.borrow_mut(mc).push(GcWeak::new(mc, key));
                    if i % 4 == 0 {
                        state.strong.borrow_mut(mc).push(Some(key));
                    }
                }
                // From weak to strong in the middle of things: what is made strong must stay.
                let weak = state.weak.borrow()[(round as usize * 7919) % state.weak.borrow().len()];
                if let Some(key) = weak.upgrade(mc) {
                    state.strong.borrow_mut(mc).push(Some(key));
                }
                let mut strong = state.strong.borrow_mut(mc);
                if strong.len() > 200 {
                    strong.drain(..100);
                }
            });
            arena.safepoint();
            arena.mutate(|mc, state| {
                for key in state.strong.borrow().iter().flatten() {
                    assert!(state.weak.borrow()[key.id as usize].upgrade(mc).is_some_and(|k| Gc::ptr_eq(k, *key)));
                }
            });
        }
        arena.collect();
        arena.verify().unwrap();
        arena.mutate(|mc, state| {
            let mut alive: Vec<u64> = state.strong.borrow().iter().flatten().map(|k| k.id).collect();
            alive.sort();
            alive.dedup();
            let seen = state.weak.borrow().iter().filter_map(|w| w.upgrade(mc)).map(|k| k.id).collect::<Vec<_>>();
            assert_eq!(seen, alive, "{mode:?}");
        });
    }
}

#[test]
fn chains_of_ephemerons_live_and_die_with_their_first_key() {
    for (mode, stress) in MODES {
        let mut arena = arena(mode, stress);
        let n = 300;
        for round in 0..if cfg!(miri) { 2 } else { 20 } {
            // Each value is the next one's key, in an order that is against the marker's, and refers to its own key.
            arena.mutate(|mc, state| {
                let keys: Vec<_> =
                    (0..=n).map(|id| mc.alloc(Key { id: round * 1000 + id, other: GcCell::new(None) })).collect();
                let mut pairs = state.pairs.borrow_mut(mc);
                pairs.clear();
                for i in (0..n as usize).rev() {
                    keys[i + 1].other.set(mc, Some(keys[i]));
                    pairs.push(Ephemeron::new(mc, keys[i], keys[i + 1]));
                }
                *state.strong.borrow_mut(mc) = vec![Some(keys[0])];
            });
            for _ in 0..4 {
                arena.mutate(|mc, _| {
                    for i in 0..2000 {
                        mc.alloc(Key { id: i, other: GcCell::new(None) });
                    }
                });
                arena.safepoint();
                arena.mutate(|mc, state| {
                    for (i, pair) in state.pairs.borrow().iter().enumerate() {
                        let id = round * 1000 + n - 1 - i as u64;
                        assert_eq!(pair.key(mc).map(|k| k.id), Some(id));
                        assert_eq!(pair.value(mc).map(|v| v.id), Some(id + 1));
                    }
                });
            }
            arena.collect();
            arena.verify().unwrap();
            arena.mutate(|mc, state| {
                assert!(state.pairs.borrow().iter().all(|p| p.value(mc).is_some()));
                state.strong.borrow_mut(mc).clear();
            });
            arena.collect();
            arena.verify().unwrap();
            arena.mutate(|mc, state| assert!(state.pairs.borrow().iter().all(|p| p.value(mc).is_none())));
        }
    }
}
