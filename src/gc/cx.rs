//! [`Cx`]: the second way to use a heap, with safepoints at any depth of calls.
//!
//! In [`Arena::mutate`] no cycle can begin, so that an interpreter which recurses on the stack could not collect in the
//! depth of it. Under [`Arena::enter`] the borrow checker does the work instead: references borrow from the [`Cx`], a
//! safepoint borrows it mutably, and what must outlive one is a [`Root`](super::Root) handle.
//!
//! The brand of a reference is here the time for which the `Cx` is borrowed, a region that the compiler may choose like
//! any other: it would let the reference of one heap be put on another that is used meanwhile. So a thread inside of an
//! `enter` can use no other heap, which is checked at run time.

use super::arena::{Arena, Mutation, RootOf, Rootable};
use super::heap::Heap;
use super::observer::Observer;
use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;

thread_local! {
    /// How deep in calls of `mutate` the thread is, or `ENTERED`.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

const ENTERED: usize = usize::MAX;

/// The time of a call of `mutate`.
pub(super) struct Inside(usize);

impl Inside {
    /// # Panics
    /// Inside of an `enter`.
    #[inline(always)]
    #[track_caller]
    pub(super) fn mutate() -> Self {
        let depth = INSIDE.get();
        assert!(depth != ENTERED, "`mutate` inside of `enter`");
        INSIDE.set(depth + 1);
        Inside(depth)
    }

    #[track_caller]
    fn enter() -> Self {
        let depth = INSIDE.replace(ENTERED);
        let inside = Inside(depth);
        assert!(depth == 0, "`enter` inside of `mutate` or of another `enter`");
        inside
    }
}

impl Drop for Inside {
    #[inline(always)]
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// The right to use a heap, and to let it collect.
///
/// ```
/// use exectrace::gc::{Arena, Config, Cx, Gc, GcCell, Root, Rootable};
///
/// struct Node<'gc> { next: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>, depth: u32 }
/// exectrace::collect_fields!(impl['gc] struct Node<'gc> { next, depth });
/// type NodeRoot = Rootable!['gc => Node<'gc>];
/// type Nothing = Rootable!['gc => ()];
///
/// // Recursive, with a safepoint on each level.
/// fn build(cx: &mut Cx<Nothing>, depth: u32) -> Root<NodeRoot> {
///     let below = (depth > 0).then(|| build(cx, depth - 1));
///     cx.safepoint();
///     let mc = cx.mc();
///     let next = GcCell::new(below.map(|root| root.get(mc)));
///     mc.root(mc.alloc(Node { next, depth }))
/// }
///
/// let mut arena = Arena::<Nothing>::new(Config::new().stress(true), |_| ());
/// arena.enter(|cx| {
///     let top = build(cx, 100);
///     cx.collect();
///     let top = top.get(cx.mc());
///     assert_eq!(core::iter::successors(Some(top), |n| n.next.get()).count(), 101);
/// });
/// ```
/// A reference held over a safepoint does not compile:
/// ```compile_fail,E0502
/// use exectrace::gc::{Arena, Config, Rootable};
/// let mut arena = Arena::<Rootable!['gc => ()]>::new(Config::new(), |_| ());
/// arena.enter(|cx| {
///     let object = cx.mc().alloc(7_u32);
///     cx.safepoint();
///     assert_eq!(*object, 7);
/// });
/// ```
/// nor does one that leaves:
/// ```compile_fail
/// use exectrace::gc::{Arena, Config, Rootable};
/// let mut arena = Arena::<Rootable!['gc => ()]>::new(Config::new(), |_| ());
/// let object = arena.enter(|cx| cx.mc().alloc(7_u32));
/// ```
/// Nor can another thread have a part in it:
/// ```compile_fail,E0277
/// use exectrace::gc::{Arena, Config, Rootable};
/// let mut arena = Arena::<Rootable!['gc => ()]>::new(Config::new(), |_| ());
/// arena.enter(|cx| std::thread::scope(|s| { s.spawn(|| cx.safepoint()); }));
/// ```
pub struct Cx<R: for<'a> Rootable<'a> + ?Sized> {
    heap: NonNull<Heap>,
    root: PhantomData<R>,
}

impl<R: for<'a> Rootable<'a> + ?Sized> Cx<R> {
    fn heap(&self) -> &Heap {
        // SAFETY: the arena is borrowed for as long as the `Cx` exists.
        unsafe { self.heap.as_ref() }
    }

    /// The right to allocate and to write, until the next safepoint.
    #[inline(always)]
    pub fn mc(&self) -> &Mutation<'_> {
        // SAFETY: `Mutation` is a transparent wrapper of the heap. Everything with its brand borrows `self`, so that
        // none of it is left when a safepoint borrows `self` mutably; and no other heap's brand can be the same, since
        // no other `Cx` exists on this thread, and those of `mutate` agree with none.
        unsafe { self.heap.cast::<Mutation<'_>>().as_ref() }
    }

    /// The arena's root object.
    pub fn root(&self) -> &RootOf<'_, R> {
        super::arena::root_of::<R>(self.mc())
    }

    /// The place at which a cycle may begin, as [`Arena::safepoint`].
    #[inline(always)]
    pub fn safepoint(&mut self) {
        if self.heap().requested.get() {
            self.heap().safepoint_slow();
            self.heap().check_under_stress();
        }
    }

    /// Frees all that cannot be reached, as [`Arena::collect`].
    pub fn collect(&mut self) {
        self.heap().collect();
        self.heap().check_under_stress();
    }

    /// Marks up to `budget` bytes, as [`Arena::step`].
    pub fn step(&mut self, budget: usize) -> bool {
        self.heap().step(budget, None)
    }
}

impl<R: for<'a> Rootable<'a> + ?Sized, O: Observer + 'static> Arena<R, O> {
    /// Runs `f` with the right to use the heap and to let it collect at any depth of calls.
    ///
    /// # Panics
    /// If the thread is inside of an `enter` or a `mutate` already, of whichever heap.
    #[track_caller]
    pub fn enter<T>(&mut self, f: impl FnOnce(&mut Cx<R>) -> T) -> T {
        let _inside = Inside::enter();
        f(&mut Cx { heap: self.heap_ptr(), root: PhantomData })
    }
}
