//! One process's recording: when it begins and when it ends.
//!
//! It begins in the constructor, or in the child of a `fork` that is to be followed, and ends once, with the process. What ends
//! without a word (a signal, the kernel) leaves its last generation in the black box beside the file.

use std::ffi::CString;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use exectrace::__preload as guest;

use crate::arena::ARENA;
use crate::config::{Config, STARTED};
use crate::sink::{self, Sink};

static CONFIG: OnceLock<Config> = OnceLock::new();
/// The process that is being recorded, 0 for none. It is not this one in a child of `vfork`, which has our memory.
static RECORDED: AtomicU32 = AtomicU32::new(0);
/// The black box of the recording that is on.
static BLACK_BOX: Mutex<Option<BlackBox>> = Mutex::new(None);

struct BlackBox {
    file: guest::Kept,
    identity: (u64, u64),
    path: CString,
}

/// How often one process may write files under one name, before and after each `exec`.
const FILES_MAX: u32 = 1000;

/// The library's constructor.
pub(crate) extern "C" fn begin() {
    exectrace::__interpose::init();
    // SAFETY: the functions have the right type and live for ever. In the child the tracer's come first, which do not allocate.
    unsafe { libc::pthread_atfork(Some(fork_begins), Some(fork_ended), Some(fork_ended)) };
    // The program's own copy of the hooks stands before this one and sees every call first.
    if exectrace::__interpose::hooked_by_another() {
        return;
    }
    match Config::from_env() {
        Ok(Some(config)) => {
            let config = CONFIG.get_or_init(|| config);
            // SAFETY: no arguments.
            let parent = unsafe { guest::system(libc::SYS_getppid, [0; 6]) } as u32;
            let wanted = match config.started {
                // This process has executed another program.
                Some(pid) if pid == guest::process_id() => true,
                Some(_) => config.follow,
                None => config.parent.is_none_or(|only| only == parent),
            };
            if wanted {
                start(config);
            }
        }
        Ok(None) => {}
        Err(wrong) => complain(&wrong),
    }
}

extern "C" fn fork_begins() {
    ARENA.lock();
}

extern "C" fn fork_ended() {
    ARENA.unlock();
}

fn start(config: &Config) {
    let pid = guest::process_id();
    // Whatever stands between here and a trace that runs, the program's `errno` is as it was.
    // SAFETY: the process has one thread: this is the constructor, or the child of a fork.
    unsafe { std::env::set_var(STARTED, pid.to_string()) };
    match sink(config, pid).and_then(|sink| start_into(config, sink)) {
        Ok(()) => RECORDED.store(pid, Ordering::Release),
        Err(e) => complain(&format!("cannot record to {}: {e}", config.path(pid, 0).display())),
    }
}

fn start_into(config: &Config, sink: Sink) -> io::Result<()> {
    let mut path = sink.path().clone().into_bytes();
    path.extend_from_slice(b".box");
    let path = CString::new(path)?;
    let mut tracer = config.tracer.clone();
    // A directory that has room for one file and not for another is no reason to record nothing.
    if let Ok(file) = sink::create_box(&path) {
        tracer = tracer.__black_box(file.descriptor());
        if let Ok(mut place) = BLACK_BOX.try_lock() {
            *place = Some(BlackBox { identity: sink::identity(file.descriptor()).unwrap_or_default(), file, path });
        }
    }
    let started = tracer.start(sink).map_err(io::Error::other);
    if started.is_err() {
        remove_box();
    }
    started
}

/// All that it held is in the trace's file.
fn remove_box() {
    let Some(black_box) = BLACK_BOX.try_lock().ok().and_then(|mut place| place.take()) else { return };
    let at = black_box.path.as_ptr().expose_provenance();
    // SAFETY: a terminated path.
    unsafe { guest::system(libc::SYS_unlinkat, [libc::AT_FDCWD as usize, at, 0, 0, 0, 0]) };
    let file = black_box.file.descriptor();
    // Not if the program went around libc to close it: the number may be another file's.
    if sink::identity(file).is_ok_and(|now| now == black_box.identity) {
        sink::close(file);
    }
}

fn sink(config: &Config, pid: u32) -> io::Result<Sink> {
    if !config.is_per_process() && config.started.is_none() {
        return Sink::create(config.path(pid, 0), false, config.flight);
    }
    for n in 0..FILES_MAX {
        match Sink::create(config.path(pid, n), true, config.flight) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(io::Error::other("too many files of this process"))
}

/// The library's destructor, and what each other way out of the process comes to. Returns when the trace is written.
pub(crate) extern "C" fn end() {
    // A signal handler that interrupted a hook would wait for itself. What is in the buffers is in the black box.
    if !is_recorded() || guest::is_inside() {
        return;
    }
    RECORDED.store(0, Ordering::Release);
    // The sink's errors have nowhere to go: what was written before them is in the file.
    let _ = exectrace::stop();
    remove_box();
}

/// Whether the calling process, and not one that shares or copied its memory, is being recorded.
pub(crate) fn is_recorded() -> bool {
    let recorded = RECORDED.load(Ordering::Acquire);
    recorded != 0 && recorded == guest::process_id()
}

/// This is the child of a `fork`, behind all that libc does there.
pub(crate) fn forked() {
    if RECORDED.load(Ordering::Acquire) == 0 {
        return;
    }
    RECORDED.store(0, Ordering::Release);
    // The parent's files. The child's own come instead.
    if let Ok(mut place) = BLACK_BOX.try_lock() {
        core::mem::forget(place.take());
    }
    guest::close_kept();
    if let Some(config) = CONFIG.get()
        && config.follow
    {
        start(config);
    }
}

/// Says on standard error why nothing is recorded: once, before the program has begun.
fn complain(what: &str) {
    // If it cannot be said, there is nobody to hear it.
    let _ = writeln!(io::stderr(), "exectrace: {what}");
}
