//! What is known of file descriptors: which are sockets that the program waits on in the call itself.
//!
//! Only such a socket's calls can be shown as waiting for the network; all else is a system call, short or long. What
//! is known here may be out of date (a descriptor closed and opened again behind our back): then a wait has the other
//! name in the trace, and nothing else happens, because no call of the program is ever changed by what is known here.
//! That is also why readiness is asked for by `poll` and not by a first try with `MSG_DONTWAIT`, which would cut
//! `MSG_WAITALL`, low-water marks and large sends short.

use core::ffi::c_int;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicI32, AtomicU8};

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

/// In place of a descriptor.
pub(in crate::hook) const NONE: c_int = -1;

/// Descriptors that are not the program's: the preload library's file. Written by that library; a free place has [`NONE`].
static KEPT: [AtomicI32; 4] = [const { AtomicI32::new(NONE) }; 4];

/// Enters a descriptor that the program must not close, and says at which place.
pub(in crate::hook) fn keep(fd: c_int) -> Option<usize> {
    KEPT.iter().position(|place| place.compare_exchange(NONE, fd, Relaxed, Relaxed).is_ok())
}

/// The descriptor at a place.
pub(in crate::hook) fn kept(place: usize) -> c_int {
    KEPT[place].load(Relaxed)
}

/// Enters another descriptor at a place, or [`NONE`].
pub(in crate::hook) fn set_kept(place: usize, fd: c_int) {
    KEPT[place].store(fd, Relaxed);
}

/// Frees the place of a descriptor.
pub(in crate::hook) fn forget_kept(fd: c_int) {
    for place in &KEPT {
        // Another number may have come to the place in between, and stays.
        let _ = place.compare_exchange(fd, NONE, Relaxed, Relaxed);
    }
}

/// Frees all places; what was there.
pub(in crate::hook) fn take_kept() -> impl Iterator<Item = c_int> {
    KEPT.iter().map(|place| place.swap(NONE, Relaxed)).filter(|&fd| fd > NONE)
}

/// Whether a descriptor is not the program's.
#[inline]
pub(super) fn is_kept(fd: c_int) -> bool {
    fd > NONE && KEPT.iter().any(|place| place.load(Relaxed) == fd)
}

/// The program takes this number for a file of its own: what is kept under it gets another one.
pub(super) fn make_way(fd: c_int) {
    for place in KEPT.iter().filter(|place| fd > NONE && place.load(Relaxed) == fd) {
        let (what, from) = (libc::F_DUPFD_CLOEXEC as usize, fd as usize + 1);
        // SAFETY: no memory is involved.
        let new = unsafe { syscall6(libc::SYS_fcntl, [fd as usize, what, from, 0, 0, 0]) };
        if new >= 0 {
            place.store(new as c_int, Relaxed);
        }
    }
}

/// Calls `each` with the parts of `first..=last` that are the program's, in order. What one of them returns that is not 0
/// ends it.
pub(super) fn without_kept(first: u32, last: u32, mut each: impl FnMut(u32, u32) -> c_int) -> c_int {
    let mut from = first;
    loop {
        let next = KEPT.iter().map(|place| place.load(Relaxed)).filter_map(|fd| u32::try_from(fd).ok());
        let Some(kept) = next.filter(|fd| (from..=last).contains(fd)).min() else { return each(from, last) };
        if from < kept {
            let result = each(from, kept - 1);
            if result != 0 {
                return result;
            }
        }
        if kept == last {
            return 0;
        }
        from = kept + 1;
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
    fn what_is_kept_is_left_out_of_a_range() {
        let parts = |first, last| {
            let mut parts = Vec::new();
            assert_eq!(
                without_kept(first, last, |a, b| {
                    parts.push((a, b));
                    0
                }),
                0
            );
            parts
        };
        assert_eq!(parts(3, u32::MAX), [(3, u32::MAX)]);
        let places = [10, 12].map(|fd| keep(fd).expect("a place"));
        assert!(is_kept(10) && is_kept(12) && !is_kept(11) && !is_kept(NONE));
        assert_eq!(parts(3, u32::MAX), [(3, 9), (11, 11), (13, u32::MAX)]);
        assert_eq!(parts(10, 12), [(11, 11)]);
        assert_eq!(parts(12, 12), []);
        assert_eq!(parts(5, 9), [(5, 9)]);
        // The first failure is the answer.
        assert_eq!(without_kept(3, 20, |_, b| if b == 9 { 0 } else { -1 }), -1);
        for place in places {
            set_kept(place, NONE);
        }
        assert!(!is_kept(10));
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
