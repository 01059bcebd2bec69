//! An asymmetric fence: next to free for the threads that write events, dear for the one that closes generations.
//!
//! A thread stores its `writing` flag and then loads the generation; the closer stores the generation and then loads the
//! flags. Each side needs a full fence between its two accesses. With `membarrier(2)` the closer makes every running
//! thread execute one, so that the hot side needs only to keep the compiler from reordering. Where the call is missing
//! (old kernels, some sandboxes) both sides fence.
//!
//! Source: membarrier(2), `MEMBARRIER_CMD_PRIVATE_EXPEDITED`.

use core::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

/// Written by [`prepare`] before the first generation opens; read by everyone.
static EXPEDITED: AtomicBool = AtomicBool::new(false);

/// Registers the process for the expedited form. Call before any generation opens; again in a child of `fork` is harmless.
pub(crate) fn prepare() {
    EXPEDITED.store(imp::register(), Ordering::SeqCst);
}

/// The hot side's half.
#[inline(always)]
pub(crate) fn light() {
    if EXPEDITED.load(Ordering::Relaxed) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The closer's half: after it, each thread's accesses before its [`light`] are visible, or those after it see ours.
pub(crate) fn heavy() {
    fence(Ordering::SeqCst);
    if EXPEDITED.load(Ordering::Relaxed) {
        imp::run();
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod imp {
    use crate::sys::raw::syscall6;

    const PRIVATE_EXPEDITED: usize = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: usize = 1 << 4;

    pub(super) fn register() -> bool {
        // SAFETY: membarrier reads and writes no memory of ours.
        let registered = unsafe { syscall6(libc::SYS_membarrier, [REGISTER_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0]) } == 0;
        registered && run()
    }

    pub(super) fn run() -> bool {
        // SAFETY: as above.
        unsafe { syscall6(libc::SYS_membarrier, [PRIVATE_EXPEDITED, 0, 0, 0, 0, 0]) == 0 }
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
mod imp {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn run() -> bool {
        false
    }
}
