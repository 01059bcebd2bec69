//! The programs, as far as they are the same for all: sizes, random numbers, and the shape of those on trees.
//!
//! Each contender has every program written as its users would write it; what it has not is left out of the table.

use crate::watch::tick;

/// Entries of the LRU cache, chains that they hang in, and operations.
pub const LRU: (u64, usize, u64) = (1_000_000, 1 << 20, 4_000_000);
/// Vectors that live, and how many are made.
pub const VECS: (usize, u64) = (1 << 16, 2_000_000);
/// Nodes in a list, and lists; two live at a time.
pub const LISTS: (u64, u64) = (1_000_000, 20);
/// Places in the array, and how many of its items are replaced.
pub const WIDE: (usize, u64) = (1 << 20, 8_000_000);
/// Strings that live, and how many are made.
pub const STRINGS: (usize, u64) = (1 << 16, 4_000_000);
/// Operations between two safepoints, and between two looks at the clock.
pub const BATCH: u64 = 64;
/// Trees of this depth and below, at most 255 nodes, are built and counted without a look at the clock, and by functions
/// that know nothing of it.
pub const TICK_DEPTH: u32 = 7;

/// xorshift64.
pub struct Rng(u64);

impl Rng {
    pub fn new() -> Self {
        Rng(88_172_645_463_325_252)
    }

    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// What a contender offers for the programs on trees.
pub trait Trees {
    /// Builds and counts a tree that is garbage then.
    fn temporary(&mut self, depth: u32) -> u64;
    /// Builds a tree and keeps it.
    fn keep(&mut self, depth: u32);
    /// Counts the tree that was kept.
    fn count_kept(&mut self, depth: u32) -> u64;
    fn safepoint(&mut self) {}
}

/// Runs a program on trees, named `bt` or `gb` and the depth, if it is one.
pub fn trees(program: &str, t: &mut dyn Trees) -> Option<u64> {
    let depth = program.get(2..)?.parse().ok()?;
    match program.get(..2)? {
        "bt" => Some(binary_trees(t, depth)),
        "gb" => Some(gc_bench(t, depth)),
        _ => None,
    }
}

fn temporaries(t: &mut dyn Trees, depth: u32, count: u32) -> u64 {
    let mut sum = 0;
    for i in 0..count {
        sum += t.temporary(depth);
        t.safepoint();
        if i % (1 + (256 >> depth)) == 0 {
            tick();
        }
    }
    sum
}

/// The Benchmarks Game's program.
fn binary_trees(t: &mut dyn Trees, depth: u32) -> u64 {
    let mut sum = t.temporary(depth + 1);
    t.safepoint();
    t.keep(depth);
    for d in (4..=depth).step_by(2) {
        sum += temporaries(t, d, 1 << (depth - d + 4));
    }
    sum + t.count_kept(depth)
}

/// As GCBench: one large tree lives, and small ones come and go.
fn gc_bench(t: &mut dyn Trees, depth: u32) -> u64 {
    t.keep(depth);
    t.safepoint();
    let mut sum = 0;
    for d in (4..depth).step_by(2) {
        sum += temporaries(t, d, (2 << depth) / ((2_u32 << d) - 1));
    }
    sum + t.count_kept(depth)
}
