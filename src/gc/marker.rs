//! The marker: from marked objects to all that they refer to, without recursion and without memory of its own to ask
//! for.
//!
//! It goes depth-first inside a block and first-in-first-out over blocks: a reference into the block at hand goes onto
//! a stack, one into another block puts that block into a queue. A queued block is scanned as a whole by code that
//! knows its type, so that the objects found meanwhile are done together; one that was queued for a single object has
//! just that one scanned. In front of the stack stands a short ring that gives prefetches time to arrive. On trees,
//! random graphs and lists alike no other order that was tried comes close.
//!
//! Where there is a deadline, the clock is looked at after some hundred objects, also in the middle of a block. If it is
//! time, the scan is broken off: the objects on the stack lose their scan bits again, and the block goes back into the
//! queue.
//!
//! The stack is as long as a block has slots, and the queue as long as there are blocks: neither can overflow
//! (invariant 6).

use super::OutOfMemory;
use super::array::GcArray;
use super::chunk::{Block, Hot, QUEUED_BLOCK, QUEUED_NOT, QUEUED_ONE, SLOTS_MAX, block_of};
use super::collect::{Collect, Visitor, sealed};
use super::page_vec::PageVec;
use super::pointer::Gc;
use super::raw::RawVisitor;
use super::type_info::{Fixed, Items, Shape, TypeInfo};
use super::weak::{EphemeronBox, EphemeronHead};
use crate::sys::clock::monotonic_ns;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

/// Objects between prefetch and visit: the prototype's figure, where 8 to 32 made no difference that could be told from
/// noise.
pub(super) const RING: usize = 16;
/// Objects visited between two looks at the clock, where there is a deadline: at a few cache misses each some 50 us, and
/// the look itself is 30 ns.
const VISITS_PER_CLOCK: usize = 256;
/// Visited in any step, whatever the deadline, so that marking outruns a program that allocates.
const VISITS_MIN: usize = 2048;
/// Items of a long array that are visited at a time: at a cache miss each some 100 us.
pub(super) const ITEMS_PER_VISIT: usize = 1024;
/// The address of no block.
pub(super) const NO_BLOCK: usize = usize::MAX;

/// Marks objects and finds out what they refer to.
pub(super) struct Marker {
    /// The cycle's number modulo 255, never 0.
    epoch: u8,
    /// The address of the block being scanned.
    pub(super) current: usize,
    /// Bytes of the objects marked in this cycle.
    pub(super) bytes: usize,
    /// Objects of the current block to scan. Each is pushed when its scan bit is set, so that `SLOTS_MAX` is enough.
    depth: usize,
    stack: [MaybeUninit<NonNull<u8>>; SLOTS_MAX],
    pub(super) queue: Queue,
    /// Objects and items visited, counting on and on.
    visited: usize,
    /// When so many were visited, the clock is looked at.
    visited_max: usize,
    /// When to break off, on the system's clock, in nanoseconds.
    deadline: u64,
    /// Ephemerons that were visited before it was known that their keys are alive, linked through themselves.
    pending: Option<NonNull<EphemeronHead>>,
}

impl sealed::Sealed for Marker {}

impl Visitor for Marker {
    #[inline(always)]
    fn raw(&mut self, visit: impl FnOnce(&mut RawVisitor<'_>)) {
        visit(&mut RawVisitor::marker(self));
    }

    #[inline(always)]
    fn edge<T: Collect>(&mut self, to: Gc<'_, T>) {
        // SAFETY: a `Gc` refers to a live object (invariant 5). That it is of this heap is told by its brand.
        unsafe { self.mark::<Fixed<T>>(Gc::as_erased(to)) }
    }

    fn ephemeron<V: Collect>(&mut self, of: &EphemeronBox<V>) {
        match of.head.key.get() {
            None => {}
            Some(key) if self.is_marked(key) => of.value.visit(self),
            Some(_) => self.put_aside(NonNull::from(of).cast()),
        }
    }

    #[inline(always)]
    fn array<T: Collect>(&mut self, to: GcArray<'_, T>) {
        // SAFETY: as in `edge`.
        unsafe { self.mark::<Items<T>>(GcArray::as_erased(to)) }
    }
}

impl Marker {
    pub(super) const fn new() -> Self {
        Marker {
            epoch: 1,
            current: NO_BLOCK,
            bytes: 0,
            depth: 0,
            stack: [MaybeUninit::uninit(); SLOTS_MAX],
            queue: Queue::new(),
            visited: 0,
            visited_max: usize::MAX,
            deadline: u64::MAX,
            pending: None,
        }
    }

    pub(super) fn epoch(&self) -> u8 {
        self.epoch
    }

    pub(super) fn bytes_marked(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.depth == 0
    }

    /// The bytes marked since this was last asked for.
    pub(super) fn take_bytes(&mut self) -> usize {
        core::mem::take(&mut self.bytes)
    }

    /// Visits the references of an object once more: it was marked before, and written to since.
    ///
    /// # Safety
    /// `object` is a live object of the type of `info` on this heap.
    pub(super) unsafe fn rescan(&mut self, object: NonNull<u8>, info: &TypeInfo) {
        // SAFETY: the caller's.
        let block = unsafe { block_of(object) };
        block.header().scanned.set(0);
        self.current = block.addr();
        // SAFETY: the caller's.
        unsafe { (info.scan_one)(object, self) };
        self.current = NO_BLOCK;
    }

    /// Begins a cycle. `true` if the epoch starts over, so that every block's must be reset first.
    pub(super) fn begin(&mut self) -> bool {
        // What was to be done for a collection of the young objects is part of the cycle.
        self.abandon();
        self.bytes = 0;
        let wrapped = self.epoch == u8::MAX;
        self.epoch = if wrapped { 1 } else { self.epoch + 1 };
        wrapped
    }

    /// Forgets what was still to do.
    pub(super) fn abandon(&mut self) {
        while let Some(e) = self.queue.pop() {
            // SAFETY: queue entries are objects of this heap.
            unsafe { block_of(e.object) }.hot().queued.set(QUEUED_NOT);
        }
        self.depth = 0;
        self.current = NO_BLOCK;
        self.pending = None;
    }

    /// Whether an object is marked.
    pub(super) fn is_marked(&self, object: NonNull<u8>) -> bool {
        // SAFETY: an object of this heap.
        let block = unsafe { block_of(object) };
        block.is_marked(block.index_of(object), self.epoch)
    }

    /// Keeps an ephemeron for later, when it is known whether its key is alive.
    pub(super) fn put_aside(&mut self, ephemeron: NonNull<EphemeronHead>) {
        // SAFETY: an ephemeron that is visited, so alive; this marker is the only one that visits it.
        unsafe { ephemeron.as_ref() }.next.set(self.pending);
        self.pending = Some(ephemeron);
    }

    /// Makes this the marker of another thread, which has nothing to do yet, for the cycle of `of`.
    pub(super) fn join_cycle(&mut self, of: &Marker) -> Result<(), OutOfMemory> {
        self.queue.reserve(of.queue.capacity())?;
        self.epoch = of.epoch;
        self.bytes = 0;
        Ok(())
    }

    /// Takes over what another thread's marker has found out. It has nothing to do any more.
    pub(super) fn take_over(&mut self, other: &mut Marker) {
        debug_assert!(other.is_idle());
        self.bytes += other.take_bytes();
        let mut list = other.pending.take();
        while let Some(head) = list {
            // SAFETY: as in `settle`.
            list = unsafe { head.as_ref() }.next.take();
            self.put_aside(head);
        }
    }

    /// Forgets what was still to do, where a panic has left blocks in any state. The caller resets that of all blocks.
    pub(super) fn forget_all(&mut self) {
        self.queue.clear();
        self.depth = 0;
        self.current = NO_BLOCK;
        self.pending = None;
        self.bytes = 0;
    }

    /// Visits the values of ephemerons whose keys are marked by now. `true` if there was one.
    fn settle(&mut self) -> bool {
        let mut list = self.pending.take();
        let mut progress = false;
        while let Some(head) = list {
            // SAFETY: an ephemeron that was visited in this collection, so alive; objects do not move.
            let ephemeron = unsafe { head.as_ref() };
            list = ephemeron.next.take();
            if ephemeron.key.get().is_some_and(|key| self.is_marked(key)) {
                progress = true;
                // SAFETY: the function belongs to this ephemeron's type.
                unsafe { (ephemeron.visit_value)(head, self) };
            } else {
                ephemeron.next.set(self.pending);
                self.pending = Some(head);
            }
        }
        progress
    }

    /// At the end of marking: ephemerons whose keys were not reached lose them.
    pub(super) fn clear_pending(&mut self) {
        let mut list = self.pending.take();
        while let Some(head) = list {
            // SAFETY: as in `settle`.
            let ephemeron = unsafe { head.as_ref() };
            list = ephemeron.next.take();
            ephemeron.key.set(None);
        }
    }

    /// Makes room in the queue for `blocks` blocks.
    pub(super) fn reserve(&mut self, blocks: usize) -> Result<(), OutOfMemory> {
        self.queue.reserve(blocks)
    }

    /// Marks the object at `p`, and sees to it that its references will be visited.
    ///
    /// # Safety
    /// `p` is a live object of shape `S` on this heap.
    #[inline(always)]
    pub(super) unsafe fn mark<S: Shape>(&mut self, p: NonNull<u8>) {
        // SAFETY: the caller's.
        let block = unsafe { block_of(p) };
        let hot = block.hot();
        if hot.epoch.get() != self.epoch {
            block.refresh(self.epoch);
        }
        let slot_bytes = S::slot_bytes(block);
        let index = (p.addr().get() - block.addr()) / slot_bytes;
        let (group, bit) = (block.group(index / 64), 1u64 << (index % 64));
        let mark = group.mark.get();
        if mark & bit != 0 {
            return;
        }
        group.mark.set(mark | bit);
        self.bytes += slot_bytes;
        if !S::NEEDS_VISIT {
            return;
        }
        prefetch(p);
        if block.addr() == self.current {
            group.scan.set(group.scan.get() | bit);
            self.push(p);
        } else {
            match hot.queued.get() {
                QUEUED_NOT => self.enqueue(hot, p, S::info(block)),
                QUEUED_ONE => hot.queued.set(QUEUED_BLOCK),
                _ => {}
            }
        }
    }

    /// Puts a block into the queue for its first object. Out of line, so that `visit` is small enough to be inlined where
    /// it is called for each object of a block.
    #[inline(never)]
    fn enqueue(&mut self, hot: &Hot, object: NonNull<u8>, info: &'static TypeInfo) {
        hot.queued.set(QUEUED_ONE);
        self.queue.push(Entry { object, info });
    }

    /// Works until nothing is left (`true`), or `budget` bytes were marked, or the deadline (of the system's clock, in
    /// nanoseconds) passed.
    pub(super) fn drain(&mut self, budget: usize, deadline: Option<u64>) -> bool {
        let stop = self.bytes.saturating_add(budget);
        self.visited = 0;
        self.visited_max = if deadline.is_some() { VISITS_MIN } else { usize::MAX };
        self.deadline = deadline.unwrap_or(u64::MAX);
        loop {
            let Some(Entry { object, info }) = self.queue.pop() else {
                if self.pending.is_some() && self.settle() {
                    continue;
                }
                break;
            };
            // SAFETY: queue entries are objects of this heap.
            let block = unsafe { block_of(object) };
            let queued = block.hot().queued.replace(QUEUED_NOT);
            self.current = block.addr();
            if queued == QUEUED_ONE {
                let index = if info.is_large() { 0 } else { (object.addr().get() - block.addr()) / info.slot_bytes };
                let scan = &block.group(index / 64).scan;
                scan.set(scan.get() | 1 << (index % 64));
                // SAFETY: `object` is a marked object of the type of `info`.
                unsafe { (info.scan_one)(object, self) };
            } else {
                // SAFETY: the block holds objects of the type of `info` (invariant 3).
                unsafe { (info.scan_block)(block, self) };
            }
            self.current = NO_BLOCK;
            if self.bytes >= stop {
                break;
            }
            if self.visited >= self.visited_max && self.is_time(self.visited) {
                break;
            }
        }
        self.visited_max = usize::MAX;
        self.is_idle()
    }

    /// Looks at the clock, after so many visits. If it is not time to break off, the next look is some visits away.
    #[cold]
    #[inline(never)]
    fn is_time(&mut self, visited: usize) -> bool {
        let time = monotonic_ns() >= self.deadline;
        if !time {
            self.visited_max = visited + VISITS_PER_CLOCK;
        }
        time
    }

    /// # Safety
    /// `p` is a live object of shape `S` on this heap, in the current block.
    pub(super) unsafe fn scan_one<S: Shape>(p: NonNull<u8>, marker: &mut Marker) {
        // SAFETY: the caller's.
        unsafe { S::visit(p, marker) };
        marker.visited += 1;
        if marker.depth > 0 {
            // SAFETY: the stack holds objects of the current block.
            unsafe { marker.drain_stack::<S>() };
        }
    }

    /// Visits the next items of an array that is too long to be visited in one step, and queues it again for the rest.
    ///
    /// # Safety
    /// `p` is a live large array of items of type `T` on this heap, in the current block.
    pub(super) unsafe fn scan_long<T: Collect>(p: NonNull<u8>, marker: &mut Marker) {
        // SAFETY: the caller's.
        let block = unsafe { block_of(p) };
        // SAFETY: the caller's.
        let items = unsafe { Items::<T>::slice(p) };
        let from = block.header().scanned.get();
        let to = (from + ITEMS_PER_VISIT).min(items.len());
        for item in items.get(from..to).into_iter().flatten() {
            item.visit(marker);
        }
        marker.visited += to.saturating_sub(from);
        block.header().scanned.set(if to < items.len() { to } else { 0 });
        if to < items.len() {
            block.hot().queued.set(QUEUED_ONE);
            marker.queue.push(Entry { object: p, info: block.info() });
        }
    }

    /// # Safety
    /// `block` holds objects of shape `S` and is the current one.
    pub(super) unsafe fn scan_block<S: Shape>(block: Block, marker: &mut Marker) {
        let slot_bytes = S::slot_bytes(block);
        for i in 0..block.group_count() {
            let group = block.group(i);
            loop {
                let mut todo = group.mark.get() & !group.scan.get();
                if todo == 0 {
                    break;
                }
                group.scan.set(group.scan.get() | todo);
                while todo != 0 {
                    let index = i * 64 + todo.trailing_zeros() as usize;
                    todo &= todo - 1;
                    // SAFETY: a marked slot lies inside the block.
                    let p = unsafe { block.as_ptr().add(index * slot_bytes) };
                    prefetch(p);
                    marker.push(p);
                }
                // SAFETY: the stack holds objects of the current block.
                unsafe { marker.drain_stack::<S>() };
                if marker.visited >= marker.visited_max && marker.is_time(marker.visited) {
                    // Also if nothing is left: that is found out when the block's turn comes.
                    marker.queue_again(block);
                    return;
                }
            }
        }
    }

    /// Puts the current block back into the queue, for all of its objects that are marked and not scanned.
    #[cold]
    fn queue_again(&mut self, block: Block) {
        if block.hot().queued.replace(QUEUED_BLOCK) == QUEUED_NOT {
            self.queue.push(Entry { object: block.as_ptr(), info: block.info_static() });
        }
    }

    /// Gives the objects back that are on the stack or in the ring, for a later scan of their block.
    #[cold]
    #[inline(never)]
    fn put_off(&mut self, ring: &[NonNull<u8>; RING], from: usize, to: usize) {
        let mut last = None;
        let waiting = (from..to).map(|i| ring[i % RING]);
        for p in waiting.chain(core::iter::from_fn(|| self.pop())) {
            // SAFETY: an object of this heap.
            let block = unsafe { block_of(p) };
            let index = block.index_of(p);
            let scan = &block.group(index / 64).scan;
            scan.set(scan.get() & !(1 << (index % 64)));
            last = Some(block);
        }
        if let Some(block) = last {
            self.queue_again(block);
        }
    }

    /// Visits all objects on the stack, and those that this puts there, or as many as there is time for; the others are
    /// put off.
    ///
    /// # Safety
    /// The stack holds marked objects of shape `S`, all of the current block.
    #[inline(always)]
    unsafe fn drain_stack<S: Shape>(&mut self) {
        let mut ring = [NonNull::<u8>::dangling(); RING];
        let (mut head, mut tail) = (0usize, 0usize);
        // One at least, or nothing would come of it.
        let mut most = self.visited_max.saturating_sub(self.visited).max(1);
        loop {
            if let Some(p) = self.pop() {
                ring[tail % RING] = p;
                tail += 1;
                if tail - head < RING {
                    continue;
                }
            } else if head == tail {
                break;
            }
            let p = ring[head % RING];
            head += 1;
            // SAFETY: the caller's.
            unsafe { S::visit(p, self) };
            if head == most {
                if self.is_time(self.visited + head) {
                    self.put_off(&ring, head, tail);
                    break;
                }
                most = self.visited_max - self.visited;
            }
        }
        self.visited += head;
    }

    #[inline(always)]
    pub(super) fn push(&mut self, p: NonNull<u8>) {
        debug_assert!(self.depth < SLOTS_MAX);
        // SAFETY: invariant 6: an object is pushed once a cycle, and the stack holds those of one block only.
        unsafe { self.stack.get_unchecked_mut(self.depth) }.write(p);
        self.depth += 1;
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<NonNull<u8>> {
        self.depth = self.depth.checked_sub(1)?;
        // SAFETY: below the old depth, so inside the array.
        let top = unsafe { self.stack.get_unchecked(self.depth) };
        // SAFETY: `push` wrote it.
        Some(unsafe { top.assume_init() })
    }
}

/// An object whose block has references to visit.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) object: NonNull<u8>,
    pub(super) info: &'static TypeInfo,
}

/// Blocks to scan, each at most once. A ring with as many places as there are blocks.
pub(super) struct Queue {
    /// All places; their number is a power of two.
    entries: PageVec<Entry>,
    /// Where to take from, and where to put; they count on and on.
    head: usize,
    tail: usize,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Queue { entries: PageVec::new(), head: 0, tail: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    pub(super) fn len(&self) -> usize {
        self.tail - self.head
    }

    /// How many entries there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.entries.as_slice().len()
    }

    /// Makes room for so many entries.
    pub(super) fn reserve(&mut self, blocks: usize) -> Result<(), OutOfMemory> {
        let old = self.entries.as_slice();
        if blocks <= old.len() {
            return Ok(());
        }
        let filler = Entry { object: NonNull::dangling(), info: <Fixed<()>>::INFO };
        let mut new = PageVec::new();
        let len = self.tail - self.head;
        for i in self.head..self.tail {
            new.push(old[i & (old.len() - 1)])?;
        }
        for _ in len..(blocks.max(4096) * 2).next_power_of_two() / 2 {
            new.push(filler)?;
        }
        self.entries = new;
        (self.head, self.tail) = (0, len);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.head = self.tail;
    }

    #[inline(always)]
    pub(super) fn push(&mut self, e: Entry) {
        let entries = self.entries.as_mut_slice();
        let at = self.tail & (entries.len().wrapping_sub(1));
        debug_assert!(self.tail - self.head < entries.len());
        // SAFETY: the length is a power of two and not 0, since a chunk is mapped (invariant 6).
        *unsafe { entries.get_unchecked_mut(at) } = e;
        self.tail += 1;
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Entry> {
        if self.is_empty() {
            return None;
        }
        let entries = self.entries.as_slice();
        // SAFETY: as in `push`.
        let e = *unsafe { entries.get_unchecked(self.head & (entries.len() - 1)) };
        self.head += 1;
        Some(e)
    }
}

/// Asks the processor to fetch what is at `p`.
#[inline(always)]
pub(super) fn prefetch(p: NonNull<u8>) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch has no effect that the program could see.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p.as_ptr().cast_const().cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = p;
}
