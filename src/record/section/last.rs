//! A thread's last section, and that of a thread which never came to be.

use core::sync::atomic::Ordering;

use super::{CLOSING, GENERATION, Section, TRACE};
use crate::format::Kind;
use crate::record::reasons::Fixed;
use crate::record::state::GONE;
use crate::record::thread::{self, Entered, Thread, activity, life};
use crate::record::{obituary, samples};
use crate::sys::thread as os;

/// The thread ends: says so in the trace and hands its buffers over. Returns whether its entry may be given to another at once;
/// otherwise the closer does that.
pub(crate) fn end(t: &'static Thread) -> bool {
    samples::unwatch(t);
    t.busy.store(thread::busy::HOOK, Ordering::Relaxed);
    let mut told = true;
    if GENERATION.is_open() && t.go_trace.load(Ordering::Relaxed) == TRACE.load(Ordering::Relaxed) {
        let section = Section::open(t);
        // No section: either there is no buffer left to say it in, or the trace has just ended, and nothing is owed to it.
        let mut silent = section.is_none() && GENERATION.is_open();
        if let Some(mut s) = section {
            let now = s.now();
            if s.ensure_running(now) {
                told = s.end_of_thread(now);
            } else {
                silent = true;
            }
        }
        if silent {
            // The closer will say it, in the first generation that has heard nothing else of the thread.
            t.set_name(os::own_name());
            t.ended_silently.store(true, Ordering::Release);
            told = false;
        }
    }
    t.activity.store(activity::RUNNING, Ordering::Relaxed);
    t.busy.store(thread::busy::NO, Ordering::Relaxed);
    // While a generation is being closed, the closer still reads the states. Who has seen a generation open (or none) has seen
    // that the one before it is closing: `CLOSING` is written before `GENERATION` and reset when all is read.
    told && CLOSING.load(Ordering::SeqCst) == 0
}

/// An entry that was reserved for a thread which will not use it: its goroutine ends without having run.
pub(crate) fn forget_reserved(entered: &Entered, child: &'static Thread) {
    let mut named = true;
    if let Some(mut s) = entered.section()
        && let now = s.now()
        && s.ensure_running(now)
    {
        let reason = s.name(Fixed::Preempted.id());
        s.uncreate(child, now, reason);
        named = obituary::write(s.parity(), child.goid.load(Ordering::Relaxed), [0; os::NAME_BYTES]);
    }
    let in_trace = child.go_trace.load(Ordering::Relaxed) == TRACE.load(Ordering::Relaxed);
    if in_trace && GENERATION.is_open() && child.go.get().state() != GONE {
        // That could not be written. The goroutine stays runnable in the trace, so its entry must stay too.
        return;
    }
    if named && CLOSING.load(Ordering::SeqCst) == 0 {
        thread::release(child);
    } else {
        child.life.store(life::ENDED, Ordering::Release);
    }
}

impl Section<'_> {
    /// The thread's last events. Returns false if its name could not be left: then its entry has to stay until the closer has
    /// read it there.
    fn end_of_thread(&mut self, now: u64) -> bool {
        self.regions_end_all(now);
        let t = self.thread;
        if self.set_go_range(false) {
            self.emit(Kind::GCMarkAssistEnd, now, []);
        }
        self.stw_end(now);
        if self.set_processor_range(false) {
            self.emit(Kind::GCSweepEnd, now, [0, 0]);
        }
        self.emit(Kind::GoDestroy, now, []);
        t.go.set(t.go.get().gone());
        self.processor_stop(now);
        let name = os::own_name();
        t.set_name(name);
        let told = obituary::write(self.parity(), t.goid.load(Ordering::Relaxed), name);
        self.hand_over();
        told
    }

    fn regions_end_all(&mut self, now: u64) {
        let trace = TRACE.load(Ordering::Relaxed);
        while self.reserve() {
            // SAFETY: the calling thread owns the cell and is inside a section.
            let Some(open) = unsafe { self.thread.regions.get() }.pop(trace) else { return };
            let name = self.name(open.name);
            self.emit(Kind::UserRegionEnd, now, [open.task, name, 0]);
        }
    }
}
