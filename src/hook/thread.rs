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
    _ = prepare().block_if(reason, || true);
}

/// A wait of the calling thread that may be about to begin; from [`prepare`].
#[derive(Debug)]
pub struct Prepared {
    thread: Option<&'static Thread>,
    /// 0 for none.
    stack: u32,
    /// It is the calling thread's alone.
    _here: core::marker::PhantomData<*const ()>,
}

/// Does all of [`block`] that takes time, so that between the last look at what is waited for and the record of the wait a waker
/// finds next to no time.
///
/// ```
/// use exectrace::hooks::thread::{self, Reason};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let word = AtomicU32::new(1);
/// if let Some(begun) = thread::prepare().block_if(Reason::Sync, || word.load(Ordering::SeqCst) == 0) {
///     // Have the system wait while the word is 0. When it says that the word has changed:
///     let refused = true;
///     if refused { begun.refused() } else { thread::unblock() }
/// }
/// ```
#[must_use]
pub fn prepare() -> Prepared {
    let thread = known::current_or_attach();
    let mut stack = 0;
    if records(RECORD_BLOCKING)
        && let Some(entered) = thread.and_then(Entered::quietly_on)
    {
        stack = stacks::capture(&entered, Leaf::None);
    }
    Prepared { thread, stack, _here: core::marker::PhantomData }
}

impl Prepared {
    /// Records that the thread waits, if `still` then says that it has to. `None` if it said no.
    ///
    /// `still` runs while an event is being written: it should do no more than look. What it would record is lost, and counted.
    pub fn block_if(self, reason: Reason, still: impl FnOnce() -> bool) -> Option<Begun> {
        let Some(t) = self.thread else { return still().then_some(Begun(None)) };
        // Before the look: a trace that starts between the two sees at worst a thread wait for nothing, for a moment.
        t.activity.store(activity::WAITING, Ordering::Relaxed);
        let begun =
            if records(RECORD_BLOCKING) { self.record(t, reason, still) } else { still().then_some(Begun(None)) };
        if begun.is_none() {
            t.activity.store(activity::RUNNING, Ordering::Relaxed);
        }
        begun
    }

    fn record(self, t: &'static Thread, reason: Reason, still: impl FnOnce() -> bool) -> Option<Begun> {
        let untold = |still: bool| still.then_some(Begun(None));
        let Some(entered) = Entered::on(t) else { return untold(still()) };
        let Some(mut s) = entered.section() else { return untold(still()) };
        let now = s.now();
        if !s.ensure_running(now) {
            return untold(still());
        }
        let reason = reason_string(&s, reason, self.stack);
        let stack = s.stack(self.stack);
        still().then(|| Begun(s.block(now, reason, stack)))
    }
}

/// A wait that has begun, as it was recorded, if it was. It ends by [`unblock`], or by [`Begun::refused`].
#[derive(Clone, Copy, Debug)]
pub struct Begun(Option<section::Blocked>);

impl Begun {
    /// The system refused to let the thread wait, because what it was to wait for had happened: as [`unblock`], but as if nothing
    /// had been recorded, where that is still possible.
    pub fn refused(self) {
        if let Begun(Some(blocked)) = self
            && let Some(t) = known::current()
            && let Some(entered) = Entered::quietly_on(t)
            && let Some(mut s) = entered.section()
            && s.unblock_untold(&blocked)
        {
            t.activity.store(activity::RUNNING, Ordering::Relaxed);
            t.wait_is_over();
            return;
        }
        unblock();
    }
}

/// The wire id of why a thread waits at `stack`.
fn reason_string(s: &section::Section<'_>, reason: Reason, stack: u32) -> u64 {
    let fixed = match reason {
        Reason::Sync if stack != 0 => return tables::reason(stack, stacks::reason(stack), s.parity()),
        Reason::Sync => Fixed::Sync,
        Reason::CondWait => Fixed::CondWait,
        Reason::Select => Fixed::Select,
        Reason::Network => Fixed::Network,
        Reason::Sleep => Fixed::Sleep,
        Reason::Join => Fixed::Join,
    };
    s.name(fixed.id())
}

/// The calling thread's wait is over, whoever ended it.
pub fn unblock() {
    let Some(t) = known::current_or_attach() else { return };
    t.activity.store(activity::RUNNING, Ordering::Relaxed);
    t.wait_is_over();
    if !records(RECORD_BLOCKING) {
        return;
    }
    let Some(entered) = Entered::on(t) else { return };
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    s.ensure_running(now);
}

/// A wait that may be ended by another thread: plain data, to be kept beside what is waited for. All zero is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiter {
    /// Index of the thread plus one.
    thread: u32,
    /// How many waits of that entry were over: tells this one from later ones, also of a later thread.
    wait: u32,
}

impl Waiter {
    /// Nobody.
    pub const NONE: Waiter = Waiter { thread: 0, wait: 0 };

    /// As one word, for tables of atomics; 0 is nobody.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        (self.thread as u64) << 32 | self.wait as u64
    }

    /// The inverse of [`to_word`](Waiter::to_word).
    #[must_use]
    pub const fn from_word(w: u64) -> Waiter {
        Waiter { thread: (w >> 32) as u32, wait: w as u32 }
    }

    fn of(t: &Thread) -> Waiter {
        Waiter { thread: t.index.load(Ordering::Relaxed) + 1, wait: t.waits.load(Ordering::Relaxed) }
    }
}

/// The next wait of the calling thread, from [`block`] to [`unblock`], or the one that it is in.
#[must_use]
pub fn waiter() -> Waiter {
    known::current_or_attach().map_or(Waiter::NONE, Waiter::of)
}

/// The calling thread is about to end the wait `w`: records who woke whom, unless that wait is over. Call it before the real
/// wake-up.
pub fn wake(w: Waiter) {
    if w == Waiter::NONE || !records(RECORD_BLOCKING) {
        return;
    }
    let Some(of) = w.thread.checked_sub(1).and_then(known::by_index) else { return };
    if of.waits.load(Ordering::Relaxed) != w.wait {
        return;
    }
    let Some(entered) = Entered::new() else { return };
    let stack = stacks::capture(&entered, Leaf::None);
    section::wake(&entered, of, w.wait, stack);
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
    stacks::know_bounds(entered.thread);
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
