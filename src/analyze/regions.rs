//! User regions: how long they took, by name, and what their goroutines did in them.

use super::dist::{Dist, Durations};
use super::frames;
use super::states::States;
use super::times::{Times, TimesBySlot};
use super::{Damage, FOREVER, each_event};
use crate::read::{EventKind, EventRef, GoState, IdHashMap, Interner, Reader, StackKey, StringKey, Time};
use serde::{Deserialize, Serialize};

/// The schema of [`Regions`] as JSON.
pub const REGIONS_SCHEMA: &str = "exectrace.regions/1";

/// The regions of a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Regions {
    /// [`REGIONS_SCHEMA`].
    pub schema: String,
    /// The length of the trace.
    pub duration_ns: u64,
    /// By name, the greatest sum first.
    pub names: Vec<RegionName>,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// Regions of one name. Nested regions count each for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RegionName {
    /// The name.
    pub name: String,
    /// How long those took that begin and end in the trace.
    #[serde(flatten)]
    pub durations: Durations,
    /// Of the sum, how long the goroutine ran.
    pub running_ns: u64,
    /// How long it waited.
    pub waiting_ns: u64,
    /// How long it was ready and had no processor.
    pub runnable_ns: u64,
    /// How long it was in system calls.
    pub syscall_ns: u64,
    /// How many have no end in the trace.
    pub open: u64,
    /// How many have no beginning in the trace.
    pub from_before: u64,
    /// Where the first of them began, in one line.
    pub place: String,
}

/// Reads the rest of a trace and adds up its regions.
#[must_use]
pub fn regions(reader: &mut Reader<'_>) -> Regions {
    regions_watched(reader, &mut || {})
}

/// Like [`regions`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn regions_watched(reader: &mut Reader<'_>, tick: &mut dyn FnMut()) -> Regions {
    let mut c = Collect::default();
    c.forever = c.interner.text_key(FOREVER);
    let end = each_event(reader, tick, |ev| c.event(&ev));
    c.finish(end.err().map(|e| Damage::of(&e)))
}

#[derive(Default)]
struct Collect {
    interner: Interner,
    forever: StringKey,
    states: States,
    times: TimesBySlot,
    begin: Option<Time>,
    end: Time,
    open: IdHashMap<Vec<Open>>,
    names: IdHashMap<Sums>,
}

struct Open {
    name: StringKey,
    begin: Time,
    before: Times,
}

#[derive(Default)]
struct Sums {
    dist: Dist,
    times: Times,
    open: u64,
    from_before: u64,
    stack: StackKey,
}

impl Collect {
    #[inline]
    fn event(&mut self, ev: &EventRef<'_>) {
        self.end = ev.time;
        if let Some(c) = self.states.update(ev, &mut self.interner) {
            self.times.update(&c, self.forever);
            if c.to == GoState::NotExist && !self.open.is_empty() {
                for o in self.open.remove(&c.id.0).into_iter().flatten() {
                    self.sums(o.name).open += 1;
                }
            }
            return;
        }
        match ev.kind() {
            EventKind::Sync => {
                self.begin.get_or_insert(ev.time);
            }
            EventKind::RegionBegin => {
                let Some(r) = ev.region() else { return };
                let name = self.interner.string(ev.generation(), r.name);
                let stack = self.interner.stack(ev.generation(), ev.stack_id());
                let sums = self.names.entry(name.0.into()).or_default();
                if sums.stack == StackKey(0) {
                    sums.stack = stack;
                }
                let before = self.now(ev);
                self.open.entry(ev.goroutine.0).or_default().push(Open { name, begin: ev.time, before });
            }
            EventKind::RegionEnd => {
                let Some(r) = ev.region() else { return };
                match self.open.get_mut(&ev.goroutine.0).and_then(Vec::pop) {
                    Some(o) => {
                        let spent = self.now(ev).since(&o.before);
                        let sums = self.sums(o.name);
                        sums.dist.add(ev.time.since(o.begin).max(0) as u64);
                        sums.times.merge(&spent);
                    }
                    None => {
                        let name = self.interner.string(ev.generation(), r.name);
                        self.sums(name).from_before += 1;
                    }
                }
            }
            _ => {}
        }
    }

    fn sums(&mut self, name: StringKey) -> &mut Sums {
        self.names.entry(name.0.into()).or_default()
    }

    fn now(&self, ev: &EventRef<'_>) -> Times {
        let slot = self.states.slot(ev.goroutine);
        slot.map_or_else(Times::default, |s| self.times.now(s, &self.states, self.forever))
    }

    fn finish(mut self, damage: Option<Damage>) -> Regions {
        for o in std::mem::take(&mut self.open).into_values().flatten() {
            self.sums(o.name).open += 1;
        }
        let mut names: Vec<RegionName> = self
            .names
            .iter()
            .map(|(&k, s)| RegionName {
                name: self.interner.text(StringKey(k as u32)).to_owned(),
                durations: s.dist.durations(),
                running_ns: s.times.running_ns,
                waiting_ns: s.times.waiting_ns,
                runnable_ns: s.times.runnable_ns,
                syscall_ns: s.times.syscall_ns + s.times.syscall_blocked_ns,
                open: s.open,
                from_before: s.from_before,
                place: frames::one_line(&self.interner, s.stack, 2),
            })
            .collect();
        names.sort_by(|a, b| b.durations.total_ns.cmp(&a.durations.total_ns).then_with(|| a.name.cmp(&b.name)));
        Regions {
            schema: REGIONS_SCHEMA.to_owned(),
            duration_ns: self.end.since(self.begin.unwrap_or(self.end)).max(0) as u64,
            names,
            damage,
        }
    }
}
