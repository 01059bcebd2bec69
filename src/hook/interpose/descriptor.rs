//! What is known of file descriptors: which are sockets that the program waits on in the call itself.
//!
//! Only such a socket's calls can be shown as waiting for the network; all else is a system call, short or long. What
//! is known here may be out of date (a descriptor closed and opened again behind our back): then a wait has the other
//! name in the trace, and nothing else happens, because no call of the program is ever changed by what is known here.
//! That is also why readiness is asked for by `poll` and not by a first try with `MSG_DONTWAIT`, which would cut
//! `MSG_WAITALL`, low-water marks and large sends short.

use core::ffi::c_int;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

use crate::sys::raw::syscall6;

/// Descriptors from here on are treated as no sockets. Few programs raise the limit further.
const KNOWN: usize = 1 << 16;

const UNKNOWN: u8 = 0;
const OTHER: u8 = 1;
const BLOCKING: u8 = 2;
const NONBLOCKING: u8 = 3;

/// By descriptor. Anyone may write at any time; the last one wins.
static KIND: [AtomicU8; KNOWN] = [const { AtomicU8::new(UNKNOWN) }; KNOWN];

fn kind(fd: c_int) -> Option<&'static AtomicU8> {
    KIND.get(usize::try_from(fd).ok()?)
}

/// `fd` was closed, or is another file from now on.
#[inline]
pub(super) fn forget(fd: c_int) {
    if let Some(kind) = kind(fd) {
        // Mostly it was never looked at, and a load leaves the cache line shared.
        if kind.load(Relaxed) != UNKNOWN {
            kind.store(UNKNOWN, Relaxed);
        }
    }
}

/// All descriptors of `first..=last` were closed.
pub(super) fn forget_range(first: u32, last: u32) {
    for fd in first..=last.min(KNOWN as u32 - 1) {
        forget(fd as c_int);
    }
}

/// `fd`, if it is one, is a socket made a moment ago.
#[inline]
pub(super) fn made_socket(fd: c_int, nonblocking: bool) {
    if let Some(kind) = kind(fd) {
        kind.store(if nonblocking { NONBLOCKING } else { BLOCKING }, Relaxed);
    }
}

/// Whether the call waits or not was set for `fd`, socket or not.
pub(super) fn set_nonblocking(fd: c_int, nonblocking: bool) {
    if kind(fd).is_some_and(|kind| matches!(kind.load(Relaxed), BLOCKING | NONBLOCKING)) {
        made_socket(fd, nonblocking);
    }
}

/// Whether a call on `fd` that needs one of `events` will wait for the network: `fd` is a socket in blocking mode, and
/// not ready. Leaves `errno` alone.
pub(super) fn waits(fd: c_int, events: i16) -> bool {
    blocks(fd) && !ready(fd, events)
}

/// Whether `fd` is a socket in blocking mode.
pub(super) fn blocks(fd: c_int) -> bool {
    let Some(kind) = kind(fd) else { return false };
    match kind.load(Relaxed) {
        UNKNOWN => {
            let found = ask(fd);
            kind.store(found, Relaxed);
            found == BLOCKING
        }
        known => known == BLOCKING,
    }
}

#[cold]
fn ask(fd: c_int) -> u8 {
    if option(fd, libc::SO_TYPE).is_none() {
        return OTHER;
    }
    // SAFETY: reads a number of the kernel's.
    let flags = unsafe { syscall6(libc::SYS_fcntl, [fd as usize, libc::F_GETFL as usize, 0, 0, 0, 0]) };
    if flags >= 0 && flags as c_int & libc::O_NONBLOCK == 0 { BLOCKING } else { NONBLOCKING }
}

/// An integer option of socket `fd`; `None` if it is not a socket.
pub(super) fn option(fd: c_int, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    let (at, len_at) = (&raw mut value as usize, &raw mut len as usize);
    let args = [fd as usize, libc::SOL_SOCKET as usize, name as usize, at, len_at, 0];
    // SAFETY: the kernel writes at most `len` bytes to `value`, and the length to `len`.
    let r = unsafe { syscall6(libc::SYS_getsockopt, args) };
    (r == 0).then_some(value)
}

/// Whether one of `events` holds now, or an error does.
fn ready(fd: c_int, events: i16) -> bool {
    let mut one = libc::pollfd { fd, events, revents: 0 };
    let at = &raw mut one as usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: one entry at `at`, and no waiting.
    let r = unsafe { syscall6(libc::SYS_poll, [at, 1, 0, 0, 0, 0]) };
    #[cfg(not(target_arch = "x86_64"))]
    let r = {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: one entry at `at`, a time of zero, no signal mask.
        unsafe { syscall6(libc::SYS_ppoll, [at, 1, &raw mut now as usize, 0, 0, 0]) }
    };
    // A failure counts as ready: the call itself will say what is wrong.
    r != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_blocking_socket_without_data_waits_and_others_do_not() {
        let (a, mut b) = UnixStream::pair().expect("sockets");
        let fd = a.as_raw_fd();
        forget(fd);
        assert!(waits(fd, libc::POLLIN));
        assert!(!waits(fd, libc::POLLOUT));
        b.write_all(b"x").expect("one byte");
        assert!(!waits(fd, libc::POLLIN));
        set_nonblocking(fd, true);
        assert!(!blocks(fd));
        // The kernel's word, once asked again, is that it blocks.
        forget(fd);
        assert!(blocks(fd));
        let file = std::fs::File::open("/proc/self/exe").expect("ourselves");
        forget(file.as_raw_fd());
        assert!(!waits(file.as_raw_fd(), libc::POLLIN));
        set_nonblocking(file.as_raw_fd(), false);
        assert!(!blocks(file.as_raw_fd()));
    }

    #[test]
    fn descriptors_beyond_the_table_and_closed_ones_are_no_sockets() {
        let fd = UnixStream::pair().expect("sockets").0.into_raw_fd();
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(fd) };
        for fd in [-1, c_int::MIN, KNOWN as c_int, c_int::MAX] {
            forget(fd);
            made_socket(fd, false);
            assert!(!waits(fd, libc::POLLIN), "{fd}");
        }
        forget_range(KNOWN as u32 - 1, u32::MAX);
        forget_range(5, 4);
    }
}
