//! A bell that any thread may ring, from anywhere, and one thread listens to.
//!
//! The channel that carries full buffers is never waited on: waiting registers the waiter in a way that makes the sender use
//! thread-local data and locks of the standard library, which a hook at a thread's end must not.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

/// 0 quiet, 1 rung.
#[derive(Debug)]
pub(crate) struct Event(AtomicU32);

impl Event {
    pub(crate) const fn new() -> Event {
        Event(AtomicU32::new(0))
    }

    /// Rings. Async-signal-safe; a system call only if it was quiet. Release pairs with the Acquire in [`wait`](Event::wait).
    pub(crate) fn ring(&self) {
        if self.0.swap(1, Ordering::Release) == 0 {
            imp::wake(&self.0);
        }
    }

    /// Waits until it rings, but no longer than `limit`; makes it quiet again. True if it rang.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        if self.0.swap(0, Ordering::Acquire) != 0 {
            return true;
        }
        imp::wait(&self.0, limit);
        self.0.swap(0, Ordering::Acquire) != 0
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod imp {
    use crate::sys::raw::syscall6;
    use core::sync::atomic::AtomicU32;
    use core::time::Duration;

    pub(super) fn wait(word: &AtomicU32, limit: Duration) {
        let op = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
        let limit = libc::timespec {
            tv_sec: limit.as_secs().min(i32::MAX as u64) as _,
            tv_nsec: limit.subsec_nanos() as libc::c_long,
        };
        let args = [word.as_ptr().expose_provenance(), op, 0, (&raw const limit).expose_provenance(), 0, 0];
        // SAFETY: the word and the time limit live as long as the call; the kernel only reads them.
        unsafe { syscall6(libc::SYS_futex, args) };
    }

    pub(super) fn wake(word: &AtomicU32) {
        let op = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
        // SAFETY: as above.
        unsafe { syscall6(libc::SYS_futex, [word.as_ptr().expose_provenance(), op, 1, 0, 0, 0]) };
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
mod imp {
    use core::sync::atomic::{AtomicU32, Ordering};
    use core::time::Duration;
    use std::time::Instant;

    /// How often to look where there is no futex.
    const STEP: Duration = Duration::from_millis(1);

    pub(super) fn wait(word: &AtomicU32, limit: Duration) {
        let end = Instant::now() + limit;
        while word.load(Ordering::Relaxed) == 0 && Instant::now() < end {
            std::thread::sleep(STEP.min(limit));
        }
    }

    pub(super) fn wake(_word: &AtomicU32) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_heard_once_whenever_it_comes() {
        static BELL: Event = Event::new();
        BELL.ring();
        BELL.ring();
        assert!(BELL.wait(Duration::from_secs(60)));
        assert!(!BELL.wait(Duration::from_millis(1)));
        std::thread::scope(|s| {
            s.spawn(|| BELL.ring());
            assert!(BELL.wait(Duration::from_secs(60)));
        });
    }
}
