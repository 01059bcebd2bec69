//! `exectrace recover`: whole traces of processes that were killed.

use crate::outcome::{Failure, Outcome};
use crate::record::spool::{self, Names, Raw, Spool};
use exectrace::rewrite::Symbolizer;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Whole traces of processes that were killed while they were recorded: up to their last moments
///
/// A process that is recorded keeps its buffers in a file beside its trace, TRACE.box. It removes it when it ends on its own. Of one that
/// was killed (SIGKILL, a crash, the kernel's out-of-memory killer) the trace is made whole from there, and frames get names.
///
/// `exectrace record` does so by itself. This command is for programs that were started with LD_PRELOAD, and for when `record` was
/// killed too: then the directory FILE.spool-N is what is left.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace recover /var/tmp/app.123.trace      and /var/tmp/app.123.trace.box
  exectrace recover /var/tmp                    all traces there that have a .box
  exectrace recover app.trace.spool-71          what `exectrace record` left")]
pub struct Args {
    /// A trace with a .box beside it, or a directory of such, or of a recording
    #[arg(required = true)]
    path: Vec<PathBuf>,
    /// A binary of the program, or a file with its debug information
    #[arg(long, value_name = "FILE")]
    binary: Vec<PathBuf>,
    /// A directory of debug information by build id
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/debug")]
    debug_dir: Vec<PathBuf>,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let names = Names { binaries: args.binary.clone(), debug_dirs: args.debug_dir.clone() };
    let mut symbolizer = names.symbolizer();
    let mut said = String::new();
    let mut found = 0;
    for path in &args.path {
        for (raw, output) in traces(path)? {
            found += 1;
            let black_box = spool::box_of(&raw.path);
            let line = if spool::is_in_use(&black_box) {
                format!("{}: its process still runs", raw.path.display())
            } else {
                one(&raw, &output, &mut symbolizer)
            };
            said.push_str(&line);
            said.push('\n');
        }
    }
    std::io::stdout().write_all(said.as_bytes()).map_err(Failure::writing)?;
    match found {
        0 => Err(Failure::usage("there is nothing to recover", "name a trace that has a .box beside it")),
        _ => Ok(Outcome::Done),
    }
}

/// The traces that are meant, and where they are to go.
fn traces(path: &Path) -> Result<Vec<(Raw, PathBuf)>, Failure> {
    let cannot = |e: std::io::Error| Failure::usage(format_args!("cannot read {}: {e}", path.display()), "");
    if !path.is_dir() {
        fs::metadata(path).map_err(cannot)?;
        let raw = Raw { process: 0, program: 0, path: path.to_owned() };
        return Ok(if spool::box_of(path).is_file() { vec![(raw, path.to_owned())] } else { Vec::new() });
    }
    if path.file_name().is_some_and(|name| name.to_string_lossy().contains(".spool-")) {
        let output = spool_output(path);
        let raws = Spool::open(path).raws().map_err(cannot)?;
        let stem = |raw: &Raw| output.with_extension(format!("{}.{}.trace", raw.process, raw.program));
        return Ok(raws.into_iter().map(|raw| (stem(&raw), raw)).map(|(to, raw)| (raw, to)).collect());
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        let trace = file.with_extension("");
        if file.extension().is_some_and(|e| e == "box") && trace.is_file() {
            all.push((Raw { process: 0, program: 0, path: trace.clone() }, trace));
        }
    }
    all.sort();
    Ok(all)
}

/// `app.trace` of `app.trace.spool-71`.
fn spool_output(dir: &Path) -> PathBuf {
    let text = dir.to_string_lossy();
    PathBuf::from(text.rsplit_once(".spool-").map_or(&*text, |(output, _)| output))
}

fn one(raw: &Raw, output: &Path, symbolizer: &mut Symbolizer) -> String {
    match spool::finish(raw, output, symbolizer, false) {
        Ok(None) => format!("{}: nothing was recorded", raw.path.display()),
        Ok(Some(trouble)) => {
            // What it held is in the trace now.
            let _ = fs::remove_file(spool::box_of(&raw.path));
            let _ = fs::remove_file(spool::with(&raw.path, ".old"));
            if raw.path != output {
                let _ = fs::remove_file(&raw.path);
            }
            let trouble = trouble.map(|t| format!(" ({t})")).unwrap_or_default();
            format!("{}: recovered{trouble}", output.display())
        }
        Err(e) => format!("{}: {e}", raw.path.display()),
    }
}
