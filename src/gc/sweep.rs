//! Sweeping: which blocks may be used again, and dropping what died in them.
//!
//! For most types there is nothing to sweep: free slots are the unmarked ones, found when they are allocated. At a
//! cycle's end the blocks are only sorted. Blocks of types with `Drop` are swept one by one: when their type needs
//! room, a few with each refill, and the rest before the next cycle begins.

use super::chunk::{BLOCK_BYTES, Block, Kind};
use super::cycle::Bracket;
use super::heap::Heap;
use super::types::TypeSlot;

/// What free memory is overwritten with in poison mode: an address that cannot be mapped, and no number of use.
const POISON: u8 = 0xDB;

impl Heap {
    /// Sorts all blocks after marking: free ones go to the pool, the others to the lists of their types. Returns the
    /// bytes of the free ones.
    pub(super) fn sort_blocks(&self) -> usize {
        let mut freed = 0;
        self.with_types(|types| types.iter().for_each(|t| t.used.clear()));
        let chunks = self.pool.borrow().chunks().len();
        // Backwards, so that the lists come out in the order of addresses within a chunk, and a huge chunk can go while
        // we look.
        for index in (0..chunks).rev() {
            let Some(chunk) = self.chunk(index) else { continue };
            let numbers = super::chunk::TABLE_BLOCKS..if chunk.is_huge() { 6 } else { super::chunk::BLOCKS };
            for number in numbers.rev() {
                let block = chunk.block(number);
                if !matches!(block.header().kind.get(), Kind::Small | Kind::Large) {
                    continue;
                }
                let live = block.hot().epoch.get() == self.epoch.get();
                freed += self.sort_block(block, live);
            }
        }
        freed
    }

    /// Puts a block where it belongs after marking: into a list of its type, or, if it has no `live` objects and
    /// nothing to drop, into the pool. Returns the bytes that came free.
    pub(super) fn sort_block(&self, block: Block, live: bool) -> usize {
        let header = block.header();
        let small = header.kind.get() == Kind::Small;
        let with_slot = |f: &dyn Fn(&TypeSlot)| self.with_types(|t| f(&t[header.type_index.get() as usize]));
        if block.info().drop.is_some() && (small || !live) {
            header.unswept.set(true);
            with_slot(&|t| t.unswept.push(block));
            self.unswept.set(self.unswept.get() + 1);
        } else if !live {
            let bytes = header.run.get() as usize * BLOCK_BYTES;
            self.free_blocks(block);
            return bytes;
        } else if small {
            with_slot(&|t| t.avail.push(block));
            self.poison_free_slots(block);
        }
        0
    }

    /// Says how much of a block can be used again, as it is taken from the list.
    pub(super) fn look_over(&self, block: Block) {
        let observer = self.observer();
        if observer.is_on() {
            let header = block.header();
            let free = header.slots.get() as usize - block.marks();
            observer.sweep_begin();
            observer.sweep_end(BLOCK_BYTES, free * header.slot_bytes.get());
        }
    }

    /// Drops what died in a block that was just taken from its type's `unswept` list, and puts the block where it
    /// belongs.
    ///
    /// If a `drop` panics, the block goes back into the list with the objects that were not dropped yet.
    pub(super) fn sweep(&self, block: Block) {
        let header = block.header();
        let index = header.type_index.get() as usize;
        let live = block.hot().epoch.get() == self.epoch.get() && block.marks() > 0;
        let dead_bytes = |swept: usize| {
            let run = header.run.get() as usize * BLOCK_BYTES;
            (run, if live { swept } else { run })
        };
        let dropped = core::cell::Cell::new(0);
        let back = OnUnwind(|| self.with_types(|t| t[index].unswept.push(block)));
        let bracket = Bracket::sweep(self, || dead_bytes(dropped.get()));
        if let Some(drop) = block.info().drop {
            for i in 0..block.group_count() {
                let group = block.group(i);
                loop {
                    let dead = group.alloc.get() & !if live { group.mark.get() } else { 0 };
                    if dead == 0 {
                        break;
                    }
                    // The bit first: an object whose drop panics must not be dropped again.
                    group.alloc.set(group.alloc.get() & !(dead & dead.wrapping_neg()));
                    dropped.set(dropped.get() + header.slot_bytes.get());
                    let object = block.slot(i * 64 + dead.trailing_zeros() as usize);
                    // SAFETY: an object of the block's type that was allocated and is not marked: nobody can reach it
                    // (invariant 5), and it is dropped once.
                    unsafe { drop(object) };
                }
            }
        }
        drop(bracket);
        core::mem::forget(back);
        self.unswept.set(self.unswept.get() - 1);
        header.unswept.set(false);
        if !live {
            self.free_blocks(block);
        } else if header.kind.get() == Kind::Small {
            self.with_types(|t| t[index].avail.push(block));
            self.poison_free_slots(block);
        }
    }

    /// Sweeps up to `blocks` blocks of whatever type.
    pub(super) fn sweep_some(&self, blocks: usize) {
        let mut left = blocks.min(self.unswept.get());
        while left > 0 {
            let turn = self.sweep_turn.get();
            let next = self.with_types(|t| t.get(turn).map(|slot| slot.unswept.pop()));
            match next {
                Some(Some(block)) => {
                    self.sweep(block);
                    left -= 1;
                }
                Some(None) => self.sweep_turn.set(turn + 1),
                None => self.sweep_turn.set(0),
            }
        }
    }

    /// Gives the blocks of an object or of a type back to the pool.
    fn free_blocks(&self, block: Block) {
        let run = block.header().run.get() as usize;
        if self.config.poison && !block.chunk().is_huge() {
            // SAFETY: the blocks hold nothing that is alive.
            unsafe { block.as_ptr().write_bytes(POISON, run * BLOCK_BYTES) };
        }
        self.pool.borrow_mut().give(block, run, self.cycle.get());
    }

    fn poison_free_slots(&self, block: Block) {
        if !self.config.poison {
            return;
        }
        let mut from = 0;
        while let Some((start, end)) = block.free_run(from) {
            // SAFETY: no object lives in these slots: they are not marked, and what had to be dropped is.
            unsafe { block.slot(start).write_bytes(POISON, (end - start) * block.header().slot_bytes.get()) };
            from = end;
        }
    }

    /// Drops every object that is left. The heap is empty afterwards, and good for nothing.
    pub(super) fn drop_all(&self) {
        self.retire_all();
        self.for_each_block(|block| {
            let Some(drop) = block.info().drop else { return };
            for i in 0..block.group_count() {
                let mut alloc = block.group(i).alloc.take();
                while alloc != 0 {
                    let object = block.slot(i * 64 + alloc.trailing_zeros() as usize);
                    alloc &= alloc - 1;
                    // SAFETY: an object of the block's type that was not dropped; nobody uses the heap any more. A
                    // panic leaks the others.
                    unsafe { drop(object) };
                }
            }
        });
    }
}

/// Runs a function if it is dropped, which is to say, when a panic comes by.
pub(super) struct OnUnwind<F: FnMut()>(pub(super) F);

impl<F: FnMut()> Drop for OnUnwind<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
