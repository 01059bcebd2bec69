//! Takes in the events of a trace and keeps what a summary needs.
//!
//! Each part of it is a small machine in a file of its own; here they are put together, and their results turned into texts.

use super::{
    Alone, Blocked, Collector, Cpu, Events, Group, KindCount, Losses, MmuPoint, Named, Origin, Parallel, SCHEMA,
    SeriesRange, Summary, SummaryOptions, Syscall, Threads, Weighted,
};
use crate::analyze::dist::Dist;
use crate::analyze::frames;
use crate::analyze::gc::GcEvents;
use crate::analyze::heap::HeapCurve;
use crate::analyze::mmu::{Counting, Mmu, Work};
use crate::analyze::running::Running;
use crate::analyze::states::{Change, Span, States};
use crate::analyze::tally::{ByName, ByStack};
use crate::analyze::times::{Times, TimesBySlot};
use crate::analyze::user::UserEvents;
use crate::analyze::{Damage, FOREVER};
use crate::format::Kind;
use crate::format::private::meta;
use crate::read::{
    Error, EventKind, EventRef, Generation, GoState, IdHashMap, Interner, Metric, Private, Reader, StackKey, StringKey,
    ThreadId, Time,
};
use std::collections::{BTreeMap, HashSet};

/// How many threads are known to be counted without hashing.
const LAST_THREADS: usize = 16;

pub(super) struct Collect {
    top: usize,
    interner: Interner,
    states: States,
    begin: Option<Time>,
    end: Time,
    kinds: [u64; 256],
    threads: IdHashMap<()>,
    /// Threads that were seen lately, by the lower bits of their ids.
    last_threads: [ThreadId; LAST_THREADS],
    generations: u64,
    procs: u64,
    origin: Origin,
    losses: Losses,
    series: BTreeMap<String, SeriesRange>,
    running: Running,
    heap: HeapCurve,
    gc: GcEvents,
    mmu: Mmu,
    user: UserEvents,
    reasons: ByName,
    waits: ByStack,
    syscalls: ByName,
    syscall_names: IdHashMap<StringKey>,
    without_proc: IdHashMap<u64>,
    scheduling: Dist,
    native: bool,
    samples: IdHashMap<u64>,
    sampled: u64,
    times: TimesBySlot,
    /// By name: how many goroutines, and their times.
    groups: IdHashMap<(u64, Times)>,
    goroutines: u64,
    from_before: u64,
    ended: u64,
    forever: StringKey,
    /// The name of the goroutine that ran alone for the longest time so far.
    alone: Option<StringKey>,
}

impl Collect {
    pub(super) fn new(options: &SummaryOptions) -> Collect {
        let mut interner = Interner::new();
        let forever = interner.text_key(FOREVER);
        Collect {
            top: options.top,
            interner,
            states: States::new(),
            begin: None,
            end: Time(0),
            kinds: [0; 256],
            threads: IdHashMap::default(),
            last_threads: [ThreadId::NONE; LAST_THREADS],
            generations: 0,
            procs: 0,
            origin: Origin::default(),
            losses: Losses::default(),
            series: BTreeMap::new(),
            running: Running::default(),
            heap: HeapCurve::default(),
            gc: GcEvents::default(),
            mmu: Mmu::new(&options.mmu_windows_ns, Work::default(), Counting::default()),
            user: UserEvents::default(),
            reasons: ByName::default(),
            waits: ByStack::default(),
            syscalls: ByName::default(),
            syscall_names: IdHashMap::default(),
            without_proc: IdHashMap::default(),
            scheduling: Dist::default(),
            native: false,
            samples: IdHashMap::default(),
            sampled: 0,
            times: TimesBySlot::default(),
            groups: IdHashMap::default(),
            goroutines: 0,
            from_before: 0,
            ended: 0,
            forever,
            alone: None,
        }
    }

    #[inline]
    pub(super) fn event(&mut self, ev: EventRef<'_>) {
        self.end = ev.time;
        self.kinds[ev.wire as usize] += 1;
        let seen = &mut self.last_threads[ev.thread.0 as usize % LAST_THREADS];
        if ev.thread != *seen && !ev.thread.is_none() {
            *seen = ev.thread;
            self.threads.insert(ev.thread.0, ());
        }
        let change = self.states.update(&ev, &mut self.interner);
        if let Some(c) = &change {
            self.change(ev.time, c);
        }
        self.mmu.update(&ev, change.as_ref());
        match ev.kind() {
            EventKind::StateTransition => {}
            EventKind::Sync => self.sync(&ev),
            EventKind::Metric => {
                if let Some(m) = ev.metric() {
                    self.heap.metric(ev.time, m);
                    if let Metric::Procs(n) = m {
                        self.procs = self.procs.max(n);
                    }
                }
                self.gc.update(&ev, &mut self.interner, &self.states);
            }
            EventKind::RangeBegin | EventKind::RangeActive | EventKind::RangeEnd => {
                self.gc.update(&ev, &mut self.interner, &self.states);
            }
            EventKind::StackSample => {
                let stack = self.interner.stack(ev.generation(), ev.stack_id());
                *self.samples.entry(stack.0.into()).or_default() += 1;
                self.sampled += 1;
            }
            EventKind::TaskBegin
            | EventKind::TaskEnd
            | EventKind::RegionBegin
            | EventKind::RegionEnd
            | EventKind::Log => self.user.update(&ev, &mut self.interner),
            EventKind::Label | EventKind::Experimental => {}
        }
    }

    fn sync(&mut self, ev: &EventRef<'_>) {
        if self.begin.is_none() {
            self.begin = Some(ev.time);
            self.running.begin(ev.time);
            self.heap.begin(ev.time);
        }
        self.gc.update(ev, &mut self.interner, &self.states);
        let g = ev.generation();
        // The last `Sync` ends the trace and has an empty generation.
        if !g.bytes().is_empty() {
            self.generations += 1;
            self.private(g);
            self.native = self.origin.is_native();
        }
        if self.origin.begin_unix_ns.is_none() {
            let since = ev.time.since(self.begin.unwrap_or(ev.time));
            self.origin.begin_unix_ns = crate::analyze::wall_clock_ns(ev).map(|ns| ns.saturating_sub(since));
        }
    }

    /// Reads what only traces of ours have.
    fn private(&mut self, g: &Generation) {
        // A section that cannot be decoded is left out: nothing that Go's reader would refuse depends on it.
        for section in g.sections().flatten() {
            match section.content {
                Private::Meta(pairs) => self.meta(&pairs),
                Private::Series(all) => {
                    for s in all {
                        self.series(s.name, &s.samples);
                    }
                }
                _ => {}
            }
        }
    }

    fn meta(&mut self, pairs: &[(&str, &str)]) {
        let text = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let number = |key: &str| text(key).and_then(|v| v.parse::<u64>().ok());
        if let Some(w) = text(meta::WRITER) {
            self.origin.writer = Some(w.to_owned());
        }
        self.origin.pid = number(meta::PID).or(self.origin.pid);
        self.losses.events += number(meta::LOST_EVENTS).unwrap_or(0);
        self.losses.samples += number(meta::LOST_SAMPLES).unwrap_or(0);
    }

    fn series(&mut self, name: &str, samples: &[(Time, i64)]) {
        let (Some(begin), Some(&(first_at, first))) = (self.begin, samples.first()) else { return };
        let since = |t: Time| t.since(begin).max(0) as u64;
        let s = self.series.entry(name.to_owned()).or_insert_with(|| SeriesRange {
            name: name.to_owned(),
            start: first,
            min: first,
            max: first,
            max_at_ns: since(first_at),
            ..SeriesRange::default()
        });
        for &(t, v) in samples {
            s.min = s.min.min(v);
            if v > s.max {
                (s.max, s.max_at_ns) = (v, since(t));
            }
            s.end = v;
        }
        s.samples += samples.len() as u64;
    }

    #[inline(always)]
    fn change(&mut self, at: Time, c: &Change) {
        if let Some(id) = self.running.update(at, c) {
            // It may have ended by the end of the trace; its name is asked for while it is there.
            self.alone = self.states.slot(id).or((id == c.id).then_some(c.slot)).map(|s| self.states.get(s).name);
        }
        self.times.update(c, self.forever);
        match &c.span {
            None => {
                self.goroutines += 1;
                self.from_before += u64::from(c.from == GoState::Undetermined);
            }
            Some(span) => {
                // A native thread is not seen to wait where it comes back from a call. What never comes to run has no end.
                if (span.state, c.to) == (GoState::Runnable, GoState::Running)
                    && !(self.native && span.from == GoState::Syscall)
                {
                    self.scheduling.add(span.ns_with_lead());
                }
                self.span(span);
            }
        }
        if c.to == GoState::NotExist {
            self.ended += 1;
            self.user.ended(c.id);
            let name = self.states.get(c.slot).name;
            self.group(name, &self.times.get(c.slot));
        }
    }

    #[inline(always)]
    fn span(&mut self, span: &Span) {
        let ns = span.ns_with_lead();
        match span.state {
            GoState::Waiting if span.reason != self.forever => {
                self.reasons.add(span.reason, ns);
                self.waits.add(span.reason, span.stack, span.begin, ns);
            }
            GoState::Syscall => self.call(span, ns),
            _ => {}
        }
    }

    #[inline(never)]
    fn call(&mut self, span: &Span, ns: u64) {
        let interner = &self.interner;
        let name =
            *self.syscall_names.entry(span.stack.0.into()).or_insert_with(|| frames::call_name(interner, span.stack));
        self.syscalls.add(name, ns);
        if span.without_proc_ns > 0 {
            *self.without_proc.entry(name.0.into()).or_default() += span.without_proc_ns;
        }
    }

    fn group(&mut self, name: StringKey, t: &Times) {
        let g = self.groups.entry(name.0.into()).or_default();
        g.0 += 1;
        g.1.merge(t);
    }

    /// What goes on at the end of the trace counts up to there.
    fn close(&mut self) {
        let open: Vec<_> = self.states.open().map(|(slot, go, span)| (slot, go.name, span)).collect();
        for (slot, name, span) in open {
            self.span(&span);
            self.group(name, &self.times.now(slot, &self.states, self.forever));
        }
    }

    pub(super) fn finish(mut self, reader: &Reader<'_>, damage: Option<Error>) -> Summary {
        self.close();
        let begin = self.begin.unwrap_or(self.end);
        let since = |t: Time| t.since(begin).max(0) as u64;
        self.origin.format = format!("go 1.{}", reader.version().minor());
        self.origin.duration_ns = since(self.end);
        self.origin.bytes = reader.bytes_read();
        self.origin.generations = self.generations;
        self.losses.damage = damage.map(|e| Damage::of(&e));
        let gc = self.collector(begin);
        let interner = &self.interner;
        let (c, last_alone) = std::mem::take(&mut self.running).finish(begin, self.end);
        let alone = if last_alone {
            c.longest_alone.and_then(|a| self.states.slot(a.2)).map(|s| self.states.get(s).name)
        } else {
            self.alone
        };
        let concurrency = Parallel {
            running_mean: c.mean,
            running_max: c.max,
            runnable_mean: c.mean_runnable,
            none_ns: c.none_ns,
            one_ns: c.one_ns,
            longest_alone: c.longest_alone.map(|(ns, at, id)| Alone {
                goroutine: id.0,
                name: alone.map_or_else(String::new, |k| interner.text(k).to_owned()),
                at_ns: since(at),
                ns,
            }),
        };
        Summary {
            schema: SCHEMA.to_owned(),
            events: self.events(),
            threads: Threads {
                threads: self.threads.len() as u64,
                procs: self.procs,
                goroutines: self.goroutines,
                from_before: self.from_before,
                ended: self.ended,
                max: c.max_exist,
            },
            concurrency,
            heap: self.heap.finish(),
            series: std::mem::take(&mut self.series).into_values().collect(),
            gc,
            syscalls: self.syscalls(),
            blocking: named(interner, &self.reasons),
            blocking_stacks: self.blocking_stacks(begin),
            blocking_stacks_len: self.waits.len() as u64,
            scheduling: self.scheduling.durations(),
            cpu: self.cpu(),
            tasks: named(interner, &self.user.tasks),
            tasks_begun: self.user.tasks_begun,
            tasks_ended: self.user.tasks_ended,
            regions: named(interner, &self.user.regions),
            logs: self.user.logs,
            groups: self.groups_sorted(),
            groups_len: self.groups.len() as u64,
            findings: Vec::new(),
            trace: self.origin,
            losses: self.losses,
        }
    }

    fn events(&self) -> Events {
        let mut by_kind: Vec<KindCount> = Kind::ALL
            .iter()
            .map(|&k| KindCount { kind: k.spec().name.to_owned(), count: self.kinds[k as usize] })
            .filter(|k| k.count > 0)
            .collect();
        by_kind.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.kind.cmp(&b.kind)));
        Events { total: by_kind.iter().map(|k| k.count).sum(), by_kind }
    }

    fn collector(&mut self, begin: Time) -> Option<Collector> {
        if self.gc.is_empty() {
            return None;
        }
        let since = |t: Time| t.since(begin).max(0) as u64;
        let mean = self.mmu.mean();
        let mmu = std::mem::replace(&mut self.mmu, Mmu::new(&[], Work::default(), Counting::default()));
        let gc = &self.gc;
        let mut marking = Dist::default();
        for c in &gc.cycles {
            if let (Some(end), false) = (c.end, c.from_before) {
                marking.add(end.since(c.begin).max(0) as u64);
            }
        }
        let mut stops: Vec<Named> = gc.pauses.iter().map(|(&k, d)| entry(&self.interner, Some(k), d)).collect();
        stops.sort_by_key(|n| std::cmp::Reverse(n.durations.total_ns));
        let mut assist_stacks: Vec<_> = gc.assist_stacks.iter().map(|(&k, &v)| (StackKey(k as u32), v)).collect();
        assist_stacks.sort_by_key(|&(k, (_, ns))| (std::cmp::Reverse(ns), k));
        let ran: u64 = self.groups.values().map(|(_, t)| t.running_ns).sum();
        Some(Collector {
            cycles: gc.cycles.len() as u64,
            marking: marking.durations(),
            pauses: gc.gc_pauses.durations(),
            longest_pause_at_ns: since(gc.longest_pause_at),
            stops,
            assists: gc.assists.durations(),
            assist_running_ns: gc.assist_running_ns,
            assist_share: if ran == 0 { 0.0 } else { gc.assist_running_ns as f64 / ran as f64 },
            assist_stacks: assist_stacks
                .into_iter()
                .take(self.top)
                .map(|(k, (count, ns))| weighted(&self.interner, k, count, ns))
                .collect(),
            sweeps: gc.sweeps.durations(),
            swept_bytes: gc.swept_bytes,
            reclaimed_bytes: gc.reclaimed_bytes,
            mmu: mmu
                .finish()
                .iter()
                .map(|m| MmuPoint { window_ns: m.window_ns, utilization: m.utilization, at_ns: since(m.at) })
                .collect(),
            mutator_utilization: mean,
        })
    }

    fn syscalls(&self) -> Vec<Syscall> {
        let one = |(key, d): (Option<StringKey>, &Dist)| {
            let Named { name, durations } = entry(&self.interner, key, d);
            let without = key.and_then(|k| self.without_proc.get(&k.0.into())).copied().unwrap_or(0);
            Syscall { name, durations, without_proc_ns: without }
        };
        self.syscalls.sorted().into_iter().map(one).collect()
    }

    fn blocking_stacks(&self, begin: Time) -> Vec<Blocked> {
        let one = |(reason, stack, s): (StringKey, StackKey, crate::analyze::tally::Spent)| Blocked {
            reason: self.interner.text(reason).to_owned(),
            count: s.count,
            total_ns: s.total_ns,
            max_ns: s.max_ns,
            max_at_ns: s.max_at.since(begin).max(0) as u64,
            place: frames::one_line(&self.interner, stack, 3),
            stack: frames::infos(&self.interner, stack),
        };
        self.cut(self.waits.sorted(), |e| (e.0, e.1)).into_iter().map(one).collect()
    }

    fn cpu(&self) -> Cpu {
        let mut all: Vec<_> = self.samples.iter().map(|(&k, &n)| (StackKey(k as u32), n)).collect();
        all.sort_by_key(|&(k, n)| (std::cmp::Reverse(n), k));
        let stacks = self.cut(all, |e| (StringKey(0), e.0));
        let stacks = stacks.into_iter().map(|(k, n)| weighted(&self.interner, k, n, 0)).collect();
        Cpu { samples: self.sampled, stacks, stacks_len: self.samples.len() as u64 }
    }

    /// The first entries of a sorted list, and of the others those of the same places: nothing of a place that is in it is missing,
    /// so that summaries can be compared by place.
    fn cut<T>(&self, mut all: Vec<T>, of: impl Fn(&T) -> (StringKey, StackKey)) -> Vec<T> {
        if all.len() <= self.top {
            return all;
        }
        let mut places = frames::Places::new(&self.interner);
        let mut place = |e: &T| {
            let (reason, stack) = of(e);
            (reason, places.of(stack))
        };
        let first: HashSet<_> = all[..self.top].iter().map(&mut place).collect();
        // The first ones are among their own places.
        all.retain(|e| first.contains(&place(e)));
        all
    }

    fn groups_sorted(&self) -> Vec<Group> {
        let mut all: Vec<_> = self.groups.iter().map(|(&k, &(n, t))| (StringKey(k as u32), n, t)).collect();
        all.sort_by_key(|&(k, _, t)| (std::cmp::Reverse((t.running_ns, t.syscall_ns, t.waiting_ns)), k));
        let one = |(k, n, t): (StringKey, u64, Times)| Group {
            name: self.interner.text(k).to_owned(),
            goroutines: n,
            running_ns: t.running_ns,
            waiting_ns: t.waiting_ns,
            syscall_ns: t.syscall_ns + t.syscall_blocked_ns,
            runnable_ns: t.runnable_ns,
        };
        all.into_iter().take(self.top).map(one).collect()
    }
}

fn entry(interner: &Interner, name: Option<StringKey>, d: &Dist) -> Named {
    let name = name.map_or("(other names)", |k| interner.text(k));
    Named { name: name.to_owned(), durations: d.durations() }
}

fn named(interner: &Interner, t: &ByName) -> Vec<Named> {
    t.sorted().into_iter().map(|(k, d)| entry(interner, k, d)).collect()
}

fn weighted(interner: &Interner, stack: StackKey, count: u64, total_ns: u64) -> Weighted {
    Weighted { count, total_ns, place: frames::one_line(interner, stack, 3), stack: frames::infos(interner, stack) }
}
