//! The writer's thread: takes full buffers in, closes generations, and gives their bytes to the user's sink.
//!
//! It is the one thread of the tracer's own. It runs as [`Internal`], so that what it allocates is no part of the program's heap;
//! the sink's own code runs as the program's.

use core::ffi::c_void;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::buffer::Pool;
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
}

/// What the thread is given.
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    pub(crate) period: Duration,
    /// Taken by the thread.
    pub(crate) input: Option<(Opening, Sink)>,
    /// Filled by the thread before it ends.
    pub(crate) outcome: Option<Outcome>,
}

/// What it leaves.
pub(crate) struct Outcome {
    pub(crate) sink: Sink,
    pub(crate) bytes: u64,
    pub(crate) generations: u32,
    pub(crate) lost: Lost,
    pub(crate) error: Option<io::Error>,
}

/// The thread's entry: `arg` is a `*mut Option<Job>` that nobody else touches until the thread has been joined.
pub(crate) extern "C" fn main(arg: *mut c_void) -> *mut c_void {
    os::set_own_name(c"exectrace");
    // SAFETY: see above.
    let slot = unsafe { &mut *arg.cast::<Option<Job>>() };
    let Some(internal) = Internal::enter() else { return core::ptr::null_mut() };
    if let Some(job) = slot
        && let Some((opening, sink)) = job.input.take()
    {
        let shared = job.shared.clone();
        let writer = Writer::new(shared.clone(), opening, sink, job.period, &internal);
        // A panic here would be a bug of ours; it ends the trace, not the program.
        match catch_unwind(AssertUnwindSafe(|| writer.run())) {
            Ok(outcome) => job.outcome = Some(outcome),
            Err(payload) => {
                super::generation::abandon(&shared.pool);
                core::mem::forget(payload);
            }
        }
    }
    drop(internal);
    core::ptr::null_mut()
}

struct Writer<'a> {
    shared: Arc<Shared>,
    sink: Sink,
    closer: Closer,
    internal: &'a Internal,
    period: Duration,
    bytes: u64,
    error: Option<io::Error>,
}

impl<'a> Writer<'a> {
    fn new(shared: Arc<Shared>, opening: Opening, sink: Sink, period: Duration, internal: &'a Internal) -> Writer<'a> {
        let closer = Closer::new(opening);
        Writer { shared, sink, closer, internal, period, bytes: 0, error: None }
    }

    fn run(mut self) -> Outcome {
        let shared = self.shared.clone();
        // The first write may fail, which ends the trace: that must not come before its beginning.
        while !shared.opened.load(Ordering::Acquire) {
            shared.pool.bell.wait(Duration::from_secs(1));
        }
        self.write();
        let mut next = Instant::now() + self.period;
        // Asked before the first wait too: a stop that came right after the start has rung together with it.
        while !shared.stop.load(Ordering::Acquire) {
            shared.pool.bell.wait(next.saturating_duration_since(Instant::now()));
            if shared.stop.load(Ordering::Acquire) {
                break;
            }
            self.closer.collect();
            if Instant::now() >= next || self.closer.is_large() || shared.advance.swap(false, Ordering::AcqRel) {
                self.close(false);
                next = Instant::now() + self.period;
            }
        }
        self.close(true);
        let Writer { sink, closer, bytes, error, .. } = self;
        let generations = closer.generations();
        Outcome { sink, bytes, generations, lost: closer.finish(), error }
    }

    fn close(&mut self, last: bool) {
        if self.error.is_none() {
            let last = last || self.closer.is_exhausted();
            self.closer.close(last);
            self.write();
            if last && self.closer.is_exhausted() && self.error.is_none() {
                self.error = Some(io::Error::other("the trace has no generation numbers left"));
            }
        }
        self.shared.closed.fetch_add(1, Ordering::Release);
    }

    /// Gives what has been put together to the sink. A failure ends the trace: it is kept for `stop`.
    fn write(&mut self) {
        let (sink, bytes, output) = (&mut self.sink, &mut self.bytes, self.closer.output());
        let result = self.internal.as_program(|| {
            let written = catch_unwind(AssertUnwindSafe(|| {
                for part in output {
                    write_all(sink, part, bytes)?;
                }
                sink.flush()
            }));
            written.unwrap_or_else(|_| Err(io::Error::other("the trace's writer panicked")))
        });
        if let Err(e) = result {
            self.error = Some(e);
            super::generation::abandon(&self.shared.pool);
        }
        self.closer.written(self.bytes);
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
