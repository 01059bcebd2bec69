//! The one collection that the format knows at a time.
//!
//! A program may have several GC heaps, each with its own cycles; the format has one sequence of cycles. So cycles are joined: the
//! first heap that begins one begins the trace's, the last that ends one ends it. What each heap does is in its own series.

use crate::sys::lock::Lock;

/// Taken by the begin and end of a cycle around its event, and by the closer while it moves the generation on, so that
/// sequence numbers rise from generation to generation.
pub(crate) static WORLD: Lock<GcWorld> = Lock::new(GcWorld { running: 0, seq: 0, in_trace: false });

#[derive(Debug)]
pub(crate) struct GcWorld {
    /// Heaps that are in a cycle.
    pub(crate) running: u32,
    /// The last sequence number used in the trace.
    seq: u64,
    /// Whether the trace has been told that a cycle runs.
    in_trace: bool,
}

impl GcWorld {
    /// At start: whatever runs is not known to the trace yet.
    pub(crate) fn begin_trace(&mut self) -> Option<u64> {
        self.seq = 0;
        self.in_trace = self.running > 0;
        self.active_in_next()
    }

    /// The number under which the next generation says that a cycle is under way, if the trace has one: also one whose end was
    /// lost.
    pub(crate) fn active_in_next(&mut self) -> Option<u64> {
        self.in_trace.then(|| {
            self.seq += 1;
            self.seq
        })
    }

    /// A heap begins a cycle. If that begins one in the trace, `emit` writes the event with its number, and says whether it did.
    pub(crate) fn begin(&mut self, emit: impl FnOnce(u64) -> bool) {
        self.running += 1;
        if !self.in_trace && emit(self.seq + 1) {
            self.seq += 1;
            self.in_trace = true;
        }
    }

    /// A heap ends its cycle.
    pub(crate) fn end(&mut self, emit: impl FnOnce(u64) -> bool) {
        self.running = self.running.saturating_sub(1);
        if self.running == 0 && self.in_trace && emit(self.seq + 1) {
            self.seq += 1;
            self.in_trace = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_of_several_heaps_join_and_numbers_rise_by_one() {
        let mut w = GcWorld { running: 0, seq: 0, in_trace: false };
        let mut log = Vec::new();
        w.begin(|n| {
            log.push(("begin", n));
            true
        });
        w.begin(|_| unreachable!("joined"));
        assert_eq!(w.active_in_next(), Some(2));
        w.end(|_| unreachable!("one still runs"));
        w.end(|n| {
            log.push(("end", n));
            true
        });
        assert_eq!(w.active_in_next(), None);
        w.begin(|n| {
            log.push(("begin", n));
            true
        });
        assert_eq!(log, [("begin", 1), ("end", 3), ("begin", 4)]);
    }

    #[test]
    fn an_event_that_could_not_be_written_uses_no_number() {
        let mut w = GcWorld { running: 0, seq: 0, in_trace: false };
        w.begin(|_| false);
        w.end(|_| unreachable!("never begun"));
        w.begin(|n| n == 1);
        w.end(|_| false);
        // The trace still has it running: the next cycle joins it.
        w.begin(|_| unreachable!("still running there"));
        w.end(|n| n == 2);
        assert_eq!(w.seq, 2);
    }

    #[test]
    fn a_cycle_from_before_the_trace_is_told_as_active() {
        let mut w = GcWorld { running: 1, seq: 9, in_trace: true };
        assert_eq!(w.begin_trace(), Some(1));
        w.end(|n| n == 2);
        assert_eq!(w.seq, 2);
    }
}
