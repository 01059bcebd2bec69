//! The library's own memory: what the tracer allocates under somebody else's program.
//!
//! It comes from the system directly and never through `malloc`, which belongs to the program and which this library records. Blocks
//! are powers of two, one list of free ones for each size, behind one lock that is held for a few instructions. There is little
//! traffic: the tracer's thread puts its tables together, once a generation.
//!
//! The lock is taken around `fork`, so that a child never finds it held by a thread that it does not have.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use exectrace::__preload as guest;

/// The smallest block: room for the link of the list.
const SMALLEST_LOG2: u32 = 4;
/// The largest block of a list. Larger ones are mappings of their own.
const LARGEST_LOG2: u32 = 15;
const CLASSES: usize = (LARGEST_LOG2 - SMALLEST_LOG2 + 1) as usize;
/// What is mapped at once to be cut into blocks.
const SLAB_BYTES: usize = 256 << 10;

/// The allocator. There is one, [`ARENA`].
pub(crate) struct Arena {
    locked: AtomicBool,
    lists: UnsafeCell<Lists>,
}

struct Lists {
    /// The first free block of each size; the first word of a free block is the next one.
    free: [*mut u8; CLASSES],
    /// What is left of the last slab.
    rest: *mut u8,
    rest_bytes: usize,
}

// SAFETY: `lists` is touched by the holder of the lock only.
unsafe impl Sync for Arena {}

#[global_allocator]
pub(crate) static ARENA: Arena = Arena {
    locked: AtomicBool::new(false),
    lists: UnsafeCell::new(Lists {
        free: [core::ptr::null_mut(); CLASSES],
        rest: core::ptr::null_mut(),
        rest_bytes: 0,
    }),
};

/// The list for blocks of so many bytes; `None` for those that are mapped.
fn class(layout: Layout) -> Option<usize> {
    let bytes = layout.size().max(layout.align()).max(1 << SMALLEST_LOG2);
    (bytes <= 1 << LARGEST_LOG2).then(|| (bytes.next_power_of_two().trailing_zeros() - SMALLEST_LOG2) as usize)
}

impl Arena {
    /// Takes the lock. Whoever holds it is inside a few instructions of this file, or inside `fork`.
    pub(crate) fn lock(&self) {
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // SAFETY: no arguments.
            unsafe { guest::system(libc::SYS_sched_yield, [0; 6]) };
        }
    }

    /// Gives the lock back; also in the child of a fork, whose parent took it for both.
    pub(crate) fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    /// Runs `f` with the lists.
    fn with<R>(&self, f: impl FnOnce(&mut Lists) -> R) -> R {
        self.lock();
        // SAFETY: the lock is held, and nothing in `f` comes back here.
        let r = f(unsafe { &mut *self.lists.get() });
        self.unlock();
        r
    }
}

impl Lists {
    fn take(&mut self, class: usize) -> *mut u8 {
        let first = self.free[class];
        if !first.is_null() {
            // SAFETY: a free block is aligned for a pointer and holds the next one.
            self.free[class] = unsafe { first.cast::<*mut u8>().read() };
            return first;
        }
        let bytes = 1 << (class as u32 + SMALLEST_LOG2);
        // Blocks are aligned to their size: what is left is made so by giving up its beginning.
        let skip = self.rest.align_offset(bytes);
        if self.rest.is_null() || self.rest_bytes < skip.saturating_add(bytes) {
            // The rest of the last slab is not worth a list: it is less than the block that was asked for.
            self.rest = guest::map(SLAB_BYTES);
            self.rest_bytes = SLAB_BYTES;
            if self.rest.is_null() {
                return self.rest;
            }
        } else {
            self.rest = self.rest.wrapping_add(skip);
            self.rest_bytes -= skip;
        }
        let block = self.rest;
        self.rest = block.wrapping_add(bytes);
        self.rest_bytes -= bytes;
        block
    }

    fn give_back(&mut self, class: usize, block: *mut u8) {
        // SAFETY: the block is free, aligned for a pointer, and large enough for one.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }
}

// SAFETY: blocks of a list are as large and as aligned as the class, which is at least the layout; a block belongs to one owner
// until it is given back. Mappings are aligned to `GRANULE_BYTES`, and larger alignments are refused.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            Some(class) => self.with(|lists| lists.take(class)),
            None if layout.align() > guest::GRANULE_BYTES => core::ptr::null_mut(),
            None => guest::map(layout.size()),
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match class(layout) {
            Some(class) => self.with(|lists| lists.give_back(class, at)),
            // SAFETY: the caller's: a block of this layout, which `alloc` mapped.
            None => unsafe { guest::unmap(at, layout.size()) },
        }
    }
}
