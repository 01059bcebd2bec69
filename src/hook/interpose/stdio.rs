//! C streams. libc's own reads and writes inside them are not seen, so the functions themselves are hooked, by their
//! own names.
//!
//! Most calls only move bytes of the buffer, and are let through: a program that reads a file line by line must not pay
//! for a system call's record on each. Whether the buffer suffices is seen by its pointers, whose places in `FILE` are
//! part of libc's binary interface, since the inlined `getc_unlocked` of old programs uses them. Another thread may use
//! the stream at the time: then a call is recorded that was none, or one that was is not.

use core::ffi::{c_char, c_int};

use libc::FILE;

use super::real::{Ptr, Str, as_syscall, call, errno, hooks, set_errno};
use crate::hook;

hooks! {
    plain {
        fn fopen(path: Str, mode: Str) -> *mut FILE = fopen;
        fn fopen64(path: Str, mode: Str) -> *mut FILE = fopen;
    }
    own {
        fn fclose(stream: *mut FILE) -> c_int;
        fn fflush(stream: *mut FILE) -> c_int;
        fn fread(to: Ptr, size: usize, n: usize, stream: *mut FILE) -> usize;
        fn fread_unlocked(to: Ptr, size: usize, n: usize, stream: *mut FILE) -> usize;
        fn __fread_chk(to: Ptr, room: usize, size: usize, n: usize, stream: *mut FILE) -> usize;
        fn fwrite(from: Ptr, size: usize, n: usize, stream: *mut FILE) -> usize;
        fn fwrite_unlocked(from: Ptr, size: usize, n: usize, stream: *mut FILE) -> usize;
        fn fgets(to: *mut c_char, len: c_int, stream: *mut FILE) -> *mut c_char;
        fn __fgets_chk(to: *mut c_char, room: usize, len: c_int, stream: *mut FILE) -> *mut c_char;
        fn getline(line: *mut *mut c_char, room: *mut usize, stream: *mut FILE) -> isize;
        fn getdelim(line: *mut *mut c_char, room: *mut usize, end: c_int, stream: *mut FILE) -> isize;
    }
}

/// The start of glibc's `FILE` (`struct _IO_FILE`).
#[repr(C)]
struct Stream {
    flags: c_int,
    read_at: *const u8,
    read_end: *const u8,
    read_base: *const u8,
    write_base: *const u8,
    write_at: *const u8,
    write_end: *const u8,
}

/// Bytes that can be read without asking the kernel, bytes that can be written so, and bytes that a flush would write.
#[derive(Default)]
struct Buffered {
    readable: usize,
    room: usize,
    pending: usize,
}

/// # Safety
/// `stream` must be an open stream or null.
unsafe fn buffered(stream: *mut FILE) -> Buffered {
    if stream.is_null() {
        return Buffered::default();
    }
    let at: *const Stream = stream.cast();
    let field = |place: *const *const u8| {
        // SAFETY: a pointer-sized field of a live `FILE`. Volatile, as another thread may be writing it; any value will
        // do.
        unsafe { place.read_volatile() }.addr()
    };
    // SAFETY: all are fields of the one live `FILE`.
    let (read_at, read_end, write_base, write_at, write_end) = unsafe {
        (
            field(&raw const (*at).read_at),
            field(&raw const (*at).read_end),
            field(&raw const (*at).write_base),
            field(&raw const (*at).write_at),
            field(&raw const (*at).write_end),
        )
    };
    Buffered {
        readable: read_end.saturating_sub(read_at),
        room: write_end.saturating_sub(write_at),
        pending: write_at.saturating_sub(write_base),
    }
}

/// `fclose`, which closes a descriptor.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fclose(stream: *mut FILE) -> c_int {
    if !stream.is_null() {
        let saved = errno();
        // SAFETY: the caller's: an open stream.
        super::descriptor::forget(unsafe { libc::fileno(stream) });
        set_errno(saved);
    }
    as_syscall!(fclose, real::fclose(stream))
}

/// Records a call on a stream if the buffer does not suffice for it.
macro_rules! as_stream {
    ($stream:ident, |$b:ident| $suffices:expr, $name:ident, real::$f:ident($($a:expr),*)) => {{
        if !hook::on() {
            return call!(real::$f($($a),*));
        }
        // SAFETY: the caller's: an open stream.
        let $b = unsafe { buffered($stream) };
        if $suffices {
            return call!(real::$f($($a),*));
        }
        as_syscall!($name, real::$f($($a),*))
    }};
}

/// `fflush`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fflush(stream: *mut FILE) -> c_int {
    // A null pointer flushes all streams.
    as_stream!(stream, |b| !stream.is_null() && b.pending == 0 && b.readable == 0, fflush, real::fflush(stream))
}

/// `fread`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fread(to: Ptr, size: usize, n: usize, stream: *mut FILE) -> usize {
    as_stream!(stream, |b| size.saturating_mul(n) <= b.readable, fread, real::fread(to, size, n, stream))
}

/// `fread_unlocked`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fread_unlocked(to: Ptr, size: usize, n: usize, stream: *mut FILE) -> usize {
    as_stream!(stream, |b| size.saturating_mul(n) <= b.readable, fread, real::fread_unlocked(to, size, n, stream))
}

/// `fread` with the check of `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn __fread_chk(to: Ptr, room: usize, size: usize, n: usize, stream: *mut FILE) -> usize {
    as_stream!(stream, |b| size.saturating_mul(n) <= b.readable, fread, real::__fread_chk(to, room, size, n, stream))
}

/// `fwrite`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fwrite(from: Ptr, size: usize, n: usize, stream: *mut FILE) -> usize {
    as_stream!(stream, |b| size.saturating_mul(n) <= b.room, fwrite, real::fwrite(from, size, n, stream))
}

/// `fwrite_unlocked`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fwrite_unlocked(from: Ptr, size: usize, n: usize, stream: *mut FILE) -> usize {
    as_stream!(stream, |b| size.saturating_mul(n) <= b.room, fwrite, real::fwrite_unlocked(from, size, n, stream))
}

/// `fgets`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn fgets(to: *mut c_char, len: c_int, stream: *mut FILE) -> *mut c_char {
    as_stream!(stream, |b| b.readable > 0, fgets, real::fgets(to, len, stream))
}

/// `fgets` with the check of `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn __fgets_chk(
    to: *mut c_char,
    room: usize,
    len: c_int,
    stream: *mut FILE,
) -> *mut c_char {
    as_stream!(stream, |b| b.readable > 0, fgets, real::__fgets_chk(to, room, len, stream))
}

/// `getline`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn getline(line: *mut *mut c_char, room: *mut usize, stream: *mut FILE) -> isize {
    as_stream!(stream, |b| b.readable > 0, getline, real::getline(line, room, stream))
}

/// `getdelim`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn getdelim(
    line: *mut *mut c_char,
    room: *mut usize,
    end: c_int,
    stream: *mut FILE,
) -> isize {
    as_stream!(stream, |b| b.readable > 0, getdelim, real::getdelim(line, room, end, stream))
}
