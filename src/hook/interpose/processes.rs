//! Child processes, signals and System V messages: starting, waiting, and unloading code.
//!
//! Not hooked: `fork`, `vfork` and `exec*`. A child of `vfork` runs on this process's memory and may end in any hook,
//! and what `exec` starts is another program; the tracer learns of `fork` by `pthread_atfork`. `dlopen` is not hooked
//! either: it searches by who called it, and that would be us.

use core::ffi::{c_char, c_int, c_long};

use libc::{FILE, id_t, idtype_t, pid_t, sigset_t, timespec};

use super::real::{Ptr, Str, call, hooks};

hooks! {
    plain {
        fn wait(status: *mut c_int) -> pid_t = wait4;
        fn waitpid(pid: pid_t, status: *mut c_int, flags: c_int) -> pid_t = wait4;
        fn wait3(status: *mut c_int, flags: c_int, usage: Ptr) -> pid_t = wait4;
        fn wait4(pid: pid_t, status: *mut c_int, flags: c_int, usage: Ptr) -> pid_t = wait4;
        fn waitid(kind: idtype_t, id: id_t, info: Ptr, flags: c_int) -> c_int = waitid;
        fn posix_spawn(
            pid: *mut pid_t, path: Str, actions: Ptr, attributes: Ptr,
            argv: *const *mut c_char, env: *const *mut c_char,
        ) -> c_int = posix_spawn, else code;
        fn posix_spawnp(
            pid: *mut pid_t, file: Str, actions: Ptr, attributes: Ptr,
            argv: *const *mut c_char, env: *const *mut c_char,
        ) -> c_int = posix_spawn, else code;
        fn system(command: Str) -> c_int = system;
        fn popen(command: Str, mode: Str) -> *mut FILE = popen;
        fn pclose(stream: *mut FILE) -> c_int = pclose;

        fn pause() -> c_int = pause;
        fn sigsuspend(mask: *const sigset_t) -> c_int = rt_sigsuspend;
        fn sigwait(mask: *const sigset_t, signal: *mut c_int) -> c_int = sigwait, else code;
        fn sigwaitinfo(mask: *const sigset_t, info: Ptr) -> c_int = rt_sigtimedwait;
        fn sigtimedwait(mask: *const sigset_t, info: Ptr, timeout: *const timespec) -> c_int = rt_sigtimedwait;

        fn msgsnd(queue: c_int, from: Ptr, len: usize, flags: c_int) -> c_int = msgsnd;
        fn msgrcv(queue: c_int, to: Ptr, len: usize, kind: c_long, flags: c_int) -> isize = msgrcv;
        fn semop(set: c_int, operations: Ptr, n: usize) -> c_int = semop;
        fn semtimedop(set: c_int, operations: Ptr, n: usize, timeout: *const timespec) -> c_int = semtimedop;
        fn mq_send(queue: c_int, from: Str, len: usize, priority: u32) -> c_int = mq_timedsend;
        fn mq_timedsend(queue: c_int, from: Str, len: usize, priority: u32, until: *const timespec) -> c_int
            = mq_timedsend;
        fn mq_receive(queue: c_int, to: *mut c_char, len: usize, priority: *mut u32) -> isize = mq_timedreceive;
        fn mq_timedreceive(
            queue: c_int, to: *mut c_char, len: usize, priority: *mut u32, until: *const timespec,
        ) -> isize
            = mq_timedreceive;
    }
    own {
        fn dlclose(library: Ptr) -> c_int;
    }
}

/// `dlclose`; not recorded, but what is known of the code that went is void.
///
/// # Safety
/// As for the real function.
pub unsafe extern "C-unwind" fn dlclose(library: Ptr) -> c_int {
    let result = call!(real::dlclose(library));
    crate::hook::unloaded();
    result
}
