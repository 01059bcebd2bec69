//! Every hook answers as the function behind it does, result and `errno`, with tracing off and on; and while on it is
//! recorded once, by the right name.
//!
//! Each row is a call that fails without doing harm (a bad descriptor, a path that is not there), or a harmless one
//! that succeeds; `errno` holds a value of ours before, which a success must leave there. The real function is found in
//! libc by its own name.

mod interpose;

use std::ffi::{CString, c_int};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use interpose::{Guest, record};

exectrace::interpose!();

macro_rules! strings {
    ($($name:ident)*) => { &[$(stringify!($name)),*] };
}
const SYMBOLS: &[&str] = exectrace::__interpose_names!(strings);

/// Hooks that no row here can call; the tests of the C guest and of std do.
const ELSEWHERE: &[&str] = &[
    "mkstemp mkstemp64 fclose fread fread_unlocked __fread_chk fwrite fwrite_unlocked fgets",
    "__fgets_chk getline getdelim",
    "pclose pause sigsuspend sigwait sigwaitinfo dlclose closefrom sync brk",
    "pthread_mutex_lock pthread_mutex_timedlock pthread_mutex_clocklock pthread_mutex_unlock",
    "pthread_rwlock_rdlock pthread_rwlock_wrlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock",
    "pthread_rwlock_clockrdlock pthread_rwlock_clockwrlock pthread_rwlock_unlock",
    "pthread_cond_wait pthread_cond_timedwait pthread_cond_clockwait pthread_cond_signal pthread_cond_broadcast",
    "sem_wait sem_timedwait sem_clockwait sem_post pthread_barrier_wait",
    "pthread_create pthread_join pthread_timedjoin_np pthread_clockjoin_np",
    "thrd_create thrd_join mtx_lock mtx_timedlock mtx_unlock cnd_wait cnd_timedwait cnd_signal cnd_broadcast",
];

type Function = unsafe extern "C-unwind" fn(usize, usize, usize, usize, usize, usize, usize) -> usize;

/// A value that no function here sets.
const ERRNO: i32 = 77;
/// A descriptor that is none, and an address that is none.
const BAD: usize = usize::MAX;
const NOWHERE: usize = 8;

fn main() {
    let libc = libc_itself();
    let mut rest: Vec<&str> = SYMBOLS.to_vec();
    for (symbol, args, name) in &rows() {
        rest.retain(|s| s != symbol);
        let (hook, real) = (find(libc::RTLD_DEFAULT, symbol), find(libc, symbol));
        assert_ne!(hook as usize, real as usize, "{symbol} is not hooked");
        let expected = call(real, args);
        assert_eq!(call(hook, args), expected, "{symbol}{args:?}, off");
        let (answer, seen) = record(|| call(hook, args));
        assert_eq!(answer, expected, "{symbol}{args:?}, on");
        let all: Vec<_> = seen.syscalls.iter().chain(&seen.waits).map(|(n, &count)| (n.as_str(), count)).collect();
        match *name {
            "" => assert_eq!(all, [], "{symbol}{args:?}"),
            name => assert_eq!(all, [(name, 1)], "{symbol}{args:?}"),
        }
    }
    rest.retain(|s| !ELSEWHERE.iter().any(|line| line.split(' ').any(|e| e == *s)));
    assert!(rest.is_empty(), "no row for {rest:?}");
    while_tracing_goes_on_and_off();
}

/// Nor do answers change when a trace begins or ends in the middle of a call: here a wait that would be cut short would
/// say that its time is over.
fn while_tracing_goes_on_and_off() {
    const LONG_MS: i32 = 100_000;
    let guest = Guest::load();
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        let waits: [fn(c_int) -> c_int; 3] = [
            // SAFETY: one entry.
            |fd| unsafe { libc::poll(&mut libc::pollfd { fd, events: libc::POLLIN, revents: 0 }, 1, LONG_MS) },
            // SAFETY: sets of this function's own.
            |fd| unsafe {
                let (mut set, mut time) = (std::mem::zeroed(), libc::timeval { tv_sec: 100, tv_usec: 0 });
                libc::FD_SET(fd, &mut set);
                libc::select(fd + 1, &mut set, std::ptr::null_mut(), std::ptr::null_mut(), &mut time)
            },
            // SAFETY: a descriptor of this function's own, and room for one event.
            |fd| unsafe {
                let epoll = libc::epoll_create1(0);
                let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
                assert_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event), 0);
                let found = libc::epoll_wait(epoll, &mut event, 1, LONG_MS);
                libc::close(epoll);
                found
            },
        ];
        for wait in waits {
            let (a, b) = UnixStream::pair().expect("sockets");
            let done = &done;
            s.spawn(move || {
                let mut rounds = 0;
                while !done.load(Relaxed) {
                    assert_eq!(wait(a.as_raw_fd()), 1, "after {rounds} rounds");
                    if (&a).read(&mut [0]).expect("what was waited for") == 0 {
                        // The other side has gone: it is done.
                        break;
                    }
                    rounds += 1;
                }
            });
            s.spawn(move || {
                while !done.load(Relaxed) {
                    std::thread::yield_now();
                    if (&b).write_all(&[1]).is_err() {
                        break;
                    }
                }
            });
        }
        for name in ["guest_cond", "guest_sem", "guest_rwlock", "guest_barrier", "guest_c11"] {
            for _ in 0..5 {
                record(|| guest.run(name, 4, 30));
                guest.run(name, 4, 10);
            }
            // A trace that ends while they are at it.
            std::thread::scope(|s| {
                s.spawn(|| guest.run(name, 4, 300));
                for _ in 0..20 {
                    record(std::thread::yield_now);
                }
            });
        }
        done.store(true, Relaxed);
    });
}

fn libc_itself() -> *mut libc::c_void {
    // SAFETY: it is loaded already.
    let handle = unsafe { libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    assert!(!handle.is_null());
    handle
}

fn find(handle: *mut libc::c_void, name: &str) -> Function {
    let c_name = CString::new(name).expect("no zero in it");
    // SAFETY: a lookup by name.
    let at = unsafe { libc::dlsym(handle, c_name.as_ptr()) };
    assert!(!at.is_null(), "{name}");
    // SAFETY: called with as many integers and pointers as it takes, and more, which C's calling convention ignores.
    unsafe { std::mem::transmute::<*mut libc::c_void, Function>(at) }
}

/// The result's low half, which is all of an `int` and tells all failures and small counts apart, and `errno`.
fn call(f: Function, a: &[usize]) -> (i32, i32) {
    let arg = |i: usize| a.get(i).copied().unwrap_or(0);
    // SAFETY: the address is this thread's.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno = ERRNO };
    // SAFETY: the row's arguments do no harm.
    let result = unsafe { f(arg(0), arg(1), arg(2), arg(3), arg(4), arg(5), arg(6)) };
    // SAFETY: as above.
    (result as i32, unsafe { *errno })
}

/// A value that lives as long as the program.
fn keep<T>(value: T) -> usize {
    std::ptr::from_ref(Box::leak(Box::new(value))) as usize
}

fn text(s: &str) -> usize {
    CString::new(s).expect("no zero in it").into_raw() as usize
}

fn rows() -> Vec<(&'static str, Vec<usize>, &'static str)> {
    let room = keep([0u8; 4096]);
    let vec = keep(libc::iovec { iov_base: room as *mut _, iov_len: 8 });
    // SAFETY: all zero is a value of these.
    let (message, flock) =
        unsafe { (keep::<libc::msghdr>(std::mem::zeroed()), keep::<libc::flock>(std::mem::zeroed())) };
    let poll_bad = keep(libc::pollfd { fd: -1, events: 0, revents: 0 });
    let now = keep(libc::timespec { tv_sec: 0, tv_nsec: 0 });
    let moment = keep(libc::timespec { tv_sec: 0, tv_nsec: 1000 });
    let wrong = keep(libc::timespec { tv_sec: 0, tv_nsec: 2_000_000_000 });
    let now_val = keep(libc::timeval { tv_sec: 0, tv_usec: 0 });
    let none = text("/nonexistent/file");
    let proc = text("/proc");
    let zero = keep(0u32);
    let empty_set = keep([0u64; 16]);
    let argv = keep([none, 0]);
    // SAFETY: an open file of ours.
    let null = unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDWR) } as usize;
    // SAFETY: no arguments.
    let me = unsafe { libc::pthread_self() } as usize;
    let at = libc::AT_FDCWD as usize;
    let any = libc::P_ALL as usize;
    let futex = libc::SYS_futex as usize;
    let rdonly = libc::O_RDONLY as usize;
    vec![
        // files
        ("read", vec![BAD, room, 8], "read"),
        ("read", vec![null, room, 8], "read"),
        ("read", vec![null, NOWHERE, 8], "read"),
        ("__read_chk", vec![BAD, room, 8, 16], "read"),
        ("write", vec![BAD, room, 8], "write"),
        ("write", vec![null, room, 8], "write"),
        ("readv", vec![BAD, vec, 1], "readv"),
        ("readv", vec![null, vec, 1], "readv"),
        ("writev", vec![BAD, vec, 1], "writev"),
        ("pread", vec![BAD, room, 8, 0], "pread64"),
        ("pread64", vec![null, room, 8, 0], "pread64"),
        ("__pread_chk", vec![BAD, room, 8, 0, 16], "pread64"),
        ("__pread64_chk", vec![BAD, room, 8, 0, 16], "pread64"),
        ("pwrite", vec![BAD, room, 8, 0], "pwrite64"),
        ("pwrite64", vec![BAD, room, 8, 0], "pwrite64"),
        ("preadv", vec![BAD, vec, 1, 0], "preadv"),
        ("preadv64", vec![BAD, vec, 1, 0], "preadv"),
        ("pwritev", vec![BAD, vec, 1, 0], "pwritev"),
        ("pwritev64", vec![BAD, vec, 1, 0], "pwritev"),
        ("preadv2", vec![BAD, vec, 1, 0, 0], "preadv2"),
        ("preadv64v2", vec![BAD, vec, 1, 0, 0], "preadv2"),
        ("pwritev2", vec![BAD, vec, 1, 0, 0], "pwritev2"),
        ("pwritev64v2", vec![BAD, vec, 1, 0, 0], "pwritev2"),
        ("fsync", vec![BAD], "fsync"),
        ("fdatasync", vec![BAD], "fdatasync"),
        ("sync_file_range", vec![BAD, 0, 1, 0], "sync_file_range"),
        ("syncfs", vec![BAD], "syncfs"),
        ("ftruncate", vec![BAD, 0], "ftruncate"),
        ("ftruncate64", vec![BAD, 0], "ftruncate"),
        ("fallocate", vec![BAD, 0, 0, 1], "fallocate"),
        ("fallocate64", vec![BAD, 0, 0, 1], "fallocate"),
        ("posix_fallocate", vec![BAD, 0, 1], "posix_fallocate"),
        ("posix_fallocate64", vec![BAD, 0, 1], "posix_fallocate"),
        ("readahead", vec![BAD, 0, 1], "readahead"),
        ("posix_fadvise", vec![BAD, 0, 1, 0], "fadvise64"),
        ("posix_fadvise64", vec![BAD, 0, 1, 0], "fadvise64"),
        ("flock", vec![BAD, libc::LOCK_SH as usize], "flock"),
        ("lockf", vec![BAD, libc::F_LOCK as usize, 1], "fcntl"),
        ("lockf64", vec![BAD, libc::F_LOCK as usize, 1], "fcntl"),
        ("copy_file_range", vec![BAD, 0, BAD, 0, 8, 0], "copy_file_range"),
        ("sendfile", vec![BAD, BAD, 0, 8], "sendfile"),
        ("sendfile64", vec![BAD, BAD, 0, 8], "sendfile"),
        ("splice", vec![BAD, 0, BAD, 0, 8, 0], "splice"),
        ("tee", vec![BAD, BAD, 8, 0], "tee"),
        ("vmsplice", vec![BAD, vec, 1, 0], "vmsplice"),
        ("fstat", vec![BAD, room], "fstat"),
        ("fstat", vec![null, room], "fstat"),
        ("fstat64", vec![BAD, room], "fstat"),
        ("__fxstat", vec![1, BAD, room], "fstat"),
        ("__fxstat64", vec![1, BAD, room], "fstat"),
        ("fstatfs", vec![BAD, room], "fstatfs"),
        ("fstatfs64", vec![BAD, room], "fstatfs"),
        ("fstatvfs", vec![BAD, room], "fstatvfs"),
        ("fstatvfs64", vec![BAD, room], "fstatvfs"),
        ("fchmod", vec![BAD, 0], "fchmod"),
        ("fchown", vec![BAD, 0, 0], "fchown"),
        ("futimens", vec![BAD, 0], "utimensat"),
        ("fchdir", vec![BAD], "fchdir"),
        ("getdents64", vec![BAD, room, 4096], "getdents64"),
        ("pipe", vec![NOWHERE], "pipe"),
        ("pipe2", vec![NOWHERE, 0], "pipe2"),
        ("eventfd", vec![0, BAD], "eventfd2"),
        ("eventfd_read", vec![BAD, room], "read"),
        ("eventfd_write", vec![BAD, 1], "write"),
        ("timerfd_create", vec![999, 0], "timerfd_create"),
        ("timerfd_settime", vec![BAD, 0, room, 0], "timerfd_settime"),
        ("signalfd", vec![BAD - 1, room, 0], "signalfd4"),
        ("inotify_init1", vec![BAD], "inotify_init1"),
        ("inotify_add_watch", vec![BAD, proc, 1], "inotify_add_watch"),
        ("memfd_create", vec![NOWHERE, 0], "memfd_create"),
        ("epoll_create", vec![0], "epoll_create"),
        ("epoll_create1", vec![BAD], "epoll_create1"),
        ("epoll_ctl", vec![BAD, 1, BAD, room], "epoll_ctl"),
        ("getrandom", vec![NOWHERE, 16, 0], "getrandom"),
        ("getrandom", vec![room, 16, 0], "getrandom"),
        ("getentropy", vec![room, 9999], "getrandom"),
        ("close", vec![BAD], "close"),
        ("close_range", vec![5, 4, 0], "close_range"),
        ("dup2", vec![BAD, 900], ""),
        ("dup3", vec![1, 1, 0], ""),
        ("fcntl", vec![BAD, libc::F_GETFL as usize], ""),
        ("fcntl", vec![BAD, libc::F_SETLK as usize, flock], "fcntl"),
        ("fcntl64", vec![null, libc::F_GETFD as usize], ""),
        ("fcntl64", vec![BAD, libc::F_SETLKW as usize, flock], "fcntl"),
        ("ioctl", vec![BAD, libc::FIONBIO as usize, zero], "ioctl"),
        ("ioctl", vec![null, libc::TCGETS as usize, room], "ioctl"),
        // paths
        ("open", vec![none, rdonly, 0], "open"),
        ("open64", vec![none, rdonly, 0], "open"),
        ("openat", vec![at, none, rdonly, 0], "openat"),
        ("openat64", vec![at, none, rdonly, 0], "openat"),
        ("__open_2", vec![none, rdonly], "open"),
        ("__open64_2", vec![none, rdonly], "open"),
        ("__openat_2", vec![at, none, rdonly], "openat"),
        ("__openat64_2", vec![at, none, rdonly], "openat"),
        ("creat", vec![none, 0], "creat"),
        ("creat64", vec![none, 0], "creat"),
        ("stat", vec![none, room], "stat"),
        ("stat64", vec![proc, room], "stat"),
        ("lstat", vec![none, room], "lstat"),
        ("lstat64", vec![none, room], "lstat"),
        ("fstatat", vec![at, none, room, 0], "newfstatat"),
        ("fstatat64", vec![at, none, room, 0], "newfstatat"),
        ("__xstat", vec![1, none, room], "stat"),
        ("__xstat64", vec![1, none, room], "stat"),
        ("__lxstat", vec![1, none, room], "lstat"),
        ("__lxstat64", vec![1, none, room], "lstat"),
        ("__fxstatat", vec![1, at, none, room, 0], "newfstatat"),
        ("__fxstatat64", vec![1, at, none, room, 0], "newfstatat"),
        ("statx", vec![at, none, 0, 0xfff, room], "statx"),
        ("statx", vec![at, proc, 0, 0xfff, room], "statx"),
        ("statfs", vec![none, room], "statfs"),
        ("statfs64", vec![none, room], "statfs"),
        ("statvfs", vec![none, room], "statvfs"),
        ("statvfs64", vec![none, room], "statvfs"),
        ("access", vec![none, 0], "access"),
        ("faccessat", vec![at, none, 0, 0], "faccessat"),
        ("euidaccess", vec![none, 0], "faccessat"),
        ("eaccess", vec![none, 0], "faccessat"),
        ("readlink", vec![none, room, 100], "readlink"),
        ("__readlink_chk", vec![none, room, 100, 200], "readlink"),
        ("readlinkat", vec![at, none, room, 100], "readlinkat"),
        ("__readlinkat_chk", vec![at, none, room, 100, 200], "readlinkat"),
        ("realpath", vec![none, room], "realpath"),
        ("__realpath_chk", vec![none, room, 4096], "realpath"),
        ("truncate", vec![none, 0], "truncate"),
        ("truncate64", vec![none, 0], "truncate"),
        ("rename", vec![none, none], "rename"),
        ("renameat", vec![at, none, at, none], "renameat"),
        ("renameat2", vec![at, none, at, none, 0], "renameat2"),
        ("unlink", vec![none], "unlink"),
        ("unlinkat", vec![at, none, 0], "unlinkat"),
        ("remove", vec![none], "unlink"),
        ("mkdir", vec![proc, 0], "mkdir"),
        ("mkdirat", vec![at, proc, 0], "mkdirat"),
        ("rmdir", vec![none], "rmdir"),
        ("chdir", vec![none], "chdir"),
        ("link", vec![none, none], "link"),
        ("linkat", vec![at, none, at, none, 0], "linkat"),
        ("symlink", vec![none, none], "symlink"),
        ("symlinkat", vec![none, at, none], "symlinkat"),
        ("mkfifo", vec![none, 0], "mknod"),
        ("chmod", vec![none, 0], "chmod"),
        ("fchmodat", vec![at, none, 0, 0], "fchmodat"),
        ("chown", vec![none, 0, 0], "chown"),
        ("lchown", vec![none, 0, 0], "lchown"),
        ("fchownat", vec![at, none, 0, 0, 0], "fchownat"),
        ("utimensat", vec![at, none, 0, 0], "utimensat"),
        ("opendir", vec![none], "opendir"),
        ("fdopendir", vec![BAD], "fdopendir"),
        ("closedir", vec![0], "closedir"),
        // stdio
        ("fopen", vec![none, text("r")], "fopen"),
        ("fopen64", vec![none, text("r")], "fopen"),
        ("fflush", vec![0], "fflush"),
        // sockets
        ("bind", vec![BAD, room, 16], "bind"),
        ("listen", vec![BAD, 1], "listen"),
        ("shutdown", vec![BAD, 0], "shutdown"),
        ("getaddrinfo", vec![0, 0, 0, room], "getaddrinfo"),
        ("getnameinfo", vec![room, 0, room, 10, room, 10, 0], "getnameinfo"),
        ("gethostbyname", vec![text("127.0.0.1")], "gethostbyname"),
        ("gethostbyname2", vec![text("127.0.0.1"), libc::AF_INET as usize], "gethostbyname"),
        ("gethostbyname_r", vec![text("127.0.0.1"), room, room, 1, room, room], "gethostbyname"),
        ("gethostbyname2_r", vec![text("127.0.0.1"), 999, room, room, 1, room, room], "gethostbyname"),
        ("gethostbyaddr", vec![room, 3, 999], "gethostbyaddr"),
        ("socket", vec![999, 1, 0], "socket"),
        ("socketpair", vec![999, 1, 0, room], "socketpair"),
        ("accept", vec![BAD, 0, 0], "accept"),
        ("accept4", vec![null, 0, 0, 0], "accept4"),
        ("connect", vec![BAD, room, 16], "connect"),
        ("send", vec![BAD, room, 8, 0], "sendto"),
        ("sendto", vec![null, room, 8, 0, 0, 0], "sendto"),
        ("sendmsg", vec![BAD, message, 0], "sendmsg"),
        ("sendmmsg", vec![BAD, message, 1, 0], "sendmmsg"),
        ("recv", vec![BAD, room, 8, 0], "recvfrom"),
        ("recv", vec![null, room, 8, libc::MSG_DONTWAIT as usize], "recvfrom"),
        ("__recv_chk", vec![BAD, room, 8, 16, 0], "recvfrom"),
        ("recvfrom", vec![BAD, room, 8, 0, 0, 0], "recvfrom"),
        ("__recvfrom_chk", vec![BAD, room, 8, 16, 0, 0, 0], "recvfrom"),
        ("recvmsg", vec![BAD, message, 0], "recvmsg"),
        ("recvmmsg", vec![BAD, message, 1, 0, 0], "recvmmsg"),
        // poll
        ("poll", vec![NOWHERE, 1, 0], "poll"),
        ("poll", vec![NOWHERE, 1, 5], "poll"),
        ("poll", vec![0, 0, 1], "sleep"),
        ("__poll_chk", vec![NOWHERE, 1, BAD, 8], "poll"),
        ("ppoll", vec![NOWHERE, 1, 0, 0], "ppoll"),
        ("ppoll", vec![poll_bad, 1, now, 0], "ppoll"),
        ("ppoll", vec![0, 0, moment, 0], "sleep"),
        ("__ppoll_chk", vec![NOWHERE, 1, 0, 0, 8], "ppoll"),
        ("select", vec![BAD, 0, 0, 0, now_val], "select"),
        ("select", vec![BAD, 0, 0, 0, 0], "select"),
        ("pselect", vec![BAD, 0, 0, 0, 0, 0], "pselect6"),
        ("pselect", vec![0, 0, 0, 0, moment, 0], "sleep"),
        ("epoll_wait", vec![BAD, room, 1, 0], "epoll_wait"),
        ("epoll_wait", vec![BAD, room, 1, BAD], "epoll_wait"),
        ("epoll_pwait", vec![BAD, room, 1, BAD, 0], "epoll_pwait"),
        ("epoll_pwait2", vec![BAD, room, 1, 0, 0], "epoll_pwait2"),
        // sleep
        ("sched_yield", vec![], "sched_yield"),
        ("nanosleep", vec![wrong, 0], "sleep"),
        ("nanosleep", vec![moment, 0], "sleep"),
        ("clock_nanosleep", vec![0, 0, wrong, 0], "sleep"),
        ("usleep", vec![1], "sleep"),
        ("sleep", vec![0], "sleep"),
        ("thrd_sleep", vec![moment, 0], "sleep"),
        // memory
        ("mmap", vec![0, 0, 3, 0x22, BAD, 0], "mmap"),
        ("mmap64", vec![0, 4096, 3, 0x22, BAD, 1], "mmap"),
        ("munmap", vec![1, 4096], "munmap"),
        ("mremap", vec![1, 4096, 8192, 0, 0], "mremap"),
        ("mprotect", vec![1, 4096, 0], "mprotect"),
        ("madvise", vec![1, 4096, 0], "madvise"),
        ("posix_madvise", vec![1, 4096, 0], "madvise"),
        ("msync", vec![1, 4096, 0], "msync"),
        ("mincore", vec![1, 4096, room], "mincore"),
        ("mlock", vec![4096, 4096], "mlock"),
        ("mlock2", vec![4096, 4096, 99], "mlock2"),
        ("munlock", vec![4096, 4096], "munlock"),
        ("mlockall", vec![0xffff], "mlockall"),
        ("munlockall", vec![], "munlockall"),
        ("sbrk", vec![0], "brk"),
        ("shmat", vec![BAD, 0, 0], "shmat"),
        ("shmdt", vec![1], "shmdt"),
        // processes
        ("wait", vec![room], "wait4"),
        ("waitpid", vec![BAD, room, 0], "wait4"),
        ("wait3", vec![room, 0, 0], "wait4"),
        ("wait4", vec![BAD, room, 0, 0], "wait4"),
        ("waitid", vec![any, 0, room, libc::WEXITED as usize], "waitid"),
        ("posix_spawn", vec![room, none, 0, 0, argv, argv], "posix_spawn"),
        ("posix_spawnp", vec![room, none, 0, 0, argv, argv], "posix_spawn"),
        ("system", vec![0], "system"),
        ("popen", vec![text("true"), text("x")], "popen"),
        ("sigtimedwait", vec![empty_set, 0, now], "rt_sigtimedwait"),
        ("msgsnd", vec![BAD, room, 8, 0], "msgsnd"),
        ("msgrcv", vec![BAD, room, 8, 0, 0], "msgrcv"),
        ("semop", vec![BAD, room, 1], "semop"),
        ("semtimedop", vec![BAD, room, 1, now], "semtimedop"),
        ("mq_send", vec![BAD, room, 8, 0], "mq_timedsend"),
        ("mq_timedsend", vec![BAD, room, 8, 0, now], "mq_timedsend"),
        ("mq_receive", vec![BAD, room, 8, 0], "mq_timedreceive"),
        ("mq_timedreceive", vec![BAD, room, 8, 0, now], "mq_timedreceive"),
        // `syscall`
        ("syscall", vec![libc::SYS_close as usize, BAD], "close"),
        ("syscall", vec![9999], "syscall"),
        ("syscall", vec![libc::SYS_getppid as usize], "getppid"),
        ("syscall", vec![futex, zero, 0x7f, 0], ""),
        ("syscall", vec![futex, zero, libc::FUTEX_WAIT as usize, 1, 0], ""),
        ("syscall", vec![futex, zero, libc::FUTEX_WAIT as usize, 0, moment], "sync"),
        ("syscall", vec![futex, zero, libc::FUTEX_WAIT as usize, 0, wrong], "sync"),
        ("syscall", vec![futex, zero, libc::FUTEX_WAKE as usize, 5], ""),
        ("syscall", vec![futex, zero + 1, libc::FUTEX_WAIT as usize, 0, moment], ""),
        ("syscall", vec![futex, 0, libc::FUTEX_WAIT as usize, 0, moment], ""),
        ("syscall", vec![futex, zero, libc::FUTEX_CMP_REQUEUE as usize, 1, 1, zero, 99], ""),
        ("syscall", vec![futex, zero, libc::FUTEX_CMP_REQUEUE as usize, 1, 1, zero, 0], ""),
        // threads
        ("pthread_setname_np", vec![me, text("a name of more than fifteen letters")], ""),
        ("prctl", vec![9999, 0, 0, 0, 0], ""),
    ]
}
