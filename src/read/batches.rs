//! The batches of a trace one after the other, as they stand in the file: for programs that copy traces.
//!
//! It looks at the frame of a batch and not into it: neither its tables nor its events are decoded, and whether they are
//! valid is for the ordered [`Reader`](super::Reader) to say. What is in a batch tells [`Batch::content`]; the events of one
//! can be walked with [`Batch::events`].

use super::ThreadId;
use super::error::{Error, Fault, Faulty, fault};
use super::header::read_header;
use crate::format::{Kind, MAX_BATCH_BYTES, Version, varint};
use std::io::Read;

/// How much is asked of the input at a time.
const READ_BYTES: usize = 256 << 10;
/// The longest batch header: kind, experiment, and four integers.
const MAX_HEADER_BYTES: usize = 2 + 4 * varint::MAX_BYTES;

/// One batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// The number of its experiment, if it is one of data of an experiment.
    pub experiment: Option<u8>,
    /// The number of its generation.
    pub generation: u64,
    /// The thread that wrote it.
    pub thread: ThreadId,
    /// Its time, in units of the generation's clock.
    pub time: u64,
    /// The payload.
    pub data: &'a [u8],
    /// Where it begins in the input, in bytes.
    pub offset: u64,
}

/// What is in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Timed events.
    Events,
    /// A part of the string table.
    Strings,
    /// A part of the stack table.
    Stacks,
    /// CPU samples.
    Samples,
    /// The clock.
    Clock,
    /// Data of an experiment.
    Experiment(u8),
}

/// A batch, or the mark that ends a generation (from Go 1.26).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A batch.
    Batch(Batch<'a>),
    /// The end of the generation.
    EndOfGeneration,
}

/// Reads batches.
pub struct BatchReader<R> {
    input: R,
    version: Version,
    buf: Vec<u8>,
    pos: usize,
    /// Where in the input `buf` begins.
    base: u64,
    failure: Option<std::io::Error>,
    ended: bool,
}

impl<R: Read> BatchReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// If the input cannot be read, or its header is not that of a trace, or of a version that cannot be read.
    pub fn new(mut input: R) -> Result<BatchReader<R>, Error> {
        let (version, header_bytes) = read_header(&mut input)?;
        Ok(BatchReader { input, version, buf: Vec::new(), pos: 0, base: header_bytes, failure: None, ended: false })
    }

    /// The version of the trace.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many bytes of the input the items so far take, the header included.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    /// The next batch or mark, `None` at the end of the input.
    ///
    /// # Errors
    /// If the bytes are no batch, or the input ends inside one, or fails. Nothing sensible follows.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, Error> {
        let offset = self.offset();
        match self.header() {
            Ok(None) => Ok(None),
            Ok(Some((kind, _, _))) if kind == Kind::EndOfGeneration as u8 => Ok(Some(Item::EndOfGeneration)),
            Ok(Some((_, experiment, [generation, thread, time, size]))) => {
                let data = &self.buf[self.pos - size as usize..self.pos];
                // A mark in a batch's clothes, which Go takes for the mark.
                if data.first() == Some(&(Kind::EndOfGeneration as u8)) && experiment.is_none() {
                    return Ok(Some(Item::EndOfGeneration));
                }
                let thread = ThreadId(thread);
                Ok(Some(Item::Batch(Batch { experiment, generation, thread, time, data, offset })))
            }
            Err(f) => {
                let mut e = f.at(None, None, Some(offset));
                e.set_whole_bytes(offset);
                Err(e)
            }
        }
    }

    /// Kind, experiment, and the four numbers of a batch; the position is then behind its payload.
    #[allow(clippy::type_complexity, reason = "three parts of one header")]
    fn header(&mut self) -> Faulty<Option<(u8, Option<u8>, [u64; 4])>> {
        self.fill(MAX_HEADER_BYTES);
        let header = &self.buf[self.pos..];
        let Some(&kind) = header.first() else {
            return self.failure.take().map_or(Ok(None), |e| Err(Fault::io(e)));
        };
        let mut pos = self.pos + 1;
        let mut experiment = None;
        if kind == Kind::EndOfGeneration as u8 {
            self.pos = pos;
            return Ok(Some((kind, None, [0; 4])));
        }
        if kind == Kind::ExperimentalBatch as u8 {
            pos += 1;
            match header.get(1) {
                // Go takes experiment 0 for no experiment at all.
                Some(0) => {}
                Some(&e) => experiment = Some(e),
                None => return Err(self.cut("the number of an experiment")),
            }
        } else if kind != Kind::EventBatch as u8 {
            return Err(fault!(Batch, "byte {kind}: expected the beginning of a batch"));
        }
        let mut fields = [0; 4];
        for (field, name) in fields.iter_mut().zip(["generation", "thread", "time", "size"]) {
            let rest = &self.buf[pos..];
            let Some((v, n)) = varint::read(rest) else {
                if rest.len() < varint::MAX_BYTES {
                    return Err(self.cut(&format!("a batch's {name}")));
                }
                return Err(fault!(Batch, "a batch's {name} is too large a number"));
            };
            *field = v;
            pos += n;
        }
        let size = fields[3];
        if size > MAX_BATCH_BYTES as u64 {
            return Err(fault!(Batch, "batch size {size}: at most {MAX_BATCH_BYTES} are allowed"));
        }
        let header_bytes = pos - self.pos;
        self.fill(header_bytes + size as usize);
        let left = self.buf.len() - self.pos - header_bytes;
        if left < size as usize {
            return Err(self.cut(&format!("a batch of {size} bytes, {left} are left")));
        }
        self.pos += header_bytes + size as usize;
        Ok(Some((kind, experiment, fields)))
    }

    fn cut(&mut self, what: &str) -> Box<Fault> {
        match self.failure.take() {
            Some(e) => Fault::io(e),
            None => fault!(Truncated, "the input ends: expected {what}"),
        }
    }

    /// Sees to it that `n` bytes are there from `pos` on, if the input has them.
    fn fill(&mut self, n: usize) {
        if self.buf.len() - self.pos >= n || self.ended {
            return;
        }
        self.base += self.pos as u64;
        self.buf.drain(..self.pos);
        self.pos = 0;
        while self.buf.len() < n && !self.ended {
            match (&mut self.input).take(READ_BYTES as u64).read_to_end(&mut self.buf) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(e) => {
                    self.ended = true;
                    self.failure = Some(e);
                }
            }
        }
    }
}

impl<'a> Batch<'a> {
    /// What is in it.
    #[must_use]
    pub fn content(&self) -> Content {
        Content::of(self.experiment, self.data)
    }

    /// Its events, if it has timed events.
    #[must_use]
    pub fn events(&self) -> Events<'a> {
        Events { rest: if self.content() == Content::Events { self.data } else { &[] } }
    }
}

impl Content {
    /// What is in a batch with this payload.
    #[must_use]
    pub fn of(experiment: Option<u8>, data: &[u8]) -> Content {
        if let Some(e) = experiment {
            return Content::Experiment(e);
        }
        match data.first().copied().and_then(Kind::from_wire) {
            Some(Kind::Strings) => Content::Strings,
            Some(Kind::Stacks) => Content::Stacks,
            Some(Kind::CPUSamples) => Content::Samples,
            Some(Kind::Sync | Kind::Frequency) => Content::Clock,
            _ => Content::Events,
        }
    }
}

/// A walk over the timed events of a batch: their kinds and arguments (the first is `dt`). It ends at what is no event.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    pub(crate) rest: &'a [u8],
}

impl Iterator for Events<'_> {
    type Item = (Kind, [u64; 6]);

    fn next(&mut self) -> Option<Self::Item> {
        let kind = Kind::from_wire(*self.rest.first()?)?;
        let mut rest = &self.rest[1..];
        let mut args = [0; 6];
        for (arg, _) in args.iter_mut().zip(kind.spec().args) {
            let (v, n) = varint::read(rest)?;
            *arg = v;
            rest = &rest[n..];
        }
        self.rest = rest;
        kind.spec().timed.then_some((kind, args))
    }
}
