//! [`Gc`]: the reference from the program to an object, and from one object to another.

use super::arena::Mutation;
use super::collect::Collect;
use core::cell::Cell;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

/// Makes a type invariant in `'gc`, so that the brands of two heaps, or of two calls of `mutate`, never agree.
pub(super) type Brand<'gc> = PhantomData<Cell<&'gc ()>>;

/// A reference to an object of type `T` on the heap of brand `'gc`. One word, `Copy`, and free to follow.
///
/// It cannot leave the call of [`Arena::mutate`](super::Arena::mutate) that it belongs to:
/// ```compile_fail,E0521
/// use exectrace::gc::{Arena, Config, Gc, Rootable};
/// let mut arena = Arena::<Rootable!['gc => Gc<'gc, u32>]>::new(Config::new(), |mc| mc.alloc(1));
/// let mut leaked = None;
/// arena.mutate(|_, root| leaked = Some(*root));
/// ```
/// and not be put on another heap:
/// ```compile_fail,E0521
/// use exectrace::gc::{Arena, Config, Gc, Rootable};
/// type Root = Rootable!['gc => Gc<'gc, u32>];
/// let mut a = Arena::<Root>::new(Config::new(), |mc| mc.alloc(1));
/// let mut b = Arena::<Root>::new(Config::new(), |mc| mc.alloc(2));
/// a.mutate(|_, in_a| b.mutate(|mc, _| { mc.alloc(*in_a); }));
/// ```
/// nor be given to another thread, whatever it refers to:
/// ```compile_fail,E0277
/// use exectrace::gc::{Arena, Config, Gc, Rootable};
/// let mut arena = Arena::<Rootable!['gc => Gc<'gc, u32>]>::new(Config::new(), |mc| mc.alloc(1));
/// arena.mutate(|_, root| std::thread::scope(|s| { s.spawn(|| **root); }));
/// ```
pub struct Gc<'gc, T> {
    object: NonNull<T>,
    brand: Brand<'gc>,
}

impl<'gc, T: Collect + 'gc> Gc<'gc, T> {
    /// Puts a value on the heap. The same as [`Mutation::alloc`].
    ///
    /// # Panics
    /// When there is no memory.
    #[inline(always)]
    pub fn new(mc: &Mutation<'gc>, value: T) -> Self {
        mc.alloc(value)
    }
}

impl<'gc, T> Gc<'gc, T> {
    /// # Safety
    /// `object` is a live object of type `T` on the heap of brand `'gc`, and stays alive for `'gc` (invariant 5). The
    /// pointer may be used for its whole chunk.
    #[inline(always)]
    pub(super) unsafe fn from_erased(object: NonNull<u8>) -> Self {
        Gc { object: object.cast(), brand: PhantomData }
    }

    #[inline(always)]
    pub(super) fn as_erased(this: Self) -> NonNull<u8> {
        this.object.cast()
    }

    /// The object, for as long as the brand lasts.
    #[allow(clippy::should_implement_trait)] // It is implemented too, for a shorter lifetime.
    #[inline(always)]
    pub fn as_ref(this: Self) -> &'gc T {
        // SAFETY: invariant 5: a `Gc` refers to a live object for all of `'gc`; objects are never borrowed mutably.
        unsafe { this.object.as_ref() }
    }

    /// The object's address. It does not change while the object lives.
    #[inline(always)]
    pub fn as_ptr(this: Self) -> *const T {
        this.object.as_ptr()
    }

    /// Whether both are the same object.
    #[inline(always)]
    pub fn ptr_eq(a: Self, b: Self) -> bool {
        a.object == b.object
    }
}

impl<T> Clone for Gc<'_, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Gc<'_, T> {}

impl<T> Deref for Gc<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: as in `as_ref`; `self` is not used beyond the brand.
        unsafe { self.object.as_ref() }
    }
}

impl<T> AsRef<T> for Gc<'_, T> {
    fn as_ref(&self) -> &T {
        self.deref()
    }
}

impl<T: fmt::Debug> fmt::Debug for Gc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: fmt::Display> fmt::Display for Gc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl<T> fmt::Pointer for Gc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&self.object, f)
    }
}

impl<T: PartialEq> PartialEq for Gc<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Gc<'_, T> {}

impl<T: PartialOrd> PartialOrd for Gc<'_, T> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        (**self).partial_cmp(&**other)
    }
}

impl<T: Ord> Ord for Gc<'_, T> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl<T: Hash> Hash for Gc<'_, T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}
