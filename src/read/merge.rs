//! From generations to blocks of ordered events.
//!
//! Of all threads the one with the earliest next event is tried first. Almost always its event fits, and the next is
//! decoded. Where it does not fit yet, the others are tried in the order of time until one does; if none does, the trace is
//! broken. CPU samples are slipped in by time. All this is Go's procedure (`reader.go`), down to which event is still
//! delivered before an error.

use super::cursor::{Cursor, Decoded};
use super::error::{Fault, fault};
use super::event::EventBuffer;
use super::frontier::{Entry, Frontier};
use super::generation::{Generation, Pending, Sample};
use super::order::{Context, Ordering, Out, Verdict};
use super::{Block, Error, GoId, ProcId, ThreadId};
use crate::format::{Kind, Version};
use std::sync::Arc;

/// How many events one event of the wire becomes at most: a goroutine switch is three.
const MAX_EVENTS_OF_ONE: usize = 3;
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

    #[cfg(test)]
    pub(super) fn rules_only(&mut self, only: bool) {
        self.order.rules_only = only;
    }

    /// Whether the generation at hand has no more events.
    pub(super) fn is_done(&self) -> bool {
        self.frontier.len() == 0 && self.work.next_sample >= self.work.samples.len()
    }

    /// Takes a generation and puts its `Sync` in `block`. Returns the buffer of the generation before.
    pub(super) fn begin(&mut self, pending: Pending, block: &mut Block) -> Result<Vec<u8>, Error> {
        let Pending { mut generation, data, batches, threads, samples, cut: _ } = pending;
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
                Decoded::Event => self.frontier.insert(Entry { time: cursor.time, cursor: index }),
                Decoded::End => continue,
                Decoded::Bad => return Err(place(cursor.fault(&self.work.data), &tables, &cursor)),
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
        block.events.reserve(self.block_events + MAX_EVENTS_OF_ONE);
        let nobody = Context { thread: ThreadId::NONE, proc: ProcId::NONE, goroutine: GoId::NONE };
        let mut out = Out { events: &mut block.events, last: &mut self.last_time };
        out.push(time, nobody, Kind::Sync, [self.syncs, 0, 0, 0]);
    }

    /// Orders events into `block` until it is full or the generation ends.
    pub(super) fn fill(&mut self, block: &mut Block) -> Result<(), Error> {
        let Some(tables) = self.tables.clone() else { return Ok(()) };
        block.generation = Arc::clone(&tables);
        block.events.reserve(self.block_events + MAX_EVENTS_OF_ONE);
        let events = &mut block.events;
        while events.len() < self.block_events {
            let Some(first) = self.frontier.first() else {
                if !self.sample_before(i64::MAX, events) {
                    break;
                }
                continue;
            };
            if self.sample_before(first.time, events) {
                continue;
            }
            let limit = self.frontier.second_time().min(self.next_sample_time());
            let run = self.run::<false>(first.cursor, limit, &tables, events);
            let cursor = &self.cursors[first.cursor as usize];
            match run {
                Run::Later => self.frontier.update_first(cursor.time),
                Run::Ended => self.frontier.remove(0),
                Run::Waits => {
                    // It went on for a while and stays first, so the heap keeps its shape.
                    self.frontier.update_first(cursor.time);
                    self.try_others(&tables, events)?;
                }
                Run::Impossible => return Err(place(self.order.take_fault(), &tables, cursor)),
                Run::Bad => return Err(place(cursor.fault(&self.work.data), &tables, cursor)),
            }
        }
        Ok(())
    }

    /// Plays a thread's events as long as it stays the earliest, which is up to `limit`, and the block has room; or one
    /// event alone.
    #[inline(always)]
    fn run<const ONE: bool>(&mut self, index: u32, limit: i64, tables: &Generation, events: &mut EventBuffer) -> Run {
        let Merge { order, work, last_time, block_events, cursors, .. } = self;
        let cursor = &mut cursors[index as usize];
        let (data, batches, clock, block_events) = (&work.data[..], &work.batches[..], tables.clock, *block_events);
        order.meet(cursor.slot);
        loop {
            let before = events.len();
            let mut out = Out { events, last: last_time };
            match order.advance(cursor, tables, &mut out) {
                Verdict::Happened => {}
                Verdict::Waits => return Run::Waits,
                Verdict::Impossible => return Run::Impossible,
            }
            match cursor.advance(data, batches, clock) {
                Decoded::Event if !ONE && cursor.time <= limit && events.len() < block_events => {}
                Decoded::Event => return Run::Later,
                Decoded::End => return Run::Ended,
                Decoded::Bad => {
                    // As in Go, an event that is followed by one that cannot be decoded is not delivered.
                    events.truncate(before);
                    return Run::Bad;
                }
            }
        }
    }

    /// The earliest event does not fit: tries the other threads' in the order of time. The first in that order is passed
    /// over; with equal times it may be another thread than the one that was tried, and then it is not tried, as in Go.
    #[cold]
    fn try_others(&mut self, tables: &Generation, events: &mut EventBuffer) -> Result<(), Error> {
        self.frontier.sort();
        for i in 1..self.frontier.len() {
            let Some(entry) = self.frontier.get(i) else { break };
            let at = entry.cursor as usize;
            let run = self.run::<true>(entry.cursor, i64::MIN, tables, events);
            let cursor = &self.cursors[at];
            match run {
                Run::Waits => {}
                Run::Later => {
                    self.frontier.update(i, cursor.time);
                    return Ok(());
                }
                Run::Ended => {
                    self.frontier.remove(i);
                    return Ok(());
                }
                Run::Impossible => return Err(place(self.order.take_fault(), tables, cursor)),
                Run::Bad => return Err(place(cursor.fault(&self.work.data), tables, cursor)),
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

    /// The time of the next CPU sample.
    #[inline]
    fn next_sample_time(&self) -> i64 {
        self.work.samples.get(self.work.next_sample).map_or(i64::MAX, |s| s.time)
    }

    /// Emits the next CPU sample if it is earlier than `time`.
    fn sample_before(&mut self, time: i64, events: &mut EventBuffer) -> bool {
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

/// How a thread's run ended.
enum Run {
    /// Its next event is later than the limit.
    Later,
    /// It has no more events.
    Ended,
    /// Its next event does not fit yet.
    Waits,
    /// Its next event can never happen.
    Impossible,
    /// Its next event cannot be decoded.
    Bad,
}

/// Says where a fault is.
#[cold]
#[expect(clippy::boxed_local, reason = "faults travel boxed")]
fn place(f: Box<Fault>, tables: &Generation, cursor: &Cursor) -> Error {
    let offset = tables.bytes.start + cursor.at as u64;
    let mut e = f.at(Some(tables.number), cursor.thread.some(), Some(offset));
    e.set_whole_bytes(tables.bytes.start);
    e
}
