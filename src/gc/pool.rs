//! The blocks of a heap: chunks from the system, and runs of free blocks in them.
//!
//! Runs come from the chunk that was mapped first and has room, so that the others can empty and go back to the system.
//! The pool counts what it has mapped and keeps to the hard limit; it knows nothing of objects.

use super::OutOfMemory;
use super::chunk::{BLOCK_BYTES, BLOCKS, Block, CHUNK_BYTES, Chunk, Kind, RUN_BLOCKS_MAX, TABLE_BLOCKS};
use super::page_vec::PageVec;
use crate::sys::pages;
use core::cell::Cell;

/// Cycles for which a chunk stays empty before it goes back: a heap that swings by less than a cycle's growth keeps its
/// chunks.
const IDLE_CYCLES: u64 = 2;

/// Places in the cache from addresses to chunks: enough for 256 MiB in a row without a miss.
const KNOWN: usize = 64;

/// All chunks of a heap.
pub(super) struct Pool {
    chunks: PageVec<Chunk>,
    /// No chunk before this one has a free block.
    first_free: usize,
    /// Bytes mapped from the system.
    bytes_mapped: usize,
    /// The most that may be mapped.
    bytes_max: usize,
    /// Blocks in runs that are in use.
    blocks_used: usize,
    /// Chunks by the number of their 4 MiB of address space, to be found without a search. Cleared whenever one goes.
    known: [Cell<Option<(usize, Chunk)>>; KNOWN],
}

impl Pool {
    pub(super) const fn new() -> Self {
        Pool {
            chunks: PageVec::new(),
            first_free: 0,
            bytes_mapped: 0,
            bytes_max: usize::MAX,
            blocks_used: 0,
            known: [const { Cell::new(None) }; KNOWN],
        }
    }

    pub(super) fn bytes_mapped(&self) -> usize {
        self.bytes_mapped
    }

    pub(super) fn blocks_used(&self) -> usize {
        self.blocks_used
    }

    pub(super) fn set_bytes_max(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    pub(super) fn chunks(&self) -> &[Chunk] {
        self.chunks.as_slice()
    }

    /// How many blocks the heap would have if one more chunk were mapped: the marker's queue must hold as many
    /// (invariant 6).
    pub(super) fn blocks_after_growth(&self) -> usize {
        (self.chunks.as_slice().len() + 1) * (BLOCKS - TABLE_BLOCKS)
    }

    /// Whether a run of this length is to be had without a new chunk.
    pub(super) fn has_free(&mut self, run: usize) -> bool {
        run <= RUN_BLOCKS_MAX && self.find(run).is_some()
    }

    /// Takes `run` blocks in a row. Their table entries and contents are as they were left.
    pub(super) fn take(&mut self, run: usize) -> Result<Block, OutOfMemory> {
        debug_assert!(run > 0);
        if run > RUN_BLOCKS_MAX {
            return self.take_huge(run);
        }
        let (index, number) = match self.find(run) {
            Some(found) => found,
            None => {
                self.grow(CHUNK_BYTES)?;
                (self.chunks.as_slice().len() - 1, TABLE_BLOCKS)
            }
        };
        let chunk = self.chunks.as_slice()[index];
        set_free(chunk, free(chunk) & !mask(number, run));
        self.blocks_used += run;
        Ok(chunk.block(number))
    }

    /// Gives a run back. `cycle` is the number of the collection cycle.
    pub(super) fn give(&mut self, block: Block, run: usize, cycle: u64) {
        let chunk = block.chunk();
        block.header().kind.set(Kind::Free);
        self.blocks_used -= run;
        if chunk.is_huge() {
            let index = self.chunks.as_slice().iter().position(|c| *c == chunk);
            if let Some(index) = index {
                self.unmap(index);
            }
            return;
        }
        for number in block.number() + 1..block.number() + run {
            chunk.block(number).header().kind.set(Kind::Free);
        }
        set_free(chunk, free(chunk) | mask(block.number(), run));
        chunk.header().idle_since.set(cycle);
        // The chunk's place in the list is not known; it may be any.
        self.first_free = 0;
    }

    /// The chunk that the address lies in.
    pub(super) fn chunk_of(&self, address: usize) -> Option<Chunk> {
        let key = address / CHUNK_BYTES;
        let place = &self.known[key % KNOWN];
        if let Some((k, chunk)) = place.get()
            && k == key
        {
            return Some(chunk);
        }
        let found = self.chunks.as_slice().iter().copied().find(|c| {
            let start = c.as_ptr().addr().get();
            (start..start + c.header().bytes.get()).contains(&address)
        });
        // A huge chunk need not end where 4 MiB end, and what comes behind it is not ours.
        place.set(found.filter(|c| !c.is_huge()).map(|c| (key, c)).or(place.get()));
        found
    }

    /// Gives back to the system the first chunk that is empty and has been for [`IDLE_CYCLES`]. `true` if there was
    /// one.
    pub(super) fn release_idle(&mut self, cycle: u64) -> bool {
        let idle = |c: &Chunk| {
            !c.is_huge() && free(*c) == mask_all() && cycle.saturating_sub(c.header().idle_since.get()) >= IDLE_CYCLES
        };
        let found = self.chunks.as_slice().iter().rposition(idle);
        found.inspect(|&index| self.unmap(index)).is_some()
    }

    fn find(&mut self, run: usize) -> Option<(usize, usize)> {
        for index in self.first_free..self.chunks.as_slice().len() {
            let free = free(self.chunks.as_slice()[index]);
            if let Some(number) = find_run(free, run) {
                return Some((index, number));
            }
            if free == 0 && index == self.first_free {
                self.first_free += 1;
            }
        }
        None
    }

    fn take_huge(&mut self, run: usize) -> Result<Block, OutOfMemory> {
        let bytes = run.checked_add(TABLE_BLOCKS).and_then(|b| b.checked_mul(BLOCK_BYTES)).ok_or(OutOfMemory)?;
        self.grow(pages::round_up(bytes))?;
        let chunk = self.chunks.as_slice()[self.chunks.as_slice().len() - 1];
        set_free(chunk, 0);
        self.blocks_used += run;
        Ok(chunk.block(TABLE_BLOCKS))
    }

    fn grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        self.chunks.reserve_one()?;
        let mapped = self.bytes_mapped.checked_add(bytes).ok_or(OutOfMemory)?;
        if mapped > self.bytes_max {
            return Err(OutOfMemory);
        }
        let at = pages::map(bytes, CHUNK_BYTES).ok_or(OutOfMemory)?;
        // SAFETY: a fresh mapping with the right size and alignment.
        let chunk = unsafe { Chunk::new(at) };
        chunk.header().bytes.set(bytes);
        set_free(chunk, mask_all());
        self.chunks.push(chunk)?;
        self.bytes_mapped = mapped;
        Ok(())
    }

    fn unmap(&mut self, index: usize) {
        let chunk = self.chunks.as_slice()[index];
        let bytes = chunk.header().bytes.get();
        self.chunks.swap_remove(index);
        self.first_free = 0;
        self.known.iter().for_each(|place| place.set(None));
        self.bytes_mapped -= bytes;
        // SAFETY: the mapping of `grow`; all its blocks are free, so nothing refers into it (invariant 2).
        unsafe { pages::unmap(chunk.as_ptr(), bytes, CHUNK_BYTES) };
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        while !self.chunks.as_slice().is_empty() {
            self.unmap(self.chunks.as_slice().len() - 1);
        }
    }
}

/// The free blocks of a chunk, one bit each.
pub(super) fn free(chunk: Chunk) -> u128 {
    let [low, high] = &chunk.header().free;
    u128::from(low.get()) | u128::from(high.get()) << 64
}

fn set_free(chunk: Chunk, bits: u128) {
    let [low, high] = &chunk.header().free;
    low.set(bits as u64);
    high.set((bits >> 64) as u64);
}

fn mask(number: usize, run: usize) -> u128 {
    debug_assert!(number + run <= BLOCKS && run < BLOCKS);
    ((1u128 << run) - 1) << number
}

fn mask_all() -> u128 {
    mask(TABLE_BLOCKS, BLOCKS - TABLE_BLOCKS)
}

/// The lowest position of `run` set bits in a row.
fn find_run(bits: u128, run: usize) -> Option<usize> {
    // After each step a bit stands for as many set bits from there on as `have` says.
    let (mut bits, mut have) = (bits, 1);
    while have < run {
        let step = have.min(run - have);
        bits &= bits >> step;
        have += step;
    }
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_run_agrees_with_the_obvious_search() {
        let slow = |bits: u128, run: usize| (0..=128 - run).find(|&i| (i..i + run).all(|b| bits >> b & 1 == 1));
        let mut x = 0x9E37_79B9_7F4A_7C15_u128;
        for _ in 0..2000 {
            x = x.wrapping_mul(0x2545_F491_4F6C_DD1D_1234_5678_9ABC_DEF1).wrapping_add(1);
            let bits = x | x << 7 | x >> 3;
            for run in [1, 2, 3, 5, 8, 13, 40, 123] {
                assert_eq!(find_run(bits, run), slow(bits, run), "{bits:x} {run}");
            }
        }
        assert_eq!(find_run(mask_all(), 123), Some(TABLE_BLOCKS));
    }

    #[test]
    fn runs_are_apart_and_empty_chunks_go_back() {
        let mut pool = Pool::new();
        let mut taken: Vec<(Block, usize)> = Vec::new();
        for run in [1, 7, 123, 60, 1, 62, 2, 200] {
            let b = pool.take(run).unwrap();
            for &(o, r) in &taken {
                let apart = b.addr() >= o.addr() + r * BLOCK_BYTES || o.addr() >= b.addr() + run * BLOCK_BYTES;
                assert!(apart, "{run} over {r}");
            }
            // SAFETY: the run is ours.
            unsafe { b.as_ptr().write_bytes(0xAA, run * BLOCK_BYTES) };
            taken.push((b, run));
        }
        assert_eq!(pool.blocks_used(), 456);
        assert_eq!(pool.chunks().len(), 4);
        for (b, run) in taken {
            pool.give(b, run, 5);
        }
        assert_eq!((pool.blocks_used(), pool.chunks().len()), (0, 3));
        assert!(!pool.release_idle(6));
        while pool.release_idle(7) {}
        assert_eq!(pool.bytes_mapped(), 0);
    }

    #[test]
    fn the_hard_limit_refuses_the_chunk_that_would_pass_it() {
        let mut pool = Pool::new();
        pool.set_bytes_max(CHUNK_BYTES);
        pool.take(RUN_BLOCKS_MAX).unwrap();
        assert_eq!(pool.take(1), Err(OutOfMemory));
        assert_eq!(pool.take(usize::MAX), Err(OutOfMemory));
    }
}
