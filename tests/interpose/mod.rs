//! What the tests of the hooks share: tracing a closure, and what was seen of it.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use exectrace::__standin as tracer;

/// What the hooks told the tracer.
#[derive(Debug)]
pub struct Seen {
    pub syscalls: BTreeMap<&'static str, u64>,
    /// By reason: sync, network, sleep, join, condition variable.
    pub waits: BTreeMap<&'static str, u64>,
    /// Waits that ended by a thread that was seen waking the waiter, and those that ended otherwise.
    pub woken: u64,
    pub alone: u64,
    pub created: u64,
    pub born: u64,
    pub renamed: u64,
}

impl Seen {
    pub fn syscall(&self, name: &str) -> u64 {
        self.syscalls.get(name).copied().unwrap_or(0)
    }

    pub fn waited(&self, reason: &str) -> u64 {
        self.waits.get(reason).copied().unwrap_or(0)
    }

    pub fn nothing(&self) -> bool {
        self.syscalls.is_empty() && self.waits.is_empty() && self.created == 0
    }
}

/// Traces `f`.
pub fn record<R>(f: impl FnOnce() -> R) -> (R, Seen) {
    tracer::reset();
    tracer::set(true);
    let r = f();
    tracer::set(false);
    (r, seen())
}

/// What the hooks have told since the last [`record`] began.
pub fn seen() -> Seen {
    let waits = ["sync", "network", "sleep", "join", "cond", "select"];
    let waits = waits.into_iter().zip(&tracer::BLOCKS).map(|(name, n)| (name, n.load(Relaxed)));
    Seen {
        syscalls: tracer::syscalls().into_iter().collect(),
        waits: waits.filter(|w| w.1 > 0).collect(),
        woken: tracer::WOKEN.load(Relaxed),
        alone: tracer::ALONE.load(Relaxed),
        created: tracer::CREATED.load(Relaxed),
        born: tracer::BORN.load(Relaxed),
        renamed: tracer::RENAMED.load(Relaxed),
    }
}

/// The C library of the tests, built and loaded.
pub struct Guest(*mut libc::c_void);

impl Guest {
    pub fn load() -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/guest.c");
        // By process: several tests build it at a time.
        let library = format!("{}/guest-{}.so", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let flags = ["-shared", "-fPIC", "-O2", "-D_FORTIFY_SOURCE=2", "-fexceptions", "-pthread", "-Wall", "-Werror"];
        let status = std::process::Command::new("cc").args(flags).args(["-o", &library, source]).status();
        assert!(status.expect("a C compiler").success(), "{source} does not compile");
        let path = std::ffi::CString::new(library.as_str()).expect("no zero in it");
        // SAFETY: the library's constructors are none.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "{library} cannot be loaded");
        std::fs::remove_file(library).expect("the library's file");
        Guest(handle)
    }

    /// The function of that name.
    ///
    /// # Safety
    /// `F` must be its type.
    pub unsafe fn get<F: Copy>(&self, name: &str) -> F {
        let name = std::ffi::CString::new(name).expect("no zero in it");
        // SAFETY: an open library.
        let at = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!at.is_null(), "{name:?}");
        assert_eq!(size_of::<F>(), size_of_val(&at));
        // SAFETY: the caller's.
        unsafe { std::mem::transmute_copy(&at) }
    }

    /// Runs `int name(int, long)` and expects it to find nothing wrong.
    pub fn run(&self, name: &str, a: i32, b: i64) {
        // SAFETY: the integers of fewer parameters are ignored.
        let f = unsafe { self.get::<unsafe extern "C-unwind" fn(i32, i64) -> i32>(name) };
        // SAFETY: as above.
        let line = unsafe { f(a, b) };
        assert_eq!(line, 0, "{name}({a}, {b}): see that line of guest.c");
    }

    /// Unloads it.
    pub fn unload(self) {
        // SAFETY: nothing of it is used any more.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}
