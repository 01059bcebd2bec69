//! What the recording of allocations costs: off, the heap's curve, a sample, and all, beside bare mimalloc, in one run and in turns.
//!
//! `cargo bench --bench heap` prints a table of ratios; `EXECTRACE_RESULTS` names a file for the figures as CSV. The workloads:
//!
//! - *pair*: a 32-byte block is allocated and freed in a loop; the worst case.
//! - *churn*: two threads that each hold 512 blocks of 16 to 1024 bytes and exchange one after the other, with stacks of about ten
//!   frames of two dozen kinds.
//! - *json*: a document is parsed and dropped. Here the baseline is ours with tracing off, since a program has one global allocator.
//! - *growth*: a map of texts grows to some 200 MB, and half of it is dropped; likewise.
//!
//! Figures are CPU time of the threads that do the work, and medians of paired ratios. Every trace is read and its records are counted:
//! a round in which any was lost is an error.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use exectrace::{Allocations, Tracer};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

const ROUNDS: usize = 7;

/// A sink that counts.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU64>);

impl Write for Count {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(b.len() as u64, Ordering::Relaxed);
        Ok(b.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` may be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

const PAIRS: u64 = 2_000_000;

fn pair<A: GlobalAlloc>(a: &A) -> f64 {
    let layout = Layout::from_size_align(32, 8).expect("layout");
    let t = cpu_time();
    for _ in 0..PAIRS {
        // SAFETY: the block is freed with the layout that it was allocated with.
        unsafe {
            let p = black_box(a.alloc(black_box(layout)));
            a.dealloc(p, layout);
        }
    }
    (cpu_time() - t).as_secs_f64()
}

const CHURN: u64 = 1_000_000;

/// Goes some frames down, by one of two ways each, and exchanges a block there.
#[inline(never)]
fn down<A: GlobalAlloc>(a: &A, depth: u32, way: u64, slot: &mut (*mut u8, Layout), size: usize) {
    if depth == 0 {
        return exchange(a, slot, size);
    }
    if way & 1 == 0 {
        left(a, depth, way, slot, size)
    } else {
        right(a, depth, way, slot, size)
    }
    black_box(depth);
}

#[inline(never)]
fn left<A: GlobalAlloc>(a: &A, depth: u32, way: u64, slot: &mut (*mut u8, Layout), size: usize) {
    down(a, depth - 1, way >> 1, slot, size);
    black_box(way);
}

#[inline(never)]
fn right<A: GlobalAlloc>(a: &A, depth: u32, way: u64, slot: &mut (*mut u8, Layout), size: usize) {
    down(a, depth - 1, way >> 1, slot, size);
    black_box(size);
}

#[inline(never)]
fn exchange<A: GlobalAlloc>(a: &A, slot: &mut (*mut u8, Layout), size: usize) {
    // SAFETY: a block is freed with the layout that it was allocated with.
    unsafe {
        if !slot.0.is_null() {
            a.dealloc(slot.0, slot.1);
        }
        slot.1 = Layout::from_size_align(size, 8).expect("layout");
        slot.0 = a.alloc(slot.1);
        slot.0.write(1);
    }
}

fn churner<A: GlobalAlloc>(a: &A, seed: u64) -> f64 {
    let mut slots = vec![(std::ptr::null_mut(), Layout::new::<u8>()); 512];
    let mut x = seed;
    let t = cpu_time();
    for _ in 0..CHURN {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let size = 16 + (x >> 20) as usize % 1009;
        // Twenty-four ways of three or four turns of two frames each.
        down(a, 3 + (x % 2) as u32, x >> 40 & 15, &mut slots[(x >> 8) as usize % 512], size);
    }
    let took = (cpu_time() - t).as_secs_f64();
    for (p, layout) in slots.into_iter().filter(|s| !s.0.is_null()) {
        // SAFETY: as above.
        unsafe { a.dealloc(p, layout) };
    }
    took
}

fn churn<A: GlobalAlloc + Sync>(a: &A) -> f64 {
    let start = Barrier::new(2);
    std::thread::scope(|s| {
        let threads = [1, 2].map(|seed| {
            let start = &start;
            s.spawn(move || {
                start.wait();
                churner(a, seed * 0x9e37_79b9_7f4a_7c15)
            })
        });
        threads.into_iter().map(|t| t.join().expect("join")).sum()
    })
}

fn json(document: &str) -> f64 {
    let t = cpu_time();
    for _ in 0..10 {
        let v: serde_json::Value = serde_json::from_str(black_box(document)).expect("json");
        drop(black_box(v));
    }
    (cpu_time() - t).as_secs_f64()
}

fn document() -> String {
    let mut text = String::from("[");
    for i in 0..20_000 {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"id":{i},"name":"name of {i}","tags":["a{i}","b","c{}"],"at":[{i}.5,{},null],"in":{{"x":true,"y":"{i}"}}}}"#,
            i % 7,
            i * 3
        );
    }
    text + "]"
}

fn growth() -> f64 {
    let t = cpu_time();
    let mut map = HashMap::new();
    for i in 0..800_000u64 {
        map.insert(i, "x".repeat(100 + i as usize % 100));
    }
    map.retain(|k, _| k % 2 == 0);
    drop(black_box(map));
    (cpu_time() - t).as_secs_f64()
}

struct Mode {
    name: &'static str,
    tracer: Option<Tracer>,
}

/// One round: seconds, and bytes written, operations recorded.
fn round(mode: &Mode, work: &dyn Fn() -> f64) -> (f64, u64) {
    let Some(tracer) = mode.tracer.clone() else { return (work(), 0) };
    let sink = Count::default();
    tracer.cpu_sample_hz(0).start(sink.clone()).expect("start");
    let took = work();
    let stats = exectrace::stop().expect("stop");
    assert_eq!((stats.lost_allocations, stats.lost_events()), (0, 0), "{}: something was lost", mode.name);
    (took, sink.0.load(Ordering::Relaxed))
}

fn median(v: &mut [f64]) -> (f64, f64, f64) {
    v.sort_by(f64::total_cmp);
    (v[v.len() / 2], v[0], v[v.len() - 1])
}

fn compare(name: &str, operations: f64, base: &dyn Fn() -> f64, work: &dyn Fn() -> f64, csv: &mut String) {
    let all = Tracer::new().allocations(Allocations::All).back_pressure(Duration::from_secs(60));
    let modes = [
        Mode { name: "off", tracer: None },
        Mode { name: "curve", tracer: Some(Tracer::new()) },
        Mode { name: "sampled", tracer: Some(Tracer::new().allocations(Allocations::SAMPLED)) },
        Mode { name: "all, no stacks of frees", tracer: Some(all.clone().free_stacks(false)) },
        Mode { name: "all", tracer: Some(all) },
    ];
    let mut ratios = vec![Vec::new(); modes.len()];
    let mut ns = vec![Vec::new(); modes.len()];
    let mut bytes = vec![0; modes.len()];
    for _ in 0..ROUNDS {
        for (i, mode) in modes.iter().enumerate() {
            let before = base();
            let (took, written) = round(mode, work);
            ratios[i].push(took / before);
            ns[i].push((took - before) * 1e9 / operations);
            bytes[i] = written;
        }
    }
    for (i, mode) in modes.iter().enumerate() {
        let (ratio, ns) = (median(&mut ratios[i]), median(&mut ns[i]).0);
        let each = bytes[i] as f64 / operations;
        println!(
            "{name:<8} {:<24} {:>6.2}x ({:.2}-{:.2}) {ns:>+8.1} ns an operation {each:>6.2} bytes",
            mode.name, ratio.0, ratio.1, ratio.2
        );
        let _ = writeln!(csv, "{name},{},{:.3},{:.3},{:.3},{ns:.1},{each:.2}", mode.name, ratio.0, ratio.1, ratio.2);
    }
}

fn main() {
    let only = std::env::args().nth(1).filter(|a| !a.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|o| o == name);
    let bare = exectrace::DefaultAlloc {};
    let mut csv = String::from("work,mode,ratio,min,max,ns an operation,bytes an operation\n");
    if wanted("pair") {
        compare("pair", (2 * PAIRS) as f64, &|| pair(&bare), &|| pair(&ALLOC), &mut csv);
    }
    if wanted("churn") {
        compare("churn", (4 * CHURN) as f64, &|| churn(&bare), &|| churn(&ALLOC), &mut csv);
    }
    if wanted("json") {
        let document = document();
        let before = exectrace::heap::stats();
        json(&document);
        let after = exectrace::heap::stats();
        let n = after.allocs_total - before.allocs_total + after.frees_total - before.frees_total;
        compare("json", n as f64, &|| json(&document), &|| json(&document), &mut csv);
    }
    if wanted("growth") {
        compare("growth", 1_600_000.0, &growth, &growth, &mut csv);
    }
    if let Some(path) = std::env::var_os("EXECTRACE_RESULTS") {
        std::fs::write(path, csv).expect("the results can be written");
    }
}
