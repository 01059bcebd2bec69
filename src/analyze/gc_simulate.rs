//! What a collector would cost: a program's allocations and frees, replayed under the pacer of the GC heap.
//!
//! A program that frees by itself knows when each block dies; a collector finds out in the next cycle. So the replay keeps
//! the dead on the heap until a cycle ends, begins cycles where the pacer would, and lets allocations pay for marking
//! as they would; the time of that is added to the program's. The rules are those of the package's `gc` (goal, trigger,
//! assists, memory limit), stated there as inequalities; what marking costs is a parameter, since that depends
//! on what the objects look like. Not in it: the costs of allocation itself, barriers, caches.
//!
//! From recorded allocations ([`Allocations`](crate::read::Allocations)): exact if all were recorded, an estimate if a sample.

use super::{Damage, each_event};
use crate::read::{AllocationKind, Error, EventKind, Generation, IdHashMap, Private, Reader, Time};
use serde::{Deserialize, Serialize};

/// The schema of [`GcSimulation`] as JSON.
pub const GC_SIMULATE_SCHEMA: &str = "exectrace.gc-simulate/1";

/// An allocation pays in quanta of this, as on the heap.
const QUANTUM_BYTES: u64 = 32 << 10;
/// What may be allocated between two cycles at least.
const ROOM_BYTES_MIN: u64 = 256 << 10;
/// What counts as alive at least, for the way that a cycle is given.
const LIVE_BYTES_MIN: u64 = 1 << 20;
/// The most bytes to mark for one allocated, and the least of a step.
const ASSIST_RATIO_MAX: u64 = 12;
const ASSIST_BYTES_MIN: u64 = 64 << 10;

/// One way to set the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcSetting {
    /// Growth in percent of the live heap; `None` leaves cycles to the limit.
    pub gc_percent: Option<u32>,
    /// The soft limit in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// No cycle begins below this size, but for the limit.
    pub heap_bytes_min: u64,
    /// Marking goes in steps that allocations pay for; else in one go.
    pub incremental: bool,
}

/// What the collector's work costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcCosts {
    /// Marking, in nanoseconds for a MiB of live objects.
    pub mark_ns_per_mib: u64,
    /// What beginning and end of a cycle cost each, in nanoseconds.
    pub phase_ns: u64,
}

impl Default for GcCosts {
    /// A MiB in a millisecond: between what the GC heap takes for trees (0.3 ms) and for lists in random order (5 ms).
    fn default() -> Self {
        GcCosts { mark_ns_per_mib: 1_000_000, phase_ns: 20_000 }
    }
}

/// What one setting comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GcOutcome {
    /// The setting.
    pub setting: GcSetting,
    /// Cycles that began.
    pub cycles: u64,
    /// The largest heap, in bytes.
    pub peak_bytes: u64,
    /// Bytes marked in all.
    pub marked_bytes: u64,
    /// The collector's time, in nanoseconds.
    pub gc_ns: u64,
    /// Of that, what allocations were made to do.
    pub assist_ns: u64,
    /// The longest time that the program stood still, in nanoseconds.
    pub pause_ns_max: u64,
    /// The program's time with the collector's, in nanoseconds.
    pub duration_ns: u64,
    /// The program's smallest share in any window of 1 ms, 0 to 1. Of one thread's time: the collector's is not shared out.
    pub mmu_1ms: f64,
    /// The same of 10 ms.
    pub mmu_10ms: f64,
}

/// What the settings asked for come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GcSimulation {
    /// [`GC_SIMULATE_SCHEMA`].
    pub schema: String,
    /// The length of the trace.
    pub duration_ns: u64,
    /// Bytes between two samples on average; 0 if all allocations were recorded, none if none was.
    pub interval_bytes: Option<u64>,
    /// Bytes allocated.
    pub allocated_bytes: u64,
    /// The largest live heap, in bytes: what freeing in time needs.
    pub live_bytes_max: u64,
    /// One for each setting, in their order.
    pub outcomes: Vec<GcOutcome>,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// Reads the rest of a trace and replays it under each setting.
#[must_use]
pub fn gc_simulate(reader: &mut Reader<'_>, settings: &[GcSetting], costs: GcCosts) -> GcSimulation {
    gc_simulate_watched(reader, settings, costs, &mut || {})
}

/// Like [`gc_simulate`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn gc_simulate_watched(
    reader: &mut Reader<'_>,
    settings: &[GcSetting],
    costs: GcCosts,
    tick: &mut dyn FnMut(),
) -> GcSimulation {
    let mut replay =
        Replay { collectors: settings.iter().map(|s| Collector::new(*s, costs)).collect(), ..Replay::default() };
    let (mut begin, mut end) = (None, Time(0));
    let mut error = None;
    let mut last = None;
    let done = each_event(reader, tick, |ev| {
        replay.begin = *begin.get_or_insert(ev.time);
        end = ev.time;
        if ev.kind() == EventKind::Sync {
            let generation = ev.generation();
            // The trace's last `Sync` has a generation of its own, which is empty.
            if last.replace(generation.bytes().start) != Some(generation.bytes().start)
                && let Err(e) = replay.generation(generation)
            {
                error.get_or_insert(e);
            }
        }
    });
    let duration_ns = end.since(begin.unwrap_or(end)).max(0) as u64;
    GcSimulation {
        schema: GC_SIMULATE_SCHEMA.to_owned(),
        duration_ns,
        interval_bytes: replay.interval,
        allocated_bytes: replay.allocated,
        live_bytes_max: replay.live_max,
        outcomes: replay.collectors.into_iter().map(|c| c.finish(duration_ns)).collect(),
        damage: done.err().or(error).map(|e| Damage::of(&e)),
    }
}

/// The program: what is alive.
#[derive(Default)]
struct Replay {
    blocks: IdHashMap<u64>,
    live: u64,
    live_max: u64,
    allocated: u64,
    interval: Option<u64>,
    begin: Time,
    collectors: Vec<Collector>,
}

impl Replay {
    fn generation(&mut self, generation: &Generation) -> Result<(), Error> {
        let mut result = Ok(());
        let mut all = Vec::new();
        for section in generation.sections() {
            match section.map(|s| s.content) {
                Ok(Private::Allocations(batch)) => {
                    self.interval.get_or_insert(batch.interval_bytes);
                    for record in batch.records() {
                        match record {
                            Ok(r) => all.push((r.time, r.kind, batch.interval_bytes)),
                            Err(e) => result = Err(e),
                        }
                    }
                }
                Ok(_) => {}
                Err(e) => result = Err(e),
            }
        }
        // Stable: a thread's own records stay in order.
        all.sort_by_key(|(time, ..)| *time);
        for (time, kind, interval) in all {
            let at = time.since(self.begin).max(0) as u64;
            match kind {
                AllocationKind::Alloc { address, size, .. } => self.alloc(at, address, size, interval),
                AllocationKind::Free { address } => self.free(address),
                AllocationKind::Realloc { old, new, size, .. } => {
                    self.free(old);
                    if size > 0 {
                        self.alloc(at, new, size, interval);
                    }
                }
                AllocationKind::Map { .. } | AllocationKind::Unmap { .. } => {}
            }
        }
        result
    }

    fn alloc(&mut self, at_ns: u64, address: u64, size: u64, interval: u64) {
        let bytes = super::blocks::weight(size, interval).bytes;
        // A free that was not seen: the place is another block's now.
        self.free(address);
        self.blocks.insert(address, bytes);
        self.live = self.live.saturating_add(bytes);
        self.live_max = self.live_max.max(self.live);
        self.allocated = self.allocated.saturating_add(bytes);
        for c in &mut self.collectors {
            c.alloc(at_ns, bytes, self.live);
        }
    }

    fn free(&mut self, address: u64) {
        if let Some(bytes) = self.blocks.remove(&address) {
            self.live -= bytes;
        }
    }
}

/// The collector with one setting.
struct Collector {
    costs: GcCosts,
    out: GcOutcome,
    /// The heap, dead and alive.
    heap: u64,
    /// After the last cycle, and what the pacer made of it.
    base: u64,
    goal: u64,
    trigger: u64,
    /// The cycle that marks: what is to be marked, and what was.
    marking: Option<(u64, u64)>,
    /// Handed out since the cycle began, which it will keep.
    black: u64,
    /// Handed out since the last step.
    unpaid: u64,
    /// When the last cycle ended, the collector's time then, and what was allocated since.
    last_end: (u64, u64),
    since_last: u64,
    /// When the program stood still: begin and end, in order.
    stretches: Vec<(u64, u64)>,
}

impl Collector {
    fn new(setting: GcSetting, costs: GcCosts) -> Self {
        let out = GcOutcome {
            setting,
            cycles: 0,
            peak_bytes: 0,
            marked_bytes: 0,
            gc_ns: 0,
            assist_ns: 0,
            pause_ns_max: 0,
            duration_ns: 0,
            mmu_1ms: 1.0,
            mmu_10ms: 1.0,
        };
        let mut c = Collector {
            costs,
            out,
            heap: 0,
            base: 0,
            goal: 0,
            trigger: 0,
            marking: None,
            black: 0,
            unpaid: 0,
            last_end: (0, 0),
            since_last: 0,
            stretches: Vec::new(),
        };
        c.pace(0);
        c
    }

    /// The next goal and trigger. `room` is what the program allocates while a cycle's work is done.
    fn pace(&mut self, room: u64) {
        let s = self.out.setting;
        let by_percent = s.gc_percent.map_or(u64::MAX, |p| {
            let growth = u128::from(self.base) * u128::from(p) / 100;
            self.base.saturating_add(u64::try_from(growth).unwrap_or(u64::MAX)).max(s.heap_bytes_min)
        });
        let (mut goal, mut least) = (by_percent, ROOM_BYTES_MIN);
        if let Some(limit) = s.memory_limit_bytes {
            let by_limit = limit.saturating_sub((limit / 100 * 3).max(1 << 20));
            if by_limit < by_percent {
                (goal, least) = (by_limit, least.max(room));
            }
        }
        self.goal = goal.max(self.base.saturating_add(least));
        let way = (self.goal - self.base).min(self.base.max(LIVE_BYTES_MIN));
        let left = (room / 2).clamp(way / 4, way / 8 * 3);
        self.trigger = if s.incremental { self.goal - left } else { self.goal };
    }

    fn alloc(&mut self, at_ns: u64, bytes: u64, live: u64) {
        self.heap = self.heap.saturating_add(bytes);
        self.since_last = self.since_last.saturating_add(bytes);
        self.out.peak_bytes = self.out.peak_bytes.max(self.heap);
        if self.marking.is_some() {
            self.black += bytes;
            self.unpaid += bytes;
            if self.unpaid >= QUANTUM_BYTES {
                self.step(at_ns);
            }
        } else if self.heap >= self.trigger {
            self.out.cycles += 1;
            self.stop(at_ns, self.costs.phase_ns, false);
            self.marking = Some((live, 0));
            (self.black, self.unpaid) = (0, 0);
            if !self.out.setting.incremental {
                self.mark(at_ns, u64::MAX);
            }
        }
    }

    fn step(&mut self, at_ns: u64) {
        let Some((to_mark, marked)) = self.marking else { return };
        let left = (to_mark - marked).max(to_mark / 8);
        let way = self.goal.saturating_sub(self.heap).max(2 * QUANTUM_BYTES);
        let owed = u128::from(self.unpaid) * u128::from(left) / u128::from(way);
        let owed = u64::try_from(owed).unwrap_or(u64::MAX).min(self.unpaid.saturating_mul(ASSIST_RATIO_MAX));
        if owed >= ASSIST_BYTES_MIN {
            self.unpaid = 0;
            self.mark(at_ns, owed);
        }
    }

    fn mark(&mut self, at_ns: u64, most: u64) {
        let Some((to_mark, marked)) = &mut self.marking else { return };
        let now = most.min(*to_mark - *marked);
        *marked += now;
        let (done, to_mark) = (*marked == *to_mark, *to_mark);
        self.out.marked_bytes += now;
        let ns = ((u128::from(now) * u128::from(self.costs.mark_ns_per_mib)) >> 20) as u64;
        self.stop(at_ns, ns + if done { self.costs.phase_ns } else { 0 }, self.out.setting.incremental);
        if done {
            self.marking = None;
            // What was alive when the cycle began, dead by now or not, and all that is newer.
            self.heap = to_mark + self.black;
            self.base = self.heap;
            let gc_ns = self.out.gc_ns - self.last_end.1;
            let since = at_ns.saturating_sub(self.last_end.0).max(1);
            let room = u128::from(self.since_last) * u128::from(gc_ns) / u128::from(since);
            self.pace(u64::try_from(room).unwrap_or(u64::MAX));
            self.last_end = (at_ns, self.out.gc_ns);
            self.since_last = 0;
        }
    }

    /// The program stands still for so long.
    fn stop(&mut self, at_ns: u64, ns: u64, is_assist: bool) {
        let begin = at_ns + self.out.gc_ns;
        self.out.gc_ns += ns;
        self.out.assist_ns += if is_assist { ns } else { 0 };
        self.out.pause_ns_max = self.out.pause_ns_max.max(ns);
        self.stretches.push((begin, begin + ns));
    }

    fn finish(mut self, duration_ns: u64) -> GcOutcome {
        self.out.duration_ns = duration_ns + self.out.gc_ns;
        [self.out.mmu_1ms, self.out.mmu_10ms] = [1_000_000, 10_000_000].map(|ns| utilization(&self.stretches, ns));
        self.out
    }
}

/// The program's smallest share in a window of `ns`, with the collector's stretches of time in order.
fn utilization(stretches: &[(u64, u64)], ns: u64) -> f64 {
    let before: Vec<u64> = std::iter::once(0)
        .chain(stretches.iter().scan(0, |sum, (begin, end)| {
            *sum += end - begin;
            Some(*sum)
        }))
        .collect();
    let collector_in = |from: u64, to: u64| {
        let first = stretches.partition_point(|s| s.1 <= from);
        let behind = stretches.partition_point(|s| s.0 < to);
        if first >= behind {
            return 0;
        }
        let (early, late) = (from.saturating_sub(stretches[first].0), stretches[behind - 1].1.saturating_sub(to));
        before[behind] - before[first] - early - late
    };
    // The worst window begins where a stretch does, or ends where one does.
    let worst = stretches.iter().map(|&(begin, end)| {
        let from = end.saturating_sub(ns);
        collector_in(begin, begin + ns).max(collector_in(from, from + ns))
    });
    1.0 - worst.max().unwrap_or(0) as f64 / ns as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn setting(gc_percent: Option<u32>, memory_limit_bytes: Option<u64>, incremental: bool) -> GcSetting {
        GcSetting { gc_percent, memory_limit_bytes, heap_bytes_min: 4 * MIB, incremental }
    }

    /// `live` bytes are held, and `churn` more allocated and freed at once, 1 KiB each, a microsecond apart.
    fn replay(settings: &[GcSetting], mark_ns_per_mib: u64, live: u64, churn: u64) -> Vec<GcOutcome> {
        let costs = GcCosts { mark_ns_per_mib, ..GcCosts::default() };
        let mut r =
            Replay { collectors: settings.iter().map(|s| Collector::new(*s, costs)).collect(), ..Replay::default() };
        let blocks = live / 1024;
        for i in 0..blocks + churn / 1024 {
            r.alloc(i * 1000, 4096 + i * 1024, 1024, 0);
            if i >= blocks {
                r.free(4096 + i * 1024);
            }
        }
        assert_eq!(r.live, live);
        assert_eq!(r.allocated, live + churn);
        r.collectors.into_iter().map(|c| c.finish((blocks + churn / 1024) * 1000)).collect()
    }

    #[test]
    fn stop_the_world_cycles_come_as_often_as_the_percentage_says() {
        // Beyond the beginning, a cycle for each 32 MiB at 100 %, each 16 at 50, each 64 at 200.
        let settings = [50, 100, 200].map(|p| setting(Some(p), None, false));
        let out = replay(&settings, 1_000_000, 32 * MIB, 640 * MIB);
        for (o, (cycles, peak)) in out.iter().zip([(40, 48), (20, 64), (10, 96)]) {
            assert!(o.cycles.abs_diff(cycles) <= 8, "{o:?}");
            assert!(o.peak_bytes.abs_diff(peak * MIB) <= MIB, "{o:?}");
            // The live heap is marked in each, at a millisecond a MiB: one pause.
            assert_eq!(o.assist_ns, 0);
            assert!(o.pause_ns_max.abs_diff(32_000_000) < 2_000_000, "{o:?}");
            assert_eq!(o.mmu_10ms, 0.0);
        }
        assert!(out[0].gc_ns > out[1].gc_ns && out[1].gc_ns > out[2].gc_ns);
    }

    #[test]
    fn steps_are_short_and_the_heap_keeps_to_its_goal() {
        let out = replay(&[setting(Some(100), None, true)], 1_000_000, 32 * MIB, 640 * MIB);
        let o = &out[0];
        assert!(o.assist_ns > o.gc_ns / 10 * 9, "{o:?}");
        assert!(o.pause_ns_max <= 600_000, "{o:?}");
        // Live when a cycle ends is what it kept, floating garbage included.
        assert!(o.peak_bytes <= 96 * MIB && o.peak_bytes >= 48 * MIB, "{o:?}");
        assert!(o.mmu_1ms < o.mmu_10ms && o.mmu_10ms < 1.0, "{o:?}");
    }

    #[test]
    fn a_limit_bounds_the_peak_and_a_limit_too_small_does_not_stop_the_program() {
        let settings =
            [setting(None, Some(40 * MIB), false), setting(None, Some(8 * MIB), false), setting(None, None, false)];
        let out = replay(&settings, 100_000, 32 * MIB, 640 * MIB);
        assert!(out[0].peak_bytes <= 40 * MIB && out[0].cycles > 40, "{:?}", out[0]);
        // Half of the time at most, and so the limit gives way.
        assert!(out[1].peak_bytes > 32 * MIB && out[1].gc_ns <= out[1].duration_ns * 6 / 10, "{:?}", out[1]);
        assert_eq!((out[2].cycles, out[2].peak_bytes, out[2].mmu_1ms), (0, 672 * MIB, 1.0));
    }

    /// The death spiral: a collector that keeps to a limit which is less than what is alive begins a cycle for each few
    /// hundred KiB, and frees next to nothing.
    #[test]
    fn a_limit_below_what_is_alive_costs_half_of_the_time_and_no_more() {
        let (live, churn, limit, mark_ns_per_mib) = (32 * MIB, 320 * MIB, 16 * MIB, 1_000_000);
        // Without protection: 32 ms of marking for what is allocated in a quarter of a millisecond.
        let spiral_ns = churn / ROOM_BYTES_MIN * (live / MIB) * mark_ns_per_mib;
        let program_ns = (live + churn) / 1024 * 1000;
        assert!(spiral_ns > 100 * program_ns);
        for incremental in [false, true] {
            let o = &replay(&[setting(Some(100), Some(limit), incremental)], mark_ns_per_mib, live, churn)[0];
            assert_eq!(o.duration_ns, program_ns + o.gc_ns);
            assert!(o.gc_ns * 10 <= o.duration_ns * 6, "{o:?}");
            // It does try: the limit is what paces it, and the heap is not much over what is alive and that room.
            assert!(o.gc_ns * 10 >= o.duration_ns * 3, "{o:?}");
            assert!(o.peak_bytes > live && o.peak_bytes < 3 * live, "{o:?}");
            assert!(spiral_ns > 50 * o.gc_ns, "{o:?}");
        }
        // Just above what is alive, the same holds; and a limit with some room is kept.
        let settings = [33, 36, 64].map(|mib| setting(Some(100), Some(mib * MIB), false));
        let out = replay(&settings, mark_ns_per_mib, live, churn);
        assert!(out[..2].iter().all(|o| o.gc_ns * 10 <= o.duration_ns * 6), "{out:?}");
        assert!(out[2].peak_bytes <= 64 * MIB + MIB, "{:?}", out[2]);
    }

    #[test]
    fn utilization_agrees_with_the_obvious_count() {
        let mut x = 7_u64;
        for _ in 0..200 {
            let (mut at, mut all) = (0, Vec::new());
            for _ in 0..20 {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let begin = at + (x >> 60);
                at = begin + 1 + (x >> 40) % 9;
                all.push((begin, at));
            }
            for ns in [1, 3, 10, 40] {
                let is_gc = |t: u64| all.iter().any(|(b, e)| (*b..*e).contains(&t));
                let worst = (0..at).map(|from| (from..from + ns).filter(|t| is_gc(*t)).count()).max().unwrap_or(0);
                assert_eq!(utilization(&all, ns), 1.0 - worst as f64 / ns as f64, "{all:?} {ns}");
            }
        }
    }
}
