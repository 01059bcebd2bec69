//! The blocks that are alive, by address: what an exact trace is asked for with each of its records.
//!
//! A hash map of its own for that: entries of 32 bytes in one array, so that an operation is one miss of the cache at the most, and
//! [`touch`](LiveTable::touch), by which the misses of many operations to come are had at the same time instead of one after the other.
//! The hash is keyed by chance, so that no trace can aim at it.

use crate::read::Time;
use std::hash::{BuildHasher, RandomState};

/// What is known of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// When it was allocated.
    pub(super) time: Time,
    /// Its size in bytes, as asked for.
    pub(super) size: u64,
    /// The site that allocated it.
    pub(super) site: u32,
    /// How many blocks its thread had allocated by then, modulo 2^32.
    pub(super) serial: u32,
}

/// `key` is the address plus one, 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    block: Block,
}

/// Blocks by address. Open addressing; at most half of the slots are taken.
#[derive(Debug)]
pub(super) struct LiveTable {
    slots: Vec<Slot>,
    len: usize,
    /// 64 less the logarithm of the number of slots.
    shift: u32,
    multiplier: u64,
    /// The block at the one address that has no key.
    last: Option<Block>,
}

/// The number of slots to begin with, as a power of two.
const FIRST_LOG2: u32 = 10;

impl Default for LiveTable {
    fn default() -> LiveTable {
        LiveTable {
            slots: vec![Slot::default(); 1 << FIRST_LOG2],
            len: 0,
            shift: 64 - FIRST_LOG2,
            multiplier: RandomState::new().hash_one(0u8) | 1,
            last: None,
        }
    }
}

impl LiveTable {
    #[inline(always)]
    fn home(&self, key: u64) -> usize {
        // The upper half of the product is mixed into the lower: addresses differ in few bits.
        let p = u128::from(key) * u128::from(self.multiplier);
        (((p >> 64) as u64 ^ p as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// Reads where the block at `address` would stand. The value means nothing; that it was read brings it near.
    #[inline(always)]
    pub(super) fn touch(&self, address: u64) -> u64 {
        self.slots[self.home(address.wrapping_add(1))].key
    }

    /// Enters a block; returns the one that was at its address.
    #[inline]
    pub(super) fn insert(&mut self, address: u64, block: Block) -> Option<Block> {
        let key = address.wrapping_add(1);
        if key == 0 {
            return self.last.replace(block);
        }
        if (self.len + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut i = self.home(key);
        loop {
            let slot = &mut self.slots[i];
            if slot.key == 0 {
                *slot = Slot { key, block };
                self.len += 1;
                return None;
            }
            if slot.key == key {
                return Some(std::mem::replace(&mut slot.block, block));
            }
            i = (i + 1) & mask;
        }
    }

    /// Takes a block out.
    #[inline]
    pub(super) fn remove(&mut self, address: u64) -> Option<Block> {
        let key = address.wrapping_add(1);
        if key == 0 {
            return self.last.take();
        }
        let mask = self.slots.len() - 1;
        let mut i = self.home(key);
        loop {
            let slot = self.slots[i];
            if slot.key == key {
                self.close_gap(i);
                return Some(slot.block);
            }
            if slot.key == 0 {
                return None;
            }
            i = (i + 1) & mask;
        }
    }

    /// Empties a slot, and moves up what had to give way to what stood there.
    #[inline]
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut i = gap;
        loop {
            i = (i + 1) & mask;
            let slot = self.slots[i];
            if slot.key == 0 {
                break;
            }
            let (home, distance) = (self.home(slot.key), |from: usize| i.wrapping_sub(from) & mask);
            if distance(home) >= distance(gap) {
                self.slots[gap] = slot;
                gap = i;
            }
        }
        self.slots[gap].key = 0;
        self.len -= 1;
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![Slot::default(); self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, larger);
        self.shift -= 1;
        let mask = self.slots.len() - 1;
        for slot in old.into_iter().filter(|s| s.key != 0) {
            let mut i = self.home(slot.key);
            while self.slots[i].key != 0 {
                i = (i + 1) & mask;
            }
            self.slots[i] = slot;
        }
    }

    /// The blocks that are there, in no order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.slots.iter().filter(|s| s.key != 0).map(|s| &s.block).chain(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn agrees_with_a_plain_map() {
        let (mut table, mut twin) = (LiveTable::default(), HashMap::new());
        let mut x = 88_172_645_463_325_252u64;
        for i in 0..200_000u32 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            // Few addresses at first, so that they come again; then ever more; the two ends of the range among them.
            let address = match x % 1000 {
                0 => 0,
                1 => u64::MAX,
                _ => (x >> 20) % u64::from(100 + i / 4) * 16,
            };
            if x >> 10 & 1 == 0 {
                let block = Block { time: Time(i.into()), size: x, site: i, serial: i };
                assert_eq!(table.insert(address, block), twin.insert(address, block), "step {i}");
            } else {
                assert_eq!(table.remove(address), twin.remove(&address), "step {i}");
            }
            let _ = table.touch(address);
        }
        let mut all: Vec<u32> = table.blocks().map(|b| b.site).collect();
        let mut expected: Vec<u32> = twin.values().map(|b| b.site).collect();
        all.sort_unstable();
        expected.sort_unstable();
        assert_eq!(all, expected);
    }
}
