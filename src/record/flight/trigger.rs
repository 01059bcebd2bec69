//! Snapshots by themselves: what a flight recorder waits for, and what it does then.
//!
//! Nothing here is on a path of the program's. Long regions, calls and pauses are found by the tracer's thread, which goes over each
//! generation when it is closed: so they are seen one period after they ended, at the latest. Failed allocations are counted where
//! they fail. A thread of the recorder's own writes the snapshots and calls the program's function; only a panic's snapshot is
//! written by the thread that panics, since there may be no later.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, Weak};
use std::time::{Duration, Instant};

use super::Ring;
use crate::format::spans::{Span, Spans};
use crate::record::thread::{self, Internal};
use crate::record::writer::lock;
use crate::sys::event::Event;
use crate::sys::thread as os;

/// When a flight recorder takes a snapshot by itself: see [`FlightRecorder::on`](crate::FlightRecorder::on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// A [region](crate::Region) took longer than this.
    Region(Duration),
    /// A system call took longer than this.
    Syscall(Duration),
    /// A collector stopped the world for longer than this. A pause that is not over when a generation ends is cut off there, and
    /// found too short.
    GcPause(Duration),
    /// An allocation failed: [`Alloc`](crate::Alloc) had no memory to give.
    AllocationFailure,
    /// A thread panicked, whether the panic is then caught or not. The snapshot is written by the panicking thread, before the message.
    Panic,
}

impl Trigger {
    /// Its name in the names of files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Trigger::Region(_) => "region",
            Trigger::Syscall(_) => "syscall",
            Trigger::GcPause(_) => "gc-pause",
            Trigger::AllocationFailure => "alloc-failure",
            Trigger::Panic => "panic",
        }
    }

    /// The limit that is looked for in the events.
    fn limit(self) -> Option<(Span, Duration)> {
        match self {
            Trigger::Region(limit) => Some((Span::Region, limit)),
            Trigger::Syscall(limit) => Some((Span::Syscall, limit)),
            Trigger::GcPause(limit) => Some((Span::Pause, limit)),
            Trigger::AllocationFailure | Trigger::Panic => None,
        }
    }
}

/// A snapshot that was taken by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fired {
    /// Why.
    pub trigger: Trigger,
    /// How bad it is: percent of the limit; 100 where there is none.
    pub score: u64,
    /// The snapshot.
    pub path: PathBuf,
}

/// The program's function for snapshots.
pub(super) type Then = Arc<dyn Fn(&Fired) + Send + Sync>;

/// What to wait for, and what to do then.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) triggers: Vec<Trigger>,
    pub(super) cooldown: Duration,
    pub(super) keep: usize,
    /// What the snapshots' paths begin with.
    pub(super) prefix: PathBuf,
    pub(super) then: Option<Then>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("triggers", &self.triggers).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Default for Plan {
    fn default() -> Plan {
        let (triggers, prefix) = (Vec::new(), PathBuf::from("exectrace"));
        Plan { triggers, cooldown: Duration::from_secs(30), keep: 5, prefix, then: None }
    }
}

/// Allocations that failed, since the program began.
static FAILED: AtomicU64 = AtomicU64::new(0);
/// Rung with each, and with whatever else there is to do for the thread that waits.
static BELL: Event = Event::new();
/// Whether a watch wants to know of failed allocations.
static WANTS_FAILED: AtomicBool = AtomicBool::new(false);

/// An allocation has failed. From any hook.
#[cold]
pub(crate) fn allocation_failed() {
    FAILED.fetch_add(1, Ordering::Relaxed);
    if WANTS_FAILED.load(Ordering::Relaxed) {
        BELL.ring();
    }
}

/// How long the watch sleeps when nothing rings. Everything that is to wake it rings.
const IDLE: Duration = Duration::from_secs(3600);

/// The watch of one recorder.
pub(super) struct Watch {
    plan: Plan,
    ring: Weak<Ring>,
    /// The tracer's thread's.
    spans: Mutex<Spans>,
    /// The worst since it was last looked at.
    found: Mutex<Option<(Trigger, u64)>>,
    /// Held by whoever writes a snapshot: one at a time.
    taken: Mutex<Taken>,
    over: AtomicBool,
    /// Whose it is. A child has a copy, whose locks may be held by nobody, and none of the snapshots is its.
    process: u32,
    /// The kernel's id of the thread that waits.
    thread: AtomicU32,
    /// How many allocations had failed when it began.
    failed_before: u64,
}

#[derive(Debug, Default)]
struct Taken {
    last: Option<Instant>,
    /// Those that are kept, with their scores.
    kept: Vec<(u64, PathBuf)>,
}

/// The thread of a watch.
pub(super) struct Hunter {
    watch: Arc<Watch>,
    thread: Option<os::OwnThread>,
}

impl fmt::Debug for Hunter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hunter").field("plan", &self.watch.plan).finish_non_exhaustive()
    }
}

/// The watch that panics are told to.
static PANICS: Mutex<Option<Weak<Watch>>> = Mutex::new(None);

impl Hunter {
    /// Begins to watch what comes into `ring`. The calling thread is internal.
    pub(super) fn start(plan: Plan, ring: &Arc<Ring>) -> io::Result<Hunter> {
        let wants = |wanted: Trigger| plan.triggers.contains(&wanted);
        let (panics, failures) = (wants(Trigger::Panic), wants(Trigger::AllocationFailure));
        let watch = Arc::new(Watch {
            plan,
            ring: Arc::downgrade(ring),
            spans: Mutex::new(Spans::new(None)),
            found: Mutex::new(None),
            taken: Mutex::default(),
            over: AtomicBool::new(false),
            process: os::process_id(),
            thread: AtomicU32::new(0),
            failed_before: FAILED.load(Ordering::Relaxed),
        });
        WANTS_FAILED.store(failures, Ordering::Relaxed);
        let arg = Arc::into_raw(watch.clone());
        // SAFETY: `main` may run on any thread, takes the reference that it is given, and catches panics.
        match unsafe { os::OwnThread::spawn(main, arg.cast_mut().cast()) } {
            Ok(thread) => {
                if panics {
                    hear_panics();
                    *lock(&PANICS) = Some(Arc::downgrade(&watch));
                }
                Ok(Hunter { watch, thread: Some(thread) })
            }
            Err(e) => {
                // SAFETY: there is no thread: the reference is ours again.
                drop(unsafe { Arc::from_raw(arg) });
                Err(io::Error::from_raw_os_error(e))
            }
        }
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Ends it, when what it does is done. From the program's function, which runs on that very thread, and in the child of a `fork`,
    /// which does not have it, nobody waits. Whether this is that thread.
    pub(super) fn stop(mut self) -> bool {
        self.watch.over.store(true, Ordering::Release);
        WANTS_FAILED.store(false, Ordering::Relaxed);
        let mut panics = lock(&PANICS);
        if panics.as_ref().is_some_and(|watch| watch.as_ptr() == Arc::as_ptr(&self.watch)) {
            *panics = None;
        }
        drop(panics);
        BELL.ring();
        let is_own = self.watch.thread.load(Ordering::Relaxed) == os::id();
        if let Some(thread) = self.thread.take()
            && !is_own
            && self.watch.process == os::process_id()
        {
            thread.join();
        }
        is_own
    }
}

extern "C" fn main(arg: *mut c_void) -> *mut c_void {
    os::set_own_name(c"exectrace-hunt");
    // SAFETY: a reference made for this thread.
    let watch = unsafe { Arc::from_raw(arg.cast_const().cast::<Watch>()) };
    watch.thread.store(os::id(), Ordering::Relaxed);
    if let Some(internal) = Internal::enter() {
        let mut failed = watch.failed_before;
        while !watch.over.load(Ordering::Acquire) {
            BELL.wait(IDLE);
            let found = lock(&watch.found).take();
            let now = FAILED.load(Ordering::Relaxed);
            let more = now != failed && WANTS_FAILED.load(Ordering::Relaxed);
            failed = now;
            let found = if more { Some((Trigger::AllocationFailure, 100)) } else { found };
            if let Some((trigger, score)) = found {
                // A panic would be a bug of ours, or one of the program's function: no snapshots more, and nothing else.
                let _ = catch_unwind(AssertUnwindSafe(|| watch.take(trigger, score, &internal)));
            }
        }
    }
    core::ptr::null_mut()
}

impl Watch {
    /// Goes over a generation that was closed. The tracer's thread.
    pub(super) fn closed(&self, parts: [&[u8]; 3]) {
        let mut spans = lock(&self.spans);
        // Each part is whole batches.
        let _ = parts.iter().try_for_each(|part| spans.read(part).map(drop));
        let limits = self.plan.triggers.iter().filter_map(|t| Some((*t, t.limit()?)));
        let longest = [Span::Region, Span::Syscall, Span::Pause].map(|what| spans.longest(what));
        drop(spans);
        let exceeded = limits.filter_map(|(trigger, (what, limit))| {
            let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1);
            let ns = longest[what as usize];
            (ns > limit).then(|| (trigger, (u128::from(ns) * 100 / u128::from(limit)).min(u64::MAX.into()) as u64))
        });
        let Some(worst) = exceeded.max_by_key(|(_, score)| *score) else { return };
        let mut found = lock(&self.found);
        if found.is_none_or(|(_, score)| worst.1 > score) {
            *found = Some(worst);
        }
        drop(found);
        BELL.ring();
    }

    /// Takes a snapshot, if the last one is long enough ago.
    fn take(&self, trigger: Trigger, score: u64, internal: &Internal) {
        let Some(ring) = self.ring.upgrade() else { return };
        let mut taken = lock(&self.taken);
        if taken.last.is_some_and(|last| last.elapsed() < self.plan.cooldown) {
            return;
        }
        // What has failed just now is in a generation that is still open.
        if trigger.limit().is_none() {
            crate::record::tracer::flush_inside();
        }
        let Ok(path) = self.write(&ring, trigger, score) else { return };
        taken.last = Some(Instant::now());
        taken.kept.push((score, path.clone()));
        drop(taken);
        if let Some(then) = &self.plan.then {
            let fired = Fired { trigger, score, path };
            internal.as_program(|| then(&fired));
        }
        // Only now, for it may be this one.
        let mut taken = lock(&self.taken);
        while taken.kept.len() > self.plan.keep
            && let Some(least) = (0..taken.kept.len()).min_by_key(|&i| taken.kept[i].0)
        {
            // It is one too many; that it could not be removed harms nobody.
            let _ = fs::remove_file(taken.kept.remove(least).1);
        }
    }

    /// `PREFIX.snapshot-region-250.trace`; with a number where that is taken.
    fn write(&self, ring: &Ring, trigger: Trigger, score: u64) -> io::Result<PathBuf> {
        let named = |more: &str| {
            let mut path = self.plan.prefix.clone().into_os_string();
            path.push(format!(".snapshot-{}-{score:03}{more}.trace", trigger.name()));
            PathBuf::from(path)
        };
        // Another run of the program may have left some.
        let numbered = (2..).map(|n: u64| named(&format!("-{n}")));
        let path =
            core::iter::once(named("")).chain(numbered).find(|path| !path.exists()).ok_or(io::ErrorKind::Other)?;
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part: &Path = part.as_ref();
        let file = File::create(part)?;
        // By its name it is there whole or not at all.
        match ring.write_to(&file).and_then(|()| fs::rename(part, &path)) {
            Ok(()) => Ok(path),
            Err(e) => {
                let _ = fs::remove_file(part);
                Err(e)
            }
        }
    }
}

/// Puts a hook before the program's own panic hook, once. It looks for a watch at each panic.
fn hear_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            panicked();
            before(info);
        }));
    });
}

fn panicked() {
    // One of the tracer's own would wait for itself.
    if thread::is_tracers() {
        return;
    }
    // A second panic, or one inside of the program's function, has its snapshot already, or none.
    static BUSY: AtomicBool = AtomicBool::new(false);
    if BUSY.swap(true, Ordering::Acquire) {
        return;
    }
    let watch = PANICS.try_lock().ok().and_then(|panics| panics.as_ref()?.upgrade());
    let ours = |watch: &Arc<Watch>| watch.process == os::process_id() && !watch.over.load(Ordering::Acquire);
    if let Some(watch) = watch.filter(ours)
        && let Some(internal) = Internal::enter()
    {
        watch.take(Trigger::Panic, 100, &internal);
    }
    BUSY.store(false, Ordering::Release);
}
