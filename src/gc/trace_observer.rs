//! The heap in the trace: the observer that an arena has unless it is given another.

use super::observer::{CycleStats, Observer, Reason, StwKind};
use crate::hook;
use crate::hook::gc::{GcHeap, Stw};
use crate::hook::user;

/// Writes a heap's cycles, pauses, assists, sweeps, size and goal into the trace, while one is on.
///
/// Each heap has a number, under which its size and goal stand in the trace's private series.
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

impl Observer for TraceObserver {
    #[inline]
    fn is_on(&self) -> bool {
        hook::on()
    }

    fn cycle_begin(&self, reason: Reason) {
        self.heap.cycle_begin();
        if hook::on() {
            user::log_fmt(CATEGORY, format_args!("heap {}: {}", self.heap.id(), reason.as_str()));
        }
    }

    fn cycle_end(&self, stats: &CycleStats) {
        if hook::on() {
            let abandoned = if stats.abandoned { ", abandoned" } else { "" };
            user::log_fmt(
                CATEGORY,
                format_args!(
                    "heap {}: cycle {}: {} bytes before, {} marked, {} live, goal {}{abandoned}",
                    self.heap.id(),
                    stats.number,
                    stats.bytes_before,
                    stats.bytes_marked,
                    stats.bytes_live,
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

    fn sweep_begin(&self) {
        self.heap.sweep_begin();
    }

    fn sweep_end(&self, bytes_swept: usize, bytes_reclaimed: usize) {
        self.heap.sweep_end(bytes_swept as u64, bytes_reclaimed as u64);
    }

    fn live(&self, bytes: usize) {
        self.heap.set_live(bytes as u64);
    }

    fn goal(&self, bytes: usize) {
        self.heap.set_goal(bytes as u64);
    }
}
