//! Goroutines by name: how the time of each is spent, and how that differs within a group.
//!
//! A goroutine's parts of time are those of Go's goroutine page: execution, waiting by reason, system call with and without
//! a processor, waiting for a processor; they do not overlap. Assists and sweeps lie within them. What is beyond Go's page is
//! how the goroutines of a group differ: each part has the distribution over the goroutines, not only the sum.
//!
//! The numbers are Go's, with two exceptions. A system call that has lost its processor and goes on at the end of the trace counts
//! once here, as what it is; Go counts that part twice, as time in the call and as waiting for a processor. And where ids
//! are used again, each goroutine counts here, and only the last in Go.

use super::dist::{Dist, Durations};
use super::states::{Change, Slot, Span, States};
use super::summary::Named;
use super::tally::ByName;
use super::times::Times;
use super::{Damage, FOREVER, each_event};
use crate::read::{EventKind, EventRef, GoId, GoState, IdHashMap, Interner, RangeKind, Reader, Scope, StringKey, Time};
use serde::{Deserialize, Serialize};

/// The schema of [`Goroutines`] as JSON.
pub const GOROUTINES_SCHEMA: &str = "exectrace.goroutines/1";

/// How many goroutines a list of single ones has at most, unless told otherwise.
pub const GOROUTINES_LISTED: usize = 1000;

/// Goroutines by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Goroutines {
    /// [`GOROUTINES_SCHEMA`].
    pub schema: String,
    /// The length of the trace.
    pub duration_ns: u64,
    /// The groups, the longest running first.
    pub groups: Vec<GoroutineGroup>,
    /// Single goroutines of the groups asked for, the longest running first, at most as many as asked for.
    pub goroutines: Vec<GoroutineInfo>,
    /// How many such goroutines there are; the list may have fewer.
    #[serde(default)]
    pub goroutines_total: u64,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// Goroutines of one name: a thread's name in a native trace, the function with which they began in Go.
///
/// Each distribution is over goroutines: what one goroutine spent so in its whole life in the trace. `count` is how many have
/// any of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GoroutineGroup {
    /// The name.
    pub name: String,
    /// How many goroutines.
    pub goroutines: u64,
    /// From the first to the last that the trace has of it.
    pub lifetime: Durations,
    /// Running.
    pub execution: Durations,
    /// Ready to run, without a processor.
    pub sched_wait: Durations,
    /// In system calls, with a processor.
    pub syscall: Durations,
    /// In system calls, without one.
    pub syscall_blocked: Durations,
    /// Waiting, by reason; the greatest sum first.
    pub blocked: Vec<Named>,
    /// In mark assists.
    pub gc_assist: Durations,
    /// In sweeps.
    pub gc_sweep: Durations,
}

/// One goroutine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GoroutineInfo {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// When it was made, in nanoseconds since the trace began.
    pub begin_at_ns: u64,
    /// When it ended; `None` if it did not.
    pub end_at_ns: Option<u64>,
    /// Running.
    pub execution_ns: u64,
    /// Ready to run, without a processor.
    pub sched_wait_ns: u64,
    /// In system calls, with a processor.
    pub syscall_ns: u64,
    /// In system calls, without one.
    pub syscall_blocked_ns: u64,
    /// Waiting.
    pub blocked_ns: u64,
    /// In mark assists.
    pub gc_assist_ns: u64,
}

/// Reads the rest of a trace and adds up by goroutine and group. `list` names the groups whose goroutines are listed one by one:
/// those that have it in their names; the list has at most [`GOROUTINES_LISTED`].
#[must_use]
pub fn goroutines(reader: &mut Reader<'_>, list: Option<&str>) -> Goroutines {
    goroutines_watched(reader, list, GOROUTINES_LISTED, &mut || {})
}

/// Like [`goroutines`] with `most` entries in the list, and calls `tick` now and then, so that a program can show how far it is.
/// Memory is for twice as many entries.
#[must_use]
pub fn goroutines_watched(
    reader: &mut Reader<'_>,
    list: Option<&str>,
    most: usize,
    tick: &mut dyn FnMut(),
) -> Goroutines {
    let mut interner = Interner::new();
    let forever = interner.text_key(FOREVER);
    let mut c = Collect {
        interner,
        forever,
        states: States::new(),
        lives: Vec::new(),
        groups: IdHashMap::default(),
        list: list.map(str::to_owned),
        most,
        single: Vec::new(),
        total: 0,
        sweeping: IdHashMap::default(),
        begin: None,
        end: Time(0),
        generation_begin: Time(0),
    };
    let end = each_event(reader, tick, |ev| c.event(&ev));
    c.finish(end.err().map(|e| Damage::of(&e)))
}

/// What a goroutine has spent so far.
#[derive(Clone, Default)]
struct Life {
    times: Times,
    blocked: Vec<(StringKey, u64)>,
    assist_ns: u64,
    assist_since: Option<Time>,
    sweep_ns: u64,
    /// When it began to wait for ever, which is an end.
    ended: Option<Time>,
}

#[derive(Default)]
struct Group {
    goroutines: u64,
    lifetime: Dist,
    execution: Dist,
    sched_wait: Dist,
    syscall: Dist,
    syscall_blocked: Dist,
    blocked: ByName,
    gc_assist: Dist,
    gc_sweep: Dist,
}

struct Collect {
    interner: Interner,
    forever: StringKey,
    states: States,
    lives: Vec<Life>,
    groups: IdHashMap<Group>,
    list: Option<String>,
    /// How many single goroutines are kept.
    most: usize,
    single: Vec<GoroutineInfo>,
    /// How many there were.
    total: u64,
    /// By processor: who swept there when a sweep began, and since when.
    sweeping: IdHashMap<(GoId, Time)>,
    begin: Option<Time>,
    end: Time,
    generation_begin: Time,
}

impl Collect {
    #[inline]
    fn event(&mut self, ev: &EventRef<'_>) {
        self.end = ev.time;
        if let Some(c) = self.states.update(ev, &mut self.interner) {
            return self.change(&c, ev.time);
        }
        match ev.kind() {
            EventKind::Sync => {
                self.begin.get_or_insert(ev.time);
                self.generation_begin = ev.time;
            }
            EventKind::RangeBegin => self.range_begins(ev, ev.time),
            EventKind::RangeActive => self.range_begins(ev, self.generation_begin),
            EventKind::RangeEnd => self.range_ends(ev),
            _ => {}
        }
    }

    #[inline]
    fn change(&mut self, c: &Change, at: Time) {
        let i = c.slot.0 as usize;
        match &c.span {
            None => {
                if i >= self.lives.len() {
                    self.lives.resize_with(i + 1, Life::default);
                }
                self.lives[i] = Life::default();
            }
            Some(span) => self.span(i, span),
        }
        if c.to == GoState::NotExist {
            self.ended(c.slot, Some(at));
        }
    }

    fn span(&mut self, i: usize, span: &Span) {
        let life = &mut self.lives[i];
        life.times.add(span, self.forever);
        if span.state != GoState::Waiting {
            return;
        }
        if span.reason == self.forever {
            life.ended.get_or_insert(span.begin);
            return;
        }
        let ns = span.ns_with_lead();
        match life.blocked.iter_mut().find(|(r, _)| *r == span.reason) {
            Some((_, sum)) => *sum += ns,
            None => life.blocked.push((span.reason, ns)),
        }
    }

    fn life(&mut self, id: GoId) -> Option<&mut Life> {
        let slot = self.states.slot(id)?;
        self.lives.get_mut(slot.0 as usize)
    }

    fn range_begins(&mut self, ev: &EventRef<'_>, at: Time) {
        let Some(r) = ev.range() else { return };
        match (r.kind, r.scope) {
            (RangeKind::MarkAssist, Scope::Goroutine(g)) => {
                if let Some(life) = self.life(g) {
                    life.assist_since.get_or_insert(at);
                }
            }
            (RangeKind::Sweep, Scope::Proc(p)) if !ev.goroutine.is_none() => {
                self.sweeping.entry(p.0).or_insert((ev.goroutine, at));
            }
            _ => {}
        }
    }

    fn range_ends(&mut self, ev: &EventRef<'_>) {
        let Some(r) = ev.range() else { return };
        match (r.kind, r.scope) {
            (RangeKind::MarkAssist, Scope::Goroutine(g)) => {
                if let Some(life) = self.life(g)
                    && let Some(since) = life.assist_since.take()
                {
                    life.assist_ns += ev.time.since(since).max(0) as u64;
                }
            }
            (RangeKind::Sweep, Scope::Proc(p)) => {
                // A sweep belongs to the processor; it is a goroutine's if that was there the whole time.
                if let Some((g, since)) = self.sweeping.remove(&p.0)
                    && g == ev.goroutine
                    && let Some(life) = self.life(g)
                {
                    life.sweep_ns += ev.time.since(since).max(0) as u64;
                }
            }
            _ => {}
        }
    }

    /// A goroutine's life is over, or the trace is (`at` is `None` then).
    fn ended(&mut self, slot: Slot, at: Option<Time>) {
        let go = *self.states.get(slot);
        let mut life = std::mem::take(&mut self.lives[slot.0 as usize]);
        let over = life.ended.or(at);
        let end = over.unwrap_or(self.end);
        if let Some(since) = life.assist_since.take() {
            life.assist_ns += end.since(since).max(0) as u64;
        }
        let name = go.name;
        let g = self.groups.entry(name.0.into()).or_default();
        let t = &life.times;
        g.goroutines += 1;
        g.lifetime.add(end.since(go.created).max(0) as u64);
        g.execution.add(t.running_ns);
        for (dist, ns) in [
            (&mut g.sched_wait, t.runnable_ns),
            (&mut g.syscall, t.syscall_ns),
            (&mut g.syscall_blocked, t.syscall_blocked_ns),
            (&mut g.gc_assist, life.assist_ns),
            (&mut g.gc_sweep, life.sweep_ns),
        ] {
            if ns > 0 {
                dist.add(ns);
            }
        }
        for &(reason, ns) in &life.blocked {
            g.blocked.add(reason, ns);
        }
        let Some(list) = &self.list else { return };
        let text = self.interner.text(name);
        if !text.contains(list.as_str()) {
            return;
        }
        let begin = self.begin.unwrap_or(go.created);
        self.total += 1;
        self.single.push(GoroutineInfo {
            id: go.id.0,
            name: text.to_owned(),
            begin_at_ns: go.created.since(begin).max(0) as u64,
            end_at_ns: over.map(|t| t.since(begin).max(0) as u64),
            execution_ns: t.running_ns,
            sched_wait_ns: t.runnable_ns,
            syscall_ns: t.syscall_ns,
            syscall_blocked_ns: t.syscall_blocked_ns,
            blocked_ns: t.waiting_ns,
            gc_assist_ns: life.assist_ns,
        });
        if self.single.len() / 2 >= self.most.max(1) {
            self.keep_longest();
        }
    }

    fn keep_longest(&mut self) {
        self.single.sort_by_key(|g| (std::cmp::Reverse((g.execution_ns, g.blocked_ns)), g.id));
        self.single.truncate(self.most);
    }

    fn finish(mut self, damage: Option<Damage>) -> Goroutines {
        let open: Vec<_> = self.states.open().map(|(slot, _, span)| (slot, span)).collect();
        for (slot, span) in open {
            self.span(slot.0 as usize, &span);
            self.ended(slot, None);
        }
        self.keep_longest();
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(k, g)| (std::cmp::Reverse((g.execution.total(), g.lifetime.total())), **k));
        let interner = &self.interner;
        let named = |b: &ByName| {
            let one = |(k, d): (Option<StringKey>, &Dist)| Named {
                name: k.map_or("(other reasons)", |k| interner.text(k)).to_owned(),
                durations: d.durations(),
            };
            b.sorted().into_iter().map(one).collect()
        };
        let group = |(&k, g): (&u64, &Group)| GoroutineGroup {
            name: interner.text(StringKey(k as u32)).to_owned(),
            goroutines: g.goroutines,
            lifetime: g.lifetime.durations(),
            execution: g.execution.durations(),
            sched_wait: g.sched_wait.durations(),
            syscall: g.syscall.durations(),
            syscall_blocked: g.syscall_blocked.durations(),
            blocked: named(&g.blocked),
            gc_assist: g.gc_assist.durations(),
            gc_sweep: g.gc_sweep.durations(),
        };
        Goroutines {
            schema: GOROUTINES_SCHEMA.to_owned(),
            duration_ns: self.end.since(self.begin.unwrap_or(self.end)).max(0) as u64,
            groups: groups.into_iter().map(group).collect(),
            goroutines: self.single,
            goroutines_total: self.total,
            damage,
        }
    }
}
