//! The layer beneath the safe API, for runtimes with an object layout of their own: a heap of untyped memory, whose
//! objects are described by tables of functions.
//!
//! It is the same heap, with the same modes, pacing, trace and checks. What Rust's types do for an [`Arena`] is here the
//! embedder's to do, so almost all of it is `unsafe`, and each function says what it asks for. In short:
//!
//! 1. Every object is of a [`Kind`], which says how large it is and how its references are found. Kinds are `static`.
//! 2. [`Hooks::roots`] shows every object that the program holds outside of the heap: its stack, globals, handles.
//! 3. Before a reference in an object is overwritten, [`RawHeap::before_write`] is told, whatever the mode.
//! 4. Objects are freed, and what they refer to with them, only in [`RawHeap::safepoint`] and [`RawHeap::collect`].
//!
//! There is no header in front of an object and no tag in a reference: all that the heap knows stands in its own tables.
//! Objects do not move. Functions and kinds are plain tables and pointers, so that a C interface is a matter of wrapping.
//!
//! ```
//! use exectrace::gc::raw::{Hooks, Kind, RawHeap, RawVisitor};
//! use exectrace::gc::Config;
//! use std::ptr::NonNull;
//!
//! /// A pair of references, of which null is one to nothing.
//! #[repr(C)]
//! struct Pair([*mut Pair; 2]);
//!
//! unsafe fn visit_pair(object: NonNull<u8>, visitor: &mut RawVisitor<'_>) {
//!     // SAFETY: the heap asks about pairs only.
//!     let pair = unsafe { object.cast::<Pair>().as_ref() };
//!     for to in pair.0 {
//!         // SAFETY: each is null or a pair of this heap.
//!         unsafe { visitor.edge_or_null(to.cast()) };
//!     }
//! }
//! static PAIR: Kind = Kind::fixed("pair", size_of::<Pair>(), Some(visit_pair), None);
//!
//! unsafe fn visit_stack(stack: *mut (), visitor: &mut RawVisitor<'_>) {
//!     // SAFETY: the hooks were made with a stack, which outlives the heap.
//!     for object in unsafe { &*stack.cast::<Vec<*mut Pair>>() } {
//!         // SAFETY: each is null or a pair of this heap.
//!         unsafe { visitor.edge_or_null(object.cast()) };
//!     }
//! }
//!
//! let mut stack: Vec<*mut Pair> = Vec::new();
//! let hooks = Hooks { data: (&raw mut stack).cast(), roots: visit_stack, marked: None };
//! // SAFETY: the stack outlives the heap, and has every pair that is used.
//! let mut heap = unsafe { RawHeap::new(Config::new(), hooks) }.expect("memory");
//! stack.push(std::ptr::null_mut());
//! for _ in 0..1000 {
//!     let pair = heap.alloc(&PAIR).expect("memory").cast::<Pair>();
//!     // SAFETY: fresh memory for a pair, written before the next safepoint.
//!     unsafe { pair.write(Pair([stack[0], std::ptr::null_mut()])) };
//!     stack[0] = pair.as_ptr();
//!     // SAFETY: the pairs in use are on the stack.
//!     unsafe { heap.safepoint() };
//! }
//! stack[0] = std::ptr::null_mut();
//! // SAFETY: as above.
//! unsafe { heap.collect() };
//! assert!(heap.stats().bytes_live < 100);
//! ```
//!
//! [`Arena`]: super::Arena

use super::OutOfMemory;
use super::arena::{Arena, Rootable};
use super::chunk::{Block, block_of};
use super::collect::{Collect, Visitor};
use super::config::Config;
use super::heap::Heap;
use super::marker::Marker;
use super::observer::Observer;
use super::stats::HeapStats;
use super::trace_observer::TraceObserver;
use super::type_info::{CLASSES, EdgeSink, Shape, TypeInfo};
use super::verify::Violation;
use super::worker::Worker;
use core::ptr::NonNull;

/// Shows every reference in an object to the visitor, by [`RawVisitor::edge`].
///
/// It may be called at any time in a safepoint and in an allocation, and also by a write (with an object that was written
/// to). It must not change the object, nor use the heap. A panic ends the cycle, and nothing is freed by it.
///
/// With [`Config::mark_threads`] above 1 it is also called on threads of the heap's, for several objects at the same time,
/// while the program stands still. Then it must write to no memory that it does not own, and read none that the program
/// guards by being of one thread but what stands still with it; see [`Collect`].
pub type VisitFn = unsafe fn(object: NonNull<u8>, visitor: &mut RawVisitor<'_>);

/// Releases what a dead object owns outside of the heap. It must not look at other objects of the heap, which may be gone,
/// nor use the heap.
pub type DropFn = unsafe fn(object: NonNull<u8>);

/// What the references of an untyped type are called by those who compare types.
pub(super) const UNTYPED: &str = "(untyped)";

/// The functions of a kind.
#[derive(Clone, Copy)]
pub(super) struct RawFns {
    pub(super) name: &'static str,
    pub(super) visit: Option<VisitFn>,
}

/// A kind of objects that are all of one size. To be a `static`.
pub struct Kind(TypeInfo);

impl Kind {
    /// Objects of `bytes` bytes, aligned to 8, or to 16 if `bytes` is a multiple of 16. `visit` is `None` for those that
    /// hold no references. The name is for statistics and snapshots.
    ///
    /// # Panics
    /// If `bytes` is more than half of the address space.
    pub const fn fixed(name: &'static str, bytes: usize, visit: Option<VisitFn>, drop: Option<DropFn>) -> Self {
        assert!(bytes <= isize::MAX as usize, "an object of a size that no memory has");
        let at_least = if bytes < 16 { 16 } else { bytes };
        Kind(TypeInfo::new_raw(at_least.div_ceil(8) * 8, drop, RawFns { name, visit }))
    }
}

/// A kind of objects that have a size each, such as strings and arrays. Where its length is, is the embedder's to know.
/// To be a `static`.
pub struct SizedKind([TypeInfo; CLASSES.len() + 1]);

impl SizedKind {
    /// As [`Kind::fixed`], with the size said when an object is allocated. Aligned to 16.
    pub const fn new(name: &'static str, visit: Option<VisitFn>, drop: Option<DropFn>) -> Self {
        let fns = RawFns { name, visit };
        let mut infos = [TypeInfo::new_raw(usize::MAX, drop, fns); CLASSES.len() + 1];
        let mut i = 0;
        while i < CLASSES.len() {
            infos[i] = TypeInfo::new_raw(CLASSES[i], drop, fns);
            i += 1;
        }
        SizedKind(infos)
    }
}

/// What the heap asks of the embedder.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Handed to the functions.
    pub data: *mut (),
    /// Shows every object that the program holds outside of the heap. Called in safepoints.
    pub roots: unsafe fn(data: *mut (), visitor: &mut RawVisitor<'_>),
    /// All that can be reached is marked, and the rest is about to be freed: the time to let go of what is held weakly.
    /// Called in safepoints, in allocations, and in [`RawHeap::step`]. It must not use the heap otherwise.
    pub marked: Option<unsafe fn(data: *mut (), alive: &Liveness<'_>)>,
}

/// Tells which objects are alive, at the end of marking.
pub struct Liveness<'a>(&'a Marker);

impl Liveness<'_> {
    /// Whether the object was reached, or is new.
    ///
    /// # Safety
    /// An object of this heap that was alive at the last safepoint.
    pub unsafe fn is_alive(&self, object: NonNull<u8>) -> bool {
        self.0.is_marked(object)
    }
}

/// Receives references.
pub struct RawVisitor<'a>(To<'a>);

enum To<'a> {
    Marker(&'a mut Marker),
    Worker(&'a mut Worker),
    Sink(&'a mut EdgeSink<'a>),
}

impl<'a> RawVisitor<'a> {
    pub(super) fn marker(marker: &'a mut Marker) -> Self {
        RawVisitor(To::Marker(marker))
    }

    pub(super) fn worker(worker: &'a mut Worker) -> Self {
        RawVisitor(To::Worker(worker))
    }

    pub(super) fn sink(sink: &'a mut EdgeSink<'a>) -> Self {
        RawVisitor(To::Sink(sink))
    }

    /// A reference.
    ///
    /// # Safety
    /// `to` is the address of an object of this heap: what an allocation returned, not a place inside. The object is
    /// alive: it was reachable at the last safepoint, or was allocated since.
    #[inline]
    pub unsafe fn edge(&mut self, to: NonNull<u8>) {
        match &mut self.0 {
            // SAFETY: the caller's.
            To::Marker(marker) => unsafe { marker.mark::<Untyped>(to) },
            // SAFETY: the caller's.
            To::Worker(worker) => unsafe { worker.mark::<Untyped>(to) },
            To::Sink(sink) => sink("", to, || UNTYPED),
        }
    }

    /// A reference, or null.
    ///
    /// # Safety
    /// Null, or as [`edge`](RawVisitor::edge) asks.
    #[inline]
    pub unsafe fn edge_or_null(&mut self, to: *mut u8) {
        if let Some(to) = NonNull::new(to) {
            // SAFETY: the caller's.
            unsafe { self.edge(to) };
        }
    }
}

/// Objects that their block knows everything of.
pub(super) struct Untyped;

impl Shape for Untyped {
    const NEEDS_VISIT: bool = true;

    #[inline(always)]
    fn slot_bytes(block: Block) -> usize {
        block.header().slot_bytes.get()
    }

    #[inline(always)]
    fn info(block: Block) -> &'static TypeInfo {
        block.info_static()
    }

    #[inline(always)]
    unsafe fn visit<V: Visitor>(p: NonNull<u8>, visitor: &mut V) {
        // SAFETY: the caller's: a live object of a block of this shape.
        let info = unsafe { block_of(p) }.info();
        if let Some(visit) = info.raw.and_then(|raw| raw.visit) {
            // SAFETY: an object of the kind that the function is of.
            visitor.raw(|v| unsafe { visit(p, v) });
        }
    }
}

/// A reference that a cell of the embedder's holds.
struct RawRef(Option<NonNull<u8>>);

// SAFETY: the one reference is shown.
unsafe impl Collect for RawRef {
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        if let Some(to) = self.0 {
            // SAFETY: `before_write` asks that it be a live object of the heap.
            visitor.raw(|v| unsafe { v.edge(to) });
        }
    }
}

/// A heap of untyped objects. It belongs to the thread that made it.
pub struct RawHeap<O: Observer + 'static = TraceObserver> {
    arena: Arena<dyn for<'gc> Rootable<'gc, Root = ()>, O>,
}

impl RawHeap {
    /// A heap whose events go to the trace.
    ///
    /// # Errors
    /// When there is no memory for it.
    ///
    /// # Safety
    /// As [`RawHeap::with_observer`].
    pub unsafe fn new(config: Config, hooks: Hooks) -> Result<Self, OutOfMemory> {
        // SAFETY: the caller's.
        unsafe { Self::with_observer(config, TraceObserver::default(), hooks) }
    }
}

impl<O: Observer + 'static> RawHeap<O> {
    /// A heap that tells `observer` what it does.
    ///
    /// # Errors
    /// When there is no memory for it.
    ///
    /// # Safety
    /// The hooks can be called with their data for as long as the heap lives, from its thread, and do what [`Hooks`] says.
    pub unsafe fn with_observer(config: Config, observer: O, hooks: Hooks) -> Result<Self, OutOfMemory> {
        let arena = Arena::try_with_observer(config, observer, |_| ())?;
        arena.heap().hooks.set(Some(hooks));
        Ok(RawHeap { arena })
    }

    fn heap(&self) -> &Heap {
        self.arena.heap()
    }

    /// Memory for an object, which is not cleared. It must be written before the next safepoint, so that its references
    /// can be found and it can be dropped. Nothing is freed by this.
    ///
    /// # Errors
    /// When there is no memory, or the heap may not have more.
    #[inline]
    pub fn alloc(&self, kind: &'static Kind) -> Result<NonNull<u8>, OutOfMemory> {
        self.heap().alloc_slot(&kind.0, kind.0.slot_bytes)
    }

    /// As [`alloc`](RawHeap::alloc), for an object of `bytes` bytes.
    ///
    /// # Errors
    /// When there is no memory, or the heap may not have more.
    #[inline]
    pub fn alloc_sized(&self, kind: &'static SizedKind, bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let info = &kind.0[CLASSES.partition_point(|class| *class < bytes)];
        if info.is_large() {
            let bytes = bytes.checked_next_multiple_of(16).filter(|b| *b <= isize::MAX as usize).ok_or(OutOfMemory)?;
            return self.heap().alloc_large(info, bytes);
        }
        self.heap().alloc_slot(info, info.slot_bytes)
    }

    /// The write barrier: a load and a branch, unless a cycle marks or young objects are collected by themselves. To be
    /// called before the reference `old` at `slot`, a place in an object, gives way to `new`.
    ///
    /// A store into an object that was allocated after the last safepoint needs none.
    ///
    /// # Safety
    /// `old` and `new` are what stands in the slot and what will, as far as those are references into this heap, to objects
    /// that are alive.
    #[inline(always)]
    pub unsafe fn before_write(&self, slot: *const (), old: Option<NonNull<u8>>, new: Option<NonNull<u8>>) {
        if self.heap().barrier.get() != 0 {
            self.write_slow(slot, old, new);
        }
    }

    #[cold]
    #[inline(never)]
    fn write_slow(&self, slot: *const (), old: Option<NonNull<u8>>, new: Option<NonNull<u8>>) {
        if self.heap().is_snapshot_on() {
            self.heap().show_to_marker(&RawRef(old));
        } else {
            self.heap().log_write(slot.addr(), Some(&RawRef(new)));
        }
    }

    /// The place at which a cycle may begin: one load and a branch if there is nothing to do.
    ///
    /// # Safety
    /// Every object that is used afterwards can be reached from what [`Hooks::roots`] shows, or from another that can; all
    /// of them are written; and every reference in them is to an object of this heap that is alive.
    #[inline(always)]
    pub unsafe fn safepoint(&mut self) {
        self.arena.safepoint();
    }

    /// Frees all that cannot be reached, and drops what has to be dropped.
    ///
    /// # Safety
    /// As [`safepoint`](RawHeap::safepoint).
    pub unsafe fn collect(&mut self) {
        self.arena.collect();
    }

    /// Marks up to `budget` bytes, if a cycle is marking, and `true` if none is (any more).
    pub fn step(&mut self, budget: usize) -> bool {
        self.arena.step(budget)
    }

    /// Reports that objects own `bytes` more (or, below zero, less) memory outside of the heap.
    pub fn adjust_external(&self, bytes: isize) {
        self.heap().adjust_external(bytes);
    }

    /// The heap in numbers.
    pub fn stats(&self) -> HeapStats {
        self.arena.stats()
    }

    /// Checks every invariant of the heap, and every reference in it. For tests: it takes longer than a collection.
    ///
    /// # Errors
    /// The first thing that is wrong.
    ///
    /// # Safety
    /// As [`safepoint`](RawHeap::safepoint).
    pub unsafe fn verify(&mut self) -> Result<(), Violation> {
        self.arena.verify()
    }

    /// The rest of what can be set and looked at: settings, types, blocks, snapshots.
    pub fn arena(&mut self) -> &mut Arena<dyn for<'gc> Rootable<'gc, Root = ()>, O> {
        &mut self.arena
    }
}

impl Heap {
    /// Shows the embedder's roots.
    pub(super) fn visit_raw_roots(&self, visitor: &mut RawVisitor<'_>) {
        if let Some(hooks) = self.hooks.get() {
            // SAFETY: asked for when the heap was made.
            unsafe { (hooks.roots)(hooks.data, visitor) };
        }
    }

    /// Tells the embedder what is alive.
    pub(super) fn tell_marked(&self) {
        if let Some(hooks) = self.hooks.get()
            && let Some(marked) = hooks.marked
        {
            // SAFETY: asked for when the heap was made.
            unsafe { marked(hooks.data, &Liveness(&self.marker.borrow())) };
        }
    }
}
