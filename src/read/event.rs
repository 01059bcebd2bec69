//! One event as the reader delivers it, and what kind of thing it tells.
//!
//! An [`Event`] is plain data of one and a half cache lines: when, where, what, and the arguments as the wire has them. The
//! typed readings of those arguments are in [`view`](super::view).

use super::{GoId, ProcId, StackId, ThreadId, Time};
use crate::format::Kind;

/// One event, in its place in the order.
///
/// `thread`, `proc` and `goroutine` are the context in which it happened, before any change that it makes: an event by
/// which a goroutine begins to run has no goroutine yet. CPU samples carry the context that the profiler saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When. Times rise strictly from event to event over the whole trace.
    pub time: Time,
    /// The thread on which it happened.
    pub thread: ThreadId,
    /// The processor that the thread held.
    pub proc: ProcId,
    /// The goroutine that ran there.
    pub goroutine: GoId,
    /// The arguments behind `dt`, in the order of [`Spec::args`](crate::format::Spec::args); unused ones hold anything.
    ///
    /// The reader adds what Go's reader adds: `UserTaskEnd` has the parent in `[2]` and the name in `[3]`; `ProcStatus` and
    /// `GoStatus` have the state before in the upper half of their status; `STWEnd` has the kind in `[0]`; `ProcSteal` has
    /// the state before in `[3]`; a `Sync` has its number in `[0]`, a `CPUSample` its stack. The typed views know all this.
    pub args: [u64; 4],
    /// The event on the wire. The reader's own are `Sync` (a generation begins, or the trace ends) and `CPUSample`.
    pub wire: Kind,
}

/// What an event tells, as Go's API groups them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum EventKind {
    /// A generation begins, or the trace ends. Everything that exists has been named by the end of a generation.
    Sync,
    /// A metric's value.
    Metric,
    /// A goroutine gets a label.
    Label,
    /// A CPU sample.
    StackSample,
    /// A range of time begins.
    RangeBegin,
    /// A range of time is under way where the generation begins.
    RangeActive,
    /// A range of time ends.
    RangeEnd,
    /// A user task begins.
    TaskBegin,
    /// A user task ends.
    TaskEnd,
    /// A user region begins.
    RegionBegin,
    /// A user region ends.
    RegionEnd,
    /// A user's log message.
    Log,
    /// A goroutine or processor changes its state, or its state is told.
    StateTransition,
    /// An event of an experiment, not validated.
    Experimental,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [EventKind; 14] = [
        EventKind::Sync,
        EventKind::Metric,
        EventKind::Label,
        EventKind::StackSample,
        EventKind::RangeBegin,
        EventKind::RangeActive,
        EventKind::RangeEnd,
        EventKind::TaskBegin,
        EventKind::TaskEnd,
        EventKind::RegionBegin,
        EventKind::RegionEnd,
        EventKind::Log,
        EventKind::StateTransition,
        EventKind::Experimental,
    ];

    /// The name that Go prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Sync => "Sync",
            EventKind::Metric => "Metric",
            EventKind::Label => "Label",
            EventKind::StackSample => "StackSample",
            EventKind::RangeBegin => "RangeBegin",
            EventKind::RangeActive => "RangeActive",
            EventKind::RangeEnd => "RangeEnd",
            EventKind::TaskBegin => "TaskBegin",
            EventKind::TaskEnd => "TaskEnd",
            EventKind::RegionBegin => "RegionBegin",
            EventKind::RegionEnd => "RegionEnd",
            EventKind::Log => "Log",
            EventKind::StateTransition => "StateTransition",
            EventKind::Experimental => "Experimental",
        }
    }

    /// What an event of this wire kind tells. Structural kinds, which never become events, count as `Sync`.
    #[must_use]
    #[inline]
    pub const fn of(wire: Kind) -> EventKind {
        match wire {
            Kind::ProcsChange | Kind::HeapAlloc | Kind::HeapGoal => EventKind::Metric,
            Kind::GoLabel => EventKind::Label,
            Kind::CPUSample => EventKind::StackSample,
            Kind::STWBegin | Kind::GCBegin | Kind::GCSweepBegin | Kind::GCMarkAssistBegin => EventKind::RangeBegin,
            Kind::GCActive | Kind::GCSweepActive | Kind::GCMarkAssistActive => EventKind::RangeActive,
            Kind::STWEnd | Kind::GCEnd | Kind::GCSweepEnd | Kind::GCMarkAssistEnd => EventKind::RangeEnd,
            Kind::UserTaskBegin => EventKind::TaskBegin,
            Kind::UserTaskEnd => EventKind::TaskEnd,
            Kind::UserRegionBegin => EventKind::RegionBegin,
            Kind::UserRegionEnd => EventKind::RegionEnd,
            Kind::UserLog => EventKind::Log,
            Kind::ProcStart
            | Kind::ProcStop
            | Kind::ProcSteal
            | Kind::ProcStatus
            | Kind::GoCreate
            | Kind::GoCreateSyscall
            | Kind::GoCreateBlocked
            | Kind::GoStart
            | Kind::GoDestroy
            | Kind::GoDestroySyscall
            | Kind::GoStop
            | Kind::GoBlock
            | Kind::GoUnblock
            | Kind::GoSwitch
            | Kind::GoSwitchDestroy
            | Kind::GoSyscallBegin
            | Kind::GoSyscallEnd
            | Kind::GoSyscallEndBlocked
            | Kind::GoStatus
            | Kind::GoStatusStack => EventKind::StateTransition,
            Kind::Span
            | Kind::SpanAlloc
            | Kind::SpanFree
            | Kind::HeapObject
            | Kind::HeapObjectAlloc
            | Kind::HeapObjectFree
            | Kind::GoroutineStack
            | Kind::GoroutineStackAlloc
            | Kind::GoroutineStackFree => EventKind::Experimental,
            Kind::EventBatch
            | Kind::Stacks
            | Kind::Stack
            | Kind::Strings
            | Kind::String
            | Kind::CPUSamples
            | Kind::Frequency
            | Kind::ExperimentalBatch
            | Kind::Sync
            | Kind::ClockSnapshot
            | Kind::EndOfGeneration => EventKind::Sync,
        }
    }
}

/// Where in [`Event::args`] the stack of the executing context stands, by wire kind; `None` if the kind has no stack.
///
/// An event with two stacks (`GoCreate`) has the other one, the new goroutine's, in `args[1]`.
pub(super) const fn stack_arg(wire: Kind) -> Option<usize> {
    match wire {
        Kind::CPUSample | Kind::GCSweepBegin | Kind::GCMarkAssistBegin => Some(0),
        Kind::ProcsChange
        | Kind::GoStop
        | Kind::GoBlock
        | Kind::GoSyscallBegin
        | Kind::STWBegin
        | Kind::GCBegin
        | Kind::UserTaskEnd => Some(1),
        Kind::GoUnblock | Kind::GoCreate | Kind::GoCreateBlocked | Kind::UserRegionBegin | Kind::UserRegionEnd => {
            Some(2)
        }
        Kind::GoStatusStack | Kind::UserTaskBegin | Kind::UserLog => Some(3),
        _ => None,
    }
}

impl Event {
    /// What the event tells.
    #[must_use]
    #[inline]
    pub const fn kind(&self) -> EventKind {
        EventKind::of(self.wire)
    }

    /// The stack of the context in which the event happened.
    #[must_use]
    #[inline]
    pub const fn stack_id(&self) -> StackId {
        match stack_arg(self.wire) {
            Some(i) => StackId(self.args[i]),
            None => StackId::NONE,
        }
    }
}

/// A buffer of events with a fixed number of places.
///
/// It is a `Vec` whose length counts places and not events, because a push that might allocate costs the loop around it its
/// registers.
#[derive(Default)]
pub(super) struct EventBuffer {
    places: Vec<Event>,
    len: usize,
}

impl EventBuffer {
    /// What stands in unused places.
    const NOTHING: Event = Event {
        time: Time(0),
        thread: ThreadId::NONE,
        proc: ProcId::NONE,
        goroutine: GoId::NONE,
        args: [0; 4],
        wire: Kind::Sync,
    };

    /// Sees to it that there are at least `n` places.
    pub(super) fn reserve(&mut self, n: usize) {
        if self.places.len() < n {
            self.places.resize(n, Self::NOTHING);
        }
    }

    /// Adds an event. There must be a place for it.
    #[inline(always)]
    pub(super) fn push(&mut self, event: Event) {
        self.places[self.len] = event;
        self.len += 1;
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Drops the first `n` events.
    pub(super) fn drop_first(&mut self, n: usize) {
        self.places.copy_within(n.min(self.len)..self.len, 0);
        self.len -= n.min(self.len);
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[Event] {
        &self.places[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_stand_where_the_table_of_events_says() {
        for &k in Kind::ALL {
            let spec = k.spec();
            if !spec.timed || k == Kind::ClockSnapshot {
                continue;
            }
            let by_name = spec.args.iter().position(|a| *a == "stack").map(|i| i - 1);
            assert_eq!(stack_arg(k), by_name, "{}", spec.name);
            if spec.args.contains(&"new_stack") {
                assert_eq!(spec.args[2], "new_stack", "{}", spec.name);
            }
        }
    }

    #[test]
    fn every_timed_event_tells_something() {
        for &k in Kind::ALL {
            if k.spec().timed && k != Kind::ClockSnapshot {
                assert_ne!(EventKind::of(k), EventKind::Sync, "{}", k.spec().name);
            }
        }
        for (i, k) in EventKind::ALL.iter().enumerate() {
            assert_eq!(*k as usize, i, "{}", k.name());
        }
    }

    #[test]
    fn an_event_stays_small() {
        assert_eq!(size_of::<Event>(), 72);
    }
}
