//! The collector's cycles, pauses, assists and sweeps.
//!
//! A cycle lasts from `GCBegin` to `GCEnd`: marking beside the program. The pauses, assists and sweeps of a cycle may stand
//! outside of that: a pause before it belongs to it, a sweep after it too.

use super::dist::Dist;
use super::states::States;
use crate::read::{
    EventKind, EventRef, IdHashMap, Interner, Metric, ProcId, RangeKind, Scope, StackKey, StringKey, Time,
};
use std::collections::BTreeMap;

/// One cycle.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GcCycle {
    /// When marking began; the beginning of the trace if it was under way then.
    pub begin: Time,
    /// When it ended; `None` if the trace ends before.
    pub end: Option<Time>,
    /// Whether the trace begins inside of it.
    pub from_before: bool,
    /// The heap's size when it began, in bytes; `None` if none was told by then.
    pub heap_begin_bytes: Option<u64>,
    /// The largest size until the next cycle.
    pub heap_peak_bytes: u64,
    /// The last size told when marking ended.
    pub heap_end_bytes: u64,
    /// The smallest size from the end of marking to the next cycle: what is left when all is swept.
    pub heap_after_bytes: Option<u64>,
    /// The goal told last before the next cycle.
    pub goal_bytes: Option<u64>,
    /// Pauses for this cycle: how many, their sum, the longest. Nanoseconds.
    pub pauses: u64,
    #[allow(missing_docs, reason = "told at `pauses`")]
    pub pause_ns_total: u64,
    #[allow(missing_docs, reason = "told at `pauses`")]
    pub pause_ns_max: u64,
    /// Time in mark assists, in nanoseconds, and how many there were.
    pub assist_ns: u64,
    #[allow(missing_docs, reason = "told at `assist_ns`")]
    pub assists: u64,
    /// Time in sweeps until the next cycle, in nanoseconds.
    pub sweep_ns: u64,
    /// Bytes that those sweeps looked at, and gave back.
    pub swept_bytes: u64,
    #[allow(missing_docs, reason = "told at `swept_bytes`")]
    pub reclaimed_bytes: u64,
    /// The stack that began it.
    pub stack: StackKey,
}

/// What a trace tells of its collector.
#[derive(Default)]
pub struct GcEvents {
    /// The cycles, by time.
    pub cycles: Vec<GcCycle>,
    /// Pauses by reason, GC or not.
    pub pauses: BTreeMap<StringKey, Dist>,
    /// The pauses whose reason names the GC.
    pub gc_pauses: Dist,
    /// The longest of them began at.
    pub longest_pause_at: Time,
    /// Mark assists, from begin to end.
    pub assists: Dist,
    /// Of that time, what the assisting goroutines spent running.
    pub assist_running_ns: u64,
    /// Assists by stack: how many, running time.
    pub assist_stacks: IdHashMap<(u64, u64)>,
    /// Sweeps.
    pub sweeps: Dist,
    /// Bytes that they looked at, and gave back.
    pub swept_bytes: u64,
    #[allow(missing_docs, reason = "told at `swept_bytes`")]
    pub reclaimed_bytes: u64,

    open_assists: IdHashMap<OpenAssist>,
    open_sweeps: IdHashMap<Time>,
    open_stops: IdHashMap<Time>,
    heap: Option<u64>,
    goal: Option<u64>,
    /// Pauses since the last cycle's end: they may belong to the next.
    pending: (u64, u64, u64),
    generation_begin: Time,
    sync: u64,
}

struct OpenAssist {
    begin: Time,
    running_ns: u64,
    stack: StackKey,
}

impl GcEvents {
    /// Takes in an event that [`States`] has taken in.
    #[inline]
    pub fn update(&mut self, ev: &EventRef<'_>, interner: &mut Interner, states: &States) {
        match ev.kind() {
            EventKind::Sync => {
                self.generation_begin = ev.time;
                self.sync = ev.args[0];
            }
            EventKind::Metric => match ev.metric() {
                Some(Metric::HeapAlloc(bytes)) => self.size(bytes),
                Some(Metric::HeapGoal(bytes)) => {
                    self.goal = Some(bytes);
                    if let Some(c) = self.cycles.last_mut() {
                        c.goal_bytes = self.goal;
                    }
                }
                _ => {}
            },
            EventKind::RangeBegin => self.begin(ev, interner, states, ev.time),
            EventKind::RangeActive => self.begin(ev, interner, states, self.generation_begin),
            EventKind::RangeEnd => self.end(ev, interner, states),
            _ => {}
        }
    }

    fn size(&mut self, bytes: u64) {
        self.heap = Some(bytes);
        let Some(c) = self.cycles.last_mut() else { return };
        c.heap_peak_bytes = c.heap_peak_bytes.max(bytes);
        if c.end.is_some() {
            c.heap_after_bytes = Some(c.heap_after_bytes.map_or(bytes, |v| v.min(bytes)));
        }
    }

    fn begin(&mut self, ev: &EventRef<'_>, interner: &mut Interner, states: &States, at: Time) {
        let Some(r) = ev.range() else { return };
        match (r.kind, r.scope) {
            (RangeKind::GcMark, _) => {
                if self.cycles.last().is_some_and(|c| c.end.is_none()) {
                    // Told again at the beginning of a generation.
                    return;
                }
                let (pauses, pause_ns_total, pause_ns_max) = std::mem::take(&mut self.pending);
                self.cycles.push(GcCycle {
                    begin: at,
                    from_before: ev.kind() == EventKind::RangeActive,
                    heap_begin_bytes: self.heap,
                    heap_peak_bytes: self.heap.unwrap_or(0),
                    goal_bytes: self.goal,
                    pauses,
                    pause_ns_total,
                    pause_ns_max,
                    stack: interner.stack(ev.generation(), ev.stack_id()),
                    ..GcCycle::default()
                });
            }
            (RangeKind::MarkAssist, Scope::Goroutine(g)) => {
                let running_ns = states.slot(g).map_or(0, |s| states.running_ns(s));
                let stack = interner.stack(ev.generation(), ev.stack_id());
                self.open_assists.entry(g.0).or_insert(OpenAssist { begin: at, running_ns, stack });
            }
            (RangeKind::Sweep, Scope::Proc(p)) => {
                self.open_sweeps.entry(p.0).or_insert(at);
            }
            (RangeKind::StopTheWorld(_), Scope::Goroutine(g)) => {
                self.open_stops.entry(g.0).or_insert(at);
            }
            _ => {}
        }
    }

    fn end(&mut self, ev: &EventRef<'_>, interner: &mut Interner, states: &States) {
        let Some(r) = ev.range() else { return };
        match (r.kind, r.scope) {
            (RangeKind::GcMark, _) => {
                if let Some(c) = self.cycles.last_mut().filter(|c| c.end.is_none()) {
                    c.end = Some(ev.time);
                    c.heap_end_bytes = self.heap.unwrap_or(0);
                }
            }
            (RangeKind::MarkAssist, Scope::Goroutine(g)) => {
                let Some(open) = self.open_assists.remove(&g.0) else { return };
                let ns = ev.time.since(open.begin).max(0) as u64;
                let running = states.slot(g).map_or(0, |s| states.running_ns(s)).saturating_sub(open.running_ns);
                self.assists.add(ns);
                self.assist_running_ns += running;
                let by_stack = self.assist_stacks.entry(open.stack.0.into()).or_default();
                by_stack.0 += 1;
                by_stack.1 += running;
                if let Some(c) = self.cycles.last_mut() {
                    c.assists += 1;
                    c.assist_ns += ns;
                }
            }
            (RangeKind::Sweep, Scope::Proc(p)) => self.end_sweep(ev, p),
            (RangeKind::StopTheWorld(reason), Scope::Goroutine(g)) => {
                let Some(begin) = self.open_stops.remove(&g.0) else { return };
                let ns = ev.time.since(begin).max(0) as u64;
                let key = interner.string(ev.generation(), reason);
                self.pauses.entry(key).or_default().add(ns);
                let reason = interner.text(key);
                if reason.contains("GC") {
                    // A collection of the young objects belongs to no cycle.
                    self.gc_pause(begin, ns, reason != "GC minor collection");
                }
            }
            _ => {}
        }
    }

    fn end_sweep(&mut self, ev: &EventRef<'_>, p: ProcId) {
        let Some(begin) = self.open_sweeps.remove(&p.0) else { return };
        let ns = ev.time.since(begin).max(0) as u64;
        let totals = ev.sweep_totals();
        let (swept, reclaimed) = totals.map_or((0, 0), |t| (t.swept_bytes, t.reclaimed_bytes));
        self.sweeps.add(ns);
        self.swept_bytes = self.swept_bytes.saturating_add(swept);
        self.reclaimed_bytes = self.reclaimed_bytes.saturating_add(reclaimed);
        if let Some(c) = self.cycles.last_mut() {
            c.sweep_ns += ns;
            c.swept_bytes = c.swept_bytes.saturating_add(swept);
            c.reclaimed_bytes = c.reclaimed_bytes.saturating_add(reclaimed);
        }
    }

    fn gc_pause(&mut self, begin: Time, ns: u64, of_cycle: bool) {
        if self.gc_pauses.count() == 0 || ns > self.gc_pauses.max() {
            self.longest_pause_at = begin;
        }
        self.gc_pauses.add(ns);
        if !of_cycle {
            return;
        }
        // A pause that begins while no cycle marks opens the next one.
        let (pauses, total, max) = match self.cycles.last_mut() {
            Some(c) if c.end.is_none_or(|end| begin <= end) => {
                (&mut c.pauses, &mut c.pause_ns_total, &mut c.pause_ns_max)
            }
            _ => (&mut self.pending.0, &mut self.pending.1, &mut self.pending.2),
        };
        *pauses += 1;
        *total += ns;
        *max = (*max).max(ns);
    }

    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cycles.is_empty() && self.pauses.is_empty() && self.assists.count() == 0 && self.sweeps.count() == 0
    }
}
