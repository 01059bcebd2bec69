//! Threads: their ids and names, notice of their end and of `fork`, and threads of our own.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The longest thread name that Linux keeps, with its final zero byte.
pub(crate) const NAME_BYTES: usize = 16;

/// The kernel's id of the calling thread. A system call: keep the result.
pub(crate) fn id() -> u32 {
    imp::id()
}

/// The process id.
pub(crate) fn process_id() -> u32 {
    imp::process_id()
}

/// The name of the calling thread, zero-padded.
pub(crate) fn own_name() -> [u8; NAME_BYTES] {
    imp::own_name()
}

/// Gives the processor up for a moment.
pub(crate) fn yield_now() {
    imp::yield_now();
}

/// 0: no key yet. Otherwise the key plus one. Written once, by whoever creates the key first.
static EXIT_KEY: AtomicU64 = AtomicU64::new(0);

/// Has `at_exit(value)` called when the calling thread ends, once for each call of this function; it may arm itself again.
///
/// Thread-specific data of POSIX: destructors run after those of Rust's thread-locals, up to four rounds of them. They do not
/// run for the main thread, nor for threads that are alive when the process exits. Returns false if there is no key to be had.
pub(crate) fn on_exit(at_exit: extern "C" fn(*mut c_void), value: *mut c_void) -> bool {
    let mut key = EXIT_KEY.load(Ordering::Acquire);
    if key == 0 {
        let mut fresh: libc::pthread_key_t = 0;
        // SAFETY: `fresh` is valid for a write, and the destructor has the right type.
        if unsafe { libc::pthread_key_create(&mut fresh, Some(at_exit_trampoline(at_exit))) } != 0 {
            return false;
        }
        let mine = u64::from(fresh) + 1;
        key = match EXIT_KEY.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => mine,
            Err(theirs) => {
                // SAFETY: the key was created above and nobody has seen it.
                unsafe { libc::pthread_key_delete(fresh) };
                theirs
            }
        };
    }
    // SAFETY: the key exists and is never deleted.
    unsafe { libc::pthread_setspecific((key - 1) as libc::pthread_key_t, value) == 0 }
}

fn at_exit_trampoline(f: extern "C" fn(*mut c_void)) -> unsafe extern "C" fn(*mut c_void) {
    f
}

static FORK_HANDLERS: AtomicBool = AtomicBool::new(false);

/// Has the three functions called around each `fork` of the process, from the first call on: before it, after it in the
/// parent, and after it in the child. Later calls do nothing. May allocate (in libc), so it is not for hooks.
pub(crate) fn on_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    if !FORK_HANDLERS.swap(true, Ordering::AcqRel) {
        // SAFETY: the functions have the right type and live for ever. A failure (out of memory) leaves fork unprotected:
        // the child then inherits tracing that nobody writes, which costs it its buffers' memory and nothing else.
        unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
    }
}

/// How many threads of our own are known as such at one time. Further ones run, and count as the program's.
pub(crate) const OWN_MAX: usize = 64;

/// A thread of our own, from before it is made until it has run.
struct Own {
    /// 0: the place is free. [`COMES`]: the thread is being made. Else the kernel's id of it.
    tid: AtomicU32,
    /// What it runs. Written by its maker, read by the thread.
    main: AtomicPtr<()>,
    arg: AtomicPtr<c_void>,
}

const COMES: u32 = u32::MAX;

static OWN: [Own; OWN_MAX] = [const {
    Own {
        tid: AtomicU32::new(0),
        main: AtomicPtr::new(core::ptr::null_mut()),
        arg: AtomicPtr::new(core::ptr::null_mut()),
    }
}; OWN_MAX];

impl Own {
    fn take() -> Option<&'static Own> {
        let free = |own: &&Own| own.tid.compare_exchange(0, COMES, Ordering::Acquire, Ordering::Relaxed).is_ok();
        OWN.iter().find(free)
    }

    extern "C" fn run(own: *mut c_void) -> *mut c_void {
        // SAFETY: `OwnThread::spawn` gave a place of `OWN`.
        let own = unsafe { &*own.cast_const().cast::<Own>() };
        let (main, arg) = (own.main.load(Ordering::Relaxed), own.arg.load(Ordering::Relaxed));
        let tid = id();
        own.tid.store(tid, Ordering::Release);
        // SAFETY: `OwnThread::spawn` stored a function of this type.
        let main: extern "C" fn(*mut c_void) -> *mut c_void = unsafe { core::mem::transmute(main) };
        let result = main(arg);
        // In a child that this thread forked the place may be another's.
        let _ = own.tid.compare_exchange(tid, 0, Ordering::Release, Ordering::Relaxed);
        result
    }
}

/// Whether thread `tid` is one of our own.
pub(crate) fn is_own(tid: u32) -> bool {
    tid != 0 && OWN.iter().any(|own| own.tid.load(Ordering::Acquire) == tid)
}

/// Whether a thread of our own runs, or is being made.
pub(crate) fn any_own() -> bool {
    OWN.iter().any(|own| own.tid.load(Ordering::Acquire) != 0)
}

/// The ids of our own threads, and 0 in the other places. `None` while one is being made, whose id is not known.
pub(crate) fn own_ids() -> Option<[u32; OWN_MAX]> {
    let mut all = [0; OWN_MAX];
    for (to, own) in all.iter_mut().zip(&OWN) {
        *to = own.tid.load(Ordering::Acquire);
    }
    (!all.contains(&COMES)).then_some(all)
}

/// This is the child of a `fork`, where the parent's do not run.
pub(crate) fn forget_own() {
    OWN.iter().for_each(|own| own.tid.store(0, Ordering::Relaxed));
}

/// A thread made without Rust's runtime: nothing is allocated through the global allocator on either side.
#[derive(Debug)]
pub(crate) struct OwnThread(libc::pthread_t);

// SAFETY: a pthread_t may be joined from any thread.
unsafe impl Send for OwnThread {}

impl OwnThread {
    /// Runs `main(arg)` in a new thread with all signals blocked. `Err` is the error number.
    ///
    /// # Safety
    /// `main(arg)` must be sound on another thread, and must not unwind.
    pub(crate) unsafe fn spawn(
        main: extern "C" fn(*mut c_void) -> *mut c_void,
        arg: *mut c_void,
    ) -> Result<OwnThread, i32> {
        let mut t: libc::pthread_t = 0 as libc::pthread_t;
        let own = Own::take();
        let (run, given) = match own {
            Some(own) => {
                own.main.store(main as *mut (), Ordering::Relaxed);
                own.arg.store(arg, Ordering::Relaxed);
                (Own::run as extern "C" fn(*mut c_void) -> *mut c_void, (&raw const *own).cast_mut().cast())
            }
            None => (main, arg),
        };
        let create = |t: &mut libc::pthread_t| {
            // SAFETY: default attributes; `main` and `arg` are the caller's promise, and a place of `OWN` is what `Own::run` takes.
            unsafe { libc::pthread_create(t, core::ptr::null(), run, given) }
        };
        // Miri has no signals.
        let r = if cfg!(miri) { create(&mut t) } else { with_signals_blocked(|| create(&mut t)) };
        if r == 0 {
            return Ok(OwnThread(t));
        }
        if let Some(own) = own {
            own.tid.store(0, Ordering::Release);
        }
        Err(r)
    }

    /// Waits for the thread's end.
    pub(crate) fn join(self) {
        // SAFETY: the thread was made joinable and is joined once, since `self` is consumed.
        unsafe { libc::pthread_join(self.0, core::ptr::null_mut()) };
    }
}

/// Runs `f` with all signals blocked. A thread that it makes inherits that, so that no signal of the program's is ever handled
/// there.
fn with_signals_blocked<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: all-zero is a valid sigset_t, and sigfillset overwrites it.
    let mut all: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: `all` is a valid set.
    unsafe { libc::sigfillset(&mut all) };
    // SAFETY: both sets are valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) };
    let result = f();
    // SAFETY: the mask of before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, core::ptr::null_mut()) };
    result
}

/// Names the calling thread for `ps`, `top` and debuggers.
pub(crate) fn set_own_name(name: &core::ffi::CStr) {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: PR_SET_NAME reads a C string of at most 16 bytes and cuts a longer one.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr())
    };
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = name;
}

/// Reads the name of thread `tid` of this process, zero-padded. All zero if there is no such thread. A few system calls.
pub(crate) fn name_of(tid: u32) -> [u8; NAME_BYTES] {
    imp::name_of(tid)
}

/// Whether any thread of this process but `these` runs, or could run. `None` if the system does not say. Reads `/proc`: some 20 µs.
pub(crate) fn others_run(these: &[u32]) -> Option<bool> {
    imp::others_run(these)
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod imp {
    use super::NAME_BYTES;
    use crate::sys::raw::syscall6;

    pub(super) fn others_run(these: &[u32]) -> Option<bool> {
        let tasks = Open::at(b"/proc/self/task\0", libc::O_DIRECTORY).ok()?;
        let mut entries = Entries([0; ENTRIES_BYTES]);
        loop {
            let at = entries.0.as_mut_ptr().expose_provenance();
            // SAFETY: the kernel writes so many bytes there.
            let n = unsafe { syscall6(libc::SYS_getdents64, [tasks.0 as usize, at, ENTRIES_BYTES, 0, 0, 0]) };
            let mut rest = entries.0.get(..usize::try_from(n).ok()?)?;
            if rest.is_empty() {
                return Some(false);
            }
            // Of an entry: inode, offset, length, type, and the name with its zero.
            while let Some((&[low, high], name)) = rest.get(16..18).and_then(|l| l.first_chunk()).zip(rest.get(19..)) {
                let tid = name.iter().take_while(|b| b.is_ascii_digit()).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
                if tid != 0 && !these.contains(&tid) && !has_ended(tid)? {
                    return Some(true);
                }
                rest = rest.get(usize::from(u16::from_ne_bytes([low, high])).max(19)..).unwrap_or_default();
            }
        }
    }

    const ENTRIES_BYTES: usize = 1024;

    #[repr(align(8))]
    struct Entries([u8; ENTRIES_BYTES]);

    /// Whether a thread is gone, or has ended and is waited for: the first thread stays until the process ends. `None` if that cannot be
    /// seen, for want of a descriptor, say.
    pub(super) fn has_ended(tid: u32) -> Option<bool> {
        let mut stat = [0; 64];
        let n = match read_of(tid, b"/stat", &mut stat) {
            Ok(n) => n,
            // The file goes with the thread, before it is opened or after.
            Err(libc::ENOENT | libc::ESRCH) => return Some(true),
            Err(_) => return None,
        };
        // `tid (name) state`; the name may have any character.
        let at = stat[..n].iter().rposition(|&b| b == b')')?;
        stat[..n].get(at + 2).map(|state| matches!(state, b'Z' | b'X'))
    }

    /// An open file of this module's.
    struct Open(i32);

    impl Open {
        /// `path` ends with a zero. `Err` is the error number.
        fn at(path: &[u8], flags: i32) -> Result<Open, i32> {
            debug_assert_eq!(path.last(), Some(&0));
            let flags = (flags | libc::O_CLOEXEC) as usize;
            // SAFETY: the path is zero-terminated and outlives the call.
            let fd = unsafe {
                syscall6(libc::SYS_openat, [libc::AT_FDCWD as usize, path.as_ptr().expose_provenance(), flags, 0, 0, 0])
            };
            if fd >= 0 { Ok(Open(fd as i32)) } else { Err(-fd as i32) }
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            // SAFETY: the descriptor is ours.
            unsafe { syscall6(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0, 0]) };
        }
    }

    /// Reads the beginning of a thread's file `/proc/self/task/TID/...`: how many bytes. `Err` is the error number.
    fn read_of(tid: u32, file: &[u8; 5], to: &mut [u8]) -> Result<usize, i32> {
        let mut path = *b"/proc/self/task/0000000000/file\0";
        // Decimal digits with leading zeros are not found by the kernel, so write the number left-aligned.
        let mut digits = [0u8; 10];
        let mut n = 0;
        let mut v = tid;
        loop {
            digits[n] = b'0' + (v % 10) as u8;
            v /= 10;
            n += 1;
            if v == 0 {
                break;
            }
        }
        let mut at = 16;
        for d in digits[..n].iter().rev() {
            path[at] = *d;
            at += 1;
        }
        path[at..at + 5].copy_from_slice(file);
        path[at + 5] = 0;
        let open = Open::at(&path, 0)?;
        let at = to.as_mut_ptr().expose_provenance();
        // SAFETY: the memory is valid for writes of its length.
        let n = unsafe { syscall6(libc::SYS_read, [open.0 as usize, at, to.len(), 0, 0, 0]) };
        usize::try_from(n).map_err(|_| -n as i32)
    }

    pub(super) fn id() -> u32 {
        // SAFETY: no arguments.
        unsafe { syscall6(libc::SYS_gettid, [0; 6]) as u32 }
    }

    pub(super) fn process_id() -> u32 {
        // SAFETY: no arguments.
        unsafe { syscall6(libc::SYS_getpid, [0; 6]) as u32 }
    }

    pub(super) fn yield_now() {
        // SAFETY: no arguments.
        unsafe { syscall6(libc::SYS_sched_yield, [0; 6]) };
    }

    pub(super) fn own_name() -> [u8; NAME_BYTES] {
        let mut name = [0u8; NAME_BYTES];
        let at = name.as_mut_ptr().expose_provenance();
        // SAFETY: PR_GET_NAME writes at most 16 bytes.
        unsafe { syscall6(libc::SYS_prctl, [libc::PR_GET_NAME as usize, at, 0, 0, 0, 0]) };
        name
    }

    pub(super) fn name_of(tid: u32) -> [u8; NAME_BYTES] {
        let mut name = [0u8; NAME_BYTES];
        let n = read_of(tid, b"/comm", &mut name).unwrap_or(0);
        if n > 0 && name[n - 1] == b'\n' {
            name[n - 1] = 0;
        }
        name
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
mod imp {
    use super::NAME_BYTES;
    use core::sync::atomic::{AtomicU32, Ordering};

    pub(super) fn id() -> u32 {
        // Any number that no other thread has will do.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn process_id() -> u32 {
        std::process::id()
    }

    pub(super) fn yield_now() {
        std::thread::yield_now();
    }

    pub(super) fn own_name() -> [u8; NAME_BYTES] {
        [0; NAME_BYTES]
    }

    pub(super) fn name_of(_tid: u32) -> [u8; NAME_BYTES] {
        [0; NAME_BYTES]
    }

    pub(super) fn others_run(_these: &[u32]) -> Option<bool> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn names_are_read_by_thread_id() {
        std::thread::Builder::new()
            .name("sys-name-test".into())
            .spawn(|| {
                assert!(own_name().starts_with(b"sys-name-test\0"));
                assert_eq!(name_of(id()), own_name());
            })
            .expect("spawn")
            .join()
            .expect("join");
        assert_eq!(name_of(u32::MAX / 2), [0; NAME_BYTES]);
    }

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    fn other_threads_are_seen() {
        // The test's own runner is one.
        assert_eq!(others_run(&[id()]), Some(true));
        assert_eq!(others_run(&[]), Some(true));
    }

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    fn what_cannot_be_seen_has_not_ended() {
        assert_eq!(imp::has_ended(id()), Some(false));
        assert_eq!(imp::has_ended(u32::MAX / 2), Some(true));
        // In a child, where it is in nobody's way: there are no descriptors to be had.
        // SAFETY: the child makes system calls only.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the kernel reads a limit there.
            let limited = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) } == 0;
            let good = limited && imp::has_ended(u32::MAX / 2).is_none() && others_run(&[]).is_none();
            // SAFETY: it ends the child.
            unsafe { libc::_exit(i32::from(!good)) };
        }
        let mut status = -1;
        // SAFETY: our own child, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
    }

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    fn own_threads_are_known_while_they_run() {
        extern "C" fn look(arg: *mut c_void) -> *mut c_void {
            // SAFETY: the test's, which waits.
            let seen = unsafe { &*arg.cast::<AtomicU32>() };
            let own = is_own(id()) && any_own();
            seen.store(if own { id() } else { 1 }, Ordering::Release);
            core::ptr::null_mut()
        }
        let seen = AtomicU32::new(0);
        // SAFETY: `look` may run anywhere, and what it writes to outlives it.
        let thread = unsafe { OwnThread::spawn(look, (&raw const seen).cast_mut().cast()) }.expect("a thread");
        thread.join();
        let tid = seen.load(Ordering::Acquire);
        assert!(tid > 1 && !is_own(tid) && !is_own(id()));
    }
}
