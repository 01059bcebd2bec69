//! From events to answers.
//!
//! Each answer reads a trace once, from the first event to the last, and keeps sums, not events: memory is bounded by one
//! generation of the trace and by what is different in it (stacks, names, goroutines that exist at one time).
//!
//! [`summary()`] is the page that a person reads first.
//!
//! The machines from which answers are made are public too, for answers of your own: [`States`] follows goroutines through
//! their states, [`Dist`] gathers durations, [`Mmu`] finds the minimum mutator utilization.
//!
//! ```
//! use exectrace::analyze::States;
//! use exectrace::read::{GoState, Interner, Reader};
//!
//! # fn main() -> Result<(), exectrace::read::Error> {
//! # let file: &[u8] = b"go 1.26 trace\0\0\0";
//! // let file = std::fs::File::open("app.trace")?;
//! let mut reader = Reader::new(file)?;
//! let (mut states, mut interner) = (States::new(), Interner::new());
//! let mut waited_ns = 0;
//! while let Some(ev) = reader.next_event()? {
//!     if let Some(span) = states.update(&ev, &mut interner).and_then(|change| change.span) {
//!         if span.state == GoState::Waiting && interner.text(span.reason) == "sync" {
//!             waited_ns += span.ns();
//!         }
//!     }
//! }
//! # assert_eq!(waited_ns, 0);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here writes or prints, and there is no `unsafe`.
#![forbid(unsafe_code)]

// Answers.
mod summary;

// What they are made of.
mod gc;
mod heap;
mod mmu;
mod running;
mod states;
mod tally;
mod user;

mod dist;
mod frames;
mod units;

pub use dist::{Dist, Durations};
pub use frames::FrameInfo;
pub use heap::{Heap, HeapStretch};
pub use mmu::{Counting, Minimum, Mmu, Work};
pub use states::{Change, Go, Slot, Span, States};
pub use summary::{
    Alone, Blocked, Collector, Cpu, Events, Finding, Group, KindCount, Losses, MmuPoint, Named, Origin, Parallel,
    SCHEMA, SeriesRange, Severity, Summary, Syscall, Threads, Weighted, summary, summary_watched,
};
pub use units::{Bytes, Count, Ns, Percent};

use crate::read::{Error, EventRef, Reader};

/// Hands each event of a trace to `each`, and calls `tick` between blocks of them.
fn each_event(
    reader: &mut Reader<'_>,
    tick: &mut dyn FnMut(),
    mut each: impl FnMut(EventRef<'_>),
) -> Result<(), Error> {
    while let Some(block) = reader.next_block()? {
        for ev in block.iter() {
            each(ev);
        }
        tick();
    }
    Ok(())
}
