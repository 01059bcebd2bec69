//! One value on pages from the system, at an address that stays: for what other threads look at.

use super::OutOfMemory;
use crate::sys::pages;
use core::ops::Deref;
use core::ptr::NonNull;

/// A value on a mapping of its own.
pub(super) struct PageBox<T>(NonNull<T>);

impl<T> PageBox<T> {
    const BYTES: usize = pages::round_up(size_of::<T>());

    pub(super) fn new(value: T) -> Result<Self, OutOfMemory> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= pages::GRANULE_BYTES) };
        let at = pages::map(Self::BYTES, pages::GRANULE_BYTES).ok_or(OutOfMemory)?.cast::<T>();
        // SAFETY: a fresh mapping that is large enough.
        unsafe { at.write(value) };
        Ok(PageBox(at))
    }

    pub(super) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Deref for PageBox<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: written by `new`, and mapped until this is dropped. Only shared references are given out.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for PageBox<T> {
    fn drop(&mut self) {
        // SAFETY: written by `new`, and dropped once.
        unsafe { self.0.drop_in_place() };
        // SAFETY: the mapping of `new`, which nobody uses any more.
        unsafe { pages::unmap(self.0.cast(), Self::BYTES, pages::GRANULE_BYTES) };
    }
}
