//! Reads Go execution traces: bytes in, events out, in one order and validated.
//!
//! It reads the traces of this crate's tracer and those of Go programs alike (format versions of Go 1.22, 1.23, 1.25 and
//! 1.26, which Go 1.22 to 1.27 write), and accepts and refuses what Go's own reader accepts and refuses.
//!
//! # Reading events
//! [`Reader`] takes anything that is [`std::io::Read`]: a file, a socket, standard input. It reads in large pieces, so it needs
//! no buffer in front. [`Reader::next_event`] gives one event at a time, [`Reader::next_block`] as many as are at hand, and
//! [`Reader::read_ahead`] reads on a thread of its own, [`Reader::threaded`] orders on another besides, while the caller works on
//! what it has.
//!
//! ```
//! use exectrace::read::{GoState, Reader, StateTransition};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = std::fs::File::open("tests/data/go127-annotations.trace")?;
//! // let file = std::fs::File::open("app.trace")?;
//! let mut reader = Reader::new(file)?;
//! let mut blocked = 0;
//! while let Some(ev) = reader.next_event()? {
//!     if let Some(StateTransition::Goroutine { id, from, to: GoState::Waiting, reason, .. }) = ev.transition() {
//!         if from == GoState::Running {
//!             blocked += 1;
//!             println!("{}: goroutine {id} waits: {}", ev.time, ev.string(reason));
//!             for frame in ev.stack().frames() {
//!                 println!("    {} {}:{}", frame.func, frame.file, frame.line);
//!             }
//!         }
//!     }
//! }
//! # assert!(blocked > 0);
//! # Ok(())
//! # }
//! ```
//!
//! An event is plain data ([`Event`]): its time, the thread, processor and goroutine on which it happened, and arguments.
//! What the arguments mean is told by typed views: [`Event::details`] for a `match` over all kinds, or one for each kind, such
//! as [`Event::transition`], [`Event::metric`], [`Event::range`], [`Event::region`].
//!
//! # Following states
//! The reader has checked each transition, so a caller that follows states needs no checks of its own: a goroutine that
//! starts to run was runnable, and what it is told to leave is the state it was last told to be in. This adds up how long
//! goroutines waited, by reason, over a whole trace:
//!
//! ```
//! use exectrace::read::{GoState, Interner, Reader, StateTransition};
//! use std::collections::HashMap;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = std::fs::File::open("tests/data/go127-annotations.trace")?;
//! let mut reader = Reader::new(file)?;
//! // Ids of strings mean something in their generation only; keys of an interner do so over the whole trace.
//! let mut interner = Interner::new();
//! let mut waits = HashMap::new();
//! let mut waited_ns = HashMap::new();
//! while let Some(block) = reader.next_block()? {
//!     for ev in block.iter() {
//!         let Some(StateTransition::Goroutine { id, from, to, reason, .. }) = ev.transition() else { continue };
//!         // Where a generation begins each state is told anew, with `from` and `to` the same.
//!         if from == to {
//!             continue;
//!         }
//!         if let Some((since, key)) = waits.remove(&id) {
//!             *waited_ns.entry(key).or_insert(0) += ev.time.since(since);
//!         }
//!         if to == GoState::Waiting {
//!             waits.insert(id, (ev.time, interner.string(ev.generation(), reason)));
//!         }
//!     }
//! }
//! for (reason, ns) in &waited_ns {
//!     println!("{:>12} ns {}", ns, interner.text(*reason));
//! }
//! # assert!(!waited_ns.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! (`States` of `exectrace::analyze` does this and more: names, system calls without a processor, who woke whom.)
//!
//! # Strings and stacks
//! [`EventRef::string`], [`EventRef::stack`] and [`EventRef::stack_of`] look up texts and frames; [`Generation`] has the tables
//! themselves, with dense indices for side tables of your own. A [`Block`] shares its [`Generation`] by `Arc`: clone that to
//! keep strings and stacks beyond the block.
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
//! A trace that is cut off or damaged gives all events up to the place where nothing sensible can follow: at least those of
//! all whole generations before it. Then comes an [`Error`], once, with the generation, the thread and the byte at which it
//! was found and what was expected there; [`Error::whole_bytes`] says how much of the input was whole. No input makes the
//! reader panic, wait for ever, or take memory for a length that is merely claimed.
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
