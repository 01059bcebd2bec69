//! A timer on a thread's own CPU time that sends it `SIGPROF`: the source of CPU samples.
//!
//! Timers are made by number through raw system calls: glibc's wrappers allocate.
//! Only Linux has them; elsewhere there are no CPU samples.

/// A kernel timer. Dropping it leaves the timer running until [`delete`](Timer::delete) or the end of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer(i32);

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
impl Timer {
    /// A timer that fires each time that thread `tid` has used `period_ns` of CPU time. `None` if the system refuses.
    pub(crate) fn start(tid: u32, period_ns: u64) -> Option<Timer> {
        use crate::sys::raw::syscall6;
        // SAFETY: all-zero is a valid sigevent.
        let mut event: libc::sigevent = unsafe { core::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = tid as i32;
        // The kernel's encoding of "CPU time used by thread tid" (CPUCLOCK_SCHED | CPUCLOCK_PERTHREAD_MASK).
        let clock = ((!(tid as i32)) << 3) | 6;
        let mut id = 0i32;
        let args = [clock as usize, (&raw const event).expose_provenance(), (&raw mut id).expose_provenance(), 0, 0, 0];
        // SAFETY: both pointers are valid for the call.
        if unsafe { syscall6(libc::SYS_timer_create, args) } != 0 {
            return None;
        }
        let period = libc::timespec {
            tv_sec: (period_ns / 1_000_000_000) as _,
            tv_nsec: (period_ns % 1_000_000_000) as libc::c_long,
        };
        let spec = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: the timer is ours and `spec` is valid for the call.
        let r = unsafe {
            syscall6(libc::SYS_timer_settime, [id as usize, 0, (&raw const spec).expose_provenance(), 0, 0, 0])
        };
        if r != 0 {
            Timer(id).delete();
            return None;
        }
        Some(Timer(id))
    }

    pub(crate) fn delete(self) {
        // SAFETY: takes no pointer; a timer that is already gone is an error without effect.
        unsafe { crate::sys::raw::syscall6(libc::SYS_timer_delete, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
impl Timer {
    pub(crate) fn start(_tid: u32, _period_ns: u64) -> Option<Timer> {
        None
    }

    pub(crate) fn delete(self) {}
}
impl Timer {
    /// As a number for an atomic field: 0 is "no timer".
    pub(crate) fn to_word(timer: Option<Timer>) -> u32 {
        timer.map_or(0, |t| t.0 as u32 + 1)
    }

    /// The inverse of [`to_word`](Timer::to_word).
    pub(crate) fn from_word(word: u32) -> Option<Timer> {
        word.checked_sub(1).map(|id| Timer(id as i32))
    }
}

/// How many periods have ended that this signal tells of: the kernel looks at CPU time only as often as its clock ticks while the
/// thread runs, and sends one signal for all that it finds. 1 for a signal that is no timer's.
///
/// # Safety
/// `info` must be what the kernel gave to a signal's handler.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) unsafe fn expirations(info: *const libc::siginfo_t) -> u32 {
    /// The begin of the kernel's `siginfo_t` as a timer fills it (include/uapi/asm-generic/siginfo.h, 64 bits).
    #[repr(C)]
    struct OfTimer {
        signal: i32,
        errno: i32,
        code: i32,
        _pad: i32,
        id: i32,
        overrun: i32,
    }
    const { assert!(size_of::<OfTimer>() <= size_of::<libc::siginfo_t>()) };
    // SAFETY: the caller's; all of it are numbers, whatever kind of signal it is.
    let info = unsafe { info.cast::<OfTimer>().read() };
    let overrun = if info.code == libc::SI_TIMER { info.overrun.max(0) as u32 } else { 0 };
    overrun.saturating_add(1)
}

/// As above: the layout is known there only, and elsewhere there are no timers.
///
/// # Safety
/// None is needed.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(crate) unsafe fn expirations(_info: *const libc::siginfo_t) -> u32 {
    1
}
