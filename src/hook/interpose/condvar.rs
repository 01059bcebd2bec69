//! C condition variables, semaphores and barriers.

use core::ffi::c_int;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use libc::{clockid_t, pthread_barrier_t, pthread_cond_t, pthread_mutex_t, sem_t, timespec};

use super::real::{call, errno, hooks, set_errno};
use super::waiters::{ANY, WAITERS, as_entered_wait, as_wait_on, enter, wake};
use crate::hook;

hooks! {
    plain {}
    own {
        fn pthread_cond_wait(cond: *mut pthread_cond_t, lock: *mut pthread_mutex_t) -> c_int, else code;
        fn pthread_cond_timedwait(
            cond: *mut pthread_cond_t, lock: *mut pthread_mutex_t, until: *const timespec,
        ) -> c_int, else code;
        fn pthread_cond_clockwait(
            cond: *mut pthread_cond_t, lock: *mut pthread_mutex_t, clock: clockid_t, until: *const timespec,
        ) -> c_int, else code;
        fn pthread_cond_signal(cond: *mut pthread_cond_t) -> c_int, else code;
        fn pthread_cond_broadcast(cond: *mut pthread_cond_t) -> c_int, else code;
        fn sem_trywait(sem: *mut sem_t) -> c_int;
        fn sem_wait(sem: *mut sem_t) -> c_int;
        fn sem_timedwait(sem: *mut sem_t, until: *const timespec) -> c_int;
        fn sem_clockwait(sem: *mut sem_t, clock: clockid_t, until: *const timespec) -> c_int;
        fn sem_post(sem: *mut sem_t) -> c_int;
        fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) -> c_int, else code;
        fn pthread_testcancel() -> ();
    }
}

/// A wait on a condition variable, which unlocks the mutex: that wakes a waiter of the mutex.
macro_rules! wait {
    ($cond:ident, $lock:ident, real::$f:ident($($a:expr),*)) => {{
        if hook::on() {
            wake($lock.addr(), ANY, 1);
        }
        as_wait_on!(CondWait, $cond.addr(), ANY, real::$f($($a),*))
    }};
}

/// `pthread_cond_wait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_cond_wait(cond: *mut pthread_cond_t, lock: *mut pthread_mutex_t) -> c_int {
    wait!(cond, lock, real::pthread_cond_wait(cond, lock))
}

/// `pthread_cond_timedwait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_cond_timedwait(
    cond: *mut pthread_cond_t,
    lock: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    wait!(cond, lock, real::pthread_cond_timedwait(cond, lock, until))
}

/// `pthread_cond_clockwait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_cond_clockwait(
    cond: *mut pthread_cond_t,
    lock: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    wait!(cond, lock, real::pthread_cond_clockwait(cond, lock, clock, until))
}

/// `pthread_cond_signal`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_cond_signal(cond: *mut pthread_cond_t) -> c_int {
    if hook::on() {
        wake(cond.addr(), ANY, 1);
    }
    call!(real::pthread_cond_signal(cond))
}

/// `pthread_cond_broadcast`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_cond_broadcast(cond: *mut pthread_cond_t) -> c_int {
    if hook::on() {
        wake(cond.addr(), ANY, u32::MAX);
    }
    call!(real::pthread_cond_broadcast(cond))
}

/// Waits on a semaphore. They are cancellation points even when the semaphore is to be had at once, which a try is not.
/// Tried twice, as a mutex is.
macro_rules! downs {
    ($( fn $name:ident(sem: *mut sem_t $(, $a:ident: $t:ty)*); )*) => { $(
        #[doc = concat!("`", stringify!($name), "`.\n\n# Safety\nAs for the real function.")]
        pub unsafe extern "C-unwind" fn $name(sem: *mut sem_t $(, $a: $t)*) -> c_int {
            /// # Safety
            /// As for the hook.
            #[cold]
            #[inline(never)]
            unsafe extern "C-unwind" fn not_free(errno_before: c_int, sem: *mut sem_t $(, $a: $t)*) -> c_int {
                let busy = errno() == libc::EAGAIN;
                set_errno(errno_before);
                if !busy {
                    return call!(real::$name(sem $(, $a)*));
                }
                let ticket = enter(sem.addr(), ANY);
                let taken = call!(real::sem_trywait(sem)) == 0;
                set_errno(errno_before);
                if taken {
                    WAITERS.retract(ticket);
                    return 0;
                }
                as_entered_wait!(Sync, ticket, real::$name(sem $(, $a)*))
            }
            call!(real::pthread_testcancel());
            let errno_before = errno();
            match call!(real::sem_trywait(sem)) {
                0 => 0,
                // SAFETY: the caller's promise to the hook.
                _ => unsafe { not_free(errno_before, sem $(, $a)*) },
            }
        }
    )* };
}

downs! {
    fn sem_wait(sem: *mut sem_t);
    fn sem_timedwait(sem: *mut sem_t, until: *const timespec);
    fn sem_clockwait(sem: *mut sem_t, clock: clockid_t, until: *const timespec);
}

/// `sem_post`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn sem_post(sem: *mut sem_t) -> c_int {
    if hook::on() {
        wake(sem.addr(), ANY, 1);
    }
    call!(real::sem_post(sem))
}

/// `pthread_barrier_wait`: the last to come wakes the others and does not wait.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) -> c_int {
    // How many threads the barrier is for: the third word of glibc's since 2.22. With another layout the last one seems
    // to wait too.
    // SAFETY: a live barrier, by the caller of the hook, of eight words.
    let threads = unsafe { AtomicU32::from_ptr(barrier.cast::<u32>().wrapping_add(2)) }.load(Relaxed);
    // Entered before counting: of those who come last at the same time, at least one finds the number complete.
    let ticket = enter(barrier.addr(), ANY);
    if hook::on() && WAITERS.count(barrier.addr(), ANY) >= threads {
        WAITERS.retract(ticket);
        wake(barrier.addr(), ANY, u32::MAX);
        return call!(real::pthread_barrier_wait(barrier));
    }
    as_entered_wait!(Sync, ticket, real::pthread_barrier_wait(barrier))
}
