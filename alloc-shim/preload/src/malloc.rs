//! The C library's allocation functions, as the program and all its libraries see them: each calls the next allocator and tells
//! the tracer.
//!
//! A block counts with the size that the allocator says it has (`malloc_usable_size`), since `free` is told no other. So the
//! heap here is what the program could use, some percent more than what it asked for.
//!
//! They run everywhere: before `main`, in signal handlers of careless programs, on threads that have ended. Each is the next
//! allocator's function and a few additions to counters of the thread; `errno` is as the allocator left it.

use core::ffi::{c_int, c_void};

use exectrace::__preload::HeapObserver;
use exectrace_alloc_shim::Observer;

use crate::next;

type Ptr = *mut c_void;

/// Every block of a C allocator is good for any basic type.
const ALIGN: usize = 16;

/// A block was handed out, or not.
#[inline(always)]
fn told(at: Ptr, size: usize, align: usize) -> Ptr {
    if at.is_null() {
        if size > 0 {
            HeapObserver::failed(size, align);
        }
    } else if !next::is_early(at) {
        // SAFETY: a block that the allocator returned a moment ago.
        let usable = unsafe { next::usable(at) };
        HeapObserver::allocated(at.cast(), usable, align);
    }
    at
}

/// A block goes.
///
/// # Safety
/// `at` is a block of the next allocator.
#[inline(always)]
unsafe fn goes(at: Ptr) {
    // SAFETY: the caller's.
    let usable = unsafe { next::usable(at) };
    HeapObserver::freeing(at.cast(), usable, ALIGN);
}

/// `malloc`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(size: usize) -> Ptr {
    // SAFETY: the caller's.
    told(unsafe { next::malloc(size) }, size, ALIGN)
}

/// `calloc`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(n: usize, size: usize) -> Ptr {
    // SAFETY: the caller's.
    told(unsafe { next::calloc(n, size) }, n.saturating_mul(size), ALIGN)
}

/// `free`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(at: Ptr) {
    if at.is_null() || next::is_early(at) {
        return;
    }
    // SAFETY: the caller's: a block of the allocator.
    unsafe { goes(at) };
    // SAFETY: the caller's.
    unsafe { next::free(at) }
}

/// `realloc`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(at: Ptr, size: usize) -> Ptr {
    if at.is_null() {
        // SAFETY: the caller's.
        return told(unsafe { next::realloc(at, size) }, size, ALIGN);
    }
    if next::is_early(at) {
        // SAFETY: the caller's.
        return unsafe { leave_early(at, size) };
    }
    if size == 0 {
        // Most allocators free the block and return nothing; some return a new one.
        // SAFETY: the caller's: a block of the allocator.
        unsafe { goes(at) };
        // SAFETY: the caller's.
        return told(unsafe { next::realloc(at, 0) }, 0, ALIGN);
    }
    // SAFETY: the caller's: a block of the allocator.
    let before = unsafe { next::usable(at) };
    // SAFETY: the caller's.
    let moved = unsafe { next::realloc(at, size) };
    if moved.is_null() {
        HeapObserver::failed(size, ALIGN);
    } else {
        // SAFETY: a block that the allocator returned a moment ago.
        let after = unsafe { next::usable(moved) };
        HeapObserver::resized(at.cast(), before, moved.cast(), after, ALIGN);
    }
    moved
}

/// # Safety
/// `at` is an early block of the caller's.
#[cold]
unsafe fn leave_early(at: Ptr, size: usize) -> Ptr {
    // SAFETY: the caller's.
    let new = unsafe { malloc(size) };
    if !new.is_null() {
        let bytes = size.min(next::early_bytes(at));
        // SAFETY: both blocks have so many bytes (the early one in its area), and they do not overlap.
        unsafe { new.cast::<u8>().copy_from_nonoverlapping(at.cast(), bytes) };
    }
    new
}

/// `reallocarray`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(at: Ptr, n: usize, size: usize) -> Ptr {
    let Some(bytes) = n.checked_mul(size) else {
        // SAFETY: the calling thread's own.
        unsafe { *libc::__errno_location() = libc::ENOMEM };
        return core::ptr::null_mut();
    };
    // SAFETY: the caller's.
    unsafe { realloc(at, bytes) }
}

/// `posix_memalign`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(to: *mut Ptr, align: usize, size: usize) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { next::posix_memalign(to, align, size) };
    if result == 0 {
        // SAFETY: the allocator has just written it.
        told(unsafe { *to }, size, align);
    } else if result == libc::ENOMEM {
        HeapObserver::failed(size, align);
    }
    result
}

/// `aligned_alloc`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> Ptr {
    // SAFETY: the caller's.
    told(unsafe { next::aligned_alloc(align, size) }, size, align)
}

/// `memalign`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(align: usize, size: usize) -> Ptr {
    // SAFETY: the caller's.
    told(unsafe { next::memalign(align, size) }, size, align)
}

/// `valloc`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn valloc(size: usize) -> Ptr {
    // SAFETY: the caller's.
    told(unsafe { next::valloc(size) }, size, 4096)
}

/// `pvalloc`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvalloc(size: usize) -> Ptr {
    // SAFETY: the caller's.
    told(unsafe { next::pvalloc(size) }, size, 4096)
}

/// `malloc_usable_size`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(at: Ptr) -> usize {
    if at.is_null() {
        return 0;
    }
    // SAFETY: the caller's.
    if next::is_early(at) { 16 } else { unsafe { next::usable(at) } }
}

/// `cfree`, an old name of `free` that binaries of before 2017 may ask for.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfree(at: Ptr) {
    // SAFETY: the caller's.
    unsafe { free(at) }
}
