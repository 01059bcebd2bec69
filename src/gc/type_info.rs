//! What the heap knows of a type: sizes, and the functions that mark, drop and describe its objects.
//!
//! There is no header on an object. A block belongs to one type, and the block's table entry points here (invariant 3).
//! Objects come in two shapes: values of a Rust type ([`Fixed`]), and arrays with a length ([`Items`]), which make a
//! type for each size of slot.

use super::array::GcArray;
use super::chunk::{BLOCK_BYTES, Block, OBJECT_BYTES_SMALL_MAX, SLOT_BYTES_MIN};
use super::collect::{Collect, Visitor, sealed};
use super::marker::Marker;
use super::pointer::Gc;
use super::raw::{RawFns, RawVisitor, UNTYPED, Untyped};
use super::weak::EphemeronBox;
use super::worker::Worker;
use core::marker::PhantomData;
use core::mem;
use core::ptr::NonNull;

/// Receives the references of one object: the field's name, where one is known, the object referred to, and its type's
/// name.
pub(super) type EdgeSink<'a> = dyn FnMut(&'static str, NonNull<u8>, fn() -> &'static str) + 'a;

/// The function table of a type.
#[derive(Clone, Copy)]
pub(super) struct TypeInfo {
    /// Distance between two objects in a block. For a large type the object's size, or `usize::MAX` if each has its
    /// own.
    pub(super) slot_bytes: usize,
    /// Objects in a block; 1 for a large type.
    pub(super) slots: u32,
    /// Whether objects hold references.
    pub(super) needs_visit: bool,
    /// How to drop an object, if there is anything to do.
    pub(super) drop: Option<unsafe fn(NonNull<u8>)>,
    /// The type's name, for people; but see [`TypeInfo::type_name`].
    name: fn() -> &'static str,
    /// What the embedder says of an untyped kind.
    pub(super) raw: Option<RawFns>,
    /// Marks one object.
    pub(super) mark: unsafe fn(NonNull<u8>, &mut Marker),
    /// Visits the references of one object.
    pub(super) scan_one: unsafe fn(NonNull<u8>, &mut Marker),
    /// Visits the references of all objects of a block that are marked and not scanned.
    pub(super) scan_block: unsafe fn(Block, &mut Marker),
    /// The same for one of several markers: of the one object alone, or of all in its block that are marked and not scanned.
    /// `false` if the object has to be queued again for the rest of it.
    pub(super) scan_shared: unsafe fn(NonNull<u8>, bool, &mut Worker) -> bool,
    /// Shows the references of one object.
    pub(super) edges: unsafe fn(NonNull<u8>, &mut EdgeSink<'_>),
}

impl TypeInfo {
    /// Whether an object has a run of blocks for itself.
    #[inline(always)]
    pub(super) fn is_large(&self) -> bool {
        self.slot_bytes > OBJECT_BYTES_SMALL_MAX
    }

    const fn new<S: Shape>(
        slot_bytes: usize,
        drop: Option<unsafe fn(NonNull<u8>)>,
        name: fn() -> &'static str,
    ) -> Self {
        TypeInfo {
            slot_bytes,
            slots: if slot_bytes > OBJECT_BYTES_SMALL_MAX { 1 } else { (BLOCK_BYTES / slot_bytes) as u32 },
            needs_visit: S::NEEDS_VISIT,
            drop,
            name,
            raw: None,
            mark: mark_erased::<S>,
            scan_one: Marker::scan_one::<S>,
            scan_block: Marker::scan_block::<S>,
            scan_shared: Worker::scan_shared::<S>,
            edges: edges_erased::<S>,
        }
    }
}

impl TypeInfo {
    /// The table of an untyped kind; `usize::MAX` for objects that have a size each.
    pub(super) const fn new_raw(slot_bytes: usize, drop: Option<unsafe fn(NonNull<u8>)>, raw: RawFns) -> Self {
        let mut info = TypeInfo::new::<Untyped>(slot_bytes, drop, || UNTYPED);
        info.needs_visit = raw.visit.is_some();
        info.raw = Some(raw);
        info
    }

    /// The type's name, for people.
    pub(super) fn type_name(&self) -> &'static str {
        self.raw.map_or_else(self.name, |raw| raw.name)
    }
}

/// How objects of a kind lie in memory, known at compile time.
pub(super) trait Shape {
    /// Whether objects hold references.
    const NEEDS_VISIT: bool;
    /// Distance between two objects in a block of this shape.
    fn slot_bytes(block: Block) -> usize;
    /// The table of the objects in a block of this shape.
    fn info(block: Block) -> &'static TypeInfo;
    /// Shows the references of one object.
    ///
    /// # Safety
    /// `p` is a live object of this shape.
    unsafe fn visit<V: Visitor>(p: NonNull<u8>, visitor: &mut V);
}

/// A value of type `T`.
pub(super) struct Fixed<T>(PhantomData<T>);

impl<T: Collect> Fixed<T> {
    pub(super) const SLOT_BYTES: usize = {
        assert!(align_of::<T>() <= BLOCK_BYTES, "the alignment of an object is at most that of a block");
        let align = if align_of::<T>() < 8 { 8 } else { align_of::<T>() };
        let size = if size_of::<T>() < SLOT_BYTES_MIN { SLOT_BYTES_MIN } else { size_of::<T>() };
        size.div_ceil(align) * align
    };

    const DROP: Option<unsafe fn(NonNull<u8>)> = if mem::needs_drop::<T>() { Some(drop_value::<T>) } else { None };

    pub(super) const INFO: &'static TypeInfo =
        &TypeInfo::new::<Self>(Self::SLOT_BYTES, Self::DROP, core::any::type_name::<T>);
}

impl<T: Collect> Shape for Fixed<T> {
    const NEEDS_VISIT: bool = T::NEEDS_VISIT;

    #[inline(always)]
    fn slot_bytes(_: Block) -> usize {
        Self::SLOT_BYTES
    }

    #[inline(always)]
    fn info(_: Block) -> &'static TypeInfo {
        Self::INFO
    }

    #[inline(always)]
    unsafe fn visit<V: Visitor>(p: NonNull<u8>, visitor: &mut V) {
        // SAFETY: the caller's.
        unsafe { p.cast::<T>().as_ref() }.visit(visitor);
    }
}

/// A length and as many items of type `T`.
pub(super) struct Items<T>(PhantomData<T>);

/// What stands in front of the items.
#[repr(C)]
pub(super) struct ItemsHead<T> {
    /// How many items there are. While an array is made, how many are made already.
    pub(super) len: usize,
    items: [T; 0],
}

/// Slot sizes for arrays: at most a fifth is lost, but for the smallest.
pub(super) const CLASSES: [usize; 29] = [
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 1792, 2048,
    2560, 3264, 4096, 5456, 6544, 8192,
];

impl<T: Collect> Items<T> {
    const DROP: Option<unsafe fn(NonNull<u8>)> = if mem::needs_drop::<T>() { Some(drop_items::<T>) } else { None };

    /// One table for each class, and one for arrays with blocks of their own.
    const INFOS: &'static [TypeInfo; CLASSES.len() + 1] = &{
        assert!(align_of::<T>() <= SLOT_BYTES_MIN, "the alignment of an array's items is at most 16");
        let mut infos = [TypeInfo::new::<Self>(usize::MAX, Self::DROP, core::any::type_name::<[T]>); CLASSES.len() + 1];
        infos[CLASSES.len()].scan_one = Marker::scan_long::<T>;
        infos[CLASSES.len()].scan_shared = Worker::scan_long_shared::<T>;
        let mut i = 0;
        while i < CLASSES.len() {
            infos[i] = TypeInfo::new::<Self>(CLASSES[i], Self::DROP, core::any::type_name::<[T]>);
            i += 1;
        }
        infos
    };

    /// The size of an array with `len` items, if that is a size.
    pub(super) fn bytes(len: usize) -> Option<usize> {
        let bytes = len.checked_mul(size_of::<T>())?.checked_add(size_of::<ItemsHead<T>>())?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }

    /// The table for arrays of this size.
    pub(super) fn info_for(bytes: usize) -> &'static TypeInfo {
        // The classes are in order; the sizes beyond them have the last table.
        &Self::INFOS[CLASSES.partition_point(|class| *class < bytes)]
    }

    /// The items of an array.
    ///
    /// # Safety
    /// `p` is a live array of items of type `T`, for as long as the slice is used.
    #[inline(always)]
    pub(super) unsafe fn slice<'a>(p: NonNull<u8>) -> &'a [T] {
        let head = p.cast::<ItemsHead<T>>();
        // SAFETY: the caller's.
        let len = unsafe { (*head.as_ptr()).len };
        // SAFETY: the items stand behind the head, and the first `len` are made.
        unsafe { core::slice::from_raw_parts(Self::first(p).as_ptr(), len) }
    }

    /// The address of the first item.
    ///
    /// # Safety
    /// `p` is the memory of an array of items of type `T`.
    #[inline(always)]
    pub(super) unsafe fn first(p: NonNull<u8>) -> NonNull<T> {
        // SAFETY: the caller's; the head's size is a multiple of the items' alignment.
        unsafe { p.add(size_of::<ItemsHead<T>>()) }.cast()
    }
}

impl<T: Collect> Shape for Items<T> {
    const NEEDS_VISIT: bool = T::NEEDS_VISIT;

    #[inline(always)]
    fn slot_bytes(block: Block) -> usize {
        block.header().slot_bytes.get()
    }

    #[inline(always)]
    fn info(block: Block) -> &'static TypeInfo {
        block.info()
    }

    #[inline(always)]
    unsafe fn visit<V: Visitor>(p: NonNull<u8>, visitor: &mut V) {
        // SAFETY: the caller's.
        for item in unsafe { Self::slice(p) } {
            item.visit(visitor);
        }
    }
}

/// # Safety
/// An object of type `T` that nobody uses any more lies at `p`.
unsafe fn drop_value<T>(p: NonNull<u8>) {
    // SAFETY: the caller's: an object of type `T` that nobody uses any more.
    unsafe { p.cast::<T>().drop_in_place() }
}

/// # Safety
/// An array of items of type `T` that nobody uses any more lies at `p`.
unsafe fn drop_items<T: Collect>(p: NonNull<u8>) {
    // SAFETY: the caller's: an array of items of type `T` that nobody uses any more.
    let (first, len) = unsafe { (Items::<T>::first(p), (*p.cast::<ItemsHead<T>>().as_ptr()).len) };
    // SAFETY: as above.
    unsafe { NonNull::slice_from_raw_parts(first, len).drop_in_place() }
}

/// # Safety
/// An object of shape `S` on the marker's heap lies at `p`.
unsafe fn mark_erased<S: Shape>(p: NonNull<u8>, marker: &mut Marker) {
    // SAFETY: the caller's: an object of shape `S` on the marker's heap.
    unsafe { marker.mark::<S>(p) }
}

/// # Safety
/// A live object of shape `S` lies at `p`.
unsafe fn edges_erased<S: Shape>(p: NonNull<u8>, sink: &mut EdgeSink<'_>) {
    // SAFETY: the caller's: a live object of shape `S`.
    unsafe { S::visit(p, &mut Edges { sink, field: "" }) };
}

/// Hands the references of a value to a function.
struct Edges<'a, 's> {
    sink: &'a mut EdgeSink<'s>,
    field: &'static str,
}

impl sealed::Sealed for Edges<'_, '_> {}

impl Visitor for Edges<'_, '_> {
    fn raw(&mut self, visit: impl FnOnce(&mut RawVisitor<'_>)) {
        visit(&mut RawVisitor::sink(&mut |_, to, name| (self.sink)(self.field, to, name)));
    }

    fn edge<T: Collect>(&mut self, to: Gc<'_, T>) {
        (self.sink)(self.field, Gc::as_erased(to), core::any::type_name::<T>);
    }

    fn array<T: Collect>(&mut self, to: GcArray<'_, T>) {
        (self.sink)(self.field, GcArray::as_erased(to), core::any::type_name::<[T]>);
    }

    fn ephemeron<V: Collect>(&mut self, of: &EphemeronBox<V>) {
        if of.head.key.get().is_some() {
            of.value.visit(self);
        }
    }

    fn field(&mut self, name: &'static str) {
        self.field = name;
    }
}
