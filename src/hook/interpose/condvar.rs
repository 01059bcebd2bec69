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
        fn pthread_cond_timedwait(cond: *mut pthread_cond_t, lock: *mut pthread_mutex_t, until: *const timespec) -> c_int, else code;
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

/// A wait on a semaphore. It is a cancellation point even when the semaphore is to be had at once, which a try is not. Tried twice, as a mutex is.
macro_rules! down {
    ($sem:ident, real::$f:ident($($a:expr),*)) => {{
        call!(real::pthread_testcancel());
        let saved = errno();
        if call!(real::sem_trywait($sem)) == 0 {
            return 0;
        }
        let ticket = enter($sem.addr(), ANY);
        if call!(real::sem_trywait($sem)) == 0 {
            WAITERS.retract(ticket);
            set_errno(saved);
            return 0;
        }
        let busy = errno() == libc::EAGAIN;
        set_errno(saved);
        if !busy {
            WAITERS.retract(ticket);
            return call!(real::$f($($a),*));
        }
        as_entered_wait!(Sync, ticket, real::$f($($a),*))
    }};
}

/// `sem_wait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn sem_wait(sem: *mut sem_t) -> c_int {
    down!(sem, real::sem_wait(sem))
}

/// `sem_timedwait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn sem_timedwait(sem: *mut sem_t, until: *const timespec) -> c_int {
    down!(sem, real::sem_timedwait(sem, until))
}

/// `sem_clockwait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn sem_clockwait(sem: *mut sem_t, clock: clockid_t, until: *const timespec) -> c_int {
    down!(sem, real::sem_clockwait(sem, clock, until))
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
    // How many threads the barrier is for: the third word of glibc's since 2.22. With another layout the last one seems to wait too.
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
