//! What the tests of the hooks share: tracing a closure, and what was seen of it.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use exectrace::__standin as tracer;

/// What the hooks told the tracer.
#[derive(Debug)]
pub struct Seen {
    pub syscalls: BTreeMap<&'static str, u64>,
    /// By reason: sync, network, sleep, join, condition variable.
    pub waits: BTreeMap<&'static str, u64>,
    /// Waits that ended by a thread that was seen waking the waiter, and those that ended otherwise.
    pub woken: u64,
    pub alone: u64,
    pub created: u64,
    pub born: u64,
    pub renamed: u64,
}

impl Seen {
    pub fn syscall(&self, name: &str) -> u64 {
        self.syscalls.get(name).copied().unwrap_or(0)
    }

    pub fn waited(&self, reason: &str) -> u64 {
        self.waits.get(reason).copied().unwrap_or(0)
    }

    pub fn nothing(&self) -> bool {
        self.syscalls.is_empty() && self.waits.is_empty() && self.created == 0
    }
}

/// Traces `f`.
pub fn record<R>(f: impl FnOnce() -> R) -> (R, Seen) {
    tracer::reset();
    tracer::set(true);
    let r = f();
    tracer::set(false);
    let waits = ["sync", "network", "sleep", "join", "cond", "select"];
    let waits = waits.into_iter().zip(&tracer::BLOCKS).map(|(name, n)| (name, n.load(Relaxed)));
    let seen = Seen {
        syscalls: tracer::syscalls().into_iter().collect(),
        waits: waits.filter(|w| w.1 > 0).collect(),
        woken: tracer::WOKEN.load(Relaxed),
        alone: tracer::ALONE.load(Relaxed),
        created: tracer::CREATED.load(Relaxed),
        born: tracer::BORN.load(Relaxed),
        renamed: tracer::RENAMED.load(Relaxed),
    };
    (r, seen)
}
