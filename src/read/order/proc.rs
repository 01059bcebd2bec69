//! The rules of processors: who holds one, gives it up, or has it stolen.

use super::{Faulty, NO_THREAD_SLOT, Ordering, ProcId, ProcSlot, Step, ThreadId, fault};
use crate::format::ProcStatus;
use crate::read::ProcState;
use crate::read::error::Fault;

const RUNNING: u8 = ProcStatus::Running as u8;
const IDLE: u8 = ProcStatus::Idle as u8;
const SYSCALL: u8 = ProcStatus::Syscall as u8;
const ABANDONED: u8 = ProcStatus::SyscallAbandoned as u8;

/// A status in words.
pub(super) fn status_name(status: u8) -> &'static str {
    match ProcStatus::from_wire(u64::from(status)) {
        Some(ProcStatus::Running) => "running",
        Some(ProcStatus::Idle) => "idle",
        Some(ProcStatus::Syscall) => "in a system call",
        Some(ProcStatus::SyscallAbandoned) => "in an abandoned system call",
        None => "undetermined",
    }
}

impl Ordering {
    /// The slot of the processor that a thread holds. Processors are never dropped, so the slot stays good.
    pub(super) fn bound_proc(&self, thread: u32) -> Option<u32> {
        let t = &self.threads[thread as usize];
        (!t.proc.is_none()).then_some(t.proc_slot)
    }

    fn bind_proc(&mut self, thread: u32, id: u64, slot: u32) {
        if thread != NO_THREAD_SLOT {
            let t = &mut self.threads[thread as usize];
            t.proc = ProcId(id);
            t.proc_slot = slot;
        }
    }

    pub(super) fn proc_start(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let [id, seq, ..] = s.args;
        // A thread that has a processor waits too: it is in a system call and has not been seen to lose that one.
        let Some(slot) = self.proc_ids.get(id).filter(|_| s.ctx.proc.is_none()) else { return Ok(false) };
        let p = &mut self.procs[slot as usize];
        if p.status != IDLE || p.generation != self.generation || seq != p.seq.wrapping_add(1) {
            return Ok(false);
        }
        s.need_thread()?;
        p.status = RUNNING;
        p.seq = seq;
        self.bind_proc(s.thread, id, slot);
        s.emit();
        Ok(true)
    }

    pub(super) fn proc_stop(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_proc()?;
        let slot = self.bound_proc(s.thread).ok_or_else(|| self.no_proc(&s))?;
        let p = &mut self.procs[slot as usize];
        if p.status != RUNNING && p.status != SYSCALL {
            let status = status_name(p.status);
            return Err(fault!(State, "ProcStop: processor {} is {status}: expected running", s.ctx.proc));
        }
        p.status = IDLE;
        self.threads[s.thread as usize].proc = ProcId::NONE;
        s.emit();
        Ok(true)
    }

    pub(super) fn proc_steal(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let [id, seq, from, _] = s.args;
        let Some(slot) = self.proc_ids.get(id) else { return Ok(false) };
        let p = &mut self.procs[slot as usize];
        let status = p.status;
        if (status != SYSCALL && status != ABANDONED) || p.generation != self.generation || seq != p.seq.wrapping_add(1)
        {
            return Ok(false);
        }
        s.need_thread()?;
        s.args[3] = u64::from(status);
        p.status = IDLE;
        p.seq = seq;
        if status == SYSCALL {
            let thread = ThreadId(from);
            let victim = if thread == s.ctx.thread {
                s.thread
            } else {
                match self.thread_ids.get(from).filter(|&v| self.threads[v as usize].known) {
                    Some(v) => v,
                    None => {
                        return Err(fault!(
                            State,
                            "ProcSteal of processor {}: thread {thread} is not known",
                            id as i64
                        ));
                    }
                }
            };
            let t = &mut self.threads[victim as usize];
            if t.proc.0 != id {
                let found = t.proc;
                return Err(fault!(
                    State,
                    "ProcSteal of processor {} from thread {thread}: that thread has processor {found}",
                    id as i64
                ));
            }
            t.proc = ProcId::NONE;
        }
        // From an abandoned call nothing is known of the thread, which may have moved on.
        s.emit();
        Ok(true)
    }

    pub(super) fn proc_status(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let id = s.args[0];
        // Go keeps the low byte alone.
        let status = s.args[1] as u8;
        if status > ABANDONED {
            return Err(fault!(State, "ProcStatus: processor {} has status {status}: not known", id as i64));
        }
        let mut from = ProcState::of_status(status);
        let mut to = status;
        let slot = match self.proc_ids.get(id) {
            Some(slot) => {
                let p = &mut self.procs[slot as usize];
                match (status, p.status) {
                    // The call is told as abandoned, but its beginning was seen: nothing is lost.
                    (ABANDONED, SYSCALL) => (from, to) = (ProcState::Running, SYSCALL),
                    (ABANDONED, ABANDONED) => from = ProcState::Idle,
                    (new, old) if new != old => {
                        return Err(fault!(
                            State,
                            "ProcStatus: processor {} is {}: expected {}, as it was before",
                            id as i64,
                            status_name(new),
                            status_name(old)
                        ));
                    }
                    _ => {}
                }
                (p.generation, p.seq) = (self.generation, 0);
                slot
            }
            None => {
                from = if self.in_initial() { ProcState::Undetermined } else { ProcState::NotExist };
                self.procs.push(ProcSlot { generation: self.generation, seq: 0, status, sweeping: false });
                let slot = self.procs.len() as u32 - 1;
                self.proc_ids.insert(id, slot);
                slot
            }
        };
        s.args[1] = (from as u64) << 32 | u64::from(to);
        if status == RUNNING || status == SYSCALL {
            self.bind_proc(s.thread, id, slot);
        }
        if status == ABANDONED && from == ProcState::Running {
            // Likely told by the thief; it must show where the processor is bound.
            let Some(t) = self.threads.iter().find(|t| t.known && !t.id.is_none() && t.proc.0 == id) else {
                return Err(fault!(
                    State,
                    "ProcStatus: processor {} is about to be stolen, but no thread has it",
                    id as i64
                ));
            };
            s.ctx = super::Context { thread: t.id, proc: t.proc, goroutine: t.goroutine };
        }
        s.emit();
        Ok(true)
    }

    pub(super) fn proc_waits_for(&self, id: u64, seq: u64, thread: u32) -> String {
        let p = id as i64;
        let held = self.threads[thread as usize].proc;
        match self.proc_ids.get(id).map(|slot| &self.procs[slot as usize]) {
            None => format!("processor {p} is not known yet"),
            Some(s) if s.generation != self.generation => format!("processor {p} has no status in this generation yet"),
            Some(s) => {
                let status = status_name(s.status);
                let held = held.some().map(|h| format!(", and the thread holds processor {h}")).unwrap_or_default();
                format!("processor {p} with sequence number {seq}: it is {status}, the last was {}{held}", s.seq)
            }
        }
    }

    #[cold]
    pub(super) fn no_proc(&self, s: &Step<'_, '_>) -> Box<Fault> {
        fault!(State, "{}: processor {} of the thread does not exist", s.name(), s.ctx.proc)
    }

    /// The processor that the event's thread holds.
    pub(super) fn current_proc(&mut self, s: &Step<'_, '_>) -> Faulty<&mut ProcSlot> {
        match self.bound_proc(s.thread) {
            Some(slot) => Ok(&mut self.procs[slot as usize]),
            None => Err(self.no_proc(s)),
        }
    }

    /// A processor by id.
    pub(super) fn proc_mut(&mut self, id: u64) -> Option<&mut ProcSlot> {
        let slot = self.proc_ids.get(id)?;
        Some(&mut self.procs[slot as usize])
    }
}
