//! Reads Go execution traces: bytes in, events out, in one order and validated.
//!
//! It reads the traces of this crate's tracer and those of Go programs alike (format versions of Go 1.22, 1.23, 1.25 and
//! 1.26, which Go 1.22 to 1.27 write), and accepts and refuses what Go's own reader accepts and refuses.
//!
//! ```
//! use exectrace::read::{EventKind, Reader, StateTransition};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file: &[u8] = b"go 1.26 trace\0\0\0";
//! // let file = std::fs::File::open("app.trace")?;
//! let mut reader = Reader::new(file)?;
//! let mut blocked = 0;
//! while let Some(ev) = reader.next_event()? {
//!     if let Some(StateTransition::Goroutine { id, to, reason, .. }) = ev.transition() {
//!         if to == exectrace::read::GoState::Waiting {
//!             blocked += 1;
//!             println!("{}: goroutine {id} waits: {}", ev.time, ev.string(reason));
//!             for frame in ev.stack().frames() {
//!                 println!("    {} {}:{}", frame.func, frame.file, frame.line);
//!             }
//!         }
//!     }
//! }
//! # assert_eq!(blocked, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Events, generations, ids
//! A trace consists of *generations*, about a second each. An event's strings and stacks are numbers that mean something in
//! its generation only; [`EventRef`] carries both. An analysis that goes on over generations keeps strings and frames by
//! way of an [`Interner`], which asks a hash table once for each string or stack of a generation and not for each event.
//!
//! The first event is a [`Sync`], and so is the first of each generation and the last of all. Between two of them nothing
//! exists that has not been named: where a generation begins, the state of each goroutine and processor is told anew (by
//! transitions whose `from` and `to` are the same).
//!
//! # Damage
//! A trace that is cut off or damaged gives all events up to the place where nothing sensible can follow, and then an
//! [`Error`] that says where that is and how many bytes were whole.
//!
//! # How it works, and what it costs
//! Bytes are gathered into a generation (`source`), whose tables are decoded at once (`table`). Then the threads' events
//! are merged (`merge`): each thread has a cursor that decodes one event ahead (`cursor`), a heap tells which thread is the
//! earliest (`frontier`), and the scheduler's state decides whether its event can happen now (`order`). Events go to the
//! caller in blocks.
//!
//! Nothing is allocated for an event and nothing hashed for most; an event is looked at once and written once. See
//! `benches/read.rs` for figures beside Go's.
//!
//! Nothing in this room writes, prints or asks the system for anything but the input's bytes; it contains no `unsafe`.
#![forbid(unsafe_code)]

// What the caller sees.
mod reader;

mod event;
mod view;

mod ids;

mod generation;

mod intern;

mod private;

mod allocations;

pub mod batches;
pub mod wire;

mod error;

// Bytes to generations.
mod header;
mod source;

mod clock;
mod idmap;
mod table;

// Generations to ordered events.
mod cursor;
mod frontier;
mod gosort;
mod merge;
mod order;

mod drive;

pub use allocations::{Allocation, AllocationContext, AllocationKind, AllocationRecords, Allocations};
pub use error::{Error, ErrorKind};
pub use event::{Event, EventKind};
pub use generation::{ExperimentalBatch, Frame, FrameIndex, Generation, Stack};
pub(crate) use idmap::IdHashMap;
pub use ids::{GoId, ProcId, StackId, StringId, TaskId, ThreadId, Time};
pub use intern::{FrameKey, FrameText, Interner, StackKey, StringKey};
pub use private::{Module, Private, Section, Series};
pub use reader::{Block, EventRef, Progress, Reader};
pub use view::{
    ClockSnapshot, Details, Experimental, GoState, Log, Metric, ProcState, Range, RangeKind, Region, Scope,
    StateTransition, SweepTotals, Sync, Task,
};
