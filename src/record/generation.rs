//! Closing a generation: the work of the writer's thread, and of nobody else.
//!
//! [`Closer::close`] moves the open generation on, waits until no thread writes to the old one, and puts the old one's batches
//! together. Threads that were silent in it are spoken for: a trace that begins with this generation needs everybody's state.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::buffer::{Buffer, Chunk, Content, Pool};
use super::clock::CLOCK;
use super::gauges::{self, Series};
use super::gc_world::WORLD;
use super::memory::Sampler;
use super::samples;
use super::section::{CLOSING, GENERATION, ONE_OFF, TRACE};
use super::state::{self, GONE, Word};
use super::tables::Tables;
use super::thread::{self, Thread, life};
use super::tracer::{RECORD, RECORD_HEAP};
use super::wire::{self, Events, Table, put, put_text};
use super::{allocations, black_box, modules, string_table};
use crate::format::private::{Section as Private, meta, series};
use crate::format::{GoStatus, Kind, NO_THREAD, ProcStatus, Version};
use crate::sys::thread::NAME_BYTES;
use crate::sys::{barrier, clock, thread as os};

/// The tracer's own goroutine and processor: they carry what belongs to no thread of the program.
const OWN_GOROUTINE: u64 = 1;
const OWN_PROCESSOR: u64 = 0;
/// How long a name read from the system is believed.
const NAME_FRESH_NS: u64 = 1_000_000_000;

/// What was lost so far, by the reasons of [`Stats`](super::ending::Stats).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lost {
    pub(crate) full: u64,
    pub(crate) reentrant: u64,
    pub(crate) samples: u64,
    pub(crate) allocations: u64,
}

impl Lost {
    /// What was lost since `before`.
    pub(crate) fn since(&self, before: &Lost) -> Lost {
        Lost {
            full: self.full.saturating_sub(before.full),
            reentrant: self.reentrant.saturating_sub(before.reentrant),
            samples: self.samples.saturating_sub(before.samples),
            allocations: self.allocations.saturating_sub(before.allocations),
        }
    }
}

pub(crate) struct Closer {
    version: Version,
    pool: Arc<Pool>,
    calibration: clock::Calibration,
    tables: Tables,
    /// The open generation, and the first of the trace.
    generation: u32,
    first: u32,
    /// When it opened, trace clock.
    opened_ns: u64,
    /// The same of the one before it.
    last_opened_ns: u64,
    /// What the heap held then, if the trace has it.
    opened_heap: Option<u64>,
    /// The sequence number under which the open generation says that a collection is under way.
    gc_active: Option<u64>,
    /// Batches of the open generation and of the next, out of their buffers.
    held: Vec<u8>,
    ahead: Vec<u8>,
    /// With a black box: buffers that stay until their generation has been written.
    kept: Vec<(u32, Buffer)>,
    /// When a generation is to be closed before its time.
    large_bytes: usize,
    /// The closed generation, until it is written: what stands before its threads' batches, these, and the rest.
    head: Vec<u8>,
    closed: Vec<u8>,
    tail: Vec<u8>,
    /// What the program had lost before this trace, and up to the last generation.
    lost_before: Lost,
    lost_last: Lost,
    heap_quantum: u64,
    sample_period_ns: u64,
    memory: Sampler,
    /// The writer's thread id: its batches bear it.
    own_tid: u64,
}

/// What the closer begins with.
pub(crate) struct Opening {
    pub(crate) version: Version,
    pub(crate) pool: Arc<Pool>,
    pub(crate) calibration: clock::Calibration,
    pub(crate) tables: Tables,
    pub(crate) generation: u32,
    pub(crate) opened_ns: u64,
    pub(crate) gc_active: Option<u64>,
    pub(crate) heap_quantum: u64,
    /// CPU time between two samples; 0 if none are taken.
    pub(crate) sample_period_ns: u64,
    pub(crate) memory_every: Duration,
}

impl Closer {
    /// For a trace whose first generation is `opening.generation`. Runs on the writer's thread.
    pub(crate) fn new(opening: Opening) -> Closer {
        let lost = lost_so_far();
        Closer {
            version: opening.version,
            calibration: opening.calibration,
            tables: opening.tables,
            generation: opening.generation,
            first: opening.generation,
            large_bytes: opening.pool.bytes_max() / 4,
            opened_ns: opening.opened_ns,
            last_opened_ns: opening.opened_ns,
            opened_heap: heap_now(),
            gc_active: opening.gc_active,
            held: Vec::new(),
            ahead: Vec::new(),
            kept: Vec::new(),
            head: Vec::new(),
            closed: Vec::new(),
            tail: Vec::new(),
            lost_before: lost,
            lost_last: lost,
            heap_quantum: opening.heap_quantum,
            sample_period_ns: opening.sample_period_ns,
            memory: Sampler::new(opening.memory_every),
            own_tid: u64::from(os::id()),
            pool: opening.pool,
        }
    }

    /// Takes the filled buffers in, so that they can be filled anew.
    pub(crate) fn collect(&mut self) {
        self.take_in(false);
    }

    fn take_in(&mut self, all: bool) {
        collect(&self.pool, self.generation, all, &mut self.held, &mut self.ahead, &mut self.kept);
    }

    /// Whether so much has been collected that the generation had better be closed.
    pub(crate) fn is_large(&self) -> bool {
        self.held.len() >= self.large_bytes
    }

    /// Has generations closed early when they have so many bytes; by default when they hold a quarter of the buffers.
    pub(crate) fn set_large(&mut self, bytes: Option<usize>) {
        let quarter = self.pool.bytes_max() / 4;
        self.large_bytes = bytes.map_or(quarter, |bytes| bytes.min(quarter));
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The last generation that was closed.
    pub(crate) fn last_closed(&self) -> u32 {
        self.generation - 1
    }

    /// When it had opened, trace clock.
    pub(crate) fn last_opened_ns(&self) -> u64 {
        self.last_opened_ns
    }

    /// How many generations have been closed.
    pub(crate) fn generations(&self) -> u32 {
        self.generation - self.first
    }

    /// Whether the numbers of generations are used up.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.generation >= state::GEN_MAX - 1
    }

    /// What this trace has lost.
    pub(crate) fn lost(&self) -> Lost {
        self.lost_last.since(&self.lost_before)
    }

    /// What is to be written, in this order.
    pub(crate) fn output(&self) -> [&[u8]; 3] {
        [&self.head, &self.closed, &self.tail]
    }

    /// It has been written, and the trace has so many bytes. The memory is kept.
    pub(crate) fn written(&mut self, bytes: u64) {
        let last = self.last_closed();
        black_box::written(last, bytes);
        let pool = &self.pool;
        self.kept.extract_if(.., |(n, _)| *n <= last).for_each(|(_, buffer)| pool.give_back(buffer));
        self.head.clear();
        self.closed.clear();
        self.tail.clear();
    }

    /// Closes the open generation, which is then the [`output`](Closer::output); opens the next one unless it is the `last`.
    pub(crate) fn close(&mut self, last: bool) {
        let n = self.generation;
        let parity = (n & 1) as usize;
        CLOSING.store(n, Ordering::SeqCst);
        // SAFETY: this is the closer; the generation of the other parity has been closed before.
        unsafe { CLOCK.set(1 - parity, self.calibration.next(CLOCK.of(parity))) };
        let gc_active = self.gc_active.take();
        // Before it opens, so that what is said at its begin comes before all else in it, however long this thread is away between
        // the two.
        // SAFETY: the closer.
        let closed_ns = unsafe { CLOCK.of(1 - parity) }.ns(clock::ticks());
        let heap = heap_now();
        {
            // A collection's begin and end take this lock too, so that its sequence numbers rise with the generations.
            let mut world = WORLD.lock();
            if !last {
                self.gc_active = world.active_in_next();
            }
            if !last {
                black_box::opens(n + 1, [closed_ns, clock::monotonic_ns(), clock::realtime_ns()]);
            }
            GENERATION.set(if last { 0 } else { n + 1 });
        }
        barrier::heavy();
        for t in thread::all() {
            // One that lost its processor inside a section is waited for: meanwhile the others want their buffers back.
            t.gate.quiesce(n, || {
                self.collect();
                os::yield_now();
            });
        }
        // Everything of generation n is now in the channel or in the threads' batches.
        self.pool.send_remains(parity);
        self.take_in(true);
        let (mut head, mut tail) = (core::mem::take(&mut self.head), core::mem::take(&mut self.tail));
        self.write(&mut head, &mut tail, n, gc_active);
        (self.head, self.tail) = (head, tail);
        core::mem::swap(&mut self.closed, &mut self.held);
        core::mem::swap(&mut self.held, &mut self.ahead);
        ONE_OFF[parity].store(0, Ordering::Relaxed);
        CLOSING.store(0, Ordering::SeqCst);
        release_ended(n, last);
        self.generation = n + 1;
        self.last_opened_ns = self.opened_ns;
        (self.opened_ns, self.opened_heap) = (closed_ns, heap);
    }

    fn write(&mut self, head: &mut Vec<u8>, out: &mut Vec<u8>, n: u32, gc_active: Option<u64>) {
        let (at, own) = (self.opened_ns, self.own_tid);
        let parity = (n & 1) as usize;
        let (wall, mono) = (clock::realtime_ns(), clock::monotonic_ns());
        // The snapshot belongs to the batch's time.
        let trace_now = {
            // SAFETY: the closer; generation n's mapping is still in place.
            unsafe { CLOCK.of(parity) }.ns(clock::ticks())
        };
        let back = trace_now.saturating_sub(at);
        wire::sync(head, self.version, n, own, at, mono.saturating_sub(back), wall.saturating_sub(back));
        let mut names: Vec<(u64, [u8; NAME_BYTES])> = vec![(OWN_GOROUTINE, *b"exectrace\0\0\0\0\0\0\0")];
        let lost = self.take_losses();
        self.own_events(head, n, gc_active, &lost);
        for t in thread::all() {
            self.speak_for(head, n, t, &mut names);
        }
        for t in thread::all() {
            self.rest_of(out, n, t);
        }
        self.samples(out, n);
        // Finding names may take long; the buffers that fill meanwhile are emptied in between.
        let (pool, held, ahead, kept) = (&self.pool, &mut self.held, &mut self.ahead, &mut self.kept);
        self.tables.write(out, n, own, at, &names, &mut || collect(pool, n, false, held, ahead, kept));
        self.meta(out, n, (trace_now, mono, wall), &lost);
        self.series(out, n);
        if self.version.has_end_of_generation() {
            out.push(Kind::EndOfGeneration as u8);
        }
    }

    /// What has been lost since the last call.
    fn take_losses(&mut self) -> Lost {
        let now = lost_so_far();
        let last = core::mem::replace(&mut self.lost_last, now);
        now.since(&last)
    }

    /// The tracer's own goroutine says what belongs to the generation as a whole.
    fn own_events(&mut self, out: &mut Vec<u8>, n: u32, gc_active: Option<u64>, lost: &Lost) {
        let at = self.opened_ns;
        let name = super::section::stack_id::name_of(OWN_GOROUTINE);
        let mut e = Events::new(at);
        if n == self.first {
            e.event(Kind::ProcStatus, at, [OWN_PROCESSOR, ProcStatus::Running as u64]);
            e.event(Kind::GoStatusStack, at, [OWN_GOROUTINE, self.own_tid, GoStatus::Running as u64, name]);
        } else {
            e.event(Kind::ProcStatus, at, [OWN_PROCESSOR, ProcStatus::Idle as u64]);
            e.event(Kind::ProcStart, at, [OWN_PROCESSOR, 1]);
            e.event(Kind::GoStatusStack, at, [OWN_GOROUTINE, NO_THREAD, GoStatus::Waiting as u64, name]);
            e.event(Kind::GoUnblock, at, [OWN_GOROUTINE, 1, 0]);
            e.event(Kind::GoStart, at, [OWN_GOROUTINE, 2]);
        }
        // All that any event of the generation can name: the number only grows, and the generation is over.
        e.event(Kind::ProcsChange, at, [u64::from(thread::count()) + 1, 0]);
        if let Some(seq) = gc_active {
            e.event(Kind::GCActive, at, [seq]);
        }
        // The curve begins where the heap is, not with its first move.
        if let Some(heap) = self.opened_heap {
            e.event(Kind::HeapAlloc, at, [heap]);
        }
        if let Some(goal) = gauges::goal() {
            e.event(Kind::HeapGoal, at, [goal]);
        }
        if lost.full + lost.reentrant + lost.samples > 0 {
            let text = format!(
                "{} events lost because no buffer was left, {} inside other events; {} samples lost",
                lost.full, lost.reentrant, lost.samples
            );
            let (key, value) = (self.tables.use_text("exectrace: lost", n), self.tables.use_text(&text, n));
            e.event(Kind::UserLog, at, [0, key, value, 0]);
        }
        let reason = self.tables.use_text("system goroutine wait", n);
        e.event(Kind::GoBlock, at, [reason, 0]);
        e.event(Kind::ProcStop, at, []);
        e.write(out, n, self.own_tid);
    }

    /// The states of a thread that nobody has told in generation n, in its name and dated at the generation's begin. Notes its name.
    fn speak_for(&mut self, out: &mut Vec<u8>, n: u32, t: &Thread, names: &mut Vec<(u64, [u8; NAME_BYTES])>) {
        if t.life.load(Ordering::Acquire) == life::FREE {
            return;
        }
        let trace = TRACE.load(Ordering::Relaxed);
        let at = self.opened_ns;
        let mut e = Events::new(at);
        let tid = t.tid.load(Ordering::Relaxed);
        if t.processor_trace.load(Ordering::Relaxed) == trace
            && let Some((state, range)) = t.processor.get().missing_in(n)
        {
            e.event(Kind::ProcStatus, at, [t.processor_id(), u64::from(state)]);
            if range {
                e.event(Kind::GCSweepActive, at, [t.processor_id()]);
            }
        }
        let known = t.go_trace.load(Ordering::Acquire) == trace;
        let word = t.go.get();
        let goid = t.goid.load(Ordering::Relaxed);
        if known {
            names.push((goid, self.name(t, tid)));
        }
        if known && let Some((state, range)) = word.missing_in(n) {
            let on_thread = state == state::go(GoStatus::Running) || state == state::go(GoStatus::Syscall);
            let m = if on_thread { u64::from(tid) } else { NO_THREAD };
            let name = super::section::stack_id::name_of(goid);
            e.event(Kind::GoStatusStack, at, [goid, m, u64::from(state), name]);
            if range {
                e.event(Kind::GCMarkAssistActive, at, [goid]);
            }
            // The thread is no more, but wakers may still tell of it in the next generation: then that is not its last.
            let ended = t.life.load(Ordering::Acquire) == life::ENDED && t.ended_silently.load(Ordering::Relaxed);
            if ended && word.generation < n && t.go.replace(word, word.gone()) {
                end_for(&mut e, at, t, state, goid, n);
            }
        }
        e.write(out, n, u64::from(tid));
    }

    /// The name of a thread: what it was told, or what the system says.
    fn name(&self, t: &Thread, tid: u32) -> [u8; NAME_BYTES] {
        let read_ns = t.name_read_ns.load(Ordering::Relaxed);
        if tid != 0
            && t.life.load(Ordering::Relaxed) == life::ALIVE
            && (read_ns == 0 || read_ns + NAME_FRESH_NS < self.opened_ns)
        {
            let name = if t.is_main() { *b"main\0\0\0\0\0\0\0\0\0\0\0\0" } else { os::name_of(tid) };
            if name[0] != 0 {
                t.set_name(name);
            }
            t.name_read_ns.store(self.opened_ns, Ordering::Relaxed);
        }
        t.name()
    }

    /// What is left in a thread's buffers of generation n.
    fn rest_of(&mut self, out: &mut Vec<u8>, n: u32, t: &Thread) {
        let parity = (n & 1) as usize;
        let tid = t.tid.load(Ordering::Relaxed);
        for (cell, content) in [
            (&t.events[parity], Content::Events),
            (&t.strings[parity], Content::Strings),
            (&t.allocations[parity], Content::Private),
        ] {
            // SAFETY: the closer, of a generation that has quiesced: the owner does not touch this parity's batches until
            // the generation after the next opens.
            let batch = unsafe { cell.get() };
            let Some(mut chunk) = batch.take_chunk(content, n, tid) else { continue };
            if chunk.len > 0 {
                if content == Content::Events && t.stw_open[parity].swap(0, Ordering::Relaxed) != 0 {
                    chunk = end_stw(chunk);
                }
                wire::chunk(out, tid, &chunk);
            }
            keep_or_give_back(&self.pool, chunk, &mut self.kept);
        }
        t.stw_open[parity].store(0, Ordering::Relaxed);
    }

    fn samples(&mut self, out: &mut Vec<u8>, n: u32) {
        let mut table = Table::new(Kind::CPUSamples, n, self.own_tid, self.opened_ns);
        samples::drain(n, |s| {
            table.record(out, |data| {
                data.push(Kind::CPUSample as u8);
                let stack = super::section::stack_id::captured(s.stack);
                for v in [s.time_ns, u64::from(s.tid), s.processor, s.goid, stack] {
                    put(data, v);
                }
            });
        });
        table.flush(out);
    }

    /// What wrote the trace and how.
    fn meta(&self, out: &mut Vec<u8>, n: u32, (trace_ns, mono_ns, wall_ns): (u64, u64, u64), lost: &Lost) {
        let mut data = Vec::with_capacity(256);
        let mut put_pair = |key: &str, value: &str| {
            put_text(&mut data, key.as_bytes());
            put_text(&mut data, value.as_bytes());
        };
        put_pair(meta::WRITER, concat!("exectrace ", env!("CARGO_PKG_VERSION")));
        for (key, value) in [
            (meta::PID, u64::from(os::process_id())),
            (meta::TRACE_NS, trace_ns),
            (meta::MONO_NS, mono_ns),
            (meta::WALL_NS, wall_ns),
            (meta::LOST_EVENTS, lost.full + lost.reentrant),
            (meta::LOST_SAMPLES, lost.samples),
            (meta::LOST_ALLOCATIONS, lost.allocations),
            (meta::HEAP_QUANTUM, self.heap_quantum),
        ] {
            put_pair(key, &value.to_string());
        }
        if self.sample_period_ns > 0 {
            put_pair(meta::SAMPLE_PERIOD, &self.sample_period_ns.to_string());
        }
        if self.tables.is_raw() {
            put_pair(meta::RAW_PCS, "1");
        }
        wire::private(out, n, self.own_tid, self.opened_ns, Private::Meta, &data);
        if self.tables.is_raw() {
            let mut data = Vec::new();
            for module in modules::modules() {
                let begin = data.len();
                for v in [module.start as u64, module.end as u64, module.file_offset] {
                    put(&mut data, v);
                }
                let id: String = module.build_id.iter().map(|b| format!("{b:02x}")).collect();
                put_text(&mut data, id.as_bytes());
                put_text(&mut data, module.path.as_bytes());
                if data.len() > 60_000 {
                    data.truncate(begin);
                    break;
                }
            }
            wire::private(out, n, self.own_tid, self.opened_ns, Private::Modules, &data);
        }
    }

    /// When the next sample of the process's memory is due.
    pub(crate) fn sample_due(&self) -> Option<Instant> {
        self.memory.due()
    }

    /// Takes a sample of the process's memory if one is due, or the `last`.
    pub(crate) fn sample(&mut self, last: bool) {
        let parity = (self.generation & 1) as usize;
        // SAFETY: this is the closer, and the generation is open.
        self.memory.sample(last, || unsafe { CLOCK.of(parity) }.ns(clock::ticks()));
    }

    /// The process's memory, and the parts of the heap, each by itself, if there is more than one.
    fn series(&mut self, out: &mut Vec<u8>, n: u32) {
        let mut points: Vec<(Cow<'static, str>, u64, u64)> = Vec::new();
        points.extend(self.memory.take().into_iter().map(|(name, at, value)| (Cow::Borrowed(name), at, value)));
        gauges::drain(n, |series, at, value| points.push((series_name(series), at, value)));
        points.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        // At most 20 bytes a point: a run of 3,000 fits a batch.
        for run in points.chunk_by(|a, b| a.0 == b.0).flat_map(|of_series| of_series.chunks(3_000)) {
            let mut data = Vec::new();
            put_text(&mut data, run[0].0.as_bytes());
            put(&mut data, run.len() as u64);
            let (mut last_ns, mut last) = (self.opened_ns, 0i64);
            for &(_, at, value) in run {
                let at = at.max(last_ns);
                put(&mut data, at - last_ns);
                put(&mut data, crate::format::varint::zigzag((value as i64).wrapping_sub(last)));
                (last_ns, last) = (at, value as i64);
            }
            wire::private(out, n, self.own_tid, self.opened_ns, Private::Series, &data);
        }
    }

    /// Tracing is over.
    pub(crate) fn finish(mut self) {
        self.tables.clear();
    }
}

/// Ends the trace without writing what is in buffers: the sink has failed.
pub(crate) fn abandon(pool: &Pool) {
    GENERATION.set(0);
    barrier::heavy();
    for t in thread::all() {
        t.gate.quiesce(u32::MAX, os::yield_now);
        for parity in 0..2 {
            for cell in [&t.events[parity], &t.strings[parity], &t.allocations[parity]] {
                // SAFETY: no generation is open and no section is: nobody but the closer touches batches.
                if let Some((buffer, ..)) = unsafe { cell.get() }.take() {
                    pool.give_back(buffer);
                }
            }
            t.stw_open[parity].store(0, Ordering::Relaxed);
        }
    }
    (0..2).for_each(|parity| pool.send_remains(parity));
    while let Some(chunk) = pool.take_full() {
        pool.give_back(chunk.buffer);
    }
    for (parity, one_off) in ONE_OFF.iter().enumerate() {
        super::stacks::drain_used(parity, |_| {});
        string_table::drain_used(parity, |_| {});
        super::obituary::drain(parity, |_, _| {});
        one_off.store(0, Ordering::Relaxed);
    }
    samples::drain(u32::MAX, |_| {});
    gauges::drain(u32::MAX, |_, _, _| {});
    CLOSING.store(0, Ordering::SeqCst);
    release_ended(u32::MAX, true);
}

/// Gives back the entries of threads that ended, when nothing is owed for them any more.
fn release_ended(n: u32, last: bool) {
    for t in thread::all() {
        if t.life.load(Ordering::Acquire) != life::ENDED {
            continue;
        }
        let word = t.go.get();
        let told = !t.ended_silently.load(Ordering::Relaxed) || word.state() == GONE;
        if last || (told && word.generation <= n) {
            thread::release(t);
        }
    }
}

/// The live heap in bytes, if the trace has it and somebody counts it.
fn heap_now() -> Option<u64> {
    (RECORD.load(Ordering::Relaxed) & RECORD_HEAP != 0).then(gauges::heap).filter(|&bytes| bytes > 0)
}

/// Takes filled buffers in: those of `generation` to `held`, those of the next to `ahead`, which is bounded as the buffers are: what
/// does not fit stays in its buffer, until there are none left and events are lost. With `all` the bound does not count: when the
/// generation has quiesced all of it must come in, and what is in front of it is at most one pool.
///
/// Only what is there at the call: threads that fill buffers faster than this copies them would keep it busy for ever.
fn collect(
    pool: &Pool,
    generation: u32,
    all: bool,
    held: &mut Vec<u8>,
    ahead: &mut Vec<u8>,
    kept: &mut Vec<(u32, Buffer)>,
) {
    for _ in 0..pool.full_len() {
        if !all && ahead.len() >= pool.bytes_max() {
            return;
        }
        let Some(chunk) = pool.take_full() else { return };
        let to = if chunk.generation == generation { &mut *held } else { &mut *ahead };
        debug_assert!(
            chunk.generation == generation || chunk.generation == generation + 1,
            "{} in {generation}, open {}, {chunk:?}, held {} ahead {}",
            chunk.generation,
            GENERATION.get(),
            held.len(),
            ahead.len()
        );
        match chunk.content {
            Content::Batches => to.extend_from_slice(chunk.bytes()),
            Content::Events | Content::Strings | Content::Private => wire::chunk(to, chunk.tid, &chunk),
        }
        keep_or_give_back(pool, chunk, kept);
    }
}

fn keep_or_give_back(pool: &Pool, chunk: Chunk, kept: &mut Vec<(u32, Buffer)>) {
    if pool.is_boxed {
        kept.push((chunk.generation, chunk.buffer));
    } else {
        pool.give_back(chunk.buffer);
    }
}

/// The end of a thread that could not say so itself, in generation `n`, which knows its states and nothing else of it. `state` is
/// that of its goroutine.
fn end_for(e: &mut Events, at: u64, t: &Thread, state: u8, goid: u64, n: u32) {
    let idle = state::processor(ProcStatus::Idle);
    let trace = TRACE.load(Ordering::Relaxed);
    // One that was created and never got a word in has no processor in the trace yet.
    let processor = if t.processor_trace.swap(trace, Ordering::Relaxed) == trace {
        t.processor.get().enter(n)
    } else {
        e.event(Kind::ProcStatus, at, [t.processor_id(), u64::from(idle)]);
        Word::born(n, idle)
    };
    let mut running = state == state::go(GoStatus::Running);
    if state == state::go(GoStatus::Syscall) {
        e.event(Kind::GoSyscallEnd, at, []);
        running = true;
    }
    if !running {
        if processor.state() == idle {
            e.event(Kind::ProcStart, at, [t.processor_id(), 1]);
        }
        let mut seq = 1;
        if state == state::go(GoStatus::Waiting) {
            e.event(Kind::GoUnblock, at, [goid, seq, 0]);
            seq += 1;
        }
        e.event(Kind::GoStart, at, [goid, seq]);
    }
    e.event(Kind::GoDestroy, at, []);
    e.event(Kind::ProcStop, at, []);
    // The next owner of the entry finds the processor as the trace has it.
    t.processor.set(processor.with_range(false).with_state(idle));
}

/// The stop-the-world that is open at the end of a chunk ends there (and begins again in the thread's next generation): the format
/// has no way to say that one goes on.
fn end_stw(mut chunk: Chunk) -> Chunk {
    // Two bytes, which every batch has room for: it is exchanged while much more is left.
    if chunk.len + 2 <= super::buffer::BUFFER_BYTES {
        // SAFETY: the chunk owns its buffer, and the two bytes are inside.
        unsafe {
            let at = chunk.buffer.start().add(chunk.len);
            at.write(Kind::STWEnd as u8);
            at.add(1).write(1);
        }
        chunk.len += 2;
    }
    chunk
}

fn series_name(s: Series) -> Cow<'static, str> {
    if s == Series::NATIVE {
        return Cow::Borrowed(series::NATIVE_HEAP);
    }
    let what = if s.0.is_multiple_of(2) { "live_bytes" } else { "goal_bytes" };
    Cow::Owned(format!("{}{}.{what}", series::GC_PREFIX, s.0 / 2))
}

fn lost_so_far() -> Lost {
    let mut lost = Lost {
        samples: u64::from(samples::LOST.load(Ordering::Relaxed)),
        allocations: allocations::lost_elsewhere(),
        ..Lost::default()
    };
    for t in thread::all() {
        lost.full += t.lost_full.load(Ordering::Relaxed);
        lost.reentrant += t.lost_reentrant.load(Ordering::Relaxed);
        lost.allocations += t.lost_allocations.load(Ordering::Relaxed);
    }
    lost
}
