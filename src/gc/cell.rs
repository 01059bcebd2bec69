//! Cells: the only way to change an object after it was allocated, since each write passes the write barrier here.
//!
//! While a cycle marks in steps, what a cell held when the cycle began must still be found, so the old value is marked
//! before it is overwritten (snapshot at the beginning). That needs to know neither the object around the cell nor the
//! new value, and each object is marked once however often cells change, so that marking always comes to its end.

use super::arena::Mutation;
use super::collect::{Collect, Visitor};
use super::pointer::Brand;
use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A place that can be overwritten as a whole, as [`Cell`] is. Costs a load and a branch more than that.
///
/// A heap's cells can only be written with that heap's `mc`:
/// ```compile_fail,E0521
/// use exectrace::gc::{Arena, Config, GcCell, Gc, Rootable};
/// type Root = Rootable!['gc => GcCell<'gc, Option<Gc<'gc, u32>>>];
/// let mut a = Arena::<Root>::new(Config::new(), |_| GcCell::new(None));
/// let mut b = Arena::<Root>::new(Config::new(), |_| GcCell::new(None));
/// a.mutate(|_, in_a| b.mutate(|mc, _| in_a.set(mc, None)));
/// ```
pub struct GcCell<'gc, T> {
    value: UnsafeCell<T>,
    brand: Brand<'gc>,
}

impl<'gc, T: Collect> GcCell<'gc, T> {
    /// A cell with a value in it.
    #[inline(always)]
    pub const fn new(value: T) -> Self {
        GcCell { value: UnsafeCell::new(value), brand: PhantomData }
    }

    /// The value.
    #[inline(always)]
    pub fn get(&self) -> T
    where
        T: Copy,
    {
        // SAFETY: nobody holds a mutable borrow: `replace` gives its up before it returns, and the heap is of one
        // thread.
        unsafe { *self.value.get() }
    }

    /// Overwrites the value.
    #[inline(always)]
    pub fn set(&self, mc: &Mutation<'gc>, value: T) {
        drop(self.replace(mc, value));
    }

    /// Overwrites the value and returns the old one.
    #[inline(always)]
    pub fn replace(&self, mc: &Mutation<'gc>, value: T) -> T {
        if T::NEEDS_VISIT {
            // SAFETY: as in `get`. The marker reads the value, and nothing else runs meanwhile.
            mc.heap().before_write(unsafe { &*self.value.get() }, Some(&value));
        }
        // SAFETY: nobody else holds a borrow.
        mem::replace(unsafe { &mut *self.value.get() }, value)
    }

    /// Takes the value out and leaves the default.
    #[inline]
    pub fn take(&self, mc: &Mutation<'gc>) -> T
    where
        T: Default,
    {
        self.replace(mc, T::default())
    }
}

// SAFETY: the value is shown as it is now; it changes only through `replace`, which has the barrier.
unsafe impl<T: Collect> Collect for GcCell<'_, T> {
    const NEEDS_VISIT: bool = T::NEEDS_VISIT;
    #[inline(always)]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        // SAFETY: nothing writes the cell while its object is visited.
        unsafe { &*self.value.get() }.visit(visitor);
    }
}

impl<T: Collect + Default> Default for GcCell<'_, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: Collect + Copy + fmt::Debug> fmt::Debug for GcCell<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GcCell").field(&self.get()).finish()
    }
}

/// A place whose value can be changed in part, borrowed for a while as with [`RefCell`](core::cell::RefCell).
///
/// The first mutable borrow in a marking phase costs a visit of all that the value refers to, later ones a comparison.
pub struct GcRefCell<'gc, T> {
    /// -1: borrowed mutably; else the number of shared borrows.
    borrows: Cell<isize>,
    /// The cycle in which all references of the value were marked by the barrier; 0 for none.
    shown_in: Cell<u64>,
    value: UnsafeCell<T>,
    brand: Brand<'gc>,
}

impl<'gc, T: Collect> GcRefCell<'gc, T> {
    /// A cell with a value in it.
    pub const fn new(value: T) -> Self {
        GcRefCell { borrows: Cell::new(0), shown_in: Cell::new(0), value: UnsafeCell::new(value), brand: PhantomData }
    }

    /// Borrows the value.
    ///
    /// # Panics
    /// If it is borrowed mutably.
    #[track_caller]
    #[inline]
    pub fn borrow(&self) -> GcRef<'_, T> {
        self.try_borrow().expect("already borrowed mutably")
    }

    /// Borrows the value, unless it is borrowed mutably.
    #[inline]
    pub fn try_borrow(&self) -> Option<GcRef<'_, T>> {
        let n = self.borrows.get();
        if n < 0 {
            return None;
        }
        self.borrows.set(n.checked_add(1)?);
        // SAFETY: the address of a field is not null.
        let value = unsafe { NonNull::new_unchecked(self.value.get()) };
        Some(GcRef { value, borrows: &self.borrows, life: PhantomData })
    }

    /// Borrows the value mutably.
    ///
    /// # Panics
    /// If it is borrowed.
    #[track_caller]
    #[inline]
    pub fn borrow_mut(&self, mc: &Mutation<'gc>) -> GcRefMut<'_, T> {
        self.try_borrow_mut(mc).expect("already borrowed")
    }

    /// Borrows the value mutably, unless it is borrowed.
    #[inline]
    pub fn try_borrow_mut(&self, mc: &Mutation<'gc>) -> Option<GcRefMut<'_, T>> {
        if self.borrows.get() != 0 {
            return None;
        }
        let heap = mc.heap();
        if T::NEEDS_VISIT && !(heap.is_snapshot_on() && self.shown_in.replace(heap.cycle()) == heap.cycle()) {
            // SAFETY: nobody holds a mutable borrow.
            heap.before_write(unsafe { &*self.value.get() }, None);
        }
        self.borrows.set(-1);
        // SAFETY: the address of a field is not null.
        let value = unsafe { NonNull::new_unchecked(self.value.get()) };
        Some(GcRefMut { value, borrows: &self.borrows, life: PhantomData })
    }
}

// SAFETY: the value is shown as it is now, and changes only under a mutable borrow. While that lasts there is nothing
// to show: `try_borrow_mut` has marked all that the value held when the cycle began, and a cycle cannot begin under a
// borrow. (One whose guard was leaked can no more be read.)
unsafe impl<T: Collect> Collect for GcRefCell<'_, T> {
    const NEEDS_VISIT: bool = T::NEEDS_VISIT;
    #[inline]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        if self.borrows.get() >= 0 {
            // SAFETY: nobody holds a mutable borrow.
            unsafe { &*self.value.get() }.visit(visitor);
        }
    }
}

impl<T: Collect + Default> Default for GcRefCell<'_, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A shared borrow of a [`GcRefCell`]'s value.
pub struct GcRef<'a, T> {
    // A pointer, since a reference as an argument would claim to be valid until the function returns, also after the
    // guard's drop.
    value: NonNull<T>,
    borrows: &'a Cell<isize>,
    life: PhantomData<&'a T>,
}

impl<T> Deref for GcRef<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: no mutable borrow exists, and none is given out while the count is above 0, as it is until this is
        // dropped.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for GcRef<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.borrows.set(self.borrows.get() - 1);
    }
}

/// The mutable borrow of a [`GcRefCell`]'s value.
pub struct GcRefMut<'a, T> {
    value: NonNull<T>,
    borrows: &'a Cell<isize>,
    life: PhantomData<&'a mut T>,
}

impl<T> Deref for GcRefMut<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: no other borrow exists, and none is given out while the count is -1, as it is until this is dropped.
        // The marker keeps off as well.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for GcRefMut<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Drop for GcRefMut<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.borrows.set(0);
    }
}
