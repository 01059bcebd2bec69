//! A mutual-exclusion lock for the few slow paths that share a list: attaching a thread, interning a name, opening a GC cycle.
//!
//! It is held for a bounded number of instructions, never across a call into the program, and only under the re-entry
//! guard, so that neither a signal handler nor a hook inside a hook can wait for its own thread. It waits by futex through
//! [`raw`](super::raw) calls: no hook sees it.
//!
//! ```text
//!  FREE --lock--> HELD --a second thread waits--> CONTENDED --unlock (wakes one)--> FREE
//! ```
//!
//! Source of the three-state protocol: U. Drepper, "Futexes Are Tricky", mutex 2.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;
/// How often to look before sleeping: the sections behind this lock last less than a microsecond.
const SPINS: u32 = 100;

pub(crate) struct Lock<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives out one `&mut T` at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

pub(crate) struct Held<'a, T>(&'a Lock<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock { state: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    pub(crate) fn lock(&self) -> Held<'_, T> {
        // Acquire pairs with the Release in `drop`.
        if self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait();
        }
        Held(self)
    }

    #[cold]
    fn wait(&self) {
        for _ in 0..SPINS {
            core::hint::spin_loop();
            if self.state.load(Ordering::Relaxed) == FREE
                && self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
        }
        while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
            imp::wait(&self.state, CONTENDED);
        }
    }

    /// Makes the lock free whoever held it: in the child of a `fork`, where that thread does not exist.
    ///
    /// # Safety
    /// The calling thread is the only one, and the value is consistent (nobody held the lock at the fork, or only
    /// this thread does).
    pub(crate) unsafe fn reset(&self) {
        self.state.store(FREE, Ordering::Release);
    }
}

impl<T> core::fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lock").field("state", &self.state.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so nobody else has a reference.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` makes this the only one of ours.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next holder.
        if self.0.state.swap(FREE, Ordering::Release) == CONTENDED {
            imp::wake_one(&self.0.state);
        }
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod imp {
    use crate::sys::raw::syscall6;
    use core::sync::atomic::AtomicU32;

    pub(super) fn wait(word: &AtomicU32, seen: u32) {
        let op = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
        // SAFETY: the word lives as long as the borrow; the kernel only reads it.
        unsafe { syscall6(libc::SYS_futex, [word.as_ptr().expose_provenance(), op, seen as usize, 0, 0, 0]) };
    }

    pub(super) fn wake_one(word: &AtomicU32) {
        let op = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
        // SAFETY: as above.
        unsafe { syscall6(libc::SYS_futex, [word.as_ptr().expose_provenance(), op, 1, 0, 0, 0]) };
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
mod imp {
    use core::sync::atomic::AtomicU32;

    pub(super) fn wait(_word: &AtomicU32, _seen: u32) {
        std::thread::yield_now();
    }

    pub(super) fn wake_one(_word: &AtomicU32) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        static LOCK: Lock<(u64, u64)> = Lock::new((0, 0));
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..20_000 {
                        let mut pair = LOCK.lock();
                        let (a, b) = &mut *pair;
                        *a += 1;
                        *b += 1;
                        assert_eq!(a, b);
                    }
                });
            }
        });
        assert_eq!(*LOCK.lock(), (80_000, 80_000));
    }
}
