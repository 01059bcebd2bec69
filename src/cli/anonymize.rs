//! `exectrace anonymize`: a trace that can be shown to others.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::rewrite::Target;
use exectrace::rewrite;
use std::path::PathBuf;

/// Write a trace without the names in it, to show to others
///
/// Functions, files, goroutines, tasks, regions, labels and categories of logs become hashes; the same name has the same hash
/// within one run, and nobody can compute it elsewhere, because its key is forgotten. Log messages, the paths and build ids of
/// binaries, the process id and the types of objects are left out. What stays: all times and states, the shape of stacks, lines,
/// sizes, addresses, the time of the wall, and names of the standard libraries of Go and Rust and of system calls.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace anonymize app.trace -o public.trace
  exectrace anonymize app.trace | exectrace print --stacks - | less     look before you send
  exectrace cut --from 3s --to 4s app.trace | exectrace anonymize - -o bug.trace")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let bytes = input.bytes()?;
    let mut watch = input.watch_bytes();
    args.target.write(&[&input], |out| rewrite::anonymize(bytes, out, &mut |n| watch.at(n)), |r| (*r, String::new()))
}
