//! Memory that a child of the process does not inherit: it is zero there, whichever way the child was made.
//!
//! `pthread_atfork` tells of `fork` alone. A child that was made by a raw `clone` has a copy of this process's memory and, since
//! buffers may be shared with a file, the buffers themselves: it must not write there. So what says that there is something to write is
//! in a page that the kernel wipes in children. That costs nothing: the page is an ordinary one to this process.

use core::ops::Deref;

/// Makes `T` a page (or some) of its own, to be kept from children. All bits zero must be a good value of `T`, and mean "nothing".
// The alignment is the largest page of the target, so that nothing else is on it.
// Only Linux has it wiped, and other systems' linkers do not take the largest alignment.
#[cfg_attr(all(target_arch = "aarch64", target_os = "linux"), repr(C, align(65536)))]
#[cfg_attr(not(all(target_arch = "aarch64", target_os = "linux")), repr(C, align(4096)))]
#[derive(Debug)]
pub(crate) struct OfProcess<T>(T);

impl<T> OfProcess<T> {
    pub(crate) const fn new(value: T) -> OfProcess<T> {
        OfProcess(value)
    }

    /// From now on children find it zeroed. False if the system cannot do that (Linux before 4.14): then they inherit it as before.
    pub(crate) fn keep_from_children(&'static self) -> bool {
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
        {
            let (at, bytes) = ((&raw const *self).expose_provenance(), size_of::<OfProcess<T>>());
            let args = [at, bytes, libc::MADV_WIPEONFORK as usize, 0, 0, 0];
            // SAFETY: whole pages that belong to this value alone; for this process they stay what they are.
            unsafe { super::raw::syscall6(libc::SYS_madvise, args) == 0 }
        }
        #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
        {
            false
        }
    }
}

impl<T> Deref for OfProcess<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(all(test, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod tests {
    use super::*;
    use crate::sys::raw::syscall6;
    use core::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_child_that_nobody_is_told_of_finds_it_zeroed() {
        static VALUE: OfProcess<AtomicU32> = OfProcess::new(AtomicU32::new(0));
        static PLAIN: AtomicU32 = AtomicU32::new(0);
        assert!(VALUE.keep_from_children());
        VALUE.store(7, Ordering::Relaxed);
        PLAIN.store(7, Ordering::Relaxed);
        let flags = libc::SIGCHLD as usize;
        // SAFETY: a copy of the process that makes no other calls than that to end.
        let pid = unsafe { syscall6(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]) };
        if pid == 0 {
            let good = VALUE.load(Ordering::Relaxed) == 0 && PLAIN.load(Ordering::Relaxed) == 7;
            // SAFETY: it ends the child.
            unsafe { syscall6(libc::SYS_exit_group, [usize::from(!good), 0, 0, 0, 0, 0]) };
        }
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: our own child, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(pid as i32, &mut status, 0) }, pid as i32);
        assert_eq!(status, 0);
        assert_eq!(VALUE.load(Ordering::Relaxed), 7);
    }
}
