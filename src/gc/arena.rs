//! [`Arena`]: a heap with one root, and [`Mutation`]: the right to use it for a while.
//!
//! References live inside of a call of [`Arena::mutate`]; cycles begin outside of it, when no reference can be on the
//! stack. The brand `'gc`, which no two calls share, is what makes the compiler see to both.

use super::DefaultObserver;
use super::OutOfMemory;
use super::collect::Collect;
use super::config::Config;
use super::cx::Inside;
use super::heap::Heap;
use super::heap_map::BlockInfo;
use super::observer::Observer;
use super::pointer::{Brand, Gc};
use super::root::Root;
use super::stats::{HeapStats, TypeStats};
use super::type_info::Fixed;
use super::verify::Violation;
use crate::sys::clock::monotonic_ns;
use crate::sys::pages;
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::io;
use std::time::Duration;

/// A type with the brand left open. Written with [`Rootable!`](crate::Rootable), or implemented for a type of one's
/// own:
///
/// ```
/// use exectrace::gc::{Gc, Rootable};
/// struct ListRoot;
/// impl<'gc> Rootable<'gc> for ListRoot {
///     type Root = Option<Gc<'gc, u32>>;
/// }
/// ```
///
/// It cannot stand for something with the brand of another heap:
/// ```compile_fail,E0521
/// use exectrace::gc::{Arena, Config, Gc, Rootable};
/// fn other<'a>(of_a: Gc<'a, u32>) {
///     Arena::<Rootable!['gc => Gc<'a, u32>]>::new(Config::new(), |_| of_a).collect();
/// }
/// ```
pub trait Rootable<'gc> {
    /// The type, for objects of the heap with this brand.
    type Root: Collect + 'gc;
}

/// The type that a [`Rootable`] stands for under a brand.
pub type RootOf<'gc, R> = <R as Rootable<'gc>>::Root;

/// `Rootable!['gc => Type<'gc>]` names a [`Rootable`](trait@crate::gc::Rootable) without a type of one's own.
#[macro_export]
macro_rules! Rootable {
    ($gc:lifetime => $root:ty) => {
        dyn for<$gc> $crate::gc::Rootable<$gc, Root = $root>
    };
}

/// What an arena's one mapping holds.
struct Inner<O> {
    heap: Heap,
    observer: O,
}

/// A garbage-collected heap and its root object.
///
/// A heap belongs to one thread; a program may have as many as it likes, on as many threads.
/// ```
/// use exectrace::gc::{Arena, Config, Gc, GcCell, Rootable};
///
/// struct Node<'gc> {
///     next: Option<Gc<'gc, Node<'gc>>>,
///     value: u32,
/// }
/// exectrace::collect_fields!(impl['gc] struct Node<'gc> { next, value });
/// type Stack<'gc> = GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>;
///
/// let mut arena = Arena::<Rootable!['gc => Stack<'gc>]>::new(Config::new(), |_| GcCell::new(None));
/// for value in 0..1000 {
///     arena.mutate(|mc, stack| {
///         let node = mc.alloc(Node { next: stack.get(), value });
///         stack.set(mc, Some(node));
///     });
///     arena.safepoint();
/// }
/// let sum: u32 = arena.mutate(|_, stack| {
///     core::iter::successors(stack.get(), |n| n.next).map(|n| n.value).sum()
/// });
/// assert_eq!(sum, 499_500);
/// ```
/// ```compile_fail,E0277
/// use exectrace::gc::{Arena, Config, Rootable};
/// let arena = Arena::<Rootable!['gc => u32]>::new(Config::new(), |_| 0);
/// std::thread::spawn(move || drop(arena));
/// ```
pub struct Arena<R: for<'a> Rootable<'a> + ?Sized, O: Observer + 'static = DefaultObserver> {
    inner: NonNull<Inner<O>>,
    root: PhantomData<R>,
}

impl<R: for<'a> Rootable<'a> + ?Sized> Arena<R, DefaultObserver> {
    /// A heap with the root object that `root` makes.
    ///
    /// # Panics
    /// When there is no memory. [`Arena::try_with_observer`] says so instead.
    pub fn new(config: Config, root: impl for<'gc> FnOnce(&'gc Mutation<'gc>) -> RootOf<'gc, R>) -> Self {
        match Self::try_with_observer(config, DefaultObserver::default(), root) {
            Ok(arena) => arena,
            Err(e) => e.raise(),
        }
    }
}

impl<R: for<'a> Rootable<'a> + ?Sized, O: Observer + 'static> Arena<R, O> {
    const BYTES: usize = pages::round_up(size_of::<Inner<O>>());

    /// A heap that tells `observer` what it does.
    ///
    /// # Errors
    /// When there is no memory for the heap or its root.
    pub fn try_with_observer(
        config: Config,
        observer: O,
        root: impl for<'gc> FnOnce(&'gc Mutation<'gc>) -> RootOf<'gc, R>,
    ) -> Result<Self, OutOfMemory> {
        const { assert!(align_of::<Inner<O>>() <= pages::GRANULE_BYTES) };
        let inner = pages::map(Self::BYTES, pages::GRANULE_BYTES).ok_or(OutOfMemory)?.cast::<Inner<O>>();
        // SAFETY: the field of a mapping that is large enough.
        let place = unsafe { NonNull::new_unchecked(&raw mut (*inner.as_ptr()).observer) };
        // SAFETY: nobody refers to the fresh mapping.
        unsafe { place.write(observer) };
        // SAFETY: the observer was written above and lives in the same mapping (invariant 11).
        match unsafe { Heap::new(config, place) } {
            // SAFETY: the other field.
            Ok(heap) => unsafe { (&raw mut (*inner.as_ptr()).heap).write(heap) },
            Err(e) => {
                // SAFETY: written above.
                unsafe { place.drop_in_place() };
                // SAFETY: the mapping of above.
                unsafe { pages::unmap(inner.cast(), Self::BYTES, pages::GRANULE_BYTES) };
                return Err(e);
            }
        }
        let arena = Arena { inner, root: PhantomData };
        let inside = Inside::mutate();
        let mc = arena.mutation();
        let object = mc.heap.alloc(root(mc))?;
        drop(inside);
        arena.heap().root.set(Some((object, <Fixed<RootOf<'_, R>>>::INFO)));
        arena.heap().tell_goal();
        Ok(arena)
    }

    /// Runs `f` with the right to use the heap, and with the root object. No cycle begins meanwhile; one that marks in
    /// steps goes on.
    ///
    /// # Panics
    /// Inside of [`Arena::enter`].
    #[inline]
    #[track_caller]
    pub fn mutate<T>(&mut self, f: impl for<'gc> FnOnce(&'gc Mutation<'gc>, &'gc RootOf<'gc, R>) -> T) -> T {
        let _inside = Inside::mutate();
        let mc = self.mutation();
        f(mc, root_of::<R>(mc))
    }

    /// The place at which a cycle may begin: one load and a branch if there is nothing to do. To be called often, such
    /// as between two instructions of an interpreter.
    #[inline(always)]
    pub fn safepoint(&mut self) {
        if self.heap().requested.get() {
            self.heap().safepoint_slow();
            self.heap().check_under_stress();
        }
    }

    /// Marks up to `budget` bytes, if a cycle is marking, and `true` if none is (any more). For programs that know when
    /// they have time.
    pub fn step(&mut self, budget: usize) -> bool {
        self.heap().step(budget, None)
    }

    /// Frees all that cannot be reached, and drops what has to be dropped.
    pub fn collect(&mut self) {
        self.heap().collect();
        self.heap().check_under_stress();
    }

    /// The heap in numbers.
    pub fn stats(&self) -> HeapStats {
        self.heap().stats()
    }

    /// Calls `f` for each type that the heap has met. Looks at every block's marks. A type that is allocated in several
    /// crates, and an array of several sizes, may come more than once.
    pub fn for_each_type(&self, f: impl FnMut(&TypeStats)) {
        self.heap().for_each_type(f);
    }

    /// Checks the whole heap: every block, every list, every mark, and every reference that can be reached. For tests;
    /// it takes long.
    ///
    /// # Errors
    /// The first thing that is not as it must be, which is always a bug of the heap or of an `unsafe` implementation of
    /// [`Collect`].
    pub fn verify(&self) -> Result<(), Violation> {
        self.heap().verify()
    }

    /// Marks for at most about `time`, if a cycle is marking, and `true` if none is (any more).
    pub fn step_for(&mut self, time: Duration) -> bool {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.heap().step(usize::MAX, Some(monotonic_ns().saturating_add(ns)))
    }

    /// Writes all that can be reached, with types, sizes and the names of the fields that refer to each other, as a
    /// `.heapsnapshot` that Chrome's developer tools open. Collect before, to compare snapshots. Not buffered.
    ///
    /// # Errors
    /// Those of `out`, and a want of memory for the tables.
    pub fn write_snapshot(&mut self, mut out: impl io::Write) -> io::Result<()> {
        self.heap().write_snapshot(&mut out)
    }

    /// Calls `f` with each block of the heap: what it holds, and how full it is. Most telling right after
    /// [`Arena::collect`].
    pub fn for_each_block(&self, f: impl FnMut(&BlockInfo)) {
        self.heap().for_each_block_info(f);
    }

    /// Draws the heap: a line for each mapping of 4 MiB, a character for each block of 32 KiB, which says how full it is.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_map(&self, mut out: impl io::Write) -> io::Result<()> {
        self.heap().write_map(&mut out)
    }

    /// Changes `gc_percent`; see [`Config::gc_percent`].
    pub fn set_gc_percent(&mut self, percent: Option<u32>) {
        self.heap().change_settings(|s| s.gc_percent = percent);
    }

    /// Changes the soft memory limit; see [`Config::memory_limit_bytes`].
    pub fn set_memory_limit_bytes(&mut self, bytes: usize) {
        self.heap().change_settings(|s| s.memory_limit_bytes = bytes);
    }

    /// Changes the hard limit; see [`Config::heap_bytes_max`]. What is mapped beyond it stays.
    pub fn set_heap_bytes_max(&mut self, bytes: usize) {
        self.heap().pool.borrow_mut().set_bytes_max(bytes);
    }

    /// What receives the heap's events.
    pub fn observer(&self) -> &O {
        // SAFETY: the mapping holds it as long as the arena lives, and nobody borrows it mutably.
        unsafe { &(*self.inner.as_ptr()).observer }
    }

    pub(super) fn heap(&self) -> &Heap {
        // SAFETY: as above; the heap's state is in cells.
        unsafe { &(*self.inner.as_ptr()).heap }
    }

    /// The heap, as a pointer that may be used for all of it.
    pub(super) fn heap_ptr(&self) -> NonNull<Heap> {
        // SAFETY: the field of the mapping.
        unsafe { NonNull::new_unchecked(&raw mut (*self.inner.as_ptr()).heap) }
    }

    /// The brand is free here. Every caller hands the result to a function that works for all brands.
    fn mutation<'gc>(&self) -> &'gc Mutation<'gc> {
        // SAFETY: `Mutation` is a transparent wrapper; it is used no longer than the arena is borrowed, since the
        // functions that get it cannot keep anything branded.
        unsafe { &*(&raw const (*self.inner.as_ptr()).heap).cast::<Mutation<'gc>>() }
    }
}

impl<R: for<'a> Rootable<'a> + ?Sized, O: Observer + 'static> Drop for Arena<R, O> {
    fn drop(&mut self) {
        struct Unmap(NonNull<u8>, usize);
        impl Drop for Unmap {
            fn drop(&mut self) {
                // SAFETY: the mapping of `try_with_observer`, whose contents were dropped or are leaked after a panic.
                unsafe { pages::unmap(self.0, self.1, pages::GRANULE_BYTES) };
            }
        }
        struct Fields<O>(NonNull<Inner<O>>);
        impl<O> Drop for Fields<O> {
            fn drop(&mut self) {
                // SAFETY: nobody uses the arena any more. The chunks go with the heap, the objects having been dropped.
                unsafe { self.0.drop_in_place() };
            }
        }
        let _unmap = Unmap(self.inner.cast(), Self::BYTES);
        let _fields = Fields(self.inner);
        self.heap().drop_all();
    }
}

/// The root object of the heap.
pub(super) fn root_of<'gc, R: for<'a> Rootable<'a> + ?Sized>(mc: &Mutation<'gc>) -> &'gc RootOf<'gc, R> {
    let Some((object, _)) = mc.heap.root.get() else { unreachable!("an arena has a root") };
    // SAFETY: callers name the arena's own `R`; the root is an object of that type, and lives as long as the arena
    // (invariant 5).
    Gc::as_ref(unsafe { Gc::<RootOf<'gc, R>>::from_erased(object) })
}

/// The right to use a heap: to allocate, and to write to its cells.
#[repr(transparent)]
pub struct Mutation<'gc> {
    heap: Heap,
    brand: Brand<'gc>,
}

impl<'gc> Mutation<'gc> {
    #[inline(always)]
    pub(super) fn heap(&self) -> &Heap {
        &self.heap
    }

    /// Puts a value on the heap.
    ///
    /// # Panics
    /// When there is no memory. [`Mutation::try_alloc`] says so instead.
    #[inline(always)]
    pub fn alloc<T: Collect + 'gc>(&self, value: T) -> Gc<'gc, T> {
        match self.try_alloc(value) {
            Ok(object) => object,
            Err(e) => e.raise(),
        }
    }

    /// Puts a value on the heap.
    ///
    /// # Errors
    /// When the system has no memory to give, or [`Config::heap_bytes_max`] is reached, also after the running cycle
    /// was brought to its end and all was swept. The value is dropped. What to do then: leave `mutate`,
    /// [`Arena::collect`], and try again.
    #[inline(always)]
    pub fn try_alloc<T: Collect + 'gc>(&self, value: T) -> Result<Gc<'gc, T>, OutOfMemory> {
        let object = self.heap.alloc(value)?;
        // SAFETY: a fresh object of that type. No cycle that could free it begins within `'gc`.
        Ok(unsafe { Gc::from_erased(object) })
    }

    /// A handle that keeps the object alive from outside of the heap.
    ///
    /// # Panics
    /// When there is no memory for the handle.
    pub fn root<R: for<'a> Rootable<'a> + ?Sized>(&self, object: Gc<'gc, RootOf<'gc, R>>) -> Root<R> {
        match self.try_root(object) {
            Ok(root) => root,
            Err(e) => e.raise(),
        }
    }

    /// A handle that keeps the object alive from outside of the heap.
    ///
    /// # Errors
    /// When there is no memory for the handle.
    pub fn try_root<R: for<'a> Rootable<'a> + ?Sized>(
        &self,
        object: Gc<'gc, RootOf<'gc, R>>,
    ) -> Result<Root<R>, OutOfMemory> {
        Root::new(&self.heap.roots, object)
    }

    /// Reports that objects own `bytes` more (or, below zero, less) memory outside of the heap, such as a `Vec`'s
    /// buffer. It counts in the pacing.
    pub fn adjust_external(&self, bytes: isize) {
        self.heap.adjust_external(bytes);
    }

    /// The heap in numbers.
    pub fn stats(&self) -> HeapStats {
        self.heap.stats()
    }
}
