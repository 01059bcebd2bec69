//! The scheduler's state as the events tell it: what puts events in order and what refuses a broken trace.
//!
//! Each thread's events stand in the file in their own order; between threads there is only time, which lies now and then.
//! So the order is found by playing the events: an event that fits the state of goroutines, processors and threads goes
//! next; one that does not fit *yet* (a goroutine starts that is not runnable, a sequence number is ahead) waits for other
//! threads; one that can never fit ends the trace. [`Ordering::advance`] makes that decision for one event.
//!
//! The rules are those of Go's `src/internal/trace/order.go`, one method per rule, in the files beside this one:
//! `goroutine`, `proc`, `range` (GC, sweep, assist, stop-the-world) and `user` (tasks, regions). Two readers that differ in
//! a rule would show two histories of the same file, so nothing here is stricter or laxer than Go.
//!
//! The most common events, where nothing is amiss, are played by a short routine first (`fast`), which leaves all else to
//! the rules. It saves half the time and decides nothing by itself; a test plays whole traces with and without it.
//!
//! Where the time goes: a state is found by index, not by hash. A thread remembers the slots of its processor and its
//! goroutine, so only events that name another goroutine (`GoStart`, `GoUnblock`, ...) look one up, in an array as long as
//! ids are small. States of one kind lie in one array and take half a cache line or less. Nothing is allocated per event.

mod fast;
mod goroutine;
mod names;
mod proc;
mod range;
mod user;

use super::cursor::Cursor;
use super::error::{Fault, Faulty, fault};
use super::event::EventBuffer;
use super::idmap::IdMap;
use super::{Event, Generation, GoId, ProcId, StackId, StringId, ThreadId, Time};
use crate::format::Kind;
use names::Names;
use std::collections::BTreeMap;
use user::Task;

/// Slot 0 of the threads: events that belong to no thread.
const NO_THREAD_SLOT: u32 = 0;
/// No slot.
const NO_SLOT: u32 = u32::MAX;
/// The status of a goroutine slot that is free. The wire's statuses are 0 to 4.
const DEAD: u8 = u8::MAX;
/// Ids above this are kept by hash: goroutine ids rise as long as the program runs, and the table must not.
const DENSE_IDS: usize = 1 << 16;

/// What a thread is doing.
struct ThreadState {
    id: ThreadId,
    proc: ProcId,
    goroutine: GoId,
    /// Where the state of `proc` is, if there is one.
    proc_slot: u32,
    /// Where the state of `goroutine` was when it was bound; good while that slot still has this id.
    go_slot: u32,
    /// Whether an event of the thread was looked at, or a status named it. A thread that merely has a batch does not count.
    known: bool,
}

/// A processor.
struct ProcSlot {
    /// The generation and number of the last event in the processor's sequence.
    generation: u64,
    seq: u64,
    status: u8,
    sweeping: bool,
}

/// A goroutine.
struct GoSlot {
    id: u64,
    /// The generation and number of the last event in the goroutine's sequence.
    generation: u64,
    seq: u64,
    status: u8,
    /// Its open regions and ranges, as an index into [`Ordering::open`], or [`NO_SLOT`]: most goroutines have none.
    open: u32,
}

/// What is open on a goroutine.
#[derive(Default)]
struct Open {
    /// Regions, the innermost last: task and name.
    regions: Vec<(u64, u32)>,
    /// Ranges: the kind of the event that begins it, and its string.
    ranges: Vec<(Kind, u64)>,
}

/// The collector.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GcState {
    Undetermined,
    NotRunning,
    Running,
}

/// The state of everything.
pub(super) struct Ordering {
    /// The number of the generation in which things may appear without a beginning.
    initial: Option<u64>,
    /// The number of the generation at hand.
    generation: u64,
    threads: Vec<ThreadState>,
    thread_ids: IdMap,
    procs: Vec<ProcSlot>,
    proc_ids: IdMap,
    gos: Vec<GoSlot>,
    go_ids: IdMap,
    free_gos: Vec<u32>,
    open: Vec<Open>,
    free_open: Vec<u32>,
    /// By id, so that what is made of all of them does not depend on chance.
    tasks: BTreeMap<u64, Task>,
    names: Names,
    gc_seq: u64,
    gc: GcState,
    /// Why the last event was impossible.
    fault: Option<Box<Fault>>,
    /// Leave the short way out, to compare.
    #[cfg(test)]
    pub(super) rules_only: bool,
}

/// What came of an event. Faults are rare and lie elsewhere, so that this fits a register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It happened, and one event or more went out.
    Happened,
    /// It cannot happen yet.
    Waits,
    /// It can never happen: see [`Ordering::take_fault`].
    Impossible,
}

/// Where the ordered events go.
pub(super) struct Out<'a> {
    pub(super) events: &'a mut EventBuffer,
    /// The time of the last event of the trace.
    pub(super) last: &'a mut i64,
}

impl Out<'_> {
    /// Appends an event; times rise strictly, so one that does not is set one nanosecond behind the last.
    #[inline(always)]
    pub(super) fn push(&mut self, time: i64, ctx: Context, wire: Kind, args: [u64; 4]) {
        let time = if time <= *self.last { self.last.wrapping_add(1) } else { time };
        *self.last = time;
        let Context { thread, proc, goroutine } = ctx;
        self.events.push(Event { time: Time(time), thread, proc, goroutine, args, wire });
    }
}

/// The context that an event shows.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) thread: ThreadId,
    pub(super) proc: ProcId,
    pub(super) goroutine: GoId,
}

/// One event on its way through the rules.
struct Step<'a, 'o> {
    time: i64,
    kind: Kind,
    args: [u64; 4],
    /// The slot of its thread.
    thread: u32,
    ctx: Context,
    tables: &'a Generation,
    out: &'a mut Out<'o>,
}

impl Step<'_, '_> {
    fn emit(&mut self) {
        self.out.push(self.time, self.ctx, self.kind, self.args);
    }

    /// Emits the event after a look whether its stack exists.
    fn emit_with_stack(&mut self, arg: usize) -> Faulty<bool> {
        let id = self.args[arg];
        if id != 0 && self.tables.stacks.index(StackId(id)).is_none() {
            return Err(self.no_such("stack", id));
        }
        self.emit();
        Ok(true)
    }

    /// A look whether a string exists.
    fn check_string(&self, arg: usize) -> Faulty<()> {
        let id = self.args[arg];
        if id != 0 && self.tables.strings.index(StringId(id)).is_none() {
            return Err(self.no_such("string", id));
        }
        Ok(())
    }

    #[cold]
    fn no_such(&self, what: &str, id: u64) -> Box<Fault> {
        fault!(UnknownId, "{}: {what} {id} does not exist in this generation", self.name())
    }

    fn name(&self) -> &'static str {
        self.kind.spec().name
    }

    fn need_thread(&self) -> Faulty<()> {
        if self.ctx.thread.is_none() { Err(self.lacks("a thread")) } else { Ok(()) }
    }

    fn need_proc(&self) -> Faulty<()> {
        self.need_thread()?;
        if self.ctx.proc.is_none() { Err(self.lacks("a processor")) } else { Ok(()) }
    }

    /// The context of a goroutine that runs: most events need it.
    fn need_goroutine(&self) -> Faulty<()> {
        self.need_proc()?;
        if self.ctx.goroutine.is_none() { Err(self.lacks("a goroutine")) } else { Ok(()) }
    }

    #[cold]
    fn lacks(&self, what: &str) -> Box<Fault> {
        fault!(Context, "{}: expected {what}, but the thread has none", self.name())
    }
}

impl Ordering {
    pub(super) fn new() -> Ordering {
        let nobody = ThreadState {
            id: ThreadId::NONE,
            proc: ProcId::NONE,
            goroutine: GoId::NONE,
            proc_slot: NO_SLOT,
            go_slot: NO_SLOT,
            known: false,
        };
        Ordering {
            initial: None,
            generation: 0,
            threads: vec![nobody],
            thread_ids: IdMap::with_cap(DENSE_IDS),
            procs: Vec::new(),
            proc_ids: IdMap::with_cap(DENSE_IDS),
            gos: Vec::new(),
            go_ids: IdMap::with_cap(DENSE_IDS),
            free_gos: Vec::new(),
            open: Vec::new(),
            free_open: Vec::new(),
            tasks: BTreeMap::new(),
            names: Names::default(),
            gc_seq: 0,
            gc: GcState::Undetermined,
            fault: None,
            #[cfg(test)]
            rules_only: false,
        }
    }

    /// The slot of a thread, made if it is new. Threads are few and their ids come back, so slots are never given up.
    pub(super) fn thread_slot(&mut self, id: ThreadId) -> u32 {
        if id.is_none() {
            return NO_THREAD_SLOT;
        }
        if let Some(slot) = self.thread_ids.get(id.0) {
            return slot;
        }
        let slot = self.threads.len() as u32;
        let (proc, goroutine) = (ProcId::NONE, GoId::NONE);
        self.threads.push(ThreadState { id, proc, goroutine, proc_slot: NO_SLOT, go_slot: NO_SLOT, known: false });
        self.thread_ids.insert(id.0, slot);
        slot
    }

    /// The thread was looked at: from now on it counts as known.
    #[inline]
    pub(super) fn meet(&mut self, slot: u32) {
        if let Some(t) = self.threads.get_mut(slot as usize) {
            t.known = true;
        }
    }

    /// Plays the next event of a thread that was [met](Self::meet).
    #[inline(always)]
    pub(super) fn advance(&mut self, cursor: &Cursor, tables: &Generation, out: &mut Out<'_>) -> Verdict {
        #[cfg(test)]
        if self.rules_only {
            return self.by_the_rules(cursor, tables, out);
        }
        if self.fast(cursor, tables, out) { Verdict::Happened } else { self.by_the_rules(cursor, tables, out) }
    }

    /// Takes the fault that [`advance`](Self::advance) found.
    pub(super) fn take_fault(&mut self) -> Box<Fault> {
        self.fault.take().unwrap_or_else(|| fault!(Event, "an event cannot be placed"))
    }

    /// Plays an event by the full rules.
    #[inline(never)]
    pub(super) fn by_the_rules(&mut self, cursor: &Cursor, tables: &Generation, out: &mut Out<'_>) -> Verdict {
        let t = &self.threads[cursor.slot as usize];
        let ctx = Context { thread: t.id, proc: t.proc, goroutine: t.goroutine };
        let Cursor { time, kind, args, slot: thread, .. } = *cursor;
        match self.rule(Step { time, kind, args, thread, ctx, tables, out }) {
            Ok(true) => Verdict::Happened,
            Ok(false) => Verdict::Waits,
            Err(f) => {
                self.fault = Some(f);
                Verdict::Impossible
            }
        }
    }

    /// Chooses the rule. True: the event happened, and one event or more went to `out`. False: it cannot happen yet.
    fn rule(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        match s.kind {
            Kind::GoStart => self.go_start(s),
            Kind::GoUnblock => self.go_unblock(s),
            Kind::GoBlock | Kind::GoStop | Kind::GoDestroy => self.go_stop(s),
            Kind::ProcStart => self.proc_start(s),
            Kind::ProcStop => self.proc_stop(s),
            Kind::GoSyscallBegin => self.syscall_begin(s),
            Kind::GoSyscallEnd => self.syscall_end(s),
            Kind::GoSyscallEndBlocked => self.syscall_end_blocked(s),
            Kind::GCSweepBegin => self.sweep_begin(s),
            Kind::GCSweepEnd => self.sweep_end(s),
            Kind::HeapAlloc | Kind::HeapGoal => {
                s.need_proc()?;
                s.emit();
                Ok(true)
            }
            Kind::ProcsChange => {
                s.need_goroutine()?;
                s.emit_with_stack(1)
            }
            Kind::GoLabel => {
                s.need_goroutine()?;
                s.check_string(0)?;
                s.emit();
                Ok(true)
            }
            Kind::UserLog => {
                s.need_goroutine()?;
                s.check_string(1)?;
                s.check_string(2)?;
                s.emit_with_stack(3)
            }
            Kind::ProcStatus => self.proc_status(s),
            Kind::ProcSteal => self.proc_steal(s),
            Kind::GoCreate | Kind::GoCreateBlocked => self.go_create(s),
            Kind::GoCreateSyscall => self.go_create_syscall(s),
            Kind::GoDestroySyscall => self.go_destroy_syscall(s),
            Kind::GoStatus | Kind::GoStatusStack => self.go_status(s),
            Kind::GoSwitch | Kind::GoSwitchDestroy => self.go_switch(s),
            Kind::STWBegin | Kind::GCMarkAssistBegin => self.go_range_begin(s),
            Kind::STWEnd | Kind::GCMarkAssistEnd => self.go_range_end(s),
            Kind::GCMarkAssistActive => self.go_range_active(s),
            Kind::GCActive => self.gc_active(s),
            Kind::GCBegin => self.gc_begin(s),
            Kind::GCEnd => self.gc_end(s),
            Kind::GCSweepActive => self.sweep_active(s),
            Kind::UserTaskBegin => self.task_begin(s),
            Kind::UserTaskEnd => self.task_end(s),
            Kind::UserRegionBegin => self.region_begin(s),
            Kind::UserRegionEnd => self.region_end(s),
            Kind::Span
            | Kind::SpanAlloc
            | Kind::SpanFree
            | Kind::HeapObject
            | Kind::HeapObjectAlloc
            | Kind::HeapObjectFree
            | Kind::GoroutineStack
            | Kind::GoroutineStackAlloc
            | Kind::GoroutineStackFree => {
                s.need_thread()?;
                s.emit();
                Ok(true)
            }
            _ => Err(fault!(Event, "{} among timed events: expected an event of the program", s.name())),
        }
    }

    /// The generation at hand has events: it is the initial one if none before it had.
    pub(super) fn begin_events(&mut self) {
        self.initial.get_or_insert(self.generation);
    }

    /// Whether the generation at hand is the first, in which things may appear without a beginning.
    fn in_initial(&self) -> bool {
        self.initial == Some(self.generation)
    }

    /// Why a thread's next event cannot happen yet, for the report of a trace in which nothing can.
    pub(super) fn waits_for(&self, cursor: &Cursor) -> String {
        let a = &cursor.args;
        match cursor.kind {
            Kind::GoStart | Kind::GoUnblock | Kind::GoSwitch | Kind::GoSwitchDestroy => self.go_waits_for(a[0], a[1]),
            Kind::ProcStart | Kind::ProcSteal => self.proc_waits_for(a[0], a[1], cursor.slot),
            Kind::GoSyscallEndBlocked => String::from("its processor is still in the system call"),
            Kind::GCActive | Kind::GCBegin | Kind::GCEnd => {
                format!("gc_seq {}: the last was {}", a[0], self.gc_seq)
            }
            // Not reached: all other events are decided at once.
            _ => String::from("it was not tried"),
        }
    }
}
