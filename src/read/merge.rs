//! From generations to blocks of ordered events.
//!
//! Of all threads the one with the earliest next event is tried first. Almost always its event fits, and the next is
//! decoded. Where it does not fit yet, the others are tried in the order of time until one does; if none does, the trace is
//! broken. CPU samples are slipped in by time. All this is Go's procedure (`reader.go`), down to which event is still
//! delivered before an error.

use super::cursor::Cursor;
use super::error::{Faulty, fault};
use super::frontier::{Entry, Frontier};
use super::generation::{Generation, Pending, Sample};
use super::order::{Context, Ordering, Out};
use super::{Block, Error, Event, GoId, ProcId, ThreadId};
use crate::format::{Kind, Version};
use std::sync::Arc;

/// How many blocked threads an error lists.
const MAX_LISTED: usize = 8;

/// Orders the events of one generation after the other.
pub(super) struct Merge {
    order: Ordering,
    version: Version,
    /// How many events make a block.
    block_events: usize,
    last_time: i64,
    syncs: u64,
    /// The tables of the generation at hand, shared with the blocks.
    tables: Option<Arc<Generation>>,
    work: Work,
    cursors: Vec<Cursor>,
    frontier: Frontier,
}

/// What of a generation is used up by ordering it.
#[derive(Default)]
struct Work {
    data: Vec<u8>,
    batches: Vec<super::generation::TimedBatch>,
    samples: Vec<Sample>,
    next_sample: usize,
}

impl Merge {
    pub(super) fn new(version: Version, block_events: usize) -> Merge {
        Merge {
            order: Ordering::new(),
            version,
            block_events,
            last_time: 0,
            syncs: 0,
            tables: None,
            work: Work::default(),
            cursors: Vec::new(),
            frontier: Frontier::default(),
        }
    }

    /// Whether the generation at hand has no more events.
    pub(super) fn is_done(&self) -> bool {
        self.frontier.len() == 0 && self.work.next_sample >= self.work.samples.len()
    }

    /// Takes a generation and puts its `Sync` in `block`. Returns the buffer of the generation before.
    pub(super) fn begin(&mut self, pending: Pending, block: &mut Block) -> Result<Vec<u8>, Error> {
        let Pending { mut generation, data, batches, threads, samples } = pending;
        self.order.begin_generation(&mut generation);
        let work = Work { data, batches, samples, next_sample: 0 };
        let old = std::mem::replace(&mut self.work, work);
        let tables = Arc::new(generation);
        self.tables = Some(Arc::clone(&tables));
        self.frontier.clear();
        self.cursors.clear();
        for t in threads {
            let slot = self.order.thread_slot(t.thread);
            let mut cursor = Cursor::new(t.thread, slot, t.first);
            let index = self.cursors.len() as u32;
            match cursor.advance(&self.work.data, &self.work.batches, tables.clock) {
                Ok(true) => self.frontier.insert(Entry { time: cursor.time, cursor: index }),
                Ok(false) => continue,
                Err(f) => return Err(place(f, &tables, &cursor)),
            }
            self.cursors.push(cursor);
        }
        if self.frontier.len() != 0 {
            self.order.begin_events();
        }
        let time = tables.min_time.0;
        block.generation = tables;
        self.push_sync(time, block);
        Ok(old.data)
    }

    /// Puts the `Sync` that ends the trace, or that comes before an error, in `block`.
    pub(super) fn end(&mut self, block: &mut Block) {
        let (number, at) = self.tables.take().map_or((0, 0), |t| (t.number, t.bytes.end));
        block.generation = Arc::new(Generation::empty(self.version, number, at));
        let time = self.last_time;
        self.push_sync(time, block);
    }

    fn push_sync(&mut self, time: i64, block: &mut Block) {
        self.syncs += 1;
        let nobody = Context { thread: ThreadId::NONE, proc: ProcId::NONE, goroutine: GoId::NONE };
        let mut out = Out { events: &mut block.events, last: &mut self.last_time };
        out.push(time, nobody, Kind::Sync, [self.syncs, 0, 0, 0]);
    }

    /// Orders events into `block` until it is full or the generation ends.
    pub(super) fn fill(&mut self, block: &mut Block) -> Result<(), Error> {
        let Some(tables) = self.tables.clone() else { return Ok(()) };
        block.generation = Arc::clone(&tables);
        while block.events.len() < self.block_events {
            let Some(first) = self.frontier.first() else {
                if !self.sample_before(i64::MAX, &mut block.events) {
                    break;
                }
                continue;
            };
            if !self.work.samples.is_empty() && self.sample_before(first.time, &mut block.events) {
                continue;
            }
            match self.try_cursor(first.cursor, &tables, &mut block.events) {
                Ok(Tried::Advanced(true)) => {
                    let time = self.cursors[first.cursor as usize].time;
                    self.frontier.update_first(time);
                }
                Ok(Tried::Advanced(false)) => self.frontier.remove(0),
                Ok(Tried::Blocked) => self.try_others(&tables, &mut block.events)?,
                Err(f) => return Err(place(f, &tables, &self.cursors[first.cursor as usize])),
            }
        }
        Ok(())
    }

    /// Tries to play a thread's next event; on success decodes the one after it.
    #[inline(always)]
    fn try_cursor(&mut self, index: u32, tables: &Generation, events: &mut Vec<Event>) -> Faulty<Tried> {
        let cursor = &mut self.cursors[index as usize];
        let before = events.len();
        let mut out = Out { events, last: &mut self.last_time };
        if !self.order.advance(cursor, tables, &mut out)? {
            return Ok(Tried::Blocked);
        }
        match cursor.advance(&self.work.data, &self.work.batches, tables.clock) {
            Ok(more) => Ok(Tried::Advanced(more)),
            Err(f) => {
                // As in Go, an event that is followed by one that cannot be decoded is not delivered.
                events.truncate(before);
                Err(f)
            }
        }
    }

    /// The earliest event does not fit: tries the other threads' in the order of time. The first in that order is passed
    /// over; with equal times it may be another thread than the one that was tried, and then it is not tried, as in Go.
    #[cold]
    fn try_others(&mut self, tables: &Generation, events: &mut Vec<Event>) -> Result<(), Error> {
        self.frontier.sort();
        for i in 1..self.frontier.len() {
            let Some(entry) = self.frontier.get(i) else { break };
            let at = entry.cursor as usize;
            match self.try_cursor(entry.cursor, tables, events) {
                Ok(Tried::Blocked) => {}
                Ok(Tried::Advanced(true)) => {
                    self.frontier.update(i, self.cursors[at].time);
                    return Ok(());
                }
                Ok(Tried::Advanced(false)) => {
                    self.frontier.remove(i);
                    return Ok(());
                }
                Err(f) => return Err(place(f, tables, &self.cursors[at])),
            }
        }
        Err(self.stuck(tables))
    }

    #[cold]
    fn stuck(&self, tables: &Generation) -> Error {
        let entries = self.frontier.entries();
        let waits: Vec<String> = entries
            .iter()
            .take(MAX_LISTED)
            .map(|e| {
                let c = &self.cursors[e.cursor as usize];
                format!("thread {} at {}: {}", c.thread, c.kind.spec().name, self.order.waits_for(c))
            })
            .collect();
        let more = match entries.len().saturating_sub(MAX_LISTED) {
            0 => String::new(),
            n => format!("; and {n} more"),
        };
        let f = fault!(Stuck, "no thread's next event can follow: {}{more}", waits.join("; "));
        match entries.first() {
            Some(e) => place(f, tables, &self.cursors[e.cursor as usize]),
            None => f.at(Some(tables.number), None, None),
        }
    }

    /// Emits the next CPU sample if it is earlier than `time`.
    fn sample_before(&mut self, time: i64, events: &mut Vec<Event>) -> bool {
        let Some(s) = self.work.samples.get(self.work.next_sample) else { return false };
        if s.time >= time && self.frontier.len() != 0 {
            return false;
        }
        let ctx = Context { thread: s.thread, proc: s.proc, goroutine: s.goroutine };
        Out { events, last: &mut self.last_time }.push(s.time, ctx, Kind::CPUSample, [s.stack, 0, 0, 0]);
        self.work.next_sample += 1;
        true
    }
}

/// What came of trying a thread's event.
enum Tried {
    /// It does not fit yet.
    Blocked,
    /// It happened; the thread has another event, or not.
    Advanced(bool),
}

/// Says where a fault is.
#[cold]
fn place(f: Box<super::error::Fault>, tables: &Generation, cursor: &Cursor) -> Error {
    let offset = tables.bytes.start + cursor.at as u64;
    let mut e = f.at(Some(tables.number), cursor.thread.some(), Some(offset));
    e.set_whole_bytes(tables.bytes.start);
    e
}
