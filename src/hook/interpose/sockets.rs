//! Sockets. A call on a blocking socket that will wait shows as waiting for the network; one that can go on at once,
//! and every call on a non-blocking socket, is a system call.
//!
//! Whether it will wait is asked by a `poll` beforehand, which costs a fifth of a microsecond while tracing, on
//! blocking sockets only. The program's call is made once and as it is: see `descriptor`.

use core::ffi::{c_char, c_int, c_uint};

use libc::{addrinfo, hostent, mmsghdr, msghdr, sockaddr, socklen_t, timespec};

use super::descriptor;
use super::real::{Ptr, Str, as_syscall, as_wait, hooks, recorded};
use crate::hook;

hooks! {
    plain {
        fn bind(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int = bind;
        fn listen(fd: c_int, backlog: c_int) -> c_int = listen;
        fn shutdown(fd: c_int, how: c_int) -> c_int = shutdown;
        // Names are looked up by reading files and asking servers, out of sight inside libc.
        fn getaddrinfo(host: Str, service: Str, hints: *const addrinfo, to: *mut *mut addrinfo) -> c_int = getaddrinfo;
        fn getnameinfo(
            of: *const sockaddr, len: socklen_t,
            host: *mut c_char, host_len: socklen_t, service: *mut c_char, service_len: socklen_t, flags: c_int,
        ) -> c_int = getnameinfo;
        fn gethostbyname(host: Str) -> *mut hostent = gethostbyname;
        fn gethostbyname2(host: Str, family: c_int) -> *mut hostent = gethostbyname;
        fn gethostbyname_r(
            host: Str, to: *mut hostent, room: *mut c_char, len: usize, result: *mut *mut hostent, error: *mut c_int,
        ) -> c_int = gethostbyname, else code;
        fn gethostbyname2_r(
            host: Str, family: c_int,
            to: *mut hostent, room: *mut c_char, len: usize, result: *mut *mut hostent, error: *mut c_int,
        ) -> c_int = gethostbyname, else code;
        fn gethostbyaddr(of: Ptr, len: socklen_t, family: c_int) -> *mut hostent = gethostbyaddr;
    }
    own {
        fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
        fn socketpair(family: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int;
        fn accept(fd: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int;
        fn accept4(fd: c_int, from: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int;
        fn connect(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int;
        fn send(fd: c_int, from: Ptr, len: usize, flags: c_int) -> isize;
        fn sendto(fd: c_int, from: Ptr, len: usize, flags: c_int, to: *const sockaddr, to_len: socklen_t) -> isize;
        fn sendmsg(fd: c_int, from: *const msghdr, flags: c_int) -> isize;
        fn sendmmsg(fd: c_int, from: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int;
        fn recv(fd: c_int, to: Ptr, len: usize, flags: c_int) -> isize;
        fn __recv_chk(fd: c_int, to: Ptr, len: usize, room: usize, flags: c_int) -> isize;
        fn recvfrom(
            fd: c_int, to: Ptr, len: usize, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t,
        ) -> isize;
        fn __recvfrom_chk(
            fd: c_int, to: Ptr, len: usize, room: usize, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t,
        ) -> isize;
        fn recvmsg(fd: c_int, to: *mut msghdr, flags: c_int) -> isize;
        fn recvmmsg(fd: c_int, to: *mut mmsghdr, n: c_uint, flags: c_int, timeout: *mut timespec) -> c_int;
    }
}

/// Calls the real function as a wait for the network if `fd` will make it wait, as a system call if not. Tracing is on.
macro_rules! as_network {
    ($fd:expr, $events:expr, $name:ident, $($call:tt)*) => {
        if $crate::hook::interpose::descriptor::waits($fd, $events) {
            $crate::hook::interpose::real::as_wait!(Network, $($call)*)
        } else {
            $crate::hook::interpose::real::as_syscall!($name, $($call)*)
        }
    };
}
pub(super) use as_network;

/// Receiving. With tracing off it is still kept that the thread waits, so that a trace that starts meanwhile knows.
macro_rules! receive {
    ($fd:ident, $flags:expr, $name:ident, $($call:tt)*) => {{
        const AT_ONCE: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE;
        if $flags & AT_ONCE != 0 {
            as_syscall!($name, $($call)*)
        } else if !hook::on() {
            as_wait!(Network, $($call)*)
        } else {
            as_network!($fd, libc::POLLIN, $name, $($call)*)
        }
    }};
}

/// Sending. Tracing is on.
macro_rules! transmit {
    ($fd:ident, $flags:expr, $name:ident, $($call:tt)*) => {{
        if $flags & libc::MSG_DONTWAIT != 0 {
            as_syscall!($name, $($call)*)
        } else {
            as_network!($fd, libc::POLLOUT, $name, $($call)*)
        }
    }};
}

recorded! {
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
        let fd = as_syscall!(socket, real::socket(family, kind, protocol));
        descriptor::made_socket(fd, kind & libc::SOCK_NONBLOCK != 0);
        fd
    }
    fn connect(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int {
        // On a blocking stream socket of the internet families it waits for the other side's answer, however near that
        // is.
        let internet = |domain| matches!(domain, Some(libc::AF_INET | libc::AF_INET6));
        if descriptor::blocks(fd)
            && descriptor::option(fd, libc::SO_TYPE) == Some(libc::SOCK_STREAM)
            && internet(descriptor::option(fd, libc::SO_DOMAIN))
        {
            return as_wait!(Network, real::connect(fd, to, len));
        }
        as_syscall!(connect, real::connect(fd, to, len))
    }
}

/// `socketpair`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn socketpair(family: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int {
    as_syscall!(socketpair, real::socketpair(family, kind, protocol, fds))
}

/// `accept`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn accept(fd: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let made = receive!(fd, 0, accept, real::accept(fd, from, len));
    if hook::on() {
        descriptor::made_socket(made, false);
    }
    made
}

/// `accept4`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn accept4(fd: c_int, from: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    let made = receive!(fd, 0, accept4, real::accept4(fd, from, len, flags));
    if hook::on() {
        descriptor::made_socket(made, flags & libc::SOCK_NONBLOCK != 0);
    }
    made
}

recorded! {
    fn send(fd: c_int, from: Ptr, len: usize, flags: c_int) -> isize {
        transmit!(fd, flags, sendto, real::send(fd, from, len, flags))
    }
    fn sendto(fd: c_int, from: Ptr, len: usize, flags: c_int, to: *const sockaddr, to_len: socklen_t) -> isize {
        transmit!(fd, flags, sendto, real::sendto(fd, from, len, flags, to, to_len))
    }
    fn sendmsg(fd: c_int, from: *const msghdr, flags: c_int) -> isize {
        transmit!(fd, flags, sendmsg, real::sendmsg(fd, from, flags))
    }
    fn sendmmsg(fd: c_int, from: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int {
        transmit!(fd, flags, sendmmsg, real::sendmmsg(fd, from, n, flags))
    }
}

/// `recv`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn recv(fd: c_int, to: Ptr, len: usize, flags: c_int) -> isize {
    receive!(fd, flags, recvfrom, real::recv(fd, to, len, flags))
}

/// `recv` with the check of `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn __recv_chk(fd: c_int, to: Ptr, len: usize, room: usize, flags: c_int) -> isize {
    receive!(fd, flags, recvfrom, real::__recv_chk(fd, to, len, room, flags))
}

/// `recvfrom`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn recvfrom(
    fd: c_int,
    to: Ptr,
    len: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> isize {
    receive!(fd, flags, recvfrom, real::recvfrom(fd, to, len, flags, from, from_len))
}

/// `recvfrom` with the check of `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn __recvfrom_chk(
    fd: c_int,
    to: Ptr,
    len: usize,
    room: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> isize {
    receive!(fd, flags, recvfrom, real::__recvfrom_chk(fd, to, len, room, flags, from, from_len))
}

/// `recvmsg`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn recvmsg(fd: c_int, to: *mut msghdr, flags: c_int) -> isize {
    receive!(fd, flags, recvmsg, real::recvmsg(fd, to, flags))
}

/// `recvmmsg`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn recvmmsg(
    fd: c_int,
    to: *mut mmsghdr,
    n: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    receive!(fd, flags, recvmmsg, real::recvmmsg(fd, to, n, flags, timeout))
}
