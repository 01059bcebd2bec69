//! [`GcVec`]: an array that grows, with its items on the heap.
//!
//! The items stand in an array object with room to spare, whose length is that of the vector. Each item has the write
//! barrier to itself, and the marker visits long arrays in parts: so a vector of a million items never holds the program
//! up, as a `GcRefCell<Vec<_>>` of that length would, which is shown to the marker as a whole.

use super::OutOfMemory;
use super::arena::Mutation;
use super::array::GcArray;
use super::cell::GcCell;
use super::chunk::block_of;
use super::collect::{Collect, Visitor};
use super::type_info::{Items, ItemsHead};
use core::fmt;
use core::marker::PhantomData;

/// The capacity of the first array, in items.
const CAPACITY_MIN: usize = 4;

/// A growable array of `Copy` values, such as references, on the heap. Itself one word, to be a field of an object.
///
/// It is changed through a shared borrow, as a cell is: there is nothing to borrow mutably, and so nothing that panics.
///
/// ```
/// use exectrace::gc::{Arena, Config, Gc, GcVec, Rootable};
/// let mut arena = Arena::<Rootable!['gc => GcVec<'gc, Gc<'gc, u64>>]>::new(Config::new(), |_| GcVec::new());
/// for i in 0..1000 {
///     arena.mutate(|mc, vec| vec.push(mc, mc.alloc(i)));
///     arena.safepoint();
/// }
/// arena.mutate(|mc, vec| {
///     assert_eq!(vec.pop(mc).map(|x| *x), Some(999));
///     vec.set(mc, 0, mc.alloc(7));
///     assert_eq!(vec.iter().map(|x| *x).sum::<u64>(), 999 * 998 / 2 + 7);
/// });
/// ```
pub struct GcVec<'gc, T> {
    items: GcCell<'gc, Option<GcArray<'gc, GcCell<'gc, T>>>>,
}

impl<'gc, T: Collect + Copy + 'gc> GcVec<'gc, T> {
    /// An empty one, which takes no memory.
    pub const fn new() -> Self {
        GcVec { items: GcCell::new(None) }
    }

    /// The number of items.
    #[inline]
    pub fn len(&self) -> usize {
        self.items.get().map_or(0, |a| a.len())
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items there is room for without a larger array.
    pub fn capacity(&self) -> usize {
        self.items.get().map_or(0, capacity)
    }

    /// The item at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<T> {
        self.items.get()?.get(index).map(GcCell::get)
    }

    /// The last item.
    pub fn last(&self) -> Option<T> {
        self.items.get()?.last().map(GcCell::get)
    }

    /// Overwrites an item. `false`, and nothing is done, if there is none at `index`.
    #[inline]
    pub fn set(&self, mc: &Mutation<'gc>, index: usize, value: T) -> bool {
        let Some(items) = self.items.get() else { return false };
        let Some(cell) = items.get(index) else { return false };
        cell.set(mc, value);
        true
    }

    /// Adds an item at the end.
    ///
    /// # Panics
    /// When there is no memory.
    #[inline]
    pub fn push(&self, mc: &Mutation<'gc>, value: T) {
        if let Err(e) = self.try_push(mc, value) {
            e.raise()
        }
    }

    /// Adds an item at the end.
    ///
    /// # Errors
    /// When there is no memory; the vector is as it was.
    #[inline]
    pub fn try_push(&self, mc: &Mutation<'gc>, value: T) -> Result<(), OutOfMemory> {
        let items = match self.items.get() {
            Some(items) if items.len() < capacity(items) => items,
            _ => self.grow(mc, 1)?,
        };
        // SAFETY: there is room for one more item.
        unsafe { append(mc, items, value) };
        Ok(())
    }

    /// Makes room for `more` items.
    ///
    /// # Errors
    /// When there is no memory; the vector is as it was.
    pub fn try_reserve(&self, mc: &Mutation<'gc>, more: usize) -> Result<(), OutOfMemory> {
        let room = self.capacity() - self.len();
        if more > room {
            self.grow(mc, more)?;
        }
        Ok(())
    }

    /// Takes the last item off.
    pub fn pop(&self, mc: &Mutation<'gc>) -> Option<T> {
        let last = self.last()?;
        self.truncate(mc, self.len() - 1);
        Some(last)
    }

    /// Leaves the first `len` items, and the room.
    pub fn truncate(&self, mc: &Mutation<'gc>, len: usize) {
        let Some(items) = self.items.get() else { return };
        let old = GcArray::as_slice(items);
        if len >= old.len() {
            return;
        }
        if T::NEEDS_VISIT && mc.heap().is_snapshot_on() {
            // What goes was there when the cycle began.
            old[len..].iter().for_each(|cell| mc.heap().show_to_marker(cell));
        }
        // SAFETY: fewer items than were made. They are `Copy`, so nothing is to be dropped; and a slice that somebody
        // holds of them still reads what was written there, or what is written there later, through cells.
        unsafe { set_len(items, len) };
    }

    /// Takes the item at `index` out; the last one comes into its place.
    pub fn swap_remove(&self, mc: &Mutation<'gc>, index: usize) -> Option<T> {
        let out = self.get(index)?;
        let last = self.pop(mc)?;
        self.set(mc, index, last);
        Some(out)
    }

    /// Puts an item at `index` and moves those behind it, one by one. `false`, and nothing is done, if `index` is beyond
    /// the end.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn insert(&self, mc: &Mutation<'gc>, index: usize, value: T) -> bool {
        let len = self.len();
        if index > len {
            return false;
        }
        self.push(mc, value);
        for i in (index..len).rev() {
            self.swap(mc, i, i + 1);
        }
        true
    }

    /// Takes the item at `index` out and moves those behind it, one by one.
    pub fn remove(&self, mc: &Mutation<'gc>, index: usize) -> Option<T> {
        let out = self.get(index)?;
        for i in index + 1..self.len() {
            self.swap(mc, i - 1, i);
        }
        self.pop(mc);
        Some(out)
    }

    fn swap(&self, mc: &Mutation<'gc>, a: usize, b: usize) {
        if let (Some(x), Some(y)) = (self.get(a), self.get(b)) {
            self.set(mc, a, y);
            self.set(mc, b, x);
        }
    }

    /// The items, as they are when the iterator comes to them.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'_, 'gc, T> {
        let mut next = 0;
        core::iter::from_fn(move || {
            let item = self.get(next)?;
            next += 1;
            Some(item)
        })
    }

    /// An array with room for `more` items, and the old ones in it.
    #[cold]
    fn grow(&self, mc: &Mutation<'gc>, more: usize) -> Result<GcArray<'gc, GcCell<'gc, T>>, OutOfMemory> {
        let old = self.items.get();
        let len = self.len();
        let needed = len.checked_add(more).ok_or(OutOfMemory)?;
        let array = mc.alloc_room::<GcCell<'gc, T>>(needed.max(len.saturating_mul(2)).max(CAPACITY_MIN))?;
        for item in old.iter().flat_map(|a| a.iter()) {
            // SAFETY: the new array has room for them all.
            unsafe { append(mc, array, item.get()) };
        }
        self.items.set(mc, Some(array));
        Ok(array)
    }
}

/// How many items the array's slot has room for.
fn capacity<T: Collect>(array: GcArray<'_, T>) -> usize {
    // SAFETY: an array of a heap that is alive.
    let block = unsafe { block_of(GcArray::as_erased(array)) };
    let bytes = block.header().slot_bytes.get() - size_of::<ItemsHead<T>>();
    bytes.checked_div(size_of::<T>()).unwrap_or(usize::MAX)
}

/// # Safety
/// The array has room for one more item.
unsafe fn append<'gc, T: Collect + Copy>(mc: &Mutation<'gc>, array: GcArray<'gc, GcCell<'gc, T>>, value: T) {
    let at = GcArray::as_erased(array);
    let len = array.len();
    if T::NEEDS_VISIT {
        mc.heap().before_append(at.addr().get(), &value);
    }
    // SAFETY: an array of such items.
    let first = unsafe { Items::<GcCell<'gc, T>>::first(at) };
    // SAFETY: the caller's: the place lies in the array's slot.
    let place = unsafe { first.add(len) };
    // SAFETY: as above; no slice reaches beyond the items, or if one does, from before items were taken off, it is one of
    // cells.
    unsafe { place.write(GcCell::new(value)) };
    // SAFETY: the item was written.
    unsafe { set_len(array, len + 1) };
}

/// # Safety
/// The first `len` items are made.
unsafe fn set_len<T: Collect>(array: GcArray<'_, T>, len: usize) {
    let head = GcArray::as_erased(array).cast::<ItemsHead<T>>();
    // SAFETY: the array's head; nobody borrows its length, which is read by value wherever it is.
    unsafe { (&raw mut (*head.as_ptr()).len).write(len) };
}

// SAFETY: the array is shown, through the cell.
unsafe impl<T: Collect> Collect for GcVec<'_, T> {
    #[inline]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        self.items.visit(visitor);
    }
}

impl<'gc, T: Collect + Copy + 'gc> Default for GcVec<'gc, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'gc, T: Collect + Copy + fmt::Debug + 'gc> fmt::Debug for GcVec<'gc, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'gc> Mutation<'gc> {
    /// An array with room for `capacity` items, and none made.
    pub(super) fn alloc_room<T: Collect + 'gc>(&self, capacity: usize) -> Result<GcArray<'gc, T>, OutOfMemory> {
        let at = self.heap().alloc_items::<T>(capacity)?;
        // SAFETY: a fresh array of such items.
        Ok(unsafe { GcArray::from_erased(at, PhantomData) })
    }
}
