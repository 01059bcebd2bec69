//! Sleeping.

use core::ffi::{c_int, c_uint};

use libc::{clockid_t, timespec, useconds_t};

use super::real::{as_wait, hooks};

hooks! {
    plain {
        // A short call, and a frequent one while spinning, but the only trace of the spinning.
        fn sched_yield() -> c_int = sched_yield;
    }
    own {
        fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int;
        fn clock_nanosleep(
            clock: clockid_t, flags: c_int, time: *const timespec, left: *mut timespec,
        ) -> c_int, else code;
        fn usleep(time: useconds_t) -> c_int;
        fn sleep(time: c_uint) -> c_uint;
    }
}

/// `nanosleep`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    as_wait!(Sleep, real::nanosleep(time, left))
}

/// `clock_nanosleep`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    as_wait!(Sleep, real::clock_nanosleep(clock, flags, time, left))
}

/// `usleep`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn usleep(time: useconds_t) -> c_int {
    as_wait!(Sleep, real::usleep(time))
}

/// `sleep`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn sleep(time: c_uint) -> c_uint {
    as_wait!(Sleep, real::sleep(time))
}
