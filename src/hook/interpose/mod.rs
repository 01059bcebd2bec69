//! The hooks on the C library: what stands behind the symbols that [`interpose!`](crate::interpose) puts into a
//! program.
//!
//! A call of `read` anywhere in the program, or in a shared library that it uses, lands on the program's own symbol
//! `read`, which jumps to the `read` of this module, which tells the tracer and calls libc's. One file a family of
//! functions; `real` has the way to libc, `waiters` who waits on what, `descriptor` which descriptors are
//! sockets.
//!
//! What every hook keeps to:
//! 1. **The program's call is made as the program wrote it**: once, with its arguments, and `errno` and the result are
//!    handed back as they come. A question to the kernel that is needed besides goes around libc and leaves `errno`
//!    alone. (The calls of `poll` and the locks that are tried first say why that is the same. Descriptors that belong to the preload
//!    library are no descriptors to the program, which did not open them: it cannot close them.)
//! 2. **Nothing is pending across it.** No guard, no destructor, no lock: `pthread_cancel` and `longjmp` leave a hook
//!    in the middle, and so it must be possible to leave it. All hooks are `C-unwind`, and the real call stands in
//!    their own body (see `real`).
//! 3. **Off is a load and a branch.** Only waits tell the tracer of themselves while it is off, which keeps a word per
//!    thread.
//! 4. **Nothing that could block or fail**: no allocation, no panic, no lock that is waited for without bound. A hook
//!    may run in a signal handler, before `main`, inside the program's allocator and after the thread's destructors.
//! 5. **What is open may be left open**, by rule 2, and what is closed may not have been opened: hooks nest when libc
//!    calls back into the program or into another library (a name service module under `getaddrinfo`), and under signal
//!    handlers. The tracer takes a new call or wait as the end of one that is still open, and does not mind the end of
//!    one that is not.

pub(super) mod descriptor;
mod real;
mod waiters;

mod files;
mod memory;
mod paths;
mod poll;
mod processes;
mod sleep;
mod sockets;
mod stdio;

mod c11;
mod condvar;
mod futex;
mod mutex;
mod raw_call;
mod threads;

pub use c11::*;
pub use condvar::*;
pub use files::*;
pub use memory::*;
pub use mutex::*;
pub use paths::*;
pub use poll::*;
pub use processes::*;
pub use raw_call::*;
pub use sleep::*;
pub use sockets::*;
pub use stdio::*;
pub use threads::*;

/// Looks every real function up, so that none has to be looked up in a signal handler or in the child of a fork.
/// [`interpose!`](crate::interpose) has the program run it at its start; hooks that are called before that look up
/// their own.
pub extern "C" fn init() {
    crate::record::thread::AT_END.set(thread_exits);
    crate::record::thread::IN_CHILD.set(forked);
    crate::record::tracer::watch_forks();
    files::real::resolve();
    paths::real::resolve();
    stdio::real::resolve();
    sockets::real::resolve();
    poll::real::resolve();
    sleep::real::resolve();
    memory::real::resolve();
    processes::real::resolve();
    raw_call::real::resolve();
    mutex::real::resolve();
    condvar::real::resolve();
    threads::real::resolve();
    c11::real::resolve();
}

/// For the child of a fork, before anything else there: forgets who waits, since they wait in the parent.
pub(crate) fn forked() {
    waiters::WAITERS.clear();
}

/// The calling thread is about to end; tells whoever joins it.
pub(crate) use threads::exits as thread_exits;
