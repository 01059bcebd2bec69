//! The ways out of a process and into another one: `_exit` and its like, `fork` and its like.
//!
//! `exit` and the return from `main` run the library's destructor and need nothing here. `vfork` cannot be wrapped, and need not be: its child
//! runs on this process's memory, as a part of the thread that waits for it. `exec` needs nothing either: the black box keeps what was
//! recorded, and the new program has its own constructor.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

use exectrace::__preload as guest;
use libc::pid_t;

use crate::session;

/// The C library's own function, looked up at the first call.
struct Next(&'static CStr, AtomicPtr<c_void>);

impl Next {
    const fn new(name: &'static CStr) -> Next {
        Next(name, AtomicPtr::new(core::ptr::null_mut()))
    }

    /// Null if this C library has none of the name.
    fn get(&self) -> *mut c_void {
        let known = self.1.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: a terminated name.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.0.as_ptr()) };
        self.1.store(found, Ordering::Relaxed);
        found
    }
}

/// What a function returns that is not there.
fn missing() -> c_int {
    // SAFETY: the calling thread's own.
    unsafe { *libc::__errno_location() = libc::ENOSYS };
    -1
}

/// `fork`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fork() -> pid_t {
    static NEXT: Next = Next::new(c"fork");
    let next = NEXT.get();
    if next.is_null() {
        return missing();
    }
    // SAFETY: the function of that name.
    let pid = unsafe { core::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> pid_t>(next)() };
    if pid == 0 {
        session::forked();
    }
    pid
}

/// `_Fork`, which runs none of the functions that are registered for forks.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Fork() -> pid_t {
    static NEXT: Next = Next::new(c"_Fork");
    let next = NEXT.get();
    if next.is_null() {
        return missing();
    }
    // SAFETY: the function of that name.
    let pid = unsafe { core::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> pid_t>(next)() };
    if pid == 0 {
        // SAFETY: this is the child, and its only thread.
        unsafe { guest::in_child() };
    }
    pid
}

/// `daemon`: what returns is a child, and the parent ends inside.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn daemon(keep_directory: c_int, keep_files: c_int) -> c_int {
    static NEXT: Next = Next::new(c"daemon");
    let next = NEXT.get();
    if next.is_null() {
        return missing();
    }
    if session::is_recorded() && !guest::is_inside() {
        exectrace::flush();
    }
    // SAFETY: the function of that name.
    let next = unsafe { core::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, c_int) -> c_int>(next) };
    // SAFETY: the caller's.
    let result = unsafe { next(keep_directory, keep_files) };
    if !session::is_own() {
        session::forked();
    }
    result
}

/// `forkpty`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forkpty(
    main: *mut c_int,
    name: *mut c_char,
    terminal: *const libc::termios,
    size: *const libc::winsize,
) -> pid_t {
    static NEXT: Next = Next::new(c"forkpty");
    let next = NEXT.get();
    if next.is_null() {
        return missing();
    }
    type Of = unsafe extern "C" fn(*mut c_int, *mut c_char, *const libc::termios, *const libc::winsize) -> pid_t;
    // SAFETY: the function of that name.
    let next = unsafe { core::mem::transmute::<*mut c_void, Of>(next) };
    // SAFETY: the caller's.
    let pid = unsafe { next(main, name, terminal, size) };
    if pid == 0 {
        session::forked();
    }
    pid
}

/// `_exit`.
///
/// # Safety
/// None beyond the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(code: c_int) -> ! {
    session::end();
    loop {
        // SAFETY: it does not return.
        unsafe { guest::system(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0, 0]) };
    }
}

/// `_Exit`.
///
/// # Safety
/// None beyond the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Exit(code: c_int) -> ! {
    // SAFETY: the caller's.
    unsafe { _exit(code) }
}
