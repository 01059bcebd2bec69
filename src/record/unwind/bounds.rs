//! Where the running thread's stack lies: the promise that makes a walk unable to fault.

/// The memory of one thread's stack, `lo..hi`. Learnt once per thread and kept with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StackBounds {
    lo: usize,
    hi: usize,
}

impl StackBounds {
    /// No stack at all: a capture finds one frame.
    pub const NONE: Self = StackBounds { lo: 0, hi: 0 };

    /// The stack `lo..hi`, cut to whole words.
    ///
    /// # Safety
    /// Whenever a stack pointer of a thread that uses these bounds lies within `lo..hi`, the memory from there (less the
    /// red zone, if that is above `lo`) up to `hi` must be mapped and readable.
    pub const unsafe fn new(lo: usize, hi: usize) -> Self {
        StackBounds { lo: lo.next_multiple_of(8), hi: hi & !7 }
    }

    /// The lowest address.
    #[inline(always)]
    pub const fn lo(self) -> usize {
        self.lo
    }

    /// The address behind the highest.
    #[inline(always)]
    pub const fn hi(self) -> usize {
        self.hi
    }

    /// The calling thread's stack, or [`StackBounds::NONE`] if the system does not tell.
    ///
    /// Costs up to a microsecond (more for the main thread of a static or musl program) and may allocate through libc's
    /// `malloc`, so the caller must hold the re-entry guard, and be neither inside of an allocator nor in a signal handler.
    pub fn of_current_thread() -> Self {
        imp::of_current_thread()
    }

    /// The same, from the kernel's list of mappings: async-signal-safe, and as slow as the list is long.
    pub fn of_current_thread_by_maps() -> Self {
        imp::of_current_thread_by_maps()
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod imp {
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::StackBounds;
    use crate::sys::maps;
    use crate::sys::raw::syscall6;

    /// The main thread's stack grows on demand, up to a limit that may be "none": more than this is not believed.
    const MAIN_STACK_BYTES_MAX: u64 = 1 << 30;

    pub(super) fn of_current_thread() -> StackBounds {
        if is_main_thread()
            && let Some(main) = main_thread()
        {
            return main;
        }
        by_pthread().unwrap_or(StackBounds::NONE)
    }

    pub(super) fn of_current_thread_by_maps() -> StackBounds {
        if is_main_thread()
            && let Some(main) = main_thread()
        {
            return main;
        }
        let local = 0u8;
        let here = (&raw const local).addr();
        let Some(mapping) = maps::containing(here) else { return StackBounds::NONE };
        // The C library has a thread's own data behind its stack, in the same mapping, which may have grown together with the
        // next one: that data stays as long as the thread.
        // SAFETY: no arguments; the value is that of the calling thread.
        let own = unsafe { libc::pthread_self() } as usize;
        let hi = if (here..mapping.end).contains(&own) { own } else { mapping.end };
        // SAFETY: the mapping is there, and what is in it between the stack pointer and `hi` is the thread's stack.
        unsafe { StackBounds::new(mapping.start, hi) }
    }

    fn is_main_thread() -> bool {
        // SAFETY: neither call takes arguments or has an effect.
        let (pid, tid) = unsafe { (syscall6(libc::SYS_getpid, [0; 6]), syscall6(libc::SYS_gettid, [0; 6])) };
        pid == tid
    }

    /// From where glibc says that the stack began. `None` for other libcs.
    fn main_thread() -> Option<StackBounds> {
        /// The value of `__libc_stack_end`, 1 for "there is none", 0 before the first call. Always written with the same value.
        static STACK_END: AtomicUsize = AtomicUsize::new(0);
        let mut hi = STACK_END.load(Relaxed);
        if hi == 0 {
            hi = libc_stack_end().unwrap_or(1);
            STACK_END.store(hi, Relaxed);
        }
        if hi == 1 {
            return None;
        }
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let args = [0, libc::RLIMIT_STACK as usize, 0, (&raw mut limit).expose_provenance(), 0, 0];
        // SAFETY: reads the calling process's limit into `limit`.
        if unsafe { syscall6(libc::SYS_prlimit64, args) } < 0 {
            return None;
        }
        let lo = hi.saturating_sub(limit.rlim_cur.min(MAIN_STACK_BYTES_MAX) as usize);
        // SAFETY: the main thread's stack is one mapping from its stack pointer (which it grew down to) to its beginning.
        Some(unsafe { StackBounds::new(lo, hi) })
    }

    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    fn libc_stack_end() -> Option<usize> {
        // SAFETY: a valid symbol name. By dlsym, since the name may be missing at link time.
        let p = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_stack_end".as_ptr()) };
        // SAFETY: glibc's variable of this name is a pointer, set before any code of the program runs.
        (!p.is_null()).then(|| unsafe { p.cast::<usize>().read() }).filter(|&end| end > 1)
    }

    #[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
    fn libc_stack_end() -> Option<usize> {
        None
    }

    fn by_pthread() -> Option<StackBounds> {
        let mut attr = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
        // SAFETY: the calling thread is alive, and `attr` may be written.
        if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attr.as_mut_ptr()) } != 0 {
            return None;
        }
        let (mut lo, mut bytes) = (core::ptr::null_mut(), 0);
        // SAFETY: `attr` was initialised by the call above.
        let found = unsafe { libc::pthread_attr_getstack(attr.as_ptr(), &mut lo, &mut bytes) } == 0;
        // SAFETY: the same, and it is not used again.
        unsafe { libc::pthread_attr_destroy(attr.as_mut_ptr()) };
        // SAFETY: libc allocated the thread's stack there.
        found.then(|| unsafe { StackBounds::new(lo.addr(), lo.addr() + bytes) })
    }
}

#[cfg(target_vendor = "apple")]
mod imp {
    use super::StackBounds;

    pub(super) fn of_current_thread_by_maps() -> StackBounds {
        of_current_thread()
    }

    pub(super) fn of_current_thread() -> StackBounds {
        // SAFETY: the calling thread is alive.
        let (hi, bytes) = unsafe {
            let this = libc::pthread_self();
            (libc::pthread_get_stackaddr_np(this).addr(), libc::pthread_get_stacksize_np(this))
        };
        // SAFETY: the system allocated the thread's stack there, and calls the upper end its address.
        unsafe { StackBounds::new(hi.saturating_sub(bytes), hi) }
    }
}

/// Where the walk is the `backtrace` crate's, bounds mean nothing.
#[cfg(not(any(
    all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)),
    target_vendor = "apple"
)))]
mod imp {
    use super::StackBounds;

    pub(super) fn of_current_thread() -> StackBounds {
        StackBounds::NONE
    }

    pub(super) fn of_current_thread_by_maps() -> StackBounds {
        StackBounds::NONE
    }
}

#[cfg(all(test, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_threads_own_locals_are_on_its_stack_and_others_are_not() {
        let outer = 0usize;
        let outer = (&raw const outer).addr();
        let check = move || {
            let local = 0usize;
            let bounds = StackBounds::of_current_thread();
            let range = bounds.lo()..bounds.hi();
            assert!(range.contains(&(&raw const local).addr()));
            assert!(!range.contains(&outer));
            assert_eq!(bounds, StackBounds::of_current_thread());
            // Without the guard page below and the thread's own data above.
            let by_maps = StackBounds::of_current_thread_by_maps();
            assert!((by_maps.lo()..by_maps.hi()).contains(&(&raw const local).addr()));
            assert!(by_maps.hi() <= bounds.hi() && by_maps.hi() + (64 << 10) > bounds.hi(), "{by_maps:x?} {bounds:x?}");
        };
        for stack_bytes in [64 << 10, 1 << 20] {
            std::thread::Builder::new().stack_size(stack_bytes).spawn(check).unwrap().join().unwrap();
        }
    }

    #[test]
    fn bounds_are_whole_words() {
        // SAFETY: never walked.
        let bounds = unsafe { StackBounds::new(0x1001, 0x2fff) };
        assert_eq!((bounds.lo(), bounds.hi()), (0x1008, 0x2ff8));
    }
}
