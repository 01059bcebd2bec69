//! The front of the room: a reader that is asked for events, or for blocks of them.

use super::drive::{Blocks, Driver, Piped, Threaded};
use super::error::Fault;
use super::event::EventBuffer;
use super::generation::{Frame, Generation, Stack};
use super::header::read_header;
use super::source::Source;
use super::{ClockSnapshot, Error, Event, StackId, StringId, Sync};
use crate::format::{Kind, Version};
use std::io::Read;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Reads a trace: its events in one order, validated.
///
/// Memory is bounded by the largest generation of the trace (Go's runtime begins one each second) and does not grow with
/// the file. See the [module](super) for an example.
pub struct Reader<'a> {
    version: Version,
    blocks: Box<dyn Blocks + 'a>,
    block: Block,
    next: usize,
    bytes_read: Arc<AtomicU64>,
}

/// Some events that follow each other, all of the same generation.
pub struct Block {
    pub(super) generation: Arc<Generation>,
    pub(super) events: EventBuffer,
}

/// An event together with the generation in which its strings and stacks are.
///
/// It gives all that [`Event`] gives, by `Deref`, and the texts.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    event: &'a Event,
    generation: &'a Generation,
}

impl<'a> Reader<'a> {
    /// Begins to read a trace on the caller's thread. The input is read in large pieces, so it needs no buffer.
    ///
    /// # Errors
    /// If the input cannot be read, or its header is not that of a trace, or of a version that cannot be read.
    pub fn new(mut input: impl Read + 'a) -> Result<Reader<'a>, Error> {
        let (version, header_bytes) = read_header(&mut input)?;
        let bytes_read = Arc::new(AtomicU64::new(header_bytes));
        let source = Source::new(input, version, header_bytes, Arc::clone(&bytes_read));
        Ok(Reader::over(Box::new(Driver::new(source, version)), version, bytes_read))
    }

    /// Begins to read a trace with a thread beside the caller's that reads bytes ahead, by one generation, while the caller's
    /// orders events. It is the fastest way where little is done with each event.
    ///
    /// # Errors
    /// As [`new`](Self::new); also if no thread can be started.
    pub fn read_ahead(mut input: impl Read + Send + 'static) -> Result<Reader<'static>, Error> {
        let (version, header_bytes) = read_header(&mut input)?;
        let bytes_read = Arc::new(AtomicU64::new(header_bytes));
        let source = Source::new(input, version, header_bytes, Arc::clone(&bytes_read));
        let generations = Piped::start(source).map_err(|e| Fault::io(e).at(None, None, None))?;
        Ok(Reader::over(Box::new(Driver::new(generations, version)), version, bytes_read))
    }

    /// Begins to read a trace with two threads beside the caller's: one reads bytes, one orders events. It pays when the
    /// caller has work of its own for each event. Memory is then bounded by three generations.
    ///
    /// # Errors
    /// As [`new`](Self::new); also if no thread can be started.
    pub fn threaded(mut input: impl Read + Send + 'static) -> Result<Reader<'static>, Error> {
        let (version, header_bytes) = read_header(&mut input)?;
        let bytes_read = Arc::new(AtomicU64::new(header_bytes));
        let source = Source::new(input, version, header_bytes, Arc::clone(&bytes_read));
        let blocks = Threaded::start(source, version).map_err(|e| Fault::io(e).at(None, None, None))?;
        Ok(Reader::over(Box::new(blocks), version, bytes_read))
    }

    fn over<'b>(blocks: Box<dyn Blocks + 'b>, version: Version, bytes_read: Arc<AtomicU64>) -> Reader<'b> {
        Reader { version, blocks, block: Block::empty(version), next: 0, bytes_read }
    }

    /// The version of the trace.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many bytes of the input have been read, for a display of progress.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Relaxed)
    }

    /// A handle that tells [`bytes_read`](Self::bytes_read) on another thread, or while the reader is borrowed.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress(Arc::clone(&self.bytes_read))
    }

    /// The next event, `None` at the end of the trace.
    ///
    /// # Errors
    /// If the trace is damaged or the input fails. All events that can be had were delivered before; nothing comes after.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<EventRef<'_>>, Error> {
        if self.next >= self.block.events.len() {
            self.next = 0;
            self.blocks.next_block(&mut self.block)?;
        }
        let i = self.next;
        self.next += 1;
        let generation = &*self.block.generation;
        Ok(self.block.events().get(i).map(|event| EventRef { event, generation }))
    }

    /// The events that come next, as many as are at hand, `None` at the end of the trace. Loops over blocks are a little
    /// faster than [`next_event`](Self::next_event); the two may be mixed.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event).
    pub fn next_block(&mut self) -> Result<Option<&Block>, Error> {
        if self.next != 0 && self.next < self.block.events.len() {
            self.block.events.drop_first(self.next);
        } else {
            self.blocks.next_block(&mut self.block)?;
        }
        // Whoever asks for single events next gets what comes after this block.
        self.next = self.block.events.len().max(1);
        Ok((!self.block.events().is_empty()).then_some(&self.block))
    }
}

/// How far a [`Reader`] is in its input.
#[derive(Clone)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// How many bytes have been read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Block {
    pub(super) fn empty(version: Version) -> Block {
        Block { generation: Arc::new(Generation::empty(version, 0, 0)), events: EventBuffer::default() }
    }

    /// The generation of the events. Clone it to keep its strings and stacks beyond the block.
    #[must_use]
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// The events as plain data.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        self.events.as_slice()
    }

    /// The events with their generation.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EventRef<'_>> {
        let generation = &*self.generation;
        self.events().iter().map(move |event| EventRef { event, generation })
    }
}

impl Deref for EventRef<'_> {
    type Target = Event;

    #[inline]
    fn deref(&self) -> &Event {
        self.event
    }
}

impl<'a> EventRef<'a> {
    /// The event as plain data, with the lifetime of its block.
    #[must_use]
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// The generation that the event refers to.
    #[must_use]
    pub fn generation(&self) -> &'a Generation {
        self.generation
    }

    /// A string of the event; empty if there is none with this id.
    #[must_use]
    pub fn string(&self, id: StringId) -> &'a str {
        self.generation.string(id).unwrap_or_default()
    }

    /// The stack of the context in which the event happened; empty if it has none.
    #[must_use]
    pub fn stack(&self) -> Stack<'a> {
        self.generation.stack(self.event.stack_id())
    }

    /// The stack with this id.
    #[must_use]
    pub fn stack_of(&self, id: StackId) -> Stack<'a> {
        self.generation.stack(id)
    }

    /// The innermost frame of the event's stack.
    #[must_use]
    pub fn leaf(&self) -> Option<Frame<'a>> {
        self.stack().frames().next()
    }

    /// The number and the clock snapshot of a `Sync`.
    #[must_use]
    pub fn sync(&self) -> Option<Sync> {
        (self.event.wire == Kind::Sync).then(|| Sync { n: self.event.args[0], clock: self.clock() })
    }

    fn clock(&self) -> Option<ClockSnapshot> {
        self.generation.clock_snapshot()
    }
}
