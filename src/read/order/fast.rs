//! The short way for the most common events.
//!
//! It plays an event if everything about it is as it should be, and otherwise leaves the state as it is and says no; then
//! the [rules](super::Ordering::by_the_rules) decide whether the event waits or is wrong, and why. What it does where it
//! says yes must be what the rules do.

use super::{Context, Ordering, Out};
use crate::format::{GoStatus, Kind, ProcStatus};
use crate::read::cursor::Cursor;
use crate::read::{Generation, GoId, ProcId};

const RUNNABLE: u8 = GoStatus::Runnable as u8;
const RUNNING: u8 = GoStatus::Running as u8;
const SYSCALL: u8 = GoStatus::Syscall as u8;
const WAITING: u8 = GoStatus::Waiting as u8;
const PROC_RUNNING: u8 = ProcStatus::Running as u8;
const PROC_IDLE: u8 = ProcStatus::Idle as u8;
const PROC_SYSCALL: u8 = ProcStatus::Syscall as u8;

impl Ordering {
    /// Plays an event if it is one of the common ones and nothing stands against it.
    #[inline(always)]
    pub(super) fn fast(&mut self, c: &Cursor, tables: &Generation, out: &mut Out<'_>) -> bool {
        let [a0, a1, a2, _] = c.args;
        let Some(t) = self.threads.get_mut(c.slot as usize) else { return false };
        let ctx = Context { thread: t.id, proc: t.proc, goroutine: t.goroutine };
        let has_stack = |id: u64| tables.stacks.has(id);
        let has_string = |id: u64| tables.strings.has(id);
        match c.kind {
            Kind::GoStart => {
                let Some(slot) = self.go_ids.get(a0) else { return false };
                let Some(g) = self.gos.get_mut(slot as usize) else { return false };
                let next = g.generation == self.generation && a1 == g.seq.wrapping_add(1);
                if g.status != RUNNABLE || !next || ctx.proc.is_none() || !ctx.goroutine.is_none() {
                    return false;
                }
                g.status = RUNNING;
                g.seq = a1;
                t.goroutine = GoId(a0);
                t.go_slot = slot;
            }
            Kind::GoUnblock => {
                let Some(slot) = self.go_ids.get(a0) else { return false };
                let Some(g) = self.gos.get_mut(slot as usize) else { return false };
                let next = g.generation == self.generation && a1 == g.seq.wrapping_add(1);
                if g.status != WAITING || !next || !has_stack(a2) {
                    return false;
                }
                g.status = RUNNABLE;
                g.seq = a1;
            }
            Kind::GoBlock | Kind::GoStop => {
                let Some(g) = self.gos.get_mut(t.go_slot as usize) else { return false };
                if g.id != ctx.goroutine.0 || g.status != RUNNING || ctx.goroutine.is_none() || ctx.proc.is_none() {
                    return false;
                }
                if !has_string(a0) || !has_stack(a1) {
                    return false;
                }
                g.status = if c.kind == Kind::GoBlock { WAITING } else { RUNNABLE };
                t.goroutine = GoId::NONE;
            }
            Kind::GoSyscallBegin => {
                let Some(g) = self.gos.get_mut(t.go_slot as usize) else { return false };
                let Some(p) = self.procs.get_mut(t.proc_slot as usize) else { return false };
                if g.id != ctx.goroutine.0 || g.status != RUNNING || ctx.goroutine.is_none() || ctx.proc.is_none() {
                    return false;
                }
                if p.generation != self.generation || a0 != p.seq.wrapping_add(1) || !has_stack(a1) {
                    return false;
                }
                g.status = SYSCALL;
                p.status = PROC_SYSCALL;
                p.seq = a0;
            }
            Kind::GoSyscallEnd => {
                let Some(g) = self.gos.get_mut(t.go_slot as usize) else { return false };
                let Some(p) = self.procs.get_mut(t.proc_slot as usize) else { return false };
                if g.id != ctx.goroutine.0 || g.status != SYSCALL || ctx.goroutine.is_none() || ctx.proc.is_none() {
                    return false;
                }
                if p.status != PROC_SYSCALL {
                    return false;
                }
                g.status = RUNNING;
                p.status = PROC_RUNNING;
            }
            Kind::ProcStart => {
                let Some(slot) = self.proc_ids.get(a0) else { return false };
                let Some(p) = self.procs.get_mut(slot as usize) else { return false };
                let next = p.generation == self.generation && a1 == p.seq.wrapping_add(1);
                if p.status != PROC_IDLE || !next || !ctx.proc.is_none() || ctx.thread.is_none() {
                    return false;
                }
                p.status = PROC_RUNNING;
                p.seq = a1;
                t.proc = ProcId(a0);
                t.proc_slot = slot;
            }
            Kind::ProcStop => {
                let Some(p) = self.procs.get_mut(t.proc_slot as usize) else { return false };
                if ctx.proc.is_none() || (p.status != PROC_RUNNING && p.status != PROC_SYSCALL) {
                    return false;
                }
                p.status = PROC_IDLE;
                t.proc = ProcId::NONE;
            }
            Kind::HeapAlloc => {
                if ctx.proc.is_none() {
                    return false;
                }
            }
            Kind::GCSweepBegin => {
                let Some(p) = self.procs.get_mut(t.proc_slot as usize) else { return false };
                if ctx.proc.is_none() || p.sweeping || !has_stack(a0) {
                    return false;
                }
                p.sweeping = true;
            }
            Kind::GCSweepEnd => {
                let Some(p) = self.procs.get_mut(t.proc_slot as usize) else { return false };
                if ctx.proc.is_none() || !p.sweeping {
                    return false;
                }
                p.sweeping = false;
            }
            _ => return false,
        }
        out.push(c.time, ctx, c.kind, c.args);
        true
    }
}
