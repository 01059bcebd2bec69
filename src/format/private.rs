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
}

impl Section {
    /// The section with this number.
    #[must_use]
    pub const fn from_wire(v: u8) -> Option<Section> {
        match v {
            1 => Some(Section::Meta),
            2 => Some(Section::Series),
            3 => Some(Section::Modules),
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
