//! Sixteen bytes of each thread: the one thread-local that there is on the way of every allocation.
//!
//! In a library that is loaded into a program, and so under `LD_PRELOAD`, `thread_local!` asks the loader for the address each time, by
//! a call that costs as much as the counting of an allocation. Where the platform is known the place is fixed when the library is
//! loaded (the model that is called initial-exec), and found with two instructions; in an executable with none more than `thread_local!`
//! takes. Such memory is limited for libraries that are loaded later (`dlopen`): so there are sixteen bytes, and no more.
//!
//! They are zero to begin with, in every thread, need no initialisation and are never destroyed: to be used in an allocator, before
//! `main`, in a signal handler, and at a thread's very end.

/// How many there are.
const BYTES: usize = 16;

/// The calling thread's slot: valid while the thread lives.
///
/// Whoever uses it as another type than everybody else, or as one that zeros are no value of, is in error; there is one user.
#[inline(always)]
pub(crate) fn of_this_thread<T>() -> *const T {
    const { assert!(size_of::<T>() <= BYTES && align_of::<T>() <= BYTES) };
    imp::at().cast()
}

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64", target_pointer_width = "64", not(miri)))]
mod imp {
    // Hidden: a program and a library under it each have their own. The version is in the name for two of them in one binary.
    core::arch::global_asm!(
        ".pushsection .tbss,\"awT\",@nobits",
        ".globl exectrace_slot_0_1",
        ".hidden exectrace_slot_0_1",
        ".type exectrace_slot_0_1,@object",
        ".size exectrace_slot_0_1,16",
        ".balign 16",
        "exectrace_slot_0_1:",
        ".zero 16",
        ".popsection",
    );

    #[inline(always)]
    pub(super) fn at() -> *const () {
        let at: *const ();
        // SAFETY: the psABI's sequence for the address of a thread-local of the initial-exec model: its offset, which the loader has
        // left in the global offset table, from the thread pointer, which is at fs:0. It reads memory and no more; "pure" says
        // that it gives the same until memory is written to, so not across a call that might go on on another thread.
        unsafe {
            core::arch::asm!(
                "mov {at}, qword ptr [rip + exectrace_slot_0_1@GOTTPOFF]",
                "add {at}, qword ptr fs:[0]",
                at = out(reg) at,
                options(pure, readonly, nostack),
            );
        }
        at
    }
}

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(miri)
)))]
mod imp {
    use core::cell::UnsafeCell;

    #[repr(align(16))]
    struct Slot(UnsafeCell<[u8; super::BYTES]>);

    thread_local! {
        static SLOT: Slot = const { Slot(UnsafeCell::new([0; super::BYTES])) };
    }

    #[inline(always)]
    pub(super) fn at() -> *const () {
        SLOT.with(|slot| slot.0.get().cast_const().cast())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn each_thread_has_its_own_which_is_zero_at_first() {
        // Threads of this test do nothing that the tracer sees before they look, so that nobody has used their slots.
        extern "C" fn look(result: *mut core::ffi::c_void) -> *mut core::ffi::c_void {
            let slot = of_this_thread::<[Cell<u64>; 2]>();
            // SAFETY: the slot of this thread, and zeros are such an array.
            let slot = unsafe { &*slot };
            let was = slot[0].get() | slot[1].get();
            // SAFETY: the caller's array.
            unsafe { result.cast::<[usize; 2]>().write([slot as *const _ as usize, was as usize]) };
            core::ptr::null_mut()
        }
        let mut seen = [[1usize; 2]; 2];
        let threads = seen.each_mut().map(|to| {
            // SAFETY: the array outlives the thread, which is joined below.
            unsafe { crate::sys::thread::OwnThread::spawn(look, (&raw mut *to).cast()) }.expect("a thread")
        });
        for thread in threads {
            thread.join();
        }
        let mine = of_this_thread::<[Cell<u64>; 2]>() as usize;
        assert_eq!(mine, of_this_thread::<[Cell<u64>; 2]>() as usize);
        assert!(seen.iter().all(|[at, was]| *was == 0 && *at != mine && at % 16 == 0), "{seen:?}");
    }
}
