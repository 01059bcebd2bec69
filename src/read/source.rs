//! From bytes to generations.
//!
//! A generation is read whole before any of its events is delivered, because its tables may stand at its end. Its bytes
//! lie in one buffer, which grows only as bytes arrive: nothing is allocated because a length claims it. What was read
//! beyond the generation's end goes to the next one's buffer.
//!
//! Where a generation ends is told by a byte of its own (from Go 1.26), or by the first batch of the next (before). Which
//! damage still lets a generation pass is Go's rule (`generation.go`): before 1.26 a generation that is followed by rubbish
//! counts as complete if it has its clock.

use super::error::{Fault, Faulty, fault};
use super::generation::{
    ClockParts, NO_BATCH, PADDING, Pending, RawExperimental, Sample, ThreadBatches, TimedBatch, read_samples,
};
use super::gosort;
use super::idmap::IdMap;
use super::table::{Stacks, Strings};
use super::{Error, Generation, ThreadId, Time};
use crate::format::{Kind, MAX_BATCH_BYTES, Version, varint};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How much is asked of the input at a time.
const READ_BYTES: usize = 256 << 10;
/// The longest batch header: kind, experiment, and four integers.
const MAX_HEADER_BYTES: usize = 2 + 4 * varint::MAX_BYTES;

/// Reads generations from an input.
pub(super) struct Source<R> {
    input: R,
    version: Version,
    /// The bytes of the generation that is being read: `buf[..filled]`, the unread part from `pos` on.
    buf: Vec<u8>,
    filled: usize,
    pos: usize,
    /// Where in the input `buf` begins.
    base: u64,
    /// The input has ended, or failed.
    ended: bool,
    failure: Option<io::Error>,
    /// An error that is to be told once the generation before it is done.
    deferred: Option<Error>,
    /// Whether a generation was delivered.
    delivered: bool,
    /// The length of the longest generation so far, with what is read ahead: the next one's buffer.
    room: usize,
    /// A buffer that is free again.
    spare: Vec<u8>,
    bytes_read: Arc<AtomicU64>,
}

/// What [`Source::next`] finds.
pub(super) enum Next {
    /// A generation.
    Generation(Box<Pending>),
    /// The end of the trace.
    End,
    /// Damage. Nothing follows.
    Broken(Error),
}

/// What a batch is, by its first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BatchKind {
    Events,
    Experimental(u8),
    EndOfGeneration,
}

struct Batch {
    kind: BatchKind,
    generation: u64,
    thread: ThreadId,
    time: u64,
    /// The payload in `buf`.
    start: usize,
    end: usize,
}

/// The parts of a generation while its batches come in.
struct Parts {
    number: Option<u64>,
    strings: Strings,
    stacks: Stacks,
    clock: ClockParts,
    samples: Vec<Sample>,
    experimental: Vec<RawExperimental>,
    experimental_data: Vec<u8>,
    batches: Vec<TimedBatch>,
    threads: Vec<ThreadBatches>,
    by_thread: IdMap,
    min_time: u64,
}

impl<R: Read> Source<R> {
    /// A source for what follows the header.
    pub(super) fn new(input: R, version: Version, header_bytes: u64, bytes_read: Arc<AtomicU64>) -> Source<R> {
        Source {
            input,
            version,
            buf: Vec::new(),
            filled: 0,
            pos: 0,
            base: header_bytes,
            ended: false,
            failure: None,
            deferred: None,
            delivered: false,
            room: 0,
            spare: Vec::new(),
            bytes_read,
        }
    }

    /// Takes back the buffer of a generation that is used up.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        if buffer.len() > self.spare.len() {
            self.spare = buffer;
        }
    }

    /// The next generation, or why there is none. Not to be called again after an end or an error.
    pub(super) fn next(&mut self) -> Next {
        if let Some(e) = self.deferred.take() {
            return Next::Broken(e);
        }
        self.base += self.pos as u64;
        self.buf.copy_within(self.pos..self.filled, 0);
        self.filled -= self.pos;
        self.pos = 0;
        let mut parts = Parts::new();
        let start = self.base;
        match self.read_generation(&mut parts) {
            Ok(true) => {}
            Ok(false) => return Next::End,
            Err(mut e) => {
                e.set_whole_bytes(start);
                return Next::Broken(e);
            }
        }
        let number = parts.number.unwrap_or(0);
        match self.finish(parts) {
            Ok(pending) => {
                self.delivered = true;
                Next::Generation(Box::new(pending))
            }
            Err(fault) => {
                let mut e = fault.at((number != 0).then_some(number), None, Some(start));
                e.set_whole_bytes(start);
                Next::Broken(match self.deferred.take().filter(Error::is_cut) {
                    Some(cut) => cut.because_of(&e),
                    None => e,
                })
            }
        }
    }

    /// Reads the batches of a generation; false at the end of the trace.
    fn read_generation(&mut self, parts: &mut Parts) -> Result<bool, Error> {
        let marked = self.version.has_end_of_generation();
        loop {
            let at = self.base + self.pos as u64;
            let before = self.pos;
            let batch = match self.batch() {
                Ok(Some(b)) => b,
                Ok(None) if marked && parts.number.is_none() => return Ok(false),
                Ok(None) if marked => {
                    let f = fault!(Truncated, "the trace ends before the generation does");
                    // Go sees a loss only if there are timed batches.
                    let f = if parts.threads.is_empty() { f.silent_in_go() } else { f };
                    return Err(f.at(parts.number, None, Some(at)));
                }
                Ok(None) => return Ok(parts.number.is_some() || !self.delivered),
                Err(f) => {
                    // Where Go sees the end of the file it still asks whether the generation can end here.
                    let loud = if marked { !parts.threads.is_empty() } else { parts.number.is_none() };
                    let f = if loud { f.loud_in_go() } else { f };
                    let mut e = f.at(parts.number, None, Some(at));
                    if marked || parts.number.is_none() {
                        return Err(e);
                    }
                    // What came before counts as a generation; the damage is told after it.
                    e.set_whole_bytes(at);
                    self.deferred = Some(e);
                    return Ok(true);
                }
            };
            let payload = &self.buf[batch.start..batch.end];
            let ends = payload.first() == Some(&(Kind::EndOfGeneration as u8));
            if marked && (batch.kind == BatchKind::EndOfGeneration || (batch.kind == BatchKind::Events && ends)) {
                parts.number.get_or_insert(batch.generation);
                return Ok(true);
            }
            let place = |f: Box<Fault>| f.at(parts.number.or(Some(batch.generation)), batch.thread.some(), Some(at));
            if batch.generation == 0 {
                return Err(place(fault!(Batch, "generation 0: expected a number from 1 up")));
            }
            let number = *parts.number.get_or_insert(batch.generation);
            if batch.generation != number {
                if !marked && batch.generation == number.wrapping_add(1) {
                    // The first batch of the next generation, where it will be read again.
                    self.pos = before;
                    return Ok(true);
                }
                let found = batch.generation;
                let expected = if marked { "its end first" } else { "it or the next one" };
                let f = fault!(
                    GenerationOrder,
                    "a batch of generation {found} in generation {number}: expected {expected}"
                );
                return Err(f.at(Some(number), batch.thread.some(), Some(at)));
            }
            parts.take(&batch, payload, self.version).map_err(|f| f.at(Some(number), batch.thread.some(), Some(at)))?;
        }
    }

    /// Reads one batch; `None` at the end of the input.
    fn batch(&mut self) -> Faulty<Option<Batch>> {
        self.fill(MAX_HEADER_BYTES);
        let header = &self.buf[self.pos..self.filled];
        let Some(&first) = header.first() else {
            return self.failure.take().map_or(Ok(None), |e| Err(Fault::io(e)));
        };
        let mut pos = self.pos + 1;
        let kind = if first == Kind::EventBatch as u8 {
            BatchKind::Events
        } else if first == Kind::ExperimentalBatch as u8 {
            pos += 1;
            match header.get(1) {
                // Go takes experiment 0 for no experiment at all.
                Some(0) => BatchKind::Events,
                Some(&experiment) => BatchKind::Experimental(experiment),
                None => return Err(self.cut("the number of an experiment").silent_in_go()),
            }
        } else if first == Kind::EndOfGeneration as u8 {
            self.pos = pos;
            let thread = ThreadId::NONE;
            let kind = BatchKind::EndOfGeneration;
            return Ok(Some(Batch { kind, generation: 0, thread, time: 0, start: pos, end: pos }));
        } else {
            return Err(fault!(Batch, "byte {first}: expected the beginning of a batch"));
        };
        let mut fields = [0; 4];
        for (field, name) in fields.iter_mut().zip(["generation", "thread", "time", "size"]) {
            let rest = &self.buf[pos..self.filled];
            let Some((v, n)) = varint::read(rest) else {
                if rest.len() < varint::MAX_BYTES {
                    return Err(self.cut(&format!("a batch's {name}")));
                }
                return Err(fault!(Batch, "a batch's {name} is too large a number"));
            };
            *field = v;
            pos += n;
        }
        let [generation, thread, time, size] = fields;
        if size > MAX_BATCH_BYTES as u64 {
            return Err(fault!(Batch, "batch size {size}: at most {MAX_BATCH_BYTES} are allowed"));
        }
        let size = size as usize;
        self.fill(pos - self.pos + size);
        if self.filled - pos < size {
            let left = self.filled - pos;
            return Err(self.cut(&format!("a batch of {size} bytes, {left} are left")));
        }
        self.pos = pos + size;
        Ok(Some(Batch { kind, generation, thread: ThreadId(thread), time, start: pos, end: self.pos }))
    }

    /// What to say where the input ends too early.
    fn cut(&mut self, what: &str) -> Box<Fault> {
        match self.failure.take() {
            Some(e) => Fault::io(e),
            None => fault!(Truncated, "the input ends: expected {what}"),
        }
    }

    /// Sees to it that `n` bytes are there from `pos` on, if the input has them.
    #[inline]
    fn fill(&mut self, n: usize) {
        if self.filled - self.pos < n && !self.ended {
            self.refill(n);
        }
    }

    fn refill(&mut self, n: usize) {
        while self.filled - self.pos < n && !self.ended {
            if self.buf.len() < self.filled + READ_BYTES {
                let len = (self.filled + self.filled / 2).max(self.filled + READ_BYTES);
                self.buf.resize(len, 0);
            }
            // Never more at a time, however long the buffer is: what is read ahead goes into the next one.
            let end = self.filled + READ_BYTES;
            match self.input.read(&mut self.buf[self.filled..end]) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.filled += n;
                    self.bytes_read.fetch_add(n as u64, Relaxed);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.ended = true;
                    self.failure = Some(e);
                }
            }
        }
    }

    /// Checks a generation and makes it ready to be ordered.
    fn finish(&mut self, mut parts: Parts) -> Faulty<Pending> {
        let (clock, snapshot) = parts.clock.finish(self.version)?;
        parts.strings.finish();
        parts.stacks.finish(&parts.strings)?;
        for s in &mut parts.samples {
            s.time = clock.ns(s.time as u64);
        }
        gosort::sort_by_key(&mut parts.samples, |s| s.time);
        let generation = Generation {
            number: parts.number.unwrap_or(0),
            version: self.version,
            bytes: self.base..self.base + self.pos as u64,
            strings: parts.strings,
            stacks: parts.stacks,
            clock,
            snapshot,
            min_time: Time(clock.ns(parts.min_time)),
            experimental: parts.experimental,
            experimental_data: parts.experimental_data,
        };
        // The generation takes the buffer; what was read ahead goes to another one. It is as long as the longest
        // generation was, so that it need not grow: bytes that did arrive, not bytes that a length claims.
        self.room = self.room.max(self.pos + READ_BYTES);
        let mut next = std::mem::take(&mut self.spare);
        let rest = self.filled - self.pos;
        if next.len() < self.room.max(rest) {
            next = vec![0; self.room.max(rest)];
        }
        next[..rest].copy_from_slice(&self.buf[self.pos..self.filled]);
        let mut data = std::mem::replace(&mut self.buf, next);
        if data.len() < self.pos + PADDING {
            data.resize(self.pos + PADDING, 0);
        }
        self.base += self.pos as u64;
        self.filled = rest;
        self.pos = 0;
        let Parts { batches, threads, samples, .. } = parts;
        Ok(Pending {
            generation,
            data,
            batches,
            threads,
            samples,
            cut: self.deferred.as_ref().is_some_and(Error::is_cut),
        })
    }
}

impl Parts {
    fn new() -> Parts {
        Parts {
            number: None,
            strings: Strings::new(),
            stacks: Stacks::new(),
            clock: ClockParts::default(),
            samples: Vec::new(),
            experimental: Vec::new(),
            experimental_data: Vec::new(),
            batches: Vec::new(),
            threads: Vec::new(),
            by_thread: IdMap::new(),
            min_time: 0,
        }
    }

    /// Takes in a batch by what its payload begins with.
    fn take(&mut self, batch: &Batch, payload: &[u8], version: Version) -> Faulty<()> {
        if self.min_time == 0 || batch.time < self.min_time {
            self.min_time = batch.time;
        }
        if let BatchKind::Experimental(experiment) = batch.kind {
            let start = self.experimental_data.len();
            self.experimental_data.extend_from_slice(payload);
            let data = start..self.experimental_data.len();
            self.experimental.push(RawExperimental { experiment, thread: batch.thread, time: batch.time, data });
            return Ok(());
        }
        let sync = if version.has_clock_snapshot() { Kind::Sync } else { Kind::Frequency };
        match payload.first().copied().and_then(Kind::from_wire) {
            Some(Kind::Strings) => self.strings.read(payload),
            Some(Kind::Stacks) => self.stacks.read(payload),
            Some(Kind::CPUSamples) => read_samples(&mut self.samples, payload),
            Some(k) if k == sync => self.clock.read(payload, batch.time, version),
            Some(Kind::EndOfGeneration) => {
                Err(fault!(Batch, "the end of a generation inside a batch: version 1.{} has no such", version.minor()))
            }
            _ => self.timed(batch),
        }
    }

    /// Appends a batch of timed events to its thread's.
    fn timed(&mut self, batch: &Batch) -> Faulty<()> {
        let index = self.batches.len() as u32;
        if index == NO_BATCH {
            return Err(fault!(Batch, "too many batches in one generation: {index}"));
        }
        self.batches.push(TimedBatch { start: batch.start, end: batch.end, time: batch.time, next: NO_BATCH });
        match self.by_thread.get(batch.thread.0) {
            Some(i) => {
                let t = &mut self.threads[i as usize];
                self.batches[t.last as usize].next = index;
                t.last = index;
            }
            None => {
                self.by_thread.insert(batch.thread.0, self.threads.len() as u32);
                self.threads.push(ThreadBatches { thread: batch.thread, first: index, last: index });
            }
        }
        Ok(())
    }
}
