//! The clock of each generation: see [`sys::clock`](crate::sys::clock).

use core::cell::UnsafeCell;

use crate::sys::clock::Mapping;

/// The mappings of the open generation and of the next, by parity. The next one's is written before that generation opens,
/// when the one before the open one, whose place it takes, has quiesced.
pub(crate) static CLOCK: Clocks = Clocks([UnsafeCell::new(Mapping::ZERO), UnsafeCell::new(Mapping::ZERO)]);

pub(crate) struct Clocks([UnsafeCell<Mapping>; 2]);

// SAFETY: see `of` and `set`.
unsafe impl Sync for Clocks {}

impl Clocks {
    /// # Safety
    /// The caller is in a section of a generation of that parity, or is the closer.
    #[inline(always)]
    pub(crate) unsafe fn of(&self, parity: usize) -> &Mapping {
        // SAFETY: nobody writes the mapping of a generation that is open or being closed.
        unsafe { &*self.0[parity].get() }
    }

    /// # Safety
    /// The caller is the closer, and no generation of that parity is open or being closed.
    pub(crate) unsafe fn set(&self, parity: usize, mapping: Mapping) {
        // SAFETY: nobody reads it.
        unsafe { *self.0[parity].get() = mapping };
    }
}
