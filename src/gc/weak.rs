//! Weak references and ephemerons: they know of objects without keeping them alive.
//!
//! A weak reference is a small object with the target's address. All of one heap lie in blocks of their own, so that
//! nobody needs a list of them: when marking has ended, the addresses of targets that were not reached are cleared,
//! block by block. Until then, as long as a cycle marks, to follow a weak reference marks its target.
//!
//! An ephemeron is a pair of a key and a value: while the key is alive the ephemeron keeps the value alive, and the
//! value may refer to the key. The marker puts an ephemeron aside until its key is marked. Where many ephemerons hang
//! on each other in a chain, it goes through those that are left once for each link.

use super::OutOfMemory;
use super::arena::Mutation;
use super::collect::{Collect, Visitor};
use super::heap::{Heap, Phase};
use super::marker::Marker;
use super::pointer::Gc;
use super::type_info::{Fixed, TypeInfo};
use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

/// The table of weak references. A static and not a constant, whose address could be another in each crate: their
/// blocks are known by it.
static WEAK: TypeInfo = *<Fixed<WeakBox>>::INFO;

/// The object behind a weak reference.
pub(super) struct WeakBox {
    target: Cell<Option<NonNull<u8>>>,
}

// SAFETY: the target does not count as a reference: it is cleared before it is freed.
unsafe impl Collect for WeakBox {
    const NEEDS_VISIT: bool = false;
    fn visit<V: Visitor>(&self, _: &mut V) {}
}

/// A weak reference to an object: `Copy`, one word.
///
/// ```
/// use exectrace::gc::{Arena, Config, Gc, GcCell, GcWeak, Rootable};
/// type Root<'gc> = (GcCell<'gc, Option<Gc<'gc, u32>>>, GcCell<'gc, Option<GcWeak<'gc, u32>>>);
/// let mut arena = Arena::<Rootable!['gc => Root<'gc>]>::new(Config::new(), |_| (GcCell::new(None), GcCell::new(None)));
/// arena.mutate(|mc, (strong, weak)| {
///     let object = mc.alloc(7);
///     strong.set(mc, Some(object));
///     weak.set(mc, Some(GcWeak::new(mc, object)));
/// });
/// arena.collect();
/// arena.mutate(|mc, (strong, weak)| {
///     assert_eq!(weak.get().unwrap().upgrade(mc).as_deref(), Some(&7));
///     strong.set(mc, None);
/// });
/// arena.collect();
/// arena.mutate(|mc, (_, weak)| assert!(weak.get().unwrap().upgrade(mc).is_none()));
/// ```
pub struct GcWeak<'gc, T> {
    cell: Gc<'gc, WeakBox>,
    target: PhantomData<Gc<'gc, T>>,
}

impl<'gc, T: Collect + 'gc> GcWeak<'gc, T> {
    /// A weak reference to an object. Each takes 16 bytes on the heap; copies of it take none.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn new(mc: &Mutation<'gc>, target: Gc<'gc, T>) -> Self {
        match Self::try_new(mc, target) {
            Ok(weak) => weak,
            Err(e) => e.raise(),
        }
    }

    /// A weak reference to an object.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn try_new(mc: &Mutation<'gc>, target: Gc<'gc, T>) -> Result<Self, OutOfMemory> {
        let cell = mc.heap().alloc_weak(Gc::as_erased(target))?;
        // SAFETY: a fresh object of that type.
        Ok(GcWeak { cell: unsafe { Gc::from_erased(cell) }, target: PhantomData })
    }

    /// The object, if it was not freed.
    pub fn upgrade(self, mc: &Mutation<'gc>) -> Option<Gc<'gc, T>> {
        let target = self.cell.target.get()?;
        mc.heap().keep(target);
        // SAFETY: the target is of this type, and not freed, since the address is there; `keep` has seen to it that a
        // cycle that is running does not free it.
        Some(unsafe { Gc::from_erased(target) })
    }
}

impl<T> Clone for GcWeak<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GcWeak<'_, T> {}

// SAFETY: the cell is shown; the target is weak.
unsafe impl<T> Collect for GcWeak<'_, T> {
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        visitor.edge(self.cell);
    }
}

/// What the marker knows of an ephemeron.
#[repr(C)]
pub(super) struct EphemeronHead {
    pub(super) key: Cell<Option<NonNull<u8>>>,
    /// The next one that the marker has put aside.
    pub(super) next: Cell<Option<NonNull<EphemeronHead>>>,
    pub(super) visit_value: unsafe fn(NonNull<EphemeronHead>, &mut Marker),
}

/// The object behind an [`Ephemeron`].
#[repr(C)]
pub struct EphemeronBox<V> {
    pub(super) head: EphemeronHead,
    pub(super) value: V,
}

// SAFETY: the value is shown if it counts; if it does not, nobody can get at it.
unsafe impl<V: Collect> Collect for EphemeronBox<V> {
    fn visit<Vis: Visitor>(&self, visitor: &mut Vis) {
        visitor.ephemeron(self);
    }
}

/// # Safety
/// `head` is that of a live ephemeron with a value of type `V`.
unsafe fn visit_value<V: Collect>(head: NonNull<EphemeronHead>, marker: &mut Marker) {
    // SAFETY: the caller's; the head is the first field.
    unsafe { head.cast::<EphemeronBox<V>>().as_ref() }.value.visit(marker);
}

/// A pair of a key and a value, of which the value is alive only while the key is, even if it refers to the key itself.
/// The stuff of weak maps.
///
/// ```
/// use exectrace::gc::{Arena, Config, Ephemeron, Gc, GcCell, Rootable};
/// type Root<'gc> = (GcCell<'gc, Option<Gc<'gc, u32>>>, GcCell<'gc, Option<Ephemeron<'gc, u32, Gc<'gc, u32>>>>);
/// let mut arena = Arena::<Rootable!['gc => Root<'gc>]>::new(Config::new(), |_| (GcCell::new(None), GcCell::new(None)));
/// arena.mutate(|mc, (key, pair)| {
///     let object = mc.alloc(7);
///     key.set(mc, Some(object));
///     pair.set(mc, Some(Ephemeron::new(mc, object, object)));
/// });
/// arena.collect();
/// arena.mutate(|mc, (key, pair)| {
///     assert_eq!(pair.get().unwrap().value(mc).map(|v| **v), Some(7));
///     key.set(mc, None);
/// });
/// arena.collect();
/// arena.mutate(|mc, (_, pair)| assert!(pair.get().unwrap().value(mc).is_none()));
/// ```
pub struct Ephemeron<'gc, K, V> {
    pair: Gc<'gc, EphemeronBox<V>>,
    key: PhantomData<Gc<'gc, K>>,
}

impl<'gc, K: Collect + 'gc, V: Collect + 'gc> Ephemeron<'gc, K, V> {
    /// Ties a value to a key.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn new(mc: &Mutation<'gc>, key: Gc<'gc, K>, value: V) -> Self {
        match Self::try_new(mc, key, value) {
            Ok(pair) => pair,
            Err(e) => e.raise(),
        }
    }

    /// Ties a value to a key.
    ///
    /// # Errors
    /// When there is no memory. The value is dropped.
    pub fn try_new(mc: &Mutation<'gc>, key: Gc<'gc, K>, value: V) -> Result<Self, OutOfMemory> {
        let head = EphemeronHead {
            key: Cell::new(Some(Gc::as_erased(key))),
            next: Cell::new(None),
            visit_value: visit_value::<V>,
        };
        Ok(Ephemeron { pair: mc.try_alloc(EphemeronBox { head, value })?, key: PhantomData })
    }

    /// Whether the key was not freed, without keeping it.
    pub(super) fn is_alive(self) -> bool {
        self.pair.head.key.get().is_some()
    }

    /// The key, if it was not freed.
    pub fn key(self, mc: &Mutation<'gc>) -> Option<Gc<'gc, K>> {
        let key = self.pair.head.key.get()?;
        mc.heap().keep(key);
        // SAFETY: as in `GcWeak::upgrade`.
        Some(unsafe { Gc::from_erased(key) })
    }

    /// The value, if the key was not freed.
    pub fn value(self, mc: &Mutation<'gc>) -> Option<&'gc V> {
        self.key(mc)?;
        Some(&Gc::as_ref(self.pair).value)
    }
}

impl<K, V> Clone for Ephemeron<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Ephemeron<'_, K, V> {}

// SAFETY: the pair is shown, which shows the value as long as it counts.
unsafe impl<K, V: Collect> Collect for Ephemeron<'_, K, V> {
    fn visit<Vis: Visitor>(&self, visitor: &mut Vis) {
        visitor.edge(self.pair);
    }
}

impl Heap {
    /// Sees to it that an object that is known weakly outlives a cycle that is marking.
    fn keep(&self, object: NonNull<u8>) {
        if self.phase.get() == Phase::Mark {
            // SAFETY: an object of this heap that is not freed.
            let info = unsafe { super::chunk::block_of(object) }.info();
            // SAFETY: as above, and of the block's type. Marking an object visits nothing, so that no embedder's code
            // runs.
            unsafe { (info.mark)(object, &mut self.marker.borrow_mut()) };
        }
    }

    fn alloc_weak(&self, target: NonNull<u8>) -> Result<NonNull<u8>, OutOfMemory> {
        self.has_weak.set(true);
        let at = self.alloc_slot(&WEAK, WEAK.slot_bytes)?;
        // SAFETY: a free slot of a block for weak references.
        unsafe { at.cast::<WeakBox>().write(WeakBox { target: Cell::new(Some(target)) }) };
        Ok(at)
    }

    /// When marking has ended: clears what refers weakly to objects that were not reached.
    pub(super) fn clear_weak(&self) {
        self.marker.borrow_mut().clear_pending();
        self.clear_weak_references();
    }

    /// Clears the weak references to objects that are not marked. All that can be reached is.
    pub(super) fn clear_weak_references(&self) {
        self.tell_marked();
        if !self.has_weak.get() {
            return;
        }
        let marker = self.marker.borrow();
        self.for_each_block(|block| {
            if !ptr::eq(block.header().info.get(), &WEAK) || block.hot().epoch.get() != marker.epoch() {
                return;
            }
            for (i, group) in block.groups().enumerate() {
                let mut marked = group.mark.get();
                while marked != 0 {
                    let cell = block.slot(i * 64 + marked.trailing_zeros() as usize).cast::<WeakBox>();
                    marked &= marked - 1;
                    // SAFETY: a marked object of a block of weak references.
                    let target = unsafe { &(*cell.as_ptr()).target };
                    if target.get().is_some_and(|t| !marker.is_marked(t)) {
                        target.set(None);
                    }
                }
            }
        });
    }
}
