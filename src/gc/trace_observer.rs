//! The heap in the trace: the observer that an arena has unless it is given another.

use super::observer::{AllocationSample, CycleStats, Observer, Pressure, Reason, StwKind};
use crate::hook;
use crate::hook::gc::{GcHeap, Stw};
use crate::hook::user;

/// Writes a heap's cycles, pauses, assists, sweeps, size and goal into the trace, while one is on, and where it is allocated
/// from: a log message of the category `gc sample`, with the stack, for each sampled allocation.
///
/// Each heap has a number, under which its size and goal stand in the trace's private series.
///
/// A collection of the young objects is no cycle: it is a pause of its own kind, "GC minor collection", which counts as
/// a pause of the collector wherever pauses do (also in Go's tools and in the MMU), and a message of the category `gc
/// minor` with what survived. The format numbers full cycles and has one at a time; with a minor collection as one, a
/// generational heap would show thousands a second, and the goal, which is for full cycles, would seem to be missed.
#[derive(Debug, Default)]
pub struct TraceObserver {
    heap: GcHeap,
}

impl TraceObserver {
    /// The heap's number in the trace's series, see [`GcHeap::id`].
    #[must_use]
    pub fn heap_id(&self) -> u32 {
        self.heap.id()
    }
}

/// The category of the log messages that tell of cycles.
const CATEGORY: &str = "gc cycle";
/// The category of those that tell of collections of the young objects.
const CATEGORY_MINOR: &str = "gc minor";
/// The category of those that tell of sampled allocations, each with its stack.
const CATEGORY_SAMPLE: &str = "gc sample";
/// The category of those that tell of a want of memory.
const CATEGORY_PRESSURE: &str = "gc pressure";

/// The region on a thread that helps to mark. (Go labels such goroutines; here the threads have the name "gc mark".)
const MARK_WORKER: &str = "GC mark worker";

impl Observer for TraceObserver {
    #[inline]
    fn is_on(&self) -> bool {
        hook::on()
    }

    fn cycle_begin(&self, reason: Reason) {
        self.heap.cycle_begin();
        if hook::on() {
            user::log_fmt(None, CATEGORY, format_args!("heap {}: {}", self.heap.id(), reason.as_str()));
        }
    }

    fn cycle_end(&self, stats: &CycleStats) {
        if hook::on() {
            let abandoned = if stats.abandoned { ", abandoned" } else { "" };
            user::log_fmt(
                None,
                CATEGORY,
                format_args!(
                    "heap {}: cycle {}: {} bytes before, {} marked, {} live, {} external, goal {}{abandoned}",
                    self.heap.id(),
                    stats.number,
                    stats.bytes_before,
                    stats.bytes_marked,
                    stats.bytes_live,
                    stats.bytes_external,
                    stats.bytes_goal
                ),
            );
        }
        self.heap.cycle_end();
    }

    fn stw_begin(&self, kind: StwKind) {
        self.heap.stw_begin(match kind {
            StwKind::SweepTermination => Stw::SweepTermination,
            StwKind::MarkTermination => Stw::MarkTermination,
        });
    }

    fn stw_end(&self, _kind: StwKind) {
        self.heap.stw_end();
    }

    fn assist_begin(&self) {
        self.heap.assist_begin();
    }

    fn assist_end(&self) {
        self.heap.assist_end();
    }

    fn around_mark_worker(&self) -> Option<fn(&mut dyn FnMut())> {
        hook::on().then_some(|work| user::with_region(MARK_WORKER, work))
    }

    fn sweep_begin(&self) {
        self.heap.sweep_begin();
    }

    fn sweep_end(&self, bytes_swept: usize, bytes_reclaimed: usize) {
        self.heap.sweep_end(bytes_swept as u64, bytes_reclaimed as u64);
    }

    fn minor_begin(&self) {
        self.heap.stw_begin(Stw::Minor);
    }

    fn minor_end(&self, bytes_young: usize, bytes_survived: usize) {
        self.heap.stw_end();
        if hook::on() {
            user::log_fmt(
                None,
                CATEGORY_MINOR,
                format_args!("heap {}: {bytes_young} bytes young, {bytes_survived} survived", self.heap.id()),
            );
        }
    }

    fn sampled(&self, sample: &AllocationSample) {
        if hook::on() {
            user::log_fmt(
                None,
                CATEGORY_SAMPLE,
                format_args!(
                    "heap {}: {} bytes for {} of {}",
                    self.heap.id(),
                    sample.stands_for_bytes,
                    sample.object_bytes,
                    sample.type_name
                ),
            );
        }
    }

    fn memory_pressure(&self, pressure: Pressure) {
        if hook::on() {
            let what = match pressure {
                Pressure::NearLimit => "the live heap fills the memory limit",
                Pressure::NoMemory => "an allocation finds no memory",
            };
            user::log_fmt(None, CATEGORY_PRESSURE, format_args!("heap {}: {what}", self.heap.id()));
        }
    }

    fn live(&self, bytes: usize) {
        self.heap.set_live(bytes as u64);
    }

    fn goal(&self, bytes: usize) {
        self.heap.set_goal(bytes as u64);
    }
}
