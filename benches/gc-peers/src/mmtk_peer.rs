//! The programs on MMTk, a library of collectors that a runtime is bound to: trees and lists, whose objects do not change.
//!
//! The binding is what its guide asks for, with the inlined allocation that it recommends: objects have a header of 8 bytes
//! that says how many references follow, from which size and layout are told; what the collector keeps for an object stands
//! beside the heap. There is one mutator and one worker. Collections come at safepoints only, as with ours, where
//! nothing but the program's roots is held, so that objects may move. The heap has a fixed size, three times what is
//! alive at most (`heap_bytes`): with its dynamic trigger MMTk collects many times as often on the smaller programs.

use crate::watch::tick;
use crate::work::{self, BATCH, TICK_DEPTH, Trees};
use mmtk::util::alloc::{AllocatorInfo, BumpPointer};
use mmtk::util::copy::{CopySemantics, GCWorkerCopyContext};
use mmtk::util::options::{GCTriggerSelector, PlanSelector};
use mmtk::util::{Address, ObjectReference, OpaquePointer, VMMutatorThread, VMThread, VMWorkerThread};
use mmtk::vm::slot::{SimpleSlot, UnimplementedMemorySlice};
use mmtk::vm::*;
use mmtk::{AllocationSemantics, MMTK, MMTKBuilder, Mutator, memory_manager};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex};

/// A header with the number of references, and these; then whatever else is in the object.
#[repr(C)]
struct Object {
    references: u32,
    bytes: u32,
    fields: [*mut Object; 2],
}

const BYTES: usize = size_of::<Object>();

#[derive(Default)]
struct Vm;

static MUTATOR: AtomicPtr<Mutator<Vm>> = AtomicPtr::new(std::ptr::null_mut());
/// Whether the program stands still for the collector.
static STOPPED: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();
static AT_SAFEPOINT: AtomicBool = AtomicBool::new(false);

/// What the program holds between safepoints.
struct Roots(UnsafeCell<[*mut Object; 2]>);
// SAFETY: used by the mutator, and by the worker while that stands still.
unsafe impl Sync for Roots {}
static ROOTS: Roots = Roots(UnsafeCell::new([std::ptr::null_mut(); 2]));

fn the_mutator() -> &'static mut Mutator<Vm> {
    // SAFETY: made in `Heap::new` and never freed; used by the mutator, and by the worker while that stands still.
    unsafe { &mut *MUTATOR.load(Ordering::Relaxed) }
}

fn object(reference: ObjectReference) -> &'static Object {
    // SAFETY: all references are to objects of that layout.
    unsafe { reference.to_raw_address().as_ref() }
}

impl VMBinding for Vm {
    type VMObjectModel = Vm;
    type VMScanning = Vm;
    type VMCollection = Vm;
    type VMActivePlan = Vm;
    type VMReferenceGlue = Vm;
    type VMSlot = SimpleSlot;
    type VMMemorySlice = UnimplementedMemorySlice;
    const MIN_ALIGNMENT: usize = 8;
}

impl ObjectModel<Vm> for Vm {
    const GLOBAL_LOG_BIT_SPEC: VMGlobalLogBitSpec = VMGlobalLogBitSpec::side_first();
    // Over the first reference, which has been copied by then.
    const LOCAL_FORWARDING_POINTER_SPEC: VMLocalForwardingPointerSpec = VMLocalForwardingPointerSpec::in_header(64);
    const LOCAL_FORWARDING_BITS_SPEC: VMLocalForwardingBitsSpec = VMLocalForwardingBitsSpec::side_first();
    const LOCAL_MARK_BIT_SPEC: VMLocalMarkBitSpec =
        VMLocalMarkBitSpec::side_after(Self::LOCAL_FORWARDING_BITS_SPEC.as_spec());
    const LOCAL_LOS_MARK_NURSERY_SPEC: VMLocalLOSMarkNurserySpec =
        VMLocalLOSMarkNurserySpec::side_after(Self::LOCAL_MARK_BIT_SPEC.as_spec());
    const UNIFIED_OBJECT_REFERENCE_ADDRESS: bool = true;
    const OBJECT_REF_OFFSET_LOWER_BOUND: isize = 0;

    fn copy(from: ObjectReference, semantics: CopySemantics, context: &mut GCWorkerCopyContext<Vm>) -> ObjectReference {
        let bytes = Self::get_current_size(from);
        let to = context.alloc_copy(from, bytes, 8, 0, semantics);
        // SAFETY: fresh memory of that size.
        unsafe { std::ptr::copy_nonoverlapping::<u8>(from.to_raw_address().to_ptr(), to.to_mut_ptr(), bytes) };
        // SAFETY: not null.
        let to = unsafe { ObjectReference::from_raw_address_unchecked(to) };
        context.post_copy(to, bytes, semantics);
        to
    }
    fn copy_to(_: ObjectReference, _: ObjectReference, _: Address) -> Address {
        unreachable!("no plan here compacts")
    }
    fn get_reference_when_copied_to(_: ObjectReference, _: Address) -> ObjectReference {
        unreachable!("no plan here compacts")
    }
    fn get_current_size(of: ObjectReference) -> usize {
        object(of).bytes as usize
    }
    fn get_size_when_copied(of: ObjectReference) -> usize {
        Self::get_current_size(of)
    }
    fn get_align_when_copied(_: ObjectReference) -> usize {
        8
    }
    fn get_align_offset_when_copied(_: ObjectReference) -> usize {
        0
    }
    fn get_type_descriptor(_: ObjectReference) -> &'static [i8] {
        unreachable!("nobody asks for it")
    }
    fn ref_to_object_start(of: ObjectReference) -> Address {
        of.to_raw_address()
    }
    fn ref_to_header(of: ObjectReference) -> Address {
        of.to_raw_address()
    }
    fn dump_object(_: ObjectReference) {}
}

impl Scanning<Vm> for Vm {
    fn scan_object<SV: SlotVisitor<SimpleSlot>>(_: VMWorkerThread, of: ObjectReference, visitor: &mut SV) {
        let first = of.to_raw_address() + std::mem::offset_of!(Object, fields);
        for i in 0..object(of).references as usize {
            visitor.visit_slot(SimpleSlot::from_address(first + 8 * i));
        }
    }
    fn notify_initial_thread_scan_complete(_: bool, _: VMWorkerThread) {}
    fn scan_roots_in_mutator_thread(
        _: VMWorkerThread,
        _: &'static mut Mutator<Vm>,
        _: impl RootsWorkFactory<SimpleSlot>,
    ) {
    }
    fn scan_vm_specific_roots(_: VMWorkerThread, mut factory: impl RootsWorkFactory<SimpleSlot>) {
        let first = Address::from_mut_ptr(ROOTS.0.get());
        factory.create_process_roots_work((0..2).map(|i| SimpleSlot::from_address(first + 8 * i as usize)).collect());
    }
    fn supports_return_barrier() -> bool {
        false
    }
    fn prepare_for_roots_re_scanning() {}
}

impl Collection<Vm> for Vm {
    fn stop_all_mutators<F: FnMut(&'static mut Mutator<Vm>)>(_: VMWorkerThread, mut visit: F) {
        let mut stopped = STOPPED.lock().expect("nobody panics");
        while !*stopped {
            stopped = CHANGED.wait(stopped).expect("nobody panics");
        }
        visit(the_mutator());
    }
    fn resume_mutators(_: VMWorkerThread) {
        *STOPPED.lock().expect("nobody panics") = false;
        CHANGED.notify_all();
    }
    fn block_for_gc(_: VMMutatorThread) {
        let mut stopped = STOPPED.lock().expect("nobody panics");
        *stopped = true;
        CHANGED.notify_all();
        while *stopped {
            stopped = CHANGED.wait(stopped).expect("nobody panics");
        }
    }
    fn spawn_gc_thread(_: VMThread, context: GCThreadContext<Vm>) {
        let GCThreadContext::Worker(worker) = context;
        let mmtk = worker.mmtk;
        std::thread::spawn(move || {
            memory_manager::start_worker(mmtk, VMWorkerThread(VMThread(OpaquePointer::UNINITIALIZED)), worker);
        });
    }
    fn is_collection_enabled() -> bool {
        AT_SAFEPOINT.load(Ordering::Relaxed)
    }
}

/// The one mutator's thread, which is anything but null.
fn tls() -> VMMutatorThread {
    VMMutatorThread(VMThread(OpaquePointer::from_address(Address::from_ptr(&raw const STOPPED))))
}

impl ActivePlan<Vm> for Vm {
    fn is_mutator(thread: VMThread) -> bool {
        thread == tls().0
    }
    fn mutator(_: VMMutatorThread) -> &'static mut Mutator<Vm> {
        the_mutator()
    }
    fn mutators<'a>() -> Box<dyn Iterator<Item = &'a mut Mutator<Vm>> + 'a> {
        Box::new(std::iter::once(the_mutator()))
    }
    fn number_of_mutators() -> usize {
        1
    }
}

impl ReferenceGlue<Vm> for Vm {
    type FinalizableType = ObjectReference;
    fn clear_referent(_: ObjectReference) {}
    fn get_referent(_: ObjectReference) -> Option<ObjectReference> {
        None
    }
    fn set_referent(_: ObjectReference, _: ObjectReference) {}
    fn enqueue_references(_: &[ObjectReference], _: VMWorkerThread) {}
}

struct Heap {
    mmtk: &'static MMTK<Vm>,
    mutator: *mut Mutator<Vm>,
    /// Where the plan has one.
    bump: *mut BumpPointer,
}

impl Heap {
    fn new(plan: PlanSelector, bytes: usize) -> Self {
        let mut builder = MMTKBuilder::new_no_env_vars();
        assert!(builder.options.plan.set(plan));
        assert!(builder.options.threads.set(1));
        assert!(builder.options.gc_trigger.set(GCTriggerSelector::FixedHeapSize(bytes)));
        let mmtk: &'static MMTK<Vm> = Box::leak(memory_manager::mmtk_init(&builder));
        memory_manager::initialize_collection(mmtk, VMThread(OpaquePointer::UNINITIALIZED));
        let mutator = Box::into_raw(memory_manager::bind_mutator(mmtk, tls()));
        MUTATOR.store(mutator, Ordering::Relaxed);
        let selector = memory_manager::get_allocator_mapping(mmtk, AllocationSemantics::Default);
        let bump = match AllocatorInfo::new::<Vm>(selector) {
            // SAFETY: the mutator has a bump pointer there.
            AllocatorInfo::BumpPointer { bump_pointer_offset } => unsafe {
                mutator.cast::<u8>().add(bump_pointer_offset).cast()
            },
            _ => std::ptr::null_mut(),
        };
        Heap { mmtk, mutator, bump }
    }

    #[inline(always)]
    fn alloc(&self, references: u32, fields: [*mut Object; 2]) -> *mut Object {
        // SAFETY: nobody else uses the mutator while the program runs.
        if let Some(bump) = unsafe { self.bump.as_mut() }
            && bump.cursor + BYTES <= bump.limit
        {
            let at = bump.cursor.to_mut_ptr::<Object>();
            bump.cursor += BYTES;
            // SAFETY: fresh memory for an object.
            unsafe { at.write(Object { references, bytes: BYTES as u32, fields }) };
            return at;
        }
        self.alloc_slow(references, fields)
    }

    #[inline(never)]
    fn alloc_slow(&self, references: u32, fields: [*mut Object; 2]) -> *mut Object {
        // SAFETY: as above.
        let mutator = unsafe { &mut *self.mutator };
        let at = memory_manager::alloc(mutator, BYTES, 8, 0, AllocationSemantics::Default);
        // SAFETY: not null.
        let reference = unsafe { ObjectReference::from_raw_address_unchecked(at) };
        memory_manager::post_alloc(mutator, reference, BYTES, AllocationSemantics::Default);
        let at = at.to_mut_ptr::<Object>();
        // SAFETY: fresh memory for an object.
        unsafe { at.write(Object { references, bytes: BYTES as u32, fields }) };
        at
    }

    fn safepoint(&self) {
        AT_SAFEPOINT.store(true, Ordering::Relaxed);
        memory_manager::gc_poll(self.mmtk, tls());
        AT_SAFEPOINT.store(false, Ordering::Relaxed);
    }

    fn build(&self, depth: u32) -> *mut Object {
        if depth <= TICK_DEPTH {
            return self.small(depth);
        }
        tick();
        let fields = [self.build(depth - 1), self.build(depth - 1)];
        self.alloc(2, fields)
    }

    fn small(&self, depth: u32) -> *mut Object {
        if depth == 0 {
            return self.alloc(2, [std::ptr::null_mut(); 2]);
        }
        let fields = [self.small(depth - 1), self.small(depth - 1)];
        self.alloc(2, fields)
    }
}

fn root(index: usize) -> *mut *mut Object {
    // SAFETY: the place of a root.
    unsafe { ROOTS.0.get().cast::<*mut Object>().add(index) }
}

/// The object at `at`.
fn get<'a>(at: *mut Object) -> Option<&'a Object> {
    // SAFETY: null, or an object that was reached from a root since the last safepoint.
    unsafe { at.as_ref() }
}

fn count(tree: *mut Object, depth: u32) -> u64 {
    if depth <= TICK_DEPTH {
        return count_small(tree);
    }
    tick();
    get(tree).map_or(0, |t| 1 + count(t.fields[0], depth - 1) + count(t.fields[1], depth - 1))
}

fn count_small(tree: *mut Object) -> u64 {
    get(tree).map_or(0, |t| 1 + count_small(t.fields[0]) + count_small(t.fields[1]))
}

impl Trees for Heap {
    fn temporary(&mut self, depth: u32) -> u64 {
        count(self.build(depth), depth)
    }
    fn keep(&mut self, depth: u32) {
        let tree = self.build(depth);
        // SAFETY: the program runs, so nobody else uses the roots.
        unsafe { *root(0) = tree };
    }
    fn count_kept(&mut self, depth: u32) -> u64 {
        // SAFETY: as above.
        count(unsafe { *root(0) }, depth)
    }
    fn safepoint(&mut self) {
        Heap::safepoint(self);
    }
}

/// Three times what is alive at most: the tree that is kept and the largest of the others, or two lists and a third.
fn heap_bytes(program: &str) -> Option<usize> {
    let tree = |depth: u32| ((2 << depth) - 1) * BYTES;
    let depth = || program.get(2..)?.parse().ok();
    Some(
        3 * match program.get(..2)? {
            "bt" => tree(depth()?) + tree(depth()? + 1),
            "gb" => tree(depth()?) + tree(depth()? - 2),
            "li" => 2 * work::LISTS.0 as usize * BYTES,
            _ => return None,
        },
    )
}

pub fn run(program: &str, plan: PlanSelector) -> Option<u64> {
    let bytes = heap_bytes(program)?;
    match program {
        "lists" => Some(lists(&Heap::new(plan, bytes))),
        _ => work::trees(program, &mut Heap::new(plan, bytes)),
    }
}

/// A node has one reference, and its value where others have the second.
fn lists(heap: &Heap) -> u64 {
    let (nodes, lists) = work::LISTS;
    let mut sum = 0;
    for round in 0..lists {
        for from in (0..nodes).step_by(BATCH as usize) {
            // SAFETY: the program runs, so nobody else uses the roots.
            let mut list = unsafe { *root(0) };
            for i in from..from + BATCH {
                list = heap.alloc(1, [list, std::ptr::without_provenance_mut((i + round) as usize)]);
            }
            // SAFETY: as above.
            unsafe { *root(0) = list };
            heap.safepoint();
            tick();
        }
        for i in 0..2 {
            // SAFETY: as above.
            let mut at = unsafe { *root(i) };
            while let Some(node) = get(at) {
                let value = node.fields[1].addr() as u64;
                sum += value;
                if value % 256 == 0 {
                    tick();
                }
                at = node.fields[0];
            }
        }
        // SAFETY: as above.
        unsafe { *root(1) = std::mem::replace(&mut *root(0), std::ptr::null_mut()) };
    }
    sum
}
