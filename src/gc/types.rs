//! The types that a heap has met, each with the blocks that have room for its objects.

use super::OutOfMemory;
use super::chunk::Block;
use super::page_vec::PageVec;
use super::type_info::TypeInfo;
use core::cell::Cell;
use core::ptr;

/// Blocks linked through their table entries. A block is in one list at most (invariant 7).
#[derive(Default)]
pub(super) struct List(Cell<Option<Block>>);

impl List {
    pub(super) fn push(&self, block: Block) {
        block.header().next.set(self.0.replace(Some(block)));
    }

    pub(super) fn pop(&self) -> Option<Block> {
        let block = self.0.get()?;
        self.0.set(block.header().next.take());
        Some(block)
    }

    /// Forgets the blocks, whose links are stale from here on.
    pub(super) fn clear(&self) {
        self.0.set(None);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Block> {
        core::iter::successors(self.0.get(), |b| b.header().next.get())
    }
}

/// The state of one type on one heap.
pub(super) struct TypeSlot {
    pub(super) info: &'static TypeInfo,
    /// The block that objects are allocated in.
    pub(super) block: Cell<Option<Block>>,
    /// Free runs of the block are to be looked for from this slot on, in its mark bits.
    pub(super) position: Cell<usize>,
    /// The next allocation that the cursor has no room for is sampled.
    pub(super) is_sampled: Cell<bool>,
    /// What the cursor held when another type took it: the next object's address, and the end of the run.
    pub(super) parked: Cell<(*mut u8, *mut u8)>,
    /// Blocks whose mark bits are valid and whose dead objects are dropped: their free runs may be used.
    pub(super) avail: List,
    /// Blocks that may hold dead objects which must be dropped first.
    pub(super) unswept: List,
    /// Blocks that were allocated in since the last collection, and are left.
    pub(super) used: List,
}

/// All types of a heap, and where to find one by the address of its table.
pub(super) struct Types {
    slots: PageVec<TypeSlot>,
    /// Open addressing: 0 is a free place, everything else an index into `slots` plus 1. At most half full; the length
    /// is a power of two.
    places: PageVec<u32>,
}

impl Types {
    pub(super) const fn new() -> Self {
        Types { slots: PageVec::new(), places: PageVec::new() }
    }

    pub(super) fn as_slice(&self) -> &[TypeSlot] {
        self.slots.as_slice()
    }

    /// The index of the type, which is added if it is new.
    pub(super) fn index_of(&mut self, info: &'static TypeInfo) -> Result<usize, OutOfMemory> {
        if (self.slots.as_slice().len() + 1) * 2 > self.places.as_slice().len() {
            self.grow()?;
        }
        let place = self.place(info);
        let found = self.places.as_slice()[place];
        if found != 0 {
            return Ok(found as usize - 1);
        }
        self.slots.push(TypeSlot {
            info,
            block: Cell::new(None),
            position: Cell::new(0),
            is_sampled: Cell::new(false),
            parked: Cell::new((ptr::null_mut(), ptr::null_mut())),
            avail: List::default(),
            unswept: List::default(),
            used: List::default(),
        })?;
        self.places.as_mut_slice()[place] = self.slots.as_slice().len() as u32;
        Ok(self.slots.as_slice().len() - 1)
    }

    /// Where the type stands, or the free place where it belongs.
    fn place(&self, info: &'static TypeInfo) -> usize {
        let places = self.places.as_slice();
        let mut at = hash(info);
        loop {
            at &= places.len() - 1;
            match places[at] {
                0 => return at,
                n if ptr::eq(self.slots.as_slice()[n as usize - 1].info, info) => return at,
                _ => at += 1,
            }
        }
    }

    fn grow(&mut self) -> Result<(), OutOfMemory> {
        let len = (self.places.as_slice().len() * 2).max(256);
        let mut places = PageVec::new();
        for _ in 0..len {
            places.push(0)?;
        }
        self.places = places;
        for i in 0..self.slots.as_slice().len() {
            let place = self.place(self.slots.as_slice()[i].info);
            self.places.as_mut_slice()[place] = i as u32 + 1;
        }
        Ok(())
    }
}

/// A number from the address of a type's table. The multiplier is Fibonacci hashing's.
#[inline(always)]
pub(super) fn hash(info: *const TypeInfo) -> usize {
    (info.addr() >> 3).wrapping_mul(0x9E37_79B9) >> 16
}
