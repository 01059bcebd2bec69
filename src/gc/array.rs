//! Arrays whose length is known when they are made, and strings: one object on the heap, with its length in front.
//!
//! Small arrays share blocks with others of the same items and about the same size; one of more than 8 KiB has blocks
//! of its own, and the marker visits it in parts. An array that can be written to is one of cells: `GcArray<'gc,
//! GcCell<'gc, T>>`.

use super::OutOfMemory;
use super::arena::Mutation;
use super::chunk::OBJECT_BYTES_SMALL_MAX;
use super::collect::{Collect, Visitor};
use super::heap::Heap;
use super::pointer::Brand;
use super::type_info::{Items, ItemsHead};
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

/// A reference to an array on the heap. One word and `Copy`; derefs to a slice.
///
/// ```
/// use exectrace::gc::{Arena, Config, GcArray, GcCell, Rootable};
/// let mut arena = Arena::<Rootable!['gc => GcArray<'gc, GcCell<'gc, u32>>]>::new(Config::new(), |mc| {
///     mc.alloc_array(1000, |i| GcCell::new(i as u32))
/// });
/// arena.mutate(|mc, array| array[7].set(mc, 70));
/// arena.collect();
/// assert_eq!(arena.mutate(|_, array| array.iter().take(10).map(|c| c.get()).sum::<u32>()), 108);
/// ```
pub struct GcArray<'gc, T> {
    array: NonNull<ItemsHead<T>>,
    brand: Brand<'gc>,
}

impl<'gc, T: Collect> GcArray<'gc, T> {
    /// The items, for as long as the brand lasts.
    #[inline(always)]
    pub fn as_slice(this: Self) -> &'gc [T] {
        // SAFETY: invariant 5: the array is alive for all of `'gc`, and of this type.
        unsafe { Items::slice(this.array.cast()) }
    }

    /// Whether both are the same array.
    #[inline(always)]
    pub fn ptr_eq(a: Self, b: Self) -> bool {
        a.array == b.array
    }

    /// # Safety
    /// `array` is a live array of such items on the heap of brand `'gc`, and stays alive for `'gc` (invariant 5).
    #[inline(always)]
    pub(super) unsafe fn from_erased(array: NonNull<u8>, brand: Brand<'gc>) -> Self {
        GcArray { array: array.cast(), brand }
    }

    #[inline(always)]
    pub(super) fn as_erased(this: Self) -> NonNull<u8> {
        this.array.cast()
    }
}

impl<'gc> Mutation<'gc> {
    /// An array with `len` items, which `item` makes by their index.
    ///
    /// # Panics
    /// When there is no memory, and if `item` does; the items made until then are dropped when the collector finds the
    /// array.
    pub fn alloc_array<T: Collect + 'gc>(&self, len: usize, item: impl FnMut(usize) -> T) -> GcArray<'gc, T> {
        match self.try_alloc_array(len, item) {
            Ok(array) => array,
            Err(e) => e.raise(),
        }
    }

    /// An array with `len` items, which `item` makes by their index.
    ///
    /// # Errors
    /// When there is no memory. See [`Mutation::try_alloc`].
    ///
    /// # Panics
    /// If `item` does.
    pub fn try_alloc_array<T: Collect + 'gc>(
        &self,
        len: usize,
        mut item: impl FnMut(usize) -> T,
    ) -> Result<GcArray<'gc, T>, OutOfMemory> {
        let at = self.heap().alloc_items::<T>(len)?;
        let array = at.cast::<ItemsHead<T>>();
        // The array holds as many items as are made at any time, also if `item` allocates or panics.
        // SAFETY: a fresh slot that is large enough for the head.
        let made = unsafe { &raw mut (*array.as_ptr()).len };
        // SAFETY: a fresh array of items of type `T`.
        let first = unsafe { Items::<T>::first(at) };
        for i in 0..len {
            let value = item(i);
            // SAFETY: the slot is large enough for `len` items.
            let place = unsafe { first.add(i) };
            // SAFETY: as above; nobody else refers to it.
            unsafe { place.write(value) };
            // SAFETY: the head was written above.
            unsafe { made.write(i + 1) };
        }
        Ok(GcArray { array, brand: PhantomData })
    }

    /// A copy of a slice.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn alloc_slice<T: Collect + Copy + 'gc>(&self, items: &[T]) -> GcArray<'gc, T> {
        self.alloc_array(items.len(), |i| items[i])
    }

    /// A copy of a string.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn alloc_str(&self, text: &str) -> GcString<'gc> {
        GcString(self.alloc_slice(text.as_bytes()))
    }
}

impl Heap {
    /// An array with no items made, and room for `capacity`.
    pub(super) fn alloc_items<T: Collect>(&self, capacity: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let bytes = Items::<T>::bytes(capacity).ok_or(OutOfMemory)?;
        let info = Items::<T>::info_for(bytes);
        let at = if bytes > OBJECT_BYTES_SMALL_MAX {
            self.alloc_large(info, bytes.next_multiple_of(16))?
        } else {
            self.alloc_slot(info, info.slot_bytes)?
        };
        // SAFETY: a fresh slot that is large enough for the head.
        unsafe { at.cast::<usize>().write(0) };
        Ok(at)
    }
}

impl<T> Clone for GcArray<'_, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GcArray<'_, T> {}

impl<T: Collect> Deref for GcArray<'_, T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: as in `as_slice`; `self` is not used beyond the brand.
        unsafe { Items::slice(self.array.cast()) }
    }
}

// SAFETY: the one reference is shown; it does nothing when dropped and cannot be changed in place.
unsafe impl<T: Collect> Collect for GcArray<'_, T> {
    #[inline(always)]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        visitor.array(*self);
    }
}

impl<T: Collect + fmt::Debug> fmt::Debug for GcArray<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A reference to a string on the heap, which does not change. One word and `Copy`; derefs to `str`.
#[derive(Clone, Copy)]
pub struct GcString<'gc>(GcArray<'gc, u8>);

impl<'gc> GcString<'gc> {
    /// A copy of a string. As [`Mutation::alloc_str`], which panics instead.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn try_new(mc: &Mutation<'gc>, text: &str) -> Result<Self, OutOfMemory> {
        let bytes = text.as_bytes();
        mc.try_alloc_array(bytes.len(), |i| bytes[i]).map(GcString)
    }

    /// Whether both are the same object.
    #[inline(always)]
    pub fn ptr_eq(a: Self, b: Self) -> bool {
        GcArray::ptr_eq(a.0, b.0)
    }
}

impl Deref for GcString<'_> {
    type Target = str;
    #[inline(always)]
    fn deref(&self) -> &str {
        // SAFETY: made from a `str` by `alloc_str`, and never written to.
        unsafe { core::str::from_utf8_unchecked(&self.0) }
    }
}

// SAFETY: the array is shown.
unsafe impl Collect for GcString<'_> {
    #[inline(always)]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        visitor.array(self.0);
    }
}

impl PartialEq for GcString<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for GcString<'_> {}

impl PartialOrd for GcString<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for GcString<'_> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl core::hash::Hash for GcString<'_> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Display for GcString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for GcString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
