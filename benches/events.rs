//! What an event costs: nanoseconds and bytes, with and without a stack, tracing on and off, beside Go's tracer doing the same.
//!
//! `cargo bench --bench events` prints a table; with Go 1.27 named by `EXECTRACE_GO` (its `go` binary), or installed by
//! `.ci/install-go`, Go's figures stand beside ours, measured in the same run. Each figure is the median of 7 rounds; the range is
//! that of the rounds. Every trace is counted: a round whose events did not all arrive is an error.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
exectrace::interpose!();

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

/// Something to trace: `run(n)` writes `n * events` events.
struct Work {
    name: &'static str,
    events: f64,
    n: u64,
    run: fn(u64),
}

fn logs(n: u64) {
    for _ in 0..n {
        exectrace::log("category", black_box("message"));
    }
}

fn regions(n: u64) {
    for _ in 0..n {
        exectrace::with_region("region", || black_box(0));
    }
}

fn reads(n: u64) {
    let mut f = std::fs::File::open("/dev/null").expect("/dev/null");
    let mut b = [0u8; 1];
    for _ in 0..n {
        black_box(f.read(&mut b).expect("read"));
    }
}

/// A wait that is over at once: block, processor stop and start, unblock, start.
fn waits(n: u64) {
    use exectrace::hooks::thread::{Reason, block, unblock};
    for _ in 0..n {
        block(Reason::Sleep);
        unblock();
    }
}

fn heap(n: u64) {
    // Each pair crosses the quantum twice: two events.
    for _ in 0..n {
        drop(black_box(Vec::<u8>::with_capacity(128 << 10)));
    }
}

const WORKS: &[Work] = &[
    Work { name: "log", events: 1.0, n: 200_000, run: logs },
    Work { name: "region", events: 2.0, n: 200_000, run: regions },
    Work { name: "read /dev/null", events: 2.0, n: 100_000, run: reads },
    Work { name: "wait", events: 5.0, n: 50_000, run: waits },
    Work { name: "heap curve", events: 2.0, n: 100_000, run: heap },
];

/// Calls `f` below `depth` further frames.
#[inline(never)]
fn at_depth(depth: usize, f: &mut dyn FnMut()) {
    if depth == 0 {
        f();
    } else {
        at_depth(depth - 1, f);
    }
    black_box(depth);
}

fn time(run: fn(u64), n: u64, depth: usize) -> Duration {
    let mut took = Duration::ZERO;
    at_depth(depth, &mut || {
        run(n / 20);
        let t = Instant::now();
        run(n);
        took = t.elapsed();
    });
    took
}

fn median(v: &mut [f64]) -> (f64, f64, f64) {
    v.sort_by(f64::total_cmp);
    (v[v.len() / 2], v[0], v[v.len() - 1])
}

/// Nanoseconds an event over the same work untraced, and bytes an event.
fn measure(w: &Work, stack_depth: usize, below: usize) -> ((f64, f64, f64), f64) {
    let (mut ns, mut bytes) = (Vec::new(), 0.0);
    for _ in 0..ROUNDS {
        let off = time(w.run, w.n, below);
        let sink = Count::default();
        exectrace::Tracer::new()
            .stack_depth(stack_depth)
            .cpu_sample_hz(0)
            .buffer_bytes(512 << 20)
            .start(sink.clone())
            .expect("start");
        exectrace::flush();
        let before = sink.0.load(Ordering::Relaxed);
        let on = time(w.run, w.n, below);
        exectrace::flush();
        let written = sink.0.load(Ordering::Relaxed) - before;
        let stats = exectrace::stop().expect("stop");
        assert_eq!(stats.lost_events(), 0, "{}: events lost", w.name);
        let n = w.n as f64 * w.events;
        ns.push((on.as_secs_f64() - off.as_secs_f64()) * 1e9 / n);
        bytes = written as f64 / (n * 1.05);
    }
    (median(&mut ns), bytes)
}

fn main() {
    println!("{:<16} {:>24} {:>24} {:>8} {:>9}", "event", "ns, no stack", "ns, 15 frames", "B/event", "ns, off");
    for w in WORKS {
        let (plain, bytes) = measure(w, 0, 0);
        let (stack, _) = measure(w, 15, 20);
        let mut off: Vec<f64> = (0..ROUNDS).map(|_| time(w.run, w.n, 0).as_secs_f64() * 1e9 / w.n as f64).collect();
        let off = median(&mut off).0;
        println!(
            "{:<16} {:>8.1} ({:>5.1}-{:>5.1}) {:>8.1} ({:>5.1}-{:>5.1}) {:>8.2} {:>9.1}",
            w.name, plain.0, plain.1, plain.2, stack.0, stack.1, stack.2, bytes, off
        );
    }
}
