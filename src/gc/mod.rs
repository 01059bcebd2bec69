//! A mark-sweep heap to embed in language runtimes: safe to use, incremental, paced in bytes, and open to an
//! [`Observer`].
//!
//! # For embedders
//! An [`Arena`] is a heap with one root object. There are two ways to use it, on the same heap and with the same types:
//! * [`Arena::mutate`] gives a [`Mutation`] and the root to a function. No cycle begins meanwhile; between calls the
//!   program offers [`Arena::safepoint`]s. For interpreters with a loop of their own.
//! * [`Arena::enter`] gives a [`Cx`], with safepoints at any depth of calls. For interpreters that recurse.
//!
//! Inside, the program allocates ([`Mutation::alloc`], [`Mutation::alloc_array`], [`Mutation::alloc_str`]), follows
//! references ([`Gc`], a plain pointer that is `Copy`), and writes to cells ([`GcCell`], [`GcRefCell`]). What grows is a
//! [`GcVec`] or a [`GcMap`], whose memory is on the heap too. [`Root`] handles keep objects from outside; [`GcWeak`],
//! [`Ephemeron`] and [`WeakMap`] know of objects without keeping them; [`Finalizers`] hand back what has died. Objects
//! never move, so that a handle is also all that it takes to lend an object's address to foreign code
//! ([`Root::as_ptr`]). Types say what they refer to by `#[derive(Collect)]`, or by
//! [`collect_fields!`](crate::collect_fields). None of this needs `unsafe`, and what would be unsound does not compile.
//!
//! A heap belongs to the thread that made it: [`Arena`], [`Root`], [`Gc`] and the others are neither `Send` nor `Sync`,
//! so the compiler sees to it that isolates on several threads share nothing. What goes from one to another goes by
//! value.
//!
//! Runtimes with an object layout of their own have [`raw`], the layer beneath: the same heap, without types.
//!
//! What to look at when something is amiss: [`Arena::stats`], [`Arena::for_each_type`], [`Arena::write_map`] (which
//! blocks are how full), [`Arena::write_snapshot`] (for Chrome's developer tools), [`Observer::sampled`] (where it is
//! allocated, by whatever the interpreter knows of the place), and the trace.
//!
//! # Design
//! Memory comes in 4 MiB chunks, divided into 32 KiB blocks, each for objects of **one type** (`chunk`, `pool`). So an
//! object needs no header: size, marking code and drop code belong to its block, whose table entry is found by a mask
//! from the object's address. Mark bits stand in that table as well. Arrays make a type for each class of sizes; what
//! is larger than 8 KiB has blocks of its own.
//!
//! *Allocation* bumps through runs of free slots, which are runs of clear mark bits: for types without `Drop` sweeping
//! is nothing but that, and it is as lazy as can be (`heap`, `sweep`).
//!
//! *Marking* (`marker`) goes block by block with prefetches and without recursion. A cycle (`cycle`) begins at a
//! safepoint, where the roots are all there is. In incremental mode the write barrier then shows each overwritten value
//! to the marker, so that what was reachable at the beginning is marked in the end, and new objects count as marked:
//! therefore marking can go on and end inside of an allocation, in steps that allocations pay for (`pacer`).
//!
//! *Generations* (`minor`) are marks that stay: what is marked is old, and a minor collection marks from the roots and
//! from those old objects that were written to.
//!
//! An *epoch* byte in each block says in which cycle its marks were made, so that a cycle begins without clearing them;
//! a block whose epoch is old after marking holds nothing alive.
//!
//! *Pauses*. A cycle begins with the roots' marks and ends with the weak references; in between, steps keep to
//! [`Config::max_pause`], for which the scan of a block can be broken off after any object, and that of a long array
//! after 1024 items. What no deadline cuts short: one object's own `visit` (so a `Vec` of a million references in one
//! object is visited in one go: use [`GcVec`]); the first [`GcRefCell::borrow_mut`] of such a one in a cycle; sorting the
//! blocks after a cycle, some 30 ns each; clearing weak references and resurrecting watched objects, by their
//! number; and a minor collection, by what survives it, for which the nursery is kept small enough, as far as the last
//! ones can tell. On a live heap of 289 MiB the longest stop of the incremental mode was 0.65 ms of the thread's own
//! time, 0.61 ms at the 99.9th percentile; of the generational mode 4.0 ms and 0.68 ms (`cargo bench --bench gc_pauses`).
//!
//! *Several threads* mark, if [`Config::mark_threads`] says so, where the program stands still for more than a moment
//! (`team`, `worker`). Steps are not shared out: to wake a thread takes a good part of a step.
//!
//! *The end of an object* has an order: when all that can be reached is marked, weak references to the others are
//! cleared, then watched ones are resurrected with all they refer to, then ephemerons lose their keys, and the rest is
//! freed; Rust's `Drop` runs when a block is swept.
//!
//! # What is not there
//! * Marking beside the program: objects are Rust values that the program may change at any time, and cells are not
//!   atomic.
//! * Moving objects. A block with one survivor stays; [`Arena::write_map`] shows it.
//! * An arena that moves to another thread.
//! * A C interface to the layer without types.
//! * Parts of an object that a minor collection need not visit: an old object of up to 8 KiB that was written to is visited
//!   whole. (In a longer one, such as a long array, what is written counts as old from then on, and nothing is visited.)
//!
//! # Invariants
//! 1. Nothing in here calls the global allocator. Tables stand on pages from the system. *Else the heap would show up
//!    as the program's, and a tracer in the allocator would meet itself.*
//! 2. A `chunk::Block` or `chunk::Chunk` value is used only while its chunk is mapped; a chunk is unmapped only
//!    when all its blocks are free. *Else: reads of unmapped memory.*
//! 3. From when a block is taken from the pool until it is given back, all its slots are for objects of the type in its
//!    table entry. *Else the marker would read one type as another.*
//! 4. While the embedder's code (`visit`, `drop`, the observer) runs, no cell of the heap is borrowed but the marker's,
//!    and the list of the remembered, during `visit` only; lists and counts are in order. *Else a panic there, or a use
//!    of the heap from there, would find it half changed.*
//! 5. Wherever a [`Gc`] of a brand can be used, its object is alive: it is reachable from a root, or was so (or was
//!    allocated) since the last safepoint, at which no `Gc` of that brand existed. *Else: use after free.* While a
//!    cycle marks this means: everything reachable when it began, and everything allocated since, is marked when it
//!    ends; the barrier of every cell shows the value that is overwritten before it is gone.
//! 6. Marking never needs memory: the stack holds objects of one block, each once; the queue holds each block once, and
//!    grows with the chunks. *Else marking could fail half way, or recurse without bound.*
//! 7. A block is in one list of its type at most, and the one that is allocated from is in none. *Else a slot would be
//!    handed out twice.*
//! 8. A slot is handed out only if its mark is clear and valid and its last value was dropped; what is handed out while
//!    a cycle marks is marked. *Else a live object would be overwritten, or a new one freed.*
//! 9. Between collections of the young, an old object that refers to a young one has its dirty bit set and is in the
//!    list of the remembered; or a write is known to have gone unnoticed, and the next collection is a full one. *Else
//!    the young object would be freed.*
//! 10. Weak references and ephemerons lose their targets and keys at the end of the marking that did not reach them,
//!     before any block is sorted or swept; following one while a cycle marks, marks. *Else they would lead to freed
//!     memory.*
//! 11. The observer lives beside the heap, in the same mapping. *Else events would go to a dead one.*
//! 12. Every cycle, stop, assist and sweep that was told to the observer is ended, also by a panic; a cycle that a
//!     panic ends frees nothing. *Else traces would not be valid, and objects whose references were not visited would
//!     be freed.*
//! 13. While more than one thread marks, the heap's own does nothing but mark, and all of them use mark bits, epochs and the
//!     states of blocks by atomic operations only; the rest of a block's table entry and its scan bits are used by the one
//!     worker that has made the block busy, and objects are only read. Threads are called and dismissed with Release and
//!     Acquire. *Else: data races.*

mod arena;
mod array;
mod cell;
mod chunk;
mod collect;
mod config;
mod cx;
mod cycle;
mod finalize;
mod heap;
mod heap_map;
mod map;
mod marker;
mod minor;
mod observer;
mod pacer;
mod page_box;
mod page_vec;
mod pointer;
mod pool;
pub mod raw;
mod root;
mod snapshot;
mod stats;
mod sweep;
mod team;
mod trace_observer;
mod type_info;
mod types;
mod vec;
mod verify;
mod weak;
mod weak_map;
mod worker;

pub use arena::{Arena, Mutation, RootOf, Rootable};
pub use array::{GcArray, GcString};
pub use cell::{GcCell, GcRef, GcRefCell, GcRefMut};
pub use collect::{Collect, Static, Visitor};
pub use config::{Config, Mode};
pub use cx::Cx;
#[cfg(feature = "derive")]
pub use exectrace_derive::Collect;
pub use finalize::Finalizers;
pub use heap_map::{BlockInfo, BlockUsage};
pub use map::{ById, GcMap, Identity, MapHasher};
pub use observer::{AllocationSample, CycleStats, Observer, Pressure, Reason, StwKind};
pub use pointer::Gc;
pub use root::Root;
pub use stats::{Durations, HeapStats, TypeStats};
pub use trace_observer::TraceObserver;
pub use vec::GcVec;
pub use verify::Violation;
pub use weak::{Ephemeron, EphemeronBox, GcWeak};
pub use weak_map::WeakMap;

/// What an [`Arena`] tells its events to if nothing else is said: the trace.
pub type DefaultObserver = TraceObserver;

#[doc(inline)]
pub use crate::Rootable;

/// For tests of how programs and the heap itself cope without memory: of what this thread's heaps ask the system for from
/// now on, `grants` requests are granted and all others refused, until this is called with `None`.
#[doc(hidden)]
pub fn refuse_memory_after(grants: Option<u32>) {
    crate::sys::pages::refuse_after(grants);
}

/// There is no memory for an object, or the heap may not have more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl OutOfMemory {
    /// The panic of the functions that do not return errors.
    #[cold]
    #[track_caller]
    fn raise(self) -> ! {
        panic!("gc heap: {self}")
    }
}

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("out of memory")
    }
}

impl std::error::Error for OutOfMemory {}
