//! The figures of the heap as they are now, for the events that show them.
//!
//! The format has one heap and one goal. Here the heap is what the program holds: the live bytes of the native heap plus
//! those of its GC heaps. The goal is the limit that matters to it: where the next collection is due, if there is a GC heap,
//! on the same scale (native bytes included); else the memory limit. The parts are kept apart as private series.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::ring::Ring;

/// Live native bytes as far as threads have published them. Changed by each publication.
static NATIVE: AtomicI64 = AtomicI64::new(0);
/// The largest `NATIVE` so far.
static NATIVE_PEAK: AtomicI64 = AtomicI64::new(0);
/// The largest `NATIVE` since the first of the watches under way began, and how many there are.
static WATCHED_PEAK: AtomicI64 = AtomicI64::new(0);
static WATCHES: AtomicU64 = AtomicU64::new(0);
/// Live bytes of all GC heaps together.
static GC_LIVE: AtomicI64 = AtomicI64::new(0);
/// Goals of all GC heaps together; 0 while there is none.
static GC_GOAL: AtomicI64 = AtomicI64::new(0);
/// The memory limit in bytes, 0 for none. Written at start.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// Points of private series on their way to the closer: generation and series, time, value.
static POINTS: Ring<8192, 3> = Ring::new();

/// The number of a private series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series(pub(crate) u32);

impl Series {
    pub(crate) const NATIVE: Series = Series(0);

    /// Live bytes of GC heap number `heap` (from 1).
    pub(crate) const fn gc_live(heap: u32) -> Series {
        Series(heap * 2)
    }

    /// Its goal.
    pub(crate) const fn gc_goal(heap: u32) -> Series {
        Series(heap * 2 + 1)
    }
}

/// Adds to the native heap's published size; returns the size.
pub(crate) fn add_native(bytes: i64) -> i64 {
    let now = NATIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if now > NATIVE_PEAK.load(Ordering::Relaxed) {
        NATIVE_PEAK.fetch_max(now, Ordering::Relaxed);
    }
    if now > WATCHED_PEAK.load(Ordering::Relaxed) {
        WATCHED_PEAK.fetch_max(now, Ordering::Relaxed);
    }
    now
}

/// While it lives, the largest published size of the native heap is watched.
#[derive(Debug)]
pub(crate) struct NativeWatch(());

/// Begins to watch. With another watch under way the largest size is that since the first of them began.
pub(crate) fn watch_native() -> NativeWatch {
    if WATCHES.fetch_add(1, Ordering::Relaxed) == 0 {
        WATCHED_PEAK.store(NATIVE.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    NativeWatch(())
}

impl NativeWatch {
    pub(crate) fn peak(&self) -> i64 {
        WATCHED_PEAK.load(Ordering::Relaxed)
    }
}

impl Drop for NativeWatch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The largest published size of the native heap so far, in bytes.
pub(crate) fn native_peak() -> i64 {
    NATIVE_PEAK.load(Ordering::Relaxed)
}

/// Changes what GC heaps hold and aim at.
pub(crate) fn add_gc(live: i64, goal: i64) {
    GC_LIVE.fetch_add(live, Ordering::Relaxed);
    GC_GOAL.fetch_add(goal, Ordering::Relaxed);
}

pub(crate) fn set_limit(bytes: u64) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// Whether there is a GC heap, so that the parts are told apart.
pub(crate) fn has_gc() -> bool {
    GC_GOAL.load(Ordering::Relaxed) != 0
}

/// The native heap's published size.
pub(crate) fn native() -> u64 {
    NATIVE.load(Ordering::Relaxed).max(0) as u64
}

/// Live bytes of all GC heaps.
pub(crate) fn gc_live() -> u64 {
    GC_LIVE.load(Ordering::Relaxed).max(0) as u64
}

/// What the program holds, in bytes.
pub(crate) fn heap() -> u64 {
    (NATIVE.load(Ordering::Relaxed) + GC_LIVE.load(Ordering::Relaxed)).max(0) as u64
}

/// The limit that matters, in bytes; `None` if there is none.
pub(crate) fn goal() -> Option<u64> {
    let goal = GC_GOAL.load(Ordering::Relaxed);
    if goal > 0 {
        return Some((NATIVE.load(Ordering::Relaxed) + goal).max(0) as u64);
    }
    match LIMIT.load(Ordering::Relaxed) {
        0 => None,
        limit => Some(limit),
    }
}

/// Notes a point of a series. Call inside a section. A point that finds no room is dropped: the next one tells the value.
pub(crate) fn note(generation: u32, series: Series, at_ns: u64, value: u64) {
    POINTS.push([u64::from(generation) << 32 | u64::from(series.0), at_ns, value]);
}

/// Forgets all points: in the child of a `fork`, by its only thread.
pub(crate) fn forget() {
    POINTS.reset();
}

/// Tells of each point of `generation`, forgets older ones. The closer's, when the generation has quiesced.
pub(crate) fn drain(generation: u32, mut each: impl FnMut(Series, u64, u64)) {
    let of = |r: &[u64; 3]| (r[0] >> 32) as u32;
    while let Some(r) = POINTS.pop_if(|r| of(r) <= generation) {
        if of(&r) == generation {
            each(Series(r[0] as u32), r[1], r[2]);
        }
    }
}
