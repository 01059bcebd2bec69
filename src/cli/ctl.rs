//! `exectrace ctl`: starts and stops the recording of a program that runs, takes snapshots of it, and says how things are.

use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use crate::record::control;
use crate::record::spool::{self, Names, Raw};
use serde_json::{Value, json};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the other side may take: it finds the names of functions, too, which takes seconds where debug information is large.
const PATIENCE: Duration = Duration::from_secs(300);

/// Start and stop the recording of a program that runs, take snapshots of it, ask how it is
///
/// The program was started with `exectrace record --ctl SOCKET`, or with EXECTRACE_CTL=SOCKET in its environment and the preload library.
/// Only the user who started it can do this.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace record --ctl /tmp/app.ctl --paused -o app.trace -- ./server &
  exectrace ctl /tmp/app.ctl start             from here on it is recorded
  exectrace ctl /tmp/app.ctl snapshot          what there is so far; the recording goes on
  exectrace ctl /tmp/app.ctl stop              app.trace; the next one is app.2.trace
  exectrace ctl /tmp/app.ctl status --json

Exit codes: 0 done; 2 cannot be done: nobody listens, it is recorded already, the program has ended.")]
pub struct Args {
    /// The socket
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Begin to record
    Start(Printed),
    /// End the recording, and write its trace
    Stop(Printed),
    /// Write a trace of what is recorded so far; with --flight, of the last that is kept
    Snapshot {
        /// The file to write; APP.snapshot-N.trace by default
        file: Option<PathBuf>,
        #[command(flatten)]
        printed: Printed,
    },
    /// Say whether it is recorded, and where to
    Status(Printed),
}

#[derive(clap::Args)]
struct Printed {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let (line, printed, to) = match &args.command {
        Command::Start(printed) => (b"start".to_vec(), printed, None),
        Command::Stop(printed) => (b"stop".to_vec(), printed, None),
        Command::Status(printed) => (b"status".to_vec(), printed, None),
        Command::Snapshot { file: None, printed } => (b"snapshot".to_vec(), printed, None),
        Command::Snapshot { file: Some(file), printed } => {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            if file.as_os_str().as_bytes().contains(&b'\n') {
                return Err(Failure::usage("a path with a line break cannot be told to the program", ""));
            }
            ([b"snapshot ", file.as_os_str().as_bytes()].concat(), printed, Some(file))
        }
    };
    let mut answer = control::ask(&args.socket, &line, PATIENCE).map_err(|e| failure(&args.socket, &e))?;
    if answer["ok"] != true {
        let what = answer["error"].as_str().unwrap_or("it does not understand").to_owned();
        return Err(Failure::usage(what, hint(&answer)));
    }
    if matches!(args.command, Command::Snapshot { .. }) && answer["files"].is_null() {
        answer["files"] = json!([of_file(&answer, to)?]);
    }
    let mut out = Output::stdout();
    if printed.json {
        out.line(format_args!("{answer}"));
    } else {
        print(&mut out, &args.command, &answer);
    }
    out.flush()?;
    Ok(Outcome::Done)
}

/// The program listens itself: it has written all that there is to its file. Makes the snapshot of that.
fn of_file(answer: &Value, to: Option<PathBuf>) -> Result<String, Failure> {
    let nothing = || Failure::usage("nothing is recorded yet", "");
    let raw = PathBuf::from(answer["file"].as_str().ok_or_else(nothing)?);
    let default = || {
        let path = |n: u32| spool::with(&raw, &format!(".snapshot-{n}.trace"));
        (1..).map(path).find(|path| !path.exists()).unwrap_or_else(|| path(0))
    };
    let to = to.unwrap_or_else(default);
    let raw = Raw { process: 0, program: 0, path: raw };
    let names = Names { binaries: Vec::new(), debug_dirs: vec![PathBuf::from("/usr/lib/debug")] };
    match spool::finish(&raw, &to, &mut names.symbolizer(), true) {
        Ok(Some(_)) => Ok(to.display().to_string()),
        Ok(None) => Err(nothing()),
        Err(e) => Err(Failure::usage(format_args!("{}: {e}", to.display()), "")),
    }
}

fn print(out: &mut Output, command: &Command, answer: &Value) {
    let files = answer["files"].as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str);
    match command {
        Command::Start(_) => out.line(format_args!("recording process {}", answer["process"])),
        Command::Stop(_) if answer["files"].is_null() => {
            out.line(format_args!("stopped: {}", answer["file"].as_str().unwrap_or_default()));
        }
        Command::Stop(_) => files.for_each(|file| out.line(format_args!("stopped: {file}"))),
        Command::Snapshot { .. } => files.for_each(|file| out.line(format_args!("snapshot: {file}"))),
        Command::Status(_) => {
            let state = answer["state"].as_str().unwrap_or_default();
            out.line(format_args!("{state}: process {}", answer["process"]));
            if let (Some(file), true) = (answer["file"].as_str(), state == "recording") {
                let bytes = answer["bytes"].as_u64().map(|n| format!(", {n} bytes so far")).unwrap_or_default();
                out.line(format_args!("file       {file}{bytes}"));
            }
            files.for_each(|file| out.line(format_args!("trace      {file}")));
            for file in answer["snapshots"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                out.line(format_args!("snapshot   {file}"));
            }
        }
    }
}

fn hint(answer: &Value) -> &'static str {
    match answer["error"].as_str() {
        Some("it is not recorded") => "`exectrace ctl SOCKET start`",
        Some("it is recorded already") => "`exectrace ctl SOCKET stop` ends that, `snapshot` does not",
        _ => "",
    }
}

fn failure(socket: &Path, e: &io::Error) -> Failure {
    let name = socket.display();
    let start = "start the program with `exectrace record --ctl SOCKET -- CMD`";
    match e.kind() {
        io::ErrorKind::NotFound => Failure::usage(format_args!("no socket {name}"), start),
        io::ErrorKind::ConnectionRefused => {
            Failure::usage(format_args!("nobody listens on {name}: the program has ended"), start)
        }
        io::ErrorKind::PermissionDenied => Failure::usage(
            format_args!("{name} belongs to another user"),
            "run this as the user who started the program",
        ),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            Failure::usage("the program ended before it answered", "what was recorded is written by `exectrace record`")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Failure::usage(format_args!("no answer on {name} within {} s", PATIENCE.as_secs()), "")
        }
        _ => Failure::usage(format_args!("{name}: {e}"), start),
    }
}
