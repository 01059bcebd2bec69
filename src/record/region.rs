//! The regions that are open on a thread, as the trace has them.
//!
//! The format wants the regions of a goroutine to end in the reverse order of their begin, or the rest of the trace is lost. Users
//! drop guards in any order, leak them, and carry them to other threads, so the thread keeps its own stack of what
//! it has written: an end that is not the innermost first ends those inside it.

/// Nesting beyond this is not written (and counts as lost).
const DEPTH_MAX: usize = 64;

/// The wire form of a region: its task and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenRegion {
    pub(crate) task: u64,
    /// Number of the name in the [string table](super::string_table).
    pub(crate) name: u32,
    /// Tells this region from another at the same depth.
    pub(crate) serial: u32,
}

/// All-zero is empty.
#[derive(Debug)]
pub(crate) struct OpenRegions {
    depth: u32,
    serial: u32,
    /// The trace to which they belong.
    trace: u32,
    open: [OpenRegion; DEPTH_MAX],
}

/// Where an open region stands: kept by its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    depth: u32,
    serial: u32,
}

impl OpenRegions {
    /// Notes a region that has begun in trace number `trace`; `None` if there are too many.
    pub(crate) fn push(&mut self, trace: u32, task: u64, name: u32) -> Option<Position> {
        if self.trace != trace {
            self.trace = trace;
            self.depth = 0;
        }
        let slot = self.open.get_mut(self.depth as usize)?;
        self.serial = self.serial.wrapping_add(1);
        *slot = OpenRegion { task, name, serial: self.serial };
        self.depth += 1;
        Some(Position { depth: self.depth, serial: self.serial })
    }

    /// Whether the region at `at` is still open in trace `trace`.
    pub(crate) fn is_open(&self, trace: u32, at: Position) -> bool {
        self.trace == trace
            && at.depth <= self.depth
            && at.depth > 0
            && self.open[at.depth as usize - 1].serial == at.serial
    }

    /// The task and the name's number of the innermost region in trace `trace`; zeros if none is open.
    #[inline(always)]
    pub(crate) fn innermost(&self, trace: u32) -> (u64, u32) {
        if self.depth == 0 || self.trace != trace {
            return (0, 0);
        }
        self.open.get(self.depth as usize - 1).map_or((0, 0), |open| (open.task, open.name))
    }

    /// Takes the innermost region out, if at least `depth` are open.
    pub(crate) fn pop_down_to(&mut self, depth: u32) -> Option<OpenRegion> {
        if self.depth < depth.max(1) {
            return None;
        }
        self.depth -= 1;
        Some(self.open[self.depth as usize])
    }

    /// Takes the innermost region out, if it belongs to trace `trace`.
    pub(crate) fn pop(&mut self, trace: u32) -> Option<OpenRegion> {
        if self.trace == trace { self.pop_down_to(1) } else { None }
    }
}

impl Position {
    pub(crate) fn depth(self) -> u32 {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> OpenRegions {
        OpenRegions { depth: 0, serial: 0, trace: 0, open: [OpenRegion { task: 0, name: 0, serial: 0 }; DEPTH_MAX] }
    }

    #[test]
    fn an_outer_end_takes_the_inner_ones_with_it() {
        let mut r = empty();
        let outer = r.push(1, 0, 10).expect("room");
        let inner = r.push(1, 0, 11).expect("room");
        assert!(r.is_open(1, outer) && r.is_open(1, inner));
        assert_eq!(r.pop_down_to(outer.depth()).map(|o| o.name), Some(11));
        assert_eq!(r.pop_down_to(outer.depth()).map(|o| o.name), Some(10));
        assert_eq!(r.pop_down_to(outer.depth()), None);
        assert!(!r.is_open(1, inner));
        // The place is taken by another: the old guard must not end it.
        let other = r.push(1, 0, 12).expect("room");
        assert!(!r.is_open(1, outer) && r.is_open(1, other));
    }

    #[test]
    fn another_trace_begins_empty_and_depth_is_bounded() {
        let mut r = empty();
        let old = r.push(1, 0, 1).expect("room");
        let new = r.push(2, 0, 1).expect("room");
        assert!(!r.is_open(1, old) && r.is_open(2, new) && !r.is_open(2, old));
        for _ in 1..DEPTH_MAX {
            assert!(r.push(2, 0, 1).is_some());
        }
        assert!(r.push(2, 0, 1).is_none());
        assert_eq!(r.pop(1), None);
    }
}
