//! Mutator utilization: which share of the processors the collector leaves to the program, and its minimum over windows.
//!
//! At each moment the utilization is 1 minus the share of processors on which the collector works; while the world is stopped
//! for a collection it is 0. The *minimum mutator utilization* (MMU) of a window length is the smallest mean utilization of
//! all windows of that length in the trace. Both definitions are Go's (`internal/trace/gc.go`); the method is not: windows
//! are slid along as changes come, so that nothing needs to be kept but the changes within the longest window.
//!
//! One definition differs on purpose. Go counts a background worker once for its label and once more each time it begins to
//! run, and never takes the label back, so that its figure sinks with each cycle; here a worker counts while it runs with the
//! label of a worker. [`Counting::AsGo`] gives Go's figure, for comparison.

use crate::read::{EventKind, EventRef, GoId, GoState, IdHashMap, Metric, ProcId, Range, RangeKind, Scope, Time};
use std::collections::{BTreeMap, VecDeque};

/// What counts as work of the collector, apart from stopping the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Stops of the world whose reason names the GC.
    pub stw: bool,
    /// Background mark workers.
    pub background: bool,
    /// Mark assists.
    pub assist: bool,
    /// Sweeping.
    pub sweep: bool,
}

impl Default for Work {
    /// As Go's page shows it at first: all but sweeping.
    fn default() -> Self {
        Work { stw: true, background: true, assist: true, sweep: false }
    }
}

/// How background workers count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// While they run under a label that begins with `GC ` and is not `GC (idle)`.
    #[default]
    Labelled,
    /// As Go's tool does it.
    AsGo,
}

/// The smallest mean utilization of all windows of one length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Minimum {
    /// The length of the window in nanoseconds.
    pub window_ns: u64,
    /// The mean utilization in the worst window, 0 to 1.
    pub utilization: f64,
    /// When the worst window begins: the first one, if several are as bad.
    pub at: Time,
}

/// Takes in events and finds the minima.
pub struct Mmu {
    work: Work,
    counting: Counting,
    procs: usize,
    /// How many reasons there are for which the collector works on a processor.
    gc: BTreeMap<u64, i64>,
    /// How many processors have one.
    busy: usize,
    stopped: i64,
    assisting: IdHashMap<()>,
    workers: IdHashMap<()>,
    sync: u64,
    /// Changes in the first generation, in which it may turn out that something was so from the start.
    early: Option<Vec<(Time, f64, usize)>>,
    last: Option<f64>,
    now: Time,
    windows: Windows,
}

impl Mmu {
    /// For these lengths of windows, in nanoseconds.
    #[must_use]
    pub fn new(window_ns: &[u64], work: Work, counting: Counting) -> Mmu {
        Mmu {
            work,
            counting,
            procs: 0,
            gc: BTreeMap::new(),
            busy: 0,
            stopped: 0,
            assisting: IdHashMap::default(),
            workers: IdHashMap::default(),
            sync: 0,
            early: Some(Vec::new()),
            last: None,
            now: Time(0),
            windows: Windows::new(window_ns),
        }
    }

    /// Takes in an event. `change` is what [`States`](super::States) said of it.
    #[inline(always)]
    pub fn update(&mut self, ev: &EventRef<'_>, change: Option<&super::Change>) {
        self.now = ev.time;
        if ev.kind() != EventKind::StateTransition {
            self.other(ev);
        } else if let Some(c) = change
            && !(self.workers.is_empty() && self.assisting.is_empty())
        {
            self.transition(ev, c);
        }
    }

    fn other(&mut self, ev: &EventRef<'_>) {
        match ev.kind() {
            EventKind::Sync => {
                self.sync = ev.args[0];
                if self.sync > 1 {
                    self.settle();
                }
                return;
            }
            EventKind::Metric => match ev.metric() {
                Some(Metric::Procs(n)) => self.set_procs(n),
                _ => return,
            },
            EventKind::RangeActive | EventKind::RangeBegin | EventKind::RangeEnd => {
                let Some(r) = ev.range() else { return };
                self.range(ev, r);
            }
            EventKind::Label => self.label(ev),
            _ => return,
        }
        self.note();
    }

    fn set_procs(&mut self, n: u64) {
        // A trace that claims absurdly many gets what it can use.
        self.procs = usize::try_from(n).unwrap_or(usize::MAX);
        self.gc.retain(|&p, _| p < n);
        self.busy = self.gc.values().filter(|&&n| n > 0).count();
    }

    /// One reason more (or fewer) for which the collector works on a processor.
    fn add(&mut self, proc: ProcId, by: i64) {
        if proc.is_none() || proc.0 >= self.procs as u64 {
            return;
        }
        let n = self.gc.entry(proc.0).or_default();
        let before = *n > 0;
        *n += by;
        match (before, *n > 0) {
            (false, true) => self.busy += 1,
            (true, false) => self.busy -= 1,
            _ => {}
        }
    }

    #[inline(never)]
    fn transition(&mut self, ev: &EventRef<'_>, c: &super::Change) {
        if !self.assisting.contains_key(&c.id.0) && !self.workers.contains_key(&c.id.0) {
            return;
        }
        match (c.from.executing(), c.to.executing()) {
            (false, true) => self.add(ev.proc, 1),
            (true, false) => {
                self.add(ev.proc, -1);
                if self.counting == Counting::Labelled {
                    // Its next run has its own label.
                    self.workers.remove(&c.id.0);
                }
            }
            _ => {}
        }
        if c.to == GoState::NotExist {
            self.assisting.remove(&c.id.0);
            self.workers.remove(&c.id.0);
        }
        self.note();
    }

    fn label(&mut self, ev: &EventRef<'_>) {
        let Some(label) = ev.label() else { return };
        let text = ev.string(label);
        let works = self.work.background && text.starts_with("GC ") && text != "GC (idle)";
        let was = self.workers.contains_key(&ev.goroutine.0);
        if works && (!was || self.counting == Counting::AsGo) {
            self.workers.insert(ev.goroutine.0, ());
            self.add(ev.proc, 1);
        } else if !works && was && self.counting == Counting::Labelled {
            self.workers.remove(&ev.goroutine.0);
            self.add(ev.proc, -1);
        }
    }

    fn range(&mut self, ev: &EventRef<'_>, r: Range) {
        let kind = ev.kind();
        if kind == EventKind::RangeActive && self.sync > 1 {
            // What begins here was seen to begin.
            return;
        }
        let by = if kind == EventKind::RangeEnd { -1 } else { 1 };
        match r.kind {
            RangeKind::StopTheWorld(reason) if self.work.stw && ev.string(reason).contains("GC") => self.stopped += by,
            RangeKind::Sweep if self.work.sweep => {
                if kind == EventKind::RangeActive {
                    self.since_the_start();
                }
                self.add(ev.proc, by);
            }
            RangeKind::MarkAssist if self.work.assist => {
                let Scope::Goroutine(g) = r.scope else { return };
                if kind == EventKind::RangeActive && ev.goroutine == g {
                    self.since_the_start();
                }
                self.add(ev.proc, by);
                self.set_assisting(g, by > 0);
            }
            _ => {}
        }
    }

    fn set_assisting(&mut self, g: GoId, on: bool) {
        if on {
            self.assisting.insert(g.0, ());
        } else {
            self.assisting.remove(&g.0);
        }
    }

    /// Something turns out to have been so since the trace began: takes one processor out of all that was noted.
    fn since_the_start(&mut self) {
        for (_, utilization, procs) in self.early.iter_mut().flatten() {
            *utilization = (*utilization - 1.0 / *procs as f64).max(0.0);
        }
    }

    fn note(&mut self) {
        if self.procs == 0 {
            return;
        }
        let working = if self.stopped > 0 { self.procs } else { self.busy.min(self.procs) };
        let now = 1.0 - working as f64 / self.procs as f64;
        if self.last == Some(now) {
            return;
        }
        self.last = Some(now);
        match &mut self.early {
            Some(early) => early.push((self.now, now, self.procs)),
            None => self.windows.change(self.now, now),
        }
    }

    /// The first generation is over: what it says stands.
    fn settle(&mut self) {
        for (t, u, _) in self.early.take().into_iter().flatten() {
            self.windows.change(t, u);
        }
    }

    /// The trace is over: the minima, in the order of the windows asked for. None if the number of processors was never told.
    #[must_use]
    pub fn finish(mut self) -> Vec<Minimum> {
        self.settle();
        // Go's curve ends where the last change is, if that is one to nothing.
        let ends_early = self.counting == Counting::AsGo && self.last == Some(0.0);
        let end = self.windows.steps.back().filter(|_| ends_early).map_or(self.now, |s| s.at);
        self.windows.finish(end)
    }

    /// The mean utilization over the whole trace so far; 1 before anything is known.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let mut w = Windows::new(&[]);
        let points = match &self.early {
            Some(early) => {
                early.iter().for_each(|&(t, u, _)| w.change(t, u));
                &w
            }
            None => &self.windows,
        };
        points.mean(self.now)
    }
}

/// Slides windows of several lengths along a step function.
struct Windows {
    /// Changes that some window still needs: when, the value from there on, and the integral up to there.
    steps: VecDeque<Step>,
    /// How many steps have been dropped at the front.
    dropped: usize,
    begin: Option<Time>,
    list: Vec<Window>,
}

#[derive(Clone, Copy)]
struct Step {
    at: Time,
    value: f64,
    /// From the beginning, in nanoseconds.
    integral: f64,
}

struct Window {
    ns: u64,
    /// The number (with the dropped ones) of the first step that was not yet a left edge.
    next: usize,
    min: f64,
    at: Time,
}

impl Windows {
    fn new(window_ns: &[u64]) -> Windows {
        let list = window_ns
            .iter()
            .map(|&ns| Window { ns: ns.clamp(1, i64::MAX as u64), next: 0, min: f64::INFINITY, at: Time(0) })
            .collect();
        Windows { steps: VecDeque::new(), dropped: 0, begin: None, list }
    }

    /// The function has this value from `t` on.
    fn change(&mut self, t: Time, value: f64) {
        let integral = self.slide(t);
        if self.begin.is_none() {
            self.begin = Some(t);
        }
        self.steps.push_back(Step { at: t, value, integral });
        // The last step before each window's left edge stays.
        let needed = self.list.iter().map(|w| w.next.saturating_sub(1)).min().unwrap_or(usize::MAX);
        while self.dropped < needed && self.steps.len() > 1 {
            self.steps.pop_front();
            self.dropped += 1;
        }
    }

    /// Moves all windows so that their right edges reach `t`. The minimum lies where an edge meets a change, so these are the
    /// places to look at. Returns the integral up to `t`.
    fn slide(&mut self, t: Time) -> f64 {
        let Some(&last) = self.steps.back() else { return 0.0 };
        let here = last.integral + last.value * t.since(last.at) as f64;
        for w in &mut self.list {
            let ns = w.ns as i64;
            while let Some(step) = self.steps.get(w.next - self.dropped) {
                let right = step.at.plus(ns);
                if right > t {
                    break;
                }
                // All windows that end at earlier changes were looked at then, so this one ends behind the last change.
                let until = last.integral + last.value * right.since(last.at) as f64;
                w.consider((until - step.integral) / w.ns as f64, step.at);
                w.next += 1;
            }
            if w.next > 0 {
                let step = self.steps[w.next - 1 - self.dropped];
                let left = t.plus(-ns);
                let until = step.integral + step.value * left.since(step.at) as f64;
                w.consider((here - until) / w.ns as f64, left);
            }
        }
        here
    }

    fn finish(mut self, end: Time) -> Vec<Minimum> {
        let Some(begin) = self.begin else { return Vec::new() };
        self.slide(end);
        let mean = self.mean(end);
        let minimum = |w: &Window| {
            // A window longer than the trace is as long as the trace.
            let (utilization, at) = if w.min.is_finite() { (w.min, w.at) } else { (mean, begin) };
            Minimum { window_ns: w.ns, utilization: utilization.clamp(0.0, 1.0), at }
        };
        self.list.iter().map(minimum).collect()
    }

    fn mean(&self, end: Time) -> f64 {
        let (Some(begin), Some(last)) = (self.begin, self.steps.back()) else { return 1.0 };
        let all = last.integral + last.value * end.since(last.at) as f64;
        let ns = end.since(begin);
        if ns > 0 { all / ns as f64 } else { last.value }
    }
}

impl Window {
    fn consider(&mut self, mean: f64, at: Time) {
        // Rounding must not move a window that is as bad as the first.
        if mean < self.min - 1e-12 {
            self.min = mean;
            self.at = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The obvious way: all windows whose edges meet a change, each summed from scratch.
    fn slow(steps: &[(i64, f64)], end: i64, ns: i64) -> f64 {
        let begin = steps[0].0;
        let ns = ns.min(end - begin);
        let mean = |from: i64| {
            let mut sum = 0.0;
            for (i, &(t, u)) in steps.iter().enumerate() {
                let next = steps.get(i + 1).map_or(end, |s| s.0);
                sum += u * ((next.min(from + ns) - t.max(from)).max(0)) as f64;
            }
            sum / ns as f64
        };
        let mut best = f64::INFINITY;
        for t in steps.iter().map(|s| s.0).chain([end]) {
            for from in [t, t - ns] {
                if from >= begin && from + ns <= end {
                    best = best.min(mean(from));
                }
            }
        }
        best
    }

    #[test]
    fn sliding_finds_what_trying_all_windows_finds() {
        let mut seed = 7u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for round in 0..300 {
            let mut t = 1000 + random(50) as i64;
            let steps: Vec<(i64, f64)> = (0..1 + random(40))
                .map(|_| {
                    t += 1 + random(if round % 3 == 0 { 5 } else { 300 }) as i64;
                    (t, random(5) as f64 / 4.0)
                })
                .collect();
            let end = t + 1 + random(200) as i64;
            let windows = [1, 2, 10, 100, 1000, 100_000];
            let mut w = Windows::new(&windows);
            steps.iter().for_each(|&(t, u)| w.change(Time(t), u));
            for (got, &ns) in w.finish(Time(end)).iter().zip(&windows) {
                let want = slow(&steps, end, ns as i64);
                assert!((got.utilization - want).abs() < 1e-9, "round {round}, window {ns}: {got:?}, want {want}");
            }
        }
    }

    #[test]
    fn only_the_changes_of_the_longest_window_are_kept() {
        let mut w = Windows::new(&[10, 1000]);
        for t in 0..100_000 {
            w.change(Time(t), (t % 2) as f64);
        }
        assert!(w.steps.len() <= 1002, "{}", w.steps.len());
    }

    #[test]
    fn nothing_known_is_no_minimum() {
        assert!(Windows::new(&[10]).finish(Time(100)).is_empty());
        assert!(Mmu::new(&[10], Work::default(), Counting::default()).finish().is_empty());
    }
}
