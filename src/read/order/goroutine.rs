//! The rules of goroutines: who may be created, start, block, wake, switch, enter and leave system calls.

use super::{Context, DEAD, Faulty, GoId, GoSlot, NO_SLOT, Ordering, Step, ThreadId, fault};
use crate::format::{GoStatus, Kind, ProcStatus};
use crate::read::error::Fault;
use crate::read::{GoState, ProcId};

const RUNNABLE: u8 = GoStatus::Runnable as u8;
const RUNNING: u8 = GoStatus::Running as u8;
const SYSCALL: u8 = GoStatus::Syscall as u8;
const WAITING: u8 = GoStatus::Waiting as u8;

/// A status in words.
pub(super) fn status_name(status: u8) -> &'static str {
    match GoStatus::from_wire(u64::from(status)) {
        Some(GoStatus::Runnable) => "runnable",
        Some(GoStatus::Running) => "running",
        Some(GoStatus::Syscall) => "in a system call",
        Some(GoStatus::Waiting) => "waiting",
        None => "undetermined",
    }
}

impl Ordering {
    /// The slot of the goroutine that is bound to a thread, if its state exists.
    fn bound_go(&self, thread: u32) -> Option<u32> {
        let t = &self.threads[thread as usize];
        match self.gos.get(t.go_slot as usize) {
            Some(g) if g.id == t.goroutine.0 && g.status != DEAD => Some(t.go_slot),
            // The goroutine was destroyed from another thread, perhaps made anew.
            _ => self.go_ids.get(t.goroutine.0),
        }
    }

    /// The slot of the goroutine that the event's thread runs.
    pub(super) fn current_go(&self, s: &Step<'_, '_>) -> Faulty<u32> {
        self.bound_go(s.thread).ok_or_else(|| unknown(s))
    }

    fn new_go(&mut self, id: u64, status: u8) -> u32 {
        let state = GoSlot { id, generation: self.generation, seq: 0, status, open: NO_SLOT };
        let slot = match self.free_gos.pop() {
            Some(slot) => {
                self.gos[slot as usize] = state;
                slot
            }
            None => {
                self.gos.push(state);
                self.gos.len() as u32 - 1
            }
        };
        self.go_ids.insert(id, slot);
        slot
    }

    fn drop_go(&mut self, slot: u32) {
        let g = &mut self.gos[slot as usize];
        g.status = DEAD;
        let (id, open) = (g.id, std::mem::replace(&mut g.open, NO_SLOT));
        self.go_ids.remove(id);
        self.free_gos.push(slot);
        if let Some(o) = self.open.get_mut(open as usize) {
            o.regions.clear();
            o.ranges.clear();
            self.free_open.push(open);
        }
    }

    /// Binds a goroutine to the thread of the event.
    fn bind_go(&mut self, thread: u32, id: u64, slot: u32) {
        if thread != super::NO_THREAD_SLOT {
            let t = &mut self.threads[thread as usize];
            t.goroutine = GoId(id);
            t.go_slot = slot;
        }
    }

    fn unbind_go(&mut self, thread: u32) {
        self.threads[thread as usize].goroutine = GoId::NONE;
    }

    /// The slot of a goroutine that is in this state and whose sequence number comes next; else the event waits.
    fn next_in_sequence(&self, id: u64, seq: u64, status: u8) -> Option<u32> {
        let slot = self.go_ids.get(id)?;
        let g = &self.gos[slot as usize];
        (g.status == status && g.generation == self.generation && seq == g.seq.wrapping_add(1)).then_some(slot)
    }

    pub(super) fn go_start(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let [id, seq, ..] = s.args;
        let Some(slot) = self.next_in_sequence(id, seq, RUNNABLE) else { return Ok(false) };
        s.need_proc()?;
        if !s.ctx.goroutine.is_none() {
            let g = s.ctx.goroutine;
            return Err(fault!(Context, "GoStart of goroutine {}: the thread still runs goroutine {g}", id as i64));
        }
        let g = &mut self.gos[slot as usize];
        g.status = RUNNING;
        g.seq = seq;
        self.bind_go(s.thread, id, slot);
        s.emit();
        Ok(true)
    }

    pub(super) fn go_unblock(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let [id, seq, ..] = s.args;
        let Some(slot) = self.next_in_sequence(id, seq, WAITING) else { return Ok(false) };
        // Anything may wake a goroutine, so nothing is asked of the context.
        let g = &mut self.gos[slot as usize];
        g.status = RUNNABLE;
        g.seq = seq;
        s.emit_with_stack(2)
    }

    /// `GoBlock`, `GoStop` and `GoDestroy`: the goroutine that runs leaves its thread.
    pub(super) fn go_stop(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_goroutine()?;
        let slot = self.current_go(&s)?;
        let g = &mut self.gos[slot as usize];
        if g.status != RUNNING {
            return Err(not(&s, g, RUNNING));
        }
        match s.kind {
            Kind::GoDestroy => {
                self.drop_go(slot);
                self.unbind_go(s.thread);
                s.emit();
                return Ok(true);
            }
            Kind::GoStop => g.status = RUNNABLE,
            _ => g.status = WAITING,
        }
        self.unbind_go(s.thread);
        s.check_string(0)?;
        s.emit_with_stack(1)
    }

    pub(super) fn go_create(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_proc()?;
        // The creator need not be a goroutine, but if it is, it must run.
        if let Some(slot) = self.bound_go(s.thread) {
            let g = &self.gos[slot as usize];
            if g.status != RUNNING {
                return Err(not(&s, g, RUNNING));
            }
        }
        let id = s.args[0];
        if self.go_ids.get(id).is_some() {
            return Err(exists(&s));
        }
        self.new_go(id, if s.kind == Kind::GoCreateBlocked { WAITING } else { RUNNABLE });
        if s.args[1] != 0 && s.tables.stacks.index(crate::read::StackId(s.args[1])).is_none() {
            return Err(s.no_such("stack", s.args[1]));
        }
        s.emit_with_stack(2)
    }

    pub(super) fn go_create_syscall(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_thread()?;
        if !s.ctx.goroutine.is_none() {
            let g = s.ctx.goroutine;
            return Err(fault!(Context, "GoCreateSyscall: expected no goroutine, but the thread runs goroutine {g}"));
        }
        let id = s.args[0];
        if self.go_ids.get(id).is_some() {
            return Err(exists(&s));
        }
        let slot = self.new_go(id, SYSCALL);
        self.bind_go(s.thread, id, slot);
        s.emit();
        Ok(true)
    }

    pub(super) fn go_destroy_syscall(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_thread()?;
        if s.ctx.goroutine.is_none() {
            return Err(s.lacks("a goroutine"));
        }
        let slot = self.current_go(&s)?;
        let g = &self.gos[slot as usize];
        if g.status != SYSCALL {
            return Err(not(&s, g, SYSCALL));
        }
        self.drop_go(slot);
        self.unbind_go(s.thread);
        // The thread's id may come back with another thread behind it, so it gives up its processor here, as if it were
        // stolen; the real theft may come later or never.
        if let Some(proc) = s.ctx.proc.some() {
            let p = self.bound_proc(s.thread).ok_or_else(|| self.no_proc(&s))?;
            let p = &mut self.procs[p as usize];
            if p.status != ProcStatus::Syscall as u8 {
                let status = super::proc::status_name(p.status);
                return Err(fault!(State, "GoDestroySyscall: processor {proc} is {status}: expected in a system call"));
            }
            p.status = ProcStatus::SyscallAbandoned as u8;
            self.threads[s.thread as usize].proc = ProcId::NONE;
            s.out.push(s.time, s.ctx, Kind::ProcSteal, [proc.0, 0, 0, ProcStatus::Syscall as u64]);
        }
        s.emit();
        Ok(true)
    }

    pub(super) fn syscall_begin(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_goroutine()?;
        let slot = self.current_go(&s)?;
        let g = &mut self.gos[slot as usize];
        if g.status != RUNNING {
            return Err(not(&s, g, RUNNING));
        }
        g.status = SYSCALL;
        let p = self.bound_proc(s.thread).ok_or_else(|| self.no_proc(&s))?;
        let p = &mut self.procs[p as usize];
        p.status = ProcStatus::Syscall as u8;
        // The number tells a theft from which system call it steals, even if times lie. This processor runs here, so the
        // number must be the next one at once.
        let seq = s.args[0];
        if p.generation != self.generation || seq != p.seq.wrapping_add(1) {
            let (proc, last, generation) = (s.ctx.proc, p.seq, p.generation);
            return Err(fault!(
                State,
                "GoSyscallBegin: processor {proc} has sequence number {seq}: expected the one after {last} of generation {generation}"
            ));
        }
        p.seq = seq;
        s.emit_with_stack(1)
    }

    pub(super) fn syscall_end(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_goroutine()?;
        let slot = self.current_go(&s)?;
        let g = &mut self.gos[slot as usize];
        if g.status != SYSCALL {
            return Err(not(&s, g, SYSCALL));
        }
        g.status = RUNNING;
        let p = self.bound_proc(s.thread).ok_or_else(|| self.no_proc(&s))?;
        let p = &mut self.procs[p as usize];
        if p.status != ProcStatus::Syscall as u8 {
            let (proc, status) = (s.ctx.proc, super::proc::status_name(p.status));
            return Err(fault!(State, "GoSyscallEnd: processor {proc} is {status}: expected in a system call"));
        }
        p.status = ProcStatus::Running as u8;
        s.emit();
        Ok(true)
    }

    pub(super) fn syscall_end_blocked(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        // While the thread's processor is in the call the event waits: that it comes at all says that the processor will
        // be lost first. A processor taken anew meanwhile is not in a call.
        if !s.ctx.proc.is_none() {
            let p = self.bound_proc(s.thread).ok_or_else(|| self.no_proc(&s))?;
            if self.procs[p as usize].status == ProcStatus::Syscall as u8 {
                return Ok(false);
            }
        }
        s.need_thread()?;
        if s.ctx.goroutine.is_none() {
            return Err(s.lacks("a goroutine"));
        }
        let slot = self.current_go(&s)?;
        let g = &mut self.gos[slot as usize];
        if g.status != SYSCALL {
            return Err(not(&s, g, SYSCALL));
        }
        g.status = RUNNABLE;
        self.unbind_go(s.thread);
        s.emit();
        Ok(true)
    }

    /// One goroutine wakes another, blocks or ends, and hands over: three events in one.
    pub(super) fn go_switch(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_goroutine()?;
        let slot = self.current_go(&s)?;
        let g = &self.gos[slot as usize];
        if g.status != RUNNING {
            return Err(not(&s, g, RUNNING));
        }
        let [id, seq, ..] = s.args;
        let Some(next) = self.next_in_sequence(id, seq, WAITING) else { return Ok(false) };
        s.emit();
        if s.kind == Kind::GoSwitch {
            self.gos[slot as usize].status = WAITING;
            s.out.push(s.time, s.ctx, Kind::GoBlock, [0; 4]);
        } else {
            self.drop_go(slot);
            s.out.push(s.time, s.ctx, Kind::GoDestroy, [0; 4]);
        }
        let g = &mut self.gos[next as usize];
        g.status = RUNNING;
        g.seq = seq;
        self.bind_go(s.thread, id, next);
        s.out.push(s.time, Context { goroutine: GoId::NONE, ..s.ctx }, Kind::GoStart, [id, seq, 0, 0]);
        Ok(true)
    }

    pub(super) fn go_status(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let id = s.args[0];
        let thread = ThreadId(s.args[1]);
        // Go keeps the low byte alone.
        let status = s.args[2] as u8;
        if status > WAITING {
            return Err(fault!(State, "{}: goroutine {} has status {status}: not known", s.name(), id as i64));
        }
        let mut from = GoState::of_status(status);
        let slot = match self.go_ids.get(id) {
            Some(slot) => {
                let g = &mut self.gos[slot as usize];
                if g.status != status {
                    return Err(fault!(
                        State,
                        "{}: goroutine {} is {}: expected {}, as it was before",
                        s.name(),
                        id as i64,
                        status_name(status),
                        status_name(g.status)
                    ));
                }
                (g.generation, g.seq) = (self.generation, 0);
                slot
            }
            None if self.in_initial() => {
                from = GoState::Undetermined;
                self.new_go(id, status)
            }
            None => {
                return Err(fault!(
                    State,
                    "{}: goroutine {} was not there before: expected it in the first generation, or its creation",
                    s.name(),
                    id as i64
                ));
            }
        };
        s.args[2] = (from as u64) << 32 | u64::from(status);
        match status {
            RUNNING => self.bind_go(s.thread, id, slot),
            SYSCALL => self.status_in_syscall(&mut s, thread, slot)?,
            _ => {}
        }
        if s.kind == Kind::GoStatusStack {
            return s.emit_with_stack(3);
        }
        s.emit();
        Ok(true)
    }

    /// A goroutine that sits in a system call is bound to the thread that the status names, not to the one that tells it.
    fn status_in_syscall(&mut self, s: &mut Step<'_, '_>, thread: ThreadId, slot: u32) -> Faulty<()> {
        let id = GoId(s.args[0]);
        let wrong = |found: GoId| {
            fault!(
                State,
                "{}: goroutine {id} is in a system call on thread {thread}, which has goroutine {found}",
                s.name()
            )
        };
        if thread.is_none() {
            return Err(fault!(State, "{}: goroutine {id} is in a system call: expected its thread", s.name()));
        }
        if thread == s.ctx.thread {
            // In a later generation the thread must have been seen with the goroutine.
            if !self.in_initial() && s.ctx.goroutine != id {
                return Err(wrong(s.ctx.goroutine));
            }
            self.bind_go(s.thread, id.0, slot);
            return Ok(());
        }
        let other = self.thread_slot(thread);
        let t = &mut self.threads[other as usize];
        if t.known {
            if t.goroutine != id {
                return Err(wrong(t.goroutine));
            }
            s.ctx.goroutine = id;
        } else {
            // It has been in the call since before the trace. The event itself makes the binding, so it shows none.
            t.known = true;
            t.goroutine = id;
            t.go_slot = slot;
        }
        s.ctx.thread = thread;
        Ok(())
    }

    pub(super) fn go_waits_for(&self, id: u64, seq: u64) -> String {
        let g = id as i64;
        match self.go_ids.get(id).map(|slot| &self.gos[slot as usize]) {
            None => format!("goroutine {g} is not known yet"),
            Some(s) if s.generation != self.generation => {
                format!("goroutine {g} has no status in this generation yet")
            }
            Some(s) => format!(
                "goroutine {g} with sequence number {seq}: it is {}, the last was {}",
                status_name(s.status),
                s.seq
            ),
        }
    }
}

#[cold]
fn unknown(s: &Step<'_, '_>) -> Box<Fault> {
    fault!(State, "{}: goroutine {} of the thread does not exist", s.name(), s.ctx.goroutine)
}

#[cold]
fn exists(s: &Step<'_, '_>) -> Box<Fault> {
    fault!(State, "{}: goroutine {} exists already", s.name(), s.args[0] as i64)
}

#[cold]
fn not(s: &Step<'_, '_>, g: &GoSlot, expected: u8) -> Box<Fault> {
    let (found, expected) = (status_name(g.status), status_name(expected));
    fault!(State, "{}: goroutine {} is {found}: expected {expected}", s.name(), g.id as i64)
}
