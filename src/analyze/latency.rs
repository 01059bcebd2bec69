//! Scheduling latency: how long a goroutine that could run waited until it ran, by what had made it ready, by group, and the
//! worst cases.
//!
//! In a native trace each thread has a processor of its own; then it is the time from the wake-up by another thread to the
//! first thing that the woken thread is seen to do. A thread that comes back from a system call is not seen to wait there, so
//! that cause is left out.

use super::dist::{Dist, Durations};
use super::frames;
use super::states::{Change, Span, States};
use super::summary::Named;
use super::tally::ByName;
use super::{Damage, each_event, is_native};
use crate::read::{EventKind, EventRef, GoId, GoState, Interner, Reader, StringKey, Time};
use serde::{Deserialize, Serialize};

/// The schema of [`Latency`] as JSON.
pub const LATENCY_SCHEMA: &str = "exectrace.latency/1";

/// Scheduling latency.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Latency {
    /// [`LATENCY_SCHEMA`].
    pub schema: String,
    /// The length of the trace.
    pub duration_ns: u64,
    /// All.
    pub all: Durations,
    /// By what made the goroutine ready: `woken`, `created`, `stopped` (it had been running), `after call`.
    pub causes: Vec<Named>,
    /// How many waited how long: powers of two.
    pub histogram: Vec<LatencyBucket>,
    /// By name of the goroutine, the greatest sum first.
    pub groups: Vec<Named>,
    /// The longest.
    pub longest: Vec<LatencyCase>,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// How many waits there are of a length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// At least this long.
    pub from_ns: u64,
    /// Shorter than this.
    pub to_ns: u64,
    /// How many.
    pub count: u64,
}

/// One wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatencyCase {
    /// When it began, in nanoseconds since the trace began.
    pub at_ns: u64,
    /// How long.
    pub ns: u64,
    /// The goroutine.
    pub goroutine: u64,
    /// Its name.
    pub name: String,
    /// What had made it ready: one of the causes.
    pub cause: String,
    /// The goroutine that did it, if one did.
    pub by: Option<u64>,
    /// Where that was, in one line.
    pub place: String,
}

const CAUSES: [&str; 4] = ["woken", "created", "stopped", "after call"];

/// Reads the rest of a trace and tells the scheduling latency, with the `longest` longest waits.
#[must_use]
pub fn latency(reader: &mut Reader<'_>, longest: usize) -> Latency {
    latency_watched(reader, longest, &mut || {})
}

/// Like [`latency`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn latency_watched(reader: &mut Reader<'_>, longest: usize, tick: &mut dyn FnMut()) -> Latency {
    let mut c = Collect { longest_len: longest, ..Collect::default() };
    let end = each_event(reader, tick, |ev| c.event(&ev));
    c.finish(end.err().map(|e| Damage::of(&e)))
}

#[derive(Default)]
struct Collect {
    interner: Interner,
    states: States,
    begin: Option<Time>,
    end: Time,
    all: Dist,
    causes: [Dist; 4],
    native: bool,
    buckets: Vec<u64>,
    groups: ByName,
    longest: Vec<(u64, Span, GoId, StringKey, usize)>,
    longest_len: usize,
}

impl Collect {
    #[inline]
    fn event(&mut self, ev: &EventRef<'_>) {
        self.end = ev.time;
        self.begin.get_or_insert(ev.time);
        if ev.kind() == EventKind::Sync {
            self.native = self.native || is_native(ev.generation());
        }
        if let Some(c) = self.states.update(ev, &mut self.interner) {
            self.change(&c);
        }
    }

    #[inline]
    fn change(&mut self, c: &Change) {
        if let Some(span) = c.span
            && span.state == GoState::Runnable
            && c.to == GoState::Running
        {
            let ns = span.ns_with_lead();
            let cause = match span.from {
                GoState::NotExist => 1,
                GoState::Running => 2,
                GoState::Syscall if self.native => return,
                GoState::Syscall => 3,
                _ => 0,
            };
            self.all.add(ns);
            self.causes[cause].add(ns);
            let name = self.states.get(c.slot).name;
            self.groups.add(name, ns);
            let bucket = (64 - ns.leading_zeros()) as usize;
            if bucket >= self.buckets.len() {
                self.buckets.resize(bucket + 1, 0);
            }
            self.buckets[bucket] += 1;
            if self.longest.len() < self.longest_len || self.longest.last().is_some_and(|l| l.0 < ns) {
                let at = self.longest.partition_point(|l| l.0 >= ns);
                self.longest.insert(at, (ns, span, c.id, name, cause));
                self.longest.truncate(self.longest_len);
            }
        }
    }

    fn finish(self, damage: Option<Damage>) -> Latency {
        let begin = self.begin.unwrap_or(self.end);
        let interner = &self.interner;
        let bucket = |(i, &count): (usize, &u64)| LatencyBucket {
            from_ns: if i == 0 { 0 } else { 1 << (i - 1) },
            to_ns: if i >= 64 { u64::MAX } else { 1 << i },
            count,
        };
        let case = |(ns, span, id, name, cause): &(u64, Span, GoId, StringKey, usize)| LatencyCase {
            at_ns: span.begin.since(begin).max(0) as u64,
            ns: *ns,
            goroutine: id.0,
            name: interner.text(*name).to_owned(),
            cause: CAUSES[*cause].to_owned(),
            by: span.by.some().filter(|by| by != id).map(|by| by.0),
            place: frames::one_line(interner, span.stack, 2),
        };
        let named = |(k, d): (Option<StringKey>, &Dist)| Named {
            name: k.map_or("(other names)", |k| interner.text(k)).to_owned(),
            durations: d.durations(),
        };
        Latency {
            schema: LATENCY_SCHEMA.to_owned(),
            duration_ns: self.end.since(begin).max(0) as u64,
            all: self.all.durations(),
            causes: CAUSES
                .iter()
                .zip(&self.causes)
                .filter(|(_, d)| d.count() > 0)
                .map(|(name, d)| Named { name: (*name).to_owned(), durations: d.durations() })
                .collect(),
            histogram: self.buckets.iter().enumerate().map(bucket).filter(|b| b.count > 0).collect(),
            groups: self.groups.sorted().into_iter().map(named).collect(),
            longest: self.longest.iter().map(case).collect(),
            damage,
        }
    }
}
