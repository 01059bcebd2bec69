//! Arrays and strings: every size, items that are dropped, references in long arrays, and panics while one is made.

use exectrace::gc::{Arena, Config, Gc, GcArray, GcCell, GcRefCell, GcString, Mode, Rootable, Static};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

type Arrays = Rootable!['gc => GcRefCell<'gc, Vec<GcArray<'gc, u8>>>];

fn small(mode: Mode) -> Config {
    Config::new().mode(mode).heap_bytes_min(256 << 10).max_pause(Duration::ZERO).poison(true)
}

#[test]
fn arrays_of_all_lengths_keep_their_items() {
    let mut arena = Arena::<Arrays>::new(small(Mode::Incremental), |_| GcRefCell::new(Vec::new()));
    let lengths =
        (0..300).chain((8..22).flat_map(|p| [(1 << p) - 9, (1 << p) - 8, (1 << p) - 7, 1 << p])).chain([5 << 20]);
    for (k, len) in lengths.enumerate() {
        arena.mutate(|mc, root| {
            let array = mc.alloc_array(len, |i| (i ^ len) as u8);
            if k % 3 == 0 {
                root.borrow_mut(mc).push(array);
            }
        });
        arena.safepoint();
    }
    arena.collect();
    arena.verify().unwrap();
    arena.mutate(|_, root| {
        for array in root.borrow().iter() {
            assert!(array.iter().enumerate().all(|(i, x)| *x == (i ^ array.len()) as u8));
        }
    });
}

#[test]
fn a_size_that_no_memory_has_is_an_error() {
    let mut arena = Arena::<Arrays>::new(small(Mode::Incremental), |_| GcRefCell::new(Vec::new()));
    arena.mutate(|mc, _| {
        for len in [usize::MAX, usize::MAX / 8, usize::MAX / 8 - 1, isize::MAX as usize / 8, 1 << 50] {
            assert!(mc.try_alloc_array(len, |_| 0_u64).is_err(), "{len}");
        }
    });
    arena.verify().unwrap();
}

struct Counted(Rc<Cell<usize>>);
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn items_are_dropped_once_also_those_of_an_array_that_was_not_finished() {
    type Root = Rootable!['gc => GcCell<'gc, Option<GcArray<'gc, Static<Counted>>>>];
    let drops = Rc::new(Cell::new(0));
    let mut arena = Arena::<Root>::new(small(Mode::Generational), |_| GcCell::new(None));
    for len in [3, 2000] {
        drops.set(0);
        arena.mutate(|mc, root| root.set(mc, Some(mc.alloc_array(len, |_| Static(Counted(drops.clone()))))));
        let made = catch_unwind(AssertUnwindSafe(|| {
            arena.mutate(|mc, _| {
                mc.alloc_array(len, |i| {
                    assert!(i < len / 2);
                    Static(Counted(drops.clone()))
                });
            });
        }));
        assert!(made.is_err());
        arena.collect();
        arena.verify().unwrap();
        assert_eq!(drops.get(), len / 2);
        arena.mutate(|mc, root| root.set(mc, None));
        arena.collect();
        assert_eq!(drops.get(), len / 2 + len);
    }
}

#[test]
fn references_in_long_arrays_survive_in_every_mode() {
    type Slot<'gc> = GcCell<'gc, Option<Gc<'gc, usize>>>;
    type Root = Rootable!['gc => GcArray<'gc, Slot<'gc>>];
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        let (n, rounds) = if cfg!(miri) { (5000, 60) } else { (200_000, 150_000) };
        let mut arena = Arena::<Root>::new(small(mode), |mc| mc.alloc_array(n, |i| GcCell::new(Some(mc.alloc(i)))));
        let mut expected: Vec<usize> = (0..n).collect();
        let mut x = 7_usize;
        for round in 0..rounds {
            arena.mutate(|mc, array| {
                for _ in 0..10 {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (i, k) = ((x >> 20) % n, (x >> 40) % n);
                    // Moves a reference behind and before the place where the marker is, and makes a new one.
                    array[i].set(mc, array[k].get());
                    array[k].set(mc, Some(mc.alloc(round)));
                    expected[i] = expected[k];
                    expected[k] = round;
                }
            });
            arena.safepoint();
            if round % (rounds / 3) == 0 {
                arena.verify().unwrap();
                arena.mutate(|_, array| {
                    assert!(array.iter().map(|c| *c.get().unwrap()).eq(expected.iter().copied()));
                });
            }
        }
        assert!(cfg!(miri) || arena.stats().cycles > 1);
    }
}

#[test]
fn strings_are_strings() {
    type Root = Rootable!['gc => GcRefCell<'gc, Vec<GcString<'gc>>>];
    let mut arena = Arena::<Root>::new(Config::new().stress(true).poison(true), |_| GcRefCell::new(Vec::new()));
    for i in 0..50 {
        arena.mutate(|mc, root| root.borrow_mut(mc).push(mc.alloc_str(&"ü".repeat(i))));
        arena.safepoint();
    }
    arena.mutate(|mc, root| {
        let strings = root.borrow();
        assert!(
            strings
                .iter()
                .enumerate()
                .all(|(i, s)| s.chars().count() == i && s.ends_with(if i > 0 { "ü" } else { "" }))
        );
        let again = mc.alloc_str("üü");
        assert!(again == strings[2] && !GcString::ptr_eq(again, strings[2]) && again > strings[1]);
    });
}
