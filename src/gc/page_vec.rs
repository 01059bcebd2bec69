//! A growable array on pages from the system: the heap's own tables.
//!
//! The heap must not use the global allocator (invariant 1), so its few tables that grow (chunks, types, roots) stand
//! on [`pages`]. Growing can fail and says so; nothing here panics for want of memory.

use super::OutOfMemory;
use crate::sys::pages;
use core::ptr::NonNull;

/// An array on its own mapping, of values that need no drop. Empty arrays hold no memory.
pub(super) struct PageVec<T> {
    data: NonNull<T>,
    len: usize,
    capacity: usize,
}

impl<T> PageVec<T> {
    pub(super) const fn new() -> Self {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= pages::GRANULE_BYTES && !core::mem::needs_drop::<T>()) };
        PageVec { data: NonNull::dangling(), len: 0, capacity: 0 }
    }

    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: the first `len` elements were written by `push`, and `data` is aligned even when dangling.
        unsafe { core::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and `self` is borrowed for as long.
        unsafe { core::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }

    pub(super) fn push(&mut self, value: T) -> Result<(), OutOfMemory> {
        if self.len == self.capacity {
            self.reserve_one()?;
        }
        // SAFETY: `len < capacity`, so the element lies inside the mapping.
        let at = unsafe { self.data.add(self.len) };
        // SAFETY: as above, and nobody else refers to it.
        unsafe { at.write(value) };
        self.len += 1;
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the element was written by `push`, and no longer counts as part of the array.
        Some(unsafe { self.data.add(self.len).read() })
    }

    /// Takes out the element at `index`; the last one comes into its place.
    pub(super) fn swap_remove(&mut self, index: usize) {
        let s = self.as_mut_slice();
        let last = s.len() - 1;
        s.swap(index, last);
        self.len -= 1;
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes sure that the next `push` cannot fail.
    pub(super) fn reserve_one(&mut self) -> Result<(), OutOfMemory> {
        if self.len < self.capacity {
            return Ok(());
        }
        let bytes = if self.capacity == 0 { pages::GRANULE_BYTES } else { self.bytes() * 2 };
        let to = pages::map(bytes, pages::GRANULE_BYTES).ok_or(OutOfMemory)?.cast::<T>();
        // SAFETY: the new mapping is larger, and apart from the old one.
        unsafe { core::ptr::copy_nonoverlapping(self.data.as_ptr(), to.as_ptr(), self.len) };
        self.release();
        self.data = to;
        self.capacity = bytes / size_of::<T>();
        Ok(())
    }

    /// The size of the mapping in bytes.
    fn bytes(&self) -> usize {
        pages::round_up(self.capacity * size_of::<T>())
    }

    fn release(&mut self) {
        if self.capacity > 0 {
            // SAFETY: the mapping was made by `reserve_one` with this size, and is not used after this.
            unsafe { pages::unmap(self.data.cast(), self.bytes(), pages::GRANULE_BYTES) };
            self.capacity = 0;
        }
    }
}

impl<T> Drop for PageVec<T> {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_over_several_mappings_and_keeps_its_elements() {
        let mut v = PageVec::<(u64, u32)>::new();
        let n = 20_000;
        for i in 0..n {
            v.push((i, i as u32)).unwrap();
        }
        assert!(v.as_slice().iter().copied().eq((0..n).map(|i| (i, i as u32))));
        v.swap_remove(3);
        assert_eq!(v.as_slice()[3], (n - 1, n as u32 - 1));
        assert_eq!(v.pop(), Some((n - 2, n as u32 - 2)));
        v.clear();
        assert_eq!(v.pop(), None);
    }
}
