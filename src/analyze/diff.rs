//! Two traces side by side: which numbers differ, and which places.
//!
//! Both are summaries, so that one of them may come from a file. Places are the same if reason and functions are, those
//! of libraries apart; lines and addresses may differ, because the program has changed. Each list has the greatest difference first.

use super::dist::Durations;
use super::frames::{self, FrameInfo};
use super::limits::{self, Direction, Unit};
use super::summary::{Named, Summary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema of [`Diff`] as JSON.
pub const DIFF_SCHEMA: &str = "exectrace.diff/1";

/// How two traces differ. `a` is the one before, `b` the one after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Diff {
    /// [`DIFF_SCHEMA`].
    pub schema: String,
    /// Whether times and counts of the lists below are for each second of trace, so that traces of different length compare.
    pub per_second: bool,
    /// Numbers of the whole trace.
    pub numbers: Vec<NumberDiff>,
    /// Where goroutines waited. Times are sums.
    pub blocking: Vec<PlaceDiff>,
    /// CPU samples by stack. Times are samples.
    pub cpu: Vec<PlaceDiff>,
    /// System calls by name. Times are sums.
    pub syscalls: Vec<PlaceDiff>,
    /// Running time of goroutines by name. Times are sums.
    pub groups: Vec<PlaceDiff>,
    /// Tasks by name. Times are the 99th percentiles, never for each second.
    pub tasks: Vec<PlaceDiff>,
    /// Regions by name, likewise.
    pub regions: Vec<PlaceDiff>,
    /// Lists of which a side has only a part: a summary as JSON may have fewer places than the trace. What such a side does not
    /// have is left out of the list here.
    #[serde(default)]
    pub partial: Vec<String>,
}

/// A number in both traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NumberDiff {
    /// Its name, as limits have it.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Before; `None` if the trace does not tell it.
    pub a: Option<f64>,
    /// After.
    pub b: Option<f64>,
    /// Whether `b` is better; `None` if they are equal or neither is better.
    pub better: Option<bool>,
}

/// A place, or a name, in both traces. What is only in one of them has zeros for the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlaceDiff {
    /// The reason of the waiting, or the name.
    pub label: String,
    /// The stack in one line, as the later trace has it; empty for names.
    pub place: String,
    /// How many times before.
    pub a_count: f64,
    /// How many times after.
    pub b_count: f64,
    /// How long before.
    pub a: f64,
    /// How long after.
    pub b: f64,
}

impl PlaceDiff {
    /// By how much it is more after than before.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.b - self.a
    }
}

/// The numbers that are shown, and which way is better, if either is.
const NUMBERS: &[(&str, Option<Direction>)] = &[
    ("duration", None),
    ("events", None),
    ("lost", Some(Direction::Max)),
    ("goroutines", None),
    ("goroutines.max", None),
    ("heap.peak", Some(Direction::Max)),
    ("heap.end", Some(Direction::Max)),
    ("gc.cycles", Some(Direction::Max)),
    ("gc.pause.total", Some(Direction::Max)),
    ("gc.pause.p99", Some(Direction::Max)),
    ("gc.pause.max", Some(Direction::Max)),
    ("gc.assist.total", Some(Direction::Max)),
    ("gc.sweep.total", Some(Direction::Max)),
    ("gc.utilization", Some(Direction::Min)),
    ("mmu@1ms", Some(Direction::Min)),
    ("mmu@10ms", Some(Direction::Min)),
    ("mmu@100ms", Some(Direction::Min)),
    ("sched.p50", Some(Direction::Max)),
    ("sched.p99", Some(Direction::Max)),
    ("sched.max", Some(Direction::Max)),
];

/// Compares two summaries; `per_second` divides sums by the length of their trace.
#[must_use]
pub fn diff(a: &Summary, b: &Summary, per_second: bool) -> Diff {
    let scale = |s: &Summary| if per_second { 1e9 / s.trace.duration_ns.max(1) as f64 } else { 1.0 };
    let (ka, kb) = (scale(a), scale(b));
    let named = |of: fn(&Summary) -> &[Named]| {
        let mut j = Join::default();
        let p99 = |d: &Durations| (d.count as f64, d.p99_ns as f64);
        of(a).iter().for_each(|n| j.add(false, n.name.clone(), &n.name, "", p99(&n.durations), 1.0));
        of(b).iter().for_each(|n| j.add(true, n.name.clone(), &n.name, "", p99(&n.durations), 1.0));
        j.sorted()
    };
    Diff {
        schema: DIFF_SCHEMA.to_owned(),
        per_second,
        numbers: NUMBERS.iter().filter_map(|&(name, better)| number(a, b, name, better)).collect(),
        partial: LISTS.iter().filter(|l| (l.1)(a) || (l.1)(b)).map(|l| l.0.to_owned()).collect(),
        blocking: {
            let mut j = Join::of(blocking_cut(a), blocking_cut(b));
            for (late, s, k) in [(false, a, ka), (true, b, kb)] {
                for x in &s.blocking_stacks {
                    let key = key(&x.reason, &x.stack);
                    j.add(late, key, &x.reason, &x.place, (x.count as f64, x.total_ns as f64), k);
                }
            }
            j.sorted()
        },
        cpu: {
            let mut j = Join::of(cpu_cut(a), cpu_cut(b));
            for (late, s, k) in [(false, a, ka), (true, b, kb)] {
                for x in &s.cpu.stacks {
                    let key = key("", &x.stack);
                    j.add(late, key, "", &x.place, (x.count as f64, x.count as f64), k);
                }
            }
            j.sorted()
        },
        syscalls: {
            let mut j = Join::default();
            for (late, s, k) in [(false, a, ka), (true, b, kb)] {
                for x in &s.syscalls {
                    let d = &x.durations;
                    j.add(late, x.name.clone(), &x.name, "", (d.count as f64, d.total_ns as f64), k);
                }
            }
            j.sorted()
        },
        groups: {
            let mut j = Join::of(groups_cut(a), groups_cut(b));
            for (late, s, k) in [(false, a, ka), (true, b, kb)] {
                for x in &s.groups {
                    j.add(late, x.name.clone(), &x.name, "", (x.goroutines as f64, x.running_ns as f64), k);
                }
            }
            j.sorted()
        },
        tasks: named(|s| &s.tasks),
        regions: named(|s| &s.regions),
    }
}

/// The lists that a summary may have in part, and how to tell.
type IsCut = fn(&Summary) -> bool;
const LISTS: &[(&str, IsCut)] = &[("blocking", blocking_cut), ("cpu", cpu_cut), ("groups", groups_cut)];

fn blocking_cut(s: &Summary) -> bool {
    s.blocking_stacks_len > s.blocking_stacks.len() as u64
}

fn cpu_cut(s: &Summary) -> bool {
    s.cpu.stacks_len > s.cpu.stacks.len() as u64
}

fn groups_cut(s: &Summary) -> bool {
    s.groups_len > s.groups.len() as u64
}

fn number(a: &Summary, b: &Summary, name: &str, direction: Option<Direction>) -> Option<NumberDiff> {
    let (unit, before) = limits::value(a, name)?;
    let (_, after) = limits::value(b, name)?;
    let better = match (before, after, direction) {
        (Some(x), Some(y), Some(Direction::Max)) if x != y => Some(y < x),
        (Some(x), Some(y), Some(Direction::Min)) if x != y => Some(y > x),
        _ => None,
    };
    let said = before.is_some() || after.is_some();
    said.then(|| NumberDiff { name: name.to_owned(), unit, a: before, b: after, better })
}

/// What makes two stacks the same place: the reason, and the functions of the program and of the packages that it uses. Frames of
/// runtime and library are not shown either, and differ with the way that an operation took inside. They count where there are
/// no others.
fn key(reason: &str, stack: &[FrameInfo]) -> String {
    let own = |f: &&FrameInfo| !frames::is_runtime(&f.func, &f.file);
    let none = !stack.iter().any(|f| own(&f));
    let mut key = reason.to_owned();
    for f in stack.iter().filter(|f| none || own(f)) {
        key.push('\0');
        key.push_str(&f.func);
    }
    key
}

/// Puts entries of both traces together by key.
#[derive(Default)]
struct Join {
    by_key: BTreeMap<String, PlaceDiff>,
    /// Whether the earlier and the later list lack entries: that one is missing says nothing then.
    cut: [bool; 2],
}

impl Join {
    fn of(a_cut: bool, b_cut: bool) -> Join {
        Join { cut: [a_cut, b_cut], ..Join::default() }
    }

    fn add(&mut self, late: bool, key: String, label: &str, place: &str, (count, ns): (f64, f64), scale: f64) {
        let e = self.by_key.entry(key).or_default();
        e.label = label.to_owned();
        e.place = place.to_owned();
        let (c, v) = if late { (&mut e.b_count, &mut e.b) } else { (&mut e.a_count, &mut e.a) };
        *c += count * scale;
        *v += ns * scale;
    }

    fn sorted(self) -> Vec<PlaceDiff> {
        let [a_cut, b_cut] = self.cut;
        let known = |p: &PlaceDiff| !(a_cut && p.a_count == 0.0 || b_cut && p.b_count == 0.0);
        let mut all: Vec<PlaceDiff> = self.by_key.into_values().filter(known).collect();
        // Stable, so that entries without a difference stay in the order of their names.
        all.sort_by(|x, y| y.delta().abs().total_cmp(&x.delta().abs()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::summary::{Blocked, Origin};

    fn blocked(func: &str, line: u64, count: u64, total_ns: u64) -> Blocked {
        let stack = vec![FrameInfo { func: func.into(), file: "a.rs".into(), line }];
        Blocked {
            reason: "sync".into(),
            count,
            total_ns,
            place: format!("{func} ({line})"),
            stack,
            ..Default::default()
        }
    }

    fn summary(seconds: u64, stacks: Vec<Blocked>) -> Summary {
        Summary {
            trace: Origin { duration_ns: seconds * 1_000_000_000, ..Default::default() },
            blocking_stacks: stacks,
            ..Default::default()
        }
    }

    #[test]
    fn the_same_functions_are_the_same_place_on_other_lines() {
        let a = summary(1, vec![blocked("f", 1, 10, 100), blocked("gone", 5, 1, 30)]);
        let b = summary(2, vec![blocked("f", 2, 10, 150), blocked("f", 3, 10, 50), blocked("new", 5, 1, 10)]);
        let d = diff(&a, &b, false);
        let rows: Vec<_> = d.blocking.iter().map(|p| (p.place.as_str(), p.a, p.b, p.b_count)).collect();
        assert_eq!(rows, [("f (3)", 100.0, 200.0, 20.0), ("gone (5)", 30.0, 0.0, 0.0), ("new (5)", 0.0, 10.0, 1.0)]);
        // For each second the first place has not changed.
        let rows: Vec<_> = diff(&a, &b, true).blocking.into_iter().map(|p| (p.place, p.a, p.b)).collect();
        assert_eq!(rows[2], ("f (3)".to_owned(), 100.0, 100.0));
    }

    #[test]
    fn the_way_through_the_library_makes_no_other_place() {
        let through = |func: &str, ns| {
            let mut b = blocked("app::work", 7, 1, ns);
            b.stack.insert(0, FrameInfo { func: func.into(), file: "/rustc/1/library/std/src/sys.rs".into(), line: 3 });
            b
        };
        let a = summary(1, vec![through("std::sys::futex_wait", 100), through("std::sys::syscall", 10)]);
        let b = summary(1, vec![through("std::sys::futex_wait", 50), through("std::sys::spin", 60)]);
        let rows: Vec<_> = diff(&a, &b, false).blocking.into_iter().map(|p| (p.a, p.b)).collect();
        assert_eq!(rows, [(110.0, 110.0)]);
        // Without any other frame they are all there is.
        let only = |func: &str| {
            let mut b = through(func, 5);
            b.stack.truncate(1);
            b
        };
        let d = diff(&summary(1, vec![only("std::a")]), &summary(1, vec![only("std::b")]), false);
        assert_eq!(d.blocking.len(), 2);
    }

    #[test]
    fn what_a_cut_list_lacks_is_no_difference() {
        let a = summary(1, vec![blocked("f", 1, 10, 100), blocked("g", 5, 1, 30), blocked("h", 5, 1, 20)]);
        let mut b = summary(1, vec![blocked("f", 1, 10, 90), blocked("new", 5, 1, 40)]);
        assert_eq!(diff(&a, &b, false).partial, [""; 0]);
        b.blocking_stacks_len = 4;
        let d = diff(&a, &b, false);
        let rows: Vec<_> = d.blocking.iter().map(|p| (p.place.as_str(), p.a, p.b)).collect();
        // Where the later trace has `g` and `h` is not known; that the earlier one has no `new` is.
        assert_eq!(rows, [("new (5)", 0.0, 40.0), ("f (1)", 100.0, 90.0)]);
        assert_eq!(d.partial, ["blocking"]);
    }

    #[test]
    fn less_is_better_where_it_is() {
        let (mut a, b) = (summary(1, vec![]), summary(1, vec![]));
        a.losses.events = 5;
        let d = diff(&a, &b, false);
        let of = |name: &str| d.numbers.iter().find(|n| n.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((of("lost").better, of("sched.p99").better, of("duration").better), (Some(true), None, None));
        assert!(d.numbers.iter().all(|n| n.name != "heap.peak"), "neither trace has a heap");
    }
}
