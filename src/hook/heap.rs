//! The native heap: what the global allocator has handed out.
//!
//! Each thread counts its own allocations and frees, traced or not, so that the totals are exact. When a thread's net allocation
//! has moved by the quantum, it adds the difference to the process-wide figure and, while a trace is on, writes `HeapAlloc`.

use core::sync::atomic::{AtomicU64, Ordering};

use exectrace_alloc_shim::Observer;

use crate::format::{Kind, spans};
use crate::record::gauges::{self, Series};
use crate::record::thread::{self, Entered, HeapCounters, bump};
use crate::record::{RECORD_HEAP, records};
use crate::record::{allocations, sampled};

pub use super::measure::{Measured, count_allocations, measure, measure_process};

/// Counters of what happens on threads that are not known: after their end, or beyond the registry's bound.
static ORPHANS: Orphans = Orphans {
    allocated_bytes: AtomicU64::new(0),
    freed_bytes: AtomicU64::new(0),
    allocs: AtomicU64::new(0),
    frees: AtomicU64::new(0),
};

struct Orphans {
    allocated_bytes: AtomicU64,
    freed_bytes: AtomicU64,
    allocs: AtomicU64,
    frees: AtomicU64,
}

/// The observer that the global allocator [`Alloc`](crate::Alloc) tells.
#[derive(Debug)]
pub enum HeapObserver {}

impl Observer for HeapObserver {
    #[inline(always)]
    fn allocated(at: *mut u8, size: usize, align: usize) {
        let Some(t) = thread::current_or_attach() else { return orphan_allocated(size as u64, 1) };
        bump(&t.heap.allocs, 1);
        if bump(&t.heap.allocated_bytes, size as u64) >= t.heap.attend_allocated.load(Ordering::Relaxed) {
            attend_allocated(t, at.addr(), size, align);
        }
    }

    #[inline(always)]
    fn freeing(at: *mut u8, size: usize, _align: usize) {
        let Some(t) = thread::current_or_attach() else { return orphan_freed(size as u64, 1) };
        bump(&t.heap.frees, 1);
        let freed = bump(&t.heap.freed_bytes, size as u64);
        if freed >= t.heap.attend_freed.load(Ordering::Relaxed)
            && (freed >= t.heap.attend_freed_unsampled.load(Ordering::Relaxed) || sampled::may_have(at.addr() as u64))
        {
            attend_freeing(t, at.addr());
        }
    }

    #[inline(always)]
    fn resized(old: *mut u8, old_size: usize, new: *mut u8, new_size: usize, align: usize) {
        let (more, less) = (new_size.saturating_sub(old_size) as u64, old_size.saturating_sub(new_size) as u64);
        let Some(t) = thread::current_or_attach() else {
            return if more > 0 { orphan_allocated(more, 0) } else { orphan_freed(less, 0) };
        };
        bump(&t.heap.reallocs, 1);
        let allocated = bump(&t.heap.allocated_bytes, more);
        let freed = bump(&t.heap.freed_bytes, less);
        // In a sample each one: it is a free and an allocation, and what is allocated is not what is counted.
        if allocated >= t.heap.attend_allocated.load(Ordering::Relaxed)
            || freed >= t.heap.attend_freed.load(Ordering::Relaxed)
        {
            attend_resized(t, (old.addr(), old_size), (new.addr(), new_size), align);
        }
    }

    #[inline(always)]
    fn failed(size: usize, _align: usize) {
        no_memory(size);
    }
}

/// Somebody did not get what he asked for: a message in the trace, and a reason to look.
#[cold]
#[inline(never)]
fn no_memory(size: usize) {
    if crate::hook::on() {
        super::user::log_fmt(None, spans::ALLOCATION_FAILURE, format_args!("{size} bytes"));
    }
    crate::record::flight::allocation_failed();
}

/// Each counter is changed by one load, add and store, and no operation waits for another's: the price of an allocation and its free
/// is about a nanosecond. One comparison finds what is worth a closer look: that the curve has moved, or that allocations are recorded.
#[inline(never)]
fn attend_allocated(t: &'static thread::Thread, at: usize, size: usize, align: usize) {
    if curve(t) {
        allocations::allocated(t, at, size, align);
    }
}

#[inline(never)]
fn attend_freeing(t: &'static thread::Thread, at: usize) {
    if curve(t) {
        allocations::freeing(t, at);
    }
}

#[inline(never)]
fn attend_resized(t: &'static thread::Thread, old: (usize, usize), new: (usize, usize), align: usize) {
    if curve(t) {
        allocations::resized(t, old, new, align);
    }
}

/// Publishes the thread's net allocation if it has moved far enough. False on the tracer's own threads, which nothing is recorded of.
///
/// The thresholds are of what was allocated and freed, so that neither has to know of the other, and so an allocation may come here
/// before the difference of the two has moved by the quantum. If little is missing it counts as moved: else those that come and go just
/// below the threshold would come here again and again.
#[inline(always)]
fn curve(t: &'static thread::Thread) -> bool {
    let h = &t.heap;
    let net = h.net();
    allocations::watch(t, net);
    let (above, below) = (h.publish_above.load(Ordering::Relaxed), h.publish_below.load(Ordering::Relaxed));
    if net > above || net < below {
        publish(t);
    } else if !allocations::is_armed_for_all(t) {
        let near = (above.saturating_sub(below) / 8).max(1);
        if above.saturating_sub(net) < near || net.saturating_sub(below) < near {
            publish(t);
        } else {
            allocations::arm(t);
        }
    }
    !t.internal.load(Ordering::Relaxed)
}

#[cold]
#[inline(never)]
fn orphan_allocated(bytes: u64, blocks: u64) {
    ORPHANS.allocated_bytes.fetch_add(bytes, Ordering::Relaxed);
    ORPHANS.allocs.fetch_add(blocks, Ordering::Relaxed);
    allocations::elsewhere();
    gauges::add_native(bytes as i64);
}

#[cold]
#[inline(never)]
fn orphan_freed(bytes: u64, blocks: u64) {
    ORPHANS.freed_bytes.fetch_add(bytes, Ordering::Relaxed);
    ORPHANS.frees.fetch_add(blocks, Ordering::Relaxed);
    allocations::elsewhere();
    gauges::add_native(-(bytes as i64));
}

/// Adds what the thread's net allocation has moved by to the process-wide figure, and writes that.
#[cold]
#[inline(never)]
fn publish(t: &'static thread::Thread) {
    let h = &t.heap;
    if t.internal.load(Ordering::Relaxed) {
        h.publish_above.store(i64::MAX, Ordering::Relaxed);
        h.publish_below.store(i64::MIN, Ordering::Relaxed);
        for never in [&h.attend_allocated, &h.attend_freed, &h.attend_freed_unsampled] {
            never.store(u64::MAX, Ordering::Relaxed);
        }
        return;
    }
    #[cfg(feature = "mimalloc")]
    crate::record::memory::set_committed(|| exectrace_alloc_shim::mimalloc_committed() as u64);
    let live = allocations::publish(t);
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
        allocated: ORPHANS.allocated_bytes.load(Ordering::Relaxed),
        freed: ORPHANS.freed_bytes.load(Ordering::Relaxed),
        allocs: ORPHANS.allocs.load(Ordering::Relaxed),
        frees: ORPHANS.frees.load(Ordering::Relaxed),
    };
    let mut tracer = Sum::default();
    for t in thread::all() {
        let sum = if t.internal.load(Ordering::Relaxed) { &mut tracer } else { &mut program };
        sum.add(&t.heap);
    }
    let live = program.live();
    HeapStats {
        live_bytes: live,
        live_blocks: program.allocs.wrapping_sub(program.frees),
        allocated_bytes_total: program.allocated,
        allocs_total: program.allocs,
        frees_total: program.frees,
        peak_bytes: (gauges::native_peak().max(0) as u64).max(live),
        tracer_bytes: tracer.live(),
    }
}

#[derive(Default)]
struct Sum {
    allocated: u64,
    freed: u64,
    allocs: u64,
    frees: u64,
}

impl Sum {
    /// Counters that are read while they change may cross; the sum is then 0 rather than less.
    fn live(&self) -> u64 {
        self.allocated.saturating_sub(self.freed)
    }

    fn add(&mut self, h: &HeapCounters) {
        self.allocated += h.allocated_bytes.load(Ordering::Relaxed);
        self.freed += h.freed_bytes.load(Ordering::Relaxed);
        self.allocs += h.allocs.load(Ordering::Relaxed);
        self.frees += h.frees.load(Ordering::Relaxed);
    }
}
