//! The buffers that events are written to: fixed pieces of memory from the system, lent to threads, bounded in number.
//!
//! A thread borrows a buffer from the [`Pool`], fills it, and sends it to the writer as a [`Chunk`]; the writer gives it back.
//! When none is left and the bound is reached, the thread gets nothing and drops the event: it never waits.
//!
//! The channels are used without waiting on either side; see [`Event`] for why.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::sys::event::Event;
use crate::sys::pages;

/// Size of a buffer. Large enough that handing one over (a few hundred nanoseconds) is nothing beside filling it (some
/// 6,000 events), small enough that thousands of threads fit the bound.
pub(crate) const BUFFER_BYTES: usize = 32 << 10;
/// Buffers are mapped by slabs of this many: one system call for 1 MiB.
const SLAB_BUFFERS: usize = 32;
const SLAB_BYTES: usize = SLAB_BUFFERS * BUFFER_BYTES;

/// A piece of memory of [`BUFFER_BYTES`], owned by whoever holds the value.
#[derive(Debug)]
pub(crate) struct Buffer(NonNull<u8>);

// SAFETY: a buffer is plain memory with one owner.
unsafe impl Send for Buffer {}

impl Buffer {
    pub(crate) fn start(&self) -> *mut u8 {
        self.0.as_ptr()
    }
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Timed events.
    Events,
    /// String and stack tables: complete batches, ready for the file.
    Tables,
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

/// The buffers of one trace, and the way to its writer.
#[derive(Debug)]
pub(crate) struct Pool {
    free: (Sender<Buffer>, Receiver<Buffer>),
    full: (Sender<Chunk>, Receiver<Chunk>),
    /// Rung when the writer should look.
    pub(crate) bell: Event,
    /// Chunks sent since the writer last took them, and how many make it look before its time.
    sent: AtomicU64,
    sent_early: u64,
    /// Slabs mapped so far; `slabs_max` is the bound.
    slabs: AtomicU64,
    slabs_max: u64,
    /// Where the slabs begin: 0 for one that is not mapped (yet). Written once each, by whoever maps it.
    slab_at: Box<[AtomicU64]>,
}

impl Pool {
    /// A pool that never holds more than `bytes_max` (at least one slab).
    pub(crate) fn new(bytes_max: usize) -> Pool {
        let slabs_max = (bytes_max / SLAB_BYTES).max(1);
        let buffers = slabs_max * SLAB_BUFFERS;
        Pool {
            free: bounded(buffers),
            // Every buffer may be on its way at once.
            full: bounded(buffers),
            bell: Event::new(),
            sent: AtomicU64::new(0),
            // A generation that fills a quarter of the buffers is closed early, so that they come back.
            sent_early: (buffers / 4).max(1) as u64,
            slabs: AtomicU64::new(0),
            slabs_max: slabs_max as u64,
            slab_at: (0..slabs_max).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The most bytes that buffers may take.
    pub(crate) fn bytes_max(&self) -> usize {
        self.slabs_max as usize * SLAB_BYTES
    }

    /// Takes the oldest filled buffer. The writer's.
    pub(crate) fn take_full(&self) -> Option<Chunk> {
        self.sent.store(0, Ordering::Relaxed);
        self.full.1.try_recv().ok()
    }

    /// A buffer, or `None` when the bound is reached. Neither waits nor allocates through the global allocator.
    pub(crate) fn take(&self) -> Option<Buffer> {
        self.free.1.try_recv().ok().or_else(|| self.grow())
    }

    #[cold]
    fn grow(&self) -> Option<Buffer> {
        let i =
            self.slabs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < self.slabs_max).then_some(n + 1));
        let i = i.ok()? as usize;
        // A failure leaves the slab's number taken: when the system has no memory, asking again at each event does not help.
        let slab = pages::map(SLAB_BYTES, pages::GRANULE_BYTES)?;
        self.slab_at[i].store(slab.as_ptr().expose_provenance() as u64, Ordering::Relaxed);
        for k in 1..SLAB_BUFFERS {
            // SAFETY: `k` buffers into the slab of SLAB_BUFFERS.
            let at = unsafe { slab.add(k * BUFFER_BYTES) };
            self.give_back(Buffer(at));
        }
        Some(Buffer(slab))
    }

    /// Returns a buffer. There is always room: no more buffers exist than the channel holds.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        let sent = self.free.0.try_send(buffer);
        debug_assert!(sent.is_ok());
    }

    /// Sends a filled buffer. There is always room: no more buffers exist than the channel holds.
    pub(crate) fn send(&self, chunk: Chunk) {
        let sent = self.full.0.try_send(chunk);
        debug_assert!(sent.is_ok());
        if self.sent.fetch_add(1, Ordering::Relaxed) + 1 == self.sent_early {
            self.bell.ring();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The trace is over and every section closed, so no buffer is in use.
        for at in &self.slab_at {
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
        let pool = Pool::new(2 * SLAB_BYTES);
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
