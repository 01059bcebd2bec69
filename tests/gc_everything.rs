//! Seeded random programs over the whole of the heap's API, compared with a model: all modes, with memory refused at
//! random, under stress, and with a hard limit. The fuzz target `gc` runs the same programs.

mod gc_model;

use exectrace::gc::{Config, Mode};
use std::time::Duration;

/// xorshift64*: the same bytes everywhere.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            x ^= x >> 12;
            x ^= x << 25;
            x ^= x >> 27;
            (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
        })
        .collect()
}

fn scale(n: usize) -> usize {
    match () {
        () if cfg!(miri) => n / 400,
        () if cfg!(debug_assertions) => n / 10,
        () => n,
    }
}

#[test]
fn every_mode_agrees_with_the_model() {
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        for seed in 1..=4 {
            let config = Config::new().mode(mode).heap_bytes_min(1 << 15).max_pause(Duration::ZERO).poison(true);
            gc_model::run(config, &bytes(seed, scale(400_000)));
        }
    }
}

#[test]
fn stress_agrees_with_the_model() {
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        let config = Config::new().mode(mode).stress(true).max_pause(Duration::ZERO).poison(true);
        gc_model::run(config, &bytes(9, scale(60_000)));
    }
}

#[test]
fn configurations_told_by_bytes_agree_with_the_model() {
    for seed in 100..if cfg!(miri) { 101 } else { 140 } {
        let data = bytes(seed, scale(20_000));
        gc_model::run(gc_model::config(&data), &data);
    }
}

/// Each request for memory that a program makes is refused once, and all that follow it, until the program ends.
#[test]
fn memory_refused_at_every_point_breaks_nothing() {
    let mut data = bytes(77, scale(60_000));
    // The program's own settings of this are left out: 6 and 7 of 32, see `run`.
    data.iter_mut().for_each(|b| *b = if matches!(*b % 32, 6 | 7) { *b + 2 } else { *b });
    let mut points = 0;
    for grants in 0..if cfg!(miri) { 3 } else { 200 } {
        let config = Config::new().mode(Mode::Generational).heap_bytes_min(64 << 20).poison(true);
        if gc_model::run_with_memory(config, &data, Some(grants)) == 0 {
            break;
        }
        points = grants + 1;
    }
    assert!(cfg!(miri) || points > 1, "{points}");
}

/// The same for the heap's tables: of handles, of what is watched, of chunks, of the marker's queue.
#[test]
fn tables_that_cannot_grow_are_an_error_and_lose_nothing() {
    use exectrace::gc::{Arena, Rootable, refuse_memory_after};
    type Number = Rootable!['gc => u64];
    let (mut grants, most) = (0, if cfg!(miri) { 300 } else { 30_000 });
    loop {
        let mut arena = Arena::<Rootable!['gc => ()]>::new(Config::new().poison(true), |_| ());
        let finalizers = arena.mutate(|mc, _| mc.finalizers::<Number>());
        let mut handles = Vec::new();
        refuse_memory_after(Some(grants));
        let result = (0..most).try_for_each(|i| {
            let made = arena.mutate(|mc, _| {
                handles.push(mc.try_root::<Number>(mc.try_alloc(i)?)?);
                let second = mc.try_alloc(i)?;
                finalizers.try_watch(mc, second)?;
                mc.try_alloc([i; 200]).map(drop)
            });
            arena.safepoint();
            made
        });
        refuse_memory_after(None);
        arena.collect();
        arena.verify().expect("the heap is in order");
        arena.mutate(|mc, _| {
            assert!(handles.iter().enumerate().all(|(i, h)| *h.get(mc) == i as u64));
            let told = std::iter::from_fn(|| finalizers.next(mc)).count();
            assert!(handles.len().abs_diff(told) <= 1, "{told} of {}", handles.len());
        });
        if result.is_ok() {
            break;
        }
        grants += 1;
    }
    assert!(cfg!(miri) || grants > 5, "{grants}");
}

#[test]
fn a_heap_that_cannot_be_made_is_an_error() {
    use exectrace::gc::{Arena, Rootable, refuse_memory_after};
    let make = || Arena::<Rootable!['gc => u64], ()>::try_with_observer(Config::new(), (), |_| 7);
    let mut grants = 0;
    loop {
        refuse_memory_after(Some(grants));
        let arena = make();
        refuse_memory_after(None);
        if let Ok(mut arena) = arena {
            assert_eq!(arena.mutate(|_, x| *x), 7);
            break;
        }
        grants += 1;
    }
    assert!(grants > 2, "{grants}");
}
