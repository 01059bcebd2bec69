//! A global allocator that tells an observer what it does.
//!
//! [`Shim`] wraps any [`GlobalAlloc`] and calls an [`Observer`] beside each operation. The observer is a type, not a value: its
//! functions are known when the wrapper is compiled and are inlined into it. An observer that keeps a few thread-local counters
//! costs about a nanosecond an operation; one that does nothing costs nothing.
//!
//! ```
//! use std::alloc::System;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//!
//! use exectrace_alloc_shim::{Observer, Shim};
//!
//! static LIVE: AtomicUsize = AtomicUsize::new(0);
//!
//! struct Count;
//!
//! impl Observer for Count {
//!     fn allocated(_at: *mut u8, size: usize, _align: usize) {
//!         LIVE.fetch_add(size, Ordering::Relaxed);
//!     }
//!     fn freeing(_at: *mut u8, size: usize, _align: usize) {
//!         LIVE.fetch_sub(size, Ordering::Relaxed);
//!     }
//! }
//!
//! #[global_allocator]
//! static ALLOC: Shim<System, Count> = Shim::with(System);
//!
//! fn main() {
//!     let before = LIVE.load(Ordering::Relaxed);
//!     let v = vec![0u8; 1000];
//!     assert_eq!(LIVE.load(Ordering::Relaxed), before + 1000);
//!     drop(v);
//! }
//! ```

#![no_std]

#[cfg(all(feature = "std", not(feature = "mimalloc")))]
extern crate std;

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::marker::PhantomData;

#[cfg(feature = "mimalloc")]
pub use mimalloc::MiMalloc;

/// How many bytes mimalloc has committed from the system, by its own statistics; 0 if it is not used. Under a microsecond; it
/// allocates nothing.
#[cfg(feature = "mimalloc")]
#[must_use]
pub fn mimalloc_committed() -> usize {
    // Of mimalloc's public interface (`mimalloc.h`); each argument may be null.
    unsafe extern "C" {
        fn mi_process_info(
            elapsed_ms: *mut usize,
            user_ms: *mut usize,
            system_ms: *mut usize,
            rss: *mut usize,
            rss_peak: *mut usize,
            committed: *mut usize,
            committed_peak: *mut usize,
            faults: *mut usize,
        );
    }
    let none = core::ptr::null_mut();
    let mut committed = 0;
    // SAFETY: `committed` may be written to, and the other figures are not wanted.
    unsafe { mi_process_info(none, none, none, none, none, &mut committed, none, none) };
    committed
}

/// What happens in an allocator. All functions do nothing unless overridden.
///
/// They run inside the allocator, on the thread that called it, also before `main`, in destructors of thread-locals and in
/// threads of other languages: they must not allocate through the global allocator (or must bear being called inside themselves),
/// must not panic, and must be quick.
pub trait Observer {
    /// `size` bytes have been allocated at `at`.
    #[inline(always)]
    fn allocated(at: *mut u8, size: usize, align: usize) {
        let _ = (at, size, align);
    }

    /// The block at `at` is about to be freed. Told before, not after: afterwards another thread may have been given it.
    #[inline(always)]
    fn freeing(at: *mut u8, size: usize, align: usize) {
        let _ = (at, size, align);
    }

    /// The block of `old_size` bytes at `old` is now one of `new_size` bytes at `new`, which may be the same place. Told
    /// after; `old` may already belong to another thread.
    #[inline(always)]
    fn resized(old: *mut u8, old_size: usize, new: *mut u8, new_size: usize, align: usize) {
        let _ = (old, old_size, new, new_size, align);
    }

    /// The inner allocator had no memory for `size` bytes.
    #[inline(always)]
    fn failed(size: usize, align: usize) {
        let _ = (size, align);
    }
}

/// A [`GlobalAlloc`] that passes everything on to `A` and tells `O` about it.
pub struct Shim<A, O> {
    inner: A,
    observer: PhantomData<fn() -> O>,
}

impl<A, O> Shim<A, O> {
    /// Wraps `inner`.
    pub const fn with(inner: A) -> Shim<A, O> {
        Shim { inner, observer: PhantomData }
    }

    /// The wrapped allocator. What is allocated through it directly is not observed.
    pub const fn inner(&self) -> &A {
        &self.inner
    }
}

#[cfg(feature = "mimalloc")]
impl<O> Shim<MiMalloc, O> {
    /// Wraps mimalloc.
    #[allow(clippy::new_without_default, reason = "a global allocator is made in a static, where Default is of no use")]
    pub const fn new() -> Shim<MiMalloc, O> {
        Shim::with(MiMalloc)
    }
}

#[cfg(all(feature = "std", not(feature = "mimalloc")))]
impl<O> Shim<std::alloc::System, O> {
    /// Wraps the system's allocator.
    #[allow(clippy::new_without_default, reason = "a global allocator is made in a static, where Default is of no use")]
    pub const fn new() -> Shim<std::alloc::System, O> {
        Shim::with(std::alloc::System)
    }
}

impl<A: fmt::Debug, O> fmt::Debug for Shim<A, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shim").field("inner", &self.inner).finish_non_exhaustive()
    }
}

// SAFETY: every call goes to the inner allocator with the same arguments and returns what it returned; observers see addresses
// but do not own them.
unsafe impl<A: GlobalAlloc, O: Observer> GlobalAlloc for Shim<A, O> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let at = unsafe { self.inner.alloc(layout) };
        told::<O>(at, layout)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let at = unsafe { self.inner.alloc_zeroed(layout) };
        told::<O>(at, layout)
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        O::freeing(at, layout.size(), layout.align());
        // SAFETY: the caller's.
        unsafe { self.inner.dealloc(at, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's.
        let new = unsafe { self.inner.realloc(at, layout, new_size) };
        if new.is_null() {
            O::failed(new_size, layout.align());
        } else {
            O::resized(at, layout.size(), new, new_size, layout.align());
        }
        new
    }
}

#[inline(always)]
fn told<O: Observer>(at: *mut u8, layout: Layout) -> *mut u8 {
    if at.is_null() {
        O::failed(layout.size(), layout.align());
    } else {
        O::allocated(at, layout.size(), layout.align());
    }
    at
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::cell::RefCell;
    use std::alloc::System;
    use std::vec;
    use std::vec::Vec;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Seen {
        Allocated(usize, usize),
        Freeing(usize, usize),
        Resized(usize, usize, usize),
        Failed(usize, usize),
    }

    std::thread_local! { static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) }; }

    struct Log;

    fn note(s: Seen) {
        SEEN.with(|l| l.borrow_mut().push(s));
    }

    impl Observer for Log {
        fn allocated(_: *mut u8, size: usize, align: usize) {
            note(Seen::Allocated(size, align));
        }
        fn freeing(_: *mut u8, size: usize, align: usize) {
            note(Seen::Freeing(size, align));
        }
        fn resized(_: *mut u8, old_size: usize, _: *mut u8, new_size: usize, align: usize) {
            note(Seen::Resized(old_size, new_size, align));
        }
        fn failed(size: usize, align: usize) {
            note(Seen::Failed(size, align));
        }
    }

    /// Has memory for nothing.
    struct Empty;

    // SAFETY: it never returns memory.
    unsafe impl GlobalAlloc for Empty {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            core::ptr::null_mut()
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    fn check(f: impl FnOnce(), expected: &[Seen]) {
        SEEN.with(|l| l.borrow_mut().clear());
        f();
        assert_eq!(SEEN.with(|l| l.borrow().clone()), expected);
    }

    #[test]
    fn each_operation_is_told_once_with_its_sizes() {
        let shim: Shim<System, Log> = Shim::with(System);
        let layout = Layout::from_size_align(100, 64).expect("layout");
        check(
            || {
                // SAFETY: the blocks are allocated, resized and freed with matching layouts.
                unsafe {
                    let p = shim.alloc(layout);
                    assert_eq!(p as usize % 64, 0);
                    p.write_bytes(7, 100);
                    let p = shim.realloc(p, layout, 300);
                    assert_eq!((*p, *p.add(99)), (7, 7));
                    shim.dealloc(p, Layout::from_size_align_unchecked(300, 64));
                    let z = shim.alloc_zeroed(layout);
                    assert!((0..100).all(|i| *z.add(i) == 0));
                    shim.dealloc(z, layout);
                }
            },
            &[
                Seen::Allocated(100, 64),
                Seen::Resized(100, 300, 64),
                Seen::Freeing(300, 64),
                Seen::Allocated(100, 64),
                Seen::Freeing(100, 64),
            ],
        );
    }

    #[test]
    fn a_failure_is_told_as_one() {
        let shim: Shim<Empty, Log> = Shim::with(Empty);
        let layout = Layout::from_size_align(10, 2).expect("layout");
        let mut block = vec![0u8; 10];
        check(
            || {
                // SAFETY: the allocator returns null for everything, and its dealloc does nothing.
                unsafe {
                    assert!(shim.alloc(layout).is_null());
                    assert!(shim.alloc_zeroed(layout).is_null());
                    assert!(shim.realloc(block.as_mut_ptr(), layout, 20).is_null());
                }
            },
            &[Seen::Failed(10, 2), Seen::Failed(10, 2), Seen::Failed(20, 2)],
        );
    }
}
