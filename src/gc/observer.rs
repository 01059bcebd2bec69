//! What a heap tells of itself while it works: the one place where events leave the collector.
//!
//! The heap calls its [`Observer`] a few times a cycle and at most a few times for each 32 KiB that the program
//! allocates, so the call may be an indirect one: measured, it is lost in the noise. `()` observes nothing. The emitter
//! that writes a trace is one implementation, [`TraceObserver`](super::TraceObserver); nothing in here knows of traces.

/// Why a collection cycle began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The heap grew to the point that the pacer had set from `gc_percent` and the minimum heap.
    HeapGoal,
    /// As above, where the memory limit and not `gc_percent` decided.
    MemoryLimit,
    /// The embedder asked for it.
    Explicit,
    /// The heap is in stress mode.
    Stress,
}

impl Reason {
    /// The reason in a few words, as it appears in traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::HeapGoal => "heap goal",
            Reason::MemoryLimit => "memory limit",
            Reason::Explicit => "explicit",
            Reason::Stress => "stress",
        }
    }
}

/// The two times in a cycle at which the program stands still. The names are Go's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StwKind {
    /// The rest of the last cycle's sweep, then the scan of the roots.
    SweepTermination,
    /// The end of marking. When the heap does not mark incrementally, the whole of it.
    MarkTermination,
}

/// How short of memory a heap is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Pressure {
    /// A cycle has ended, and what is alive, with the external memory, fills 7/8 of what the memory limit leaves: cycles
    /// come closer and closer together. Time to let caches go.
    NearLimit,
    /// An allocation found no memory: the system has none, or the hard limit is reached. It is tried once more after the
    /// running cycle is ended and all is swept, and may fail then.
    NoMemory,
}

/// What one collection cycle did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CycleStats {
    /// Counts from 1.
    pub number: u64,
    /// Why it began.
    pub reason: Reason,
    /// It ended early, because a value's `visit` or `drop` panicked: nothing was freed, and the next cycle begins anew.
    pub abandoned: bool,
    /// The heap's size when the cycle began, in bytes.
    pub bytes_before: usize,
    /// Bytes of the objects that were found alive. Not counted are those allocated while the cycle ran.
    pub bytes_marked: usize,
    /// The heap's size when the cycle ended, in bytes: marked, and allocated since the cycle began.
    pub bytes_live: usize,
    /// Memory outside of the heap that the embedder has reported, in bytes. In none of the sizes above.
    pub bytes_external: usize,
    /// The size that the heap and the external memory may reach together before the next cycle ends.
    pub bytes_goal: usize,
    /// Time for which the program stood still, in both phases, in nanoseconds.
    pub stw_ns: u64,
    /// Time of mark assists, in nanoseconds.
    pub assist_ns: u64,
    /// From begin to end, the program's own time in between included, in nanoseconds.
    pub total_ns: u64,
}

/// One allocation that stands for many: of about every [`Config::sample_bytes`](super::Config::sample_bytes) that are
/// allocated, the one with the last of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AllocationSample {
    /// The object's type.
    pub type_name: &'static str,
    /// The object's size, in bytes.
    pub object_bytes: usize,
    /// What it stands for, in bytes. The sums of these, by type or by whatever the program knows of the place, are
    /// estimates of what was allocated.
    pub stands_for_bytes: usize,
}

/// Receives a heap's events, on the thread that runs the heap.
///
/// Every `*_begin` is followed by its `*_end`, also when the embedder's code panics in between; brackets nest. A method
/// must not panic, and cannot use the heap: nothing gives it one.
pub trait Observer {
    /// Whether anybody listens at the moment. If not, the heap spares itself some counting for the events of single
    /// blocks.
    fn is_on(&self) -> bool {
        true
    }
    /// A cycle begins.
    fn cycle_begin(&self, reason: Reason) {
        let _ = reason;
    }
    /// The cycle is over.
    fn cycle_end(&self, stats: &CycleStats) {
        let _ = stats;
    }
    /// The program stands still from here.
    fn stw_begin(&self, kind: StwKind) {
        let _ = kind;
    }
    /// The program goes on.
    fn stw_end(&self, kind: StwKind) {
        let _ = kind;
    }
    /// The program pays for an allocation by marking.
    fn assist_begin(&self) {}
    /// The assist is over.
    fn assist_end(&self) {}
    /// A function that each thread that helps to mark calls around its work, from then on until the marking ends
    /// ([`Config::mark_threads`](super::Config::mark_threads)). It must call what it is given, once. An observer stays with the
    /// heap's thread; such a function is all that others have of it.
    fn around_mark_worker(&self) -> Option<fn(&mut dyn FnMut())> {
        None
    }
    /// Sweeping of one or more blocks begins.
    fn sweep_begin(&self) {}
    /// `bytes_swept` were looked at, and `bytes_reclaimed` of them are free.
    fn sweep_end(&self, bytes_swept: usize, bytes_reclaimed: usize) {
        let _ = (bytes_swept, bytes_reclaimed);
    }
    /// A collection of the young objects alone begins; the program stands still. It is no cycle of its own.
    fn minor_begin(&self) {}
    /// It is over. `bytes_survived` of the `bytes_young` that were allocated since the last collection are old from now
    /// on.
    fn minor_end(&self, bytes_young: usize, bytes_survived: usize) {
        let _ = (bytes_young, bytes_survived);
    }
    /// The heap's size has become `bytes`. Called for each 32 KiB that are handed out, and at a cycle's end.
    fn live(&self, bytes: usize) {
        let _ = bytes;
    }
    /// An allocation was sampled: called inside of it, so that the stack, and the state of an interpreter, are those of the
    /// place that allocates.
    fn sampled(&self, sample: &AllocationSample) {
        let _ = sample;
    }
    /// Memory is short. Called at the end of each cycle for which that is so, and in an allocation that may fail; the
    /// place for a flag that the program looks at.
    fn memory_pressure(&self, pressure: Pressure) {
        let _ = pressure;
    }
    /// The heap's goal has become `bytes`: on the same scale as [`live`](Observer::live), so without what the embedder
    /// has reported as external, which others may count.
    fn goal(&self, bytes: usize) {
        let _ = bytes;
    }
}

/// Observes nothing.
impl Observer for () {
    fn is_on(&self) -> bool {
        false
    }
}
