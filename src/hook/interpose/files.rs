//! Reading, writing and the rest that is done to an open file. A `read` or `write` that waits on a socket shows as
//! waiting for the network.
//!
//! Not hooked: what only looks at or sets a number that the kernel holds and can neither wait nor touch a device
//! (`lseek`, `dup`, `fcntl(F_GETFL)`, `umask`). They take less time than it would take to record them, and std makes an
//! `lseek` with nearly every read of a file.

use core::ffi::{c_int, c_uint, c_ulong};

use libc::{epoll_event, iovec, loff_t, mode_t, off_t};

use super::descriptor;
use super::real::{Ptr, Str, as_syscall, call, hooks, recorded, set_errno};
use super::sockets::as_network;

hooks! {
    plain {
        fn pread(fd: c_int, to: Ptr, len: usize, at: off_t) -> isize = pread64;
        fn pread64(fd: c_int, to: Ptr, len: usize, at: off_t) -> isize = pread64;
        fn __pread_chk(fd: c_int, to: Ptr, len: usize, at: off_t, room: usize) -> isize = pread64;
        fn __pread64_chk(fd: c_int, to: Ptr, len: usize, at: off_t, room: usize) -> isize = pread64;
        fn pwrite(fd: c_int, from: Ptr, len: usize, at: off_t) -> isize = pwrite64;
        fn pwrite64(fd: c_int, from: Ptr, len: usize, at: off_t) -> isize = pwrite64;
        fn preadv(fd: c_int, to: *const iovec, n: c_int, at: off_t) -> isize = preadv;
        fn preadv64(fd: c_int, to: *const iovec, n: c_int, at: off_t) -> isize = preadv;
        fn pwritev(fd: c_int, from: *const iovec, n: c_int, at: off_t) -> isize = pwritev;
        fn pwritev64(fd: c_int, from: *const iovec, n: c_int, at: off_t) -> isize = pwritev;
        fn preadv2(fd: c_int, to: *const iovec, n: c_int, at: off_t, flags: c_int) -> isize = preadv2;
        fn preadv64v2(fd: c_int, to: *const iovec, n: c_int, at: off_t, flags: c_int) -> isize = preadv2;
        fn pwritev2(fd: c_int, from: *const iovec, n: c_int, at: off_t, flags: c_int) -> isize = pwritev2;
        fn pwritev64v2(fd: c_int, from: *const iovec, n: c_int, at: off_t, flags: c_int) -> isize = pwritev2;

        fn fsync(fd: c_int) -> c_int = fsync;
        fn fdatasync(fd: c_int) -> c_int = fdatasync;
        fn sync_file_range(fd: c_int, at: off_t, len: off_t, flags: c_uint) -> c_int = sync_file_range;
        fn sync() -> () = sync;
        fn syncfs(fd: c_int) -> c_int = syncfs;
        fn ftruncate(fd: c_int, len: off_t) -> c_int = ftruncate;
        fn ftruncate64(fd: c_int, len: off_t) -> c_int = ftruncate;
        fn fallocate(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int = fallocate;
        fn fallocate64(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int = fallocate;
        fn posix_fallocate(fd: c_int, at: off_t, len: off_t) -> c_int = posix_fallocate, else code;
        fn posix_fallocate64(fd: c_int, at: off_t, len: off_t) -> c_int = posix_fallocate, else code;
        fn readahead(fd: c_int, at: off_t, len: usize) -> isize = readahead;
        fn posix_fadvise(fd: c_int, at: off_t, len: off_t, advice: c_int) -> c_int = fadvise64, else code;
        fn posix_fadvise64(fd: c_int, at: off_t, len: off_t, advice: c_int) -> c_int = fadvise64, else code;
        fn flock(fd: c_int, what: c_int) -> c_int = flock;
        fn lockf(fd: c_int, what: c_int, len: off_t) -> c_int = fcntl;
        fn lockf64(fd: c_int, what: c_int, len: off_t) -> c_int = fcntl;

        fn copy_file_range(
            from: c_int, at: *mut loff_t, to: c_int, to_at: *mut loff_t, len: usize, flags: c_uint,
        ) -> isize
            = copy_file_range, else sys(libc::SYS_copy_file_range);
        fn sendfile(to: c_int, from: c_int, at: *mut off_t, len: usize) -> isize = sendfile;
        fn sendfile64(to: c_int, from: c_int, at: *mut off_t, len: usize) -> isize = sendfile;
        fn splice(from: c_int, at: *mut loff_t, to: c_int, to_at: *mut loff_t, len: usize, flags: c_uint) -> isize
            = splice;
        fn tee(from: c_int, to: c_int, len: usize, flags: c_uint) -> isize = tee;
        fn vmsplice(fd: c_int, from: *const iovec, n: usize, flags: c_uint) -> isize = vmsplice;

        fn fstat(fd: c_int, to: Ptr) -> c_int = fstat, else sys(libc::SYS_fstat);
        fn fstat64(fd: c_int, to: Ptr) -> c_int = fstat, else sys(libc::SYS_fstat);
        fn __fxstat(version: c_int, fd: c_int, to: Ptr) -> c_int = fstat;
        fn __fxstat64(version: c_int, fd: c_int, to: Ptr) -> c_int = fstat;
        fn fstatfs(fd: c_int, to: Ptr) -> c_int = fstatfs;
        fn fstatfs64(fd: c_int, to: Ptr) -> c_int = fstatfs;
        fn fstatvfs(fd: c_int, to: Ptr) -> c_int = fstatvfs;
        fn fstatvfs64(fd: c_int, to: Ptr) -> c_int = fstatvfs;
        fn fchmod(fd: c_int, mode: mode_t) -> c_int = fchmod;
        fn fchown(fd: c_int, user: libc::uid_t, group: libc::gid_t) -> c_int = fchown;
        fn futimens(fd: c_int, times: Ptr) -> c_int = utimensat;
        fn fchdir(fd: c_int) -> c_int = fchdir;
        fn getdents64(fd: c_int, to: Ptr, len: usize) -> isize = getdents64, else sys(libc::SYS_getdents64);

        fn pipe(fds: *mut c_int) -> c_int = pipe;
        fn pipe2(fds: *mut c_int, flags: c_int) -> c_int = pipe2;
        fn eventfd(start: c_uint, flags: c_int) -> c_int = eventfd2;
        fn eventfd_read(fd: c_int, to: *mut u64) -> c_int = read;
        fn eventfd_write(fd: c_int, value: u64) -> c_int = write;
        fn timerfd_create(clock: c_int, flags: c_int) -> c_int = timerfd_create;
        fn timerfd_settime(fd: c_int, flags: c_int, to: Ptr, was: Ptr) -> c_int = timerfd_settime;
        fn signalfd(fd: c_int, mask: Ptr, flags: c_int) -> c_int = signalfd4;
        fn inotify_init1(flags: c_int) -> c_int = inotify_init1;
        fn inotify_add_watch(fd: c_int, path: Str, mask: u32) -> c_int = inotify_add_watch;
        fn memfd_create(name: Str, flags: c_uint) -> c_int = memfd_create, else sys(libc::SYS_memfd_create);
        fn epoll_create(size: c_int) -> c_int = epoll_create;
        fn epoll_create1(flags: c_int) -> c_int = epoll_create1;
        fn epoll_ctl(epoll: c_int, what: c_int, fd: c_int, event: *mut epoll_event) -> c_int = epoll_ctl;
        fn getrandom(to: Ptr, len: usize, flags: c_uint) -> isize = getrandom, else sys(libc::SYS_getrandom);
        fn getentropy(to: Ptr, len: usize) -> c_int = getrandom;
    }
    own {
        fn read(fd: c_int, to: Ptr, len: usize) -> isize, else sys(libc::SYS_read);
        fn __read_chk(fd: c_int, to: Ptr, len: usize, room: usize) -> isize;
        fn write(fd: c_int, from: Ptr, len: usize) -> isize, else sys(libc::SYS_write);
        fn readv(fd: c_int, to: *const iovec, n: c_int) -> isize;
        fn writev(fd: c_int, from: *const iovec, n: c_int) -> isize;
        fn close(fd: c_int) -> c_int, else sys(libc::SYS_close);
        fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int, else sys(libc::SYS_close_range);
        fn closefrom(first: c_int) -> ();
        fn dup2(from: c_int, to: c_int) -> c_int;
        fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int;
        fn fcntl(fd: c_int, what: c_int, arg: c_ulong) -> c_int, else sys(libc::SYS_fcntl);
        fn fcntl64(fd: c_int, what: c_int, arg: c_ulong) -> c_int, else sys(libc::SYS_fcntl);
        fn ioctl(fd: c_int, what: c_ulong, arg: c_ulong) -> c_int;
    }
}

recorded! {
    fn read(fd: c_int, to: Ptr, len: usize) -> isize {
        as_network!(fd, libc::POLLIN, read, real::read(fd, to, len))
    }
    fn __read_chk(fd: c_int, to: Ptr, len: usize, room: usize) -> isize {
        as_network!(fd, libc::POLLIN, read, real::__read_chk(fd, to, len, room))
    }
    fn write(fd: c_int, from: Ptr, len: usize) -> isize {
        as_network!(fd, libc::POLLOUT, write, real::write(fd, from, len))
    }
    fn readv(fd: c_int, to: *const iovec, n: c_int) -> isize {
        as_network!(fd, libc::POLLIN, readv, real::readv(fd, to, n))
    }
    fn writev(fd: c_int, from: *const iovec, n: c_int) -> isize {
        as_network!(fd, libc::POLLOUT, writev, real::writev(fd, from, n))
    }
}

/// `close`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn close(fd: c_int) -> c_int {
    if descriptor::is_kept(fd) {
        // The program has no such file.
        set_errno(libc::EBADF);
        return -1;
    }
    // Before the call: afterwards another thread may have the number already.
    descriptor::forget(fd);
    as_syscall!(close, real::close(fd))
}

/// `close_range`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    descriptor::forget_range(first, last);
    if first > last {
        return as_syscall!(close_range, real::close_range(first, last, flags));
    }
    descriptor::without_kept(first, last, |first, last| as_syscall!(close_range, real::close_range(first, last, flags)))
}

/// `closefrom`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn closefrom(first: c_int) {
    let from = first.max(0) as u32;
    descriptor::forget_range(from, u32::MAX);
    let close = |first, last| as_syscall!(close_range, real::close_range(first, last, 0));
    if descriptor::without_kept(from, u32::MAX, close) != 0 {
        // A kernel without that call: libc has another way, which leaves nothing open.
        as_syscall!(close_range, real::closefrom(first))
    }
}

/// `dup2`; not recorded, but the number is another file from now on.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn dup2(from: c_int, to: c_int) -> c_int {
    descriptor::forget(to);
    descriptor::make_way(to);
    call!(real::dup2(from, to))
}

/// `dup3`; as `dup2`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    descriptor::forget(to);
    descriptor::make_way(to);
    call!(real::dup3(from, to, flags))
}

/// `fcntl`; the locks are recorded, as they may wait.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fcntl(fd: c_int, what: c_int, arg: c_ulong) -> c_int {
    if !control(fd, what, arg) {
        return call!(real::fcntl(fd, what, arg));
    }
    as_syscall!(fcntl, real::fcntl(fd, what, arg))
}

/// `fcntl64`, which is what `fcntl` compiles to for 64-bit file offsets.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fcntl64(fd: c_int, what: c_int, arg: c_ulong) -> c_int {
    if !control(fd, what, arg) {
        return call!(real::fcntl64(fd, what, arg));
    }
    as_syscall!(fcntl, real::fcntl64(fd, what, arg))
}

/// Notes what a `fcntl` will change; whether the call is worth recording.
fn control(fd: c_int, what: c_int, arg: c_ulong) -> bool {
    if what == libc::F_SETFL {
        descriptor::set_nonblocking(fd, arg as c_int & libc::O_NONBLOCK != 0);
    }
    matches!(what, libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW)
}

/// `ioctl`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn ioctl(fd: c_int, what: c_ulong, arg: c_ulong) -> c_int {
    if what == libc::FIONBIO {
        // std sets a socket's mode in this way. The argument is behind a pointer that only the kernel may trust: ask
        // when it matters.
        descriptor::forget(fd);
    }
    as_syscall!(ioctl, real::ioctl(fd, what, arg))
}
