//! `syscall` itself: how std, parking_lot and crossbeam reach the futex, and C programs whatever their libc has no
//! function for.

use core::ffi::c_long;

use super::futex;
use super::real::{call, errno, hooks, set_errno};
use crate::hook;
use crate::hook::syscall;
use crate::hook::thread::{self, Reason};
use crate::record::syscall_name::SyscallName;

hooks! {
    plain {}
    own {
        // Variadic in C; six arguments are passed in the same places, and those that the caller did not pass are not
        // read by the kernel.
        fn syscall(n: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long, else raw;
    }
}

/// Not a system call of any kernel: a copy of these hooks answers `syscall(WHO_HOOKS)` with the address of its
/// [`SELF`], libc with -1.
///
/// So a copy in a preloaded library finds out that the program has its own, and one of the two can keep still.
const WHO_HOOKS: c_long = 0x7ace_c0de;
static SELF: u8 = 1;

/// `syscall`.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn syscall(
    n: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    if n == libc::SYS_futex {
        let after = futex::before([a, b, c, d, e, f]);
        let result = call!(real::syscall(n, a, b, c, d, e, f));
        futex::after(after, result);
        return result;
    }
    if !hook::on() || passes(n) {
        if n == WHO_HOOKS {
            return (&raw const SELF).addr() as c_long;
        }
        return call!(real::syscall(n, a, b, c, d, e, f));
    }
    if futex::is_other_wait(n) {
        thread::block(Reason::Sync);
        let result = call!(real::syscall(n, a, b, c, d, e, f));
        thread::unblock();
        return result;
    }
    // These two as their libc functions do it.
    if n == libc::SYS_close {
        // SAFETY: the caller's promise to `syscall`.
        return c_long::from(unsafe { super::files::close(a as i32) });
    }
    if n == libc::SYS_close_range {
        // SAFETY: the caller's promise to `syscall`.
        return c_long::from(unsafe { super::files::close_range(a as u32, b as u32, c as i32) });
    }
    let entry = syscall::begin(SyscallName::from_raw(n));
    let result = call!(real::syscall(n, a, b, c, d, e, f));
    syscall::end(entry);
    result
}

/// Calls that do not return, return twice, or leave this program: nothing may be open across them. And the question of
/// above.
fn passes(n: c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    if matches!(n, libc::SYS_fork | libc::SYS_vfork) {
        return true;
    }
    matches!(
        n,
        libc::SYS_clone
            | libc::SYS_clone3
            | libc::SYS_execve
            | libc::SYS_execveat
            | libc::SYS_exit
            | libc::SYS_exit_group
            | libc::SYS_rt_sigreturn
            | WHO_HOOKS
    )
}

/// Whether another copy of the hooks stands before this one, as the program's own do before those of a preloaded
/// library. It records each call before this copy sees it.
pub fn hooked_by_another() -> bool {
    // SAFETY: a lookup by name, from the start of the search order.
    let first = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"syscall".as_ptr()) };
    if first.is_null() {
        return false;
    }
    let saved = errno();
    // SAFETY: whichever `syscall` it is, it takes a number first, and this one asks for nothing.
    let answer = unsafe {
        core::mem::transmute::<*mut core::ffi::c_void, unsafe extern "C" fn(c_long) -> c_long>(first)(WHO_HOOKS)
    };
    set_errno(saved);
    answer != -1 && answer != (&raw const SELF).addr() as c_long
}
