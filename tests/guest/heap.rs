//! What `heap_exact` does, over whichever allocator.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use exectrace::Tracer;
use exectrace::heap::stats;

use super::{Flag, Memory, Random, check};

/// What `before_main` saw its own allocation change.
static SEEN_BEFORE_MAIN: AtomicU64 = AtomicU64::new(0);
const BEFORE_MAIN_BYTES: usize = 12_345;

/// Runs before `main`, when not even std is set up.
pub extern "C" fn before_main() {
    let before = stats();
    let layout = Layout::new::<[u8; BEFORE_MAIN_BYTES]>();
    // SAFETY: the layout is not empty; the block is never freed.
    assert!(!std::hint::black_box(unsafe { alloc(layout) }).is_null());
    let after = stats();
    SEEN_BEFORE_MAIN.store(after.live_bytes - before.live_bytes, Ordering::Relaxed);
}

pub fn all() {
    assert_eq!(SEEN_BEFORE_MAIN.load(Ordering::Relaxed), BEFORE_MAIN_BYTES as u64);
    assert!(stats().live_bytes >= BEFORE_MAIN_BYTES as u64);
    // What std and the tracer set up once.
    warm_up();
    exactly(0, 0, || drop(black_box(vec![1u8; 1000])));
    exactly(1000, 1, || std::mem::forget(black_box(vec![1u8; 1000])));
    exactly(0, 0, || (0..200).for_each(|_| thread::spawn(|| drop(black_box(vec![0u8; 70_000]))).join().expect("join")));
    exactly(0, 0, freed_elsewhere);
    exactly(500 * 333, 500, leaks_at_thread_end);
    for traced in [false, true] {
        blocks_from_hand_to_hand(traced, 7 + u64::from(traced));
    }
    starting_and_stopping_leaves_nothing();
    the_curve_is_true();
    println!("{:?}", stats());
}

fn warm_up() {
    for _ in 0..2 {
        Tracer::new().start(std::io::sink()).expect("start");
        thread::spawn(|| exectrace::log("warm", "up")).join().expect("join");
        exectrace::stop().expect("stop");
    }
}

/// Runs `f`, which has to leave that many bytes and blocks more.
#[track_caller]
fn exactly(bytes: i64, blocks: i64, f: impl Fn()) {
    // Once in vain: what std keeps for good.
    f();
    let before = stats();
    f();
    let after = stats();
    let got =
        (after.live_bytes as i64 - before.live_bytes as i64, after.live_blocks as i64 - before.live_blocks as i64);
    assert_eq!(got, (bytes, blocks));
    assert!(after.peak_bytes >= after.live_bytes);
}

/// One thread allocates, another frees.
fn freed_elsewhere() {
    let (to, from) = std::sync::mpsc::sync_channel::<Vec<u8>>(4);
    let t = thread::spawn(move || from.iter().map(|v| v.len()).sum::<usize>());
    (0..1000).for_each(|i| to.send(vec![0; 1000 + i]).expect("send"));
    drop(to);
    t.join().expect("join");
}

/// Each of 500 threads allocates in a destructor of a thread-local, and leaves 333 bytes.
fn leaks_at_thread_end() {
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            drop(black_box(vec![0u8; 5000]));
            std::mem::forget(black_box(vec![0u8; 333]));
        }
    }
    thread_local! { static LAST: Last = const { Last }; }
    for _ in 0..500 {
        thread::spawn(|| LAST.with(|_| ())).join().expect("join");
    }
}

/// All orders of size alike.
fn some_size(r: &mut Random) -> usize {
    let bits = 1 + r.below(16);
    1 + r.below(1 << bits) as usize
}

/// Threads allocate, resize and free blocks of all sizes and alignments that lie in a common place, while (if `traced`) traces begin
/// and end.
fn blocks_from_hand_to_hand(traced: bool, seed: u64) {
    const PLACES: usize = 256;
    const THREADS: u64 = 8;
    struct Block(*mut u8, Layout);
    // SAFETY: a block is memory with one owner.
    unsafe impl Send for Block {}
    let places: [Mutex<Option<Block>>; PLACES] = [const { Mutex::new(None) }; PLACES];
    let (bytes, blocks) = (AtomicI64::new(0), AtomicI64::new(0));
    let add = |by: i64, n: i64| {
        bytes.fetch_add(by, Ordering::Relaxed);
        blocks.fetch_add(n, Ordering::Relaxed);
    };
    let body = |mut r: Random| {
        for _ in 0..20_000 {
            let mut place = places[r.below(PLACES as u64) as usize].lock().expect("lock");
            match place.take() {
                None => {
                    let size = some_size(&mut r);
                    let layout = Layout::from_size_align(size, 1 << r.below(13)).expect("layout");
                    // SAFETY: the layout is not empty.
                    let at = unsafe { if r.chance(2) { alloc(layout) } else { alloc_zeroed(layout) } };
                    assert!(!at.is_null() && at.addr().is_multiple_of(layout.align()));
                    add(size as i64, 1);
                    *place = Some(Block(at, layout));
                }
                Some(Block(at, layout)) if r.chance(2) => {
                    let size = some_size(&mut r);
                    // SAFETY: the block has this layout, and the new size is neither 0 nor too large.
                    let at = unsafe { realloc(at, layout, size) };
                    assert!(!at.is_null());
                    add(size as i64 - layout.size() as i64, 0);
                    *place = Some(Block(at, Layout::from_size_align(size, layout.align()).expect("layout")));
                }
                Some(Block(at, layout)) => {
                    // SAFETY: the block has this layout and is not used again.
                    unsafe { dealloc(at, layout) };
                    add(-(layout.size() as i64), -1);
                }
            }
        }
    };
    // Once in vain: what std keeps for good.
    thread::scope(|s| {
        let threads: Vec<_> = (0..THREADS).map(|_| s.spawn(|| black_box(0))).collect();
        threads.into_iter().for_each(|t| _ = t.join().expect("join"));
    });
    let over = Flag::default();
    let before = stats();
    let (b, o) = (&body, &over);
    let traces = thread::scope(|s| {
        let tracing = traced.then(|| {
            s.spawn(move || {
                let mut traces = 0;
                // On a busy machine the others may be done before the first trace is.
                while !o.is_set() || traces < 3 {
                    let period = Duration::from_millis(1);
                    Tracer::new().generation_period(period).heap_quantum(4096).start(std::io::sink()).expect("start");
                    thread::sleep(Duration::from_millis(3));
                    exectrace::stop().expect("stop");
                    traces += 1;
                }
                traces
            })
        });
        let threads: Vec<_> = (0..THREADS).map(|i| s.spawn(move || b(Random(seed * 100 + i)))).collect();
        threads.into_iter().for_each(|t| t.join().expect("join"));
        over.set();
        tracing.map_or(0, |t| t.join().expect("join"))
    });
    assert!(!traced || traces > 2, "{traces} traces");
    let after = stats();
    let got =
        (after.live_bytes as i64 - before.live_bytes as i64, after.live_blocks as i64 - before.live_blocks as i64);
    assert_eq!(got, (bytes.load(Ordering::Relaxed), blocks.load(Ordering::Relaxed)), "traced: {traced}");
    for place in &places {
        if let Some(Block(at, layout)) = place.lock().expect("lock").take() {
            // SAFETY: as above.
            unsafe { dealloc(at, layout) };
        }
    }
    assert_eq!((stats().live_bytes, stats().live_blocks), (before.live_bytes, before.live_blocks), "traced: {traced}");
}

fn starting_and_stopping_leaves_nothing() {
    let once = || {
        Tracer::new().start(std::io::sink()).expect("start");
        exectrace::with_region("region", || exectrace::log!("category", "text {}", 1));
        exectrace::stop().expect("stop");
    };
    once();
    let before = stats();
    (0..50).for_each(|_| once());
    let after = stats();
    assert_eq!((after.live_bytes, after.live_blocks), (before.live_bytes, before.live_blocks));
    assert!(after.tracer_bytes < 16 << 10, "{} bytes are left to the tracer", after.tracer_bytes);
    assert!(after.tracer_bytes <= before.tracer_bytes + 64, "{before:?} then {after:?}");
}

/// At moments when nobody allocates, the trace's last figure is right to within the threads times the quantum.
fn the_curve_is_true() {
    const THREADS: usize = 4;
    const QUANTUM: usize = 16 << 10;
    const ROUNDS: usize = 60;
    // What was there before the trace has to be in it as well.
    let old = vec![1u8; 3 << 20];
    // What the sink holds is the program's, and allocated by a thread that records nothing: so not in between.
    let sink = Memory::with_capacity(32 << 20);
    Tracer::new().heap_quantum(QUANTUM).generation_period(Duration::from_millis(2)).start(sink.clone()).expect("start");
    let (begin, end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|s| {
        for i in 0..THREADS {
            let (begin, end) = (&begin, &end);
            s.spawn(move || {
                let mut r = Random(i as u64);
                let mut held: Vec<Vec<u8>> = Vec::new();
                for _ in 0..ROUNDS {
                    begin.wait();
                    for _ in 0..200 {
                        held.push(vec![0; r.below(3000) as usize]);
                        if held.len() > 500 {
                            let at = r.below(held.len() as u64) as usize;
                            held.swap_remove(at);
                        }
                    }
                    if r.chance(10) {
                        held.clear();
                    }
                    end.wait();
                }
            });
        }
        for _ in 0..ROUNDS {
            begin.wait();
            end.wait();
            exectrace::log!("heap", "{}", stats().live_bytes);
        }
    });
    exectrace::stop().expect("stop");
    drop(old);
    let trace = sink.bytes();
    let seen = check(&trace);
    assert!(seen.heap.len() > 500, "{} points", seen.heap.len());
    let mut reader = exectrace::read::Reader::new(&*trace).expect("a trace");
    let (mut curve, mut checked) = (None, 0);
    // Besides those threads: the main one, and the tracer's, on which the sink's code runs.
    let allowed = ((THREADS + 2) * QUANTUM) as i64;
    while let Some(ev) = reader.next_event().expect("a good trace") {
        if ev.wire == exectrace::format::Kind::HeapAlloc {
            curve = Some(ev.args[0] as i64);
        } else if let Some(log) = ev.log()
            && ev.string(log.category) == "heap"
        {
            let live: i64 = ev.string(log.message).parse().expect("a number");
            let curve: i64 = curve.expect("the curve begins with the trace");
            assert!((curve - live).abs() <= allowed, "the curve says {curve}, the counters {live}");
            checked += 1;
        }
    }
    assert_eq!(checked, ROUNDS);
}
