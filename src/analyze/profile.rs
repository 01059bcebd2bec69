//! Where time goes, by stack: waiting, system calls, waiting for a processor, CPU samples, regions.
//!
//! The kinds `Sync`, `Network`, `Syscall` and `Sched` are those of `go tool trace -pprof=`, with the same numbers: a span
//! counts if it ends in the trace, from the event that tells its begin, and not if the goroutine runs for the first time only
//! after it. Where the id of a goroutine is used again (threads that call Go from C) only the last one with it counts.
//! [`ProfileOptions::all`] takes in what is left out so.

use super::frames::{self, FrameInfo};
use super::states::{Change, Span, States};
use super::tally::{ByStack, Spent};
use super::{Damage, each_event, sample_period_ns};
use crate::read::{EventKind, EventRef, GoId, GoState, IdHashMap, Interner, Reader, StackKey, StringKey, Time};
use serde::{Deserialize, Serialize};

/// The schema of [`Profile`] as JSON.
pub const PROFILE_SCHEMA: &str = "exectrace.profile/1";

/// CPU time between two samples where the trace does not tell it: Go's profiler takes 100 a second, unless told otherwise.
const SAMPLE_NS: u64 = 10_000_000;

/// What a profile is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileKind {
    /// Waiting for other goroutines: reasons with `chan`, `sync` or `select` in them.
    #[default]
    Sync,
    /// Waiting for the network.
    Network,
    /// System calls.
    Syscall,
    /// Waiting for a processor. The stack is that of whoever woke or made the goroutine.
    Sched,
    /// CPU samples.
    Cpu,
    /// User regions, by the stack where they begin.
    Region,
}

impl ProfileKind {
    /// All kinds.
    pub const ALL: [ProfileKind; 6] = [
        ProfileKind::Sync,
        ProfileKind::Network,
        ProfileKind::Syscall,
        ProfileKind::Sched,
        ProfileKind::Cpu,
        ProfileKind::Region,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ProfileKind::Sync => "sync",
            ProfileKind::Network => "network",
            ProfileKind::Syscall => "syscall",
            ProfileKind::Sched => "sched",
            ProfileKind::Cpu => "cpu",
            ProfileKind::Region => "region",
        }
    }

    /// What is counted, and what the time is, as pprof names them.
    #[must_use]
    pub const fn values(self) -> (&'static str, &'static str) {
        match self {
            ProfileKind::Cpu => ("samples", "cpu"),
            ProfileKind::Region => ("regions", "time"),
            _ => ("contentions", "delay"),
        }
    }

    /// The state whose spans it adds up.
    const fn state(self) -> Option<GoState> {
        match self {
            ProfileKind::Sync | ProfileKind::Network => Some(GoState::Waiting),
            ProfileKind::Syscall => Some(GoState::Syscall),
            ProfileKind::Sched => Some(GoState::Runnable),
            ProfileKind::Cpu | ProfileKind::Region => None,
        }
    }

    /// Whether it takes in waiting for this reason.
    fn takes(self, reason: &str) -> bool {
        match self {
            ProfileKind::Sync => ["chan", "sync", "select"].iter().any(|part| reason.contains(part)),
            ProfileKind::Network => reason == "network",
            _ => true,
        }
    }
}

/// Which part of a trace a profile is about. The default is all of it, as Go has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileOptions {
    /// Leave out what is before this time, in nanoseconds since the trace began.
    pub from_ns: Option<i64>,
    /// Leave out what is after it.
    pub to_ns: Option<i64>,
    /// Only goroutines with this text in their names, as they are known when the span ends.
    pub name: Option<String>,
    /// Take in what Go leaves out: the time before a goroutine first runs, spans that go on at the end of the trace, what
    /// lies between the beginning of the trace and the event that first tells of a goroutine, and goroutines whose ids were
    /// used again.
    pub all: bool,
}

/// Time by stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Profile {
    /// [`PROFILE_SCHEMA`].
    pub schema: String,
    /// What it is about.
    pub kind: ProfileKind,
    /// The length of the trace, or of the part asked for.
    pub duration_ns: u64,
    /// When the trace began, in nanoseconds since 1970, if it says so.
    pub begin_unix_ns: Option<i64>,
    /// All entries together: how many.
    pub count: u64,
    /// And how long.
    pub total_ns: u64,
    /// How much CPU time a sample stands for; 0 where nothing is sampled.
    #[serde(default)]
    pub sample_period_ns: u64,
    /// By stack (and reason or name of the region), the greatest time first.
    pub entries: Vec<ProfileEntry>,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// What was spent with one stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProfileEntry {
    /// How many spans, or samples.
    pub count: u64,
    /// How long together.
    pub total_ns: u64,
    /// The longest span; 0 for samples.
    pub max_ns: u64,
    /// The reason of the waiting, or the name of the region; empty for others.
    pub label: String,
    /// The stack in one line.
    pub place: String,
    /// The stack, leaf first.
    pub stack: Vec<FrameInfo>,
    /// The program counters of the frames, or numbers that stand for them.
    pub pcs: Vec<u64>,
}

/// What was spent in a function and what it called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FunctionEntry {
    /// Its name.
    pub func: String,
    /// How many spans or samples have it on their stacks.
    pub count: u64,
    /// How long those are together.
    pub total_ns: u64,
    /// Of that, where it is the innermost frame.
    pub own_ns: u64,
}

impl Profile {
    /// The same by function: each counts once for a stack, however often it is on it. The greatest time first.
    #[must_use]
    pub fn by_function(&self) -> Vec<FunctionEntry> {
        let mut index = std::collections::HashMap::new();
        let mut all: Vec<FunctionEntry> = Vec::new();
        for e in &self.entries {
            let mut seen = std::collections::HashSet::new();
            for (i, f) in e.stack.iter().enumerate() {
                if !seen.insert(f.func.as_str()) {
                    continue;
                }
                let at = *index.entry(f.func.as_str()).or_insert_with(|| {
                    all.push(FunctionEntry { func: f.func.clone(), ..FunctionEntry::default() });
                    all.len() - 1
                });
                all[at].count += e.count;
                all[at].total_ns += e.total_ns;
                all[at].own_ns += if i == 0 { e.total_ns } else { 0 };
            }
        }
        all.sort_by(|a, b| (b.total_ns, b.own_ns, &a.func).cmp(&(a.total_ns, a.own_ns, &b.func)));
        all
    }
}

/// Reads the rest of a trace and adds up its time by stack.
#[must_use]
pub fn profile(reader: &mut Reader<'_>, kind: ProfileKind, options: &ProfileOptions) -> Profile {
    profile_watched(reader, kind, options, &mut || {})
}

/// Like [`profile`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn profile_watched(
    reader: &mut Reader<'_>,
    kind: ProfileKind,
    options: &ProfileOptions,
    tick: &mut dyn FnMut(),
) -> Profile {
    let mut c = Collect::new(kind, options.clone());
    let end = each_event(reader, tick, |ev| c.event(&ev));
    c.finish(end.err().map(|e| Damage::of(&e)))
}

struct Collect {
    kind: ProfileKind,
    state: Option<GoState>,
    options: ProfileOptions,
    interner: Interner,
    states: States,
    begin: Option<Time>,
    begin_unix_ns: Option<i64>,
    end: Time,
    sample_ns: u64,
    spent: ByStack,
    /// By reason: whether it counts.
    taken: IdHashMap<bool>,
    /// By goroutine's name: whether it counts.
    wanted: IdHashMap<bool>,
    open_regions: IdHashMap<Vec<(StringKey, StackKey, Time)>>,
    /// By slot: whether the goroutine has run.
    ran: Vec<bool>,
    /// By slot: spans of goroutines that have not run yet. They count if it never does.
    not_run: IdHashMap<Vec<Span>>,
    /// By slot: the sums of a goroutine whose id may be used again, which count only if it is not.
    apart: Vec<Option<Box<ByStack>>>,
    /// The same of goroutines that have ended, by id.
    ended: IdHashMap<Box<ByStack>>,
}

impl Collect {
    fn new(kind: ProfileKind, options: ProfileOptions) -> Collect {
        Collect {
            kind,
            state: kind.state(),
            options,
            interner: Interner::new(),
            states: States::new(),
            begin: None,
            begin_unix_ns: None,
            end: Time(0),
            sample_ns: SAMPLE_NS,
            spent: ByStack::default(),
            taken: IdHashMap::default(),
            wanted: IdHashMap::default(),
            open_regions: IdHashMap::default(),
            ran: Vec::new(),
            not_run: IdHashMap::default(),
            apart: Vec::new(),
            ended: IdHashMap::default(),
        }
    }

    #[inline]
    fn event(&mut self, ev: &EventRef<'_>) {
        self.end = ev.time;
        if let Some(change) = self.states.update(ev, &mut self.interner) {
            self.change(&change);
            return;
        }
        match ev.kind() {
            EventKind::Sync => {
                self.begin.get_or_insert(ev.time);
                if self.kind == ProfileKind::Cpu {
                    self.sample_ns = sample_period_ns(ev.generation()).unwrap_or(self.sample_ns);
                }
                if self.begin_unix_ns.is_none() {
                    self.begin_unix_ns = super::wall_clock_ns(ev);
                }
            }
            EventKind::StackSample if self.kind == ProfileKind::Cpu => self.sample(ev),
            EventKind::RegionBegin if self.kind == ProfileKind::Region => {
                let Some(r) = ev.region() else { return };
                let name = self.interner.string(ev.generation(), r.name);
                let stack = self.interner.stack(ev.generation(), ev.stack_id());
                self.open_regions.entry(ev.goroutine.0).or_default().push((name, stack, ev.time));
            }
            EventKind::RegionEnd if self.kind == ProfileKind::Region => {
                let open = self.open_regions.get_mut(&ev.goroutine.0).and_then(Vec::pop);
                if let Some((name, stack, begin)) = open
                    && self.wants_goroutine(ev.goroutine)
                {
                    self.add(None, name, stack, begin, ev.time);
                }
            }
            _ => {}
        }
    }

    #[inline]
    fn change(&mut self, c: &Change) {
        let i = c.slot.0 as usize;
        if c.span.is_none() {
            if i >= self.ran.len() {
                self.ran.resize(i + 1, false);
                self.apart.resize_with(i + 1, || None);
            }
            self.ran[i] = false;
            // A thread that comes from C makes its goroutine in a system call, ends it there, and takes the id with it. Of a
            // goroutine from before the trace it is not known how it was made.
            let from_c = c.from == GoState::Undetermined || c.to == GoState::Syscall;
            self.apart[i] = (from_c && !self.options.all).then(Box::default);
            self.ended.remove(&c.id.0);
        }
        let first_run = !self.ran[i] && c.to == GoState::Running;
        if first_run {
            self.ran[i] = true;
            self.not_run.remove(&c.slot.0.into());
        }
        if let Some(span) = c.span
            && Some(span.state) == self.state
            && self.takes(span.reason)
            && (self.options.name.is_none() || self.wants(self.states.get(c.slot).name))
        {
            if self.options.all || self.ran[i] && !first_run {
                self.span(Some(i), &span);
            } else if !first_run {
                self.not_run.entry(c.slot.0.into()).or_default().push(span);
            }
        }
        if c.to == GoState::NotExist {
            self.open_regions.remove(&c.id.0);
            for span in self.not_run.remove(&c.slot.0.into()).into_iter().flatten() {
                self.span(Some(i), &span);
            }
            if let Some(sums) = self.apart[i].take() {
                if c.from == GoState::Syscall {
                    self.ended.insert(c.id.0, sums);
                } else {
                    self.spent.merge(&sums);
                }
            }
        }
    }

    /// Adds a span of the goroutine in this slot; without a slot, one that counts for certain.
    #[inline]
    fn span(&mut self, slot: Option<usize>, span: &Span) {
        let lead = if self.options.all { span.lead_ns as i64 } else { 0 };
        self.add(slot, span.reason, span.stack, span.begin.plus(-lead), span.end);
    }

    /// Adds what of a span is in the window of time.
    #[inline]
    fn add(&mut self, slot: Option<usize>, label: StringKey, stack: StackKey, begin: Time, end: Time) {
        let (mut begin, mut end) = (begin, end);
        if let Some(start) = self.begin {
            begin = begin.max(self.options.from_ns.map_or(begin, |ns| start.plus(ns)));
            end = end.min(self.options.to_ns.map_or(end, |ns| start.plus(ns)));
        }
        if end > begin {
            let apart = slot.and_then(|i| self.apart.get_mut(i)?.as_deref_mut());
            apart.unwrap_or(&mut self.spent).add(label, stack, begin, end.since(begin) as u64);
        }
    }

    fn sample(&mut self, ev: &EventRef<'_>) {
        let at = ev.time.since(self.begin.unwrap_or(ev.time));
        let early = self.options.from_ns.is_some_and(|from| at < from);
        let late = self.options.to_ns.is_some_and(|to| at > to);
        if early || late || !self.wants_goroutine(ev.goroutine) {
            return;
        }
        let stack = self.interner.stack(ev.generation(), ev.stack_id());
        self.spent.add(StringKey(0), stack, ev.time, self.sample_ns);
    }

    #[inline]
    fn takes(&mut self, reason: StringKey) -> bool {
        let (kind, interner) = (self.kind, &self.interner);
        *self.taken.entry(reason.0.into()).or_insert_with(|| kind.takes(interner.text(reason)))
    }

    fn wants(&mut self, name: StringKey) -> bool {
        let Some(part) = &self.options.name else { return true };
        let interner = &self.interner;
        *self.wanted.entry(name.0.into()).or_insert_with(|| interner.text(name).contains(part))
    }

    fn wants_goroutine(&mut self, id: GoId) -> bool {
        if self.options.name.is_none() {
            return true;
        }
        let name = self.states.slot(id).map(|s| self.states.get(s).name);
        name.is_some_and(|name| self.wants(name))
    }

    fn finish(mut self, damage: Option<Damage>) -> Profile {
        for span in std::mem::take(&mut self.not_run).into_values().flatten() {
            self.span(None, &span);
        }
        let apart = std::mem::take(&mut self.apart).into_iter().flatten();
        for sums in apart.chain(std::mem::take(&mut self.ended).into_values()) {
            self.spent.merge(&sums);
        }
        if self.options.all {
            let open: Vec<_> = self.states.open().map(|(_, go, span)| (go.name, span)).collect();
            for (name, span) in open {
                if Some(span.state) == self.state && self.takes(span.reason) && self.wants(name) {
                    self.span(None, &span);
                }
            }
            for (id, regions) in std::mem::take(&mut self.open_regions) {
                for (name, stack, begin) in regions {
                    if self.wants_goroutine(GoId(id)) {
                        self.add(None, name, stack, begin, self.end);
                    }
                }
            }
        }
        let interner = &self.interner;
        let entry = |(label, stack, s): (StringKey, StackKey, Spent)| ProfileEntry {
            count: s.count,
            total_ns: s.total_ns,
            max_ns: if self.kind == ProfileKind::Cpu { 0 } else { s.max_ns },
            label: interner.text(label).to_owned(),
            place: frames::one_line(interner, stack, 3),
            stack: frames::infos(interner, stack),
            pcs: interner.frames(stack).iter().map(|&f| interner.frame(f).pc).collect(),
        };
        let entries: Vec<ProfileEntry> = self.spent.sorted().into_iter().map(entry).collect();
        let whole = self.end.since(self.begin.unwrap_or(self.end));
        let from = self.options.from_ns.unwrap_or(0).min(whole);
        let to = self.options.to_ns.unwrap_or(whole).min(whole);
        Profile {
            schema: PROFILE_SCHEMA.to_owned(),
            kind: self.kind,
            duration_ns: to.saturating_sub(from).max(0) as u64,
            begin_unix_ns: self.begin_unix_ns,
            count: entries.iter().map(|e| e.count).sum(),
            total_ns: entries.iter().map(|e| e.total_ns).sum(),
            sample_period_ns: if self.kind == ProfileKind::Cpu { self.sample_ns } else { 0 },
            entries,
            damage,
        }
    }
}
