//! A counting stand-in for the tracer, until the tracer is there.
//!
//! It keeps a state word per thread just as the tracer does, so that double wakes, stale tokens and nested calls are
//! seen.
#![allow(missing_docs)]

use core::cell::Cell;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crate::record::syscall_name::SyscallName;

pub static ON: AtomicBool = AtomicBool::new(false);
pub static UNLOADED: AtomicU64 = AtomicU64::new(0);
pub static SYSCALLS: [AtomicU64; SyscallName::COUNT] = [const { AtomicU64::new(0) }; SyscallName::COUNT];
pub static ENDED: AtomicU64 = AtomicU64::new(0);
pub static BLOCKS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];
pub static WOKEN: AtomicU64 = AtomicU64::new(0);
pub static ALONE: AtomicU64 = AtomicU64::new(0);
pub static STALE: AtomicU64 = AtomicU64::new(0);
pub static OVERRUN: AtomicU64 = AtomicU64::new(0);
pub static CREATED: AtomicU64 = AtomicU64::new(0);
pub static FAILED: AtomicU64 = AtomicU64::new(0);
pub static BORN: AtomicU64 = AtomicU64::new(0);
pub static RENAMED: AtomicU64 = AtomicU64::new(0);

const THREADS: usize = 1 << 16;
/// State in the low two bits, the number of the wait above.
static STATE: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
static NEXT: AtomicU32 = AtomicU32::new(1);

pub const RUNNING: u64 = 0;
pub const WAITING: u64 = 1;
pub const WOKE: u64 = 2;
pub const SYSCALL: u64 = 3;

thread_local! {
    static SLOT: Cell<u32> = const { Cell::new(0) };
}

pub fn slot() -> u32 {
    let s = SLOT.get();
    if s != 0 {
        return s;
    }
    let s = NEXT.fetch_add(1, Relaxed) % THREADS as u32;
    SLOT.set(s);
    s
}

pub fn word(slot: u32) -> &'static AtomicU64 {
    &STATE[slot as usize]
}

pub fn enter(state: u64) -> u64 {
    let w = word(slot());
    let old = w.load(Acquire);
    if old & 3 != RUNNING {
        OVERRUN.fetch_add(1, Relaxed);
    }
    let new = ((old >> 2) + 1) << 2 | state;
    w.store(new, core::sync::atomic::Ordering::Release);
    new
}

pub fn leave() -> u64 {
    let w = word(slot());
    let old = w.load(Acquire);
    w.swap(old & !3, AcqRel)
}

pub fn set(on: bool) {
    ON.store(on, Relaxed);
}

pub fn reset() {
    let all = [&UNLOADED, &ENDED, &WOKEN, &ALONE, &STALE, &OVERRUN, &CREATED, &FAILED, &BORN, &RENAMED];
    for c in all.into_iter().chain(&SYSCALLS).chain(&BLOCKS) {
        c.store(0, Relaxed);
    }
}

pub fn syscalls() -> Vec<(&'static str, u64)> {
    let name = |i: usize| SyscallName::from_id(i as u16).map_or("", SyscallName::as_str);
    SYSCALLS.iter().enumerate().map(|(i, c)| (name(i), c.load(Relaxed))).filter(|c| c.1 > 0).collect()
}
