//! Starting and stopping: the state of the tracer as its user sees it.
//!
//! ```text
//!  IDLE --start--> STARTING --> RUNNING --stop--> STOPPING --> IDLE
//! ```

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::allocations::{self, Allocations};
use super::buffer::Pool;
use super::clock::CLOCK;
use super::ending::{StartError, Stats, StopError};
use super::flight::Ring;
use super::gc_world::WORLD;
use super::generation::Opening;
use super::section::{GENERATION, POOL, SAMPLE_PERIOD_NS, TRACE};
use super::state::{self, Word};
use super::symbolize::Symbolizer;
use super::tables::{Resolve, Tables};
use super::thread::{self, Internal, activity, busy, life};
use super::writer::{self, Job, Order, Shared, Sink, Targets, TraceEnd};
use super::{black_box, gauges, modules, reasons, samples, stacks};
use crate::format::{GoStatus, MAX_FRAMES, ProcStatus, Version};
use crate::sys::lock::{Held, Lock};
use crate::sys::own::OfProcess;
use crate::sys::{barrier, cgroup, clock, thread as os};

/// Default of [`Tracer::heap_quantum`]. At 64 KiB the curve of a heap of a few MiB is still smooth, a thread that
/// allocates 1 GB/s writes 16,000 events (130 KB) a second, and the adding-up costs below 0.1 ns an allocation of 64 bytes.
pub(crate) const HEAP_QUANTUM: usize = 64 << 10;
/// Default of [`Tracer::buffer_bytes`].
const BUFFER_BYTES: usize = 64 << 20;
/// As many buffers as their numbers can tell apart are more; this is what anybody can mean.
const BUFFER_BYTES_MAX: usize = 16 << 30;
/// Default of [`Tracer::stack_depth`].
const STACK_DEPTH: usize = 64;
/// Default of [`Tracer::cpu_sample_hz`]: Go's rate.
const SAMPLE_HZ: u32 = 100;
/// Beyond this the kernel's tick limits the rate, and the samples begin to disturb.
const SAMPLE_HZ_MAX: u32 = 1000;
/// Default of [`Tracer::memory_every`].
const MEMORY_EVERY: Duration = Duration::from_millis(100);
/// Shorter periods only move the cost of closing.
const PERIOD_MIN: Duration = Duration::from_micros(50);

/// Waits and wakes that could not be matched, since the program began. Counted by those who try.
pub(crate) static UNMATCHED: AtomicU64 = AtomicU64::new(0);
/// What is recorded, besides what the program says itself. Read by hooks.
pub(crate) static RECORD: AtomicU32 = AtomicU32::new(0);
pub(crate) const RECORD_HEAP: u32 = 1;
pub(crate) const RECORD_BLOCKING: u32 = 2;
pub(crate) const RECORD_SYSCALLS: u32 = 4;
/// Bytes by which a thread's net allocation must move before it is published. Changed at start and stop.
pub(crate) static QUANTUM: AtomicU64 = AtomicU64::new(HEAP_QUANTUM as u64);

/// When program counters are turned into function names, files and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Symbolize {
    /// In the process, by the tracer's thread, as each generation is written. The trace is complete by itself. (A child that was forked
    /// from a process while it traced does as [`Never`](Symbolize::Never).)
    #[default]
    Live,
    /// Not at all: the trace holds raw program counters and a map of the modules with their build ids. For programs that cannot spare
    /// the time and memory (a few hundred milliseconds and some 50 MB for a large binary with debug information).
    Never,
}

/// How to trace: a builder. `Tracer::new().start(sink)` is [`start`](crate::start).
///
/// ```no_run
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// exectrace::Tracer::new()
///     .stack_depth(32)
///     .generation_period(Duration::from_millis(250))
///     .start(std::fs::File::create("trace.out")?)?;
/// # exectrace::stop()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a tracer does nothing before `start`"]
pub struct Tracer {
    version: Version,
    period: Duration,
    stack_depth: usize,
    heap_quantum: usize,
    buffer_bytes: usize,
    symbolize: Symbolize,
    sample_hz: u32,
    memory_limit: Option<u64>,
    memory_every: Duration,
    record: u32,
    allocations: allocations::Options,
    black_box: Option<i32>,
}

impl Default for Tracer {
    fn default() -> Tracer {
        Tracer::new()
    }
}

impl Tracer {
    /// The defaults: everything is recorded, for Go 1.23 and later.
    pub const fn new() -> Tracer {
        Tracer {
            version: Version::Go123,
            period: Duration::from_secs(1),
            stack_depth: STACK_DEPTH,
            heap_quantum: HEAP_QUANTUM,
            buffer_bytes: BUFFER_BYTES,
            symbolize: Symbolize::Live,
            sample_hz: SAMPLE_HZ,
            memory_limit: None,
            memory_every: MEMORY_EVERY,
            record: RECORD_HEAP | RECORD_BLOCKING | RECORD_SYSCALLS,
            allocations: allocations::Options::DEFAULT,
            black_box: None,
        }
    }

    /// The version of the format. Go 1.23's (the default) is read by Go 1.23 and later and by every other tool; 1.26's by Go 1.26
    /// and later, where it brings the wall clock and generations that end with a mark. [`start`](Tracer::start) refuses 1.22,
    /// which cannot name goroutines.
    pub const fn version(mut self, version: Version) -> Tracer {
        self.version = version;
        self
    }

    /// How long a generation lasts; 1 s by default, at least 50 µs. What a killed process loses is at most one generation.
    pub const fn generation_period(mut self, period: Duration) -> Tracer {
        self.period = period;
        self
    }

    /// The most frames of a stack, up to 128; 64 by default. 0 records no stacks.
    pub const fn stack_depth(mut self, frames: usize) -> Tracer {
        self.stack_depth = frames;
        self
    }

    /// By how many bytes a thread's live heap must move before the heap curve shows it; 64 KiB by default. The curve is true to
    /// within the number of threads times this.
    pub const fn heap_quantum(mut self, bytes: usize) -> Tracer {
        self.heap_quantum = bytes;
        self
    }

    /// The most memory that buffers may take; 64 MiB by default, at least 1 MiB. When the sink is slower than the program, events
    /// beyond it are lost, and counted.
    pub const fn buffer_bytes(mut self, bytes: usize) -> Tracer {
        self.buffer_bytes = bytes;
        self
    }

    /// When stacks are given names.
    pub const fn symbolize(mut self, when: Symbolize) -> Tracer {
        self.symbolize = when;
        self
    }

    /// How often each thread is sampled per second of its CPU time; 100 by default, at most 1000, 0 for never. There are no samples
    /// if the program handles `SIGPROF` itself.
    ///
    /// Samples are taken in a signal handler. Calls that a signal interrupts and that the kernel does not begin anew (`poll`, `select`,
    /// `epoll_wait`, `nanosleep`, reads with a timeout; see signal(7)) may then return `EINTR`, rarely: a thread that sleeps uses no CPU
    /// time. Rust's library and async runtimes call again; C code that does not wants 0 here.
    pub const fn cpu_sample_hz(mut self, hz: u32) -> Tracer {
        self.sample_hz = hz;
        self
    }

    /// CPU time between two samples, in nanoseconds; 0 if none are asked for.
    const fn sample_period_ns(&self) -> u64 {
        match self.sample_hz {
            0 => 0,
            hz if hz > SAMPLE_HZ_MAX => 1_000_000_000 / SAMPLE_HZ_MAX as u64,
            hz => 1_000_000_000 / hz as u64,
        }
    }

    /// The limit in bytes that the heap's goal shows when there is no GC heap. By default that of the control group, if it has one.
    pub const fn memory_limit(mut self, bytes: u64) -> Tracer {
        self.memory_limit = Some(bytes);
        self
    }

    /// How often the process's memory as the system sees it is recorded: the resident set by kind, what the allocator has committed, the
    /// control group and its limits, stalls and page faults. 100 ms by default, zero for never. The tracer's thread reads it, in some
    /// 50 µs; what takes the kernel longer is read once a second at the most. `exectrace heap why-rss` answers from it.
    pub const fn memory_every(mut self, every: Duration) -> Tracer {
        self.memory_every = every;
        self
    }

    /// Whether the heap's size is recorded; it is by default, where [`Alloc`](crate::Alloc) is the global allocator.
    pub const fn heap(self, on: bool) -> Tracer {
        self.recording(RECORD_HEAP, on)
    }

    /// Which allocations are recorded, beside the heap's size; none by default. They need [`Alloc`](crate::Alloc) as the global
    /// allocator, and are what `exectrace heap` answers from. What the trace's own writer allocates is not among them.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use exectrace::{Allocations, Tracer};
    ///
    /// // For ever, in production:
    /// let production = Tracer::new().allocations(Allocations::SAMPLED);
    /// // To the last byte, while looking for something:
    /// let investigation = Tracer::new().allocations(Allocations::All);
    /// # production.start(std::io::sink())?;
    /// # Ok(()) }
    /// ```
    pub const fn allocations(mut self, which: Allocations) -> Tracer {
        self.allocations.which = which;
        self
    }

    /// Whether frees are recorded with their stacks, beside those of the allocations; they are by default. Without them recording
    /// [all](Allocations::All) allocations costs about a third less.
    pub const fn free_stacks(mut self, on: bool) -> Tracer {
        self.allocations.free_stacks = on;
        self
    }

    /// How long an allocation may wait for room when the sink is slower than the program; not at all by default: then it goes
    /// unrecorded, and counts in [`Stats::lost_allocations`]. Once a thread has waited so long in vain it does not wait again before it has
    /// found room. Nothing else than the recording of allocations ever waits.
    pub const fn back_pressure(mut self, at_most: Duration) -> Tracer {
        self.allocations.wait = at_most;
        self
    }

    /// Whether waiting and waking are recorded; they are by default, where [`interpose!`](crate::interpose) is in place.
    pub const fn blocking(self, on: bool) -> Tracer {
        self.recording(RECORD_BLOCKING, on)
    }

    /// Whether system calls are recorded; they are by default, where [`interpose!`](crate::interpose) is in place.
    pub const fn syscalls(self, on: bool) -> Tracer {
        self.recording(RECORD_SYSCALLS, on)
    }

    /// The file of the black box: for the preload library.
    #[doc(hidden)]
    pub const fn __black_box(mut self, file: i32) -> Tracer {
        self.black_box = Some(file);
        self
    }

    const fn recording(mut self, what: u32, on: bool) -> Tracer {
        self.record = if on { self.record | what } else { self.record & !what };
        self
    }

    /// Begins to trace into `sink`.
    ///
    /// The sink is written to by a thread of the tracer's, a generation at a time, and dropped by [`stop`](crate::stop). It may be
    /// slow, fail or panic: the program does not wait for it.
    ///
    /// While a [flight recorder](crate::FlightRecorder) is on, the trace is of what that records, in its way: these options then
    /// count for nothing.
    ///
    /// # Errors
    /// [`StartError::AlreadyOn`] if a trace is on, or has failed and was not yet stopped; other variants if the system refuses
    /// something.
    pub fn start(self, sink: impl Write + Send + 'static) -> Result<(), StartError> {
        self.start_boxed(Box::new(sink))
    }

    fn start_boxed(self, sink: Sink) -> Result<(), StartError> {
        if self.version < Version::Go123 {
            return Err(StartError::Version(self.version));
        }
        if thread::is_tracers() {
            return Err(StartError::InSink);
        }
        self.start_inside(sink)
    }

    /// For who is not the program, and no sink.
    pub(crate) fn start_inside(self, sink: Sink) -> Result<(), StartError> {
        match claim(|running| !running.trace && is_enabled()) {
            None => Err(StartError::AlreadyOn),
            Some(None) => self.begin_state(Some(sink), None),
            // A flight recorder is on: the trace begins with its next generation.
            Some(Some(mut running)) => {
                let _internal = Internal::enter();
                running.shared.carry_out(Order::BeginTrace(sink));
                running.trace = true;
                *STATE.lock() = State::Running(running);
                Ok(())
            }
        }
    }

    /// Begins to trace, where nobody does and the state says so.
    fn begin_state(mut self, sink: Option<Sink>, flight: Option<Arc<Ring>>) -> Result<(), StartError> {
        self.bound();
        QUANTUM.store(self.heap_quantum as u64, Ordering::Relaxed);
        // The caller's own part in the trace begins with this. The curve begins with what the caller has not told yet: where it is the
        // main thread that is nearly all there is.
        if let Some(t) = thread::current_or_attach()
            && !t.internal.load(Ordering::Relaxed)
            && t.heap.net() != 0
        {
            allocations::publish(t);
        }
        let targets = Targets { sink, flight };
        let result = match Internal::enter() {
            Some(internal) => self.begin(targets, &internal),
            None => Err((StartError::OutOfMemory, targets)),
        };
        let (state, result, targets) = match result {
            Ok(running) => (State::Running(running), Ok(()), None),
            Err((e, targets)) => {
                QUANTUM.store(HEAP_QUANTUM as u64, Ordering::Relaxed);
                (State::Idle, Err(e), Some(targets))
            }
        };
        *STATE.lock() = state;
        drop(targets);
        result
    }

    /// Brings options that stand for "no limit" to values that can be reckoned with.
    fn bound(&mut self) {
        const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        self.period = self.period.clamp(PERIOD_MIN, LONG);
        self.memory_every = self.memory_every.min(LONG);
        self.heap_quantum = self.heap_quantum.clamp(1, 1 << 60);
        self.buffer_bytes = self.buffer_bytes.min(BUFFER_BYTES_MAX);
    }

    fn begin(self, targets: Targets, _internal: &Internal) -> Result<Running, (StartError, Targets)> {
        watch_forks();
        barrier::prepare();
        clock::prepare();
        stacks::prepare(self.stack_depth.min(MAX_FRAMES));
        reasons::prepare();
        let mut calibration = clock::Calibration::new();
        let generation = LAST_GENERATION.load(Ordering::Relaxed) + 1;
        if generation >= state::GEN_MAX {
            return Err((StartError::Exhausted, targets));
        }
        let mapping = calibration.mapping();
        // SAFETY: no generation is open.
        unsafe { CLOCK.set((generation & 1) as usize, mapping) };
        let opened_ns = mapping.ns(clock::ticks());
        let is_boxed =
            self.black_box.is_some_and(|file| black_box::open(file, self.buffer_bytes, self.version.minor()));
        black_box::opens(generation, [opened_ns, clock::monotonic_ns(), clock::realtime_ns()]);
        let pool = Arc::new(Pool::new(self.buffer_bytes, is_boxed));
        let resolve = match self.symbolize {
            Symbolize::Live if modules::is_inherited() => Resolve::Raw,
            Symbolize::Live => Resolve::Symbols(Box::new(Symbolizer::new())),
            Symbolize::Never => Resolve::Raw,
        };
        gauges::set_limit(self.memory_limit.or_else(cgroup::memory_limit).unwrap_or(0));
        TRACE.fetch_add(1, Ordering::Relaxed);
        RECORD.store(self.record, Ordering::Relaxed);
        thread::begin_trace(TRACE.load(Ordering::Relaxed), || announce(generation));
        let shared = Arc::new(Shared::new(pool.clone()));
        let (trace, flight) = (targets.sink.is_some(), targets.flight.is_some());
        let opening = Opening {
            version: self.version,
            pool: pool.clone(),
            calibration,
            tables: Tables::new(resolve),
            generation,
            opened_ns,
            gc_active: WORLD.lock().begin_trace(),
            heap_quantum: self.heap_quantum as u64,
            sample_period_ns: self.sample_period_ns(),
            memory_every: self.memory_every,
        };
        let period = self.period.max(PERIOD_MIN);
        let job = Job { shared: shared.clone(), period, input: Some((opening, targets)), outcome: None };
        let slot = Box::into_raw(Box::new(Some(job)));
        // SAFETY: the slot stays until the thread has been joined, and nobody else touches it before; `main` catches panics.
        let spawned = unsafe { os::OwnThread::spawn(writer::main, slot.cast()) };
        let thread = match spawned {
            Ok(t) => t,
            Err(errno) => {
                thread::end_trace();
                black_box::close();
                // SAFETY: the thread does not exist, so the box is ours again.
                let job = unsafe { Box::from_raw(slot) };
                let none = Targets { sink: None, flight: None };
                let targets = job.and_then(|job| job.input).map_or(none, |(_, targets)| targets);
                return Err((StartError::Thread(io::Error::from_raw_os_error(errno)), targets));
            }
        };
        let samples_wanted = self.sample_hz > 0 && samples::prepare();
        SAMPLE_PERIOD_NS.store(if samples_wanted { self.sample_period_ns() } else { 0 }, Ordering::Relaxed);
        POOL.store(Arc::as_ptr(&pool).cast_mut(), Ordering::Release);
        GENERATION.set(generation);
        allocations::begin(&self.allocations);
        shared.opened.store(true, Ordering::Release);
        pool.bell.ring();
        for t in thread::all() {
            if t.life.load(Ordering::Acquire) == life::ALIVE
                && t.go_trace.load(Ordering::Relaxed) == TRACE.load(Ordering::Relaxed)
            {
                samples::watch(t);
            }
        }
        Ok(Running { shared, slot, thread: Some(thread), trace, flight })
    }
}

/// Tells the coming trace of the threads that exist: they get a status in its first generation, from themselves or from the closer.
fn announce(generation: u32) {
    let trace = TRACE.load(Ordering::Relaxed);
    for t in thread::all() {
        // Without an id it is being made, and will announce itself.
        let alive = t.life.load(Ordering::Acquire) == life::ALIVE && t.tid.load(Ordering::Relaxed) != 0;
        if !alive || t.internal.load(Ordering::Relaxed) || t.busy.load(Ordering::Relaxed) == busy::TRACER {
            continue;
        }
        let (go, processor) = match t.activity.load(Ordering::Relaxed) {
            activity::WAITING => (GoStatus::Waiting, ProcStatus::Idle),
            activity::SYSCALL => (GoStatus::Syscall, ProcStatus::Syscall),
            _ => (GoStatus::Running, ProcStatus::Running),
        };
        t.go.set(Word::known_before(generation, state::go(go)));
        t.processor.set(Word::known_before(generation, state::processor(processor)));
        t.go_trace.store(trace, Ordering::Release);
        t.processor_trace.store(trace, Ordering::Release);
    }
}

struct Running {
    shared: Arc<Shared>,
    slot: *mut Option<Job>,
    thread: Option<os::OwnThread>,
    /// Who gets it: a trace that was started and not stopped, a flight recorder, or both.
    trace: bool,
    flight: bool,
}

// SAFETY: the slot belongs to the writer's thread until it is joined, and then to whoever has the value.
unsafe impl Send for Running {}

enum State {
    Idle,
    /// Somebody starts or stops.
    Busy,
    Running(Running),
}

static STATE: Lock<State> = Lock::new(State::Idle);
/// The last generation that was ever open: numbers are never used twice. Written by whoever stops.
static LAST_GENERATION: AtomicU32 = AtomicU32::new(0);

/// Set while the state is this process's own: a child that nobody was told of has a copy of its parent's, whose tracer it cannot
/// reach. Set from the first start on.
static HERE: OfProcess<AtomicU32> = OfProcess::new(AtomicU32::new(0));
/// Whether [`HERE`] is set, and tells.
static HERE_TELLS: AtomicU32 = AtomicU32::new(0);

/// Whether this is the child of a fork that the C library did not make. Nothing is recorded in it, and nothing can be.
fn is_orphan() -> bool {
    HERE_TELLS.load(Ordering::Relaxed) != 0 && HERE.load(Ordering::Relaxed) == 0
}

/// Whether a trace is on and has not failed.
pub(crate) fn is_enabled() -> bool {
    GENERATION.is_open()
}

/// See [`stop`](crate::stop).
pub(crate) fn stop() -> Result<Stats, StopError> {
    if thread::is_tracers() {
        return Err(StopError::InSink);
    }
    stop_inside()
}

/// The same for who is not the program, and no sink.
pub(crate) fn stop_inside() -> Result<Stats, StopError> {
    if is_orphan() {
        return Err(StopError::NotOn);
    }
    let mut running = match claim(|running| running.trace) {
        Some(Some(running)) => running,
        Some(None) => {
            *STATE.lock() = State::Idle;
            return Err(StopError::NotOn);
        }
        None => return Err(StopError::NotOn),
    };
    let internal = Internal::enter();
    let (end, state) = if running.flight {
        running.shared.carry_out(Order::EndTrace);
        running.trace = false;
        let end = writer::lock(&running.shared.ended).take();
        (end, State::Running(running))
    } else {
        (finish(running), State::Idle)
    };
    *STATE.lock() = state;
    let Some(end) = end else {
        let error = io::Error::other("the tracer's thread failed");
        return Err(StopError::Sink { error, stats: Stats::default() });
    };
    let stats = Stats {
        bytes: end.bytes,
        generations: end.generations,
        lost_events_full: end.lost.full,
        lost_events_reentrant: end.lost.reentrant,
        lost_samples: end.lost.samples,
        lost_allocations: end.lost.allocations,
        stacks_lost: stacks::lost(),
        unmatched_waits: UNMATCHED.load(Ordering::Relaxed),
    };
    drop(internal);
    drop(end.sink);
    match end.error {
        None => Ok(stats),
        Some(error) => Err(StopError::Sink { error, stats }),
    }
}

/// Takes the state to change it, if it is idle (`Some(None)`) or running such as `wanted`. Who has taken it puts one back. `None`, and
/// nothing is taken, if it is otherwise. Waits for who is changing it. Not for a sink, which that one may be waiting for.
fn claim(wanted: impl FnOnce(&Running) -> bool) -> Option<Option<Running>> {
    if is_orphan() {
        return None;
    }
    let mut state = settled();
    let fits = match &*state {
        State::Idle => true,
        State::Busy => false,
        State::Running(running) => wanted(running),
    };
    if !fits {
        return None;
    }
    match core::mem::replace(&mut *state, State::Busy) {
        State::Running(running) => Some(Some(running)),
        _ => Some(None),
    }
}

/// The state, when nobody is changing it.
fn settled() -> Held<'static, State> {
    loop {
        let state = STATE.lock();
        if !matches!(*state, State::Busy) {
            return state;
        }
        drop(state);
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Begins a flight recorder, beside a trace or alone.
pub(crate) fn start_flight(tracer: Tracer, ring: Arc<Ring>) -> Result<(), StartError> {
    if tracer.version < Version::Go123 {
        return Err(StartError::Version(tracer.version));
    }
    if thread::is_tracers() {
        return Err(StartError::InSink);
    }
    match claim(|running| !running.flight && is_enabled()) {
        None => Err(StartError::AlreadyOn),
        Some(None) => tracer.begin_state(None, Some(ring)),
        Some(Some(mut running)) => {
            let _internal = Internal::enter();
            running.shared.carry_out(Order::Flight(Some(ring)));
            running.flight = true;
            *STATE.lock() = State::Running(running);
            Ok(())
        }
    }
}

/// Ends the flight recorder. A trace beside it goes on.
pub(crate) fn stop_flight() {
    // From inside of a sink it would wait for itself: then it goes on, and keeps what nobody can ask for.
    if !thread::is_tracers() {
        stop_flight_inside();
    }
}

/// The same for who is not the program, and no sink.
pub(crate) fn stop_flight_inside() {
    let state = match claim(|running| running.flight) {
        // In the child of a fork, where it is not on.
        None => return,
        Some(None) => State::Idle,
        Some(Some(mut running)) => {
            let _internal = Internal::enter();
            running.flight = false;
            if running.trace {
                running.shared.carry_out(Order::Flight(None));
                State::Running(running)
            } else {
                drop(finish(running));
                State::Idle
            }
        }
    };
    *STATE.lock() = state;
}

/// Ends tracing. What came of the trace, if one was on and the writer's thread did not fail.
fn finish(mut running: Running) -> Option<TraceEnd> {
    running.shared.stop.store(true, Ordering::Release);
    running.shared.pool.bell.ring();
    if let Some(thread) = running.thread.take() {
        thread.join();
    }
    allocations::end();
    thread::end_trace();
    SAMPLE_PERIOD_NS.store(0, Ordering::Relaxed);
    QUANTUM.store(HEAP_QUANTUM as u64, Ordering::Relaxed);
    for t in thread::all() {
        samples::unwatch(t);
    }
    // The writer is gone, the generation closed and every section ended: nobody uses the pool.
    POOL.store(core::ptr::null_mut(), Ordering::Release);
    black_box::close();
    // SAFETY: the thread has been joined, so the box is ours.
    let job = unsafe { Box::from_raw(running.slot) };
    let Some(outcome) = job.and_then(|job| job.outcome) else {
        // How far it came is known by the threads that were there.
        LAST_GENERATION.fetch_max(thread::last_adopted() + 1, Ordering::Relaxed);
        return None;
    };
    LAST_GENERATION.fetch_add(outcome.generations + 1, Ordering::Relaxed);
    outcome.trace
}

/// Asks for the open generation to be closed now, and waits until it has been written. Does nothing when tracing is off, or is
/// being stopped, or when the sink itself calls it.
pub(crate) fn flush() {
    if !thread::is_tracers() {
        flush_inside();
    }
}

/// The same for who is not the program, and no sink.
pub(crate) fn flush_inside() {
    if is_orphan() {
        return;
    }
    let _internal = Internal::enter();
    let shared = match &*settled() {
        State::Running(running) => running.shared.clone(),
        _ => return,
    };
    // A closing that is under way may have begun before this call: wait for the one after it.
    let enough = shared.closed.load(Ordering::Acquire) + 2;
    while is_enabled() && shared.closed.load(Ordering::Acquire) < enough && !shared.stop.load(Ordering::Acquire) {
        shared.advance.store(true, Ordering::Release);
        shared.pool.bell.ring();
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Has the tracer told of forks, from the first call on. May allocate, in libc.
pub(crate) fn watch_forks() {
    os::on_fork(thread::forks, thread::forked, in_child);
    // The first makes the others worth the while, and all go the same way.
    if HERE_TELLS.load(Ordering::Relaxed) == 0 && HERE.keep_from_children() {
        GENERATION.keep_from_children();
        black_box::keep_from_children();
        HERE.store(1, Ordering::Relaxed);
        HERE_TELLS.store(1, Ordering::Relaxed);
    }
}

/// In the child of a `fork`: it is not traced, and its tracer is as new.
pub(crate) extern "C" fn in_child() {
    // Numbers of generations are not used twice: the next one comes after all that any thread was in.
    // What is open is not known here any more; it is the last that a thread was in, or the next.
    LAST_GENERATION.fetch_max(thread::last_adopted() + 2, Ordering::Relaxed);
    GENERATION.set(0);
    HERE.store(HERE_TELLS.load(Ordering::Relaxed), Ordering::Relaxed);
    black_box::leave();
    allocations::end();
    super::section::CLOSING.store(0, Ordering::Relaxed);
    POOL.store(core::ptr::null_mut(), Ordering::Relaxed);
    SAMPLE_PERIOD_NS.store(0, Ordering::Relaxed);
    // SAFETY: the child's only thread; the state is overwritten.
    unsafe { STATE.reset() };
    // What ran belongs to the parent: its sink must not be dropped here, or its bytes might be written twice.
    let before = core::mem::replace(&mut *STATE.lock(), State::Idle);
    if !matches!(before, State::Idle) {
        // The tracer's thread may have held the lock of the `backtrace` crate or that of the loader, which then nobody gives back. So the
        // child's own traces have raw program counters.
        modules::inherit();
    }
    core::mem::forget(before);
    // SAFETY: the child's only thread; the world is overwritten at the next start.
    unsafe { WORLD.reset() };
    // SAFETY: in the child, by the thread that forked.
    unsafe { super::string_table::after_fork() };
    // What other threads were writing there will never be finished.
    samples::forget();
    gauges::forget();
    (0..2).for_each(super::obituary::forget);
    // SAFETY: as above.
    unsafe { thread::after_fork() };
    thread::IN_CHILD.call();
}
