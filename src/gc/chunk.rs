//! The memory layout: 4 MiB chunks of 32 KiB blocks with a side table in front, found from any object's address by a
//! mask.
//!
//! ```text
//! chunk + 0        Hot[128]     4 bytes a block: what the marker reads for every pointer, so that it stays in the L1 cache
//!       + 512      ChunkHeader
//!       + 1 KiB    Header[128]  64 bytes a block: type, size, list links
//!       + 9 KiB    Group[32]    for each of the blocks 5..128: four bits an object
//!       + 160 KiB  block 5, block 6, ... block 127
//! ```
//! The first five blocks hold the table, which is 3.9 % of the chunk. An object larger than [`OBJECT_BYTES_SMALL_MAX`]
//! has a run of whole blocks for itself; one that no chunk can hold has a chunk of its own, longer than the others, and
//! lies in its block 5.
//!
//! This file knows addresses and bits only. What the bits mean is said in [`super`].

use super::type_info::TypeInfo;
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A block is the unit that belongs to one type. 32 KiB: the prototype's figure; it bounds the mark stack and is one
/// quantum of pacing.
pub(super) const BLOCK_BYTES: usize = 32 << 10;
/// What is taken from the system at a time, and the alignment that makes the mask work.
pub(super) const CHUNK_BYTES: usize = 4 << 20;
/// Blocks in a chunk, the table's own included.
pub(super) const BLOCKS: usize = CHUNK_BYTES / BLOCK_BYTES;
/// The blocks that the table takes.
pub(super) const TABLE_BLOCKS: usize = 5;
/// The smallest slot. Smaller objects would need more than four times 512 bits of table a block.
pub(super) const SLOT_BYTES_MIN: usize = 16;
/// The most slots that a block can have; also the bound of the mark stack.
pub(super) const SLOTS_MAX: usize = BLOCK_BYTES / SLOT_BYTES_MIN;
/// The largest object that shares a block with others.
pub(super) const OBJECT_BYTES_SMALL_MAX: usize = 8 << 10;
/// The longest run of blocks that an ordinary chunk can hold.
pub(super) const RUN_BLOCKS_MAX: usize = BLOCKS - TABLE_BLOCKS;

const HEADER_AT: usize = 1 << 10;
const GROUP_AT: usize = 4 << 10;
const GROUPS: usize = SLOTS_MAX / 64;

const _: () = {
    assert!(size_of::<Hot>() * BLOCKS <= CHUNK_HEADER_AT);
    assert!(CHUNK_HEADER_AT + size_of::<ChunkHeader>() <= HEADER_AT);
    assert!(HEADER_AT + size_of::<Header>() * BLOCKS <= GROUP_AT + TABLE_BLOCKS * GROUPS * size_of::<Group>());
    assert!(GROUP_AT + BLOCKS * GROUPS * size_of::<Group>() <= TABLE_BLOCKS * BLOCK_BYTES);
};
const CHUNK_HEADER_AT: usize = 512;

/// What a block is used for. Zeroed memory reads as `Free`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// In the pool.
    Free = 0,
    /// Slots of one size for objects of one type.
    Small = 1,
    /// The first block of a run that holds one object.
    Large = 2,
    /// A later block of such a run.
    Rest = 3,
}

/// Whether a block waits in the marker's queue, and for how much.
pub(super) const QUEUED_NOT: u8 = 0;
/// In the queue for one object, which the queue's entry names.
pub(super) const QUEUED_ONE: u8 = 1;
/// In the queue for every object that is marked and not scanned.
pub(super) const QUEUED_BLOCK: u8 = 2;
/// While several threads mark: one of them scans the block, and nobody else does.
pub(super) const QUEUED_BUSY: u8 = 3;
/// As `QUEUED_BUSY`, and another has marked an object in it meanwhile, so that it is to be scanned again.
pub(super) const QUEUED_AGAIN: u8 = 4;

/// The part of a block's state that marking one pointer needs.
#[repr(C)]
pub(super) struct Hot {
    /// The cycle (modulo 255, never 0) in which the bitmaps were last made valid; in any other cycle all marks count as
    /// clear.
    pub(super) epoch: Cell<u8>,
    /// One of `QUEUED_*`.
    pub(super) queued: Cell<u8>,
    /// While several threads mark: not 0 if one of them makes the bitmaps valid.
    refreshing: Cell<u8>,
    _reserved: u8,
}

impl Hot {
    /// The two that several markers use at the same time, as atomics.
    ///
    /// # Safety
    /// While more than one thread marks, all of them use these and nobody uses the cells; the handing over to them and back
    /// is in order (invariant 13).
    #[inline(always)]
    pub(super) unsafe fn shared(&self) -> (&AtomicU8, &AtomicU8) {
        // SAFETY: the cell's own address; that all accesses are atomic is the caller's.
        let epoch = unsafe { AtomicU8::from_ptr(self.epoch.as_ptr()) };
        // SAFETY: as above.
        let queued = unsafe { AtomicU8::from_ptr(self.queued.as_ptr()) };
        (epoch, queued)
    }
}

/// The rest of a block's state.
#[repr(C, align(64))]
pub(super) struct Header {
    /// The type of the objects, while `kind` is `Small` or `Large`.
    pub(super) info: Cell<*const TypeInfo>,
    /// The next block in the list of its type that the block stands in.
    pub(super) next: Cell<Option<Block>>,
    /// The next block in the marker's queue.
    pub(super) queue_next: Cell<Option<Block>>,
    /// Distance between slots in bytes; the object's size for a large one.
    pub(super) slot_bytes: Cell<usize>,
    /// Slots in the block.
    pub(super) slots: Cell<u32>,
    /// Index of the type in the heap's table.
    pub(super) type_index: Cell<u32>,
    /// Items of a long array that were visited, while it waits in the marker's queue for the others.
    pub(super) scanned: Cell<usize>,
    /// Length of the run in blocks: 1 for `Small`. In a `Rest` block, how many blocks before it the run begins.
    pub(super) run: Cell<u32>,
    pub(super) kind: Cell<Kind>,
    /// Dead objects of a type with `Drop` may be in here that were not dropped yet.
    pub(super) unswept: Cell<bool>,
}

/// Four bits for each of 64 objects, together in half a cache line.
#[repr(C)]
pub(super) struct Group {
    /// Reached in the cycle of the block's epoch, or allocated while it ran. Written by any marker while several mark.
    pub(super) mark: Cell<u64>,
    /// Its references were visited in that cycle, or are about to be by the one who set the bit.
    pub(super) scan: Cell<u64>,
    /// Old and written to since the last collection.
    pub(super) dirty: Cell<u64>,
    /// Holds a value that must be dropped. Kept for types that need it only.
    pub(super) alloc: Cell<u64>,
}

impl Group {
    /// The mark bits, where several markers use them at the same time.
    ///
    /// # Safety
    /// As [`Hot::shared`].
    #[inline(always)]
    pub(super) unsafe fn shared_mark(&self) -> &AtomicU64 {
        // SAFETY: the cell's own address; that all accesses are atomic is the caller's.
        unsafe { AtomicU64::from_ptr(self.mark.as_ptr()) }
    }
}

/// What a chunk knows of itself.
#[repr(C)]
pub(super) struct ChunkHeader {
    /// A set bit is a block in the pool.
    pub(super) free: [Cell<u64>; 2],
    /// The size of the mapping.
    pub(super) bytes: Cell<usize>,
    /// The cycle in which the last block came back to the pool.
    pub(super) idle_since: Cell<u64>,
}

/// A chunk that is mapped. Copies of it must not be used after the chunk was given back (invariant 2).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Chunk(NonNull<u8>);

/// A block of a chunk that is mapped. Copies of it must not be used after the chunk was given back (invariant 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(super) struct Block(NonNull<u8>);

impl Chunk {
    /// # Safety
    /// `at` is the start of a mapping of at least [`CHUNK_BYTES`] (or of a whole huge object), aligned to
    /// [`CHUNK_BYTES`], zeroed or in use as a chunk, and the pointer may be used for all of it.
    pub(super) unsafe fn new(at: NonNull<u8>) -> Self {
        Chunk(at)
    }

    pub(super) fn as_ptr(self) -> NonNull<u8> {
        self.0
    }

    pub(super) fn header<'a>(self) -> &'a ChunkHeader {
        // SAFETY: invariant 2: the table of a mapped chunk; its fields are cells, valid for any bits that were written
        // or zero.
        unsafe { self.0.add(CHUNK_HEADER_AT).cast::<ChunkHeader>().as_ref() }
    }

    /// The block with the given number, which must be below [`BLOCKS`] and not one of the table's.
    pub(super) fn block(self, number: usize) -> Block {
        debug_assert!((TABLE_BLOCKS..BLOCKS).contains(&number));
        // SAFETY: invariant 2, and the number lies inside the chunk. (A huge chunk is asked for its first block only.)
        Block(unsafe { self.0.add(number * BLOCK_BYTES) })
    }

    /// Whether the chunk was made for one object that is too large for an ordinary chunk.
    pub(super) fn is_huge(self) -> bool {
        self.header().bytes.get() != CHUNK_BYTES
    }
}

/// The block that holds the object at `p`.
///
/// # Safety
/// `p` is an object of a mapped chunk (its first byte, if it is large), with the right to use the whole chunk.
#[inline(always)]
pub(super) unsafe fn block_of(p: NonNull<u8>) -> Block {
    let offset = p.addr().get() & (BLOCK_BYTES - 1);
    // SAFETY: the block starts `offset` bytes before, in the same chunk.
    Block(unsafe { p.sub(offset) })
}

impl Block {
    /// The first object's address.
    #[inline(always)]
    pub(super) fn as_ptr(self) -> NonNull<u8> {
        self.0
    }

    #[inline(always)]
    pub(super) fn addr(self) -> usize {
        self.0.addr().get()
    }

    #[inline(always)]
    pub(super) fn number(self) -> usize {
        (self.addr() / BLOCK_BYTES) % BLOCKS
    }

    #[inline(always)]
    pub(super) fn chunk(self) -> Chunk {
        let offset = self.addr() & (CHUNK_BYTES - 1);
        // SAFETY: the chunk starts `offset` bytes before.
        Chunk(unsafe { self.0.sub(offset) })
    }

    #[inline(always)]
    pub(super) fn hot<'a>(self) -> &'a Hot {
        // SAFETY: invariant 2: the table of a mapped chunk, made of cells.
        unsafe { self.chunk().0.cast::<Hot>().add(self.number()).as_ref() }
    }

    #[inline(always)]
    pub(super) fn header<'a>(self) -> &'a Header {
        // SAFETY: invariant 2: the table of a mapped chunk, made of cells.
        unsafe { self.chunk().0.add(HEADER_AT).cast::<Header>().add(self.number()).as_ref() }
    }

    /// The bits of the objects `64 * index ..`.
    #[inline(always)]
    pub(super) fn group<'a>(self, index: usize) -> &'a Group {
        debug_assert!(index < GROUPS);
        // SAFETY: invariant 2: the table of a mapped chunk, made of cells; the index is that of an object of the block.
        unsafe { self.chunk().0.add(GROUP_AT).cast::<Group>().add(self.number() * GROUPS + index).as_ref() }
    }

    /// The groups that are in use for the block's slots.
    pub(super) fn groups<'a>(self) -> impl Iterator<Item = &'a Group> {
        (0..self.group_count()).map(move |i| self.group(i))
    }

    #[inline]
    pub(super) fn group_count(self) -> usize {
        (self.header().slots.get() as usize).div_ceil(64)
    }

    /// As [`info`](Block::info), for those who keep it.
    pub(super) fn info_static(self) -> &'static TypeInfo {
        self.info()
    }

    /// The type of the block's objects. The block must be in use.
    #[inline]
    pub(super) fn info<'a>(self) -> &'a TypeInfo {
        debug_assert!(matches!(self.header().kind.get(), Kind::Small | Kind::Large));
        // SAFETY: invariant 3: a block in use has the table of its type, which lives as long as the program.
        unsafe { &*self.header().info.get() }
    }

    /// The address of an object.
    #[inline]
    pub(super) fn slot(self, index: usize) -> NonNull<u8> {
        debug_assert!(index < self.header().slots.get() as usize);
        // SAFETY: the index is that of a slot of the block.
        unsafe { self.0.add(index * self.header().slot_bytes.get()) }
    }

    /// The number of the slot that holds the object at `p`, which must lie in this block.
    #[inline]
    pub(super) fn index_of(self, p: NonNull<u8>) -> usize {
        (p.addr().get() - self.addr()) / self.header().slot_bytes.get()
    }

    /// Applies `f` to the groups of the slots `from .. to`, with the bits of those slots set in the mask.
    pub(super) fn with_range(self, from: usize, to: usize, mut f: impl FnMut(&Group, u64)) {
        let mut i = from;
        while i < to {
            let end = ((i / 64 + 1) * 64).min(to);
            let mask = if end - i == 64 { !0 } else { ((1u64 << (end - i)) - 1) << (i % 64) };
            f(self.group(i / 64), mask);
            i = end;
        }
    }

    /// Whether the slot is marked in the cycle with this epoch.
    #[inline]
    pub(super) fn is_marked(self, index: usize, epoch: u8) -> bool {
        self.hot().epoch.get() == epoch && self.group(index / 64).mark.get() & (1 << (index % 64)) != 0
    }

    /// Makes the marks of the cycle with this epoch valid: all clear.
    #[cold]
    #[inline(never)]
    pub(super) fn refresh(self, epoch: u8) {
        self.clear_marks();
        self.hot().epoch.set(epoch);
    }

    fn clear_marks(self) {
        for g in self.groups() {
            g.mark.set(0);
            g.scan.set(0);
            g.dirty.set(0);
        }
        self.header().scanned.set(0);
    }

    /// As [`refresh`](Block::refresh), where several markers may come to it at the same time: one does it, and the others
    /// wait for the few hundred stores that it takes.
    ///
    /// # Safety
    /// As [`Hot::shared`].
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn refresh_shared(self, epoch: u8) {
        let hot = self.hot();
        // SAFETY: the caller's.
        let (valid_in, _) = unsafe { hot.shared() };
        // SAFETY: the cell's own address; nobody uses it but through here.
        let refreshing = unsafe { AtomicU8::from_ptr(hot.refreshing.as_ptr()) };
        // Acquire pairs with the Release below, both on the lock and on the epoch: who sees the epoch sees clear bits.
        while refreshing.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            if valid_in.load(Ordering::Acquire) == epoch {
                return;
            }
            core::hint::spin_loop();
        }
        if valid_in.load(Ordering::Relaxed) != epoch {
            // Nobody else looks at the bits before the epoch is this one.
            self.clear_marks();
            valid_in.store(epoch, Ordering::Release);
        }
        refreshing.store(0, Ordering::Release);
    }

    /// The first run of unmarked slots at or after `from`, as a half-open range. The marks must be valid.
    pub(super) fn free_run(self, from: usize) -> Option<(usize, usize)> {
        let slots = self.header().slots.get() as usize;
        let start = self.find(from, slots, |g| !g.mark.get())?;
        let end = self.find(start, slots, |g| g.mark.get()).unwrap_or(slots);
        Some((start, end))
    }

    fn find(self, from: usize, slots: usize, word: impl Fn(&Group) -> u64) -> Option<usize> {
        let mut mask = !0u64 << (from % 64);
        for i in from / 64..slots.div_ceil(64) {
            let w = word(self.group(i)) & mask;
            if w != 0 {
                let at = i * 64 + w.trailing_zeros() as usize;
                return (at < slots).then_some(at);
            }
            mask = !0;
        }
        None
    }

    /// How many slots are marked, by the bitmap as it stands.
    pub(super) fn marks(self) -> usize {
        self.groups().map(|g| g.mark.get().count_ones() as usize).sum()
    }
}
