//! The recorder: from a hook's event to bytes in the user's sink.
//!
//! # Design
//!
//! A thread of the program is a goroutine that runs on a processor of its own, so that nothing is shared on the hot path but the
//! number of the open generation. A hook enters the re-entry guard ([`thread::Entered`]), opens a [`section::Section`], and writes
//! the event in its final form into the thread's [`batch::Batch`]. Full buffers go through a channel to the [`writer`]'s thread.
//! About once a second that thread closes the generation ([`generation::Closer`]): it moves the number on, waits until no thread
//! is inside a section of the old one, speaks for the threads that were silent in it, and writes it with its tables.
//!
//! What an event costs: the time-stamp counter 10 ns, the guard and the gate 2, the integers 3, so about 15 ns and 4 to 6 bytes;
//! a stack adds 5 ns a frame for walking and 1 for looking it up.
//!
//! # Invariants
//!
//! 1. A thread's state word says what the events written so far say. A change of state and its event lie in one section, which has
//!    its buffer before it begins. *Otherwise* a lost event makes the rest of the trace unreadable ("expected a goroutine").
//! 2. A section never writes to a generation that was closed: the gate. *Otherwise* events are torn or lost.
//! 3. A section that finds a state of a later generation than its own ends and begins anew. *Otherwise* an effect stands in an
//!    earlier generation than its cause ("failed to advance").
//! 4. A goroutine's or processor's entry is given to another thread only when no closing is under way that might read it, and what
//!    was said of it has been said. *Otherwise* a status is told of a goroutine that never was.
//! 5. Every string and stack that an event refers to is written in the event's generation: marked as used inside the section, or
//!    written into the thread's own tables before the event. *Otherwise* the generation is rejected.
//! 6. Inside a hook nothing is allocated through the global allocator, and no lock is taken but [`Lock`](crate::sys::lock::Lock)s,
//!    which are held for a few instructions. *Otherwise* an allocator's lock and ours deadlock.
//! 7. The batches, tables and mappings of one parity belong to the closer from the moment their generation has quiesced until the
//!    generation after the next opens, which only the closer does. *Otherwise* it reads what a thread is writing.
//! 8. Sequence numbers of GC cycles rise over the whole trace: they are taken under the [`gc_world`] lock, which the closer holds
//!    while it moves the generation on. *Otherwise* a collection is running in a generation that does not know of it.
//! 9. In the child of a `fork` the trace is off and nothing of the parent's sink is touched. *Otherwise* bytes are written twice.

#[cfg(not(loom))]
pub(crate) mod allocations;
#[cfg(not(loom))]
pub(crate) mod batch;
#[cfg(not(loom))]
pub(crate) mod black_box;
#[cfg(not(loom))]
pub(crate) mod buffer;
#[cfg(not(loom))]
pub(crate) mod clock;
#[cfg(not(loom))]
pub mod ending;
#[cfg(not(loom))]
pub mod flight;
pub(crate) mod gate;
#[cfg(not(loom))]
pub(crate) mod gauges;
#[cfg(not(loom))]
pub(crate) mod gc_world;
#[cfg(not(loom))]
pub(crate) mod generation;
#[cfg(not(loom))]
pub(crate) mod memory;
#[cfg(not(loom))]
pub mod modules;
#[cfg(not(loom))]
pub(crate) mod obituary;
#[cfg(not(loom))]
pub(crate) mod reasons;
#[cfg(not(loom))]
pub(crate) mod region;
#[cfg(not(loom))]
pub(crate) mod ring;
#[cfg(not(loom))]
pub(crate) mod sampled;
#[cfg(not(loom))]
pub(crate) mod samples;
#[cfg(not(loom))]
pub(crate) mod section;
pub mod stack_table;
#[cfg(not(loom))]
pub(crate) mod stacks;
pub(crate) mod state;
#[cfg(not(loom))]
pub(crate) mod string_table;
#[cfg(not(loom))]
pub mod symbolize;
#[cfg(not(loom))]
pub(crate) mod syscall_name;
#[cfg(not(loom))]
pub(crate) mod tables;
#[cfg(not(loom))]
pub(crate) mod thread;
#[cfg(not(loom))]
pub mod tracer;
#[cfg(not(loom))]
pub mod unwind;
#[cfg(not(loom))]
pub(crate) mod wire;
#[cfg(not(loom))]
pub(crate) mod writer;

#[cfg(not(loom))]
pub(crate) use tracer::{QUANTUM, RECORD_BLOCKING, RECORD_HEAP, RECORD_SYSCALLS, is_enabled};

/// Whether tracing is on and wants events of this sort.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn records(what: u32) -> bool {
    is_enabled() && tracer::RECORD.load(core::sync::atomic::Ordering::Relaxed) & what != 0
}
