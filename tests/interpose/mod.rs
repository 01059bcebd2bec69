//! What the tests of the hooks share: tracing a closure and counting what the trace says, and the C guest.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use exectrace::read::{GoId, GoState, Reader, StateTransition};

/// What the trace says.
#[derive(Debug, Default)]
pub struct Seen {
    /// By name.
    pub syscalls: BTreeMap<String, u64>,
    /// By reason.
    pub waits: BTreeMap<String, u64>,
    /// Waits that another thread ended, and those that ended otherwise.
    pub woken: u64,
    pub alone: u64,
    /// Threads that another thread created.
    pub created: u64,
    /// Who woke whom, by the threads' names, and how often.
    pub wakes: BTreeMap<(String, String), u64>,
    /// Events that were lost.
    pub lost: u64,
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

/// A sink that hands its bytes out.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Traces `f`.
pub fn record<R>(f: impl FnOnce() -> R) -> (R, Seen) {
    let sink = Bytes::default();
    // Without names of code, which take seconds to find in a test's debug information, and without signals.
    let tracer = exectrace::Tracer::new().symbolize(exectrace::Symbolize::Never).stack_depth(8).cpu_sample_hz(0);
    tracer.start(sink.clone()).expect("no trace is on");
    let r = f();
    let stats = exectrace::stop().expect("a trace");
    let bytes = std::mem::take(&mut *sink.0.lock().expect("no panic"));
    (r, Seen { lost: stats.lost_events(), ..count(&bytes) })
}

fn count(bytes: &[u8]) -> Seen {
    /// The tracer's own goroutine.
    const TRACER: u64 = 1;
    let mut seen = Seen::default();
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut reader = Reader::new(bytes).expect("a trace");
    while let Some(event) = reader.next_event().expect("a valid trace") {
        let Some(StateTransition::Goroutine { id, from, to, reason, stack }) = event.transition() else { continue };
        if id.0 == TRACER {
            continue;
        }
        if !names.contains_key(&id.0)
            && let Some(root) = event.stack_of(stack).frames().last()
        {
            names.insert(id.0, root.func.to_owned());
        }
        match (from, to) {
            (GoState::NotExist, GoState::Runnable) => {
                seen.created += u64::from(event.goroutine != GoId::NONE && event.goroutine != id);
            }
            (GoState::Running, GoState::Syscall) => {
                let name = event.leaf().map_or(String::new(), |frame| frame.func.to_owned());
                *seen.syscalls.entry(name).or_default() += 1;
            }
            (GoState::Running, GoState::Waiting) => {
                *seen.waits.entry(event.string(reason).to_owned()).or_default() += 1;
            }
            (GoState::Waiting, GoState::Runnable) if event.goroutine == GoId::NONE || event.goroutine == id => {
                seen.alone += 1;
            }
            (GoState::Waiting, GoState::Runnable) => {
                seen.woken += 1;
                let name = |id: &GoId| names.get(&id.0).cloned().unwrap_or_default();
                *seen.wakes.entry((name(&event.goroutine), name(&id))).or_default() += 1;
            }
            _ => {}
        }
    }
    seen
}

/// The C library of the tests, built and loaded.
pub struct Guest(usize);

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
        Guest(handle as usize)
    }

    /// The function of that name.
    ///
    /// # Safety
    /// `F` must be its type.
    pub unsafe fn get<F: Copy>(&self, name: &str) -> F {
        let name = std::ffi::CString::new(name).expect("no zero in it");
        // SAFETY: an open library.
        let at = unsafe { libc::dlsym(self.0 as *mut _, name.as_ptr()) };
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
        assert_eq!(unsafe { libc::dlclose(self.0 as *mut _) }, 0);
    }
}
