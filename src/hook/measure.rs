//! What a piece of the program allocates: for its tests.
//!
//! The counters behind it are each thread's own and are always kept, so tests that run beside do not disturb, and no trace is needed. The
//! program's global allocator has to be [`Alloc`](crate::Alloc).

use core::sync::atomic::Ordering;

use super::heap;
use crate::record::thread::{self, Thread};
use crate::record::{allocations, gauges};

/// What was allocated and freed during a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// Blocks allocated.
    pub allocs: u64,
    /// Blocks freed.
    pub frees: u64,
    /// Blocks given another size, in place or not.
    pub reallocs: u64,
    /// Bytes allocated. A reallocation counts what the block grew by.
    pub allocated_bytes: u64,
    /// Bytes freed, likewise.
    pub freed_bytes: u64,
    /// The most by which the heap was larger than at the beginning, in bytes.
    pub peak_bytes: u64,
}

impl Measured {
    /// Bytes allocated and not freed; negative if more was freed than allocated.
    #[must_use]
    pub fn kept_bytes(&self) -> i64 {
        self.allocated_bytes.wrapping_sub(self.freed_bytes) as i64
    }

    /// Blocks allocated and not freed; negative if more were freed than allocated.
    #[must_use]
    pub fn kept_blocks(&self) -> i64 {
        self.allocs.wrapping_sub(self.frees) as i64
    }

    fn since(self, before: Measured) -> Measured {
        Measured {
            allocs: self.allocs.wrapping_sub(before.allocs),
            frees: self.frees.wrapping_sub(before.frees),
            reallocs: self.reallocs.wrapping_sub(before.reallocs),
            allocated_bytes: self.allocated_bytes.wrapping_sub(before.allocated_bytes),
            freed_bytes: self.freed_bytes.wrapping_sub(before.freed_bytes),
            peak_bytes: 0,
        }
    }
}

/// Calls `f` and measures what the calling thread allocates and frees meanwhile, to the byte. What other threads do, also those
/// that `f` starts, is not in it.
///
/// ```
/// #[global_allocator]
/// static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
///
/// let (text, m) = exectrace::heap::measure(|| {
///     drop(vec![0u8; 1000]);
///     String::from("kept")
/// });
/// assert_eq!((m.allocs, m.frees, m.peak_bytes), (2, 1, 1000));
/// assert_eq!((m.kept_blocks(), m.kept_bytes()), (1, 4));
/// # drop(text);
/// ```
///
/// # Panics
/// If [`Alloc`](crate::Alloc) is not the program's global allocator: then nothing could be counted. And if `f` panics.
pub fn measure<R>(f: impl FnOnce() -> R) -> (R, Measured) {
    assert_counted();
    let Some(t) = thread::current_or_attach() else { return (f(), Measured::default()) };
    let before = of_thread(t);
    let watch = Watch::begin(t);
    let result = f();
    let peak = watch.peak();
    let measured = of_thread(t).since(before);
    (result, Measured { peak_bytes: peak, ..measured })
}

/// As [`measure`], for all threads of the process: also for what runs beside, such as other tests. The peak is true to within 64 KiB a
/// thread, or the [quantum](crate::Tracer::heap_quantum) of the trace that is on.
///
/// # Panics
/// As [`measure`].
pub fn measure_process<R>(f: impl FnOnce() -> R) -> (R, Measured) {
    assert_counted();
    let before = of_process();
    let live = heap::stats().live_bytes;
    let watch = gauges::watch_native();
    let result = f();
    let peak = (watch.peak().max(0) as u64).max(heap::stats().live_bytes).saturating_sub(live);
    let measured = of_process().since(before);
    (result, Measured { peak_bytes: peak, ..measured })
}

/// Calls `f` and counts the calling thread's allocations meanwhile: blocks made, and blocks given another size.
///
/// ```
/// # #[global_allocator]
/// # static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
/// let mut buffer = Vec::with_capacity(10);
/// assert_eq!(exectrace::heap::count_allocations(|| buffer.extend([1, 2, 3])), 0);
/// assert_eq!(exectrace::heap::count_allocations(|| buffer.extend([0; 100])), 1);
/// ```
///
/// # Panics
/// As [`measure`].
pub fn count_allocations(f: impl FnOnce()) -> u64 {
    let ((), m) = measure(f);
    m.allocs + m.reallocs
}

/// Panics if the process's allocator is not ours.
#[track_caller]
fn assert_counted() {
    let before = heap::stats().allocs_total;
    drop(std::hint::black_box(Box::new(0u8)));
    assert!(
        heap::stats().allocs_total != before,
        "nothing can be measured: exectrace::Alloc is not the global allocator"
    );
}

fn of_thread(t: &Thread) -> Measured {
    let h = &t.heap;
    Measured {
        allocs: h.allocs.load(Ordering::Relaxed),
        frees: h.frees.load(Ordering::Relaxed),
        reallocs: h.reallocs.load(Ordering::Relaxed),
        allocated_bytes: h.allocated_bytes.load(Ordering::Relaxed),
        freed_bytes: h.freed_bytes.load(Ordering::Relaxed),
        peak_bytes: 0,
    }
}

fn of_process() -> Measured {
    let s = heap::stats();
    let program = thread::all().filter(|t| !t.internal.load(Ordering::Relaxed));
    Measured {
        allocs: s.allocs_total,
        frees: s.frees_total,
        reallocs: program.map(|t| t.heap.reallocs.load(Ordering::Relaxed)).sum(),
        allocated_bytes: s.allocated_bytes_total,
        freed_bytes: s.allocated_bytes_total.wrapping_sub(s.live_bytes),
        peak_bytes: 0,
    }
}

/// Watches the largest size of a thread's part of the heap. Those inside each other see each their own.
struct Watch<'t> {
    thread: &'t Thread,
    begin: i64,
    /// The largest size of the watch around this one, if there is one.
    outer: Option<i64>,
}

impl<'t> Watch<'t> {
    fn begin(thread: &'t Thread) -> Watch<'t> {
        let h = &thread.heap;
        let begin = h.net();
        let outer = h.is_watched.load(Ordering::Relaxed).then(|| h.watched.load(Ordering::Relaxed));
        h.watched.store(begin, Ordering::Relaxed);
        h.is_watched.store(true, Ordering::Relaxed);
        allocations::arm(thread);
        Watch { thread, begin, outer }
    }

    /// By how much it was larger than at the beginning.
    fn peak(&self) -> u64 {
        (self.thread.heap.watched.load(Ordering::Relaxed) - self.begin).max(0) as u64
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let h = &self.thread.heap;
        match self.outer {
            Some(outer) => h.watched.store(outer.max(h.watched.load(Ordering::Relaxed)), Ordering::Relaxed),
            None => h.is_watched.store(false, Ordering::Relaxed),
        }
        allocations::arm(self.thread);
    }
}

/// Fails if a piece of the program keeps memory: `assert_no_leak!({ ... })`, of the calling thread, or `assert_no_leak!(process: {
/// ... })`, of all threads. The value of the block is the macro's; it must not own memory.
///
/// ```
/// # #[global_allocator]
/// # static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
/// let sum: u64 = exectrace::assert_no_leak!({
///     let numbers: Vec<u64> = (0..1000).collect();
///     numbers.iter().sum()
/// });
/// assert_eq!(sum, 499_500);
/// ```
#[macro_export]
macro_rules! assert_no_leak {
    (process: $body:expr) => {
        $crate::assert_no_leak!(@ $crate::heap::measure_process(|| $body))
    };
    (@ $measured:expr) => {{
        let (result, measured) = $measured;
        let (bytes, blocks) = (measured.kept_bytes(), measured.kept_blocks());
        ::core::assert!(bytes <= 0 && blocks <= 0, "leaked {bytes} bytes in {blocks} blocks");
        result
    }};
    ($body:expr) => {
        $crate::assert_no_leak!(@ $crate::heap::measure(|| $body))
    };
}

/// Fails if a piece of the program needs more memory at any moment than so many bytes, beyond what was there before:
/// `assert_max_heap!(1 << 20, { ... })`, of the calling thread, or `assert_max_heap!(process: 1 << 20, { ... })`, of all threads (true to
/// within 64 KiB a thread).
///
/// ```
/// # #[global_allocator]
/// # static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
/// exectrace::assert_max_heap!(2_000, {
///     drop(vec![0u8; 1_500]);
///     drop(vec![0u8; 1_500]);
/// });
/// ```
#[macro_export]
macro_rules! assert_max_heap {
    (process: $bytes:expr, $body:expr) => {
        $crate::assert_max_heap!(@ $bytes, $crate::heap::measure_process(|| $body))
    };
    (@ $bytes:expr, $measured:expr) => {{
        let (result, measured) = $measured;
        let (most, limit): (u64, u64) = (measured.peak_bytes, $bytes);
        ::core::assert!(most <= limit, "the heap grew by {most} bytes: at most {limit} are allowed");
        result
    }};
    ($bytes:expr, $body:expr) => {
        $crate::assert_max_heap!(@ $bytes, $crate::heap::measure(|| $body))
    };
}
