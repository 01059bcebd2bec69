//! [`Root`]: a handle that keeps one object alive from outside of the heap.
//!
//! The handles of a heap share a table on pages of its own, which lives as long as the heap or a handle does. A handle
//! that outlives its heap is harmless and good for nothing.

use super::OutOfMemory;
use super::arena::{Mutation, RootOf, Rootable};
use super::finalize::Watch;
use super::page_vec::PageVec;
use super::pointer::Gc;
use super::type_info::{Fixed, TypeInfo};
use crate::sys::pages;
use core::cell::{Cell, RefCell};
use core::marker::PhantomData;
use core::ptr::NonNull;

/// What `Entry::next_free` says at the end of the list, and in an entry that is in use.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    object: Option<NonNull<u8>>,
    info: &'static TypeInfo,
    next_free: u32,
}

struct Table {
    entries: RefCell<PageVec<Entry>>,
    first_free: Cell<u32>,
    /// What finalizers watch.
    watch: RefCell<Watch>,
    /// The heap, if it is alive, and every handle.
    owners: Cell<usize>,
}

/// A share in a table of roots.
pub(super) struct Roots(NonNull<Table>);

impl Roots {
    pub(super) fn new() -> Result<Self, OutOfMemory> {
        const { assert!(size_of::<Table>() <= pages::GRANULE_BYTES && align_of::<Table>() <= pages::GRANULE_BYTES) };
        let at = pages::map(pages::GRANULE_BYTES, pages::GRANULE_BYTES).ok_or(OutOfMemory)?.cast::<Table>();
        let table = Table {
            entries: RefCell::new(PageVec::new()),
            first_free: Cell::new(NONE),
            watch: RefCell::new(Watch::new()),
            owners: Cell::new(1),
        };
        // SAFETY: a fresh mapping that is large enough.
        unsafe { at.write(table) };
        Ok(Roots(at))
    }

    fn table(&self) -> &Table {
        // SAFETY: the table lives as long as it has an owner, and `self` is one.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn watch(&self) -> &RefCell<Watch> {
        &self.table().watch
    }

    /// Whether both are of the same heap.
    pub(super) fn is_same(&self, other: &Roots) -> bool {
        self.0 == other.0
    }

    pub(super) fn share(&self) -> Roots {
        self.table().owners.set(self.table().owners.get() + 1);
        Roots(self.0)
    }

    fn insert(&self, object: NonNull<u8>, info: &'static TypeInfo) -> Result<u32, OutOfMemory> {
        let table = self.table();
        let mut entries = table.entries.borrow_mut();
        let entry = Entry { object: Some(object), info, next_free: NONE };
        let index = table.first_free.get();
        if index != NONE {
            let place = &mut entries.as_mut_slice()[index as usize];
            table.first_free.set(place.next_free);
            *place = entry;
            return Ok(index);
        }
        let index = u32::try_from(entries.as_slice().len()).ok().filter(|i| *i != NONE).ok_or(OutOfMemory)?;
        entries.push(entry)?;
        Ok(index)
    }

    fn remove(&self, index: u32) {
        let table = self.table();
        let mut entries = table.entries.borrow_mut();
        let place = &mut entries.as_mut_slice()[index as usize];
        place.object = None;
        place.next_free = table.first_free.replace(index);
    }

    /// All objects that handles keep, or that wait to be finalized.
    pub(super) fn for_each(&self, mut f: impl FnMut(NonNull<u8>, &'static TypeInfo)) {
        for e in self.table().entries.borrow().as_slice() {
            if let Some(object) = e.object {
                f(object, e.info);
            }
        }
        self.watch().borrow().for_each_ready(f);
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        let owners = self.table().owners.get() - 1;
        self.table().owners.set(owners);
        if owners == 0 {
            // SAFETY: nobody else refers to the table.
            unsafe { self.0.drop_in_place() };
            // SAFETY: the mapping of `new`.
            unsafe { pages::unmap(self.0.cast(), pages::GRANULE_BYTES, pages::GRANULE_BYTES) };
        }
    }
}

/// Keeps an object of type `R::Root<'gc>` alive, wherever the handle itself is. Made by [`Mutation::root`].
///
/// Handles make a cycle through the heap immortal: an object that owns a handle to itself is never freed. Inside of the
/// heap use [`Gc`].
///
/// It stays on the heap's thread:
/// ```compile_fail,E0277
/// use exectrace::gc::{Arena, Config, Rootable};
/// let mut arena = Arena::<Rootable!['gc => ()]>::new(Config::new(), |_| ());
/// let root = arena.mutate(|mc, _| mc.root::<Rootable!['gc => u32]>(mc.alloc(7)));
/// std::thread::spawn(move || drop(root));
/// ```
pub struct Root<R: for<'a> Rootable<'a> + ?Sized> {
    roots: Roots,
    index: u32,
    kind: PhantomData<R>,
}

impl<R: for<'a> Rootable<'a> + ?Sized> Root<R> {
    pub(super) fn new<'gc>(roots: &Roots, object: Gc<'gc, RootOf<'gc, R>>) -> Result<Self, OutOfMemory> {
        let index = roots.insert(Gc::as_erased(object), <Fixed<RootOf<'gc, R>>>::INFO)?;
        Ok(Root { roots: roots.share(), index, kind: PhantomData })
    }

    /// The object.
    ///
    /// # Panics
    /// If `mc` is not of the heap that the handle was made on.
    #[track_caller]
    pub fn get<'gc>(&self, mc: &Mutation<'gc>) -> Gc<'gc, RootOf<'gc, R>> {
        self.try_get(mc).expect("a root of another heap")
    }

    /// The object's address, to lend to foreign code: objects never move, and this one is not freed while the handle and
    /// the arena are there. So a handle is all the pinning there is to do.
    ///
    /// What foreign code writes there must leave a valid value, and must not be a reference into the heap, since no write
    /// barrier sees it.
    pub fn as_ptr(&self) -> NonNull<u8> {
        let object = self.roots.table().entries.borrow().as_slice()[self.index as usize].object;
        object.unwrap_or(NonNull::dangling())
    }

    /// The object, or `None` if `mc` is not of the heap that the handle was made on.
    pub fn try_get<'gc>(&self, mc: &Mutation<'gc>) -> Option<Gc<'gc, RootOf<'gc, R>>> {
        if mc.heap().roots.0 != self.roots.0 {
            return None;
        }
        let object = self.roots.table().entries.borrow().as_slice()[self.index as usize].object?;
        // SAFETY: the handle was made from a `Gc` of this type on this heap, and keeps the object alive (invariant 5).
        Some(unsafe { Gc::from_erased(object) })
    }
}

impl<R: for<'a> Rootable<'a> + ?Sized> Drop for Root<R> {
    fn drop(&mut self) {
        self.roots.remove(self.index);
    }
}
