//! The buffers that events are written to: fixed pieces of memory from the system, lent to threads, bounded in number.
//!
//! A thread borrows a buffer from the [`Pool`], fills it, and sends it to the writer as a [`Chunk`]; the writer gives it back.
//! When none is left and the bound is reached, the thread gets nothing and drops the event: it never waits.
//!
//! The channel of full buffers is used without waiting on either side; see [`Event`] for why. Empty ones are not handed out
//! through such a channel: there each taker waits, spinning, for any other that has lost its processor in the middle of taking.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::black_box as file;
use crate::format::black_box::{self, tail};
use crate::format::{EXPERIMENT_ALLOC_FREE, Kind, varint};
use crate::sys::event::Event;
use crate::sys::lock::Lock;
use crate::sys::pages;

/// Size of a buffer. Large enough that handing one over (a few hundred nanoseconds) is nothing beside filling it (some
/// 6,000 events), small enough that thousands of threads fit the bound.
pub(crate) const BUFFER_BYTES: usize = black_box::STRIDE_BYTES - black_box::TAIL_BYTES;
/// Buffers are mapped by slabs of this many: one system call for 1 MiB.
const SLAB_BUFFERS: usize = 32;
const SLAB_BYTES: usize = SLAB_BUFFERS * black_box::STRIDE_BYTES;

/// A piece of memory of [`BUFFER_BYTES`], owned by whoever holds the value.
#[derive(Debug)]
pub(crate) struct Buffer {
    at: NonNull<u8>,
    /// Its place in the pool.
    number: u32,
}

// SAFETY: a buffer is plain memory with one owner.
unsafe impl Send for Buffer {}

impl Buffer {
    pub(crate) fn start(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// A number of the tail, which says what is in the buffer to whoever finds it after the process's end.
    #[inline(always)]
    fn tail(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the tail lies behind the BUFFER_BYTES of the payload, and is aligned as the buffer is.
        let at = unsafe { self.at.add(BUFFER_BYTES + offset) };
        // SAFETY: as above; the owner of the buffer owns its tail.
        unsafe { at.cast::<AtomicU32>().as_ref() }
    }

    /// How much of a batch the buffer has by now. Release: what the length covers is in the buffer, whenever the process ends.
    #[inline(always)]
    pub(crate) fn note_len(&self, len: usize) {
        self.tail(tail::LEN).store(len as u32, Ordering::Release);
    }

    /// What the buffer will have; its length is 0.
    pub(crate) fn note(&self, content: Content, generation: u32, tid: u32, base_ns: u64) {
        self.tail(tail::CONTENT).store(0, Ordering::Relaxed);
        self.note_len(0);
        self.tail(tail::GENERATION).store(generation, Ordering::Relaxed);
        self.tail(tail::TID).store(tid, Ordering::Relaxed);
        self.tail(tail::BASE_NS).store(base_ns as u32, Ordering::Relaxed);
        self.tail(tail::BASE_NS + 4).store((base_ns >> 32) as u32, Ordering::Relaxed);
        self.tail(tail::CONTENT).store(content.in_box(), Ordering::Release);
    }

    /// The buffer has nothing any more.
    fn note_empty(&self) {
        self.tail(tail::CONTENT).store(0, Ordering::Release);
    }
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Timed events.
    Events,
    /// A string table.
    Strings,
    /// Private data: the payload of an experimental batch.
    Private,
    /// Complete batches of several threads.
    Batches,
}

impl Content {
    /// As the black box has it.
    const fn in_box(self) -> u32 {
        match self {
            Content::Events => black_box::content::EVENTS,
            Content::Strings => black_box::content::STRINGS,
            Content::Private => black_box::content::PRIVATE,
            Content::Batches => black_box::content::BATCHES,
        }
    }
}

/// A filled buffer on its way to the writer.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) buffer: Buffer,
    pub(crate) len: usize,
    pub(crate) content: Content,
    pub(crate) generation: u32,
    /// The thread that wrote it.
    pub(crate) tid: u32,
    /// The time that the first event counts from, in nanoseconds.
    pub(crate) base_ns: u64,
}

impl Chunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the first `len` bytes of the buffer were written by the thread that filled it, and the chunk owns it.
        unsafe { core::slice::from_raw_parts(self.buffer.start(), self.len) }
    }
}

/// Up to this size a batch left by an ended thread is copied, so that its buffer is free at once.
const REMAINS_BYTES: usize = BUFFER_BYTES / 8;
/// The most batches in one buffer of remains.
const REMAINS_BATCHES: usize = 128;

/// A buffer into which ended threads' last batches are copied, complete with their heads. A program that makes thousands of threads a
/// second would otherwise fill the pool with buffers that hold next to nothing.
#[derive(Debug)]
struct Remains {
    buffer: Option<Buffer>,
    len: usize,
    generation: u32,
    /// Whose batches these are. A thread with the same id must not overtake them.
    tids: [u32; REMAINS_BATCHES],
    batches: usize,
}

impl Remains {
    const fn new() -> Remains {
        Remains { buffer: None, len: 0, generation: 0, tids: [0; REMAINS_BATCHES], batches: 0 }
    }

    fn take(&mut self) -> Option<Chunk> {
        let buffer = self.buffer.take()?;
        self.batches = 0;
        let len = core::mem::take(&mut self.len);
        Some(Chunk { buffer, len, content: Content::Batches, generation: self.generation, tid: 0, base_ns: 0 })
    }
}

/// The buffers of one trace, and the way to its writer.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Whether the buffers are part of the black box.
    pub(crate) is_boxed: bool,
    free: Free,
    full: (Sender<Chunk>, Receiver<Chunk>),
    /// Rung when the writer should look.
    pub(crate) bell: Event,
    /// Chunks sent since the writer last took them, and how many make it look before its time.
    sent: AtomicU64,
    sent_early: u64,
    /// Slabs mapped so far; `slabs_max` is the bound.
    slabs: AtomicU64,
    slabs_max: u64,
    /// What ended threads left, by parity of the generation.
    remains: [Lock<Remains>; 2],
    /// Where the slabs begin: 0 for one that is not mapped (yet). Written once each, by whoever maps it.
    slab_at: Box<[AtomicU64]>,
    /// Which of them are mapped by themselves, and not part of the black box.
    slab_own: Box<[AtomicBool]>,
}

impl Pool {
    /// A pool that never holds more than `bytes_max` (at least one slab).
    pub(crate) fn new(bytes_max: usize, is_boxed: bool) -> Pool {
        let slabs_max = (bytes_max / SLAB_BYTES).max(1);
        let buffers = slabs_max * SLAB_BUFFERS;
        Pool {
            is_boxed,
            free: Free::new(buffers),
            // Every buffer may be on its way at once. So a sender never comes to a place that the writer is still reading.
            full: bounded(buffers),
            bell: Event::new(),
            sent: AtomicU64::new(0),
            // A generation that fills a quarter of the buffers is closed early, so that they come back.
            sent_early: (buffers / 4).max(1) as u64,
            slabs: AtomicU64::new(0),
            slabs_max: slabs_max as u64,
            remains: [Lock::new(Remains::new()), Lock::new(Remains::new())],
            slab_at: (0..slabs_max).map(|_| AtomicU64::new(0)).collect(),
            slab_own: (0..slabs_max).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// The most bytes that buffers may take.
    pub(crate) fn bytes_max(&self) -> usize {
        self.slabs_max as usize * SLAB_BYTES
    }

    /// How many filled buffers there are.
    pub(crate) fn full_len(&self) -> usize {
        self.full.1.len()
    }

    /// Takes the oldest filled buffer. The writer's.
    pub(crate) fn take_full(&self) -> Option<Chunk> {
        self.sent.store(0, Ordering::Relaxed);
        self.full.1.try_recv().ok()
    }

    /// A buffer, or `None` when the bound is reached. Neither waits nor allocates through the global allocator.
    pub(crate) fn take(&self) -> Option<Buffer> {
        let Some(number) = self.free.pop() else { return self.grow() };
        let slab = self.slab_at[number as usize / SLAB_BUFFERS].load(Ordering::Relaxed) as usize;
        let at = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(slab))?;
        // SAFETY: the slab of SLAB_BUFFERS was mapped before any of its buffers could be in the list.
        let at = unsafe { at.add(number as usize % SLAB_BUFFERS * black_box::STRIDE_BYTES) };
        Some(Buffer { at, number })
    }

    #[cold]
    fn grow(&self) -> Option<Buffer> {
        let i =
            self.slabs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < self.slabs_max).then_some(n + 1));
        let i = i.ok()? as usize;
        // A failure leaves the slab's number taken: when the system has no memory, asking again at each event does not help.
        let boxed = if self.is_boxed { file::slab(i, SLAB_BYTES) } else { None };
        let slab = boxed.or_else(|| pages::map(SLAB_BYTES, pages::GRANULE_BYTES))?;
        self.slab_own[i].store(boxed.is_none(), Ordering::Relaxed);
        self.slab_at[i].store(slab.as_ptr().expose_provenance() as u64, Ordering::Relaxed);
        for k in 1..SLAB_BUFFERS {
            // SAFETY: `k` buffers into the slab of SLAB_BUFFERS.
            let at = unsafe { slab.add(k * black_box::STRIDE_BYTES) };
            self.give_back(Buffer { at, number: (i * SLAB_BUFFERS + k) as u32 });
        }
        Some(Buffer { at: slab, number: (i * SLAB_BUFFERS) as u32 })
    }

    /// Returns a buffer.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        buffer.note_empty();
        self.free.push(buffer.number);
    }

    /// Sends a filled buffer to the writer.
    pub(crate) fn send(&self, chunk: Chunk) {
        let mut remains = self.remains[(chunk.generation & 1) as usize].lock();
        // The kernel may have given the thread the id of one that has ended in this generation: what that left goes first.
        if remains.tids[..remains.batches].contains(&chunk.tid)
            && let Some(earlier) = remains.take()
        {
            self.push(earlier);
        }
        drop(remains);
        self.push(chunk);
    }

    /// Sends the last batch of a thread that ends. A small one is copied, and its buffer is free at once.
    pub(crate) fn bury(&self, chunk: Chunk) {
        let head = 2 + 4 * varint::MAX_BYTES;
        if chunk.len > REMAINS_BYTES {
            return self.send(chunk);
        }
        let mut remains = self.remains[(chunk.generation & 1) as usize].lock();
        if (remains.len + head + chunk.len > BUFFER_BYTES || remains.batches == REMAINS_BATCHES)
            && let Some(full) = remains.take()
        {
            self.push(full);
        }
        let at = match &remains.buffer {
            Some(buffer) => buffer.start(),
            None => match self.take() {
                Some(buffer) => {
                    buffer.note(Content::Batches, chunk.generation, 0, 0);
                    remains.buffer.insert(buffer).start()
                }
                None => {
                    drop(remains);
                    return self.push(chunk);
                }
            },
        };
        let mut bytes = [0u8; 2 + 4 * varint::MAX_BYTES];
        bytes[0] = Kind::EventBatch as u8;
        let mut n = 1;
        if chunk.content == Content::Private {
            bytes[..2].copy_from_slice(&[Kind::ExperimentalBatch as u8, EXPERIMENT_ALLOC_FREE]);
            n = 2;
        }
        for v in [u64::from(chunk.generation), u64::from(chunk.tid), chunk.base_ns, chunk.len as u64] {
            n += varint::write(&mut bytes[n..], v);
        }
        for part in [&bytes[..n], chunk.bytes()] {
            // SAFETY: the buffer has room for both parts, as was seen above, and is held under the lock; the parts lie elsewhere.
            unsafe { at.add(remains.len).copy_from_nonoverlapping(part.as_ptr(), part.len()) };
            remains.len += part.len();
        }
        if let Some(buffer) = &remains.buffer {
            buffer.note_len(remains.len);
        }
        let i = remains.batches;
        remains.tids[i] = chunk.tid;
        remains.batches += 1;
        remains.generation = chunk.generation;
        drop(remains);
        self.give_back(chunk.buffer);
    }

    /// Sends what ended threads left in a generation of that parity. The closer's, when it has quiesced.
    pub(crate) fn send_remains(&self, parity: usize) {
        if let Some(chunk) = self.remains[parity].lock().take() {
            self.push(chunk);
        }
    }

    /// There is always room: no more buffers exist than the channel holds.
    fn push(&self, chunk: Chunk) {
        let sent = self.full.0.try_send(chunk);
        debug_assert!(sent.is_ok());
        if self.sent.fetch_add(1, Ordering::Relaxed) + 1 == self.sent_early {
            self.bell.ring();
        }
    }
}

/// The free buffers: a stack of their numbers. Nobody waits for anybody; the last one given back, which is still in some cache, is
/// the first to be taken.
#[derive(Debug)]
struct Free {
    /// The number of the top one plus one (0 for none) in the low half. A count of changes in the high half makes an exchange fail
    /// whose view of the list is out of date.
    top: AtomicU64,
    /// Below each, in the same form. Written by whoever owns the buffer.
    next: Box<[AtomicU32]>,
}

impl Free {
    fn new(buffers: usize) -> Free {
        Free { top: AtomicU64::new(0), next: (0..buffers).map(|_| AtomicU32::new(0)).collect() }
    }

    fn changed(top: u64, to: u32) -> u64 {
        ((top >> 32).wrapping_add(1) << 32) | u64::from(to)
    }

    fn pop(&self) -> Option<u32> {
        // Acquire pairs with the Release in `push`: what its last owner did with the buffer is over.
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let number = (top as u32).checked_sub(1)?;
            let next = self.next[number as usize].load(Ordering::Relaxed);
            match self.top.compare_exchange_weak(top, Self::changed(top, next), Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(number),
                Err(now) => top = now,
            }
        }
    }

    fn push(&self, number: u32) {
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            self.next[number as usize].store(top as u32, Ordering::Relaxed);
            let new = Self::changed(top, number + 1);
            match self.top.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The trace is over and every section closed, so no buffer is in use.
        for (at, own) in self.slab_at.iter().zip(&self.slab_own) {
            if !own.load(Ordering::Relaxed) {
                continue;
            }
            let at = at.load(Ordering::Relaxed) as usize;
            if let Some(at) = NonNull::new(core::ptr::with_exposed_provenance_mut(at)) {
                // SAFETY: the slab was mapped with this size and alignment, and nothing uses it any more.
                unsafe { pages::unmap(at, SLAB_BYTES, pages::GRANULE_BYTES) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_buffers_come_back() {
        let pool = Pool::new(2 * SLAB_BYTES, false);
        let mut held: Vec<Buffer> = core::iter::from_fn(|| pool.take()).collect();
        assert_eq!(held.len(), 2 * SLAB_BUFFERS);
        for b in &held {
            // SAFETY: each buffer is ours and BUFFER_BYTES long.
            unsafe { b.start().write_bytes(0xaa, BUFFER_BYTES) };
        }
        let mut starts: Vec<usize> = held.iter().map(|b| b.start() as usize).collect();
        starts.sort_unstable();
        assert!(starts.windows(2).all(|w| w[1] - w[0] >= BUFFER_BYTES), "buffers overlap");
        pool.give_back(held.pop().expect("one"));
        assert!(pool.take().is_some());
        assert!(pool.take().is_none());
    }
}
