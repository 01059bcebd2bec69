//! What is done to files by name: opening, looking, making, renaming, removing. All of it can wait for a disk or a
//! server.
//!
//! `readdir` is not hooked: it is served from a buffer of 32 KiB, and which of its calls will ask the kernel is not to
//! be known from outside; opening and closing the directory are.

use core::ffi::{c_int, c_uint};

use libc::{DIR, gid_t, mode_t, off_t, uid_t};

use super::real::{Ptr, Str, as_syscall, errno, hooks, set_errno};

hooks! {
    plain {
        // Variadic in C. A mode that the caller did not pass is not looked at by libc.
        fn open(path: Str, flags: c_int, mode: mode_t) -> c_int = open;
        fn open64(path: Str, flags: c_int, mode: mode_t) -> c_int = open;
        fn openat(at: c_int, path: Str, flags: c_int, mode: mode_t) -> c_int = openat;
        fn openat64(at: c_int, path: Str, flags: c_int, mode: mode_t) -> c_int = openat;
        fn __open_2(path: Str, flags: c_int) -> c_int = open;
        fn __open64_2(path: Str, flags: c_int) -> c_int = open;
        fn __openat_2(at: c_int, path: Str, flags: c_int) -> c_int = openat;
        fn __openat64_2(at: c_int, path: Str, flags: c_int) -> c_int = openat;
        fn creat(path: Str, mode: mode_t) -> c_int = creat;
        fn creat64(path: Str, mode: mode_t) -> c_int = creat;
        fn mkstemp(path: *mut libc::c_char) -> c_int = mkstemp;
        fn mkstemp64(path: *mut libc::c_char) -> c_int = mkstemp;

        fn stat(path: Str, to: Ptr) -> c_int = stat;
        fn stat64(path: Str, to: Ptr) -> c_int = stat;
        fn lstat(path: Str, to: Ptr) -> c_int = lstat;
        fn lstat64(path: Str, to: Ptr) -> c_int = lstat;
        fn fstatat(at: c_int, path: Str, to: Ptr, flags: c_int) -> c_int = newfstatat, else sys(libc::SYS_newfstatat);
        fn fstatat64(at: c_int, path: Str, to: Ptr, flags: c_int) -> c_int = newfstatat, else sys(libc::SYS_newfstatat);
        // What `stat` and its like compiled to before glibc 2.33.
        fn __xstat(version: c_int, path: Str, to: Ptr) -> c_int = stat;
        fn __xstat64(version: c_int, path: Str, to: Ptr) -> c_int = stat;
        fn __lxstat(version: c_int, path: Str, to: Ptr) -> c_int = lstat;
        fn __lxstat64(version: c_int, path: Str, to: Ptr) -> c_int = lstat;
        fn __fxstatat(version: c_int, at: c_int, path: Str, to: Ptr, flags: c_int) -> c_int = newfstatat;
        fn __fxstatat64(version: c_int, at: c_int, path: Str, to: Ptr, flags: c_int) -> c_int = newfstatat;
        fn statx(at: c_int, path: Str, flags: c_int, mask: c_uint, to: Ptr) -> c_int = statx, else sys(libc::SYS_statx);
        fn statfs(path: Str, to: Ptr) -> c_int = statfs;
        fn statfs64(path: Str, to: Ptr) -> c_int = statfs;
        fn statvfs(path: Str, to: Ptr) -> c_int = statvfs;
        fn statvfs64(path: Str, to: Ptr) -> c_int = statvfs;
        fn access(path: Str, mode: c_int) -> c_int = access;
        fn faccessat(at: c_int, path: Str, mode: c_int, flags: c_int) -> c_int = faccessat;
        fn euidaccess(path: Str, mode: c_int) -> c_int = faccessat;
        fn eaccess(path: Str, mode: c_int) -> c_int = faccessat;
        fn readlink(path: Str, to: Ptr, len: usize) -> isize = readlink;
        fn __readlink_chk(path: Str, to: Ptr, len: usize, room: usize) -> isize = readlink;
        fn readlinkat(at: c_int, path: Str, to: Ptr, len: usize) -> isize = readlinkat;
        fn __readlinkat_chk(at: c_int, path: Str, to: Ptr, len: usize, room: usize) -> isize = readlinkat;
        fn realpath(path: Str, to: *mut libc::c_char) -> *mut libc::c_char = realpath;
        fn __realpath_chk(path: Str, to: *mut libc::c_char, room: usize) -> *mut libc::c_char = realpath;

        fn truncate(path: Str, len: off_t) -> c_int = truncate;
        fn truncate64(path: Str, len: off_t) -> c_int = truncate;
        fn rename(from: Str, to: Str) -> c_int = rename;
        fn renameat(from_at: c_int, from: Str, to_at: c_int, to: Str) -> c_int = renameat;
        fn renameat2(from_at: c_int, from: Str, to_at: c_int, to: Str, flags: c_uint) -> c_int
            = renameat2, else sys(libc::SYS_renameat2);
        fn unlink(path: Str) -> c_int = unlink;
        fn unlinkat(at: c_int, path: Str, flags: c_int) -> c_int = unlinkat;
        fn remove(path: Str) -> c_int = unlink;
        fn mkdir(path: Str, mode: mode_t) -> c_int = mkdir;
        fn mkdirat(at: c_int, path: Str, mode: mode_t) -> c_int = mkdirat;
        fn rmdir(path: Str) -> c_int = rmdir;
        fn chdir(path: Str) -> c_int = chdir;
        fn link(from: Str, to: Str) -> c_int = link;
        fn linkat(from_at: c_int, from: Str, to_at: c_int, to: Str, flags: c_int) -> c_int = linkat;
        fn symlink(text: Str, path: Str) -> c_int = symlink;
        fn symlinkat(text: Str, at: c_int, path: Str) -> c_int = symlinkat;
        fn mkfifo(path: Str, mode: mode_t) -> c_int = mknod;
        fn chmod(path: Str, mode: mode_t) -> c_int = chmod;
        fn fchmodat(at: c_int, path: Str, mode: mode_t, flags: c_int) -> c_int = fchmodat;
        fn chown(path: Str, user: uid_t, group: gid_t) -> c_int = chown;
        fn lchown(path: Str, user: uid_t, group: gid_t) -> c_int = lchown;
        fn fchownat(at: c_int, path: Str, user: uid_t, group: gid_t, flags: c_int) -> c_int = fchownat;
        fn utimensat(at: c_int, path: Str, times: Ptr, flags: c_int) -> c_int = utimensat;

        fn opendir(path: Str) -> *mut DIR = opendir;
        fn fdopendir(fd: c_int) -> *mut DIR = fdopendir;
    }
    own {
        fn closedir(dir: *mut DIR) -> c_int;
    }
}

/// `closedir`, which closes a descriptor.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn closedir(dir: *mut DIR) -> c_int {
    if !dir.is_null() {
        let saved = errno();
        // SAFETY: the caller's: an open directory.
        super::descriptor::forget(unsafe { libc::dirfd(dir) });
        set_errno(saved);
    }
    as_syscall!(closedir, real::closedir(dir))
}
