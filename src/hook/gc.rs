//! Garbage collectors: what a GC heap tells of its cycles. Ours does it by itself; another is reported in a line each.
//!
//! The format knows one heap and one collection at a time. Where a program has several heaps, their cycles are joined in the
//! events that Go's tools show, and kept apart in series of our own.
//!
//! ```
//! use exectrace::hooks::gc::{GcHeap, Stw};
//!
//! let heap = GcHeap::new();
//! heap.set_goal(4 << 20);
//! heap.set_live(3 << 20);
//! heap.cycle_begin();
//! heap.stw_begin(Stw::SweepTermination);
//! // mark the roots
//! heap.stw_end();
//! // mark ...
//! heap.stw_begin(Stw::MarkTermination);
//! heap.stw_end();
//! heap.cycle_end();
//! heap.sweep_begin();
//! heap.sweep_end(3 << 20, 2 << 20);
//! heap.set_live(1 << 20);
//! ```

use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use crate::format::Kind;
use crate::record::gauges::{self, Series};
use crate::record::gc_world::WORLD;
use crate::record::reasons::Fixed;
use crate::record::section::Section;
use crate::record::stacks::{self, Leaf};
use crate::record::thread::Entered;
use crate::record::{RECORD_HEAP, is_enabled, records};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// What the world is stopped for: the two pauses of a cycle, by Go's names, and one for generational heaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stw {
    /// The pause in which a cycle begins: sweeping of the last one is finished and roots are taken.
    SweepTermination,
    /// The pause in which marking ends.
    MarkTermination,
    /// A collection of the young objects alone: a pause that belongs to no cycle. Go has none.
    Minor,
}

/// A GC heap as the tracer sees it. Dropping it takes its size out of the totals.
///
/// Each `..._begin` has its `..._end` on the same thread; calls that do not pair, or come while tracing is off, leave the trace
/// valid. All of them may be called from any thread. With tracing off they cost a load and a branch, apart from those
/// that set a size.
#[derive(Debug)]
pub struct GcHeap {
    id: u32,
    live: AtomicI64,
    goal: AtomicI64,
    in_cycle: AtomicBool,
}

impl Default for GcHeap {
    fn default() -> GcHeap {
        GcHeap::new()
    }
}

impl GcHeap {
    /// Makes a new heap known.
    #[must_use]
    pub fn new() -> GcHeap {
        GcHeap {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            live: AtomicI64::new(0),
            goal: AtomicI64::new(0),
            in_cycle: AtomicBool::new(false),
        }
    }

    /// The heap's number in the names of its series, `gc.N.live_bytes`: 1 for the first of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// A collection begins.
    pub fn cycle_begin(&self) {
        if self.in_cycle.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(entered) = Entered::new() else {
            WORLD.lock().begin(|_| false);
            return;
        };
        let stack = if is_enabled() { stacks::capture(&entered, Leaf::None) } else { 0 };
        WORLD.lock().begin(|seq| {
            // The section is opened under the lock: the generation cannot move on in between.
            with_running(&entered, |s, now| {
                let stack = s.stack(stack);
                s.emit(Kind::GCBegin, now, [seq, stack]);
            })
        });
    }

    /// Its marking has ended. (Sweeping may go on.)
    pub fn cycle_end(&self) {
        if !self.in_cycle.swap(false, Ordering::Relaxed) {
            return;
        }
        let Some(entered) = Entered::new() else {
            WORLD.lock().end(|_| false);
            return;
        };
        WORLD.lock().end(|seq| with_running(&entered, |s, now| s.emit(Kind::GCEnd, now, [seq])));
    }

    /// The calling thread stops the world: no other thread that uses the heap runs until [`stw_end`](GcHeap::stw_end).
    pub fn stw_begin(&self, why: Stw) {
        emit_with_stack(|s, now, stack| {
            let kind = match why {
                Stw::SweepTermination => Fixed::SweepTermination,
                Stw::MarkTermination => Fixed::MarkTermination,
                Stw::Minor => Fixed::MinorCollection,
            };
            s.stw_begin(u64::from(kind.id()), now, stack);
        });
    }

    /// The world runs again.
    pub fn stw_end(&self) {
        emit(|s, now| s.stw_end(now));
    }

    /// The calling thread, which wants to allocate, is made to do a part of the marking.
    pub fn assist_begin(&self) {
        emit_with_stack(|s, now, stack| {
            if s.set_go_range(true) {
                s.emit(Kind::GCMarkAssistBegin, now, [stack]);
            }
        });
    }

    /// It has done its part.
    pub fn assist_end(&self) {
        emit(|s, now| {
            if s.set_go_range(false) {
                s.emit(Kind::GCMarkAssistEnd, now, []);
            }
        });
    }

    /// The calling thread sweeps.
    pub fn sweep_begin(&self) {
        emit_with_stack(|s, now, stack| {
            if s.set_processor_range(true) {
                s.emit(Kind::GCSweepBegin, now, [stack]);
            }
        });
    }

    /// It has looked at `swept` bytes and found `reclaimed` of them free.
    pub fn sweep_end(&self, swept: u64, reclaimed: u64) {
        emit(|s, now| {
            if s.set_processor_range(false) {
                s.emit(Kind::GCSweepEnd, now, [swept, reclaimed]);
            }
        });
    }

    /// The heap holds `bytes` now. To be told now and then: about each 32 KiB, and at the end of a cycle.
    pub fn set_live(&self, bytes: u64) {
        let bytes = bytes as i64;
        let before = self.live.swap(bytes, Ordering::Relaxed);
        gauges::add_gc(bytes - before, 0);
        if records(RECORD_HEAP) {
            emit(|s, now| {
                gauges::note(s.generation, Series::gc_live(self.id), now, bytes.max(0) as u64);
                s.emit(Kind::HeapAlloc, now, [gauges::heap()]);
            });
        }
    }

    /// The next collection is due when the heap holds `bytes`.
    pub fn set_goal(&self, bytes: u64) {
        let bytes = bytes as i64;
        let before = self.goal.swap(bytes, Ordering::Relaxed);
        gauges::add_gc(0, bytes - before);
        if records(RECORD_HEAP) {
            emit(|s, now| {
                gauges::note(s.generation, Series::gc_goal(self.id), now, bytes.max(0) as u64);
                if let Some(goal) = gauges::goal() {
                    s.emit(Kind::HeapGoal, now, [goal]);
                }
            });
        }
    }
}

impl Drop for GcHeap {
    fn drop(&mut self) {
        self.cycle_end();
        self.set_live(0);
        self.set_goal(0);
    }
}

fn emit(write: impl FnOnce(&mut Section<'_>, u64)) {
    if is_enabled()
        && let Some(entered) = Entered::new()
    {
        with_running(&entered, write);
    }
}

fn emit_with_stack(write: impl FnOnce(&mut Section<'_>, u64, u64)) {
    if is_enabled()
        && let Some(entered) = Entered::new()
    {
        let stack = stacks::capture(&entered, Leaf::None);
        with_running(&entered, |s, now| {
            let stack = s.stack(stack);
            write(s, now, stack);
        });
    }
}

/// Writes in a section in which the thread's goroutine runs; false if there is none.
fn with_running(entered: &Entered, write: impl FnOnce(&mut Section<'_>, u64)) -> bool {
    let Some(mut s) = entered.section() else { return false };
    let now = s.now();
    if !s.ensure_running(now) {
        return false;
    }
    write(&mut s, now);
    true
}
