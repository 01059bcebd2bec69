//! `exectrace symbolize`: names for a trace that was recorded without symbols.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::rewrite::Target;
use exectrace::analyze::Count;
use exectrace::rewrite::{self, Binaries};
use std::fmt::Write;
use std::path::PathBuf;

/// Names for the frames of a trace that was recorded with raw program counters (Symbolize::Never)
///
/// Binaries are found by the build ids that the trace has: among those named with --binary, in directories of debug information, and
/// where they were when the program ran. Frames of a binary that is not found stay as they are; another run with other binaries can
/// name them. Nothing is downloaded.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace symbolize raw.trace -o app.trace
  exectrace symbolize --binary target/release/app raw.trace -o app.trace
  exectrace symbolize --debug-dir /srv/debug raw.trace -o app.trace      /srv/debug/.build-id/ab/cdef.debug")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// A binary of the program, or a file with its debug information
    #[arg(long, value_name = "FILE")]
    binary: Vec<PathBuf>,
    /// A directory of debug information by build id
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/debug")]
    debug_dir: Vec<PathBuf>,
    #[command(flatten)]
    target: Target,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    if let Some(missing) = args.binary.iter().find(|b| !b.is_file()) {
        return Err(Failure::usage(format_args!("cannot open {}: no such file", missing.display()), ""));
    }
    let input = Input::open(&args.file)?;
    let mut binaries = Binaries::default();
    binaries.files.clone_from(&args.binary);
    binaries.debug_dirs.clone_from(&args.debug_dir);
    let bytes = input.bytes()?;
    let mut watch = input.watch_bytes();
    args.target.write(
        &[&input],
        |out| rewrite::symbolize(bytes, out, &binaries, &mut |n| watch.at(n)),
        |r| {
            let mut text = String::new();
            for m in &r.modules {
                let (named, all) = (Count(m.named), Count(m.addresses));
                let why = m.why_not.as_ref().map(|w| format!(" ({w})")).unwrap_or_default();
                // Writing to a string cannot fail.
                let _ = write!(text, "\n  {}: {named} of {all} addresses named{why}", m.path);
            }
            (r.written, text)
        },
    )
}
