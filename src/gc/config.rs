//! What an embedder can set.

use super::pacer::{HEAP_BYTES_MIN_DEFAULT, Settings};
use std::time::Duration;

/// How the heap marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Mode {
    /// The program stands still while the whole heap is marked. The least work in sum.
    StopTheWorld,
    /// Allocations pay for marking in short steps, and writes pass a barrier meanwhile. Small heaps are still marked in
    /// one go, where that is within the pause target.
    #[default]
    Incremental,
    /// Incremental, and in between the young objects are collected by themselves, often and quickly: those that were
    /// allocated since the last collection, of any kind. It pays where most objects die young and old ones are not
    /// written to much, and switches itself off for a while where it does not pay.
    Generational,
}

/// More threads than this share a mark phase badly: what they exchange goes through one queue.
pub(super) const MARK_THREADS_MAX: usize = 16;
/// What is marked before others are called: some milliseconds of work, and a hundred times what it takes to wake them.
const MARK_ALONE_BYTES_DEFAULT: usize = 1 << 20;
/// Go's rate of heap profiles.
const SAMPLE_BYTES_DEFAULT: usize = 512 << 10;

/// The settings of a heap. Sizes are in bytes.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    pub(super) settings: Settings,
    pub(super) generational: bool,
    pub(super) max_pause: Duration,
    pub(super) heap_bytes_max: usize,
    pub(super) sample_bytes: usize,
    pub(super) stress: bool,
    pub(super) poison: bool,
    pub(super) mark_threads: usize,
    pub(super) mark_alone_bytes: usize,
}

impl Config {
    /// Incremental, `gc_percent` 100, a minimum heap of 4 MiB, a pause target of 500 us, a sample of every 512 KiB, no limits, one
    /// thread that marks.
    pub const fn new() -> Self {
        Config {
            settings: Settings {
                gc_percent: Some(100),
                heap_bytes_min: HEAP_BYTES_MIN_DEFAULT,
                memory_limit_bytes: usize::MAX,
                incremental: true,
            },
            generational: false,
            max_pause: Duration::from_micros(500),
            heap_bytes_max: usize::MAX,
            sample_bytes: SAMPLE_BYTES_DEFAULT,
            stress: false,
            poison: false,
            mark_threads: 1,
            mark_alone_bytes: MARK_ALONE_BYTES_DEFAULT,
        }
    }

    /// How the heap marks.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.settings.incremental = mode != Mode::StopTheWorld;
        self.generational = mode == Mode::Generational;
        self
    }

    /// By how much the heap may grow over what a cycle found alive, in percent, before the next cycle. As GOGC; `None`
    /// is its `off`.
    pub fn gc_percent(mut self, percent: Option<u32>) -> Self {
        self.settings.gc_percent = percent;
        self
    }

    /// No cycle begins before the heap has this size, unless the memory limit asks for one.
    pub fn heap_bytes_min(mut self, bytes: usize) -> Self {
        self.settings.heap_bytes_min = bytes;
        self
    }

    /// The soft limit for the memory that the heap has mapped and the embedder has reported: near to it cycles come
    /// more often, though never so often that they take more than about half of the time. As GOMEMLIMIT.
    pub fn memory_limit_bytes(mut self, bytes: usize) -> Self {
        self.settings.memory_limit_bytes = bytes;
        self
    }

    /// The hard limit for what the heap maps. An allocation that would pass it fails.
    pub fn heap_bytes_max(mut self, bytes: usize) -> Self {
        self.heap_bytes_max = bytes;
        self
    }

    /// The time that one step of marking should take at most. A heap that runs over its goal takes longer steps, and
    /// over one and a half times its goal finishes in one go.
    pub fn max_pause(mut self, time: Duration) -> Self {
        self.max_pause = time;
        self
    }

    /// How many threads mark while the program stands still, the heap's own among them: 1 to 16, and 1 by default.
    ///
    /// It makes stops shorter where one is long: in the stop-the-world mode, in [`Arena::collect`](super::Arena::collect), and
    /// where a cycle in steps has to be finished in one go. Steps themselves, and whatever is less than a MiB, the heap's thread
    /// marks alone. The other threads are made when they are first needed, live as long as the heap, and sleep between
    /// times; where one cannot be made, the rest do its work.
    ///
    /// Those threads call [`Collect::visit`](super::Collect::visit), and see values that are not `Sync`. That is sound because
    /// nobody writes to them meanwhile: the heap's thread stands still or marks as well, what it alone can reach has no other
    /// writer, and `visit` only reads, as its contract says. So this needs no `unsafe` and no bound on types.
    pub fn mark_threads(mut self, threads: usize) -> Self {
        self.mark_threads = threads.clamp(1, MARK_THREADS_MAX);
        self
    }

    /// For tests: so much is marked by the heap's own thread before others are called.
    #[doc(hidden)]
    pub fn mark_alone_bytes(mut self, bytes: usize) -> Self {
        self.mark_alone_bytes = bytes;
        self
    }

    /// Of about every so many bytes that are allocated, one allocation is told to the observer
    /// ([`Observer::sampled`](super::Observer::sampled)), at random distances with this mean; 0 for none.
    pub fn sample_bytes(mut self, bytes: usize) -> Self {
        self.sample_bytes = bytes;
        self
    }

    /// For tests: every safepoint collects, and checks the whole heap.
    pub fn stress(mut self, on: bool) -> Self {
        self.stress = on;
        self
    }

    /// For tests: free memory is overwritten, so that a use of it shows.
    pub fn poison(mut self, on: bool) -> Self {
        self.poison = on;
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
