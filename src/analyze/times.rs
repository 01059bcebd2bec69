//! How each goroutine's time is spent, by state; for sums by group and for parts of a goroutine's life.

use super::states::{Change, Slot, Span, States};
use crate::read::{GoState, StringKey};

/// Time of a goroutine by state, in nanoseconds. The parts do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// It ran.
    pub running_ns: u64,
    /// It waited for something.
    pub waiting_ns: u64,
    /// It could run and had no processor.
    pub runnable_ns: u64,
    /// It was in a system call and kept its processor.
    pub syscall_ns: u64,
    /// It was in a system call and had lost its processor: a long call.
    pub syscall_blocked_ns: u64,
}

impl Times {
    /// Adds a span, with the time before it that it stands for. Waiting for ever is no time: it ends a goroutine's life.
    #[inline]
    pub fn add(&mut self, span: &Span, forever: StringKey) {
        let ns = span.ns_with_lead();
        match span.state {
            GoState::Running => self.running_ns += ns,
            GoState::Waiting if span.reason != forever => self.waiting_ns += ns,
            GoState::Runnable => self.runnable_ns += ns,
            GoState::Syscall => {
                let blocked = span.without_proc_ns.min(ns);
                self.syscall_blocked_ns += blocked;
                self.syscall_ns += ns - blocked;
            }
            _ => {}
        }
    }

    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &Times) -> Times {
        Times {
            running_ns: self.running_ns.saturating_sub(before.running_ns),
            waiting_ns: self.waiting_ns.saturating_sub(before.waiting_ns),
            runnable_ns: self.runnable_ns.saturating_sub(before.runnable_ns),
            syscall_ns: self.syscall_ns.saturating_sub(before.syscall_ns),
            syscall_blocked_ns: self.syscall_blocked_ns.saturating_sub(before.syscall_blocked_ns),
        }
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Times) {
        self.running_ns += other.running_ns;
        self.waiting_ns += other.waiting_ns;
        self.runnable_ns += other.runnable_ns;
        self.syscall_ns += other.syscall_ns;
        self.syscall_blocked_ns += other.syscall_blocked_ns;
    }
}

/// The times of all goroutines that exist, by slot.
#[derive(Default)]
pub struct TimesBySlot {
    list: Vec<Times>,
}

impl TimesBySlot {
    /// Takes in a change.
    #[inline]
    pub fn update(&mut self, c: &Change, forever: StringKey) {
        let i = c.slot.0 as usize;
        match &c.span {
            Some(span) => self.list[i].add(span, forever),
            None => {
                if i >= self.list.len() {
                    self.list.resize(i + 1, Times::default());
                }
                self.list[i] = Times::default();
            }
        }
    }

    /// The times of a goroutine up to the last change of its state.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Times {
        self.list.get(slot.0 as usize).copied().unwrap_or_default()
    }

    /// Its times up to now.
    #[must_use]
    pub fn now(&self, slot: Slot, states: &States, forever: StringKey) -> Times {
        let mut t = self.get(slot);
        t.add(&states.current(slot), forever);
        t
    }
}
