//! The native heap: what the global allocator has handed out.
//!
//! Each thread counts its own allocations and frees, traced or not, so that the totals are exact. When a thread's net allocation
//! has moved by the quantum, it adds the difference to the process-wide figure and, while a trace is on, writes `HeapAlloc`.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use exectrace_alloc_shim::Observer;

use crate::format::Kind;
use crate::record::gauges::{self, Series};
use crate::record::thread::{self, Entered, HeapCounters, bump};
use crate::record::{QUANTUM, RECORD_HEAP, records};

/// Counters of what happens on threads that are not known: after their end, or beyond the registry's bound.
static ORPHANS: Orphans = Orphans {
    net_bytes: AtomicI64::new(0),
    total_bytes: AtomicU64::new(0),
    allocs: AtomicU64::new(0),
    frees: AtomicU64::new(0),
};

struct Orphans {
    net_bytes: AtomicI64,
    total_bytes: AtomicU64,
    allocs: AtomicU64,
    frees: AtomicU64,
}

/// The observer that the global allocator [`Alloc`](crate::Alloc) tells.
#[derive(Debug)]
pub enum HeapObserver {}

impl Observer for HeapObserver {
    #[inline(always)]
    fn allocated(_at: *mut u8, size: usize, _align: usize) {
        let Some(t) = thread::current_or_attach() else {
            ORPHANS.allocs.fetch_add(1, Ordering::Relaxed);
            return orphan(size as i64, size as u64);
        };
        bump(&t.heap.allocs, 1);
        bump(&t.heap.total_bytes, size as u64);
        moved(t, size as i64);
    }

    #[inline(always)]
    fn freeing(_at: *mut u8, size: usize, _align: usize) {
        let Some(t) = thread::current_or_attach() else {
            ORPHANS.frees.fetch_add(1, Ordering::Relaxed);
            return orphan(-(size as i64), 0);
        };
        bump(&t.heap.frees, 1);
        moved(t, -(size as i64));
    }

    #[inline(always)]
    fn resized(_old: *mut u8, old_size: usize, _new: *mut u8, new_size: usize, _align: usize) {
        let by = new_size as i64 - old_size as i64;
        let Some(t) = thread::current_or_attach() else { return orphan(by, by.max(0) as u64) };
        bump(&t.heap.total_bytes, by.max(0) as u64);
        moved(t, by);
    }
}

#[cold]
#[inline(never)]
fn orphan(net: i64, allocated: u64) {
    ORPHANS.net_bytes.fetch_add(net, Ordering::Relaxed);
    ORPHANS.total_bytes.fetch_add(allocated, Ordering::Relaxed);
    gauges::add_native(net);
}

/// Adds to the thread's net allocation, and publishes it when it has moved by the quantum.
#[inline(always)]
fn moved(t: &'static thread::Thread, by: i64) {
    let h = &t.heap;
    let net = h.net_bytes.load(Ordering::Relaxed).wrapping_add(by);
    h.net_bytes.store(net, Ordering::Relaxed);
    let unpublished = net.wrapping_sub(h.published_bytes.load(Ordering::Relaxed));
    if unpublished.unsigned_abs() >= QUANTUM.load(Ordering::Relaxed) {
        publish(t, net, unpublished);
    }
}

#[cold]
#[inline(never)]
fn publish(t: &'static thread::Thread, net: i64, unpublished: i64) {
    t.heap.published_bytes.store(net, Ordering::Relaxed);
    if t.internal.load(Ordering::Relaxed) {
        return;
    }
    let live = gauges::add_native(unpublished);
    if !records(RECORD_HEAP) {
        return;
    }
    // An allocation inside a hook shows with the next one outside: nothing is lost, so nothing is counted.
    let Some(entered) = Entered::quietly_on(t) else { return };
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    if !s.ensure_running(now) {
        return;
    }
    s.emit(Kind::HeapAlloc, now, [gauges::heap()]);
    if gauges::has_gc() {
        gauges::note(s.generation, Series::NATIVE, now, live.max(0) as u64);
        if let Some(goal) = gauges::goal() {
            s.emit(Kind::HeapGoal, now, [goal]);
        }
    }
}

/// The native heap as counted by the global allocator.
///
/// Exact at a moment when no thread allocates; otherwise each thread's part is exact at a moment of its own during the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Bytes allocated and not yet freed, as requested (not as rounded up by the allocator).
    pub live_bytes: u64,
    /// Blocks allocated and not yet freed.
    pub live_blocks: u64,
    /// Bytes ever allocated. A reallocation counts what it grew by.
    pub allocated_bytes_total: u64,
    /// Blocks ever allocated.
    pub allocs_total: u64,
    /// Blocks ever freed.
    pub frees_total: u64,
    /// The largest live size seen, in bytes: to within the number of threads times the heap quantum.
    pub peak_bytes: u64,
    /// Bytes that the tracer itself has allocated through the global allocator and not yet freed. No part of the others.
    pub tracer_bytes: u64,
}

/// Counts the native heap. All zero unless [`Alloc`](crate::Alloc) is the program's global allocator.
///
/// ```
/// #[global_allocator]
/// static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
///
/// let before = exectrace::heap::stats();
/// let v = vec![1u8; 4096];
/// let after = exectrace::heap::stats();
/// assert_eq!(after.live_bytes, before.live_bytes + 4096);
/// assert_eq!(after.live_blocks, before.live_blocks + 1);
/// # drop(v);
/// ```
#[must_use]
pub fn stats() -> HeapStats {
    let mut program = Sum {
        net: ORPHANS.net_bytes.load(Ordering::Relaxed),
        total: ORPHANS.total_bytes.load(Ordering::Relaxed),
        allocs: ORPHANS.allocs.load(Ordering::Relaxed),
        frees: ORPHANS.frees.load(Ordering::Relaxed),
    };
    let mut tracer = Sum::default();
    for t in thread::all() {
        let sum = if t.internal.load(Ordering::Relaxed) { &mut tracer } else { &mut program };
        sum.add(&t.heap);
    }
    let live = program.net.max(0) as u64;
    HeapStats {
        live_bytes: live,
        live_blocks: program.allocs.wrapping_sub(program.frees),
        allocated_bytes_total: program.total,
        allocs_total: program.allocs,
        frees_total: program.frees,
        peak_bytes: (gauges::native_peak().max(0) as u64).max(live),
        tracer_bytes: tracer.net.max(0) as u64,
    }
}

#[derive(Default)]
struct Sum {
    net: i64,
    total: u64,
    allocs: u64,
    frees: u64,
}

impl Sum {
    fn add(&mut self, h: &HeapCounters) {
        self.net += h.net_bytes.load(Ordering::Relaxed);
        self.total += h.total_bytes.load(Ordering::Relaxed);
        self.allocs += h.allocs.load(Ordering::Relaxed);
        self.frees += h.frees.load(Ordering::Relaxed);
    }
}
