//! The futex system call: waits and wakes of std, parking_lot, crossbeam and everything else that calls
//! `syscall(SYS_futex, ..)`.
//!
//! A wait is recorded only if the word still has the awaited value at the last moment: waits that find it changed
//! return at once and outnumber the real ones a hundred to one under contention. A wake is not recorded as a system
//! call: whom it wakes is what matters, and a wake of nobody is no news.

use core::ffi::{c_int, c_long};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU32, fence};

use super::real::errno;
use super::waiters::{self, ANY, Ticket, WAITERS};
use crate::hook;
use crate::hook::thread::{self, Begun, Reason};

// Those that the `libc` crate has not; <linux/futex.h>.
const FUTEX_LOCK_PI2: c_int = 13;
/// The operation without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME.
const OPERATION: c_int = 0x7f;

/// What to do after the call.
#[derive(Clone, Copy)]
pub(super) enum After {
    Nothing,
    /// End the wait.
    Unblock(Ticket),
    /// The same, unless the kernel has refused to wait.
    UnblockOrForget(Ticket, Begun),
}

/// To be called with the arguments of the system call before it is made; [`after`] with the result once it is.
#[inline]
pub(super) fn before(a: [usize; 6]) -> After {
    let [address, operation, value, fourth, second, third] = a;
    let value = value as u32;
    match operation as c_int & OPERATION {
        libc::FUTEX_WAIT => wait(address, value, ANY),
        libc::FUTEX_WAIT_BITSET => wait(address, value, third as u32),
        _ if !hook::on() => match operation as c_int & OPERATION {
            libc::FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | libc::FUTEX_WAIT_REQUEUE_PI => block(Ticket::NONE),
            _ => After::Nothing,
        },
        // Whether FUTEX_WAKE_OP wakes at its second address too, only the kernel will know: who waits there wakes
        // unattributed.
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_OP => wake(address, ANY, value),
        libc::FUTEX_WAKE_BITSET => wake(address, third as u32, value),
        libc::FUTEX_UNLOCK_PI => wake(address, ANY, 1),
        libc::FUTEX_REQUEUE => requeue(address, value, fourth as u32, second),
        libc::FUTEX_CMP_REQUEUE | libc::FUTEX_CMP_REQUEUE_PI => {
            if !holds(address, third as u32) {
                // The kernel will refuse.
                return After::Nothing;
            }
            requeue(address, value, fourth as u32, second)
        }
        libc::FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | libc::FUTEX_WAIT_REQUEUE_PI => {
            block(WAITERS.push(address, ANY, thread::waiter()))
        }
        _ => After::Nothing,
    }
}

/// Ends what [`before`] began. `result` is that of the system call; `errno` is still the call's.
#[inline]
pub(super) fn after(after: After, result: c_long) {
    match after {
        After::Nothing => {}
        After::Unblock(ticket) => {
            WAITERS.retract(ticket);
            thread::unblock();
        }
        After::UnblockOrForget(ticket, begun) => {
            WAITERS.retract(ticket);
            if result == -1 && errno() == libc::EAGAIN { begun.refused() } else { thread::unblock() }
        }
    }
}

/// The waits that newer kernels have besides: their wakers are not looked up.
pub(super) fn is_other_wait(number: c_long) -> bool {
    // futex_wait, of Linux 6.7.
    number == libc::SYS_futex_waitv || number == 455
}

fn wait(address: usize, value: u32, mask: u32) -> After {
    if !holds(address, value) {
        return After::Nothing;
    }
    if !hook::on() {
        return block(Ticket::NONE);
    }
    let prepared = thread::prepare();
    let ticket = WAITERS.push(address, mask, thread::waiter());
    // A waker that changed the word before it could see our entry shows here, unless it is changing it now: then the
    // kernel sees it.
    match prepared.block_if(Reason::Sync, || holds(address, value)) {
        Some(begun) => After::UnblockOrForget(ticket, begun),
        None => {
            WAITERS.retract(ticket);
            After::Nothing
        }
    }
}

fn block(ticket: Ticket) -> After {
    thread::block(Reason::Sync);
    After::Unblock(ticket)
}

fn wake(address: usize, mask: u32, count: u32) -> After {
    // With the SeqCst in `Waiters::push`: the change of the word comes before the look at the table, as the waiter's
    // entry comes before its look at the word.
    fence(SeqCst);
    waiters::wake(address, mask, count);
    After::Nothing
}

fn requeue(address: usize, wakes: u32, moves: u32, to: usize) -> After {
    wake(address, ANY, wakes);
    WAITERS.requeue(address, to, moves);
    After::Nothing
}

/// Whether the futex word has that value; no for an address that the kernel will refuse.
fn holds(address: usize, value: u32) -> bool {
    if address == 0 || !address.is_multiple_of(align_of::<AtomicU32>()) {
        return false;
    }
    // SAFETY: the program hands this address to the kernel as that of a live futex word, which by its nature other
    // threads and processes may change.
    let word = unsafe { AtomicU32::from_ptr(core::ptr::with_exposed_provenance_mut(address)) };
    word.load(Relaxed) == value
}
