//! Threads: their creation, what they wait for, and who wakes them.
//!
//! The facade of the interposed C functions, and of programs that have primitives of their own. All functions may be called with
//! tracing off; those around a wait then note what the thread does, so that a trace that starts meanwhile shows it right.
//!
//! A primitive that waits without libc's help, such as a lock that spins and then parks in a way of its own, says so itself:
//!
//! ```
//! use exectrace::hooks::thread::{self, Reason, Waiter};
//! use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
//!
//! /// Something that happens once, for which one thread waits.
//! #[derive(Default)]
//! struct Once {
//!     happened: AtomicBool,
//!     waiter: AtomicU64,
//! }
//!
//! impl Once {
//!     fn wait(&self) {
//!         self.waiter.store(thread::waiter().to_word(), Ordering::SeqCst);
//!         if !self.happened.load(Ordering::SeqCst) {
//!             thread::block(Reason::Sync);
//!             while !self.happened.load(Ordering::SeqCst) {
//!                 std::hint::spin_loop();
//!             }
//!             thread::unblock();
//!         }
//!     }
//!
//!     fn happen(&self) {
//!         // Before the thread is woken, so that the cause stands before its effect.
//!         thread::wake(Waiter::from_word(self.waiter.load(Ordering::SeqCst)));
//!         self.happened.store(true, Ordering::SeqCst);
//!     }
//! }
//!
//! let once = Once::default();
//! std::thread::scope(|s| {
//!     s.spawn(|| once.wait());
//!     once.happen();
//! });
//! ```

use core::sync::atomic::Ordering;

use crate::record::reasons::Fixed;
use crate::record::samples;
use crate::record::section;
use crate::record::stacks::{self, Leaf};
use crate::record::tables;
use crate::record::thread::{self as known, Entered, Thread, activity, life};
use crate::record::{RECORD_BLOCKING, is_enabled, records};
use crate::sys::thread as os;

/// Why a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// For a lock, a channel or another primitive: which, the stack tells.
    Sync,
    /// For a condition variable.
    CondWait,
    /// For the first of several things.
    Select,
    /// For the network.
    Network,
    /// For time to pass.
    Sleep,
    /// For a thread's end.
    Join,
}

/// The calling thread is about to wait. Records it, with the stack.
pub fn block(reason: Reason) {
    let Some(t) = known::current_or_attach() else { return };
    t.activity.store(activity::WAITING, Ordering::Relaxed);
    if !records(RECORD_BLOCKING) {
        return;
    }
    let Some(entered) = Entered::on(t) else { return };
    let stack = stacks::capture(&entered, Leaf::None);
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    if !s.ensure_running(now) {
        return;
    }
    let fixed = match reason {
        Reason::Sync => None,
        Reason::CondWait => Some(Fixed::CondWait),
        Reason::Select => Some(Fixed::Select),
        Reason::Network => Some(Fixed::Network),
        Reason::Sleep => Some(Fixed::Sleep),
        Reason::Join => Some(Fixed::Join),
    };
    let reason = match fixed {
        None if stack != 0 => tables::reason(stack, stacks::reason(stack), s.parity()),
        fixed => s.name(fixed.unwrap_or(Fixed::Sync).id()),
    };
    let stack = s.stack(stack);
    s.block(now, reason, stack);
}

/// The calling thread's wait is over, whoever ended it.
pub fn unblock() {
    let Some(t) = known::current_or_attach() else { return };
    t.activity.store(activity::RUNNING, Ordering::Relaxed);
    if !records(RECORD_BLOCKING) {
        return;
    }
    let Some(entered) = Entered::on(t) else { return };
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    s.ensure_running(now);
}

/// A thread that may be woken: plain data, to be kept beside what it waits for. All zero is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiter {
    /// Index of the thread plus one.
    thread: u32,
    /// The low half of its goroutine's number: tells it from a later owner of the entry.
    goid: u32,
}

impl Waiter {
    /// Nobody.
    pub const NONE: Waiter = Waiter { thread: 0, goid: 0 };

    /// As one word, for tables of atomics; 0 is nobody.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        (self.thread as u64) << 32 | self.goid as u64
    }

    /// The inverse of [`to_word`](Waiter::to_word).
    #[must_use]
    pub const fn from_word(w: u64) -> Waiter {
        Waiter { thread: (w >> 32) as u32, goid: w as u32 }
    }

    fn of(t: &Thread) -> Waiter {
        Waiter { thread: t.index.load(Ordering::Relaxed) + 1, goid: t.goid.load(Ordering::Relaxed) as u32 }
    }
}

/// The calling thread as one that may be woken.
#[must_use]
pub fn waiter() -> Waiter {
    known::current_or_attach().map_or(Waiter::NONE, Waiter::of)
}

/// The calling thread is about to wake `w`: records who woke whom. Call it before the real wake-up.
pub fn wake(w: Waiter) {
    if w == Waiter::NONE || !records(RECORD_BLOCKING) {
        return;
    }
    let Some(of) = w.thread.checked_sub(1).and_then(known::by_index) else { return };
    let goid = of.goid.load(Ordering::Relaxed);
    if goid as u32 != w.goid {
        return;
    }
    let Some(entered) = Entered::new() else { return };
    let stack = stacks::capture(&entered, Leaf::None);
    section::wake(&entered, of, goid, stack);
}

/// A thread that is about to be created: plain data for its start routine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Birth {
    /// Index of the reserved entry plus one, 0 for none.
    thread: u32,
}

impl Birth {
    /// As one word; 0 is none.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.thread as u64
    }

    /// The inverse of [`to_word`](Birth::to_word).
    #[must_use]
    pub const fn from_word(w: u64) -> Birth {
        Birth { thread: w as u32 }
    }
}

/// The calling thread is about to create another. Records the creation, with the stack.
#[must_use]
pub fn create() -> Birth {
    if !records(RECORD_BLOCKING) {
        return Birth::default();
    }
    let Some(entered) = Entered::new() else { return Birth::default() };
    let stack = stacks::capture(&entered, Leaf::None);
    let Some(child) = known::reserve() else { return Birth::default() };
    let birth = Birth { thread: child.index.load(Ordering::Relaxed) + 1 };
    if let Some(mut s) = entered.section() {
        let now = s.now();
        if s.ensure_running(now) {
            let stack = s.stack(stack);
            s.create(child, now, stack);
        }
    }
    birth
}

/// The thread of `b` could not be created.
pub fn create_failed(b: Birth) {
    if let Some(child) = b.thread.checked_sub(1).and_then(known::by_index)
        && let Some(entered) = Entered::quietly()
        && known::unreserve(child, life::ALIVE)
    {
        section::forget_reserved(&entered, child);
    }
}

/// The calling thread is the new one of `b`. The first thing it does.
pub fn born(b: Birth) {
    let child = b.thread.checked_sub(1).and_then(known::by_index);
    let adopted = child.is_some_and(known::adopt);
    let Some(entered) = Entered::new() else { return };
    if let Some(child) = child
        && !adopted
        && known::unreserve(child, life::ALIVE)
    {
        // The thread was known before its start routine ran (a signal handler allocated): it has an entry already.
        section::forget_reserved(&entered, child);
    }
    if !is_enabled() {
        return;
    }
    // Its creator has announced it, so that no first event of its own will see to this.
    samples::watch(entered.thread);
    if !records(RECORD_BLOCKING) {
        return;
    }
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    s.ensure_running(now);
    drop(s);
    // The others are sampled from their announcement on, which for this one was its creator's.
    samples::watch(entered.thread);
}

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
))]
pub(crate) use crate::record::thread::is_tracers;

/// The calling thread's name may have changed.
pub fn renamed() {
    if let Some(t) = known::current() {
        t.set_name(os::own_name());
    }
}
