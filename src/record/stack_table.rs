//! All the call stacks that were ever seen, each once: program counters in, a small dense id out.
//!
//! Events carry the id; the writer asks for the frames of the ids that a generation used. An id and its frames stay
//! valid for as long as the table lives, over generations and traces, so threads may remember ids.
//!
//! # How
//! A root array, indexed by the hash's top bits, holds links to binary tries of nodes; each lower bit of the hash picks a child.
//! Nodes lie in segments that are mapped when first needed, up to a limit. A node is filled in before the one
//! compare-and-swap that publishes it, and never changes afterwards but for its two child links.
//!
//! # Invariants
//! 1. *A link goes from 0 to a node once, and never changes again.* So readers need no lock, and a lost race is a longer way down.
//! 2. *Whoever sees a link or an id sees the whole node*: both are stored with Release and loaded with Acquire.
//! 3. *Nothing waits for another thread*, so a signal handler may insert while it interrupts an insert.
//! 4. *An id is given away before its node is published.* When two threads race with the same stack, the loser's id is a
//!    synonym that nobody uses (its frames are right all the same). Ids are dense but for these.

use core::num::NonZeroU32;

use crate::sys::sync::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

/// The id of a stack in a [`StackTable`]. Ids begin at 1; 0 is the format's "no stack".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(NonZeroU32);

impl StackId {
    /// The id as the number that events carry.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The inverse of [`StackId::get`]; `None` for 0.
    #[inline(always)]
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(StackId(id)),
            None => None,
        }
    }
}

/// The memory that a table's stacks may take, unless told otherwise: some 400,000 stacks of 15 frames.
pub const DEFAULT_LIMIT_BYTES: usize = SEGMENTS * SEGMENT_WORDS * 8;

/// Sizes. The model checker gets tables in which segments and chunks of ids overflow at once.
#[cfg(not(loom))]
mod size {
    /// 256 KiB of links: tries stay about one node deep up to 30,000 stacks.
    pub(super) const ROOT_LOG2: u32 = 15;
    /// 1 MiB.
    pub(super) const SEGMENT_WORDS: usize = 1 << 17;
    pub(super) const SEGMENTS: usize = 64;
    pub(super) const CHUNK_IDS: usize = 8192;
}
#[cfg(loom)]
mod size {
    pub(super) const ROOT_LOG2: u32 = 1;
    pub(super) const SEGMENT_WORDS: usize = 16;
    pub(super) const SEGMENTS: usize = 4;
    pub(super) const CHUNK_IDS: usize = 64;
}
use size::{CHUNK_IDS, ROOT_LOG2, SEGMENT_WORDS, SEGMENTS};

/// A node: its hash, two links, its id and length, and the program counters. All but the links are written before it is published.
mod node {
    pub(super) const HASH: usize = 0;
    pub(super) const CHILDREN: usize = 1;
    /// `id << 32 | number of program counters`.
    pub(super) const META: usize = 3;
    pub(super) const PCS: usize = 4;
}

/// The smallest node has one program counter; a program of only such stacks runs out of memory and ids together.
const IDS_MAX: usize = SEGMENTS * SEGMENT_WORDS / (node::PCS + 1);
const CHUNKS: usize = IDS_MAX.div_ceil(CHUNK_IDS) + 1;

/// What is kept by id.
#[repr(C)]
struct Chunk {
    /// The node's place, 0 before it has one. Written once, by the inserting thread.
    nodes: [AtomicU32; CHUNK_IDS],
    /// One bit an id, by parity of the generation. Set by any thread, cleared by the writer.
    used: [[AtomicU64; CHUNK_IDS / 64]; 2],
    /// What the writer's thread found out about the stack, see [`StackTable::reason`]. Written by that thread only.
    reasons: [AtomicU8; CHUNK_IDS],
}

/// A lock-free, insert-only table of stacks. See the module's page.
pub struct StackTable {
    /// `1 << ROOT_LOG2` links; null before the first insert.
    root: AtomicPtr<AtomicU64>,
    segments: [AtomicPtr<AtomicU64>; SEGMENTS],
    chunks: [AtomicPtr<Chunk>; CHUNKS],
    /// The first free word, counted over all segments. Word 0 is never given away, so that a link of 0 is none.
    free: AtomicU64,
    last_id: AtomicU32,
    limit_words: u64,
}

impl StackTable {
    /// An empty table, which takes no memory until the first insert, and then at most `limit_bytes` for stacks (and at most
    /// [`DEFAULT_LIMIT_BYTES`]), and about a tenth more for the index.
    #[cfg(not(loom))]
    pub const fn new(limit_bytes: usize) -> Self {
        let limit_words = if limit_bytes < DEFAULT_LIMIT_BYTES { limit_bytes / 8 } else { DEFAULT_LIMIT_BYTES / 8 };
        StackTable {
            root: AtomicPtr::new(core::ptr::null_mut()),
            segments: [const { AtomicPtr::new(core::ptr::null_mut()) }; SEGMENTS],
            chunks: [const { AtomicPtr::new(core::ptr::null_mut()) }; CHUNKS],
            free: AtomicU64::new(1),
            last_id: AtomicU32::new(0),
            limit_words: limit_words as u64,
        }
    }

    /// The same for the model checker, whose atomics are not made in constants.
    #[cfg(loom)]
    pub fn new(limit_bytes: usize) -> Self {
        StackTable {
            root: AtomicPtr::new(core::ptr::null_mut()),
            segments: core::array::from_fn(|_| AtomicPtr::new(core::ptr::null_mut())),
            chunks: core::array::from_fn(|_| AtomicPtr::new(core::ptr::null_mut())),
            free: AtomicU64::new(1),
            last_id: AtomicU32::new(0),
            limit_words: (limit_bytes.min(DEFAULT_LIMIT_BYTES) / 8) as u64,
        }
    }

    /// The id of a stack, which is put in if it is new. `None`, to be counted as a loss, when the table is full or the
    /// system has no memory to give; known stacks are still found then. `None` for an empty stack, too.
    ///
    /// Does not allocate, lock or wait; it maps memory now and then. Async-signal-safe.
    #[inline]
    pub fn insert(&self, pcs: &[usize]) -> Option<StackId> {
        self.find_or::<true>(pcs)
    }

    /// The id of a stack that is in the table.
    pub fn find(&self, pcs: &[usize]) -> Option<StackId> {
        self.find_or::<false>(pcs)
    }

    #[inline(always)]
    fn find_or<const INSERT: bool>(&self, pcs: &[usize]) -> Option<StackId> {
        if pcs.is_empty() {
            return None;
        }
        let hash = hash(pcs);
        let root = memory::get_or_map(&self.root, 1 << ROOT_LOG2)?;
        let mut link = &root[(hash >> (u64::BITS - ROOT_LOG2)) as usize];
        let mut bits = hash << ROOT_LOG2;
        let mut new = None;
        loop {
            // Acquire: pairs with the publishing compare-and-swap below (invariant 2).
            let there = link.load(Acquire);
            if there != 0 {
                let node = self.node(there)?;
                if node[node::HASH].load(Relaxed) == hash && pcs_equal(pcs_of(node), pcs) {
                    return StackId::new((node[node::META].load(Relaxed) >> 32) as u32);
                }
                link = &node[node::CHILDREN + (bits >> 63) as usize];
                // Rotating keeps the way defined below the last bit, for stacks of equal hash.
                bits = bits.rotate_left(1);
                continue;
            }
            if !INSERT {
                return None;
            }
            let (place, id) = match new {
                Some(new) => new,
                None => *new.insert(self.new_node(hash, pcs)?),
            };
            // Release: publishes the node (invariant 2). On failure the loop looks at what is there now.
            if link.compare_exchange(0, place, Release, Relaxed).is_ok() {
                return Some(id);
            }
        }
    }

    /// The program counters of a stack, leaf first. Empty for an id that is not of this table.
    #[cfg(not(loom))]
    pub fn get(&self, id: StackId) -> &[usize] {
        self.node_of(id).map_or(&[], |node| {
            // SAFETY: an `AtomicU64` has the layout of a `u64`, and so of a `usize` (asserted below); the words were written
            // before the node could be found, and are never written again (invariant 1).
            unsafe { &*(core::ptr::from_ref(pcs_of(node)) as *const [usize]) }
        })
    }

    /// A byte for the writer to remember its verdict about the stack in. 0 until [`StackTable::set_reason`].
    #[inline]
    pub fn reason(&self, id: StackId) -> u8 {
        self.entry(id).map_or(0, |(chunk, i)| chunk.reasons[i].load(Relaxed))
    }

    /// Sets what [`StackTable::reason`] returns. For the writer's thread.
    pub fn set_reason(&self, id: StackId, reason: u8) {
        if let Some((chunk, i)) = self.entry(id) {
            chunk.reasons[i].store(reason, Relaxed);
        }
    }

    /// Notes that a generation of this parity has used the stack, so that the writer puts its frames into it.
    ///
    /// The order against [`StackTable::drain_used`] is the caller's: it drains a generation after all its writers have left it.
    #[inline]
    pub fn mark_used(&self, id: StackId, parity: usize) {
        let Some((chunk, i)) = self.entry(id) else { return };
        let (word, bit) = (&chunk.used[parity & 1][i / 64], 1 << (i % 64));
        // Nearly always set already; a load leaves the line shared between the threads.
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }

    /// Calls `each` with the stacks that were marked for this parity, in the order of their ids, and unmarks them.
    pub fn drain_used(&self, parity: usize, mut each: impl FnMut(StackId)) {
        for (c, chunk) in self.chunks.iter().enumerate() {
            let Some(chunk) = memory::get(chunk, 1).and_then(<[Chunk]>::first) else { continue };
            for (w, word) in chunk.used[parity & 1].iter().enumerate() {
                let mut bits = if word.load(Relaxed) == 0 { 0 } else { word.swap(0, Relaxed) };
                while bits != 0 {
                    let id = c * CHUNK_IDS + w * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    if let Some(id) = StackId::new(id as u32) {
                        each(id);
                    }
                }
            }
        }
    }

    /// How many ids were given away: all ids are in `1..=len()`.
    pub fn len(&self) -> usize {
        self.last_id.load(Relaxed) as usize
    }

    /// Whether no stack was ever inserted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that the stacks take, in bytes, without the index.
    pub fn stack_bytes(&self) -> usize {
        self.free.load(Relaxed) as usize * 8
    }

    /// Writes a node, not yet linked, and gives it an id.
    #[cold]
    fn new_node(&self, hash: u64, pcs: &[usize]) -> Option<(u64, StackId)> {
        let place = self.allocate(node::PCS + pcs.len())?;
        let node = self.node(place)?;
        let id = self.new_id()?;
        node[node::HASH].store(hash, Relaxed);
        node[node::META].store((id.get() as u64) << 32 | pcs.len() as u64, Relaxed);
        for (word, &pc) in node[node::PCS..].iter().zip(pcs) {
            word.store(pc as u64, Relaxed);
        }
        let (chunk, i) = self.entry(id)?;
        // Release: pairs with `node_of` (invariant 2).
        chunk.nodes[i].store(place as u32, Release);
        #[cfg(not(loom))]
        super::black_box::stack(id.get(), pcs);
        Some((place, id))
    }

    /// Takes `words` words that lie in one segment. What is left of a segment that is too small is lost.
    fn allocate(&self, words: usize) -> Option<u64> {
        if words > SEGMENT_WORDS - 1 {
            return None;
        }
        let (words, segment) = (words as u64, SEGMENT_WORDS as u64);
        let mut free = self.free.load(Relaxed);
        loop {
            let fits = free % segment + words <= segment;
            let place = if fits { free } else { free.next_multiple_of(segment) };
            if place + words > self.limit_words {
                return None;
            }
            match self.free.compare_exchange_weak(free, place + words, Relaxed, Relaxed) {
                Ok(_) => {
                    break memory::get_or_map(&self.segments[(place / segment) as usize], SEGMENT_WORDS).map(|_| place);
                }
                Err(now) => free = now,
            }
        }
    }

    fn new_id(&self) -> Option<StackId> {
        // Looked at first, so that failing for ever does not wrap it.
        if self.last_id.load(Relaxed) as usize >= IDS_MAX {
            return None;
        }
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        memory::get_or_map(self.chunks.get(id as usize / CHUNK_IDS)?, 1)?;
        StackId::new(id)
    }

    /// The words of a segment from a node's place on.
    #[inline(always)]
    fn node(&self, place: u64) -> Option<&[AtomicU64]> {
        let segment = self.segments.get(place as usize / SEGMENT_WORDS)?;
        memory::get(segment, SEGMENT_WORDS)?.get(place as usize % SEGMENT_WORDS..)
    }

    #[inline(always)]
    fn entry(&self, id: StackId) -> Option<(&Chunk, usize)> {
        let chunk = memory::get(self.chunks.get(id.get() as usize / CHUNK_IDS)?, 1)?.first()?;
        Some((chunk, id.get() as usize % CHUNK_IDS))
    }

    fn node_of(&self, id: StackId) -> Option<&[AtomicU64]> {
        let (chunk, i) = self.entry(id)?;
        // Acquire: pairs with `new_node` (invariant 2).
        match chunk.nodes[i].load(Acquire) {
            0 => None,
            place => self.node(place as u64),
        }
    }
}

impl Drop for StackTable {
    fn drop(&mut self) {
        memory::unmap(&self.root, 1 << ROOT_LOG2);
        self.segments.iter().for_each(|segment| memory::unmap(segment, SEGMENT_WORDS));
        self.chunks.iter().for_each(|chunk| memory::unmap(chunk, 1));
    }
}

const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "program counters are stored as words of 64 bits");

/// The program counters of a node that was found through a link or an id.
#[inline(always)]
fn pcs_of(node: &[AtomicU64]) -> &[AtomicU64] {
    let len = node[node::META].load(Relaxed) as u32 as usize;
    &node[node::PCS..][..len]
}

#[inline(always)]
#[cfg(not(loom))]
fn pcs_equal(words: &[AtomicU64], pcs: &[usize]) -> bool {
    // SAFETY: as in `StackTable::get`. A plain comparison, since the compiler does not merge atomic loads.
    let words = unsafe { &*(core::ptr::from_ref(words) as *const [usize]) };
    words == pcs
}
#[cfg(loom)]
fn pcs_equal(words: &[AtomicU64], pcs: &[usize]) -> bool {
    words.len() == pcs.len() && words.iter().zip(pcs).all(|(word, &pc)| word.load(Relaxed) == pc as u64)
}

/// A hash by folded multiplication (the way of wyhash): two independent chains, each of two program counters a step.
#[inline(always)]
fn hash(pcs: &[usize]) -> u64 {
    // Odd, with about half their bits set; the fractional digits of the square roots of 2, 3, 5 and 7.
    const K: [u64; 4] = [0x6A09_E667_F3BC_C909, 0xBB67_AE85_84CA_A73B, 0x3C6E_F372_FE94_F82B, 0x54FF_53A5_F1D3_6F1D];
    #[inline(always)]
    fn mix(a: u64, b: u64) -> u64 {
        let product = a as u128 * b as u128;
        product as u64 ^ (product >> 64) as u64
    }
    let (fours, rest) = pcs.as_chunks::<4>();
    let (mut a, mut b) = (K[0] ^ pcs.len() as u64, K[1]);
    for &[p, q, r, s] in fours {
        a = mix(a ^ p as u64, K[2] ^ q as u64);
        b = mix(b ^ r as u64, K[3] ^ s as u64);
    }
    for &p in rest {
        a = mix(a ^ p as u64, K[2]);
    }
    mix(a ^ K[3], b ^ K[0])
}

/// Arrays of atomics that are mapped on first use and live as long as the table.
mod memory {
    use crate::sys::sync::{AtomicPtr, Ordering::*};

    /// A type that consists of atomics, of which zero is a valid state.
    ///
    /// # Safety
    /// Any number of all-zero `Self`s must be valid.
    pub(super) unsafe trait Zeroed: Sized {
        #[cfg(loom)]
        fn zero() -> Self;
    }

    /// The array behind `at`, which has `len` elements, or none yet.
    #[inline(always)]
    pub(super) fn get<T: Zeroed>(at: &AtomicPtr<T>, len: usize) -> Option<&[T]> {
        // Acquire: pairs with `get_or_map`, for memory that is zeroed by us and not by the system.
        let p = at.load(Acquire);
        // SAFETY: not null, so it is the array of this length that `get_or_map` put there for good.
        (!p.is_null()).then(|| unsafe { core::slice::from_raw_parts(p, len) })
    }

    /// The same, mapped now if it was not. When two threads race to it, one gives its memory back.
    #[inline(always)]
    pub(super) fn get_or_map<T: Zeroed>(at: &AtomicPtr<T>, len: usize) -> Option<&[T]> {
        get(at, len).or_else(|| first(at, len))
    }

    #[cold]
    fn first<T: Zeroed>(at: &AtomicPtr<T>, len: usize) -> Option<&[T]> {
        let new = imp::map::<T>(len)?;
        if at.compare_exchange(core::ptr::null_mut(), new, AcqRel, Acquire).is_err() {
            // SAFETY: mapped above, and nobody has seen it.
            unsafe { imp::unmap(new, len) };
        }
        get(at, len)
    }

    /// Gives the array back. For the table's drop only.
    pub(super) fn unmap<T: Zeroed>(at: &AtomicPtr<T>, len: usize) {
        let p = at.swap(core::ptr::null_mut(), AcqRel);
        if !p.is_null() {
            // SAFETY: mapped by `first` with this length; the table is being dropped, so nobody looks at it any more.
            unsafe { imp::unmap(p, len) };
        }
    }

    #[cfg(not(loom))]
    mod imp {
        use super::Zeroed;
        use crate::sys::pages::{self, GRANULE_BYTES};
        use core::ptr::NonNull;

        pub(super) fn map<T: Zeroed>(len: usize) -> Option<*mut T> {
            pages::map(pages::round_up(len * size_of::<T>()), GRANULE_BYTES).map(|p| p.as_ptr().cast())
        }

        /// # Safety
        /// `p` is null or came from `map` with the same length, and nobody uses it any more.
        pub(super) unsafe fn unmap<T: Zeroed>(p: *mut T, len: usize) {
            if let Some(p) = NonNull::new(p.cast()) {
                // SAFETY: the caller's: mapped by `map` with the same length.
                unsafe { pages::unmap(p, pages::round_up(len * size_of::<T>()), GRANULE_BYTES) };
            }
        }
    }
    #[cfg(loom)]
    mod imp {
        use super::Zeroed;

        pub(super) fn map<T: Zeroed>(len: usize) -> Option<*mut T> {
            Some(Box::into_raw((0..len).map(|_| T::zero()).collect::<Box<[T]>>()).cast())
        }

        /// # Safety
        /// `p` is null or came from `map` with the same length, and nobody uses it any more.
        pub(super) unsafe fn unmap<T: Zeroed>(p: *mut T, len: usize) {
            // SAFETY: the caller's: made by `map` with the same length.
            drop(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(p, len)) });
        }
    }
}

// SAFETY: an atomic integer of zero.
unsafe impl memory::Zeroed for AtomicU64 {
    #[cfg(loom)]
    fn zero() -> Self {
        AtomicU64::new(0)
    }
}
// SAFETY: consists of atomic integers.
unsafe impl memory::Zeroed for Chunk {
    #[cfg(loom)]
    fn zero() -> Self {
        Chunk {
            nodes: core::array::from_fn(|_| AtomicU32::new(0)),
            used: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU64::new(0))),
            reasons: core::array::from_fn(|_| AtomicU8::new(0)),
        }
    }
}

#[cfg(test)]
#[path = "stack_table_tests.rs"]
mod tests;
