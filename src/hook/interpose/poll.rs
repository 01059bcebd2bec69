//! Waiting for any of several files: `poll`, `select` and `epoll`.
//!
//! A loop that always has work makes these calls as often as one that waits, and the two must not look the same. So a
//! call that may wait is first made with a time of zero: if that finds something, or fails, it is the answer, and the
//! call was a short system call. If it finds nothing, it has changed nothing either (edge-triggered and one-shot events
//! of `epoll` are taken by being returned, signals are delivered by failing), and the program's own call follows, as a
//! wait. `select` overwrites its arguments; there a copy is asked.

use core::ffi::{c_int, c_ulong};

use libc::{epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use super::real::{as_syscall, as_wait, hooks};
use crate::hook;
use crate::sys::raw::syscall6;

hooks! {
    plain {}
    own {
        fn poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int;
        fn __poll_chk(fds: *mut pollfd, n: nfds_t, timeout: c_int, room: usize) -> c_int;
        fn ppoll(fds: *mut pollfd, n: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int;
        fn __ppoll_chk(
            fds: *mut pollfd, n: nfds_t, timeout: *const timespec, mask: *const sigset_t, room: usize,
        ) -> c_int;
        fn select(n: c_int, r: *mut fd_set, w: *mut fd_set, e: *mut fd_set, timeout: *mut timeval) -> c_int;
        fn pselect(
            n: c_int, r: *mut fd_set, w: *mut fd_set, e: *mut fd_set, timeout: *const timespec, mask: *const sigset_t,
        ) -> c_int;
        fn epoll_wait(epoll: c_int, to: *mut epoll_event, n: c_int, timeout: c_int) -> c_int;
        fn epoll_pwait(epoll: c_int, to: *mut epoll_event, n: c_int, timeout: c_int, mask: *const sigset_t) -> c_int;
        fn epoll_pwait2(
            epoll: c_int, to: *mut epoll_event, n: c_int, timeout: *const timespec, mask: *const sigset_t,
        ) -> c_int;
    }
}

const NOW: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

/// The call with a time of zero, and then, if nothing was found, the program's own.
macro_rules! as_poll {
    ($name:ident, real::$f:ident($($now:expr),*), ($($own:expr),*)) => {{
        if hook::on() {
            let found = as_syscall!($name, real::$f($($now),*));
            if found != 0 {
                return found;
            }
        }
        as_wait!(Network, real::$f($($own),*))
    }};
}

/// # Safety
/// `timeout` must be null or valid.
unsafe fn is_now(timeout: *const timespec) -> bool {
    // SAFETY: the caller's.
    unsafe { timeout.as_ref() }.is_some_and(|t| t.tv_sec == 0 && t.tv_nsec == 0)
}

/// `poll`. With no files it is a sleep.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int {
    match (timeout, n) {
        (0, _) => as_syscall!(poll, real::poll(fds, n, timeout)),
        (_, 0) => as_wait!(Sleep, real::poll(fds, n, timeout)),
        _ => as_poll!(poll, real::poll(fds, n, 0), (fds, n, timeout)),
    }
}

/// `poll` with the check of `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn __poll_chk(fds: *mut pollfd, n: nfds_t, timeout: c_int, room: usize) -> c_int {
    match (timeout, n) {
        (0, _) => as_syscall!(poll, real::__poll_chk(fds, n, timeout, room)),
        (_, 0) => as_wait!(Sleep, real::__poll_chk(fds, n, timeout, room)),
        _ => as_poll!(poll, real::__poll_chk(fds, n, 0, room), (fds, n, timeout, room)),
    }
}

/// `ppoll`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn ppoll(
    fds: *mut pollfd,
    n: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's.
    match (unsafe { is_now(timeout) }, n) {
        (true, _) => as_syscall!(ppoll, real::ppoll(fds, n, timeout, mask)),
        (_, 0) => as_wait!(Sleep, real::ppoll(fds, n, timeout, mask)),
        _ => as_poll!(ppoll, real::ppoll(fds, n, &NOW, mask), (fds, n, timeout, mask)),
    }
}

/// `ppoll` with the check of `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn __ppoll_chk(
    fds: *mut pollfd,
    n: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: usize,
) -> c_int {
    // SAFETY: the caller's.
    match (unsafe { is_now(timeout) }, n) {
        (true, _) => as_syscall!(ppoll, real::__ppoll_chk(fds, n, timeout, mask, room)),
        (_, 0) => as_wait!(Sleep, real::__ppoll_chk(fds, n, timeout, mask, room)),
        _ => as_poll!(ppoll, real::__ppoll_chk(fds, n, &NOW, mask, room), (fds, n, timeout, mask, room)),
    }
}

/// `select`. With no files it is a sleep.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn select(
    n: c_int,
    r: *mut fd_set,
    w: *mut fd_set,
    e: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: the caller's: null or valid.
    let now = unsafe { timeout.as_ref() }.is_some_and(|t| t.tv_sec == 0 && t.tv_usec == 0);
    if n == 0 && !now {
        return as_wait!(Sleep, real::select(n, r, w, e, timeout));
    }
    // SAFETY: the caller's: null, or sets of `n` bits.
    if now || (hook::on() && unsafe { any_ready(n, [r, w, e]) }) {
        return as_syscall!(select, real::select(n, r, w, e, timeout));
    }
    as_wait!(Network, real::select(n, r, w, e, timeout))
}

/// `pselect`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pselect(
    n: c_int,
    r: *mut fd_set,
    w: *mut fd_set,
    e: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's.
    let now = unsafe { is_now(timeout) };
    if n == 0 && !now {
        return as_wait!(Sleep, real::pselect(n, r, w, e, timeout, mask));
    }
    // SAFETY: the caller's: null, or sets of `n` bits.
    if now || (hook::on() && unsafe { any_ready(n, [r, w, e]) }) {
        return as_syscall!(pselect6, real::pselect(n, r, w, e, timeout, mask));
    }
    as_wait!(Network, real::pselect(n, r, w, e, timeout, mask))
}

/// Whether `select` would return at once: asked on copies of the sets, without `errno`. No for more files than fit in
/// an `fd_set`.
///
/// # Safety
/// Each set must be null or hold `n` bits.
unsafe fn any_ready(n: c_int, sets: [*mut fd_set; 3]) -> bool {
    const BITS: usize = c_ulong::BITS as usize;
    let mut copies = [[0 as c_ulong; libc::FD_SETSIZE / BITS]; 3];
    let Ok(n) = usize::try_from(n) else { return true };
    if n > libc::FD_SETSIZE {
        return false;
    }
    let mut args = [n, 0, 0, 0, 0, 0];
    for ((copy, set), arg) in copies.iter_mut().zip(sets).zip(args.iter_mut().skip(1)) {
        if set.is_null() {
            continue;
        }
        // The kernel reads and writes whole words.
        // SAFETY: `n` bits are there, so these words are, and the copy has room for FD_SETSIZE bits.
        unsafe { core::ptr::copy_nonoverlapping(set.cast::<c_ulong>(), copy.as_mut_ptr(), n.div_ceil(BITS)) };
        *arg = copy.as_mut_ptr().expose_provenance();
    }
    // The kernel writes the time that is left.
    let mut now = NOW;
    args[4] = (&raw mut now).expose_provenance();
    // SAFETY: the sets are ours and large enough; a time of zero; no signal mask.
    (unsafe { syscall6(libc::SYS_pselect6, args) }) != 0
}

/// `epoll_wait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn epoll_wait(epoll: c_int, to: *mut epoll_event, n: c_int, timeout: c_int) -> c_int {
    if timeout == 0 {
        return as_syscall!(epoll_wait, real::epoll_wait(epoll, to, n, timeout));
    }
    as_poll!(epoll_wait, real::epoll_wait(epoll, to, n, 0), (epoll, to, n, timeout))
}

/// `epoll_pwait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn epoll_pwait(
    epoll: c_int,
    to: *mut epoll_event,
    n: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    if timeout == 0 {
        return as_syscall!(epoll_pwait, real::epoll_pwait(epoll, to, n, timeout, mask));
    }
    as_poll!(epoll_pwait, real::epoll_pwait(epoll, to, n, 0, mask), (epoll, to, n, timeout, mask))
}

/// `epoll_pwait2`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn epoll_pwait2(
    epoll: c_int,
    to: *mut epoll_event,
    n: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's.
    if unsafe { is_now(timeout) } {
        return as_syscall!(epoll_pwait2, real::epoll_pwait2(epoll, to, n, timeout, mask));
    }
    as_poll!(epoll_pwait2, real::epoll_pwait2(epoll, to, n, &NOW, mask), (epoll, to, n, timeout, mask))
}
