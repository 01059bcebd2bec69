//! Data of ours that Go's tools skip.
//!
//! It stands in experimental batches of experiment [`EXPERIMENT_ALLOC_FREE`](super::EXPERIMENT_ALLOC_FREE) whose payload
//! begins with [`PRIVATE`], a number far above those that Go uses there, and then a [`Section`] byte. The fields behind it
//! are integers as in [`varint`](super::varint); a text is its length in bytes and its bytes. Readers skip a section that
//! they do not know.

/// First byte of the payload of a private batch.
pub const PRIVATE: u8 = 200;

/// What a private batch holds: the second byte of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Section {
    /// `{ text key, text value }*`: what wrote the trace and how: see [`meta`]. Once in each generation.
    Meta = 1,
    /// `{ text name, n, { dt, zigzag(delta) }*n }*`: samples of a series. Times are nanoseconds since the sample before,
    /// the first since the batch's time; values are differences, the first from 0. The unit is the end of the name.
    Series = 2,
    /// `{ start, end, file_offset, text build_id_hex, text path }*`: the files mapped with code, by address.
    Modules = 3,
    /// Allocations and frees of one thread: see [`allocations`].
    Allocations = 4,
}

impl Section {
    /// The section with this number.
    #[must_use]
    pub const fn from_wire(v: u8) -> Option<Section> {
        match v {
            1 => Some(Section::Meta),
            2 => Some(Section::Series),
            3 => Some(Section::Modules),
            4 => Some(Section::Allocations),
            _ => None,
        }
    }
}

/// Keys of [`Section::Meta`]. Values are decimal numbers unless said so.
pub mod meta {
    /// Name and version of the writer, `exectrace 0.1.0`.
    pub const WRITER: &str = "writer";
    /// Process id.
    pub const PID: &str = "pid";
    /// Wall clock at [`TRACE_NS`], nanoseconds since 1970.
    pub const WALL_NS: &str = "wall_ns";
    /// A moment on the trace clock, in nanoseconds.
    pub const TRACE_NS: &str = "trace_ns";
    /// `CLOCK_MONOTONIC` at [`TRACE_NS`].
    pub const MONO_NS: &str = "mono_ns";
    /// Events that were not recorded in this generation, all reasons together.
    pub const LOST_EVENTS: &str = "lost_events";
    /// CPU samples that were not recorded in this generation.
    pub const LOST_SAMPLES: &str = "lost_samples";
    /// Allocations, reallocations and frees that were not recorded in this generation though the mode asked for them.
    pub const LOST_ALLOCATIONS: &str = "lost_allocations";
    /// `1` if frames hold raw program counters, to be resolved by way of [`Modules`](super::Section::Modules).
    pub const RAW_PCS: &str = "raw_pcs";
    /// Bytes by which a thread's live heap must move before it is published.
    pub const HEAP_QUANTUM: &str = "heap_quantum_bytes";
    /// CPU time of a thread between two samples, in nanoseconds. Absent if none are taken.
    pub const SAMPLE_PERIOD: &str = "sample_period_ns";
}

/// Names of [`Section::Series`]. Each ends in its unit.
pub mod series {
    /// Live bytes of the native heap (what the traced global allocator has handed out).
    pub const NATIVE_HEAP: &str = "heap.native.live_bytes";
    /// Live bytes of all GC heaps of the process together.
    pub const GC_HEAPS: &str = "heap.gc.live_bytes";
    /// What the native allocator has committed from the system, by its own statistics (mimalloc's).
    pub const COMMITTED: &str = "allocator.committed_bytes";
    /// What the tracer has mapped for itself and for GC heaps; an upper bound of what is resident of it.
    pub const TRACER_MAPPED: &str = "tracer.mapped_bytes";
    /// What the tracer's own thread holds of the native heap: part of what the allocator has committed, and not of the program's heap.
    pub const TRACER_HEAP: &str = "tracer.heap_bytes";
    /// Resident anonymous memory (`RssAnon`).
    pub const RSS_ANONYMOUS: &str = "process.rss_anonymous_bytes";
    /// Resident pages of files (`RssFile`).
    pub const RSS_FILES: &str = "process.rss_files_bytes";
    /// Resident shared memory (`RssShmem`).
    pub const RSS_SHARED: &str = "process.rss_shared_bytes";
    /// Memory of the process in the swap area (`VmSwap`).
    pub const SWAPPED: &str = "process.swapped_bytes";
    /// Page faults that needed no reading, since the process began.
    pub const FAULTS_MINOR: &str = "process.minor_faults";
    /// Page faults that did.
    pub const FAULTS_MAJOR: &str = "process.major_faults";
    /// Resident anonymous memory that is neither a stack nor the C library's first heap, from `smaps` like the next ones. About once a
    /// second.
    pub const MAPPED_ANONYMOUS: &str = "mapped.anonymous_bytes";
    /// Resident memory of mapped files, the program's own text among them, with what was written to of it.
    pub const MAPPED_FILES: &str = "mapped.files_bytes";
    /// Resident memory of the stacks of threads.
    pub const MAPPED_STACKS: &str = "mapped.stacks_bytes";
    /// Resident memory of the C library's first heap.
    pub const MAPPED_BRK: &str = "mapped.brk_bytes";
    /// Resident shared memory.
    pub const MAPPED_SHARED: &str = "mapped.shared_bytes";
    /// Resident memory with each page divided by the number of processes that share it.
    pub const PSS: &str = "process.pss_bytes";
    /// Given back to the system, which has not taken it yet.
    pub const LAZILY_FREE: &str = "mapped.lazily_free_bytes";
    /// In huge pages.
    pub const HUGE: &str = "mapped.huge_bytes";
    /// How many mappings the process has.
    pub const MAPPINGS: &str = "process.mappings";
    /// For how long some tasks, and all at once, have waited for memory (pressure stall information, of the control group if it has
    /// its own).
    pub const STALLED_SOME: &str = "stalled.memory_some_us";
    /// See [`STALLED_SOME`].
    pub const STALLED_FULL: &str = "stalled.memory_full_us";
    /// The control group's size and limits, by their names in version 2: `memory.current` and so on.
    pub const GROUP_SIZES: [(&str, &str); 4] = [
        ("current", "group.memory_current_bytes"),
        ("high", "group.memory_high_bytes"),
        ("max", "group.memory_max_bytes"),
        ("swap_current", "group.swap_current_bytes"),
    ];
    /// How often it met its limits: `memory.events`.
    pub const GROUP_EVENTS: [(&str, &str); 4] = [
        ("high", "group.high_events"),
        ("max", "group.max_events"),
        ("oom", "group.oom_events"),
        ("oom_kill", "group.oom_kill_events"),
    ];
    /// What its memory is: `memory.stat`.
    pub const GROUP_STAT: [(&str, &str); 7] = [
        ("anon", "group.anon_bytes"),
        ("file", "group.file_bytes"),
        ("kernel", "group.kernel_bytes"),
        ("slab", "group.slab_bytes"),
        ("sock", "group.sock_bytes"),
        ("shmem", "group.shmem_bytes"),
        ("file_dirty", "group.file_dirty_bytes"),
    ];
    /// What the names of the tracer's own series begin with.
    pub const PREFIXES: [&str; 8] =
        ["heap.", "gc.", "allocator.", "tracer.", "process.", "mapped.", "stalled.", "group."];
    /// Prefix of the series of the GC heap with id N: `gc.N.live_bytes`, `gc.N.goal_bytes`.
    pub const GC_PREFIX: &str = "gc.";
}

pub mod allocations {
    //! [`Section::Allocations`](super::Section::Allocations): `goroutine, interval, record*`.
    //!
    //! The goroutine is the thread's. The interval is 0 where every operation is recorded; else operations are a sample in which a
    //! block of `n` bytes is with probability `1 - exp(-n / interval)`, and frees are those of blocks in the sample.
    //!
    //! A record begins with a head byte, made of a [kind](KIND_MASK) and flags:
    //!
    //! ```text
    //! context   head  task  region  label           0, or a string's id; holds for the records behind it in the batch
    //! map       head  dt  address          size         [stack]
    //! unmap     head  dt  address          size
    //! alloc     head  dt  address          size [align] [stack]
    //! free      head  dt  address                       [stack]
    //! realloc   head  dt  address  moved   size [align] [stack]
    //! ```
    //!
    //! `dt` is nanoseconds since the record before, the first since the batch's time. An address is told as the difference to
    //! the last address told: both are rotated to the right by [`ADDRESS_ROTATION`] bits, subtracted, and zigzag-encoded. `moved` is
    //! the new address, told likewise. The head has the alignment's logarithm, or [`ALIGN_FOLLOWS`]. A stack is the number of
    //! a stack of the table divided by two; with [`SAME_STACK`] it is that of the last record of the kind in the batch, at first 0.

    /// The part of the head that is the kind of record.
    pub const KIND_MASK: u8 = 3;
    /// A block was allocated. The time is just after.
    pub const ALLOC: u8 = 0;
    /// A block was freed. The time is just before.
    pub const FREE: u8 = 1;
    /// A block was given another size. The time is just after: the old place may be another thread's already.
    pub const REALLOC: u8 = 2;
    /// What the thread is at, from here on; with [`MAP`] or [`UNMAP`] in the upper bits of the head, one of those.
    pub const CONTEXT: u8 = 3;
    /// In the upper bits of the head of kind [`CONTEXT`]: the program mapped that many bytes. The time is just after.
    pub const MAP: u8 = 1;
    /// Likewise: it is about to unmap so many bytes, or to map others in their place.
    pub const UNMAP: u8 = 2;
    /// Flag: the stack is not told again.
    pub const SAME_STACK: u8 = 1 << 2;
    /// Where in the head the alignment's logarithm stands: the upper bits.
    pub const ALIGN_SHIFT: u32 = 4;
    /// In place of the logarithm: it follows in a byte.
    pub const ALIGN_FOLLOWS: u8 = 15;
    /// Blocks lie at multiples of eight, nearly all of them.
    pub const ADDRESS_ROTATION: u32 = 3;
}
