//! The programs that every allocator here runs, and how they are measured.
//!
//! The same three workloads as `benches/heap.rs` has: churn of small blocks by two threads from stacks of some ten frames, parsing of
//! JSON, and growth. What is measured is the CPU time of the threads that do the work, of the whole process, and its largest size.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Barrier;

/// CPU time of the calling thread in seconds.
fn cpu() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` may be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

const EXCHANGES: u64 = 2_000_000;

#[inline(never)]
fn down(depth: u32, way: u64, slot: &mut (*mut u8, Layout), size: usize) {
    if depth == 0 {
        return exchange(slot, size);
    }
    if way & 1 == 0 {
        left(depth, way, slot, size)
    } else {
        right(depth, way, slot, size)
    }
    black_box(depth);
}

#[inline(never)]
fn left(depth: u32, way: u64, slot: &mut (*mut u8, Layout), size: usize) {
    down(depth - 1, way >> 1, slot, size);
    black_box(way);
}

#[inline(never)]
fn right(depth: u32, way: u64, slot: &mut (*mut u8, Layout), size: usize) {
    down(depth - 1, way >> 1, slot, size);
    black_box(size);
}

#[inline(never)]
fn exchange(slot: &mut (*mut u8, Layout), size: usize) {
    // SAFETY: a block is freed with the layout that it was allocated with.
    unsafe {
        if !slot.0.is_null() {
            dealloc(slot.0, slot.1);
        }
        slot.1 = Layout::from_size_align(size, 8).expect("layout");
        slot.0 = alloc(slot.1);
        slot.0.write(1);
    }
}

fn churner(seed: u64) -> f64 {
    let mut slots = vec![(std::ptr::null_mut(), Layout::new::<u8>()); 512];
    let mut x = seed;
    let t = cpu();
    for _ in 0..EXCHANGES {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let size = 16 + (x >> 20) as usize % 1009;
        down(3 + (x % 2) as u32, x >> 40 & 15, &mut slots[(x >> 8) as usize % 512], size);
    }
    let took = cpu() - t;
    for (p, layout) in slots.into_iter().filter(|s| !s.0.is_null()) {
        // SAFETY: as above.
        unsafe { dealloc(p, layout) };
    }
    took
}

fn churn() -> f64 {
    let start = Barrier::new(2);
    std::thread::scope(|s| {
        let threads = [1, 2].map(|seed: u64| {
            let start = &start;
            s.spawn(move || {
                start.wait();
                churner(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            })
        });
        threads.into_iter().map(|t| t.join().expect("join")).sum()
    })
}

fn json() -> f64 {
    let mut text = String::from("[");
    for i in 0..10_000 {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"id":{i},"name":"name of {i}","tags":["a{i}","b","c{}"],"at":[{i}.5,{},null],"in":{{"x":true,"y":"{i}"}}}}"#,
            i % 7,
            i * 3
        );
    }
    text.push(']');
    let t = cpu();
    for _ in 0..50 {
        let v: serde_json::Value = serde_json::from_str(black_box(&text)).expect("json");
        drop(black_box(v));
    }
    cpu() - t
}

/// A map of texts that grows to somewhat over 1 GB; then half of it goes, and the rest.
fn growth() -> f64 {
    let t = cpu();
    let mut map = HashMap::new();
    for i in 0..5_000_000u64 {
        map.insert(i, "x".repeat(100 + i as usize % 100));
    }
    map.retain(|k, _| k % 2 == 0);
    drop(black_box(map));
    cpu() - t
}

/// Runs the workload that is the first argument between `begin` and `end`, both of which are given the second, and prints what it took:
/// CPU seconds of the work.
pub fn run<T>(begin: impl FnOnce(&str) -> T, end: impl FnOnce(T)) {
    let args: Vec<String> = std::env::args().collect();
    let tool = begin(args.get(2).map_or("", String::as_str));
    let took = match args.get(1).map(String::as_str) {
        Some("churn") => churn(),
        Some("json") => json(),
        Some("growth") => growth(),
        other => panic!("no such workload: {other:?}"),
    };
    end(tool);
    println!("{took}");
}
