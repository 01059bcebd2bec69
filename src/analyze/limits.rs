//! Limits on the numbers of a summary, for programs that must stay within them: in tests, in CI.
//!
//! A number has a name ([`value`] has the list) and a unit; a limit is a name, a direction and a bound: `heap.peak=64MiB`.
//! A number that the trace does not tell holds no limit: a check that cannot be made must not pass.

use super::dist::Durations;
use super::summary::{Named, Summary};
use super::units::{Bytes, Count, Ns, Percent, ns_of_unit};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a number counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Bytes.
    Bytes,
    /// Things.
    #[default]
    Count,
    /// A share of 1.
    Share,
}

/// Which side of the bound is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// At most.
    #[default]
    Max,
    /// At least.
    Min,
}

/// A limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The name of the number.
    pub name: String,
    /// Which side of the bound is right.
    pub direction: Direction,
    /// The bound, in the number's unit.
    pub bound: f64,
}

/// A number, its limit, and whether it holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Check {
    /// The name of the number.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Which side of the bound is right.
    pub direction: Direction,
    /// The number; `None` if the trace does not tell it.
    pub value: Option<f64>,
    /// The bound.
    pub bound: f64,
    /// The number of the trace to compare with, if the bound comes from there.
    pub baseline: Option<f64>,
    /// Whether it holds.
    pub held: bool,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |v: f64| show(v, self.unit);
        let word = if self.direction == Direction::Max { "at most" } else { "at least" };
        match self.value {
            Some(v) => write!(f, "{} is {}, {word} {}", self.name, show(v), show(self.bound))?,
            None => write!(f, "{} is not told by the trace, {word} {}", self.name, show(self.bound))?,
        }
        match self.baseline {
            Some(b) => write!(f, " (was {})", show(b)),
            None => Ok(()),
        }
    }
}

fn show(v: f64, unit: Unit) -> String {
    let sign = if v < 0.0 { "-" } else { "" };
    let n = v.abs() as u64;
    match unit {
        Unit::Ns => format!("{sign}{}", Ns(n)),
        Unit::Bytes => format!("{sign}{}", Bytes(n)),
        Unit::Count => format!("{sign}{}", Count(n)),
        Unit::Share => Percent(v).to_string(),
    }
}

impl Limit {
    /// Reads `NAME=BOUND`, the bound with a unit that fits the name: `heap.peak=64MiB`, `gc.pause.p99=5ms`, `mmu@10ms=0.8`.
    ///
    /// # Errors
    /// A sentence, if there is no such name or the bound cannot be read.
    pub fn parse(text: &str, direction: Direction) -> Result<Limit, String> {
        let Some((name, bound)) = text.rsplit_once('=') else {
            return Err("expected NAME=BOUND, such as heap.peak=64MiB".to_owned());
        };
        let (name, bound) = (name.trim(), bound.trim());
        let (unit, _) = value(&Summary::default(), name).ok_or_else(|| unknown(name))?;
        let bound = parse_bound(bound, unit).ok_or_else(|| {
            let example = match unit {
                Unit::Ns => "a time such as 5ms",
                Unit::Bytes => "a size such as 64MiB",
                Unit::Count => "a number",
                Unit::Share => "a share such as 0.8 or 80%",
            };
            format!("{bound:?} is no bound for {name}: expected {example}")
        })?;
        Ok(Limit { name: name.to_owned(), direction, bound })
    }

    /// Checks a summary.
    #[must_use]
    pub fn check(&self, s: &Summary) -> Check {
        let (unit, value) = value(s, &self.name).unwrap_or_default();
        let held = value.is_some_and(|v| match self.direction {
            Direction::Max => v <= self.bound,
            Direction::Min => v >= self.bound,
        });
        Check {
            name: self.name.clone(),
            unit,
            direction: self.direction,
            value,
            bound: self.bound,
            baseline: None,
            held,
        }
    }
}

/// The length of the window of `mmu@10ms`, in nanoseconds.
#[must_use]
pub fn mmu_window_ns(name: &str) -> Option<u64> {
    let v = parse_bound(name.strip_prefix("mmu@")?, Unit::Ns)?;
    (v >= 1.0).then_some(v as u64)
}

fn unknown(name: &str) -> String {
    format!("no number is called {name:?}; there are {}", NAMES.join(", "))
}

/// The names of numbers. `DIST` stands for count, total, mean, min, p50, p90, p99, p999 or max; `NAME` for any name.
pub const NAMES: &[&str] = &[
    "duration",
    "events",
    "lost",
    "threads",
    "goroutines",
    "goroutines.max",
    "heap.start",
    "heap.peak",
    "heap.end",
    "heap.growth",
    "gc.cycles",
    "gc.pause.DIST",
    "gc.marking.DIST",
    "gc.assist.DIST",
    "gc.assist.share",
    "gc.sweep.DIST",
    "gc.utilization",
    "mmu@TIME",
    "sched.DIST",
    "syscall.NAME.DIST",
    "block.REASON.DIST",
    "task.NAME.DIST",
    "region.NAME.DIST",
    "series.NAME.max",
    "findings",
];

/// A number of a summary by name: its unit, and the number if the trace tells it. `None` if there is no such name.
#[must_use]
pub fn value(s: &Summary, name: &str) -> Option<(Unit, Option<f64>)> {
    let count = |n: u64| Some((Unit::Count, Some(n as f64)));
    let heap = |of: fn(&super::heap::Heap) -> f64| Some((Unit::Bytes, s.heap.as_ref().map(of)));
    match name {
        "duration" => return Some((Unit::Ns, Some(s.trace.duration_ns as f64))),
        "events" => return count(s.events.total),
        "lost" => return count(s.losses.events + s.losses.samples),
        "threads" => return count(s.threads.threads),
        "goroutines" => return count(s.threads.goroutines),
        "goroutines.max" => return count(s.threads.max),
        "findings" => return count(s.findings.len() as u64),
        "heap.start" => return heap(|h| h.start_bytes as f64),
        "heap.peak" => return heap(|h| h.peak_bytes as f64),
        "heap.end" => return heap(|h| h.end_bytes as f64),
        "heap.growth" => return heap(|h| h.growth_bytes as f64),
        // Without a collector there are no cycles, and no pauses.
        "gc.cycles" => return count(s.gc.as_ref().map_or(0, |g| g.cycles)),
        "gc.assist.share" => return Some((Unit::Share, Some(s.gc.as_ref().map_or(0.0, |g| g.assist_share)))),
        "gc.utilization" => return Some((Unit::Share, Some(s.gc.as_ref().map_or(1.0, |g| g.mutator_utilization)))),
        _ => {}
    }
    if name.starts_with("mmu@") {
        let window = mmu_window_ns(name)?;
        let mmu = match &s.gc {
            None => Some(1.0),
            Some(gc) => gc.mmu.iter().find(|p| p.window_ns == window).map(|p| p.utilization),
        };
        return Some((Unit::Share, mmu));
    }
    let (rest, part) = name.rsplit_once('.')?;
    if let Some(series) = rest.strip_prefix("series.").filter(|_| part == "max") {
        let unit = if series.ends_with("bytes") { Unit::Bytes } else { Unit::Count };
        return Some((unit, s.series.iter().find(|x| x.name == series).map(|x| x.max as f64)));
    }
    let none = Durations::default();
    let gc = |of: fn(&super::summary::Collector) -> &Durations| Some(s.gc.as_ref().map_or(none, |g| *of(g)));
    // A name that is not there has a distribution without values: nothing has taken any time.
    let named = |list: &[Named], name: &str| Some(list.iter().find(|n| n.name == name).map_or(none, |n| n.durations));
    let d = match rest {
        "gc.pause" => gc(|g| &g.pauses),
        "gc.marking" => gc(|g| &g.marking),
        "gc.assist" => gc(|g| &g.assists),
        "gc.sweep" => gc(|g| &g.sweeps),
        "sched" => Some(s.scheduling),
        _ => {
            let (kind, name) = rest.split_once('.')?;
            match kind {
                "syscall" => Some(s.syscalls.iter().find(|c| c.name == name).map_or(none, |c| c.durations)),
                "block" => named(&s.blocking, name),
                // A task or region that is missing is a mistake in the name, or the work was not done.
                "task" => s.tasks.iter().find(|n| n.name == name).map(|n| n.durations),
                "region" => s.regions.iter().find(|n| n.name == name).map(|n| n.durations),
                _ => return None,
            }
        }
    };
    let (unit, of): (Unit, fn(&Durations) -> u64) = match part {
        "count" => (Unit::Count, |d| d.count),
        "total" => (Unit::Ns, |d| d.total_ns),
        "mean" => (Unit::Ns, |d| d.mean_ns),
        "min" => (Unit::Ns, |d| d.min_ns),
        "p50" => (Unit::Ns, |d| d.p50_ns),
        "p90" => (Unit::Ns, |d| d.p90_ns),
        "p99" => (Unit::Ns, |d| d.p99_ns),
        "p999" => (Unit::Ns, |d| d.p999_ns),
        "max" => (Unit::Ns, |d| d.max_ns),
        _ => return None,
    };
    Some((unit, d.map(|d| of(&d) as f64)))
}

/// Reads a number with a unit.
fn parse_bound(text: &str, unit: Unit) -> Option<f64> {
    let (number, suffix) = text.split_at(text.find(|c: char| c.is_alphabetic() || c == '%').unwrap_or(text.len()));
    let factor = match (unit, suffix) {
        (Unit::Ns, unit) => ns_of_unit(unit)?,
        (Unit::Bytes, "" | "B") | (Unit::Count | Unit::Share, "") => 1.0,
        (Unit::Bytes, "kB" | "KB") => 1e3,
        (Unit::Bytes, "MB") => 1e6,
        (Unit::Bytes, "GB") => 1e9,
        (Unit::Bytes, "KiB") => 1024.0,
        (Unit::Bytes, "MiB") => 1024.0 * 1024.0,
        (Unit::Bytes, "GiB") => 1024.0 * 1024.0 * 1024.0,
        (Unit::Share, "%") => 0.01,
        _ => return None,
    };
    let v: f64 = number.trim().parse().ok()?;
    (v.is_finite()).then_some(v * factor)
}

/// The numbers that a comparison with a baseline looks at, and which way is worse: those that say how good a program is.
const COMPARED: &[(&str, Direction)] = &[
    ("heap.peak", Direction::Max),
    ("gc.cycles", Direction::Max),
    ("gc.pause.p99", Direction::Max),
    ("gc.pause.total", Direction::Max),
    ("gc.assist.total", Direction::Max),
    ("gc.utilization", Direction::Min),
    ("sched.p99", Direction::Max),
];

/// Compares with the summary of another trace: a number may be worse than there by the share `regress` (0.1 is 10 %). Compared are
/// heap peak, cycles, pauses, assists and utilization of the collector, scheduling latency, and tasks and regions by name.
#[must_use]
pub fn compare(s: &Summary, baseline: &Summary, regress: f64) -> Vec<Check> {
    let mut names: Vec<(String, Direction)> = COMPARED.iter().map(|&(n, d)| (n.to_owned(), d)).collect();
    names.extend(baseline.tasks.iter().map(|t| (format!("task.{}.p99", t.name), Direction::Max)));
    names.extend(baseline.regions.iter().map(|r| (format!("region.{}.p99", r.name), Direction::Max)));
    let check = |(name, direction): (String, Direction)| {
        let (_, was) = value(baseline, &name)?;
        let was = was?;
        let bound = match direction {
            Direction::Max => was * (1.0 + regress),
            Direction::Min => was * (1.0 - regress),
        };
        let check = Limit { name, direction, bound }.check(s);
        Some(Check { baseline: Some(was), ..check })
    };
    names.into_iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::summary::{Collector, MmuPoint};

    fn sample() -> Summary {
        let durations = Durations { count: 10, total_ns: 1_000, p99_ns: 400, max_ns: 500, ..Durations::default() };
        let heap = crate::analyze::Heap { peak_bytes: 1 << 20, growth_bytes: -5, ..Default::default() };
        let gc = Collector {
            cycles: 3,
            pauses: durations,
            mmu: vec![MmuPoint { window_ns: 10_000_000, utilization: 0.75, at_ns: 0 }],
            mutator_utilization: 0.9,
            ..Default::default()
        };
        let tasks = vec![Named { name: "a.b".into(), durations }];
        let mut s = Summary { heap: Some(heap), gc: Some(gc), tasks, ..Summary::default() };
        s.losses.events = 2;
        s
    }

    #[test]
    fn limits_by_name_and_unit() {
        for (text, direction, held) in [
            ("heap.peak=1MiB", Direction::Max, true),
            ("heap.peak=1MB", Direction::Max, false),
            ("heap.growth=0", Direction::Max, true),
            ("gc.pause.p99=400ns", Direction::Max, true),
            ("gc.pause.max=0.4us", Direction::Max, false),
            ("gc.pause.count=10", Direction::Min, true),
            ("mmu@10ms=0.75", Direction::Min, true),
            ("mmu@10ms=76%", Direction::Min, false),
            ("mmu@20ms=0", Direction::Min, false),
            ("lost=0", Direction::Max, false),
            ("task.a.b.p99=1us", Direction::Max, true),
            ("gc.pause.max=0.1m", Direction::Max, true),
            ("duration=1h", Direction::Max, true),
            ("task.none.p99=1us", Direction::Max, false),
            ("syscall.write.total=1s", Direction::Max, true),
        ] {
            let limit = Limit::parse(text, direction).unwrap_or_else(|e| panic!("{text}: {e}"));
            let check = limit.check(&sample());
            assert_eq!(check.held, held, "{check}");
        }
        for text in
            ["heap.peak", "heap.peak=5ms", "heap.peek=1", "gc.pause.p98=1ms", "mmu@=1", "lost=few", "gc.pause.p99=5"]
        {
            assert!(Limit::parse(text, Direction::Max).is_err(), "{text}");
        }
    }

    #[test]
    fn a_baseline_bounds_by_a_share_of_itself() {
        let was = sample();
        let mut now = sample();
        assert!(compare(&now, &was, 0.0).iter().all(|c| c.held));
        if let Some(h) = &mut now.heap {
            h.peak_bytes = (1 << 20) * 108 / 100;
        }
        if let Some(gc) = &mut now.gc {
            gc.mutator_utilization = 0.85;
        }
        now.tasks[0].durations.p99_ns = 500;
        let failed: Vec<String> =
            compare(&now, &was, 0.1).into_iter().filter(|c| !c.held).map(|c| c.to_string()).collect();
        assert_eq!(failed, ["task.a.b.p99 is 500 ns, at most 440 ns (was 400 ns)"]);
        assert_eq!(compare(&now, &was, 0.05).iter().filter(|c| !c.held).count(), 3);
    }
}
