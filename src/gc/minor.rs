//! Generations without moving: marks stay after a cycle, and say which objects are old.
//!
//! Objects allocated since have clear marks: they are young. A minor collection marks, from the roots and from the old
//! objects that were written to, and stops at whatever is marked; it looks at no other old object. What it marks is old
//! from then on. The blocks that were allocated in since the last collection are then sorted as after a cycle, so that
//! their free slots are used again while they are still in the cache.
//!
//! Such a collection cannot be broken off, so it is kept short beforehand: the nursery is as large as can be collected
//! within the pause target, by how long the last ones took. Where a program allocates more than that between two
//! safepoints, a full cycle in steps takes the place of the collection, if it is not many times the work.
//!
//! Cells tell of writes by their own address ([`Heap::log_write`]): the object around it is found from the block's slot
//! size. A cell outside of the heap's memory, such as in a `Vec` that an object owns, has no such object; then the new
//! value counts as old, or if it is not known yet (a mutable borrow), the next collection is a full one.

use super::chunk::{BLOCKS, Block, Kind, TABLE_BLOCKS};
use super::collect::Collect;
use super::cycle::Bracket;
use super::heap::{Heap, LOG, Phase};
use super::page_vec::PageVec;
use crate::sys::clock::monotonic_ns;
use core::cell::{Cell, RefCell};
use core::ptr::NonNull;

/// The nursery of a small heap, if it can be collected in time. The prototype found no difference from 256 KiB to 4 MiB;
/// this fits the second-level cache.
const NURSERY_BYTES: usize = 1 << 20;
/// The least that is allocated between two minor collections, and the nursery until it is known how long its collection
/// takes: some 0.7 ms if everything in it survives and each object is a cache miss.
const NURSERY_BYTES_MIN: usize = 128 << 10;
/// A minor collection that would take longer than so many times the pause target gives way to a cycle in steps,
const PAUSES_MAX: u128 = 2;
/// unless the cycle is so many times the work. (Without this, a program with large temporary trees took three times as
/// long.)
const FAR_LESS: u128 = 8;
/// The nursery grows with the old objects, to this part of them.
const NURSERY_PART: usize = 8;
/// What remembering and visiting one old object costs at least, counted in bytes marked.
const REMEMBERED_COST_BYTES: usize = 64;
/// A block with less than this part of its slots free is taken for a full one.
const FULL_PART: usize = 32;
/// The speed of marking until there was a cycle: 65536 objects of 16 bytes at a cache miss each.
const FIRST_NS_PER_MIB: u64 = 5_000_000;
/// How many full cycles go by without minor collections after these did not pay.
const OFF_CYCLES: u32 = 4;

/// State of the generational mode.
pub(super) struct Young {
    /// Old objects that were written to. Each has its dirty bit set.
    remembered: RefCell<PageVec<NonNull<u8>>>,
    /// Something was written of which it is not known where: no minor collection before the next full one.
    pub(super) unknown: Cell<bool>,
    /// The young objects are collected when so many bytes of them were allocated.
    pub(super) nursery: Cell<usize>,
    /// What the last minor collections cost and how much was young, in bytes; older ones count for less and less.
    lately: Cell<(usize, usize)>,
    /// How long it takes to collect a MiB of young objects, in nanoseconds: the longest of late. 0 if not known.
    ns_per_mib: Cell<u64>,
    /// Full cycles until minor collections are tried again.
    off: Cell<u32>,
    /// In stress mode: whose turn it is.
    pub(super) turn: Cell<bool>,
}

impl Young {
    pub(super) fn new() -> Self {
        Young {
            remembered: RefCell::new(PageVec::new()),
            unknown: Cell::new(false),
            nursery: Cell::new(NURSERY_BYTES_MIN),
            lately: Cell::new((0, 0)),
            ns_per_mib: Cell::new(0),
            off: Cell::new(0),
            turn: Cell::new(false),
        }
    }

    /// Forgets what was written to: every object is visited anyway.
    pub(super) fn forget(&self) {
        self.remembered.borrow_mut().clear();
        self.unknown.set(false);
    }
}

impl Heap {
    /// Whether minor collections are to be done from now on. Asked once a full cycle.
    pub(super) fn minors_pay(&self) -> bool {
        let off = self.young.off.get();
        self.young.off.set(off.saturating_sub(1));
        self.config.generational && off == 0
    }

    pub(super) fn size_nursery(&self) {
        let most = NURSERY_BYTES.max(self.sizes.base.get() / NURSERY_PART);
        let in_time = match self.young.ns_per_mib.get() {
            0 => 0,
            ns => usize::try_from((self.config.max_pause.as_nanos() << 20) / u128::from(ns)).unwrap_or(usize::MAX),
        };
        // No more than twice the last: what was true of little need not be true of much.
        let grown = self.young.nursery.get() * 2;
        self.young.nursery.set(most.min(in_time).min(grown).max(NURSERY_BYTES_MIN));
    }

    /// Whether the young objects are to be collected by themselves: if that takes about the time that a pause may take, to
    /// judge by the last collections, or if it is far less work than a cycle. Where there were no collections, it is
    /// supposed that all of them survive.
    pub(super) fn is_minor_short(&self) -> bool {
        let young = self.sizes.allocated.get();
        let whole_ns_per_mib = self.clock.ns_per_mib().unwrap_or(FIRST_NS_PER_MIB);
        let ns_per_mib = match self.young.ns_per_mib.get() {
            0 => whole_ns_per_mib,
            ns => ns,
        };
        let ns = |bytes: usize, ns_per_mib: u64| (bytes as u128 * u128::from(ns_per_mib)) >> 20;
        let minor_ns = ns(young, ns_per_mib);
        young <= self.young.nursery.get() + NURSERY_BYTES_MIN
            || minor_ns <= PAUSES_MAX * self.config.max_pause.as_nanos()
            || minor_ns * FAR_LESS <= ns(self.heap_bytes(), whole_ns_per_mib)
    }

    /// A full cycle begins: what was learned of minor collections counts for less.
    pub(super) fn age_nursery(&self) {
        if self.young.off.get() == 0 {
            self.young.ns_per_mib.set(self.young.ns_per_mib.get() / 4 * 3);
        }
    }

    /// Learns from a minor collection of so many bytes.
    fn learn(&self, young: usize, ns: u64) {
        if young > 0 {
            let ns_per_mib = u64::try_from((u128::from(ns) << 20) / young as u128).unwrap_or(u64::MAX);
            self.young.ns_per_mib.set(ns_per_mib.max(self.young.ns_per_mib.get() / 8 * 7).max(1));
        }
    }

    /// A cell at `address` is about to be overwritten, by `new` if that is known already.
    #[inline(never)]
    pub(super) fn log_write<T: Collect>(&self, address: usize, new: Option<&T>) {
        match (self.object_around(address), new) {
            // A long array is not visited again for one item: that counts as old from now on.
            (Some((block, _)), Some(new)) if block.header().kind.get() == Kind::Large => self.show_to_marker(new),
            (Some((block, index)), _) => self.remember(block, index),
            (None, Some(new)) => self.show_to_marker(new),
            (None, None) => self.young.unknown.set(true),
        }
    }

    /// Notes that an object is written to, unless it is young or noted already.
    fn remember(&self, block: Block, index: usize) {
        let group = block.group(index / 64);
        let bit = 1 << (index % 64);
        if group.mark.get() & !group.dirty.get() & bit == 0 || block.hot().epoch.get() != self.epoch.get() {
            return;
        }
        group.dirty.set(group.dirty.get() | bit);
        if self.young.remembered.borrow_mut().push(block.slot(index)).is_err() {
            self.young.unknown.set(true);
        }
    }

    /// The object that the address lies in, as block and slot, if it is in the heap.
    fn object_around(&self, address: usize) -> Option<(Block, usize)> {
        let chunk = self.pool.borrow().chunk_of(address)?;
        let offset = address - chunk.as_ptr().addr().get();
        if chunk.is_huge() {
            return Some((chunk.block(TABLE_BLOCKS), 0));
        }
        let number = offset / super::chunk::BLOCK_BYTES;
        debug_assert!((TABLE_BLOCKS..BLOCKS).contains(&number));
        let mut block = chunk.block(number);
        if block.header().kind.get() == Kind::Rest {
            block = chunk.block(number - block.header().run.get() as usize);
        }
        debug_assert!(block.header().kind.get() != Kind::Free);
        Some((block, (address - block.addr()) / block.header().slot_bytes.get()))
    }

    /// Collects the young objects. No reference into the heap may be held outside of it.
    pub(super) fn minor(&self) {
        debug_assert!(self.phase.get() == Phase::Idle && self.barrier.get() == LOG && self.marks_valid.get());
        if self.young.unknown.get() {
            return;
        }
        let (young, survived) = (Cell::new(0), Cell::new(0));
        let begin = monotonic_ns();
        self.or_abandon(|| {
            let _minor = Bracket::minor(self, || (young.get(), survived.get()));
            self.retire_all();
            young.set(self.sizes.allocated.get());
            let remembered = self.mark_young();
            self.clear_weak();
            survived.set(self.marker.borrow_mut().take_bytes());
            self.sort_used_blocks();
            let sizes = &self.sizes;
            sizes.base.set(sizes.base.get() + survived.get());
            sizes.allocated.set(0);
            sizes.allocated_before.set(sizes.allocated_before.get() + young.get() as u64);
            self.learn(young.get(), monotonic_ns() - begin);
            let (cost, of) = self.young.lately.get();
            let (cost, of) = (cost / 4 * 3 + remembered + survived.get(), of / 4 * 3 + young.get());
            self.young.lately.set((cost, of));
            if cost > of / 2 && of >= NURSERY_BYTES / 4 {
                self.young.lately.set((0, 0));
                self.young.off.set(OFF_CYCLES);
                self.young.nursery.set(NURSERY_BYTES_MIN);
                self.young.forget();
                self.barrier.set(0);
            }
        });
        self.size_nursery();
        self.observer().live(self.heap_bytes());
    }

    /// Marks the young objects that can be reached, and returns the bytes of the old ones that had to be visited.
    fn mark_young(&self) -> usize {
        let mut marker = self.marker.borrow_mut();
        let mut remembered = self.young.remembered.borrow_mut();
        let mut cost = 0;
        while let Some(object) = remembered.pop() {
            // SAFETY: an object of this heap: it was old when it was noted, and only full cycles free old objects.
            let block = unsafe { super::chunk::block_of(object) };
            let index = block.index_of(object);
            let dirty = &block.group(index / 64).dirty;
            dirty.set(dirty.get() & !(1 << (index % 64)));
            // SAFETY: as above.
            unsafe { marker.rescan(object, block.info()) };
            // The whole of it was visited, however long.
            cost += REMEMBERED_COST_BYTES.max(block.header().slot_bytes.get());
        }
        self.mark_roots(&mut marker);
        drop((marker, remembered));
        self.mark_all(usize::MAX, None);
        self.roots.watch().borrow_mut().all_old();
        cost
    }

    /// Sorts the blocks that were allocated in since the last collection.
    fn sort_used_blocks(&self) {
        let freed = Cell::new(0);
        let _sweep = Bracket::sweep(self, || (freed.get(), freed.get()));
        for index in 0..self.with_types(<[_]>::len) {
            while let Some(block) = self.with_types(|t| t[index].used.pop()) {
                let (marks, slots) = (block.marks(), block.header().slots.get() as usize);
                // A block that is all but full stands in no list until the next cycle: else every such collection would
                // go through all full blocks that allocation came by, which are as many as there are old objects.
                let is_full = block.info().drop.is_none() && (slots - marks) * FULL_PART < slots;
                if !is_full {
                    freed.set(freed.get() + self.sort_block(block, marks > 0));
                }
            }
        }
    }
}
