//! System calls: entering and leaving them.
//!
//! [`interpose!`](crate::interpose!) does it for the C library's functions. For calls that a program makes without it:
//!
//! ```
//! use exectrace::hooks::{SyscallName, syscall};
//!
//! let entry = syscall::begin(SyscallName::fsync);
//! // the call, by the program's own assembly
//! syscall::end(entry);
//! ```

use core::sync::atomic::Ordering;

use crate::record::stacks::{self, Leaf};
use crate::record::syscall_name::SyscallName;
use crate::record::thread::{self, Entered, activity};
use crate::record::{RECORD_SYSCALLS, records};
use crate::sys::clock;

/// A call that lasts longer shows as having given its processor up. Go's own monitor takes the processor of a system call away
/// after 20 µs at the earliest.
const HAND_OFF_NS: u64 = 20_000;

/// A system call that was entered: plain data for [`end`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// The counter when it was entered; 0 if it was not recorded.
    ticks: u64,
}

/// The calling thread enters system call `name`. Records it, with the stack.
pub fn begin(name: SyscallName) -> Entry {
    let Some(t) = thread::current_or_attach() else { return Entry::default() };
    t.activity.store(activity::SYSCALL, Ordering::Relaxed);
    if !records(RECORD_SYSCALLS) {
        return Entry::default();
    }
    let Some(entered) = Entered::on(t) else { return Entry::default() };
    let stack = stacks::capture(&entered, Leaf::Syscall(name));
    let Some(mut s) = entered.section() else { return Entry::default() };
    let ticks = clock::ticks();
    let now = s.ns_of(ticks);
    if !s.ensure_running(now) {
        return Entry::default();
    }
    let stack = s.stack(stack);
    s.syscall_begin(now, stack);
    Entry { ticks }
}

/// It has left it.
pub fn end(e: Entry) {
    let Some(t) = thread::current_or_attach() else { return };
    t.activity.store(activity::RUNNING, Ordering::Relaxed);
    if !records(RECORD_SYSCALLS) {
        return;
    }
    let Some(entered) = Entered::on(t) else { return };
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    let handed_off = if e.ticks == 0 { now } else { s.ns_of(e.ticks).saturating_add(HAND_OFF_NS) };
    s.syscall_end(now, handed_off);
}
