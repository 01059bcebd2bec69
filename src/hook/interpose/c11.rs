//! The threads of C11, which libc implements on its own threads without calling them by name.

use core::ffi::{c_int, c_void};

use libc::{pthread_cond_t, pthread_mutex_t, pthread_t, timespec};

use super::mutex::wake_by_mutex_unlock;
use super::real::{Ptr, as_wait, c_fn, call, hooks};
use super::threads::{Start, What};
use super::waiters::{ANY, WAITERS, as_entered_wait, as_wait_on, enter, wake};
use crate::hook;
use crate::hook::thread;

// glibc's `mtx_t` and `cnd_t` are a `pthread_mutex_t` and a `pthread_cond_t` by another name, and `thrd_t` is a
// `pthread_t`.
type Mutex = *mut pthread_mutex_t;
type Cond = *mut pthread_cond_t;

/// What a thread of this kind runs.
type Body = c_fn!(fn(Ptr) -> c_int);

hooks! {
    plain {}
    own {
        fn thrd_create(to: *mut pthread_t, start: *const (), arg: Ptr) -> c_int;
        fn thrd_join(thread: pthread_t, to: *mut c_int) -> c_int;
        fn pthread_tryjoin_np(thread: pthread_t, to: *mut Ptr) -> c_int, else code;
        fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int;
        fn mtx_trylock(lock: Mutex) -> c_int;
        fn mtx_lock(lock: Mutex) -> c_int;
        fn mtx_timedlock(lock: Mutex, until: *const timespec) -> c_int;
        fn mtx_unlock(lock: Mutex) -> c_int;
        fn cnd_wait(cond: Cond, lock: Mutex) -> c_int;
        fn cnd_timedwait(cond: Cond, lock: Mutex, until: *const timespec) -> c_int;
        fn cnd_signal(cond: Cond) -> c_int;
        fn cnd_broadcast(cond: Cond) -> c_int;
    }
}

// glibc's <threads.h>.
const SUCCESS: c_int = 0;
const BUSY: c_int = 1;

/// # Safety
/// `at` is the `Start` that the thread's creator made for it, and for nobody else.
unsafe extern "C-unwind" fn run(at: *mut c_void) -> c_int {
    // SAFETY: `thrd_create` below passed it.
    let what = unsafe { Start::take(at) };
    thread::born(what.birth);
    // SAFETY: it was a function of this type when `thrd_create` took it.
    let start = unsafe { core::mem::transmute::<*const (), Body>(what.start) };
    // SAFETY: as the program asked.
    unsafe { start(what.arg) }
}

/// `thrd_create`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn thrd_create(to: *mut pthread_t, start: *const (), arg: Ptr) -> c_int {
    let Some(place) = Start::claim() else {
        return call!(real::thrd_create(to, start, arg));
    };
    let birth = thread::create();
    let at = place.leave(What { birth, start, arg });
    let result = call!(real::thrd_create(to, run as *const (), at));
    if result != SUCCESS {
        // SAFETY: there is no thread that could have taken it.
        unsafe { Start::take(at) };
        thread::create_failed(birth);
    }
    result
}

/// `thrd_join`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn thrd_join(thread: pthread_t, to: *mut c_int) -> c_int {
    let mut result: Ptr = core::ptr::null_mut();
    // A thread that has ended is joined without a record, as in `pthread_join`; its result is an integer in a pointer's
    // place.
    if call!(real::pthread_tryjoin_np(thread, &mut result)) == 0 {
        if !to.is_null() {
            // SAFETY: the caller's: null or a valid place.
            unsafe { *to = result.addr() as c_int };
        }
        return SUCCESS;
    }
    as_wait_on!(Join, thread as usize, ANY, real::thrd_join(thread, to))
}

/// `thrd_sleep`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int {
    as_wait!(Sleep, real::thrd_sleep(time, left))
}

/// As for the pthread mutex.
macro_rules! locks {
    ($( fn $name:ident(lock: Mutex $(, $a:ident: $t:ty)*); )*) => { $(
        #[doc = concat!("`", stringify!($name), "`.\n\n# Safety\nAs for the real function.")]
        pub unsafe extern "C-unwind" fn $name(lock: Mutex $(, $a: $t)*) -> c_int {
            /// # Safety
            /// As for the hook.
            #[cold]
            #[inline(never)]
            unsafe extern "C-unwind" fn not_free(answer: c_int, lock: Mutex $(, $a: $t)*) -> c_int {
                if answer != BUSY {
                    return call!(real::$name(lock $(, $a)*));
                }
                let ticket = enter(lock.addr(), ANY);
                if call!(real::mtx_trylock(lock)) == SUCCESS {
                    WAITERS.retract(ticket);
                    return SUCCESS;
                }
                as_entered_wait!(Sync, ticket, real::$name(lock $(, $a)*))
            }
            match call!(real::mtx_trylock(lock)) {
                SUCCESS => SUCCESS,
                // SAFETY: the caller's promise to the hook.
                answer => unsafe { not_free(answer, lock $(, $a)*) },
            }
        }
    )* };
}

locks! {
    fn mtx_lock(lock: Mutex);
    fn mtx_timedlock(lock: Mutex, until: *const timespec);
}

/// `mtx_unlock`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn mtx_unlock(lock: Mutex) -> c_int {
    if hook::on() && WAITERS.maybe(lock.addr()) {
        wake_by_mutex_unlock(lock);
    }
    call!(real::mtx_unlock(lock))
}

/// `cnd_wait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn cnd_wait(cond: Cond, lock: Mutex) -> c_int {
    if hook::on() {
        wake(lock.addr(), ANY, 1);
    }
    as_wait_on!(CondWait, cond.addr(), ANY, real::cnd_wait(cond, lock))
}

/// `cnd_timedwait`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn cnd_timedwait(cond: Cond, lock: Mutex, until: *const timespec) -> c_int {
    if hook::on() {
        wake(lock.addr(), ANY, 1);
    }
    as_wait_on!(CondWait, cond.addr(), ANY, real::cnd_timedwait(cond, lock, until))
}

/// `cnd_signal`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn cnd_signal(cond: Cond) -> c_int {
    if hook::on() {
        wake(cond.addr(), ANY, 1);
    }
    call!(real::cnd_signal(cond))
}

/// `cnd_broadcast`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn cnd_broadcast(cond: Cond) -> c_int {
    if hook::on() {
        wake(cond.addr(), ANY, u32::MAX);
    }
    call!(real::cnd_broadcast(cond))
}
