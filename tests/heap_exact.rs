//! The native heap's figures are exact: a twin allocator inside ours counts every call with shared atomics, and at each moment of rest
//! both must say the same, whatever the threads did.
//!
//! Without the test harness, whose threads would allocate beside.

use std::alloc::{GlobalAlloc, Layout, System, alloc, alloc_zeroed, dealloc, realloc};
use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// The slow, obvious twin. It cannot tell the program's allocations from the tracer's, so it knows their sum.
struct Twin;

static BYTES: AtomicI64 = AtomicI64::new(0);
static ALLOCS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator.
unsafe impl GlobalAlloc for Twin {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        FREES.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        BYTES.fetch_add(new_size as i64 - layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, new_size) }
    }
}

#[global_allocator]
static ALLOC: exectrace::Alloc<Twin> = exectrace::Alloc::with(Twin);
exectrace::interpose!();

/// Runs before `main`, as constructors of C++ do.
extern "C" fn early() {
    std::mem::forget(std::hint::black_box(vec![1u8; 12_345]));
}
#[used]
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = early;

/// At a moment of rest.
#[track_caller]
fn compare(when: &str) {
    let ours = exectrace::heap::stats();
    let twin = (BYTES.load(Ordering::Relaxed), ALLOCS.load(Ordering::Relaxed), FREES.load(Ordering::Relaxed));
    assert_eq!((ours.live_bytes + ours.tracer_bytes) as i64, twin.0, "{when}: bytes, {ours:?}");
    if ours.tracer_bytes == 0 {
        assert_eq!((ours.allocs_total, ours.frees_total), (twin.1, twin.2), "{when}: blocks, {ours:?}");
    }
}

/// Allocates in its destructor, when thread-locals go.
struct Late(Vec<u8>);

impl Drop for Late {
    fn drop(&mut self) {
        let more = vec![self.0[0]; 3_000];
        drop(more);
    }
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

fn churn(seed: u64, rounds: u64) {
    let mut x = seed | 1;
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..rounds {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        match x % 4 {
            0 => held.push(Vec::with_capacity((x >> 8) as usize % 5_000 + 1)),
            1 => held.push(vec![0; (x >> 8) as usize % 200_000 + 1]),
            2 if !held.is_empty() => {
                let i = (x >> 8) as usize % held.len();
                held[i].extend_from_slice(&[7; 300]);
                held[i].shrink_to_fit();
            }
            _ => drop(held.pop()),
        }
    }
}

fn by_hand() {
    for align in [1, 8, 64, 4096, 1 << 16] {
        let layout = Layout::from_size_align(777, align).expect("layout");
        // SAFETY: each block is resized and freed with the layout that it has.
        unsafe {
            let (a, z) = (alloc(layout), alloc_zeroed(layout));
            compare("over-aligned blocks");
            let a = realloc(a, layout, 99_999);
            compare("a block that has grown");
            let a = realloc(a, Layout::from_size_align_unchecked(99_999, align), 3);
            compare("a block that has shrunk");
            dealloc(a, Layout::from_size_align_unchecked(3, align));
            dealloc(z, layout);
        }
    }
}

fn freed_elsewhere() {
    let (tx, rx) = mpsc::channel::<Vec<u8>>();
    let freeing = thread::spawn(move || rx.into_iter().map(|v| v.len() as u64).sum::<u64>());
    let makers: Vec<_> = (0..3)
        .map(|i| {
            let tx = tx.clone();
            thread::spawn(move || (0..500).for_each(|k| tx.send(vec![i; k * 10 + 1]).expect("send")))
        })
        .collect();
    drop(tx);
    makers.into_iter().for_each(|t| t.join().expect("join"));
    assert!(freeing.join().expect("join") > 0);
}

fn threads() {
    let all: Vec<_> = (0..8)
        .map(|i| {
            thread::spawn(move || {
                LATE.with(|l| *l.borrow_mut() = Some(Late(vec![i; 100])));
                churn(u64::from(i) + 1, 2_000);
            })
        })
        .collect();
    all.into_iter().for_each(|t| t.join().expect("join"));
    for i in 0..300 {
        thread::spawn(move || drop(vec![0u8; i])).join().expect("join");
    }
}

fn main() {
    assert!(exectrace::heap::stats().live_bytes >= 12_345, "what was allocated before main");
    compare("before anything");
    by_hand();
    freed_elsewhere();
    compare("after threads that freed what others allocated");
    threads();
    compare("after threads and their destructors");
    for round in 0..5 {
        exectrace::Tracer::new().start(std::io::sink()).expect("start");
        compare("while a trace is on");
        by_hand();
        freed_elsewhere();
        threads();
        churn(round + 1, 5_000);
        exectrace::flush();
        let before = exectrace::heap::stats();
        exectrace::stop().expect("stop");
        compare("after a trace");
        let after = exectrace::heap::stats();
        assert_eq!(after.live_bytes, before.live_bytes, "stop has changed the program's heap");
        assert!(after.tracer_bytes < 64 << 10, "the tracer has kept {} bytes", after.tracer_bytes);
    }
    println!("heap_exact: ok");
}
