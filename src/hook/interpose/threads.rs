//! Threads: creating, joining, naming.
//!
//! A thread that the program creates starts in a function of ours, which tells the tracer whose child it is and then
//! goes on to the program's. What that function needs is left in one of a fixed number of places, which the new thread
//! frees at once; when all are taken the thread is created as the program asked, and shows up by itself.
//!
//! `pthread_once` is not hooked: it runs the program's own function, and nothing may be open across that.

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_ulong, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use libc::{clockid_t, pthread_attr_t, pthread_t, timespec};

use super::real::{Ptr, c_fn, call, hooks};
use super::waiters::{ANY, as_wait_on, wake};
use crate::hook::thread::{self, Birth};

/// What a thread of this kind runs.
type Body = c_fn!(fn(Ptr) -> Ptr);

hooks! {
    plain {}
    own {
        fn pthread_create(
            to: *mut pthread_t, attributes: *const pthread_attr_t,
            start: *const (), arg: Ptr,
        ) -> c_int, else code;
        fn pthread_join(thread: pthread_t, to: *mut Ptr) -> c_int, else code;
        fn pthread_tryjoin_np(thread: pthread_t, to: *mut Ptr) -> c_int, else code;
        fn pthread_timedjoin_np(thread: pthread_t, to: *mut Ptr, until: *const timespec) -> c_int, else code;
        fn pthread_clockjoin_np(
            thread: pthread_t, to: *mut Ptr, clock: clockid_t, until: *const timespec,
        ) -> c_int, else code;
        fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int, else code;
        fn prctl(what: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int, else sys(libc::SYS_prctl);
    }
}

/// Threads between their creation and their first instruction, at one time.
const PLACES: usize = 256;

/// What a new thread is to know. Claimed by its creator, freed by the thread itself, or by the creator if there is no
/// thread.
pub(super) struct Start {
    taken: AtomicU32,
    what: UnsafeCell<MaybeUninit<What>>,
}

#[derive(Clone, Copy)]
pub(super) struct What {
    pub(super) birth: Birth,
    /// The program's function; its type is known to the trampoline that the creator chose.
    pub(super) start: *const (),
    pub(super) arg: *mut c_void,
}

// SAFETY: `what` is touched by the one who took the place only, and by the thread that it was handed to.
unsafe impl Sync for Start {}

static STARTS: [Start; PLACES] =
    [const { Start { taken: AtomicU32::new(0), what: UnsafeCell::new(MaybeUninit::uninit()) } }; PLACES];

/// Where the search for a free place begins: where the last one ended.
static HINT: AtomicU32 = AtomicU32::new(0);

impl Start {
    /// A place, or none when all are taken.
    pub(super) fn claim() -> Option<&'static Start> {
        let hint = HINT.load(Relaxed) as usize % PLACES;
        let (before, after) = STARTS.split_at(hint);
        for (i, place) in after.iter().chain(before).enumerate() {
            // Acquire, with the Release of `take`: the last user has read what it came for.
            if place.taken.load(Relaxed) == 0 && place.taken.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
                HINT.store((hint + i + 1) as u32, Relaxed);
                return Some(place);
            }
        }
        None
    }

    /// Leaves `what` and returns the argument for the trampoline. To be called on a claimed place, once.
    pub(super) fn leave(&self, what: What) -> *mut c_void {
        // SAFETY: the place is claimed and nobody was told of it yet.
        unsafe { *self.what.get() = MaybeUninit::new(what) };
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// Reads the place and frees it.
    ///
    /// # Safety
    /// `at` must be what `leave` returned, and not have been taken since.
    pub(super) unsafe fn take(at: *mut c_void) -> What {
        // SAFETY: the caller's: a place of the static.
        let place = unsafe { &*at.cast::<Start>() };
        // SAFETY: written by `leave`, which came before: the creation of a thread orders its creator's writes before
        // it.
        let what = unsafe { (*place.what.get()).assume_init() };
        // Release, with the Acquire of `claim`.
        place.taken.store(0, Release);
        what
    }
}

/// The start of every announced thread.
///
/// # Safety
/// `at` is the `Start` that the thread's creator made for it, and for nobody else.
unsafe extern "C-unwind" fn run(at: *mut c_void) -> *mut c_void {
    // SAFETY: `pthread_create` below passed it.
    let what = unsafe { Start::take(at) };
    thread::born(what.birth);
    // SAFETY: it was a function of this type when `pthread_create` took it.
    let start = unsafe { core::mem::transmute::<*const (), Body>(what.start) };
    // SAFETY: as the program asked.
    unsafe { start(what.arg) }
}

/// `pthread_create`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_create(
    to: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: *const (),
    arg: Ptr,
) -> c_int {
    // The tracer's own thread is none of the program's.
    let place = if thread::is_tracers() { None } else { Start::claim() };
    let Some(place) = place else {
        return call!(real::pthread_create(to, attributes, start, arg));
    };
    let birth = thread::create();
    let at = place.leave(What { birth, start, arg });
    let result = call!(real::pthread_create(to, attributes, run as *const (), at));
    if result != 0 {
        // SAFETY: there is no thread that could have taken it.
        unsafe { Start::take(at) };
        thread::create_failed(birth);
    }
    result
}

/// The calling thread ends: who joins it is woken. To be called by the tracer when it lets a thread go, on that thread.
pub(crate) fn exits() {
    // SAFETY: no arguments.
    wake(unsafe { libc::pthread_self() } as usize, ANY, 1);
}

/// Joins at once if the thread has ended, and else waits, entered under the thread's handle.
macro_rules! join {
    ($thread:ident, $to:ident, real::$f:ident($($a:expr),*)) => {{
        match call!(real::pthread_tryjoin_np($thread, $to)) {
            0 => 0,
            libc::EBUSY => as_wait_on!(Join, $thread as usize, ANY, real::$f($($a),*)),
            _ => call!(real::$f($($a),*)),
        }
    }};
}

/// `pthread_join`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_join(thread: pthread_t, to: *mut Ptr) -> c_int {
    join!(thread, to, real::pthread_join(thread, to))
}

/// `pthread_timedjoin_np`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_timedjoin_np(thread: pthread_t, to: *mut Ptr, until: *const timespec) -> c_int {
    join!(thread, to, real::pthread_timedjoin_np(thread, to, until))
}

/// `pthread_clockjoin_np`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_clockjoin_np(
    thread: pthread_t,
    to: *mut Ptr,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    join!(thread, to, real::pthread_clockjoin_np(thread, to, clock, until))
}

/// `pthread_setname_np`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int {
    let result = call!(real::pthread_setname_np(thread, name));
    // SAFETY: no arguments.
    if thread == unsafe { libc::pthread_self() } {
        thread::renamed();
    }
    result
}

/// `prctl`; not recorded, but one of its many uses names the thread.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn prctl(what: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
    let result = call!(real::prctl(what, a, b, c, d));
    if what == libc::PR_SET_NAME {
        thread::renamed();
    }
    result
}
