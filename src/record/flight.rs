//! The flight recorder: the last seconds of a trace that nobody writes anywhere, kept in memory until somebody asks.
//!
//! Each generation says what state everything is in when it begins, so that any run of generations is a trace. The recorder
//! keeps the last ones, whole, within its bounds. A trace into a sink may be on beside it: both get the same generations.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

mod trigger;
pub(crate) use trigger::allocation_failed;
pub use trigger::{Fired, Trigger};
use trigger::{Hunter, Plan, Watch};

use super::ending::StartError;
use super::thread::Internal;
use super::tracer::{self, Tracer};
use crate::format::Version;
use crate::sys::clock;

/// Default of [`FlightRecorder::max_bytes`] and [`FlightRecorder::min_age`]: Go's.
const MAX_BYTES: usize = 10 << 20;
const MIN_AGE: Duration = Duration::from_secs(10);
/// A generation is closed when it has so large a part of the bound: what is dropped at once is not much.
const PARTS: usize = 8;

/// Keeps the last seconds of a trace in memory: a builder. Go has the same since 1.25.
///
/// ```
/// use std::time::Duration;
/// use exectrace::FlightRecorder;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let flight = FlightRecorder::new().max_bytes(16 << 20).min_age(Duration::from_secs(5)).start()?;
/// // The program runs. When something is wrong:
/// exectrace::log("trouble", "a request took 2 s");
/// let mut trace = Vec::new(); // or a file
/// let snapshot = flight.snapshot_to(&mut trace)?;
/// assert!(snapshot.generations >= 1 && snapshot.bytes == trace.len() as u64);
/// flight.stop();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a flight recorder does nothing before `start`"]
pub struct FlightRecorder {
    max_bytes: usize,
    min_age: Duration,
    tracer: Tracer,
    /// Where there are triggers.
    plan: Option<Box<Plan>>,
}

impl Default for FlightRecorder {
    fn default() -> FlightRecorder {
        FlightRecorder::new()
    }
}

impl FlightRecorder {
    /// 10 MiB, 10 seconds, everything recorded.
    pub const fn new() -> FlightRecorder {
        FlightRecorder { max_bytes: MAX_BYTES, min_age: MIN_AGE, tracer: Tracer::new(), plan: None }
    }

    /// The most bytes that are kept; at least 64 KiB. What is older is dropped first, also when that leaves less than the
    /// [least age](FlightRecorder::min_age). While a snapshot is being written, what it writes is kept beside that.
    pub const fn max_bytes(mut self, bytes: usize) -> FlightRecorder {
        self.max_bytes = if bytes < 64 << 10 { 64 << 10 } else { bytes };
        self
    }

    /// How far back a snapshot is to reach at least, if the bytes suffice. What is older is dropped even if there is room.
    pub const fn min_age(mut self, age: Duration) -> FlightRecorder {
        self.min_age = age;
        self
    }

    /// What is recorded and how; [`Tracer::new`] by default. A trace that is on already has its own way, and the recorder that.
    pub fn tracer(mut self, tracer: Tracer) -> FlightRecorder {
        self.tracer = tracer;
        self
    }

    fn planned(&mut self) -> &mut Plan {
        self.plan.get_or_insert_default()
    }

    /// Takes a snapshot by itself when this happens; may be given often. The snapshots are files, see
    /// [`snapshots_at`](FlightRecorder::snapshots_at).
    ///
    /// Nothing of it is on the program's paths: the tracer's thread looks for what took too long when it closes a generation. So a
    /// snapshot comes at most one [period](Tracer::generation_period) after the moment that it is of, plus the time of writing it.
    ///
    /// ```no_run
    /// use exectrace::{FlightRecorder, Trigger};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let flight = FlightRecorder::new()
    ///     .on(Trigger::Region(Duration::from_millis(200)))
    ///     .on(Trigger::Panic)
    ///     .snapshots_at("/var/tmp/server")
    ///     .then(|fired| eprintln!("{} at {} %: {}", fired.trigger.name(), fired.score, fired.path.display()))
    ///     .start()?;
    /// # drop(flight);
    /// # Ok(()) }
    /// ```
    pub fn on(mut self, trigger: Trigger) -> FlightRecorder {
        self.planned().triggers.push(trigger);
        self
    }

    /// What the paths of snapshots that are taken by themselves begin with; `exectrace` in the current directory by default. The rest
    /// is why, and how bad it was: `exectrace.snapshot-region-250.trace`, in percent of the limit.
    pub fn snapshots_at(mut self, prefix: impl Into<PathBuf>) -> FlightRecorder {
        self.planned().prefix = prefix.into();
        self
    }

    /// The least time between two snapshots that are taken by themselves; 30 seconds by default.
    pub fn cooldown(mut self, time: Duration) -> FlightRecorder {
        self.planned().cooldown = time;
        self
    }

    /// How many of them are kept, those with the highest scores; 5 by default, at least 1.
    pub fn keep(mut self, snapshots: usize) -> FlightRecorder {
        self.planned().keep = snapshots.max(1);
        self
    }

    /// Calls `f` with each of them, when it is written: to upload it, say. It runs on a thread of the recorder's, and takes the place of
    /// other triggers as long as it runs. For [`Trigger::Panic`] it runs inside of the panic's hook, on the thread that panics: there a
    /// panic of `f` itself ends the process, as in any panic hook.
    pub fn then(mut self, f: impl Fn(&Fired) + Send + Sync + 'static) -> FlightRecorder {
        self.planned().then = Some(Arc::new(f));
        self
    }

    /// Begins to record.
    ///
    /// # Errors
    /// [`StartError::AlreadyOn`] if a flight recorder is on; else as [`Tracer::start`].
    pub fn start(self) -> Result<Flight, StartError> {
        let ring = Arc::new(Ring {
            max_bytes: self.max_bytes,
            min_age_ns: u64::try_from(self.min_age.as_nanos()).unwrap_or(u64::MAX),
            kept: Mutex::new(Kept { version: Version::Go123, generations: VecDeque::new(), bytes: 0 }),
            watch: OnceLock::new(),
        });
        tracer::start_flight(self.tracer, ring.clone())?;
        let mut flight = Flight { ring: Some(ring.clone()), hunter: None };
        if let Some(plan) = self.plan.filter(|plan| !plan.triggers.is_empty()) {
            let internal = Internal::enter();
            let hunter = Hunter::start(*plan, &ring);
            drop(internal);
            // Without its thread the recorder is not what was asked for: it is dropped.
            let hunter = hunter.map_err(StartError::Thread)?;
            let _ = ring.watch.set(hunter.watch().clone());
            flight.hunter = Some(hunter);
        }
        Ok(flight)
    }
}

/// A flight recorder that is on. It goes on until [`stop`](Flight::stop), or until this is dropped.
#[derive(Debug)]
pub struct Flight {
    /// Taken by `stop`.
    ring: Option<Arc<Ring>>,
    /// Where there are triggers.
    hunter: Option<Hunter>,
}

/// What a snapshot has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Bytes written.
    pub bytes: u64,
    /// Generations written.
    pub generations: u32,
    /// How far back it reaches.
    pub age: Duration,
}

impl Flight {
    /// Writes what is kept as a trace, up to this call. The program goes on meanwhile, and so does the recorder; others may write
    /// snapshots at the same time.
    ///
    /// # Errors
    /// The first error of the writer; [`io::ErrorKind::NotConnected`] if the recorder is not on any more (in the child of a `fork`).
    pub fn snapshot_to(&self, mut to: impl Write) -> io::Result<Snapshot> {
        let ring = self.ring.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if !tracer::is_enabled() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the flight recorder is not on"));
        }
        tracer::flush();
        let internal = Internal::enter();
        let (version, generations, first) = ring.parts();
        let age = Duration::from_nanos(clock::monotonic_ns().saturating_sub(first));
        let mut snapshot = Snapshot { generations: generations.len() as u32, age, ..Snapshot::default() };
        // The writer is the program's.
        let mut write = |bytes: &[u8]| -> io::Result<()> {
            match &internal {
                Some(internal) => internal.as_program(|| to.write_all(bytes))?,
                None => to.write_all(bytes)?,
            }
            snapshot.bytes += bytes.len() as u64;
            Ok(())
        };
        write(&version.header())?;
        generations.iter().try_for_each(|g| write(g))?;
        match &internal {
            Some(internal) => internal.as_program(|| to.flush())?,
            None => to.flush()?,
        }
        Ok(snapshot)
    }

    /// Ends the recording, and forgets what was kept. A trace that is on beside it goes on.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let is_own = self.hunter.take().is_some_and(Hunter::stop);
        if let Some(ring) = self.ring.take() {
            if is_own {
                tracer::stop_flight_inside()
            } else {
                tracer::stop_flight()
            }
            let _internal = Internal::enter();
            drop(ring);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is kept.
pub(crate) struct Ring {
    max_bytes: usize,
    min_age_ns: u64,
    kept: Mutex<Kept>,
    /// Who goes over each generation. Set at start, if at all.
    watch: OnceLock<Arc<Watch>>,
}

struct Kept {
    version: Version,
    generations: VecDeque<Generation>,
    bytes: usize,
}

struct Generation {
    bytes: Arc<[u8]>,
    /// On the monotonic clock.
    opened_ns: u64,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here panics while it is held; were it so, the queue would still be a queue.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How large a generation may be before it had better be closed.
    pub(crate) fn generation_bytes(&self) -> usize {
        self.max_bytes / PARTS
    }

    /// Takes a generation in that began at `opened_ns`, and drops what is too old or too much. The writer's thread.
    pub(crate) fn push(&self, version: Version, parts: [&[u8]; 3], opened_ns: u64) {
        self.keep(version, parts, opened_ns);
        // Behind that, so that a snapshot has what it is taken for.
        if let Some(watch) = self.watch.get() {
            watch.closed(parts);
        }
    }

    /// What is kept, oldest first, and when that began.
    fn parts(&self) -> (Version, Vec<Arc<[u8]>>, u64) {
        let kept = self.lock();
        let first = kept.generations.front().map_or(0, |g| g.opened_ns);
        (kept.version, kept.generations.iter().map(|g| g.bytes.clone()).collect(), first)
    }

    /// Writes what is kept as a trace.
    fn write_to(&self, mut to: impl Write) -> io::Result<()> {
        let (version, generations, _) = self.parts();
        to.write_all(&version.header())?;
        generations.iter().try_for_each(|g| to.write_all(g))?;
        to.flush()
    }

    fn keep(&self, version: Version, parts: [&[u8]; 3], opened_ns: u64) {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        let mut bytes = Vec::with_capacity(len);
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let mut kept = self.lock();
        kept.version = version;
        kept.bytes += len;
        kept.generations.push_back(Generation { bytes: bytes.into(), opened_ns });
        let now_ns = clock::monotonic_ns();
        loop {
            let next_reaches =
                kept.generations.get(1).is_some_and(|g| g.opened_ns.saturating_add(self.min_age_ns) <= now_ns);
            if kept.bytes <= self.max_bytes && !next_reaches {
                return;
            }
            let Some(oldest) = kept.generations.pop_front() else { return };
            kept.bytes -= oldest.bytes.len();
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(max_bytes: usize, min_age_ns: u64) -> Ring {
        Ring {
            max_bytes,
            min_age_ns,
            kept: Mutex::new(Kept { version: Version::Go123, generations: VecDeque::new(), bytes: 0 }),
            watch: OnceLock::new(),
        }
    }

    #[test]
    fn the_bound_of_bytes_comes_before_the_age() {
        let ring = ring(1000, u64::MAX);
        for i in 0..20u8 {
            ring.push(Version::Go123, [&[i; 100], &[i; 50], &[i; 50]], clock::monotonic_ns());
            let kept = ring.lock();
            assert_eq!(kept.bytes, kept.generations.iter().map(|g| g.bytes.len()).sum::<usize>());
            assert_eq!(kept.generations.len(), (usize::from(i) + 1).min(5));
            assert_eq!(kept.generations.back().map(|g| (g.bytes.len(), g.bytes[199])), Some((200, i)));
        }
        // One that is larger than all: nothing is kept rather than too much.
        ring.push(Version::Go123, [&[0; 600], &[0; 600], &[]], clock::monotonic_ns());
        let kept = ring.lock();
        assert_eq!((kept.bytes, kept.generations.len()), (0, 0));
    }

    #[test]
    fn what_reaches_back_far_enough_is_enough() {
        let ring = ring(1 << 20, 1_000_000_000);
        let now = clock::monotonic_ns();
        for seconds_ago in (0..10u64).rev() {
            ring.push(Version::Go123, [&[1; 10], &[], &[]], now.saturating_sub(seconds_ago * 500_000_000));
        }
        // Those that began 1.0, 0.5 and 0 s ago: the first reaches back a second.
        assert_eq!(ring.lock().generations.len(), 3);
    }
}
