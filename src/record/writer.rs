//! The writer's thread: takes full buffers in, closes generations, and gives their bytes to the user's sink, to the flight recorder, or to
//! both.
//!
//! It is the one thread of the tracer's own. It runs as [`Internal`], so that what it allocates is no part of the program's heap;
//! the sink's own code runs as the program's.

use core::ffi::c_void;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffer::Pool;
use super::flight::Ring;
use super::generation::{Closer, Lost, Opening};
use super::thread::Internal;
use crate::sys::thread as os;

/// A user's sink.
pub(crate) type Sink = Box<dyn Write + Send>;

/// What the starter and the writer's thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pool: Arc<Pool>,
    /// Set by `start` when the first generation is open, before it rings: closing it must not come first.
    pub(crate) opened: AtomicBool,
    /// Set by `stop` before it rings.
    pub(crate) stop: AtomicBool,
    /// Set by whoever wants the generation closed, before it rings.
    pub(crate) advance: AtomicBool,
    /// How many generations have been closed, for whoever waits for one.
    pub(crate) closed: AtomicU64,
    /// What is to change between two generations. Given by whoever starts or stops, one at a time; taken by the writer's thread.
    pub(crate) order: Mutex<Option<Order>>,
    /// How many changes have been made, for whoever waits for one.
    pub(crate) obeyed: AtomicU64,
    /// Set by the writer's thread when it ends, whatever the reason.
    pub(crate) gone: AtomicBool,
    /// What came of a trace that was to end.
    pub(crate) ended: Mutex<Option<TraceEnd>>,
}

/// A change of who gets the generations. The others notice nothing.
pub(crate) enum Order {
    /// A trace begins with the next generation.
    BeginTrace(Sink),
    /// The trace has this generation, and ends.
    EndTrace,
    /// A flight recorder begins with the next generation, or ends.
    Flight(Option<Arc<Ring>>),
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::BeginTrace(_) => "BeginTrace",
            Order::EndTrace => "EndTrace",
            Order::Flight(_) => "Flight",
        })
    }
}

impl Shared {
    pub(crate) fn new(pool: Arc<Pool>) -> Shared {
        Shared {
            pool,
            opened: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            advance: AtomicBool::new(false),
            closed: AtomicU64::new(0),
            order: Mutex::new(None),
            obeyed: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            ended: Mutex::new(None),
        }
    }

    /// Has a change made at the end of the open generation, and waits until it is, or until the writer's thread has ended.
    pub(crate) fn carry_out(&self, order: Order) {
        let before = self.obeyed.load(Ordering::Acquire);
        *lock(&self.order) = Some(order);
        while self.obeyed.load(Ordering::Acquire) == before && !self.gone.load(Ordering::Acquire) {
            self.advance.store(true, Ordering::Release);
            self.pool.bell.ring();
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Nothing in here panics while it holds one of these; were it so, what is in it would still be whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread is given.
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    pub(crate) period: Duration,
    /// Taken by the thread.
    pub(crate) input: Option<(Opening, Targets)>,
    /// Filled by the thread before it ends.
    pub(crate) outcome: Option<Outcome>,
}

/// Who gets the generations.
pub(crate) struct Targets {
    pub(crate) sink: Option<Sink>,
    pub(crate) flight: Option<Arc<Ring>>,
}

/// What it leaves.
pub(crate) struct Outcome {
    /// All of it, whoever got it.
    pub(crate) generations: u32,
    /// What came of the trace, if one was on.
    pub(crate) trace: Option<TraceEnd>,
}

/// What a trace came to.
pub(crate) struct TraceEnd {
    pub(crate) sink: Sink,
    pub(crate) bytes: u64,
    pub(crate) generations: u32,
    pub(crate) lost: Lost,
    pub(crate) error: Option<io::Error>,
}

impl fmt::Debug for TraceEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceEnd").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The thread's entry: `arg` is a `*mut Option<Job>` that nobody else touches until the thread has been joined.
pub(crate) extern "C" fn main(arg: *mut c_void) -> *mut c_void {
    os::set_own_name(c"exectrace");
    // SAFETY: see above.
    let slot = unsafe { &mut *arg.cast::<Option<Job>>() };
    if let Some(job) = slot {
        let shared = job.shared.clone();
        match Internal::enter() {
            Some(internal) => work(job, &shared, &internal),
            // The system has no memory for a thread more.
            None => super::generation::abandon(&shared.pool),
        }
        // Who waits for a change would wait for ever.
        shared.gone.store(true, Ordering::Release);
    }
    core::ptr::null_mut()
}

fn work(job: &mut Job, shared: &Arc<Shared>, internal: &Internal) {
    let Some((opening, targets)) = job.input.take() else { return };
    let writer = Writer::new(shared.clone(), opening, targets, job.period, internal);
    // A panic here would be a bug of ours; it ends the trace, not the program.
    match catch_unwind(AssertUnwindSafe(|| writer.run())) {
        Ok(outcome) => job.outcome = Some(outcome),
        Err(payload) => {
            super::generation::abandon(&shared.pool);
            core::mem::forget(payload);
        }
    }
}

struct Writer<'a> {
    shared: Arc<Shared>,
    trace: Option<Trace>,
    flight: Option<Arc<Ring>>,
    closer: Closer,
    internal: &'a Internal,
    period: Duration,
    /// Tracing has ended for want of anybody who takes it.
    abandoned: bool,
}

/// A trace that is on.
struct Trace {
    sink: Sink,
    bytes: u64,
    error: Option<io::Error>,
    /// How things stood when it began.
    generations_before: u32,
    lost_before: Lost,
}

impl<'a> Writer<'a> {
    fn new(
        shared: Arc<Shared>,
        opening: Opening,
        targets: Targets,
        period: Duration,
        internal: &'a Internal,
    ) -> Writer<'a> {
        let closer = Closer::new(opening);
        let mut writer = Writer { shared, trace: None, flight: None, closer, internal, period, abandoned: false };
        writer.trace = targets.sink.map(|sink| writer.new_trace(sink));
        writer.set_flight(targets.flight);
        writer
    }

    fn new_trace(&self, sink: Sink) -> Trace {
        let (generations_before, lost_before) = (self.closer.generations(), self.closer.lost());
        Trace { sink, bytes: 0, error: None, generations_before, lost_before }
    }

    fn set_flight(&mut self, flight: Option<Arc<Ring>>) {
        self.closer.set_large(flight.as_ref().map(|ring| ring.generation_bytes()));
        self.flight = flight;
    }

    fn run(mut self) -> Outcome {
        let shared = self.shared.clone();
        // The first write may fail, which ends the trace: that must not come before its beginning.
        while !shared.opened.load(Ordering::Acquire) {
            shared.pool.bell.wait(Duration::from_secs(1));
        }
        self.begin_trace();
        let mut next = Instant::now() + self.period;
        // Asked before the first wait too: a stop that came right after the start has rung together with it.
        while !shared.stop.load(Ordering::Acquire) {
            let wake = self.closer.sample_due().map_or(next, |due| due.min(next));
            shared.pool.bell.wait(wake.saturating_duration_since(Instant::now()));
            if shared.stop.load(Ordering::Acquire) {
                break;
            }
            self.closer.collect();
            self.closer.sample(false);
            if Instant::now() >= next || self.closer.is_large() || shared.advance.swap(false, Ordering::AcqRel) {
                self.close(false);
                next = Instant::now() + self.period;
            }
        }
        self.closer.sample(true);
        self.close(true);
        let trace = self.trace.take().map(|trace| self.end_of(trace));
        let generations = self.closer.generations();
        self.closer.finish();
        Outcome { generations, trace }
    }

    fn end_of(&self, trace: Trace) -> TraceEnd {
        let Trace { sink, bytes, error, generations_before, lost_before } = trace;
        let generations = self.closer.generations() - generations_before;
        TraceEnd { sink, bytes, generations, lost: self.closer.lost().since(&lost_before), error }
    }

    fn close(&mut self, last: bool) {
        // Taken before: what the trace is to have that ends now is in the generation that is still open.
        let order = lock(&self.shared.order).take();
        if !self.abandoned {
            let last = last || self.closer.is_exhausted();
            self.closer.close(last);
            self.write();
            if last && self.closer.is_exhausted() {
                let error = || io::Error::other("the trace has no generation numbers left");
                self.trace.iter_mut().for_each(|trace| _ = trace.error.get_or_insert_with(error));
                self.abandoned = true;
            }
        }
        // Before who waits for this generation is told that it is there.
        if let Some(order) = order {
            self.obey(order);
        }
        self.shared.closed.fetch_add(1, Ordering::Release);
    }

    /// Does what was ordered, now that no generation is half done.
    fn obey(&mut self, order: Order) {
        match order {
            Order::BeginTrace(sink) => {
                self.trace = Some(self.new_trace(sink));
                self.begin_trace();
            }
            Order::EndTrace => {
                let end = self.trace.take().map(|trace| self.end_of(trace));
                *lock(&self.shared.ended) = end;
            }
            Order::Flight(flight) => self.set_flight(flight),
        }
        self.abandon_if_nobody_listens();
        self.shared.obeyed.fetch_add(1, Ordering::Release);
    }

    fn abandon_if_nobody_listens(&mut self) {
        let heard = self.flight.is_some() || self.trace.as_ref().is_some_and(|trace| trace.error.is_none());
        if !heard && !self.abandoned {
            self.abandoned = true;
            super::generation::abandon(&self.shared.pool);
        }
    }

    /// A trace begins with its header.
    fn begin_trace(&mut self) {
        let header = self.closer.version().header();
        if let Some(trace) = &mut self.trace {
            trace.write(self.internal, &[&header]);
            super::black_box::written(self.closer.last_closed(), trace.bytes);
        }
        self.abandon_if_nobody_listens();
    }

    /// Gives what has been put together to those who want it. A failure of the sink ends the trace: it is kept for `stop`.
    fn write(&mut self) {
        let output = self.closer.output();
        if let Some(ring) = &self.flight {
            ring.push(self.closer.version(), output, self.closer.last_opened_ns());
        }
        if let Some(trace) = &mut self.trace {
            trace.write(self.internal, &output);
        }
        self.abandon_if_nobody_listens();
        self.closer.written(self.trace.as_ref().map_or(0, |trace| trace.bytes));
    }
}

impl Trace {
    fn write(&mut self, internal: &Internal, parts: &[&[u8]]) {
        if self.error.is_some() {
            return;
        }
        let (sink, bytes) = (&mut self.sink, &mut self.bytes);
        let result = internal.as_program(|| {
            let written = catch_unwind(AssertUnwindSafe(|| {
                for part in parts {
                    write_all(sink, part, bytes)?;
                }
                sink.flush()
            }));
            written.unwrap_or_else(|_| Err(io::Error::other("the trace's writer panicked")))
        });
        self.error = result.err();
    }
}

/// As [`Write::write_all`], and adds to `written` what the sink has taken, also when it then fails.
fn write_all(sink: &mut Sink, mut bytes: &[u8], written: &mut u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the trace's writer takes no more bytes")),
            Ok(n) => {
                // A writer that claims more than it was given has taken all.
                bytes = bytes.get(n..).unwrap_or_default();
                *written += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
