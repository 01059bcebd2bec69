//! Stand-in.

use super::standin::{self as s, SYSCALL, WAITING, WOKE};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

#[derive(Clone, Copy)]
pub enum Reason {
    Sync,
    Network,
    Sleep,
    Join,
    CondWait,
    Select,
}

pub fn block(reason: Reason) {
    s::enter(WAITING);
    if super::on() {
        s::BLOCKS[reason as usize].fetch_add(1, Relaxed);
    }
}

pub fn unblock() {
    let on = super::on();
    match s::leave() & 3 {
        WOKE if on => &s::WOKEN,
        WAITING if on => &s::ALONE,
        WOKE | WAITING => return,
        _ => &s::OVERRUN,
    }
    .fetch_add(1, Relaxed);
}

#[derive(Clone, Copy)]
pub struct Waiter {
    slot: u32,
    wait: u32,
}

pub fn waiter() -> Waiter {
    let slot = s::slot();
    Waiter { slot, wait: (s::word(slot).load(Relaxed) >> 2) as u32 + 1 }
}

pub fn wake(w: Waiter) {
    let word = s::word(w.slot);
    loop {
        let old = word.load(Acquire);
        if old & 3 != WAITING || (old >> 2) as u32 != w.wait {
            s::STALE.fetch_add(1, Relaxed);
            return;
        }
        if word.compare_exchange(old, old & !3 | WOKE, AcqRel, Relaxed).is_ok() {
            return;
        }
    }
}

#[derive(Clone, Copy)]
pub struct Birth(u64);

pub fn create() -> Birth {
    Birth(if super::on() { s::CREATED.fetch_add(1, Relaxed) } else { 0 })
}

pub fn create_failed(_: Birth) {
    s::FAILED.fetch_add(1, Relaxed);
}

pub fn born(b: Birth) {
    let _ = b.0;
    s::BORN.fetch_add(u64::from(super::on()), Relaxed);
    arm();
}

/// A key whose destructor stands for the tracer's own.
fn arm() {
    use core::sync::atomic::AtomicU32;
    static KEY: AtomicU32 = AtomicU32::new(u32::MAX);
    unsafe extern "C" fn gone(_: *mut libc::c_void) {
        super::interpose::thread_exits();
    }
    let mut key = KEY.load(Relaxed);
    if key == u32::MAX {
        // SAFETY: stand-in.
        unsafe { libc::pthread_key_create(&mut key, Some(gone)) };
        KEY.store(key, Relaxed);
    }
    // SAFETY: stand-in.
    unsafe { libc::pthread_setspecific(key, core::ptr::dangling()) };
}

pub fn renamed() {
    s::RENAMED.fetch_add(1, Relaxed);
}

const _: () = assert!(SYSCALL == 3);
