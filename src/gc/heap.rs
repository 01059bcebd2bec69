//! The heap itself, beneath the safe API: its state, and allocation.
//!
//! One `Heap` belongs to one thread and is shared by reference; all its state is in cells, and no borrow of them lasts
//! over a call of the embedder's code, except the marker's own (invariant 4). Collection is in `cycle`, sweeping in
//! `sweep`.

use super::OutOfMemory;
use super::chunk::{BLOCK_BYTES, Block, Kind, QUEUED_NOT};
use super::collect::Collect;
use super::config::Config;
use super::marker::Marker;
use super::minor::Young;
use super::observer::{AllocationSample, Observer};
use super::pacer::{Pacer, Settings};
use super::pool::Pool;
use super::root::Roots;
use super::stats::{Durations, HeapStats, TypeStats};
use super::team::Team;
use super::type_info::{Fixed, TypeInfo};
use super::types::{TypeSlot, Types, hash};
use core::cell::{Cell, RefCell};
use core::ptr::{self, NonNull};

/// Types that can be allocated without looking for their state. More types share cursors and pay some 10 ns where they
/// take turns.
const CURSORS: usize = 256;

/// In `Heap::barrier`: a cycle marks in steps, and must see what is overwritten.
pub(super) const SNAPSHOT: u8 = 1;
/// In `Heap::barrier`: young objects are collected by themselves, and old ones that are written to must be remembered.
pub(super) const LOG: u8 = 2;

/// What the heap is doing.
///
/// ```text
///          start                     marked all
///  Idle ----------> Mark ---------------------------> Idle, with blocks to sweep
///                    |  a panic in the embedder's code
///                    +--------------------------------> Idle, marks not valid: allocation takes new blocks only
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Idle,
    Mark,
}

/// Where the next object of a type goes.
pub(super) struct Cursor {
    /// The next free slot, and the end of the free run. Equal (and perhaps null) if there is none.
    pub(super) next: Cell<*mut u8>,
    pub(super) end: Cell<*mut u8>,
    /// The type, or null.
    pub(super) info: Cell<*const TypeInfo>,
    /// Its index in the heap's table.
    pub(super) type_index: Cell<usize>,
}

/// Sizes in bytes and figures of the cycle at hand.
#[derive(Default)]
pub(super) struct Sizes {
    /// Alive at the end of the last cycle: marked by it, or allocated while it ran.
    pub(super) base: Cell<usize>,
    /// Handed out since then.
    pub(super) allocated: Cell<usize>,
    /// Handed out while the running cycle marks: these objects count as marked.
    pub(super) black: Cell<usize>,
    /// The heap when the running cycle began.
    pub(super) at_start: Cell<usize>,
    /// `allocated` when the last assist was paid.
    pub(super) assisted: Cell<usize>,
    /// Reported by the embedder.
    pub(super) external: Cell<usize>,
    /// What of it was taken off the goal that the observer was told last.
    pub(super) external_told: Cell<usize>,
    /// Handed out since the heap was made, up to the last cycle's end.
    pub(super) allocated_before: Cell<u64>,
    /// `allocated` when the last cycle ended.
    pub(super) allocated_last: Cell<usize>,
}

/// A heap.
pub(super) struct Heap {
    cursors: [Cursor; CURSORS],
    /// What writes must tell: `SNAPSHOT`, `LOG`, or nothing.
    pub(super) barrier: Cell<u8>,
    /// The next safepoint has something to do.
    pub(super) requested: Cell<bool>,
    pub(super) phase: Cell<Phase>,
    /// The marker's epoch.
    pub(super) epoch: Cell<u8>,
    /// The mark bits tell which objects are alive. Not so during a cycle, and after one that was abandoned.
    pub(super) marks_valid: Cell<bool>,
    /// Cycles begun.
    pub(super) cycle: Cell<u64>,
    pub(super) sizes: Sizes,
    pub(super) pacer: Cell<Pacer>,
    /// Blocks in the `unswept` lists, and how many of them a refill sweeps.
    pub(super) unswept: Cell<usize>,
    pub(super) sweep_quota: Cell<usize>,
    /// The type whose list is swept next.
    pub(super) sweep_turn: Cell<usize>,
    pub(super) types: RefCell<Types>,
    pub(super) pool: RefCell<Pool>,
    pub(super) marker: RefCell<Marker>,
    /// The threads that help it, once they were needed.
    pub(super) team: RefCell<Option<Team>>,
    pub(super) roots: Roots,
    /// The arena's root object.
    pub(super) root: Cell<Option<(NonNull<u8>, &'static TypeInfo)>>,
    pub(super) config: Config,
    /// Lives beside the heap and as long (invariant 11).
    pub(super) observer: NonNull<dyn Observer>,
    pub(super) clock: super::cycle::Clock,
    pub(super) young: Young,
    /// Bytes to be handed out until an allocation is sampled.
    sample_left: Cell<usize>,
    /// The state of the random numbers for it.
    sample_random: Cell<u64>,
    /// Weak references were made.
    pub(super) has_weak: Cell<bool>,
    /// What an embedder without types is asked.
    pub(super) hooks: Cell<Option<super::raw::Hooks>>,
}

impl Heap {
    /// # Safety
    /// The observer lives as long as the heap.
    pub(super) unsafe fn new(config: Config, observer: NonNull<dyn Observer>) -> Result<Self, OutOfMemory> {
        let mut pool = Pool::new();
        pool.set_bytes_max(config.heap_bytes_max);
        let pacer = Pacer::new(config.settings);
        let sample_bytes = config.sample_bytes;
        Ok(Heap {
            cursors: core::array::from_fn(|_| Cursor {
                next: Cell::new(ptr::null_mut()),
                end: Cell::new(ptr::null_mut()),
                info: Cell::new(ptr::null()),
                type_index: Cell::new(0),
            }),
            barrier: Cell::new(if config.generational { LOG } else { 0 }),
            requested: Cell::new(config.stress),
            phase: Cell::new(Phase::Idle),
            epoch: Cell::new(1),
            marks_valid: Cell::new(true),
            cycle: Cell::new(0),
            sizes: Sizes::default(),
            pacer: Cell::new(pacer),
            unswept: Cell::new(0),
            sweep_quota: Cell::new(0),
            sweep_turn: Cell::new(0),
            types: RefCell::new(Types::new()),
            pool: RefCell::new(pool),
            marker: RefCell::new(Marker::new()),
            team: RefCell::new(None),
            roots: Roots::new()?,
            root: Cell::new(None),
            config,
            observer,
            clock: super::cycle::Clock::new(),
            young: Young::new(),
            sample_left: Cell::new(sample_bytes.max(1)),
            sample_random: Cell::new(0x9E37_79B9_7F4A_7C15),
            has_weak: Cell::new(false),
            hooks: Cell::new(None),
        })
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        // SAFETY: invariant 11.
        unsafe { self.observer.as_ref() }
    }

    /// The number of the cycle that runs or ran last.
    #[inline]
    pub(super) fn cycle(&self) -> u64 {
        self.cycle.get()
    }

    /// Whether a write must show the old value to the marker.
    #[inline(always)]
    pub(super) fn is_snapshot_on(&self) -> bool {
        self.barrier.get() & SNAPSHOT != 0
    }

    /// Bytes that the heap holds now, without the external ones.
    pub(super) fn heap_bytes(&self) -> usize {
        self.sizes.base.get() + self.sizes.allocated.get()
    }

    /// What the pacer compares with its goal.
    pub(super) fn paced_bytes(&self) -> usize {
        self.heap_bytes().saturating_add(self.sizes.external.get())
    }

    /// Whether what is alive fills 7/8 of what the soft limit leaves for it.
    pub(super) fn is_near_limit(&self) -> bool {
        let limit = self.pacer.get().limit(self.overhead_bytes());
        limit.is_some_and(|limit| self.paced_bytes() - self.sizes.allocated.get() >= limit / 8 * 7)
    }

    /// Mapped beyond the heap's size.
    pub(super) fn overhead_bytes(&self) -> usize {
        self.pool.borrow().bytes_mapped().saturating_sub(self.heap_bytes())
    }

    /// Puts a value on the heap.
    #[inline(always)]
    pub(super) fn alloc<T: Collect>(&self, value: T) -> Result<NonNull<u8>, OutOfMemory> {
        let at = self.alloc_slot(<Fixed<T>>::INFO, <Fixed<T>>::SLOT_BYTES)?;
        // SAFETY: a free slot of a block for objects of type `T` (invariant 3), which nobody else refers to (invariant
        // 8).
        unsafe { at.cast::<T>().write(value) };
        Ok(at)
    }

    /// A free slot for an object of the type, which is not a large one of no fixed size. `slot_bytes` is the type's.
    #[inline(always)]
    pub(super) fn alloc_slot(&self, info: &'static TypeInfo, slot_bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let cursor = &self.cursors[hash(info) % CURSORS];
        let next = cursor.next.get();
        let room = cursor.end.get().addr().wrapping_sub(next.addr());
        if ptr::eq(cursor.info.get(), info) && room != 0 {
            // SAFETY: the run goes on for `room` bytes, a multiple of the slot's size.
            cursor.next.set(unsafe { next.add(slot_bytes) });
            // SAFETY: a run does not start at null.
            Ok(unsafe { NonNull::new_unchecked(next) })
        } else {
            self.alloc_slow(info)
        }
    }

    /// A slot, after the cursor had none.
    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, info: &'static TypeInfo) -> Result<NonNull<u8>, OutOfMemory> {
        if info.is_large() {
            return self.alloc_large(info, info.slot_bytes);
        }
        let cursor = &self.cursors[hash(info) % CURSORS];
        let index = if ptr::eq(cursor.info.get(), info) {
            cursor.type_index.get()
        } else {
            let index = self.types.borrow_mut().index_of(info)?;
            self.park(cursor);
            let (next, end) = self.types.borrow().as_slice()[index].parked.replace((ptr::null_mut(), ptr::null_mut()));
            cursor.next.set(next);
            cursor.end.set(end);
            cursor.info.set(info);
            cursor.type_index.set(index);
            index
        };
        if cursor.next.get() == cursor.end.get() {
            let (block, from, to) = self.next_run(index)?;
            let is_sampled = self.with_types(|t| t[index].is_sampled.take());
            let to = self.cut_run(index, from, to, info.slot_bytes);
            // A cycle may have ended meanwhile, and taken every cursor's type away.
            cursor.info.set(info);
            cursor.type_index.set(index);
            cursor.next.set(block.slot(from).as_ptr());
            cursor.end.set(block.slot(from).as_ptr().wrapping_add((to - from) * info.slot_bytes));
            self.hand_out(block, from, to);
            if is_sampled {
                self.tell_sample(info, info.slot_bytes, self.config.sample_bytes);
            }
        }
        let at = cursor.next.get();
        // SAFETY: the run has room for one object.
        cursor.next.set(unsafe { at.add(info.slot_bytes) });
        NonNull::new(at).ok_or(OutOfMemory)
    }

    /// An object with a run of blocks for itself.
    pub(super) fn alloc_large(&self, info: &'static TypeInfo, bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let index = self.types.borrow_mut().index_of(info)?;
        self.pay(bytes);
        let block = loop {
            match self.take_blocks(bytes.div_ceil(BLOCK_BYTES)) {
                Ok(block) => break block,
                Err(OutOfMemory) if self.make_room() => {}
                Err(OutOfMemory) => return Err(OutOfMemory),
            }
        };
        self.prepare(block, index, info, Kind::Large, bytes);
        self.with_types(|t| t[index].used.push(block));
        self.hand_out(block, 0, 1);
        self.sample_large(info, bytes);
        self.observer().live(self.heap_bytes());
        Ok(block.as_ptr())
    }

    /// The next run of free slots for a type, as block and half-open range.
    fn next_run(&self, type_index: usize) -> Result<(Block, usize, usize), OutOfMemory> {
        let mut paid = false;
        loop {
            let types = self.types.borrow();
            let slot = &types.as_slice()[type_index];
            if let Some(block) = slot.block.get() {
                if let Some((from, to)) = block.free_run(slot.position.get()) {
                    slot.position.set(to);
                    return Ok((block, from, to));
                }
                slot.block.set(None);
                slot.used.push(block);
            }
            let info = slot.info;
            if !paid {
                // Once for each block, and not for each run. This may bring a cycle to its end, after which everything
                // is to be looked up again.
                paid = true;
                drop(types);
                self.pay(BLOCK_BYTES);
                self.observer().live(self.heap_bytes());
                continue;
            }
            if self.phase.get() == Phase::Idle {
                if let Some(block) = slot.avail.pop() {
                    self.look_over(block);
                    slot.block.set(Some(block));
                    slot.position.set(0);
                    continue;
                }
                if let Some(block) = slot.unswept.pop() {
                    drop(types);
                    self.sweep(block);
                    continue;
                }
            }
            drop(types);
            match self.take_blocks(1) {
                Ok(block) => {
                    self.prepare(block, type_index, info, Kind::Small, info.slot_bytes);
                    let slots = info.slots as usize;
                    let types = self.types.borrow();
                    let slot = &types.as_slice()[type_index];
                    slot.block.set(Some(block));
                    slot.position.set(slots);
                    return Ok((block, 0, slots));
                }
                Err(OutOfMemory) if self.make_room() => {}
                Err(OutOfMemory) => return Err(OutOfMemory),
            }
        }
    }

    /// Takes blocks from the pool, and before that makes sure that the marker can queue every block there will be
    /// (invariant 6).
    fn take_blocks(&self, run: usize) -> Result<Block, OutOfMemory> {
        let mut pool = self.pool.borrow_mut();
        if !pool.has_free(run) {
            self.marker.borrow_mut().reserve(pool.blocks_after_growth())?;
        }
        pool.take(run)
    }

    /// Fills in the table entry of blocks that come from the pool.
    fn prepare(&self, block: Block, type_index: usize, info: &'static TypeInfo, kind: Kind, slot_bytes: usize) {
        let run = if kind == Kind::Large { slot_bytes.div_ceil(BLOCK_BYTES) } else { 1 };
        let header = block.header();
        header.info.set(info);
        header.next.set(None);
        header.slot_bytes.set(slot_bytes);
        header.slots.set(info.slots);
        header.type_index.set(type_index as u32);
        header.run.set(run as u32);
        header.unswept.set(false);
        header.kind.set(kind);
        if !block.chunk().is_huge() {
            for distance in 1..run {
                let rest = block.chunk().block(block.number() + distance).header();
                rest.kind.set(Kind::Rest);
                rest.run.set(distance as u32);
            }
        }
        block.hot().queued.set(QUEUED_NOT);
        block.refresh(self.epoch.get());
        for group in block.groups() {
            group.alloc.set(0);
        }
    }

    /// Books a free run as handed out: marked while a cycle marks, to be dropped if the type needs it, and counted.
    fn hand_out(&self, block: Block, from: usize, to: usize) {
        let info = block.info();
        let bytes = (to - from) * block.header().slot_bytes.get();
        let marking = self.phase.get() == Phase::Mark;
        if marking {
            block.with_range(from, to, |g, m| {
                g.mark.set(g.mark.get() | m);
                g.scan.set(g.scan.get() | m);
            });
            self.sizes.black.set(self.sizes.black.get() + bytes);
        }
        if info.drop.is_some() {
            block.with_range(from, to, |g, m| g.alloc.set(g.alloc.get() | m));
        }
        self.sizes.allocated.set(self.sizes.allocated.get() + bytes);
        self.request_if_due();
    }

    /// Where a run of free slots is to end: at the allocation that is to be sampled, if that is in it. It has its turn when
    /// the type asks for more, and the rest of the run is found again then.
    fn cut_run(&self, type_index: usize, from: usize, to: usize, slot_bytes: usize) -> usize {
        let left = self.sample_left.get();
        let slots = left.div_ceil(slot_bytes);
        if to - from < slots || self.config.sample_bytes == 0 {
            self.sample_left.set(left.saturating_sub((to - from) * slot_bytes));
            return to;
        }
        self.with_types(|t| {
            t[type_index].position.set(from + slots);
            t[type_index].is_sampled.set(true);
        });
        self.sample_left.set(self.sample_distance());
        from + slots
    }

    /// The next allocation that is sampled is so many bytes away: from half to one and a half, so that a program that
    /// allocates in a rhythm does not keep step with it.
    fn sample_distance(&self) -> usize {
        let random = self.sample_random.get();
        let random = random ^ random << 13;
        let random = random ^ random >> 7;
        let random = random ^ random << 17;
        self.sample_random.set(random);
        (self.config.sample_bytes / 2 + (random >> 20) as usize % self.config.sample_bytes).max(1)
    }

    /// Tells the observer of a large object, if it is sampled. It may stand for several.
    fn sample_large(&self, info: &'static TypeInfo, bytes: usize) {
        let (left, period) = (self.sample_left.get(), self.config.sample_bytes);
        if bytes < left || period == 0 {
            self.sample_left.set(left.saturating_sub(bytes));
        } else {
            self.sample_left.set(self.sample_distance());
            self.tell_sample(info, bytes, (1 + (bytes - left) / period) * period);
        }
    }

    fn tell_sample(&self, info: &'static TypeInfo, object_bytes: usize, stands_for_bytes: usize) {
        self.observer().sampled(&AllocationSample { type_name: info.type_name(), object_bytes, stands_for_bytes });
    }

    /// Takes a run back that was handed out and not used.
    fn take_back(&self, block: Block, from: usize, to: usize) {
        let info = block.info();
        let bytes = (to - from) * block.header().slot_bytes.get();
        if self.phase.get() == Phase::Mark {
            block.with_range(from, to, |g, m| {
                g.mark.set(g.mark.get() & !m);
                g.scan.set(g.scan.get() & !m);
            });
            self.sizes.black.set(self.sizes.black.get() - bytes);
        }
        if info.drop.is_some() {
            block.with_range(from, to, |g, m| g.alloc.set(g.alloc.get() & !m));
        }
        self.sizes.allocated.set(self.sizes.allocated.get() - bytes);
        self.sizes.assisted.set(self.sizes.assisted.get().min(self.sizes.allocated.get()));
    }

    /// Gives the type's state the run that the cursor holds.
    fn park(&self, cursor: &Cursor) {
        if !cursor.info.get().is_null() {
            let run = (cursor.next.replace(ptr::null_mut()), cursor.end.replace(ptr::null_mut()));
            self.types.borrow().as_slice()[cursor.type_index.get()].parked.set(run);
            cursor.info.set(ptr::null());
        }
    }

    /// Takes back every run that is handed out and not used up. No cursor has room afterwards.
    pub(super) fn retire_all(&self) {
        for cursor in &self.cursors {
            self.park(cursor);
        }
        for slot in self.types.borrow().as_slice() {
            let (next, end) = slot.parked.replace((ptr::null_mut(), ptr::null_mut()));
            let Some(block) = slot.block.take() else { continue };
            slot.used.push(block);
            if let Some(next) = NonNull::new(next) {
                let to = (end.addr() - block.addr()) / slot.info.slot_bytes;
                let from = block.index_of(next);
                if from < to {
                    self.take_back(block, from, to);
                }
            }
        }
    }

    /// The runs that are handed out and not used up, for those who look at the heap.
    pub(super) fn for_each_open_run(&self, mut f: impl FnMut(NonNull<u8>, usize)) {
        let mut show = |next: *mut u8, end: *mut u8| {
            if let Some(p) = NonNull::new(next).filter(|_| next != end) {
                f(p, end.addr());
            }
        };
        for cursor in &self.cursors {
            show(cursor.next.get(), cursor.end.get());
        }
        for slot in self.types.borrow().as_slice() {
            let (next, end) = slot.parked.get();
            show(next, end);
        }
    }

    /// What a cell does before it is overwritten: shows the old value to the marker, if that marks in steps, or has
    /// the object around it remembered, if young objects are collected by themselves.
    #[inline(always)]
    pub(super) fn before_write<T: Collect>(&self, old: &T, new: Option<&T>) {
        match self.barrier.get() {
            0 => {}
            SNAPSHOT => self.show_to_marker(old),
            _ => self.log_write(core::ptr::from_ref(old).addr(), new),
        }
    }

    /// What an array of cells does before an item is added to it, of which there was no old value.
    #[inline(always)]
    pub(super) fn before_append<T: Collect>(&self, array: usize, new: &T) {
        if self.barrier.get() == LOG {
            self.log_write(array, Some(new));
        }
    }

    /// Reports a change of the memory that objects own outside of the heap.
    pub(super) fn adjust_external(&self, bytes: isize) {
        self.sizes.external.set(self.sizes.external.get().saturating_add_signed(bytes));
        if self.sizes.external.get().abs_diff(self.sizes.external_told.get()) >= BLOCK_BYTES {
            self.tell_goal();
        }
        self.request_if_due();
    }

    /// Tells the observer what the heap itself may reach: the goal without the external bytes, which the heap's size
    /// does not contain either. (Whoever counts the native heap has them already.)
    pub(super) fn tell_goal(&self) {
        let external = self.sizes.external.get();
        self.sizes.external_told.set(external);
        self.observer().goal(self.pacer.get().goal.saturating_sub(external).max(self.heap_bytes()));
    }

    pub(super) fn stats(&self) -> HeapStats {
        let (allocated, before) = (self.sizes.allocated.get(), self.sizes.allocated_before.get());
        let [stw, assists, sweeps, minors]: [Durations; 4] = self.clock.durations();
        HeapStats {
            bytes_live: self.heap_bytes(),
            bytes_external: self.sizes.external.get(),
            bytes_goal: self.pacer.get().goal,
            bytes_mapped: self.pool.borrow().bytes_mapped(),
            bytes_allocated: before + allocated as u64,
            cycles: self.cycle.get() - u64::from(self.phase.get() == Phase::Mark),
            cycles_abandoned: self.clock.cycles_abandoned.get(),
            is_near_limit: self.is_near_limit(),
            is_marking: self.phase.get() == Phase::Mark,
            blocks_unswept: self.unswept.get(),
            stw,
            assists,
            sweeps,
            minors,
        }
    }

    /// Calls `f` for every block that holds objects.
    pub(super) fn for_each_block(&self, mut f: impl FnMut(Block)) {
        let mut index = 0;
        // The pool is not borrowed while `f` runs, and may change.
        while let Some(chunk) = self.chunk(index) {
            let mut number = super::chunk::TABLE_BLOCKS;
            while number < super::chunk::BLOCKS {
                let block = chunk.block(number);
                if matches!(block.header().kind.get(), Kind::Small | Kind::Large) {
                    f(block);
                }
                if chunk.is_huge() {
                    break;
                }
                number += 1;
            }
            index += 1;
        }
    }

    pub(super) fn chunk(&self, index: usize) -> Option<super::chunk::Chunk> {
        self.pool.borrow().chunks().get(index).copied()
    }

    /// The state of each type.
    pub(super) fn with_types<R>(&self, f: impl FnOnce(&[TypeSlot]) -> R) -> R {
        f(self.types.borrow().as_slice())
    }

    /// Changes what the pacer goes by, from now on.
    pub(super) fn change_settings(&self, f: impl FnOnce(&mut Settings)) {
        let mut pacer = self.pacer.get();
        f(&mut pacer.settings);
        pacer.update(self.overhead_bytes());
        self.pacer.set(pacer);
        self.tell_goal();
        self.request_if_due();
    }

    fn request_if_due(&self) {
        let nursery_full = self.barrier.get() == LOG && self.sizes.allocated.get() >= self.young.nursery.get();
        if self.phase.get() == Phase::Idle && (nursery_full || self.paced_bytes() >= self.pacer.get().trigger) {
            self.requested.set(true);
        }
    }

    /// Calls `f` with the numbers of each type.
    pub(super) fn for_each_type(&self, mut f: impl FnMut(&TypeStats)) {
        for index in 0..self.with_types(<[_]>::len) {
            let info = self.with_types(|t| t[index].info);
            let (mut blocks, mut objects_marked, mut bytes_marked) = (0, 0, 0);
            self.for_each_block(|block| {
                if block.header().type_index.get() as usize == index {
                    blocks += block.header().run.get() as usize;
                    if block.hot().epoch.get() == self.epoch.get() {
                        objects_marked += block.marks();
                        bytes_marked += block.marks() * block.header().slot_bytes.get();
                    }
                }
            });
            f(&TypeStats {
                name: info.type_name(),
                object_bytes: if info.is_large() { 0 } else { info.slot_bytes },
                blocks,
                objects_marked,
                bytes_marked,
            });
        }
    }
}
