//! `exectrace record`: runs a program that knows nothing of exectrace, and writes a trace of it.
//!
//! The program runs as it would without: its input and output, its signals and its exit code are its own. What is recorded goes
//! to a directory beside the output while it runs ([`spool`]); names are found, and the trace is put together, when it has ended.

pub mod control;
mod events;
pub mod library;
pub mod program;
mod run;
pub mod spool;
mod watch;

use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use exectrace::analyze::{self, SummaryOptions};
use exectrace::read::Reader;
use spool::{Finished, Names, Spool};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use watch::{Condition, Plan};

/// Run a program and write a trace of it: threads, waits, system calls, heap, CPU samples
///
/// Works with dynamically linked programs (Rust, C, C++, Python, Node, databases), which need not be built for it. The program's
/// input, output, signals and exit code stay its own. A program that is killed leaves a trace up to its last moments.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace record -- ./server --port 8080         writes server.trace
  exectrace record --heap exact -o a.trace -- python3 app.py
  exectrace record --heap sampled --flight 64MiB --on cgroup=90% --on growth=100MiB/s -- ./server
  exectrace record --ctl /tmp/app.ctl --paused -- ./server    and then: exectrace ctl /tmp/app.ctl start
  exectrace record --follow -o make.trace -- make  make.trace, and make.PID.trace for each process that it starts

The exit code is the program's; 128 + N if signal N ended it; 2 if it could not be recorded.

Where the command line cannot be changed, the same in the environment (it works with any process manager):
  LD_PRELOAD=$(exectrace record --print-library) EXECTRACE_OUT=/tmp/app.%p.trace app
  exectrace recover /tmp                           when a process was killed
  exectrace symbolize /tmp/app.123.trace -o app.trace")]
pub struct Args {
    /// Write the trace to this file; PROGRAM.trace by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What of the heap: `off`; `curve`, its size over time; `sampled` or `sampled:BYTES`, a sample of the allocations with their
    /// stacks too; `exact`, all of them
    #[arg(long, value_name = "WHAT", default_value = "curve", value_parser = heap)]
    heap: String,
    /// Swap the program's allocator for mimalloc, which is in the preload library
    #[arg(long)]
    mimalloc: bool,
    /// Record the processes that the program starts, too, each in a file of its own
    #[arg(long)]
    follow: bool,
    /// Do not record waiting and waking
    #[arg(long)]
    no_blocking: bool,
    /// Do not record system calls
    #[arg(long)]
    no_syscalls: bool,
    /// CPU samples of a thread per second of its CPU time; 0 for none
    #[arg(long, value_name = "HZ", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1000))]
    cpu_hz: u32,
    /// The most frames of a stack
    #[arg(long, value_name = "FRAMES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=128))]
    stack_depth: u32,
    /// The most memory in the program for buffers, such as 64MiB
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    buffer: String,
    /// Flight recorder: keep only about the last SIZE of the trace, however long the program runs
    #[arg(long, value_name = "SIZE", value_parser = size)]
    flight: Option<u64>,
    /// Take a snapshot when this happens: `rss=SIZE`, `growth=SIZE/s`, `cgroup=PERCENT` of the control group's memory limit,
    /// `cgroup-events`, `psi=PERCENT` of the time waited for memory, `signal` (SIGUSR2 to this command), `region=TIME`,
    /// `syscall=TIME` or `gc-pause=TIME` that one of those took longer than (`100ms`), `alloc-failure`. May be given often
    #[arg(long, value_name = "CONDITION", value_parser = Condition::parse)]
    on: Vec<Condition>,
    /// Listen on this socket for `exectrace ctl`, which starts and stops, takes snapshots, and says how things are. The second trace of
    /// a program that is started again is app.2.trace, or has the number in place of a `%n` in FILE
    #[arg(long, value_name = "SOCKET")]
    ctl: Option<PathBuf>,
    /// Record nothing before `exectrace ctl SOCKET start`. With --follow, a process that is forked later does as its parent; one that
    /// executes another program waits for the next start
    #[arg(long, requires = "ctl")]
    paused: bool,
    /// The least time between two snapshots, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    cooldown: u64,
    /// How many snapshots to keep: those with the highest scores, which are in their names (percent of the limit)
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    keep: u16,
    /// Run this shell command with the path of each snapshot, to upload it, say
    #[arg(long, value_name = "COMMAND", requires = "on")]
    then: Option<String>,
    /// A directory of debug information by build id
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/debug")]
    debug_dir: Vec<PathBuf>,
    /// Print neither the summary nor where the trace is
    #[arg(short, long)]
    quiet: bool,
    /// The preload library, in place of the one inside of this command
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// Print where the preload library is, and do nothing else
    #[arg(long, conflicts_with_all = ["output", "follow"])]
    print_library: bool,
    /// The program and its arguments
    #[arg(last = true, required_unless_present = "print_library", value_name = "CMD")]
    command: Vec<OsString>,
}

fn size(text: &str) -> Result<u64, String> {
    watch::bytes(text).ok_or_else(|| "expected a size such as 64MiB".to_owned())
}

fn heap(text: &str) -> Result<String, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("off" | "curve" | "sampled" | "exact", "") => Ok(text.to_owned()),
        ("sampled", size) if size.starts_with(|c: char| ('1'..='9').contains(&c)) => Ok(text.to_owned()),
        _ => Err("expected off, curve, sampled, sampled:BYTES or exact".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let library = library::path(args.library.as_deref(), args.mimalloc)?;
    if args.print_library {
        let mut out = Output::stdout();
        out.line(format_args!("{}", library.display()));
        out.flush()?;
        return Ok(Outcome::Done);
    }
    let Some((name, rest)) = args.command.split_first() else {
        return Err(Failure::usage("no program to record", "exectrace record -- CMD ARGS..."));
    };
    program::check(name)?;
    let output = match &args.output {
        Some(path) => path.clone(),
        None => PathBuf::from(Path::new(name).file_name().unwrap_or(name)).with_extension("trace"),
    };
    let spool = Spool::create(&output)?;
    let mut command = Command::new(name);
    command.args(rest);
    environment(args, &library, &spool, &mut command);
    let names = Names { debug_dirs: args.debug_dir.clone(), ..Names::default() };
    let plan = (!args.on.is_empty()).then(|| Plan {
        conditions: args.on.clone(),
        cooldown: Duration::from_secs(args.cooldown),
        keep: args.keep.into(),
        then: args.then.clone(),
        output: output.clone(),
        names: names.clone(),
        quiet: args.quiet,
    });
    let server = args.ctl.as_ref().map(|path| control::Server::bind(path, &spool, &output, &names));
    let server = match server.transpose() {
        Ok(server) => server,
        Err(e) => {
            spool.remove();
            return Err(e);
        }
    };
    let watch = plan.map(|plan| (plan, spool.clone()));
    let mut done = control::Done::default();
    let ended = match server {
        None => run::to_its_end(&mut command, args.follow, watch, &|_| {}),
        Some(server) => {
            let ended;
            (ended, done) = server.during(|begun| run::to_its_end(&mut command, args.follow, watch, begun));
            ended
        }
    };
    let mut ended = match ended {
        Ok(ended) => ended,
        Err(e) => {
            spool.remove();
            return Err(Failure::usage(format_args!("cannot run {}: {e}", Path::new(name).display()), ""));
        }
    };
    let numbers = args.ctl.is_some().then_some(&mut done.numbers);
    let mut traces = spool.finish(ended.process, &output, &names, numbers)?;
    let earlier = done.traces.into_iter().map(|path| Finished { path, is_main: true, trouble: None });
    traces.splice(0..0, earlier);
    ended.snapshots.append(&mut done.snapshots);
    if !args.quiet {
        report(args, &traces, &ended);
    }
    Ok(Outcome::Code(ended.code))
}

fn environment(args: &Args, library: &Path, spool: &Spool, command: &mut Command) {
    let mut preload = library.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let bit = |on: bool| if on { "1" } else { "0" };
    command
        .env("LD_PRELOAD", preload)
        .env("EXECTRACE_OUT", spool.pattern())
        .env("EXECTRACE_PARENT", std::process::id().to_string())
        .env("EXECTRACE_FOLLOW", bit(args.follow))
        .env("EXECTRACE_HEAP", &args.heap)
        .env("EXECTRACE_MALLOC", if args.mimalloc { "mimalloc" } else { "own" })
        .env("EXECTRACE_BLOCKING", bit(!args.no_blocking))
        .env("EXECTRACE_SYSCALLS", bit(!args.no_syscalls))
        .env("EXECTRACE_CPU_HZ", args.cpu_hz.to_string())
        .env("EXECTRACE_STACK_DEPTH", args.stack_depth.to_string())
        .env("EXECTRACE_BUFFER", &args.buffer)
        // A snapshot is of whole generations: with short ones it is of the last moments.
        .env("EXECTRACE_PERIOD_MS", if args.on.is_empty() { "1000" } else { "250" })
        // What an outer recording left for its own children.
        .env_remove("EXECTRACE_STARTED");
    if args.ctl.is_some() {
        command.env("EXECTRACE_CTL", spool.control_pattern()).env("EXECTRACE_PAUSED", bit(args.paused));
    } else {
        command.env_remove("EXECTRACE_CTL").env_remove("EXECTRACE_PAUSED");
    }
    if let Some(bytes) = args.flight {
        command.env("EXECTRACE_FLIGHT", bytes.to_string());
    }
}

/// Says what came of it: the summary of the program's own trace, where the others are, and what to ask next.
fn report(args: &Args, traces: &[Finished], ended: &run::Ended) {
    let mut text = String::new();
    let name = Path::new(&args.command[0]).display().to_string();
    if let Some(signal) = ended.signal {
        let _ = writeln!(text, "exectrace: {name} was ended by signal {signal}");
    }
    let own: Vec<&Finished> = traces.iter().filter(|t| t.is_main).collect();
    match own.last() {
        Some(main) => {
            if let Some(what) = &main.trouble {
                let _ = writeln!(text, "exectrace: {}: {what}", main.path.display());
            }
            if let Ok(mut reader) = File::open(&main.path).map_err(drop).and_then(|f| Reader::new(f).map_err(drop)) {
                let summary = analyze::summary_with(&mut reader, &SummaryOptions::default(), &mut || {});
                let _ = write!(text, "\n{summary}\n");
            }
            let path = shell_word(&main.path);
            for trace in &own {
                let _ = writeln!(text, "Trace      {}", shell_word(&trace.path));
            }
            for snapshot in &ended.snapshots {
                let _ = writeln!(text, "Snapshot   {}", shell_word(snapshot));
            }
            let others = traces.len() - own.len();
            if others > 0 {
                let _ = writeln!(text, "           and {others} of other processes beside it");
            }
            let heap = if args.heap == "curve" || args.heap == "off" {
                "exectrace record --heap sampled -- ...   who holds the heap".to_owned()
            } else {
                format!("exectrace heap --at peak {path}   who held the heap when it was largest")
            };
            let _ = writeln!(text, "Next       exectrace profile sync {path}   where threads wait for each other");
            let _ = writeln!(text, "           {heap}");
            let _ = writeln!(text, "           go tool trace {path}   the timeline, in the browser");
        }
        None if args.paused => {
            let _ = writeln!(text, "exectrace: nothing was recorded of {name}: it was not told to start");
        }
        None => {
            let _ = writeln!(
                text,
                "exectrace: {name} left no trace; hint: a program with exectrace's own hooks inside records itself; \
                 `exectrace doctor -- {name}` says what stands in the way"
            );
        }
    }
    // Where nobody listens there is nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A path as it can be typed.
fn shell_word(path: &Path) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+,%@".contains(b);
    let text = path.display().to_string();
    if path.as_os_str().as_bytes().iter().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
