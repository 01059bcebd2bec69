//! Which blocks are in the sample: asked at every free while allocations are sampled.
//!
//! Nearly every free is of a block that is not, so a small filter comes first: a counter for each of the values that an address's hash
//! may take. Behind it is a table of the addresses themselves. Each has its place within [`WINDOW`] slots of its hash, so that
//! nothing has to be moved or marked when one is taken out, and nobody waits for anybody: a signal handler may come at any point.
//!
//! A block is entered before its address is handed to the program, and taken out before it is freed. One that was moved by a
//! reallocation is taken out after; the address may then be in the table twice, which is as good as once for each.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// 64 KiB: stays in a near cache. With 10,000 samples alive one free in seven looks into the table in vain.
const FILTER: usize = 1 << 16;
/// 4 MiB of addresses, of which the system maps the pages that are touched. At 512 KiB a sample that is a heap of 128 GiB when half full.
const SLOTS: usize = 1 << 19;
/// How far from its hash an address may stand. With half of the slots taken, the chance that there is no room is one in 2^32.
const WINDOW: usize = 32;
/// A counter of the filter that has come so far stays: it can no longer be told when it is to go back to 0.
const STUCK: u8 = u8::MAX;

/// Written by any thread.
static COUNTS: [AtomicU8; FILTER] = [const { AtomicU8::new(0) }; FILTER];
/// Addresses, 0 for none. Written by any thread.
static ADDRESSES: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

fn hash(at: u64) -> u64 {
    (at >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn count(hash: u64) -> &'static AtomicU8 {
    &COUNTS[(hash >> 48) as usize % FILTER]
}

/// Another part of the hash than the filter's.
fn slots(hash: u64) -> impl Iterator<Item = &'static AtomicU64> {
    (0..WINDOW).map(move |i| &ADDRESSES[((hash >> 24) as usize).wrapping_add(i) % SLOTS])
}

/// Whether the block may be in the sample.
#[inline(always)]
pub(crate) fn may_have(at: u64) -> bool {
    count(hash(at)).load(Ordering::Relaxed) != 0
}

/// Enters a block. False if there is no room.
pub(crate) fn insert(at: u64) -> bool {
    let hash = hash(at);
    let free = |slot: &&AtomicU64| {
        slot.load(Ordering::Relaxed) == 0 && slot.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    if slots(hash).find(free).is_none() {
        return false;
    }
    // Whoever frees the block has its address from this thread, by way of whatever orders the two.
    let up = |n: u8| (n != STUCK).then(|| n + 1);
    let _ = count(hash).fetch_update(Ordering::Relaxed, Ordering::Relaxed, up);
    true
}

/// Takes a block out. False if it was not in the sample.
pub(crate) fn remove(at: u64) -> bool {
    let hash = hash(at);
    let this = |slot: &&AtomicU64| {
        slot.load(Ordering::Relaxed) == at && slot.compare_exchange(at, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    if slots(hash).find(this).is_none() {
        return false;
    }
    let down = |n: u8| (n != STUCK).then(|| n.saturating_sub(1));
    let _ = count(hash).fetch_update(Ordering::Relaxed, Ordering::Relaxed, down);
    true
}

/// Empties the sample, before another is begun. The starter's, while allocations are not sampled.
pub(crate) fn clear() {
    // Reading maps no pages, where the system knows zeros by themselves.
    ADDRESSES.iter().filter(|a| a.load(Ordering::Relaxed) != 0).for_each(|a| a.store(0, Ordering::Relaxed));
    COUNTS.iter().for_each(|c| c.store(0, Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_once() {
        let mut x = 88_172_645_463_325_252u64;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 16) & !7
        };
        let blocks: Vec<u64> = (0..100_000).map(|_| next()).collect();
        assert!(blocks.iter().all(|&b| insert(b)));
        assert!(blocks.iter().all(|&b| may_have(b)));
        assert_eq!((0..1000).filter(|_| remove(next())).count(), 0);
        // One that is in twice comes out twice.
        assert!(insert(blocks[7]) && remove(blocks[7]));
        assert!(blocks.iter().all(|&b| remove(b)));
        assert!(!blocks.iter().any(|&b| remove(b)));
        let left = blocks.iter().filter(|&&b| may_have(b)).count();
        assert_eq!(left, 0, "the filter has not forgotten");
        // There is an end to it.
        let taken: Vec<u64> = (0..1000).map(|_| 4096).take_while(|&b| insert(b)).collect();
        assert_eq!(taken.len(), WINDOW);
        clear();
        assert!(!may_have(4096) && !remove(4096));
    }
}
