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
}

/// Names of [`Section::Series`]. Each ends in its unit.
pub mod series {
    /// Live bytes of the native heap (what the traced global allocator has handed out).
    pub const NATIVE_HEAP: &str = "heap.native.live_bytes";
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
    /// What the thread is at, from here on.
    pub const CONTEXT: u8 = 3;
    /// Flag: the stack is not told again.
    pub const SAME_STACK: u8 = 1 << 2;
    /// Where in the head the alignment's logarithm stands: the upper bits.
    pub const ALIGN_SHIFT: u32 = 4;
    /// In place of the logarithm: it follows in a byte.
    pub const ALIGN_FOLLOWS: u8 = 15;
    /// Blocks lie at multiples of eight, nearly all of them.
    pub const ADDRESS_ROTATION: u32 = 3;
}
