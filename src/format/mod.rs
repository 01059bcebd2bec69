//! The Go execution-trace format, version 2, as data: what both halves of the crate agree on.
//!
//! A trace is a 16-byte [header](mod@header) and then batches. A batch belongs to one generation and one thread
//! and holds either timed events, or one of the tables (strings, stacks, CPU samples, the clock), or private data.
//! Everything here is a table or a pure function: nothing allocates, locks or does I/O, so the in-process half may
//! use all of it inside a hook. (But [`spans`], which is for the tracer's thread and for outside.)
//!
//! Source: `src/internal/trace/tracev2` of Go 1.27, read and described here in our own words.

pub mod black_box;
pub(crate) mod bytes;
pub mod event;
pub mod header;
pub mod private;
pub mod spans;
pub mod status;
pub mod varint;

pub use event::{Kind, Spec};
pub use header::Version;
pub use status::{GoStatus, ProcStatus};

/// The largest payload of one batch, in bytes. A reader rejects more.
pub const MAX_BATCH_BYTES: usize = 64 << 10;
/// The largest string in a string table, in bytes. A reader rejects more.
pub const MAX_STRING_BYTES: usize = 1 << 10;
/// The largest number of frames of one stack. A reader rejects more.
pub const MAX_FRAMES: usize = 128;
/// The thread id of a batch or status that belongs to no thread.
pub const NO_THREAD: u64 = u64::MAX;
/// The processor id that stands for "none" in a CPU sample.
pub const NO_PROC: u64 = u64::MAX;
/// The goroutine id that stands for "none".
pub const NO_GOROUTINE: u64 = 0;
/// The id of the `AllocFree` experiment, the only one that readers know.
pub const EXPERIMENT_ALLOC_FREE: u8 = 1;
