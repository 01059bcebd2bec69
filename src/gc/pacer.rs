//! When to collect, and how much marking an allocation pays for. Arithmetic only, so that it can be tested and
//! simulated.
//!
//! All sizes are in bytes and contain the external bytes that the embedder reports. With `live` the size after the last
//! cycle, `p` the `gc_percent`, and `limit` the memory limit, the pacer keeps to:
//!
//! 1. `goal >= live + room`, where `room` is at least [`ROOM_BYTES_MIN`] and, under a limit, at least what the program
//!    allocates in the time that the last cycle's marking took. So the collector never takes more than about half of
//!    the time: a limit too small for the program makes the heap grow over it, not the program stand still.
//! 2. Without a limit, `goal = max(heap_min, live + live * p / 100)`, but for 1.
//! 3. With a limit, `goal <= limit - overhead - max(3 % of limit, 1 MiB)`, but for 1; `overhead` is what is mapped
//!    beyond the heap's size.
//! 4. `live < trigger <= goal`. A cycle that marks in one go begins at the goal; one that marks in steps begins when
//!    3/4 of the way to it are used. A cycle that could begin only when less than 1/8 of the way was left, for want of
//!    a safepoint, aims at 5/4 of the heap's size instead.
//! 5. An allocation of `a` bytes owes `a * work left / way left to the goal` bytes of marking, at most
//!    [`ASSIST_RATIO_MAX`] times `a`. Marking is finished by the goal unless that bound or the pause target says
//!    otherwise; it is finished at last, since the work left only shrinks.

use super::chunk::BLOCK_BYTES;
use super::observer::Reason;

/// Go's minimum heap.
pub(super) const HEAP_BYTES_MIN_DEFAULT: usize = 4 << 20;
/// The least that may be allocated between two cycles: 8 refills.
const ROOM_BYTES_MIN: usize = 256 << 10;
/// The most bytes to mark for one byte allocated: the prototype's figure, above which single assists became longer than
/// the pause target.
const ASSIST_RATIO_MAX: usize = 12;
/// What an assist marks at least, so that its own cost does not count.
const ASSIST_BYTES_MIN: usize = 64 << 10;
/// Over the goal by this factor the pause target gives way and the cycle is finished in one go (in halves: 3/2).
const OVERRUN_HALVES: usize = 3;

/// What the embedder sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Growth in percent of the live heap. `None` leaves collection to the limit and to explicit calls.
    pub(super) gc_percent: Option<u32>,
    pub(super) heap_bytes_min: usize,
    pub(super) memory_limit_bytes: usize,
    /// Marking goes in steps.
    pub(super) incremental: bool,
}

/// The state between two cycles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacer {
    pub(super) settings: Settings,
    /// After the last cycle.
    live: usize,
    pub(super) goal: usize,
    pub(super) trigger: usize,
    pub(super) reason: Reason,
    /// Bytes allocated in the time that the last cycle spent marking.
    room_for_time: usize,
    /// What the running cycle's steps aim at: the goal, or more if the heap was beyond it or near when the cycle could
    /// begin.
    goal_of_cycle: usize,
}

impl Pacer {
    pub(super) fn new(settings: Settings) -> Self {
        let mut pacer = Pacer {
            settings,
            live: 0,
            goal: 0,
            trigger: 0,
            reason: Reason::HeapGoal,
            room_for_time: 0,
            goal_of_cycle: 0,
        };
        pacer.update(0);
        pacer
    }

    /// A cycle is over.
    ///
    /// `live` is the size now, `overhead` the bytes mapped beyond it. The last two figures are the time spent on the
    /// cycle, and the rate of allocation before it in bytes a second.
    pub(super) fn cycle_done(&mut self, live: usize, overhead: usize, gc_ns: u64, bytes_per_second: u64) {
        self.live = live;
        let room = u128::from(gc_ns) * u128::from(bytes_per_second) / 1_000_000_000;
        self.room_for_time = usize::try_from(room).unwrap_or(usize::MAX);
        self.update(overhead);
    }

    /// Works out goal and trigger anew.
    pub(super) fn update(&mut self, overhead: usize) {
        let Settings { gc_percent, heap_bytes_min, memory_limit_bytes: limit, incremental } = self.settings;
        let by_percent = gc_percent.map_or(usize::MAX, |p| {
            let growth = (self.live as u128) * u128::from(p) / 100;
            self.live.saturating_add(usize::try_from(growth).unwrap_or(usize::MAX)).max(heap_bytes_min)
        });
        let mut room = ROOM_BYTES_MIN;
        let mut goal = by_percent;
        self.reason = Reason::HeapGoal;
        if limit != usize::MAX {
            let by_limit = self.limit(overhead).unwrap_or(limit);
            if by_limit < by_percent {
                self.reason = Reason::MemoryLimit;
                room = room.max(self.room_for_time);
                goal = by_limit;
            }
        }
        self.goal = goal.max(self.live.saturating_add(room));
        self.trigger = if incremental { self.live + (self.goal - self.live) / 4 * 3 } else { self.goal };
    }

    /// What the memory limit leaves for the heap and the external memory, if there is one.
    pub(super) fn limit(&self, overhead: usize) -> Option<usize> {
        let limit = self.settings.memory_limit_bytes;
        let left = limit.saturating_sub(overhead).saturating_sub((limit / 100 * 3).max(1 << 20));
        (limit != usize::MAX).then_some(left)
    }

    /// The size at which a full cycle begins right after a collection of the young objects: a little earlier than the
    /// trigger, or the last such collections before a cycle would come closer and closer together.
    pub(super) fn trigger_after_minor(&self) -> usize {
        self.trigger - (self.trigger - self.live) / 8
    }

    /// A cycle begins at size `heap`. Where a program allocates much between two safepoints, this may be far beyond the
    /// goal; a quarter more is then allowed for.
    pub(super) fn cycle_begins(&mut self, heap: usize) {
        let late = self.goal.saturating_sub(heap) < (self.goal - self.live) / 8;
        self.goal_of_cycle =
            if late { heap.saturating_add(heap / 4).saturating_add(ROOM_BYTES_MIN).max(self.goal) } else { self.goal };
    }

    /// Bytes to mark for `allocated` bytes. `heap` is the size now, `estimate` what is to be marked in this cycle at
    /// most, `marked` what was.
    pub(super) fn assist_bytes(&self, allocated: usize, heap: usize, estimate: usize, marked: usize) -> usize {
        let left = estimate.saturating_sub(marked).max(estimate / 8) as u128;
        let way = self.goal_of_cycle.saturating_sub(heap).max(2 * BLOCK_BYTES) as u128;
        let owed = (allocated as u128 * left / way).min(allocated as u128 * ASSIST_RATIO_MAX as u128);
        owed as usize + ASSIST_BYTES_MIN
    }

    /// The time that an assist may take: the pause target, stretched as the heap runs over its goal. `None` means that
    /// the cycle must be finished.
    pub(super) fn assist_ns(&self, max_pause_ns: u64, heap: usize) -> Option<u64> {
        let goal = self.goal_of_cycle;
        let over = heap.saturating_sub(goal);
        if over >= goal / 2 * (OVERRUN_HALVES - 2) {
            return None;
        }
        let stretch = 8 * over as u128 * u128::from(max_pause_ns) / goal.max(1) as u128;
        Some(max_pause_ns.saturating_add(u64::try_from(stretch).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn settings() -> Settings {
        Settings { gc_percent: Some(100), heap_bytes_min: 4 * MIB, memory_limit_bytes: usize::MAX, incremental: true }
    }

    fn after(settings: Settings, live: usize, overhead: usize, gc_ns: u64, rate: u64) -> Pacer {
        let mut p = Pacer::new(settings);
        p.cycle_done(live, overhead, gc_ns, rate);
        p
    }

    #[test]
    fn percent_sets_the_goal_and_the_minimum_bounds_it() {
        for (percent, live, goal) in [(100, 10, 20), (50, 10, 15), (100, 1, 4), (400, 10, 50)] {
            let p = after(Settings { gc_percent: Some(percent), ..settings() }, live * MIB, 0, 0, 0);
            assert_eq!(p.goal, goal * MIB, "{percent} % of {live} MiB");
            assert!(p.live < p.trigger && p.trigger <= p.goal);
            assert_eq!(p.reason, Reason::HeapGoal);
        }
        let off = after(Settings { gc_percent: None, ..settings() }, MIB, 0, 0, 0);
        assert_eq!(off.goal, usize::MAX);
    }

    #[test]
    fn the_limit_lowers_the_goal_and_room_stays() {
        let s = Settings { memory_limit_bytes: 100 * MIB, ..settings() };
        let p = after(s, 80 * MIB, 5 * MIB, 0, 0);
        assert_eq!((p.goal, p.reason), (100 * MIB - 5 * MIB - 100 * MIB / 100 * 3, Reason::MemoryLimit));
        // Beyond the limit: room for as much as is allocated in the time that marking takes, 20 ms at 1 GB/s.
        let p = after(s, 120 * MIB, 5 * MIB, 20_000_000, 1_000_000_000);
        assert_eq!(p.goal, 120 * MIB + 20_000_000);
        let p = after(s, 120 * MIB, 5 * MIB, 0, 0);
        assert_eq!(p.goal, 120 * MIB + ROOM_BYTES_MIN);
    }

    #[test]
    fn assists_finish_by_the_goal_when_the_ratio_allows() {
        let mut p = after(settings(), 100 * MIB, 0, 0, 0);
        p.cycle_begins(p.trigger);
        let (mut heap, mut marked) = (p.trigger, 0);
        let estimate = heap;
        while marked < estimate {
            heap += BLOCK_BYTES;
            marked += p.assist_bytes(BLOCK_BYTES, heap, estimate, marked);
            assert!(heap <= p.goal, "{marked} of {estimate}");
        }
    }

    #[test]
    fn the_pause_target_stretches_and_then_gives_way() {
        let mut p = after(settings(), 100 * MIB, 0, 0, 0);
        p.cycle_begins(100 * MIB);
        assert_eq!(p.assist_ns(500, p.goal), Some(500));
        assert_eq!(p.assist_ns(500, p.goal + p.goal / 8), Some(1000));
        assert_eq!(p.assist_ns(500, p.goal + p.goal / 2), None);
        // A cycle that begins late has as much room again.
        p.cycle_begins(400 * MIB);
        assert_eq!(p.assist_ns(500, 400 * MIB), Some(500));
        assert_eq!(p.assist_ns(500, 800 * MIB), None);
    }
}
