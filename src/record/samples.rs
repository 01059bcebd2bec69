//! CPU samples: a timer on each thread's own CPU time sends it `SIGPROF`, whose handler notes the stack.
//!
//! Samples go through one ring to the writer, because the format keeps them apart from the threads' events.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use super::ring::Ring;
use super::section::{GENERATION, SAMPLE_PERIOD_NS, TRACE};
use super::stacks;
use super::thread::{self, Entered, Thread, busy};
use crate::format::{NO_GOROUTINE, NO_PROC};
use crate::sys::timer::{self, Timer};

/// The most periods that one signal stands for: a second at 100 Hz.
const PERIODS_MAX: u32 = 100;
/// How many samples can wait for the writer: 4 s of 10 busy threads at 100 Hz.
const RING_PLACES: usize = 4096;

/// One sample, as the format has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) generation: u32,
    pub(crate) tid: u32,
    pub(crate) stack: u32,
    pub(crate) time_ns: u64,
    pub(crate) processor: u64,
    pub(crate) goid: u64,
}

/// The samples on their way, as words: generation and thread id, periods and stack, time, processor, goroutine.
static RING: Ring<RING_PLACES, 5> = Ring::new();
/// Samples that could not be noted. Reset by the closer.
pub(crate) static LOST: AtomicU32 = AtomicU32::new(0);

/// Installs the signal handler. False if the program has one of its own for `SIGPROF`, which then stays, and there are no samples.
pub(crate) fn prepare() -> bool {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
    let handler = handler as *const () as usize;
    // SAFETY: all-zero is a valid sigaction.
    let mut old: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: reads the present disposition into `old`.
    if unsafe { libc::sigaction(libc::SIGPROF, core::ptr::null(), &mut old) } != 0 {
        return false;
    }
    // The program may have come after an earlier trace: its handler stays, too.
    if old.sa_sigaction != libc::SIG_DFL {
        return old.sa_sigaction == handler;
    }
    // SAFETY: all-zero is a valid sigaction.
    let mut new: libc::sigaction = unsafe { core::mem::zeroed() };
    new.sa_sigaction = handler;
    // Not on the alternate stack: Rust's has 8 KiB, of which the kernel's frame takes up to 3 and a look into the unwind tables 6.
    new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler is async-signal-safe (see there) and never goes away: a signal may still be pending after stop.
    unsafe { libc::sigaction(libc::SIGPROF, &new, core::ptr::null_mut()) == 0 }
}

/// Begins to sample a thread, if the trace wants samples.
pub(crate) fn watch(t: &Thread) {
    let period = SAMPLE_PERIOD_NS.load(Ordering::Relaxed);
    let tid = t.tid.load(Ordering::Relaxed);
    if period == 0 || tid == 0 || t.timer.load(Ordering::Relaxed) != 0 {
        return;
    }
    let word = Timer::to_word(Timer::start(tid, period));
    if t.timer.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        // The thread itself and the starter met; one timer is enough.
        if let Some(timer) = Timer::from_word(word) {
            timer.delete();
        }
    }
}

/// Ends the sampling of a thread.
pub(crate) fn unwatch(t: &Thread) {
    if t.timer.load(Ordering::Relaxed) == 0 {
        return;
    }
    if let Some(timer) = Timer::from_word(t.timer.swap(0, Ordering::Relaxed)) {
        timer.delete();
    }
}

/// Async-signal-safe: no allocation, and no lock that the interrupted thread could hold: those of the pool are held inside of the
/// re-entry guard only. Loads and stores of the interrupted thread's own entry only under the re-entry
/// guard, which it finds held if it interrupted a hook.
extern "C" fn on_signal(_signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    if !GENERATION.is_open() {
        return;
    }
    // SAFETY: the kernel's, for a handler with SA_SIGINFO.
    let periods = unsafe { timer::expirations(info) }.min(PERIODS_MAX);
    let Some(t) = thread::current() else { return };
    if t.busy.load(Ordering::Relaxed) == busy::TRACER {
        return;
    }
    let Some(entered) = Entered::quietly() else {
        LOST.fetch_add(periods, Ordering::Relaxed);
        return;
    };
    let stack = stacks::capture_interrupted(&entered, context);
    let Some(s) = entered.section() else { return };
    let known = t.go_trace.load(Ordering::Relaxed) == TRACE.load(Ordering::Relaxed);
    if stack != 0 {
        s.stack(stack);
    }
    let sample = Sample {
        generation: s.generation,
        tid: t.tid.load(Ordering::Relaxed),
        stack,
        time_ns: s.now(),
        processor: if known { t.processor_id() } else { NO_PROC },
        goid: if known { t.goid.load(Ordering::Relaxed) } else { NO_GOROUTINE },
    };
    if !push(&sample, periods) {
        LOST.fetch_add(periods, Ordering::Relaxed);
    }
}

fn push(s: &Sample, periods: u32) -> bool {
    let who = u64::from(s.generation) << 32 | u64::from(s.tid);
    let stack = u64::from(periods) << 32 | u64::from(s.stack);
    RING.push([who, stack, s.time_ns, s.processor, s.goid])
}

/// Forgets all samples: in the child of a `fork`, by its only thread.
pub(crate) fn forget() {
    RING.reset();
}

/// Tells of each sample of `generation` (older ones are forgotten), as often as its signal stands for periods: the format's samples
/// have no weight. The closer's, when the generation has quiesced.
pub(crate) fn drain(generation: u32, mut each: impl FnMut(Sample)) {
    let of = |r: &[u64; 5]| (r[0] >> 32) as u32;
    while let Some(r) = RING.pop_if(|r| of(r) <= generation) {
        if of(&r) == generation {
            let [who, stack, time_ns, processor, goid] = r;
            let sample = Sample { generation, tid: who as u32, stack: stack as u32, time_ns, processor, goid };
            (0..stack >> 32).for_each(|_| each(sample));
        }
    }
}
