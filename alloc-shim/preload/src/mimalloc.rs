//! mimalloc in the place of the program's allocator: `--mimalloc`.
//!
//! It is linked into this library, and its own names are not to be seen from outside: a program that has another mimalloc keeps that.
//! It comes in with the library's constructor. What was allocated before that, by the loader and by libraries whose constructors ran
//! earlier, belongs to the allocator that was there, and goes back to it: each function that takes a block asks first whose it is.
//!
//! mimalloc does not prepare for `fork`: in the child of a process with several threads a lock of its slow paths may be held by a thread
//! that is not there. Who forks from many threads and does not `exec` keeps his own allocator.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering::*};

use libmimalloc_sys as _;

type Ptr = *mut c_void;

mod mi {
    use super::{Ptr, c_int};

    unsafe extern "C" {
        pub(super) fn mi_malloc(size: usize) -> Ptr;
        pub(super) fn mi_calloc(n: usize, size: usize) -> Ptr;
        pub(super) fn mi_realloc(at: Ptr, size: usize) -> Ptr;
        pub(super) fn mi_free(at: Ptr);
        pub(super) fn mi_usable_size(at: Ptr) -> usize;
        pub(super) fn mi_is_in_heap_region(at: Ptr) -> bool;
        pub(super) fn mi_posix_memalign(to: *mut Ptr, align: usize, size: usize) -> c_int;
        pub(super) fn mi_memalign(align: usize, size: usize) -> Ptr;
        pub(super) fn mi_aligned_alloc(align: usize, size: usize) -> Ptr;
        pub(super) fn mi_valloc(size: usize) -> Ptr;
        pub(super) fn mi_pvalloc(size: usize) -> Ptr;
    }
}

/// `free`, `realloc` and `malloc_usable_size` of the allocator that was there. Written once, before anything here is called.
static BEFORE: [AtomicPtr<c_void>; 3] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 3];

/// Takes the functions for blocks that are not mimalloc's, and has mimalloc make itself ready.
pub(crate) fn prepare(before: [Ptr; 3]) {
    for (place, f) in BEFORE.iter().zip(before) {
        place.store(f, Relaxed);
    }
    // SAFETY: a block, and its end.
    unsafe { mi::mi_free(mi::mi_malloc(1)) };
}

/// Whether a block is mimalloc's.
#[inline(always)]
fn is_own(at: Ptr) -> bool {
    // SAFETY: it takes any address.
    unsafe { mi::mi_is_in_heap_region(at) }
}

/// What failed says so, as the C library has it.
#[inline(always)]
fn told(at: Ptr) -> Ptr {
    if at.is_null() {
        no_memory();
    }
    at
}

#[cold]
fn no_memory() {
    // SAFETY: the calling thread's own.
    unsafe { *libc::__errno_location() = libc::ENOMEM };
}

pub(crate) unsafe extern "C" fn malloc(size: usize) -> Ptr {
    // SAFETY: takes any size.
    told(unsafe { mi::mi_malloc(size) })
}

pub(crate) unsafe extern "C" fn calloc(n: usize, size: usize) -> Ptr {
    // SAFETY: takes any sizes.
    told(unsafe { mi::mi_calloc(n, size) })
}

/// # Safety
/// `at` is null or a block.
pub(crate) unsafe extern "C" fn free(at: Ptr) {
    if is_own(at) {
        // SAFETY: the caller's.
        return unsafe { mi::mi_free(at) };
    }
    let before = BEFORE[0].load(Relaxed);
    if !at.is_null() && !before.is_null() {
        // SAFETY: the allocator's function of that name.
        let f = unsafe { core::mem::transmute::<Ptr, unsafe extern "C" fn(Ptr)>(before) };
        // SAFETY: the caller's: a block, which that one made.
        unsafe { f(at) };
    }
}

/// # Safety
/// `at` is null or a block.
pub(crate) unsafe extern "C" fn usable(at: Ptr) -> usize {
    if is_own(at) {
        // SAFETY: the caller's.
        return unsafe { mi::mi_usable_size(at) };
    }
    let before = BEFORE[2].load(Relaxed);
    if at.is_null() || before.is_null() {
        return 0;
    }
    // SAFETY: the allocator's function of that name.
    let f = unsafe { core::mem::transmute::<Ptr, unsafe extern "C" fn(Ptr) -> usize>(before) };
    // SAFETY: the caller's: a block, which that one made.
    unsafe { f(at) }
}

/// # Safety
/// `at` is null or a block.
pub(crate) unsafe extern "C" fn realloc(at: Ptr, size: usize) -> Ptr {
    if at.is_null() || is_own(at) {
        // SAFETY: the caller's.
        return told(unsafe { mi::mi_realloc(at, size) });
    }
    // SAFETY: takes any size.
    let new = told(unsafe { mi::mi_malloc(size) });
    if !new.is_null() {
        // SAFETY: the caller's.
        let bytes = unsafe { usable(at) }.min(size);
        // SAFETY: both blocks have so many bytes, and a new one is no other.
        unsafe { new.cast::<u8>().copy_from_nonoverlapping(at.cast(), bytes) };
        // SAFETY: the caller's.
        unsafe { free(at) };
    }
    new
}

/// # Safety
/// As for the C library's.
pub(crate) unsafe extern "C" fn posix_memalign(to: *mut Ptr, align: usize, size: usize) -> c_int {
    // SAFETY: the caller's.
    unsafe { mi::mi_posix_memalign(to, align, size) }
}

pub(crate) unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> Ptr {
    // SAFETY: takes any sizes.
    told(unsafe { mi::mi_aligned_alloc(align, size) })
}

pub(crate) unsafe extern "C" fn memalign(align: usize, size: usize) -> Ptr {
    // SAFETY: takes any sizes.
    told(unsafe { mi::mi_memalign(align, size) })
}

pub(crate) unsafe extern "C" fn valloc(size: usize) -> Ptr {
    // SAFETY: takes any size.
    told(unsafe { mi::mi_valloc(size) })
}

pub(crate) unsafe extern "C" fn pvalloc(size: usize) -> Ptr {
    // SAFETY: takes any size.
    told(unsafe { mi::mi_pvalloc(size) })
}
