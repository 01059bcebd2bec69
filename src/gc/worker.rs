//! A marker among several: what [`Marker`] does, on a heap on which other threads mark at the same time.
//!
//! It goes the same way, depth-first inside a block and first-in-first-out over blocks, with a queue of its own. What is
//! different is what the bits cost. Marks are set by an atomic operation, since any worker may reach an object. All
//! else about a block belongs to the one worker that scans it:
//!
//! ```text
//!            marked by anybody            scanned by one worker
//!  NOT ----------------------> ONE -----------------------------> BUSY ---> NOT
//!   who did it queues it        | a second object    |             |  another marks in it
//!                               +--> BLOCK ----------+             +--> AGAIN ---> BLOCK, queued by that one worker
//! ```
//! A worker marks an object first and looks at the state of its block then; another makes a block busy first and looks at
//! its marks then. These four accesses are sequentially consistent, so one of the two sees what the other did, and no
//! object that is marked is forgotten.
//!
//! Who shares out the work, and on which threads, is said in `team`.

use super::array::GcArray;
use super::chunk::{Block, Hot, QUEUED_AGAIN, QUEUED_BLOCK, QUEUED_BUSY, QUEUED_NOT, QUEUED_ONE, block_of};
use super::collect::{Collect, Visitor, sealed};
use super::marker::{Entry, ITEMS_PER_VISIT, Marker, NO_BLOCK, RING, prefetch};
use super::pointer::Gc;
use super::raw::RawVisitor;
use super::type_info::{Fixed, Items, Shape, TypeInfo};
use super::weak::EphemeronBox;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

/// A marker that is not alone. Everything in here relies on invariant 13: no thread but workers uses the heap's memory
/// while there is one.
#[repr(transparent)]
pub(super) struct Worker(Marker);

impl sealed::Sealed for Worker {}

impl Visitor for Worker {
    #[inline(always)]
    fn raw(&mut self, visit: impl FnOnce(&mut RawVisitor<'_>)) {
        visit(&mut RawVisitor::worker(self));
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
            // Perhaps the key is just being marked: that is seen when all workers are done.
            Some(_) => self.0.put_aside(NonNull::from(of).cast()),
        }
    }

    #[inline(always)]
    fn array<T: Collect>(&mut self, to: GcArray<'_, T>) {
        // SAFETY: as in `edge`.
        unsafe { self.mark::<Items<T>>(GcArray::as_erased(to)) }
    }
}

impl Worker {
    /// # Safety
    /// Until the worker is gone, no thread but workers uses the memory of the marker's heap, and each has its own marker
    /// of the same epoch (invariant 13).
    pub(super) unsafe fn of(marker: &mut Marker) -> &mut Worker {
        // SAFETY: a worker is a marker and nothing else.
        unsafe { &mut *(core::ptr::from_mut(marker).cast::<Worker>()) }
    }

    pub(super) fn marker(&mut self) -> &mut Marker {
        &mut self.0
    }

    fn is_marked(&self, object: NonNull<u8>) -> bool {
        // SAFETY: an object of this heap.
        let block = unsafe { block_of(object) };
        // SAFETY: invariant 13.
        let (epoch, _) = unsafe { block.hot().shared() };
        let index = block.index_of(object);
        // SAFETY: invariant 13.
        let mark = unsafe { block.group(index / 64).shared_mark() };
        epoch.load(Ordering::Acquire) == self.0.epoch() && mark.load(Ordering::Relaxed) & (1 << (index % 64)) != 0
    }

    /// As [`Marker::mark`].
    ///
    /// # Safety
    /// `p` is a live object of shape `S` on this heap.
    #[inline(always)]
    pub(super) unsafe fn mark<S: Shape>(&mut self, p: NonNull<u8>) {
        // SAFETY: the caller's.
        let block = unsafe { block_of(p) };
        let hot = block.hot();
        // SAFETY: invariant 13.
        let (epoch, _) = unsafe { hot.shared() };
        // Acquire pairs with the Release of `refresh_shared`.
        if epoch.load(Ordering::Acquire) != self.0.epoch() {
            // SAFETY: invariant 13.
            unsafe { block.refresh_shared(self.0.epoch()) };
        }
        let slot_bytes = S::slot_bytes(block);
        let index = (p.addr().get() - block.addr()) / slot_bytes;
        let (group, bit) = (block.group(index / 64), 1u64 << (index % 64));
        // SAFETY: invariant 13.
        let mark = unsafe { group.shared_mark() };
        // The look in front spares most objects that are marked the atomic operation, which decides. Sequentially
        // consistent with `call_for`.
        if mark.load(Ordering::Relaxed) & bit != 0 || mark.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
            return;
        }
        self.0.bytes += slot_bytes;
        if !S::NEEDS_VISIT {
            return;
        }
        prefetch(p);
        if block.addr() == self.0.current {
            // The scan bits are those of the worker that scans the block, which is this one.
            group.scan.set(group.scan.get() | bit);
            self.0.push(p);
        } else {
            self.call_for::<S>(block, hot, p);
        }
    }

    /// Sees to it that the block of an object that was just marked is scanned.
    #[inline(always)]
    fn call_for<S: Shape>(&mut self, block: Block, hot: &Hot, object: NonNull<u8>) {
        // SAFETY: invariant 13.
        let (_, queued) = unsafe { hot.shared() };
        let state = queued.load(Ordering::SeqCst);
        if state != QUEUED_BLOCK && state != QUEUED_AGAIN {
            self.change_state(hot, state, object, S::info(block));
        }
    }

    #[inline(never)]
    fn change_state(&mut self, hot: &Hot, mut state: u8, object: NonNull<u8>, info: &'static TypeInfo) {
        // SAFETY: invariant 13.
        let (_, queued) = unsafe { hot.shared() };
        loop {
            let to = match state {
                QUEUED_NOT => QUEUED_ONE,
                QUEUED_ONE => QUEUED_BLOCK,
                QUEUED_BUSY => QUEUED_AGAIN,
                _ => return,
            };
            match queued.compare_exchange(state, to, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(other) => state = other,
            }
        }
        if state == QUEUED_NOT {
            self.0.queue.push(Entry { object, info });
        }
    }

    /// Scans what a queue entry stands for.
    pub(super) fn scan(&mut self, entry: Entry) {
        let Entry { object, info } = entry;
        // SAFETY: queue entries are objects of this heap.
        let block = unsafe { block_of(object) };
        // SAFETY: invariant 13.
        let (_, queued) = unsafe { block.hot().shared() };
        // From here on the block is this worker's. Sequentially consistent with `call_for`; what its last owner did is seen.
        let state = queued.swap(QUEUED_BUSY, Ordering::SeqCst);
        self.0.current = block.addr();
        // SAFETY: a marked object of the type of `info`, in a block of that type (invariant 3), which is the current one.
        let is_done = unsafe { (info.scan_shared)(object, state == QUEUED_ONE, self) };
        self.0.current = NO_BLOCK;
        if !is_done {
            // A block with one object, which is marked: nobody calls for it any more.
            queued.store(QUEUED_ONE, Ordering::SeqCst);
            self.0.queue.push(entry);
        } else if queued.compare_exchange(QUEUED_BUSY, QUEUED_NOT, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            queued.store(QUEUED_BLOCK, Ordering::SeqCst);
            self.0.queue.push(Entry { object: block.as_ptr(), info });
        }
    }

    /// Visits the object at `p`, if it is `alone`, or else all objects of its block that are marked and not scanned.
    /// Always `true`: all is done.
    ///
    /// # Safety
    /// `p` is a live object of shape `S` on this heap, or the first slot of a block of such; the block is the current one.
    pub(super) unsafe fn scan_shared<S: Shape>(p: NonNull<u8>, alone: bool, worker: &mut Worker) -> bool {
        // SAFETY: the caller's.
        let block = unsafe { block_of(p) };
        let slot_bytes = S::slot_bytes(block);
        if alone {
            let index = (p.addr().get() - block.addr()) / slot_bytes;
            let (scan, bit) = (&block.group(index / 64).scan, 1 << (index % 64));
            // It may have been scanned with its block, between its mark and the look at the block's state.
            if scan.get() & bit == 0 {
                scan.set(scan.get() | bit);
                // SAFETY: the caller's.
                unsafe { S::visit(p, worker) };
                // SAFETY: the stack holds objects of the current block.
                unsafe { worker.drain_stack::<S>() };
            }
            return true;
        }
        for i in 0..block.group_count() {
            let group = block.group(i);
            // SAFETY: invariant 13.
            let mark = unsafe { group.shared_mark() };
            loop {
                // Sequentially consistent with `mark`.
                let mut todo = mark.load(Ordering::SeqCst) & !group.scan.get();
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
                    worker.0.push(p);
                }
                // SAFETY: the stack holds objects of the current block.
                unsafe { worker.drain_stack::<S>() };
            }
        }
        true
    }

    /// Visits the next items of a long array. `true` if those were the last; else it is to be queued again, so that another
    /// worker may go on with it.
    ///
    /// # Safety
    /// `p` is a live large array of items of type `T` on this heap, in the current block.
    pub(super) unsafe fn scan_long_shared<T: Collect>(p: NonNull<u8>, _: bool, worker: &mut Worker) -> bool {
        // SAFETY: the caller's.
        let block = unsafe { block_of(p) };
        let (scan, scanned) = (&block.group(0).scan, &block.header().scanned);
        scan.set(1);
        // SAFETY: the caller's.
        let items = unsafe { Items::<T>::slice(p) };
        let from = scanned.get();
        let to = (from + ITEMS_PER_VISIT).min(items.len());
        for item in items.get(from..to).into_iter().flatten() {
            item.visit(worker);
        }
        scanned.set(if to < items.len() { to } else { 0 });
        to == items.len()
    }

    /// As [`Marker`]'s, without a deadline.
    ///
    /// # Safety
    /// The stack holds marked objects of shape `S`, all of the current block.
    #[inline(always)]
    unsafe fn drain_stack<S: Shape>(&mut self) {
        let mut ring = [NonNull::<u8>::dangling(); RING];
        let (mut head, mut tail) = (0usize, 0usize);
        loop {
            if let Some(p) = self.0.pop() {
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
        }
    }
}
