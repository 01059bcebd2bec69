//! Everything at once, while generations change as fast as they can: no trace may be refused, nor any window cut out of one.
//!
//! 24 threads use locks, channels, system calls, timeouts that race with wakers, collections that stop the world, regions
//! closed in the wrong order or never or elsewhere, tasks and logs, and make thousands of short threads a second.
//!
//! The short form runs a few seconds. The long one is asked for by `EXECTRACE_STRESS=<generations>`: it goes on until each period
//! has had that many generations (those of a second: a tenth of a thousandth of it), and judges many more windows:
//! ```sh
//! EXECTRACE_STRESS=10000 cargo test --release --test stress -- --nocapture
//! ```
//! Every trace is read by the crate's own reader, which refuses what Go's refuses. Where there is a Go, it judges a sample.

mod guest;
#[path = "support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use exectrace::format::{Kind, Version};
use exectrace::hooks::gc::{GcHeap, Stw};
use exectrace::{Region, Task, Tracer};

use guest::{Flag, Memory, Random, check};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

exectrace::interpose!();

/// What the threads share.
#[derive(Default)]
struct World {
    over: Flag,
    lock: Mutex<Vec<u64>>,
    table: RwLock<u64>,
    parked: parking_lot::Mutex<u64>,
    parked_change: parking_lot::Condvar,
    queue: Mutex<VecDeque<u64>>,
    queue_change: Condvar,
    threads_made: AtomicU64,
}

impl World {
    fn over(&self) -> bool {
        self.over.is_set()
    }
}

fn locks(w: &World, r: &mut Random) {
    {
        let mut v = w.lock.lock().expect("lock");
        v.push(r.next());
        if v.len() > 64 {
            v.clear();
        }
        if r.chance(16) {
            // Somebody will have to wait.
            thread::yield_now();
        }
    }
    if r.chance(4) {
        *w.table.write().expect("lock") += 1;
    } else {
        black_box(*w.table.read().expect("lock"));
    }
    let mut n = w.parked.lock();
    *n += 1;
    if r.chance(8) {
        w.parked_change.notify_one();
    } else if r.chance(8) {
        w.parked_change.wait_for(&mut n, Duration::from_micros(r.below(200)));
    }
}

fn conditions(w: &World, r: &mut Random) {
    if r.chance(2) {
        w.queue.lock().expect("lock").push_back(r.next());
        if r.chance(4) { w.queue_change.notify_all() } else { w.queue_change.notify_one() }
    } else {
        let q = w.queue.lock().expect("lock");
        let limit = Duration::from_micros(r.below(300));
        let (mut q, _) = w.queue_change.wait_timeout_while(q, limit, |q| q.is_empty()).expect("lock");
        q.pop_front();
        q.truncate(100);
    }
}

fn files(r: &mut Random) {
    let mut bytes = [0u8; 64];
    let mut f = std::fs::File::open("/dev/zero").expect("open");
    f.read_exact(&mut bytes).expect("read");
    if r.chance(4) {
        black_box(std::fs::read("/proc/self/stat").expect("read"));
    }
    if r.chance(8) {
        thread::sleep(Duration::from_micros(r.below(100)));
    }
    black_box(std::fs::metadata("/").expect("stat"));
}

/// Two threads that wake each other and also give up waiting: the waker and the end of the time meet.
fn parks(w: &World, seed: u64) {
    thread::scope(|s| {
        let other = s.spawn(|| {
            let mut r = Random(seed ^ 1);
            while !w.over() {
                thread::park_timeout(Duration::from_micros(r.below(60)));
            }
        });
        let mut r = Random(seed);
        while !w.over() {
            other.thread().unpark();
            if r.chance(3) {
                thread::park_timeout(Duration::from_micros(r.below(30)));
            }
        }
        other.thread().unpark();
    });
}

fn child(r: u64) {
    match r % 8 {
        0 => {}
        1 => exectrace::log("child", "hello"),
        2 => drop(black_box(vec![1u8; 100_000])),
        3 => std::mem::forget(Region::new("left open by a child")),
        4 => thread::park_timeout(Duration::from_micros(10)),
        5 => drop(std::fs::File::open("/dev/null")),
        6 => drop(thread::Builder::new().name(format!("kid {}", r % 100)).spawn(|| exectrace::log!("kid", "{}", 1))),
        _ => {
            thread_local! { static LAST: Farewell = const { Farewell }; }
            LAST.with(|_| ());
        }
    }
}

/// Does things in a destructor at the thread's end.
struct Farewell;

impl Drop for Farewell {
    fn drop(&mut self) {
        let _region = Region::new("farewell");
        exectrace::log!("farewell", "from {}", 1);
        drop(black_box(vec![0u8; 70_000]));
    }
}

fn churn(w: &World, r: &mut Random) {
    let n = 1 + r.below(4);
    let threads: Vec<_> = (0..n)
        .map(|_| {
            let seed = r.next();
            thread::spawn(move || child(seed))
        })
        .collect();
    w.threads_made.fetch_add(n, Ordering::Relaxed);
    for t in threads {
        if r.chance(10) {
            // Never joined.
            drop(t);
        } else {
            t.join().expect("join");
        }
    }
}

fn collections(heap: &GcHeap, w: &World, r: &mut Random) {
    if r.chance(20) {
        heap.cycle_end();
        heap.stw_end();
        heap.sweep_end(1, 1);
        heap.assist_end();
    }
    heap.cycle_begin();
    heap.stw_begin(Stw::SweepTermination);
    match r.below(4) {
        // A collector waits for the other threads to stop.
        0 => conditions(w, r),
        1 => thread::sleep(Duration::from_micros(r.below(150))),
        2 => files(r),
        _ => {}
    }
    heap.stw_end();
    heap.assist_begin();
    if r.chance(3) {
        locks(w, r);
    }
    heap.set_live(r.below(1 << 24));
    heap.assist_end();
    heap.stw_begin(Stw::MarkTermination);
    heap.stw_end();
    if r.chance(50) {
        heap.stw_begin(Stw::MarkTermination);
    }
    heap.cycle_end();
    heap.sweep_begin();
    if r.chance(3) {
        files(r);
    }
    heap.set_goal(r.below(1 << 25));
    heap.sweep_end(r.below(1 << 20), r.below(1 << 20));
}

fn annotations(r: &mut Random, elsewhere: &mpsc::SyncSender<(Region, Option<Task>)>) {
    let task = Task::new("job");
    let a = Region::new("a");
    let b = task.region("b");
    let c = exectrace::with_region("c", || Region::new("d"));
    exectrace::log!("annotations", "round {}", r.below(1000));
    task.log("category", "of a task");
    match r.below(5) {
        0 => drop((a, b, c)),
        1 => drop((c, b, a)),
        2 => {
            std::mem::forget(b);
            drop(c);
            drop(a);
        }
        3 => {
            let sub = task.subtask("part");
            // Full, or nobody there: it is dropped here.
            let _ = elsewhere.try_send((b, Some(sub)));
            let _ = elsewhere.try_send((a, None));
        }
        _ => {
            std::mem::forget((a, b, c));
            std::mem::forget(task);
        }
    }
}

/// Runs 24 threads until `over` returns.
fn workload(w: &World, seed: u64, over: impl FnOnce()) {
    let (sink, regions) = mpsc::sync_channel(16);
    let regions = Mutex::new(regions);
    let (to, from) = crossbeam_channel::bounded(2);
    let heaps = [GcHeap::new(), GcHeap::new()];
    let (to, from, heaps, regions) = (&to, &from, &heaps, &regions);
    thread::scope(|s| {
        let mut made = 0;
        macro_rules! threads {
            ($n:expr, |$r:ident| $body:expr) => {
                for _ in 0..$n {
                    made += 1;
                    let sink = sink.clone();
                    let mut random = Random(seed.wrapping_mul(1000) + made);
                    let body = move || {
                        let _ = &sink;
                        while !w.over() {
                            let $r = &mut random;
                            $body
                        }
                    };
                    thread::Builder::new().name(format!("worker {made}")).spawn_scoped(s, body).expect("spawn");
                }
            };
        }
        threads!(4, |r| locks(w, r));
        threads!(3, |r| conditions(w, r));
        threads!(3, |r| files(r));
        threads!(4, |r| churn(w, r));
        threads!(2, |r| parks(w, r.next()));
        threads!(1, |r| _ = to.send_timeout(r.next(), Duration::from_micros(r.below(100))));
        threads!(1, |r| _ = black_box(from.recv_timeout(Duration::from_micros(r.below(100)))));
        threads!(1, |r| collections(&heaps[0], w, r));
        threads!(1, |r| collections(&heaps[1], w, r));
        for _ in 0..2 {
            let sink = sink.clone();
            let mut r = Random(seed + 77);
            s.spawn(move || {
                while !w.over() {
                    annotations(&mut r, &sink);
                }
            });
        }
        s.spawn(move || {
            let regions = regions.lock().expect("lock");
            while !w.over() {
                drop(regions.recv_timeout(Duration::from_micros(500)));
            }
        });
        s.spawn(|| {
            while !w.over() {
                black_box((0..10_000u64).fold(0, |a, b| a ^ black_box(b)));
            }
        });
        // Also after a failure, or nobody would see it.
        let _over = OnDrop(&w.over);
        over();
    });
}

struct OnDrop<'a>(&'a Flag);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// One trace under load.
struct Run {
    period: Duration,
    version: Version,
    /// It goes on for that many generations, or that long.
    generations: u64,
    limit: Duration,
    /// Windows to cut out and read.
    windows: usize,
}

fn run(r: &Run, seed: u64) -> u64 {
    let (sink, w) = (Memory::new(), World::default());
    let mut stats = None;
    let begin = Instant::now();
    workload(&w, seed, || {
        // Some threads are older than the trace, some end after it.
        thread::sleep(Duration::from_millis(5));
        let tracer = Tracer::new().version(r.version).generation_period(r.period).cpu_sample_hz(1000);
        tracer.start(sink.clone()).expect("start");
        let begin = Instant::now();
        while begin.elapsed() < r.limit && sink.generations() < r.generations {
            thread::sleep(Duration::from_millis(20));
        }
        stats = Some(exectrace::stop().expect("stop"));
    });
    let stats = stats.expect("stopped");
    let trace = sink.bytes();
    assert_eq!(stats.bytes, trace.len() as u64);
    let seen = check(&trace);
    assert_eq!(seen.generations, u64::from(stats.generations));
    if stats.lost_events() == 0 {
        assert!(seen.kind(Kind::GCBegin) + seen.kind(Kind::GCActive) > 0, "no collections: {seen:?}");
    }
    let mut random = Random(seed);
    let split = support::window::Split::new(&trace).expect("generations");
    let all: Vec<_> = split.windows(6).collect();
    for _ in 0..r.windows {
        let window = &all[random.below(all.len() as u64) as usize];
        let bytes = [&trace[..16], &trace[window.bytes.clone()]].concat();
        check(&bytes);
    }
    println!(
        "period {:?}: {} generations of {:?}, {} events, {} B, {} threads made, lost {}+{}, samples lost {}, {:?} in all",
        r.period,
        stats.generations,
        r.limit.min(begin.elapsed()) / stats.generations,
        seen.events,
        stats.bytes,
        w.threads_made.load(Ordering::Relaxed),
        stats.lost_events_full,
        stats.lost_events_reentrant,
        stats.lost_samples,
        begin.elapsed(),
    );
    judge(&trace, all.len(), &mut random, r.windows / 4);
    u64::from(stats.generations)
}

/// Has Go look at the trace, if it is not too large, and at some windows of it.
fn judge(trace: &[u8], windows: usize, random: &mut Random, n: usize) {
    use support::batch::Depth;
    let Some(judge) =
        support::judge::Judge::all_for(support::judge::header_of(trace).expect("a header")).into_iter().next()
    else {
        return;
    };
    let scratch = support::Scratch::new("stress");
    let path = scratch.write("stress.trace", trace);
    let mut items = support::judge::window_items(&path, 6);
    assert_eq!(items.len(), windows);
    for i in 0..n.min(items.len()) {
        let other = i + random.below((items.len() - i) as u64) as usize;
        items.swap(i, other);
    }
    items.truncate(n);
    if trace.len() < 256 << 20 {
        items.push(support::batch::Item::file(&path));
    }
    let events = judge.accept_all(&items, Depth::Order);
    println!("Go {} accepts {} traces with {events} events", judge.toolchain().version, items.len());
}

#[test]
#[ignore = "about one run in a few still has a processor status that contradicts the one before: being hunted"]
fn no_trace_and_no_window_is_refused_under_stress() {
    let wanted: Option<u64> = std::env::var("EXECTRACE_STRESS").ok().map(|v| v.parse().expect("a number"));
    let long = wanted.is_some();
    let generations = wanted.unwrap_or(400);
    let limit = Duration::from_secs(if long { 600 } else { 2 });
    let windows = if long { 400 } else { 40 };
    let mut total = 0;
    for (i, (period, share)) in [
        (Duration::from_micros(50), 1),
        (Duration::from_micros(300), 1),
        (Duration::from_millis(3), 10),
        (Duration::from_millis(50), 200),
        (Duration::from_secs(1), 4000),
    ]
    .into_iter()
    .enumerate()
    {
        if std::env::var("STRESS_ONLY").is_ok_and(|v| v != i.to_string()) {
            continue;
        }
        let version = [Version::Go123, Version::Go126][i % 2];
        let generations = (generations / share).max(2);
        total += run(&Run { period, version, generations, limit, windows }, 1 + i as u64);
    }
    println!("{total} generations");
}
