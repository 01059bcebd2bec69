//! Typed readings of an event's arguments: state transitions, ranges, metrics, tasks, regions, logs.
//!
//! Each is a small `Copy` value that holds ids; texts and frames are looked up in the generation, most easily through
//! [`EventRef`](super::EventRef). Which wire event means what is Go's doing (`src/internal/trace/event.go`).

use super::{Event, GoId, ProcId, StackId, StringId, TaskId, Time};
use crate::format::{GoStatus, Kind, ProcStatus};

/// The state of a goroutine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum GoState {
    /// Not known (before its first event in the first generation).
    #[default]
    Undetermined,
    /// It does not exist, not yet or not any more.
    NotExist,
    /// It could run but has no processor.
    Runnable,
    /// It runs.
    Running,
    /// It waits for something.
    Waiting,
    /// It is in a system call.
    Syscall,
}

impl GoState {
    /// The name that Go prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            GoState::Undetermined => "Undetermined",
            GoState::NotExist => "NotExist",
            GoState::Runnable => "Runnable",
            GoState::Running => "Running",
            GoState::Waiting => "Waiting",
            GoState::Syscall => "Syscall",
        }
    }

    /// Whether it is bound to a thread in this state.
    #[must_use]
    pub const fn executing(self) -> bool {
        matches!(self, GoState::Running | GoState::Syscall)
    }

    pub(super) const fn of_status(status: u8) -> GoState {
        match GoStatus::from_wire(status as u64) {
            Some(GoStatus::Runnable) => GoState::Runnable,
            Some(GoStatus::Running) => GoState::Running,
            Some(GoStatus::Syscall) => GoState::Syscall,
            Some(GoStatus::Waiting) => GoState::Waiting,
            None => GoState::Undetermined,
        }
    }

    const fn from_u32(v: u32) -> GoState {
        match v {
            1 => GoState::NotExist,
            2 => GoState::Runnable,
            3 => GoState::Running,
            4 => GoState::Waiting,
            5 => GoState::Syscall,
            _ => GoState::Undetermined,
        }
    }
}

/// The state of a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ProcState {
    /// Not known (before its first event in the first generation).
    #[default]
    Undetermined,
    /// It does not exist yet.
    NotExist,
    /// A thread holds it.
    Running,
    /// No thread holds it.
    Idle,
}

impl ProcState {
    /// The name that Go prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ProcState::Undetermined => "Undetermined",
            ProcState::NotExist => "NotExist",
            ProcState::Running => "Running",
            ProcState::Idle => "Idle",
        }
    }

    /// Whether it is bound to a thread in this state.
    #[must_use]
    pub const fn executing(self) -> bool {
        matches!(self, ProcState::Running)
    }

    pub(super) const fn of_status(status: u8) -> ProcState {
        match ProcStatus::from_wire(status as u64) {
            Some(ProcStatus::Running | ProcStatus::Syscall) => ProcState::Running,
            Some(ProcStatus::Idle | ProcStatus::SyscallAbandoned) => ProcState::Idle,
            None => ProcState::Undetermined,
        }
    }

    const fn from_u32(v: u32) -> ProcState {
        match v {
            1 => ProcState::NotExist,
            2 => ProcState::Running,
            3 => ProcState::Idle,
            _ => ProcState::Undetermined,
        }
    }
}

/// A change of state, or the telling of one (`from` and `to` are then the same, or `from` is not known).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateTransition {
    /// Of a goroutine.
    Goroutine {
        /// Which.
        id: GoId,
        /// The state before.
        from: GoState,
        /// The state after.
        to: GoState,
        /// Why it stops or blocks; empty for other changes.
        reason: StringId,
        /// The stack of this goroutine. It differs from the event's own stack where one goroutine changes another: for a
        /// new one it is the stack with which it begins.
        stack: StackId,
    },
    /// Of a processor.
    Proc {
        /// Which.
        id: ProcId,
        /// The state before.
        from: ProcState,
        /// The state after.
        to: ProcState,
    },
}

/// What a range of time is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RangeKind {
    /// The world is stopped, for the reason with this string.
    StopTheWorld(StringId),
    /// The collector marks beside the program.
    GcMark,
    /// A processor sweeps.
    Sweep,
    /// A goroutine helps the collector to mark.
    MarkAssist,
}

/// What a range of time belongs to. A resource has at most one range of a kind at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The whole program.
    Global,
    /// A processor.
    Proc(ProcId),
    /// A goroutine.
    Goroutine(GoId),
}

/// A range of time that begins, is under way or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// What it is about.
    pub kind: RangeKind,
    /// What it belongs to.
    pub scope: Scope,
}

/// What a sweep that ended has done, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepTotals {
    /// Bytes looked at.
    pub swept_bytes: u64,
    /// Bytes given back.
    pub reclaimed_bytes: u64,
}

/// A metric and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metric {
    /// The number of processors (`GOMAXPROCS`).
    Procs(u64),
    /// Bytes of live heap objects.
    HeapAlloc(u64),
    /// The heap size in bytes at which the next collection ends.
    HeapGoal(u64),
}

impl Metric {
    /// The name in Go's `runtime/metrics`, which has the unit in it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Procs(_) => "/sched/gomaxprocs:threads",
            Metric::HeapAlloc(_) => "/memory/classes/heap/objects:bytes",
            Metric::HeapGoal(_) => "/gc/heap/goal:bytes",
        }
    }

    /// The value, in the unit of the name.
    #[must_use]
    pub const fn value(self) -> u64 {
        match self {
            Metric::Procs(v) | Metric::HeapAlloc(v) | Metric::HeapGoal(v) => v,
        }
    }
}

/// A user task that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id. Ids may be used again after the end.
    pub id: TaskId,
    /// The task in which it was made; `NONE` if there is none or it is not known.
    pub parent: TaskId,
    /// Its name; empty at an end whose beginning is not in the trace.
    pub name: StringId,
}

/// A user region that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The task in which it stands; [`TaskId::BACKGROUND`] if none.
    pub task: TaskId,
    /// Its name.
    pub name: StringId,
}

/// A user's log message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The task in which it stands; [`TaskId::BACKGROUND`] if none.
    pub task: TaskId,
    /// The category.
    pub category: StringId,
    /// The message.
    pub message: StringId,
}

/// A generation begins, or the trace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The number of this `Sync`, from 1.
    pub n: u64,
    /// One moment on three clocks. Traces from Go 1.25 on have it, in every generation; the `Sync` at the end has none.
    pub clock: Option<ClockSnapshot>,
}

/// One moment on three clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSnapshot {
    /// On the trace's clock.
    pub trace: Time,
    /// On the monotonic clock of the system, in nanoseconds.
    pub mono_ns: u64,
    /// On the wall: seconds since 1970.
    pub wall_sec: i64,
    /// On the wall: the nanoseconds of that second.
    pub wall_nsec: u32,
}

/// An event of an experiment, with the names and values of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experimental<'a> {
    /// The name of the event.
    pub name: &'static str,
    /// The names of the arguments.
    pub names: &'static [&'static str],
    /// Their values, as many as names.
    pub values: &'a [u64],
}

/// An event's typed reading, whichever it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Details<'a> {
    /// A generation begins, or the trace ends: see [`EventRef::sync`](super::EventRef::sync).
    Sync(u64),
    /// A metric's value.
    Metric(Metric),
    /// The label of the goroutine that runs.
    Label(StringId),
    /// A CPU sample: see [`Event::stack_id`].
    StackSample,
    /// A range begins.
    RangeBegin(Range),
    /// A range is under way.
    RangeActive(Range),
    /// A range ends.
    RangeEnd(Range),
    /// A task begins.
    TaskBegin(Task),
    /// A task ends.
    TaskEnd(Task),
    /// A region begins.
    RegionBegin(Region),
    /// A region ends.
    RegionEnd(Region),
    /// A log message.
    Log(Log),
    /// A state changes.
    StateTransition(StateTransition),
    /// An event of an experiment.
    Experimental(Experimental<'a>),
}

impl Event {
    /// The typed reading of the event.
    #[must_use]
    pub fn details(&self) -> Details<'_> {
        use super::EventKind as K;
        let none = Details::Sync(self.args[0]);
        match self.kind() {
            K::Sync => none,
            K::Metric => self.metric().map_or(none, Details::Metric),
            K::Label => Details::Label(StringId(self.args[0])),
            K::StackSample => Details::StackSample,
            K::RangeBegin => self.range().map_or(none, Details::RangeBegin),
            K::RangeActive => self.range().map_or(none, Details::RangeActive),
            K::RangeEnd => self.range().map_or(none, Details::RangeEnd),
            K::TaskBegin => self.task().map_or(none, Details::TaskBegin),
            K::TaskEnd => self.task().map_or(none, Details::TaskEnd),
            K::RegionBegin => self.region().map_or(none, Details::RegionBegin),
            K::RegionEnd => self.region().map_or(none, Details::RegionEnd),
            K::Log => self.log().map_or(none, Details::Log),
            K::StateTransition => self.transition().map_or(none, Details::StateTransition),
            K::Experimental => self.experimental().map_or(none, Details::Experimental),
        }
    }

    /// The change of state that the event tells.
    #[must_use]
    #[inline(always)]
    pub fn transition(&self) -> Option<StateTransition> {
        use GoState as G;
        use ProcState as P;
        let a = &self.args;
        let go = |id, from, to| {
            let reason = if matches!(self.wire, Kind::GoStop | Kind::GoBlock) { StringId(a[0]) } else { StringId(0) };
            // A goroutine that another one wakes or starts does not stand on that one's stack.
            let stack = match self.wire {
                Kind::GoCreate | Kind::GoCreateBlocked => StackId(a[1]),
                Kind::GoStop | Kind::GoBlock | Kind::GoSyscallBegin | Kind::GoStatusStack => self.stack_id(),
                _ => StackId::NONE,
            };
            StateTransition::Goroutine { id, from, to, reason, stack }
        };
        let proc = |id, from, to| StateTransition::Proc { id, from, to };
        Some(match self.wire {
            Kind::ProcStart => proc(ProcId(a[0]), P::Idle, P::Running),
            Kind::ProcStop => proc(self.proc, P::Running, P::Idle),
            Kind::ProcSteal => {
                // A processor in an abandoned system call has been told as idle already.
                let abandoned = a[3] == ProcStatus::SyscallAbandoned as u64;
                proc(ProcId(a[0]), if abandoned { P::Idle } else { P::Running }, P::Idle)
            }
            Kind::ProcStatus => {
                proc(ProcId(a[0]), ProcState::from_u32((a[1] >> 32) as u32), ProcState::of_status(a[1] as u8))
            }
            Kind::GoCreate => go(GoId(a[0]), G::NotExist, G::Runnable),
            Kind::GoCreateBlocked => go(GoId(a[0]), G::NotExist, G::Waiting),
            Kind::GoCreateSyscall => go(GoId(a[0]), G::NotExist, G::Syscall),
            Kind::GoStart => go(GoId(a[0]), G::Runnable, G::Running),
            Kind::GoDestroy => go(self.goroutine, G::Running, G::NotExist),
            Kind::GoDestroySyscall => go(self.goroutine, G::Syscall, G::NotExist),
            Kind::GoStop => go(self.goroutine, G::Running, G::Runnable),
            Kind::GoBlock => go(self.goroutine, G::Running, G::Waiting),
            // A switch is told as three events; the first, under the name of the switch, wakes the next goroutine.
            Kind::GoUnblock | Kind::GoSwitch | Kind::GoSwitchDestroy => go(GoId(a[0]), G::Waiting, G::Runnable),
            Kind::GoSyscallBegin => go(self.goroutine, G::Running, G::Syscall),
            Kind::GoSyscallEnd => go(self.goroutine, G::Syscall, G::Running),
            Kind::GoSyscallEndBlocked => go(self.goroutine, G::Syscall, G::Runnable),
            Kind::GoStatus | Kind::GoStatusStack => {
                go(GoId(a[0]), GoState::from_u32((a[2] >> 32) as u32), GoState::of_status(a[2] as u8))
            }
            _ => return None,
        })
    }

    /// The range that begins, is under way or ends.
    #[must_use]
    #[inline]
    pub fn range(&self) -> Option<Range> {
        let (kind, scope) = match self.wire {
            Kind::STWBegin | Kind::STWEnd => {
                (RangeKind::StopTheWorld(StringId(self.args[0])), Scope::Goroutine(self.goroutine))
            }
            Kind::GCBegin | Kind::GCActive | Kind::GCEnd => (RangeKind::GcMark, Scope::Global),
            Kind::GCSweepActive => (RangeKind::Sweep, Scope::Proc(ProcId(self.args[0]))),
            Kind::GCSweepBegin | Kind::GCSweepEnd => (RangeKind::Sweep, Scope::Proc(self.proc)),
            Kind::GCMarkAssistActive => (RangeKind::MarkAssist, Scope::Goroutine(GoId(self.args[0]))),
            Kind::GCMarkAssistBegin | Kind::GCMarkAssistEnd => {
                (RangeKind::MarkAssist, Scope::Goroutine(self.goroutine))
            }
            _ => return None,
        };
        Some(Range { kind, scope })
    }

    /// What a sweep has done, at its end.
    #[must_use]
    pub fn sweep_totals(&self) -> Option<SweepTotals> {
        (self.wire == Kind::GCSweepEnd)
            .then_some(SweepTotals { swept_bytes: self.args[0], reclaimed_bytes: self.args[1] })
    }

    /// The metric and its value.
    #[must_use]
    #[inline]
    pub fn metric(&self) -> Option<Metric> {
        Some(match self.wire {
            Kind::ProcsChange => Metric::Procs(self.args[0]),
            Kind::HeapAlloc => Metric::HeapAlloc(self.args[0]),
            Kind::HeapGoal => Metric::HeapGoal(self.args[0]),
            _ => return None,
        })
    }

    /// The label that the goroutine gets.
    #[must_use]
    pub fn label(&self) -> Option<StringId> {
        (self.wire == Kind::GoLabel).then_some(StringId(self.args[0]))
    }

    /// The task that begins or ends.
    #[must_use]
    pub fn task(&self) -> Option<Task> {
        let (parent, name) = match self.wire {
            Kind::UserTaskBegin => (self.args[1], self.args[2]),
            Kind::UserTaskEnd => (self.args[2], self.args[3]),
            _ => return None,
        };
        Some(Task { id: TaskId(self.args[0]), parent: TaskId(parent), name: StringId(name) })
    }

    /// The region that begins or ends.
    #[must_use]
    pub fn region(&self) -> Option<Region> {
        matches!(self.wire, Kind::UserRegionBegin | Kind::UserRegionEnd)
            .then_some(Region { task: TaskId(self.args[0]), name: StringId(self.args[1]) })
    }

    /// The log message.
    #[must_use]
    pub fn log(&self) -> Option<Log> {
        (self.wire == Kind::UserLog).then_some(Log {
            task: TaskId(self.args[0]),
            category: StringId(self.args[1]),
            message: StringId(self.args[2]),
        })
    }

    /// The arguments of an event of an experiment, by name.
    #[must_use]
    pub fn experimental(&self) -> Option<Experimental<'_>> {
        if self.kind() != super::EventKind::Experimental {
            return None;
        }
        let spec = self.wire.spec();
        let names = spec.args.get(1..)?;
        Some(Experimental { name: spec.name, names, values: self.args.get(..names.len())? })
    }
}
