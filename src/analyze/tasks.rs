//! User tasks: how long they took, by name, and the longest of them with what was in them.

use super::dist::{Dist, Durations};
use super::{Damage, each_event};
use crate::read::{EventKind, EventRef, IdHashMap, Interner, Reader, StringKey, Time};
use serde::{Deserialize, Serialize};

/// The schema of [`Tasks`] as JSON.
pub const TASKS_SCHEMA: &str = "exectrace.tasks/1";

/// The tasks of a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tasks {
    /// [`TASKS_SCHEMA`].
    pub schema: String,
    /// The length of the trace.
    pub duration_ns: u64,
    /// By name, the greatest sum first.
    pub names: Vec<TaskName>,
    /// The longest tasks, those without an end among them (up to the end of the trace).
    pub longest: Vec<TaskInfo>,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// Tasks of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskName {
    /// The name.
    pub name: String,
    /// How long those took that begin and end in the trace.
    #[serde(flatten)]
    pub durations: Durations,
    /// How many have no end in the trace.
    pub open: u64,
    /// How many have no beginning in the trace.
    pub from_before: u64,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Its id.
    pub id: u64,
    /// The task in which it was made, if any.
    pub parent: Option<u64>,
    /// Its name.
    pub name: String,
    /// When it began, in nanoseconds since the trace began.
    pub begin_at_ns: u64,
    /// How long it took, up to the end of the trace if it has no end.
    pub ns: u64,
    /// Whether it ended in the trace.
    pub ended: bool,
    /// How many regions were in it, and how long they took together.
    pub regions: u64,
    /// See `regions`.
    pub regions_ns: u64,
    /// How many log messages.
    pub logs: u64,
    /// How many tasks were made in it.
    pub children: u64,
}

/// Reads the rest of a trace and lists its tasks: sums by name, and the `longest` longest.
#[must_use]
pub fn tasks(reader: &mut Reader<'_>, longest: usize) -> Tasks {
    tasks_watched(reader, longest, &mut || {})
}

/// Like [`tasks`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn tasks_watched(reader: &mut Reader<'_>, longest: usize, tick: &mut dyn FnMut()) -> Tasks {
    let mut c = Collect { longest_len: longest, ..Collect::default() };
    let end = each_event(reader, tick, |ev| c.event(&ev));
    c.finish(end.err().map(|e| Damage::of(&e)))
}

#[derive(Default)]
struct Collect {
    interner: Interner,
    begin: Option<Time>,
    end: Time,
    open: IdHashMap<Open>,
    names: IdHashMap<Sums>,
    longest: Vec<TaskInfo>,
    longest_len: usize,
    /// Open regions by goroutine: task and begin, innermost last.
    regions: IdHashMap<Vec<(u64, Time)>>,
}

#[derive(Default)]
struct Sums {
    dist: Dist,
    from_before: u64,
    open: u64,
}

struct Open {
    name: StringKey,
    begin: Time,
    info: TaskInfo,
}

impl Collect {
    fn event(&mut self, ev: &EventRef<'_>) {
        self.end = ev.time;
        match ev.kind() {
            EventKind::Sync => {
                self.begin.get_or_insert(ev.time);
            }
            EventKind::TaskBegin => {
                let Some(t) = ev.task() else { return };
                let name = self.interner.string(ev.generation(), t.name);
                let parent = t.parent.some().map(|p| p.0).filter(|&p| p != 0);
                if let Some(p) = parent.and_then(|p| self.open.get_mut(&p)) {
                    p.info.children += 1;
                }
                let info = TaskInfo { id: t.id.0, parent, ..TaskInfo::default() };
                self.open.insert(t.id.0, Open { name, begin: ev.time, info });
            }
            EventKind::TaskEnd => {
                let Some(t) = ev.task() else { return };
                match self.open.remove(&t.id.0) {
                    Some(open) => self.over(open, Some(ev.time)),
                    None => {
                        let name = self.interner.string(ev.generation(), t.name);
                        self.names.entry(name.0.into()).or_default().from_before += 1;
                    }
                }
            }
            EventKind::RegionBegin => {
                let Some(r) = ev.region() else { return };
                self.regions.entry(ev.goroutine.0).or_default().push((r.task.0, ev.time));
            }
            EventKind::RegionEnd => {
                let Some((task, begin)) = self.regions.get_mut(&ev.goroutine.0).and_then(Vec::pop) else { return };
                if let Some(t) = self.open.get_mut(&task) {
                    t.info.regions += 1;
                    t.info.regions_ns += ev.time.since(begin).max(0) as u64;
                }
            }
            EventKind::Log => {
                if let Some(t) = ev.log().and_then(|l| self.open.get_mut(&l.task.0)) {
                    t.info.logs += 1;
                }
            }
            EventKind::StateTransition if !self.regions.is_empty() => {
                use crate::read::{GoState, StateTransition::Goroutine};
                if let Some(Goroutine { id, to: GoState::NotExist, .. }) = ev.transition() {
                    self.regions.remove(&id.0);
                }
            }
            _ => {}
        }
    }

    fn over(&mut self, open: Open, end: Option<Time>) {
        let Open { name, begin, mut info } = open;
        info.ns = end.unwrap_or(self.end).since(begin).max(0) as u64;
        info.ended = end.is_some();
        info.begin_at_ns = begin.since(self.begin.unwrap_or(begin)).max(0) as u64;
        let sums = self.names.entry(name.0.into()).or_default();
        if info.ended {
            sums.dist.add(info.ns);
        } else {
            sums.open += 1;
        }
        if self.longest.len() < self.longest_len || self.longest.last().is_some_and(|l| l.ns < info.ns) {
            info.name = self.interner.text(name).to_owned();
            let at = self.longest.partition_point(|l| (l.ns, info.id) >= (info.ns, l.id));
            self.longest.insert(at, info);
            self.longest.truncate(self.longest_len);
        }
    }

    fn finish(mut self, damage: Option<Damage>) -> Tasks {
        let mut open: Vec<Open> = std::mem::take(&mut self.open).into_values().collect();
        open.sort_by_key(|o| (o.begin, o.info.id));
        open.into_iter().for_each(|o| self.over(o, None));
        let mut names: Vec<TaskName> = self
            .names
            .iter()
            .map(|(&k, s)| TaskName {
                name: self.interner.text(StringKey(k as u32)).to_owned(),
                durations: s.dist.durations(),
                open: s.open,
                from_before: s.from_before,
            })
            .collect();
        names.sort_by(|a, b| b.durations.total_ns.cmp(&a.durations.total_ns).then_with(|| a.name.cmp(&b.name)));
        Tasks {
            schema: TASKS_SCHEMA.to_owned(),
            duration_ns: self.end.since(self.begin.unwrap_or(self.end)).max(0) as u64,
            names,
            longest: self.longest,
            damage,
        }
    }
}
