//! Each cycle of the collector, and the sums.

use super::dist::{Dist, Durations};
use super::frames;
use super::gc::{GcCycle, GcEvents};
use super::states::States;
use super::summary::Named;
use super::{Damage, each_event};
use crate::read::{EventKind, Interner, Reader, Time};
use serde::{Deserialize, Serialize};

/// The schema of [`GcReport`] as JSON.
pub const GC_SCHEMA: &str = "exectrace.gc/1";

/// What the collector did, cycle by cycle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GcReport {
    /// [`GC_SCHEMA`].
    pub schema: String,
    /// The length of the trace.
    pub duration_ns: u64,
    /// The cycles, by time.
    pub cycles: Vec<CycleInfo>,
    /// How long those marked that begin and end in the trace.
    pub marking: Durations,
    /// Pauses for the collector.
    pub pauses: Durations,
    /// All stops of the world by reason, the greatest sum first.
    pub stops: Vec<Named>,
    /// Mark assists.
    pub assists: Durations,
    /// Sweeps.
    pub sweeps: Durations,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// A cycle. Sizes are bytes; times that end in `at_ns` are counted from the beginning of the trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CycleInfo {
    /// Its number, from 1.
    pub number: u64,
    /// When marking began; 0 if it was under way when the trace began.
    pub begin_at_ns: u64,
    /// When it ended; `None` if it did not in the trace.
    pub end_at_ns: Option<u64>,
    /// Whether it was under way when the trace began.
    pub from_before: bool,
    /// Pauses that belong to it.
    pub pauses: u64,
    /// Their sum.
    pub pause_ns_total: u64,
    /// The longest.
    pub pause_ns_max: u64,
    /// Mark assists in it.
    pub assists: u64,
    /// Their sum.
    pub assist_ns: u64,
    /// Time in sweeps, up to the next cycle.
    pub sweep_ns: u64,
    /// Bytes that they gave back.
    pub reclaimed_bytes: u64,
    /// The heap when it began, if a size had been told.
    pub heap_begin_bytes: Option<u64>,
    /// The largest heap up to the next cycle.
    pub heap_peak_bytes: u64,
    /// The heap when marking ended.
    pub heap_end_bytes: Option<u64>,
    /// The smallest heap from then to the next cycle: what was left.
    pub heap_after_bytes: Option<u64>,
    /// The goal, as last told before the next cycle.
    pub goal_bytes: Option<u64>,
    /// Who began it, in one line; empty if it was not told.
    pub trigger: String,
}

/// Reads the rest of a trace and lists the collector's cycles.
#[must_use]
pub fn gc(reader: &mut Reader<'_>) -> GcReport {
    gc_watched(reader, &mut || {})
}

/// Like [`gc`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn gc_watched(reader: &mut Reader<'_>, tick: &mut dyn FnMut()) -> GcReport {
    let (mut states, mut interner, mut events) = (States::new(), Interner::new(), GcEvents::default());
    let (mut begin, mut end) = (None, Time(0));
    let done = each_event(reader, tick, |ev| {
        begin.get_or_insert(ev.time);
        end = ev.time;
        states.update(&ev, &mut interner);
        if !matches!(ev.kind(), EventKind::StateTransition) {
            events.update(&ev, &mut interner, &states);
        }
    });
    let begin = begin.unwrap_or(end);
    let mut marking = Dist::default();
    for c in events.cycles.iter().filter(|c| !c.from_before) {
        if let Some(end) = c.end {
            marking.add(end.since(c.begin).max(0) as u64);
        }
    }
    let mut stops: Vec<Named> = events
        .pauses
        .iter()
        .map(|(&k, d)| Named { name: interner.text(k).to_owned(), durations: d.durations() })
        .collect();
    stops.sort_by(|a, b| b.durations.total_ns.cmp(&a.durations.total_ns).then_with(|| a.name.cmp(&b.name)));
    let cycles = events.cycles.iter().enumerate().map(|(i, c)| info(i, c, begin, &interner)).collect();
    GcReport {
        schema: GC_SCHEMA.to_owned(),
        duration_ns: end.since(begin).max(0) as u64,
        cycles,
        marking: marking.durations(),
        pauses: events.gc_pauses.durations(),
        stops,
        assists: events.assists.durations(),
        sweeps: events.sweeps.durations(),
        damage: done.err().map(|e| Damage::of(&e)),
    }
}

fn info(i: usize, c: &GcCycle, begin: Time, interner: &Interner) -> CycleInfo {
    let since = |t: Time| t.since(begin).max(0) as u64;
    let trigger =
        if interner.frames(c.stack).is_empty() { String::new() } else { frames::one_line(interner, c.stack, 2) };
    CycleInfo {
        number: i as u64 + 1,
        begin_at_ns: since(c.begin),
        end_at_ns: c.end.map(since),
        from_before: c.from_before,
        pauses: c.pauses,
        pause_ns_total: c.pause_ns_total,
        pause_ns_max: c.pause_ns_max,
        assists: c.assists,
        assist_ns: c.assist_ns,
        sweep_ns: c.sweep_ns,
        reclaimed_bytes: c.reclaimed_bytes,
        heap_begin_bytes: c.heap_begin_bytes,
        heap_peak_bytes: c.heap_peak_bytes,
        heap_end_bytes: c.end.map(|_| c.heap_end_bytes),
        heap_after_bytes: c.heap_after_bytes,
        goal_bytes: c.goal_bytes,
        trigger,
    }
}
