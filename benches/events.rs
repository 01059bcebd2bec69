//! What an event costs: nanoseconds and bytes, with and without a stack, tracing on and off, beside Go's tracer doing the same.
//!
//! `cargo bench --bench events` prints a table; with Go 1.27 named by `EXECTRACE_GO` (its `go` binary), or installed by
//! `.ci/install-go`, Go's figures stand beside ours, measured in the same run. `EXECTRACE_RESULTS` names a file for the figures as
//! CSV. Each figure is the median of 7 rounds of CPU time of the thread that does the work; the range is that of the rounds. Every trace is counted: a round whose events did not all arrive is an error.

use std::alloc::{GlobalAlloc, Layout};
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
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

/// CPU time of the calling thread: what the work costs, whoever else is on the machine.
fn cpu_time() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` may be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn time(run: fn(u64), n: u64, depth: usize) -> Duration {
    let mut took = Duration::ZERO;
    at_depth(depth, &mut || {
        run(n / 20);
        let t = cpu_time();
        run(n);
        took = cpu_time() - t;
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

/// What Go's tracer costs, by the name of the work: nanoseconds and bytes an event.
fn go() -> Vec<(String, f64, f64)> {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/target/go/1.27.3/bin/go");
    let go = std::env::var("EXECTRACE_GO").unwrap_or_else(|_| installed.to_owned());
    let out = std::process::Command::new(go)
        .args(["run", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/go/events.go")])
        .env("GOTOOLCHAIN", "local")
        .env("GO111MODULE", "off")
        .output();
    let Ok(out) = out else { return Vec::new() };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines = String::from_utf8(out.stdout).expect("utf-8");
    lines
        .lines()
        .map(|line| {
            let v: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
            let of = |key: &str| v[key].as_f64().expect("a number");
            let ns = (of("ns_on") - of("ns_off")) / of("events");
            (v["name"].as_str().expect("a name").to_owned(), ns, of("bytes") / of("events"))
        })
        .collect()
}

/// A malloc and free of 32 bytes through `A`, nanoseconds.
fn pair<A: GlobalAlloc>(a: &A) -> f64 {
    let layout = Layout::from_size_align(32, 8).expect("layout");
    let n = 5_000_000;
    let t = cpu_time();
    for _ in 0..n {
        // SAFETY: the block is freed with the layout that it was allocated with.
        unsafe {
            let p = black_box(a.alloc(black_box(layout)));
            a.dealloc(p, layout);
        }
    }
    (cpu_time() - t).as_secs_f64() * 1e9 / f64::from(n)
}

/// The allocator's cost: bare mimalloc beside ours, off and with the heap curve on, in turns.
fn allocator(csv: &mut String) {
    let bare = exectrace::DefaultAlloc {};
    let (mut b, mut off, mut on) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // At another place of the stack each round: where the counters and the loop's locals share their low address bits, the
        // processor takes them for each other.
        at_depth(round * 3, &mut || {
            b.push(pair(&bare));
            off.push(pair(&ALLOC));
        });
        exectrace::Tracer::new().cpu_sample_hz(0).start(Count::default()).expect("start");
        at_depth(round * 3, &mut || on.push(pair(&ALLOC)));
        exectrace::stop().expect("stop");
    }
    let (b, off, on) = (median(&mut b), median(&mut off), median(&mut on));
    println!("\nmalloc + free of 32 bytes, ns a pair");
    for (name, v) in [("mimalloc", b), ("ours, tracing off", off), ("ours, heap curve on", on)] {
        println!("{name:<24} {:>6.2} ({:.2}-{:.2})  {:+.2}", v.0, v.1, v.2, v.0 - b.0);
        let _ = writeln!(csv, "pair {name},{:.2},{:.2},{:.2},,,", v.0, v.1, v.2);
    }
}

/// Puts the calling thread on one processor, so that where the scheduler happens to put two threads that wake each other does not
/// decide what a turn takes.
fn stay_on(processor: usize) {
    // SAFETY: a set of processors is plain data.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is one.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // Where there is no such processor the thread stays where it is.
    // SAFETY: as above.
    _ = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

/// Two threads that hand a lock and a token back and forth: messages a second, untraced and traced, in turns.
fn contended(csv: &mut String) {
    fn run() -> f64 {
        const MESSAGES: u64 = 20_000;
        let shared = Mutex::new(0u64);
        let bell = Condvar::new();
        let t = Instant::now();
        std::thread::scope(|s| {
            for me in 0..2 {
                let (shared, bell) = (&shared, &bell);
                s.spawn(move || {
                    stay_on(me as usize);
                    let mut turn = shared.lock().expect("lock");
                    while *turn < MESSAGES {
                        if *turn % 2 == me {
                            *turn += 1;
                            bell.notify_one();
                        } else {
                            turn = bell.wait(turn).expect("wait");
                        }
                    }
                    bell.notify_one();
                });
            }
        });
        t.elapsed().as_secs_f64() * 1e6 / MESSAGES as f64
    }
    let (mut off, mut on, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 * ROUNDS {
        let a = run();
        exectrace::Tracer::new().start(Count::default()).expect("start");
        let b = run();
        exectrace::stop().expect("stop");
        off.push(a);
        on.push(b);
        ratio.push(b / a);
    }
    let (off, on, ratio) = (median(&mut off), median(&mut on), median(&mut ratio));
    println!("\ntwo threads in turns (Mutex, Condvar), us a turn");
    println!("untraced {:.2} ({:.2}-{:.2}), traced {:.2} ({:.2}-{:.2})", off.0, off.1, off.2, on.0, on.1, on.2);
    println!("ratio {:.3} ({:.3}-{:.3}), pair by pair", ratio.0, ratio.1, ratio.2);
    let _ = writeln!(csv, "contended ratio,{:.3},{:.3},{:.3},,,", ratio.0, ratio.1, ratio.2);
}

fn main() {
    let mut csv = String::from("what,median,min,max,with 15 frames,bytes,go ns\n");
    let go = go();
    println!(
        "{:<16} {:>24} {:>24} {:>8} {:>7} | Go: {:>5} {:>8}",
        "ns an event", "no stack", "15 frames", "bytes", "off", "ns", "bytes"
    );
    for w in WORKS {
        let (plain, bytes) = measure(w, 0, 0);
        let (stack, _) = measure(w, 15, 20);
        let mut off: Vec<f64> = (0..ROUNDS).map(|_| time(w.run, w.n, 0).as_secs_f64() * 1e9 / w.n as f64).collect();
        let off = median(&mut off).0;
        print!(
            "{:<16} {:>8.1} ({:>5.1}-{:>5.1}) {:>8.1} ({:>5.1}-{:>5.1}) {:>8.2} {:>7.1} |",
            w.name, plain.0, plain.1, plain.2, stack.0, stack.1, stack.2, bytes, off
        );
        let theirs = go.iter().find(|g| g.0 == w.name);
        match theirs {
            Some(g) => println!("     {:>5.0} {:>8.2}", g.1, g.2),
            None => println!(),
        }
        let go_ns = theirs.map_or(String::new(), |g| format!("{:.1}", g.1));
        let _ = writeln!(
            csv,
            "{},{:.1},{:.1},{:.1},{:.1},{:.2},{go_ns}",
            w.name, plain.0, plain.1, plain.2, stack.0, bytes
        );
    }
    allocator(&mut csv);
    contended(&mut csv);
    if let Some(path) = std::env::var_os("EXECTRACE_RESULTS") {
        std::fs::write(path, csv).expect("the results can be written");
    }
}
