//! C mutexes and read-write locks. The lock is tried first: an uncontended one costs what it costs without hooks, and
//! records nothing.
//!
//! Who unlocks wakes, in the trace, the one that has waited longest. glibc's locks are not handed over: another thread
//! may take the lock before the woken one runs, which then waits on inside libc. The trace shows it as runnable, not
//! running, until it has the lock.
//!
//! A lock that is held by a thread which died is acquired by a try with `EOWNERDEAD`; every other answer than success
//! and "busy" is left to the real function to give.

use core::ffi::c_int;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use libc::{clockid_t, pthread_mutex_t, pthread_rwlock_t, timespec};

use super::real::{call, hooks};
use super::waiters::{ANY, WAITERS, as_entered_wait, enter, wake};
use crate::hook;

hooks! {
    plain {}
    own {
        fn pthread_mutex_trylock(lock: *mut pthread_mutex_t) -> c_int, else code;
        fn pthread_mutex_lock(lock: *mut pthread_mutex_t) -> c_int, else code;
        fn pthread_mutex_timedlock(lock: *mut pthread_mutex_t, until: *const timespec) -> c_int, else code;
        fn pthread_mutex_clocklock(
            lock: *mut pthread_mutex_t, clock: clockid_t, until: *const timespec,
        ) -> c_int, else code;
        fn pthread_mutex_unlock(lock: *mut pthread_mutex_t) -> c_int, else code;
        fn pthread_rwlock_tryrdlock(lock: *mut pthread_rwlock_t) -> c_int, else code;
        fn pthread_rwlock_trywrlock(lock: *mut pthread_rwlock_t) -> c_int, else code;
        fn pthread_rwlock_rdlock(lock: *mut pthread_rwlock_t) -> c_int, else code;
        fn pthread_rwlock_wrlock(lock: *mut pthread_rwlock_t) -> c_int, else code;
        fn pthread_rwlock_timedrdlock(lock: *mut pthread_rwlock_t, until: *const timespec) -> c_int, else code;
        fn pthread_rwlock_timedwrlock(lock: *mut pthread_rwlock_t, until: *const timespec) -> c_int, else code;
        fn pthread_rwlock_clockrdlock(
            lock: *mut pthread_rwlock_t, clock: clockid_t, until: *const timespec,
        ) -> c_int, else code;
        fn pthread_rwlock_clockwrlock(
            lock: *mut pthread_rwlock_t, clock: clockid_t, until: *const timespec,
        ) -> c_int, else code;
        fn pthread_rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int, else code;
    }
}

/// In a read-write lock's entries, what it is waited for.
const READ: u32 = 1;
const WRITE: u32 = 2;

/// Hooks that try first, and wait if the lock is held.
///
/// Waiting is a function of its own, so that the other path saves no registers for it. There the lock is tried again,
/// once unlockers can see that somebody waits: what is unlocked after that second try is unlocked by one who looks for
/// whom it wakes.
macro_rules! locks {
    ($( fn $name:ident($lock:ident: $kind:ty $(, $a:ident: $t:ty)* $(,)?), $try:ident, $bits:expr; )*) => { $(
        #[doc = concat!("`", stringify!($name), "`.\n\n# Safety\nAs for the real function.")]
        pub unsafe extern "C-unwind" fn $name($lock: $kind $(, $a: $t)*) -> c_int {
            /// # Safety
            /// As for the hook.
            #[cold]
            #[inline(never)]
            unsafe extern "C-unwind" fn not_free(answer: c_int, $lock: $kind $(, $a: $t)*) -> c_int {
                match answer {
                    libc::EBUSY => {}
                    libc::EOWNERDEAD | libc::ENOTRECOVERABLE => return answer,
                    _ => return call!(real::$name($lock $(, $a)*)),
                }
                let ticket = enter($lock.addr(), $bits);
                if let answer @ (0 | libc::EOWNERDEAD | libc::ENOTRECOVERABLE) = call!(real::$try($lock)) {
                    WAITERS.retract(ticket);
                    return answer;
                }
                as_entered_wait!(Sync, ticket, real::$name($lock $(, $a)*))
            }
            match call!(real::$try($lock)) {
                0 => 0,
                // SAFETY: the caller's promise to the hook.
                answer => unsafe { not_free(answer, $lock $(, $a)*) },
            }
        }
    )* };
}

locks! {
    fn pthread_mutex_lock(lock: *mut pthread_mutex_t), pthread_mutex_trylock, ANY;
    fn pthread_mutex_timedlock(lock: *mut pthread_mutex_t, until: *const timespec), pthread_mutex_trylock, ANY;
    fn pthread_mutex_clocklock(
        lock: *mut pthread_mutex_t, clock: clockid_t, until: *const timespec,
    ), pthread_mutex_trylock, ANY;
    fn pthread_rwlock_rdlock(lock: *mut pthread_rwlock_t), pthread_rwlock_tryrdlock, READ;
    fn pthread_rwlock_wrlock(lock: *mut pthread_rwlock_t), pthread_rwlock_trywrlock, WRITE;
    fn pthread_rwlock_timedrdlock(lock: *mut pthread_rwlock_t, until: *const timespec), pthread_rwlock_tryrdlock, READ;
    fn pthread_rwlock_timedwrlock(lock: *mut pthread_rwlock_t, until: *const timespec), pthread_rwlock_trywrlock, WRITE;
    fn pthread_rwlock_clockrdlock(
        lock: *mut pthread_rwlock_t, clock: clockid_t, until: *const timespec,
    ), pthread_rwlock_tryrdlock, READ;
    fn pthread_rwlock_clockwrlock(
        lock: *mut pthread_rwlock_t, clock: clockid_t, until: *const timespec,
    ), pthread_rwlock_trywrlock, WRITE;
}

/// `pthread_mutex_unlock`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_mutex_unlock(lock: *mut pthread_mutex_t) -> c_int {
    if hook::on() && WAITERS.maybe(lock.addr()) {
        wake_by_mutex_unlock(lock);
    }
    call!(real::pthread_mutex_unlock(lock))
}

/// Says whom the calling thread's unlocking of a mutex wakes: the longest waiting, unless this is not the last of a
/// recursive mutex's unlocks.
#[cold]
pub(super) fn wake_by_mutex_unlock(lock: *mut pthread_mutex_t) {
    // The second word of glibc's mutex, unchanged since there are 64-bit machines: how often a recursive one is held,
    // zero for others.
    // SAFETY: a live mutex, by the caller of the hook, of ten words; the owner alone writes this one,
    // and that is the calling thread.
    let held = unsafe { AtomicU32::from_ptr(lock.cast::<u32>().wrapping_add(1)) }.load(Relaxed);
    if held <= 1 {
        wake(lock.addr(), ANY, 1);
    }
}

/// `pthread_rwlock_unlock`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int {
    if hook::on() && WAITERS.maybe(lock.addr()) {
        wake_by_rwlock_unlock(lock);
    }
    call!(real::pthread_rwlock_unlock(lock))
}

/// Says whom the calling thread's unlocking of `lock` wakes: from a writer all readers or else a writer, from the last
/// reader a writer, from any other reader nobody.
#[cold]
fn wake_by_rwlock_unlock(lock: *mut pthread_rwlock_t) {
    // The first word of glibc's lock since 2.25: two bits for a writer, and the number of readers above three. With
    // another layout the wrong thread, or none, is named as the waker.
    const BY_WRITER: u32 = 0b11;
    const READERS: u32 = 3;
    // SAFETY: a live lock, by the caller of the hook, larger than a word and aligned; its words are atomics to libc.
    let state = unsafe { AtomicU32::from_ptr(lock.cast()) }.load(Relaxed);
    let address = lock.addr();
    if state & BY_WRITER == BY_WRITER {
        if WAITERS.count(address, READ) > 0 {
            wake(address, READ, u32::MAX);
        } else {
            wake(address, WRITE, 1);
        }
    } else if state >> READERS <= 1 {
        wake(address, WRITE, 1);
    }
}
