//! A batch in the making: the events of one thread in one generation, in the wire form, in a borrowed buffer.

use super::buffer::{BUFFER_BYTES, Buffer, Chunk, Content};
use crate::format::{Kind, varint};

/// What a section may write at the most; a batch with less room is exchanged before the section begins. Counted from the
/// longest: four statuses, five events that bring the thread to the running state, four events of its own, 60 bytes each.
pub(crate) const SECTION_BYTES: usize = 1024;

/// Owned by one thread; its generation's closer takes what is left in it when the thread can no longer write.
#[derive(Debug)]
pub(crate) struct Batch {
    buffer: Option<Buffer>,
    len: usize,
    base_ns: u64,
    last_ns: u64,
}

/// A place between two events of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    buffer: usize,
    len: usize,
    base_ns: u64,
    last_ns: u64,
}

impl Batch {
    /// Where the next event will stand.
    pub(crate) fn mark(&self) -> Mark {
        let buffer = self.buffer.as_ref().map_or(0, |b| b.start().addr());
        Mark { buffer, len: self.len, base_ns: self.base_ns, last_ns: self.last_ns }
    }

    /// Takes back the events that were written since `to`, a mark of this same buffer.
    pub(crate) fn rewind(&mut self, to: Mark) {
        debug_assert_eq!((self.mark().buffer, self.base_ns), (to.buffer, to.base_ns));
        self.set_len(to.len);
        self.last_ns = to.last_ns;
    }

    /// Whether `bytes` more can be written.
    #[inline(always)]
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.buffer.is_some() && self.len + bytes <= BUFFER_BYTES
    }

    /// The time of the last event, in nanoseconds.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Begins anew in `buffer`; what was written before has been taken.
    /// Times count from just before `now_ns`, but never go back.
    pub(crate) fn begin(&mut self, buffer: Buffer, content: Content, generation: u32, tid: u32, now_ns: u64) {
        self.len = 0;
        self.base_ns = now_ns.saturating_sub(1).max(self.last_ns);
        self.last_ns = self.base_ns;
        buffer.note(content, generation, tid, self.base_ns);
        self.buffer = Some(buffer);
    }

    /// So much is in the buffer now.
    #[inline(always)]
    fn set_len(&mut self, len: usize) {
        self.len = len;
        if let Some(buffer) = &self.buffer {
            buffer.note_len(len);
        }
    }

    /// Takes the buffer out with its length and base time.
    pub(crate) fn take(&mut self) -> Option<(Buffer, usize, u64)> {
        let buffer = self.buffer.take()?;
        Some((buffer, core::mem::take(&mut self.len), self.base_ns))
    }

    /// As [`take`](Self::take), as a chunk for the writer.
    pub(crate) fn take_chunk(&mut self, content: Content, generation: u32, tid: u32) -> Option<Chunk> {
        let (buffer, len, base_ns) = self.take()?;
        Some(Chunk { buffer, len, content, generation, tid, base_ns })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the buffer without giving it back: in the child of a `fork`, where its pool does not exist.
    pub(crate) fn forget(&mut self) {
        self.buffer = None;
        self.len = 0;
    }

    /// Writes a timed event. Its time is made later than the last one's if it is not.
    ///
    /// # Safety
    /// The batch must have a buffer with room for the event: [`SECTION_BYTES`] at the beginning of a section.
    #[inline(always)]
    pub(crate) unsafe fn event<const N: usize>(&mut self, kind: Kind, at_ns: u64, args: [u64; N]) {
        debug_assert!(self.has_room((N + 2) * varint::MAX_BYTES), "no room for {kind:?}");
        debug_assert_eq!(kind.spec().args.len(), N + 1, "{kind:?}");
        let at_ns = at_ns.max(self.last_ns + 1);
        let Some(buffer) = &self.buffer else { return };
        // SAFETY: `len` is within the buffer.
        let begin = unsafe { buffer.start().add(self.len) };
        // SAFETY: there is room for the whole event.
        let mut p = unsafe { varint::put(begin, kind as u64) };
        // SAFETY: as above.
        p = unsafe { varint::put(p, at_ns - self.last_ns) };
        for a in args {
            // SAFETY: as above.
            p = unsafe { varint::put(p, a) };
        }
        self.set_len(self.len + p as usize - begin as usize);
        self.last_ns = at_ns;
    }

    /// Where the next byte goes, if there is room for `bytes` more: for who writes records of his own.
    #[inline(always)]
    pub(crate) fn space(&mut self, bytes: usize) -> Option<*mut u8> {
        let buffer = self.buffer.as_ref()?;
        // SAFETY: `len` is within the buffer.
        (self.len + bytes <= BUFFER_BYTES).then(|| unsafe { buffer.start().add(self.len) })
    }

    /// Takes in what was written.
    ///
    /// # Safety
    /// `n` bytes were written at the place that [`space`](Self::space) gave for at least as many.
    #[inline(always)]
    pub(crate) unsafe fn wrote(&mut self, n: usize) {
        self.set_len(self.len + n);
    }

    /// Writes raw bytes, for tables.
    ///
    /// # Safety
    /// The batch must have a buffer with room for them.
    pub(crate) unsafe fn bytes(&mut self, bytes: &[u8]) {
        debug_assert!(self.has_room(bytes.len()));
        let Some(buffer) = &self.buffer else { return };
        // SAFETY: `len` is within the buffer.
        let at = unsafe { buffer.start().add(self.len) };
        // SAFETY: there is room; the buffer is our own memory and so overlaps nothing else.
        unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.set_len(self.len + bytes.len());
    }

    /// Writes an integer, for tables.
    ///
    /// # Safety
    /// The batch must have a buffer with room for it.
    pub(crate) unsafe fn integer(&mut self, v: u64) {
        let mut b = [0u8; varint::MAX_BYTES];
        let n = varint::write(&mut b, v);
        // SAFETY: the caller's.
        unsafe { self.bytes(&b[..n]) };
    }
}
