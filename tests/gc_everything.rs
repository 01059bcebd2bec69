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
    let mut refused = 0;
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        for seed in 1..=4 {
            let config = Config::new().mode(mode).heap_bytes_min(1 << 15).max_pause(Duration::ZERO).poison(true);
            refused += gc_model::run(config, &bytes(seed, scale(400_000)));
        }
    }
    assert!(cfg!(miri) || refused > 100, "{refused}");
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
