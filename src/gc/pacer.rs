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
//! 4. `live < trigger <= goal`. A cycle that marks in one go begins at the goal. One that marks in steps leaves as much of
//!    the way to it as the program allocates in half of the time that the last cycle's marking took, so that the program
//!    keeps a third of the time while a cycle marks; but at least 1/4 of the way, and at most 3/8, since what is allocated
//!    while a cycle marks stays until the next; for the same reason a way longer than `live` counts as `live`. A cycle that could begin only when less than 1/8 of the way was left, for want of a safepoint, aims at 5/4 of the heap's size instead.
//! 5. An allocation of `a` bytes owes `a * work left / way left to the goal` bytes of marking, at most
//!    [`ASSIST_RATIO_MAX`] times `a`, to be paid when it is worth a step. The work is supposed to be the same part of the
//!    heap as in the last cycle, and an eighth more; if it is more than that, up to all of the heap, the rest is owed as the
//!    way runs out. Marking is finished by the goal unless the bound or the pause target says otherwise; it is
//!    finished at last, since the work left only shrinks.

use super::chunk::BLOCK_BYTES;
use super::observer::Reason;

/// Go's minimum heap.
pub(super) const HEAP_BYTES_MIN_DEFAULT: usize = 4 << 20;
/// The least that may be allocated between two cycles: 8 refills.
const ROOM_BYTES_MIN: usize = 256 << 10;
/// Less than this is alive in no program that matters here, for the way that a cycle is given.
const LIVE_BYTES_MIN: usize = 1 << 20;
/// The most bytes to mark for one byte allocated: the prototype's figure, above which single assists became longer than
/// the pause target.
const ASSIST_RATIO_MAX: usize = 12;
/// What an assist marks at least, so that its own cost does not count: less than that stays owed.
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
    /// What the last cycle marked, and the heap's size when it began.
    survived: (usize, usize),
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
            survived: (1, 1),
            goal_of_cycle: 0,
        };
        pacer.update(0);
        pacer
    }

    /// A cycle is over.
    ///
    /// `live` is the size now, `overhead` the bytes mapped beyond it, `marked` what was marked of the `heap` that there was
    /// when it began. The last two figures are the time spent on the cycle, and the rate of allocation before it in bytes
    /// a second.
    pub(super) fn cycle_done(
        &mut self,
        live: usize,
        overhead: usize,
        (marked, heap): (usize, usize),
        gc_ns: u64,
        bytes_per_second: u64,
    ) {
        self.live = live;
        if heap > 0 {
            self.survived = (marked.min(heap), heap);
        }
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
        let way = (self.goal - self.live).min(self.live.max(LIVE_BYTES_MIN));
        let left = (self.room_for_time / 2).clamp(way / 4, way / 8 * 3);
        self.trigger = if incremental { self.goal - left } else { self.goal };
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

    /// Bytes to mark for `allocated` bytes, if that is enough for a step. `heap` is the size now, `at_start` that when the
    /// cycle began, `marked` what was marked in it.
    pub(super) fn assist_bytes(&self, allocated: usize, heap: usize, at_start: usize, marked: usize) -> Option<usize> {
        let (part, of) = self.survived;
        let expected = (at_start as u128 * part as u128 / of as u128) as usize;
        let expected = (expected + at_start / 8).min(at_start);
        let left = expected.saturating_sub(marked).max(at_start / 8) as u128;
        let way = self.goal_of_cycle.saturating_sub(heap).max(2 * BLOCK_BYTES) as u128;
        let owed = (allocated as u128 * left / way).min(allocated as u128 * ASSIST_RATIO_MAX as u128);
        (owed as usize >= ASSIST_BYTES_MIN).then_some(owed as usize)
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
        p.cycle_done(live, overhead, (1, 1), gc_ns, rate);
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
        // As much is alive as in the last cycle; or all of the heap after all, most of which is marked at the greatest ratio.
        for (survived, alive, over) in [(1, 1, 0), (4, 4, 0), (4, 1, 100 * MIB / ASSIST_RATIO_MAX)] {
            let mut p = after(settings(), 100 * MIB, 0, 0, 0);
            p.survived = (1, survived);
            p.cycle_begins(p.trigger);
            let (mut heap, mut marked, mut unpaid, mut steps) = (p.trigger, 0, 0, 0);
            let at_start = heap;
            while marked < at_start / alive {
                heap += BLOCK_BYTES;
                unpaid += BLOCK_BYTES;
                if let Some(bytes) = p.assist_bytes(unpaid, heap, at_start, marked) {
                    marked += bytes;
                    unpaid = 0;
                    steps += 1;
                }
                assert!(heap <= p.goal + 2 * BLOCK_BYTES + over, "{marked} of {at_start}");
            }
            assert!(steps > 10, "{steps} steps");
        }
    }

    #[test]
    fn a_cycle_begins_early_enough_for_the_program_to_keep_a_third_of_the_time() {
        let trigger = |gc_ns, rate| after(settings(), 64 * MIB, 0, gc_ns, rate).trigger / MIB;
        // 30 ms of marking, in half of which 0.5, 1.4 and 8 GB/s are 7, 20 and 114 MiB of the 64 MiB to the goal.
        assert_eq!(trigger(30_000_000, 500_000_000), 128 - 16);
        assert_eq!(trigger(30_000_000, 1_400_000_000), 128 - 21);
        assert_eq!(trigger(30_000_000, 8_000_000_000), 128 - 24);
        // At 400 % the way is 256 MiB, but what may be allocated meanwhile is no more.
        let far = after(Settings { gc_percent: Some(400), ..settings() }, 64 * MIB, 0, 30_000_000, 8_000_000_000);
        assert_eq!(far.trigger / MIB, 320 - 24);
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
