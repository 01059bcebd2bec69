//! One process's recording: when it begins and when it ends.
//!
//! It begins in the constructor, or at a [command](crate::control), or in the child of a `fork` that is to be followed, and ends once, with the process. What ends
//! without a word (a signal, the kernel) leaves its last generation in the black box beside the file.

use std::ffi::{CString, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use exectrace::__preload as guest;

use crate::arena::ARENA;
use crate::config::{Config, STARTED};
use crate::control;
use crate::sink::{self, Sink};

static CONFIG: OnceLock<Config> = OnceLock::new();
/// The process that is being recorded, 0 for none. It is not this one in a child of `vfork`, which has our memory.
static RECORDED: AtomicU32 = AtomicU32::new(0);
/// The process that is to be recorded, now or at a command.
static OWN: AtomicU32 = AtomicU32::new(0);
/// The black box of the recording that is on.
static BLACK_BOX: Mutex<Option<BlackBox>> = Mutex::new(None);

struct BlackBox {
    /// While it is needed.
    file: Option<guest::Kept>,
    identity: (u64, u64),
    path: CString,
}

/// How often one process may write files under one name, before and after each `exec`.
const FILES_MAX: u32 = 1000;

/// The thread that starts or stops, or ends the process; 0 for none: see [`Turn`].
static TURN: AtomicU32 = AtomicU32::new(0);
/// The process ends: nothing begins any more.
static OVER: AtomicBool = AtomicBool::new(false);
/// The file that is written.
static FILE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// While it lives, nobody else starts or stops.
struct Turn;

impl Turn {
    /// Waits for its turn; `None` if that does not come within seconds, or if this is a signal handler on the thread that has it.
    fn take() -> Option<Turn> {
        // SAFETY: no arguments.
        let me = unsafe { guest::system(libc::SYS_gettid, [0; 6]) } as u32;
        for _ in 0..TURN_LOOKS {
            match TURN.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Turn),
                Err(holder) if holder == me => return None,
                Err(_) => {}
            }
            let time = libc::timespec { tv_sec: 0, tv_nsec: 100_000 };
            // SAFETY: the kernel reads a time there.
            unsafe { guest::system(libc::SYS_nanosleep, [(&raw const time).expose_provenance(), 0, 0, 0, 0, 0]) };
        }
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURN.store(0, Ordering::Release);
    }
}

const TURN_LOOKS: u32 = 50_000;

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
                #[cfg(feature = "mimalloc")]
                if config.mimalloc {
                    crate::next::swap();
                }
                begin_process(config, !config.paused);
            }
        }
        Ok(None) => {}
        Err(wrong) => complain(&wrong),
    }
}

/// This process is one of those to be recorded: `now`, or at a command.
fn begin_process(config: &Config, now: bool) {
    let pid = guest::process_id();
    // Whatever stands between here and a trace that runs, the program's `errno` is as it was.
    // SAFETY: the process has one thread: this is the constructor, or the child of a fork.
    unsafe { std::env::set_var(STARTED, pid.to_string()) };
    OWN.store(pid, Ordering::Release);
    // Whoever is at the socket as soon as it is there waits until this is over.
    let Some(_turn) = Turn::take() else { return complain("cannot record: somebody else starts or stops") };
    if let Some(path) = config.control(pid)
        && let Err(why) = control::begin(path)
    {
        complain(&why);
    }
    if now && let Err(why) = start(config) {
        complain(&why);
    }
}

extern "C" fn fork_begins() {
    ARENA.lock();
}

extern "C" fn fork_ended() {
    ARENA.unlock();
}

/// `Err` says why not; it is for whoever asked, who may not be the program: nothing is said here.
fn start(config: &Config) -> Result<(), String> {
    let pid = guest::process_id();
    match sink(config, pid).and_then(|sink| start_into(config, sink)) {
        Ok(path) => {
            // Whoever has the turn is the only one to touch it.
            if let Ok(mut file) = FILE.try_lock() {
                *file = Some(path);
            }
            RECORDED.store(pid, Ordering::Release);
            Ok(())
        }
        Err(e) => Err(format!("cannot record to {}: {e}", config.path(pid, 0).display())),
    }
}

/// The command to start.
pub(crate) fn control_start() -> Result<String, String> {
    let _turn = Turn::take().ok_or("busy")?;
    if is_recorded() {
        return Err("it is recorded already".to_owned());
    }
    let config = CONFIG.get().filter(|_| !OVER.load(Ordering::Acquire)).ok_or("the program ends")?;
    start(config)?;
    Ok(status())
}

/// The command to stop.
pub(crate) fn control_stop() -> Result<String, String> {
    let _turn = Turn::take().ok_or("busy")?;
    if !is_recorded() {
        return Err("it is not recorded".to_owned());
    }
    let stopped = stop();
    if let Err(e) = stopped {
        return Err(e.to_string());
    }
    Ok(status())
}

/// Has all that was recorded up to now in the file.
pub(crate) fn control_flush() -> Result<String, String> {
    let _turn = Turn::take().ok_or("busy")?;
    if !is_recorded() {
        return Err("it is not recorded".to_owned());
    }
    guest::flush();
    Ok(status())
}

/// What is going on.
pub(crate) fn control_status() -> Result<String, String> {
    let _turn = Turn::take().ok_or("busy")?;
    Ok(status())
}

/// The same for whoever has the turn. `file` is the one that is written, or was last.
fn status() -> String {
    let state = if is_recorded() { "recording" } else { "paused" };
    let file = FILE.try_lock().ok().and_then(|file| file.clone());
    let file = file.map_or_else(|| "null".to_owned(), |file| control::quoted(file.as_os_str()));
    format!("{{\"ok\":true,\"state\":\"{state}\",\"process\":{},\"file\":{file}}}", guest::process_id())
}

fn start_into(config: &Config, sink: Sink) -> io::Result<PathBuf> {
    let written = PathBuf::from(OsString::from_vec(sink.path().clone().into_bytes()));
    let mut path = sink.path().clone().into_bytes();
    path.extend_from_slice(b".box");
    let path = CString::new(path)?;
    let mut tracer = config.tracer.clone();
    let (began, file) = (sink.began(), sink.descriptor());
    let identity = sink::identity(file)?;
    // A directory that has room for one file and not for another is no reason to record nothing.
    if let Ok(file) = sink::create_box(&path) {
        tracer = tracer.__black_box(file.descriptor());
        if let Ok(mut place) = BLACK_BOX.try_lock() {
            let identity = sink::identity(file.descriptor()).unwrap_or_default();
            *place = Some(BlackBox { identity, file: Some(file), path });
        }
    }
    if let Err(e) = guest::start(tracer, sink) {
        remove_box();
        return Err(io::Error::other(e));
    }
    // From here on the program's table has nothing of ours, where the system allows that.
    if began.wait() {
        guest::forget_kept(file);
        if sink::identity(file).is_ok_and(|now| now == identity) {
            sink::close(file);
        }
    }
    if !guest::box_needs_file()
        && let Ok(mut place) = BLACK_BOX.try_lock()
        && let Some(black_box) = place.as_mut()
    {
        black_box.close();
    }
    Ok(written)
}

impl BlackBox {
    fn close(&mut self) {
        let Some(kept) = self.file.take() else { return };
        let file = kept.descriptor();
        // Not if the program went around libc to close it: the number may be another file's.
        if sink::identity(file).is_ok_and(|now| now == self.identity) {
            sink::close(file);
        }
    }
}

/// All that it held is in the trace's file.
fn remove_box() {
    let Some(mut black_box) = BLACK_BOX.try_lock().ok().and_then(|mut place| place.take()) else { return };
    // Another one may stand there: of a process that writes under the same name.
    sink::remove_box(&black_box.path, black_box.identity);
    black_box.close();
}

fn sink(config: &Config, pid: u32) -> io::Result<Sink> {
    // The first of several that are started and stopped, too, may be there from before.
    let first = FILE.try_lock().is_ok_and(|file| file.is_none());
    if !config.is_per_process() && config.started.is_none() && first {
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
    if guest::is_inside() || CONFIG.get().is_none() || !is_own() {
        return;
    }
    OVER.store(true, Ordering::Release);
    let Some(_turn) = Turn::take() else { return };
    control::end();
    if is_recorded() {
        // The sink's errors have nowhere to go: what was written before them is in the file.
        let _ = stop();
    }
}

fn stop() -> Result<(), exectrace::StopError> {
    RECORDED.store(0, Ordering::Release);
    let stopped = guest::stop();
    remove_box();
    stopped.map(drop)
}

/// Whether this is the process that was last begun, and not a child of it that is not followed or that borrows its memory.
pub(crate) fn is_own() -> bool {
    OWN.load(Ordering::Acquire) == guest::process_id()
}

/// Whether the calling process, and not one that shares or copied its memory, is being recorded.
pub(crate) fn is_recorded() -> bool {
    let recorded = RECORDED.load(Ordering::Acquire);
    recorded != 0 && recorded == guest::process_id()
}

/// This is the child of a `fork`, behind all that libc does there.
pub(crate) fn forked() {
    if OWN.load(Ordering::Acquire) == 0 {
        return;
    }
    OWN.store(0, Ordering::Release);
    // Where commands decide, the child is recorded if its parent was: nobody tells the child what its parent was told before.
    let parents = RECORDED.swap(0, Ordering::AcqRel) != 0;
    // Whoever had these in the parent is not here.
    TURN.store(0, Ordering::Release);
    OVER.store(false, Ordering::Release);
    // The parent's files. The child's own come instead.
    if let Ok(mut place) = BLACK_BOX.try_lock() {
        core::mem::forget(place.take());
    }
    guest::close_kept();
    if let Some(config) = CONFIG.get()
        && config.follow
    {
        begin_process(config, parents || !config.has_control());
    }
}

/// Says on standard error why nothing is recorded: once, before the program has begun.
fn complain(what: &str) {
    // If it cannot be said, there is nobody to hear it.
    let _ = writeln!(io::stderr(), "exectrace: {what}");
}
