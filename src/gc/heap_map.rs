//! The fragmentation map: which block holds what, and how full it is.
//!
//! Objects do not move, so a block with one survivor stays. How much memory that costs is seen here: by block, for
//! programs, and drawn, for people.

use super::chunk::{BLOCK_BYTES, BLOCKS, Kind, TABLE_BLOCKS};
use super::heap::Heap;
use std::io;

/// A block of 32 KiB, or a run of them that holds one large object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BlockInfo {
    /// Which mapping it lies in, counted from 0.
    pub chunk: usize,
    /// Where it lies.
    pub address: usize,
    /// Blocks of 32 KiB.
    pub blocks: usize,
    /// What it is used for.
    pub usage: BlockUsage,
}

/// What a block is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BlockUsage {
    /// Nothing; any type may get it.
    Free,
    /// Objects of one type.
    Objects {
        /// The type's name as Rust spells it.
        type_name: &'static str,
        /// Size of an object, in bytes.
        object_bytes: usize,
        /// How many there is room for.
        room: usize,
        /// How many are marked: alive at the end of the last cycle, or kept by a minor collection since.
        marked: usize,
        /// Dead objects in it wait to be dropped.
        is_unswept: bool,
    },
}

impl Heap {
    pub(super) fn for_each_block_info(&self, mut f: impl FnMut(&BlockInfo)) {
        let chunks = self.pool.borrow().chunks().len();
        for index in 0..chunks {
            let Some(chunk) = self.chunk(index) else { break };
            let mut number = TABLE_BLOCKS;
            while number < if chunk.is_huge() { TABLE_BLOCKS + 1 } else { BLOCKS } {
                let block = chunk.block(number);
                let header = block.header();
                let is_used = matches!(header.kind.get(), Kind::Small | Kind::Large);
                let blocks = if is_used { header.run.get() as usize } else { 1 };
                let usage = if is_used {
                    let valid = block.hot().epoch.get() == self.epoch.get();
                    BlockUsage::Objects {
                        type_name: block.info().type_name(),
                        object_bytes: header.slot_bytes.get(),
                        room: header.slots.get() as usize,
                        marked: if valid { block.marks() } else { 0 },
                        is_unswept: header.unswept.get(),
                    }
                } else {
                    BlockUsage::Free
                };
                f(&BlockInfo { chunk: index, address: block.addr(), blocks, usage });
                number += blocks;
            }
        }
    }

    pub(super) fn write_map(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let (mut at, mut result) = (usize::MAX, Ok(()));
        let (mut room, mut used) = (0, 0);
        self.for_each_block_info(|b| {
            if result.is_err() {
                return;
            }
            if b.chunk != at {
                result = if at == usize::MAX { Ok(()) } else { writeln!(out) };
                at = b.chunk;
            }
            let mark = match b.usage {
                BlockUsage::Free => '.',
                BlockUsage::Objects { room: 1, .. } => '#',
                BlockUsage::Objects { marked, room: slots, object_bytes, .. } => {
                    room += slots * object_bytes;
                    used += marked * object_bytes;
                    // 0: one in ten or less.
                    char::from(b'0' + (marked * 10).div_ceil(slots).saturating_sub(1).min(9) as u8)
                }
            };
            // A huge object is one line's worth at most.
            for _ in 0..b.blocks.min(BLOCKS - TABLE_BLOCKS) {
                if result.is_ok() {
                    result = write!(out, "{mark}");
                }
            }
        });
        result?;
        let free = if room == 0 { 0.0 } else { 100.0 - 100.0 * used as f64 / room as f64 };
        writeln!(out, "\n{free:.1} % free in {} KiB of blocks with objects of one size", room >> 10)?;
        writeln!(out, ". free   0-9 tenths in use   # one large object   each {} KiB", BLOCK_BYTES >> 10)
    }
}
