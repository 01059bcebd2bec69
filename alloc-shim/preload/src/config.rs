//! What to record, as the environment says it.
//!
//! | variable | means | default |
//! |---|---|---|
//! | `EXECTRACE_OUT` | the file to write; `%p` is the process id | none: nothing is recorded |
//! | `EXECTRACE_HEAP` | `off`, `curve`, `sampled`, `sampled:BYTES`, `exact` | `curve` |
//! | `EXECTRACE_MALLOC` | `mimalloc`: in place of the program's own allocator, if it is in this library | `own` |
//! | `EXECTRACE_BLOCKING`, `EXECTRACE_SYSCALLS` | `0` or `1` | `1` |
//! | `EXECTRACE_CPU_HZ` | CPU samples of a thread per second of its CPU time, 0 for none | 100 |
//! | `EXECTRACE_STACK_DEPTH` | the most frames of a stack | 64 |
//! | `EXECTRACE_BUFFER` | the most memory for buffers | `64MiB` |
//! | `EXECTRACE_PERIOD_MS` | how long a generation lasts | 1000 |
//! | `EXECTRACE_FLIGHT` | keep only the last so many bytes of the trace, in the file and in one beside it, `.old` | all |
//! | `EXECTRACE_CTL` | listen on this socket for `exectrace ctl`; `%p` is the process id | none |
//! | `EXECTRACE_PAUSED` | `1`: begin with the first `exectrace ctl SOCKET start`; what is executed later waits for the next one, what is forked does as its parent | `0` |
//! | `EXECTRACE_FOLLOW` | `1`: children are recorded, too; `EXECTRACE_OUT` and `EXECTRACE_CTL` need a `%p` | `0` |
//! | `EXECTRACE_PARENT` | record only children of the process with this id, and with `EXECTRACE_FOLLOW` theirs | any process |
//!
//! A process that is recorded leaves its id in `EXECTRACE_STARTED`: so its children know that they are children, and the program that
//! it executes in its own place that it is no child. Such a program's file has a number behind its name.
//!
//! It is read once, by the constructor, while the process has one thread.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use exectrace::{Allocations, Symbolize, Tracer};

use crate::next;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Config {
    /// Absolute; `%p` not yet filled in.
    pub(crate) out: PathBuf,
    pub(crate) tracer: Tracer,
    pub(crate) follow: bool,
    /// Where to listen for commands; absolute, `%p` not yet filled in.
    control: Option<PathBuf>,
    /// Whether recording waits for a command.
    pub(crate) paused: bool,
    /// Whether the program gets another allocator than its own.
    #[cfg_attr(not(feature = "mimalloc"), expect(dead_code, reason = "then it never does"))]
    pub(crate) mimalloc: bool,
    /// How much of the trace is kept; all, if it does not say.
    pub(crate) flight: Option<u64>,
    /// The only parent whose children are recorded.
    pub(crate) parent: Option<u32>,
    /// The process among this one and its ancestors that was last recorded.
    pub(crate) started: Option<u32>,
}

/// How long an allocation may wait for room in a buffer.
const BACK_PRESSURE: Duration = Duration::from_secs(1);

/// Set in the environment of a process that is recorded, for what it executes: its own id.
pub(crate) const STARTED: &str = "EXECTRACE_STARTED";

/// What is wrong with the environment.
pub(crate) type Wrong = String;

impl Config {
    /// `None` if nothing is to be recorded.
    pub(crate) fn from_env() -> Result<Option<Config>, Wrong> {
        let Some(out) = env::var_os("EXECTRACE_OUT").filter(|out| !out.is_empty()) else { return Ok(None) };
        // The program may change its directory before anything is written.
        let out = std::path::absolute(&out).map_err(|e| format!("EXECTRACE_OUT: {e}"))?;
        let follow = flag("EXECTRACE_FOLLOW", false)?;
        if follow && !out.as_os_str().as_bytes().windows(2).any(|w| w == b"%p") {
            return Err("EXECTRACE_FOLLOW needs a %p in EXECTRACE_OUT, so that each process has a file".to_owned());
        }
        let heap = text("EXECTRACE_HEAP")?.unwrap_or_else(|| "curve".to_owned());
        let (heap, allocations) = match heap.split_once(':').unwrap_or((&heap, "")) {
            ("off", "") => (false, Allocations::None),
            ("curve", "") => (true, Allocations::None),
            ("exact", "") => (true, Allocations::All),
            ("sampled", "") => (true, Allocations::SAMPLED),
            ("sampled", every) => {
                let every_bytes = bytes(every).filter(|&n| n > 0);
                let every_bytes = every_bytes.ok_or_else(|| format!("EXECTRACE_HEAP: not a size: {every}"))?;
                (true, Allocations::Sampled { every_bytes })
            }
            _ => return Err(format!("EXECTRACE_HEAP: {heap}: expected off, curve, sampled, sampled:BYTES or exact")),
        };
        let known = next::tells_sizes();
        let mut tracer = Tracer::new()
            .symbolize(Symbolize::Never)
            .heap(heap && known)
            .allocations(if known { allocations } else { Allocations::None })
            // All of them means all: where the disk is slower than the program, the program waits.
            .back_pressure(BACK_PRESSURE)
            .free_stacks(false)
            .blocking(flag("EXECTRACE_BLOCKING", true)?)
            .syscalls(flag("EXECTRACE_SYSCALLS", true)?);
        if let Some(hz) = number("EXECTRACE_CPU_HZ")? {
            tracer = tracer.cpu_sample_hz(hz.min(1000) as u32);
        }
        if let Some(depth) = number("EXECTRACE_STACK_DEPTH")? {
            tracer = tracer.stack_depth(depth.min(128) as usize);
        }
        if let Some(ms) = number("EXECTRACE_PERIOD_MS")? {
            tracer = tracer.generation_period(Duration::from_millis(ms));
        }
        if let Some(size) = text("EXECTRACE_BUFFER")? {
            let size = bytes(&size).ok_or_else(|| format!("EXECTRACE_BUFFER: not a size: {size}"))?;
            tracer = tracer.buffer_bytes(usize::try_from(size).unwrap_or(usize::MAX));
        }
        let parent = number("EXECTRACE_PARENT")?.map(|id| id as u32);
        let flight = match text("EXECTRACE_FLIGHT")? {
            None => None,
            Some(size) => match bytes(&size) {
                // Less does not hold two generations with their tables.
                Some(bytes) => Some(bytes.max(1 << 20)),
                None => return Err(format!("EXECTRACE_FLIGHT: not a size: {size}")),
            },
        };
        let mimalloc = match text("EXECTRACE_MALLOC")?.as_deref() {
            None | Some("own") => false,
            Some("mimalloc") if cfg!(feature = "mimalloc") => true,
            Some("mimalloc") => {
                let other = "`exectrace record --mimalloc --print-library` says which one has it";
                return Err(format!("EXECTRACE_MALLOC: mimalloc is not in this library; {other}"));
            }
            Some(other) => return Err(format!("EXECTRACE_MALLOC: {other}: expected own or mimalloc")),
        };
        let control = match env::var_os("EXECTRACE_CTL").filter(|path| !path.is_empty()) {
            None => None,
            Some(path) => Some(std::path::absolute(&path).map_err(|e| format!("EXECTRACE_CTL: {e}"))?),
        };
        let per_process = |pattern: &Path| filled(pattern, 0, 0) != filled(pattern, 1, 0);
        if follow && control.as_deref().is_some_and(|path| !per_process(path)) {
            return Err("EXECTRACE_FOLLOW needs a %p in EXECTRACE_CTL, so that each process has a socket".to_owned());
        }
        let paused = flag("EXECTRACE_PAUSED", false)?;
        if paused && control.is_none() {
            return Err("EXECTRACE_PAUSED needs EXECTRACE_CTL, so that it can be told to start".to_owned());
        }
        let started = number(STARTED)?.map(|id| id as u32);
        Ok(Some(Config { out, tracer, follow, control, paused, mimalloc, flight, parent, started }))
    }

    /// The file of process `pid`; `n` tells apart what one process writes before and after an `exec`.
    pub(crate) fn path(&self, pid: u32, n: u32) -> PathBuf {
        filled(&self.out, pid, n)
    }

    /// Where process `pid` listens, if it does.
    pub(crate) fn control(&self, pid: u32) -> Option<PathBuf> {
        Some(filled(self.control.as_ref()?, pid, 0))
    }

    /// Whether processes are told when to begin and to end.
    pub(crate) fn has_control(&self) -> bool {
        self.control.is_some()
    }

    /// Whether each process has a file of its own, which no other one overwrites.
    pub(crate) fn is_per_process(&self) -> bool {
        self.path(0, 0) != self.path(1, 0)
    }
}

/// A path with the process id in place of `%p`, and a number behind it that is not 0.
fn filled(pattern: &Path, pid: u32, n: u32) -> PathBuf {
    let mut path = Vec::new();
    let mut rest = pattern.as_os_str().as_bytes();
    while let Some(at) = rest.iter().position(|&b| b == b'%') {
        path.extend_from_slice(&rest[..at]);
        let (name, used) = match rest.get(at + 1) {
            Some(b'p') => (pid.to_string(), 2),
            Some(b'%') => ("%".to_owned(), 2),
            _ => ("%".to_owned(), 1),
        };
        path.extend_from_slice(name.as_bytes());
        rest = &rest[at + used..];
    }
    path.extend_from_slice(rest);
    if n > 0 {
        path.extend_from_slice(format!(".{n}").as_bytes());
    }
    OsString::from_vec(path).into()
}

fn text(name: &str) -> Result<Option<String>, Wrong> {
    match env::var_os(name) {
        None => Ok(None),
        Some(value) if value.as_os_str() == OsStr::new("") => Ok(None),
        Some(value) => value.into_string().map(Some).map_err(|_| format!("{name}: not UTF-8")),
    }
}

fn flag(name: &str, default: bool) -> Result<bool, Wrong> {
    match text(name)?.as_deref() {
        None => Ok(default),
        Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(other) => Err(format!("{name}: {other}: expected 0 or 1")),
    }
}

fn number(name: &str) -> Result<Option<u64>, Wrong> {
    let Some(value) = text(name)? else { return Ok(None) };
    value.parse().map(Some).map_err(|_| format!("{name}: not a number: {value}"))
}

/// A size: a number and perhaps `KiB`, `MiB` or `GiB`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}
