//! The macro that gives a program its hooks.
//!
//! The symbols exist only where it is expanded, never in this crate: a library with a symbol `read` would hook every
//! program that links it, asked or not. Each is a jump to the function of that name in `interpose`. A jump, so that C's
//! variadic functions (`open`, `syscall`) need not be defined in Rust, which has no stable way to; so that no type has
//! to agree with some other crate's declaration of the same symbol; and so that it leaves no frame.

/// Hooks the C library of this program, so that its threads, locks, waits and system calls show in traces.
///
/// To be written once in a program, at the top level of any of its crates, usually beside `main`:
/// ```
/// exectrace::interpose!();
/// # fn main() {}
/// ```
/// The program then has its own `read`, `write`, `pthread_create` and nearly three hundred more, each of which calls
/// the C library's and, while tracing is on, records the call. They serve the program, Rust's standard library in it,
/// and all the shared libraries that it loads. With tracing off a hook costs a nanosecond or two. Without this line
/// (and without the preload library) a program has none of them; a trace then has the allocations, the user's tasks and
/// regions, and threads as far as they tell of themselves.
///
/// The same line in a `cdylib` makes it a library for `LD_PRELOAD`.
///
/// # Platforms
/// Linux with glibc, dynamically linked, on x86_64 and aarch64. Elsewhere, and with `-C target-feature=+crt-static`, it
/// expands to nothing: a static C library has no second definition behind the program's own to call. Calls that do not
/// go through the C library (the `rustix` crate's, Go's) are not seen anywhere.
///
/// With fat LTO the compiler may warn that `statx` "changed binding to STB_WEAK": the standard library looks for it in
/// a way of its own. It does no harm.
///
/// # Errors
/// Two expansions in one program are a link error (`duplicate symbol`), as is one beside another crate that defines the
/// same symbols.
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
))]
#[macro_export]
macro_rules! interpose {
    () => {
        $crate::__interpose_names! { $crate::__interpose_symbols }
    };
}

/// On this platform there is nothing to hook: expands to nothing.
#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
)))]
#[macro_export]
macro_rules! interpose {
    () => {};
}

/// Hands the names of all symbols, by the file that has their functions, to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __interpose_names {
    ($($to:tt)*) => {
        $($to)*! {
            // files
            pread pread64 __pread_chk __pread64_chk pwrite pwrite64 preadv preadv64 pwritev pwritev64 preadv2
            preadv64v2 pwritev2 pwritev64v2 fsync fdatasync sync_file_range sync syncfs ftruncate ftruncate64
            fallocate fallocate64 posix_fallocate posix_fallocate64 readahead posix_fadvise posix_fadvise64 flock
            lockf lockf64 copy_file_range sendfile sendfile64 splice tee vmsplice fstat fstat64 __fxstat __fxstat64
            fstatfs fstatfs64 fstatvfs fstatvfs64 fchmod fchown futimens fchdir getdents64 pipe pipe2 eventfd
            eventfd_read eventfd_write timerfd_create timerfd_settime signalfd inotify_init1 inotify_add_watch
            memfd_create epoll_create epoll_create1 epoll_ctl getrandom getentropy read __read_chk write readv writev
            close close_range closefrom dup2 dup3 fcntl fcntl64 ioctl
            // paths
            open open64 openat openat64 __open_2 __open64_2 __openat_2 __openat64_2 creat creat64 mkstemp mkstemp64
            stat stat64 lstat lstat64 fstatat fstatat64 __xstat __xstat64 __lxstat __lxstat64 __fxstatat __fxstatat64
            statx statfs statfs64 statvfs statvfs64 access faccessat euidaccess eaccess readlink __readlink_chk
            readlinkat __readlinkat_chk realpath __realpath_chk truncate truncate64 rename renameat renameat2 unlink
            unlinkat remove mkdir mkdirat rmdir chdir link linkat symlink symlinkat mkfifo chmod fchmodat chown
            lchown fchownat utimensat opendir fdopendir closedir
            // stdio
            fopen fopen64 fclose fflush fread fread_unlocked __fread_chk fwrite fwrite_unlocked fgets __fgets_chk
            getline getdelim
            // sockets
            bind listen shutdown getaddrinfo getnameinfo gethostbyname gethostbyname2 gethostbyname_r
            gethostbyname2_r gethostbyaddr socket socketpair accept accept4 connect send sendto sendmsg sendmmsg recv
            __recv_chk recvfrom __recvfrom_chk recvmsg recvmmsg
            // poll
            poll __poll_chk ppoll __ppoll_chk select pselect epoll_wait epoll_pwait epoll_pwait2
            // sleep
            sched_yield nanosleep clock_nanosleep usleep sleep
            // memory
            mmap mmap64 munmap mremap mprotect madvise posix_madvise msync mincore mlock mlock2 munlock mlockall
            munlockall brk sbrk shmat shmdt
            // processes
            wait waitpid wait3 wait4 waitid posix_spawn posix_spawnp system popen pclose pause sigsuspend sigwait
            sigwaitinfo sigtimedwait msgsnd msgrcv semop semtimedop mq_send mq_timedsend mq_receive mq_timedreceive
            dlclose
            // raw_call
            syscall
            // mutex
            pthread_mutex_lock pthread_mutex_timedlock pthread_mutex_clocklock pthread_mutex_unlock
            pthread_rwlock_rdlock pthread_rwlock_wrlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock
            pthread_rwlock_clockrdlock pthread_rwlock_clockwrlock pthread_rwlock_unlock
            // condvar
            pthread_cond_wait pthread_cond_timedwait pthread_cond_clockwait pthread_cond_signal
            pthread_cond_broadcast sem_wait sem_timedwait sem_clockwait sem_post pthread_barrier_wait
            // threads
            pthread_create pthread_join pthread_timedjoin_np pthread_clockjoin_np pthread_setname_np prctl
            // c11
            thrd_create thrd_join thrd_sleep mtx_lock mtx_timedlock mtx_unlock cnd_wait cnd_timedwait cnd_signal
            cnd_broadcast
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __interpose_symbols {
    ($($name:ident)*) => {
        const _: () = {
            $(
                #[unsafe(naked)]
                #[unsafe(no_mangle)]
                pub unsafe extern "C" fn $name() {
                    $crate::__interpose_jump!($crate::__interpose::$name)
                }
            )*
            #[used]
            #[unsafe(link_section = ".init_array")]
            static INIT: extern "C" fn() = $crate::__interpose::init;
        };
    };
}

#[cfg(target_arch = "x86_64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __interpose_jump {
    ($to:path) => {
        ::core::arch::naked_asm!("jmp {to}", to = sym $to)
    };
}

#[cfg(target_arch = "aarch64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __interpose_jump {
    ($to:path) => {
        ::core::arch::naked_asm!("b {to}", to = sym $to)
    };
}

#[cfg(test)]
mod tests {
    macro_rules! strings {
        ($($name:ident)*) => { [$(stringify!($name)),*] };
    }

    /// The functions that stand in these files' `plain` lists and in those of their own macros, and those written out.
    fn written(source: &str) -> Vec<&str> {
        let name = |line: &'_ str| line.split(['(', '<']).next().map(str::len);
        let mut plain = false;
        let mut found = Vec::new();
        for line in source.lines() {
            plain = (plain || line == "    plain {") && line != "    own {";
            let rest = line.strip_prefix("pub unsafe extern \"C-unwind\" fn ");
            let rest = rest.or_else(|| line.strip_prefix("        fn ").filter(|_| plain));
            let rest = rest.or_else(|| line.strip_prefix("    fn "));
            found.extend(rest.and_then(|r| r.get(..name(r)?)));
        }
        found
    }

    #[test]
    fn every_hook_has_a_symbol() {
        let sources = [
            include_str!("interpose/files.rs"),
            include_str!("interpose/paths.rs"),
            include_str!("interpose/stdio.rs"),
            include_str!("interpose/sockets.rs"),
            include_str!("interpose/poll.rs"),
            include_str!("interpose/sleep.rs"),
            include_str!("interpose/memory.rs"),
            include_str!("interpose/processes.rs"),
            include_str!("interpose/raw_call.rs"),
            include_str!("interpose/mutex.rs"),
            include_str!("interpose/condvar.rs"),
            include_str!("interpose/threads.rs"),
            include_str!("interpose/c11.rs"),
        ];
        let mut hooks: Vec<&str> = sources.into_iter().flat_map(written).collect();
        let mut symbols = crate::__interpose_names!(strings).to_vec();
        hooks.sort_unstable();
        symbols.sort_unstable();
        assert_eq!(hooks, symbols);
        assert!(symbols.len() > 250);
    }
}
