//! What the heap knows of a type: sizes, and the functions that mark, drop and describe its objects.
//!
//! There is no header on an object. A block belongs to one type, and the block's table entry points here (invariant 3).

use super::chunk::{BLOCK_BYTES, Block, OBJECT_BYTES_SMALL_MAX, SLOT_BYTES_MIN};
use super::collect::{Collect, Visitor, sealed};
use super::marker::Marker;
use super::pointer::Gc;
use core::marker::PhantomData;
use core::mem;
use core::ptr::NonNull;

/// Receives the references of one object: the field's name, where one is known, the object referred to, and its type.
pub(super) type EdgeSink<'a> = dyn FnMut(&'static str, NonNull<u8>, &'static TypeInfo) + 'a;

/// The function table of a type.
pub(super) struct TypeInfo {
    /// Distance between two objects in a block; for a large type the object's size.
    pub(super) slot_bytes: usize,
    /// Objects in a block; 1 for a large type.
    pub(super) slots: u32,
    /// Whether objects hold references.
    pub(super) needs_visit: bool,
    /// How to drop an object, if there is anything to do.
    pub(super) drop: Option<unsafe fn(NonNull<u8>)>,
    /// The type's name, for people.
    pub(super) name: fn() -> &'static str,
    /// Marks one object.
    pub(super) mark: unsafe fn(NonNull<u8>, &mut Marker),
    /// Visits the references of one object.
    pub(super) scan_one: unsafe fn(NonNull<u8>, &mut Marker),
    /// Visits the references of all objects of a block that are marked and not scanned.
    pub(super) scan_block: unsafe fn(Block, &mut Marker),
    /// Shows the references of one object.
    pub(super) edges: unsafe fn(NonNull<u8>, &mut EdgeSink<'_>),
}

impl TypeInfo {
    /// Whether an object has a run of blocks for itself.
    pub(super) fn is_large(&self) -> bool {
        self.slot_bytes > OBJECT_BYTES_SMALL_MAX
    }
}

/// The table of `T`, made at compile time.
pub(super) struct TypeOf<T>(PhantomData<T>);

impl<T: Collect> TypeOf<T> {
    pub(super) const SLOT_BYTES: usize = {
        assert!(align_of::<T>() <= BLOCK_BYTES, "the alignment of an object is at most that of a block");
        let align = if align_of::<T>() < 8 { 8 } else { align_of::<T>() };
        let size = if size_of::<T>() < SLOT_BYTES_MIN { SLOT_BYTES_MIN } else { size_of::<T>() };
        size.div_ceil(align) * align
    };

    pub(super) const INFO: &'static TypeInfo = &TypeInfo {
        slot_bytes: Self::SLOT_BYTES,
        slots: if Self::SLOT_BYTES > OBJECT_BYTES_SMALL_MAX { 1 } else { (BLOCK_BYTES / Self::SLOT_BYTES) as u32 },
        needs_visit: T::NEEDS_VISIT,
        drop: if mem::needs_drop::<T>() { Some(drop_erased::<T>) } else { None },
        name: core::any::type_name::<T>,
        mark: mark_erased::<T>,
        scan_one: Marker::scan_one::<T>,
        scan_block: Marker::scan_block::<T>,
        edges: edges_erased::<T>,
    };
}

unsafe fn drop_erased<T>(p: NonNull<u8>) {
    // SAFETY: the caller's: an object of type `T` that nobody uses any more.
    unsafe { p.cast::<T>().drop_in_place() }
}

unsafe fn mark_erased<T: Collect>(p: NonNull<u8>, marker: &mut Marker) {
    // SAFETY: the caller's: an object of type `T` on the marker's heap.
    unsafe { marker.mark::<T>(p) }
}

unsafe fn edges_erased<T: Collect>(p: NonNull<u8>, sink: &mut EdgeSink<'_>) {
    // SAFETY: the caller's: a live object of type `T`.
    let value = unsafe { p.cast::<T>().as_ref() };
    value.visit(&mut Edges { sink, field: "" });
}

/// Hands the references of a value to a function.
struct Edges<'a, 's> {
    sink: &'a mut EdgeSink<'s>,
    field: &'static str,
}

impl sealed::Sealed for Edges<'_, '_> {}

impl Visitor for Edges<'_, '_> {
    fn edge<T: Collect>(&mut self, to: Gc<'_, T>) {
        (self.sink)(self.field, Gc::as_erased(to), TypeOf::<T>::INFO);
    }

    fn field(&mut self, name: &'static str) {
        self.field = name;
    }
}
