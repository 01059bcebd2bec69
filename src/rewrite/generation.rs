//! One generation with its batches, in the order of the file, and a walk over those of a trace.

use crate::format::{Kind, Version};
use crate::read::batches::{BatchReader, Content, Events, Item};
use crate::read::{Error, ErrorKind, ThreadId};
use std::io::Read;

/// A generation.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) batches: Vec<Batch>,
    /// Where it begins in the input, and how long it is there.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A batch that may be changed.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) experiment: Option<u8>,
    pub(super) thread: ThreadId,
    /// In units of the clock.
    pub(super) time: u64,
    pub(super) data: Vec<u8>,
}

impl Batch {
    pub(super) fn content(&self) -> Content {
        Content::of(self.experiment, &self.data)
    }

    /// Its timed events; none if it has something else.
    pub(super) fn events(&self) -> Events<'_> {
        Events { rest: if self.content() == Content::Events { &self.data } else { &[] } }
    }
}

impl Generation {
    /// The time at which it begins, in units of its clock.
    pub(super) fn begin(&self) -> u64 {
        self.batches.iter().map(|b| b.time).min().unwrap_or(0)
    }

    /// The batches with this content.
    pub(super) fn with(&self, content: Content) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(move |b| b.content() == content)
    }
}

/// The generations of a trace, one after the other.
pub(super) struct Generations<R> {
    reader: BatchReader<R>,
    /// The first batch of the next generation, where only that tells that this one is over.
    ahead: Option<(u64, u64, Batch)>,
    ended: bool,
}

impl<R: Read> Generations<R> {
    pub(super) fn new(input: R) -> Result<Generations<R>, Error> {
        Ok(Generations { reader: BatchReader::new(input)?, ahead: None, ended: false })
    }

    pub(super) fn version(&self) -> Version {
        self.reader.version()
    }

    /// How many bytes of the input have been taken in.
    pub(super) fn bytes_read(&self) -> u64 {
        self.reader.offset()
    }

    /// The next generation, whole; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Generation>, Error> {
        if self.ended {
            return Ok(None);
        }
        let marked = self.version().has_end_of_generation();
        let mut batches = Vec::new();
        let (mut number, mut offset) = (0, self.reader.offset());
        if let Some((n, at, batch)) = self.ahead.take() {
            (number, offset) = (n, at);
            batches.push(batch);
        }
        loop {
            let end = self.reader.offset();
            let item = match self.reader.next_item() {
                Ok(item) => item,
                Err(e) => {
                    self.ended = true;
                    return Err(e.with_whole_bytes(offset));
                }
            };
            match item {
                Some(Item::EndOfGeneration) if marked => {
                    let bytes = self.reader.offset() - offset;
                    return Ok(Some(Generation { number, batches, offset, bytes }));
                }
                Some(Item::EndOfGeneration) => {
                    self.ended = true;
                    let text = "the end of a generation in a version that has none";
                    return Err(Error::of_generation(ErrorKind::Batch, number, end, text).with_whole_bytes(offset));
                }
                None if batches.is_empty() => {
                    self.ended = true;
                    return Ok(None);
                }
                None if marked => {
                    self.ended = true;
                    let text = "the trace ends before the generation does";
                    return Err(Error::of_generation(ErrorKind::Truncated, number, end, text).with_whole_bytes(offset));
                }
                None => {
                    self.ended = true;
                    return Ok(Some(Generation { number, batches, offset, bytes: end - offset }));
                }
                Some(Item::Batch(b)) => {
                    let batch =
                        Batch { experiment: b.experiment, thread: b.thread, time: b.time, data: b.data.to_vec() };
                    let at = b.generation;
                    if batches.is_empty() {
                        number = at;
                    }
                    if at == number {
                        batches.push(batch);
                    } else if !marked && at == number.wrapping_add(1) {
                        self.ahead = Some((at, end, batch));
                        return Ok(Some(Generation { number, batches, offset, bytes: end - offset }));
                    } else {
                        self.ended = true;
                        let text = format!("a batch of generation {at} in generation {number}");
                        let e = Error::of_generation(ErrorKind::GenerationOrder, number, end, &text);
                        return Err(e.with_whole_bytes(offset));
                    }
                }
            }
        }
    }
}

pub(super) use crate::format::bytes::{put, put_text};

/// Records of one kind, cut into batches that each begin with the same byte.
pub(super) struct Table {
    first: Kind,
    like: Batch,
    pub(super) batches: Vec<Batch>,
}

impl Table {
    /// A table that stands where `like` stands.
    pub(super) fn new(first: Kind, like: &Batch) -> Table {
        let like = Batch { experiment: None, thread: like.thread, time: like.time, data: vec![first as u8] };
        Table { first, like, batches: Vec::new() }
    }

    /// Appends a record.
    pub(super) fn record(&mut self, record: &[u8]) {
        let full = |b: &Batch| b.data.len() + record.len() > crate::format::MAX_BATCH_BYTES;
        if self.batches.last().is_none_or(full) {
            self.batches.push(self.like.clone());
        }
        debug_assert_eq!(self.like.data, [self.first as u8]);
        if let Some(b) = self.batches.last_mut() {
            b.data.extend_from_slice(record);
        }
    }
}
