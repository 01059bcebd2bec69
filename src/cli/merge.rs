//! `exectrace merge`: pieces of one run joined.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::rewrite::Target;
use exectrace::rewrite;
use std::path::PathBuf;

/// Join pieces of one run: dumps of a flight recorder, parts that were cut
///
/// Pieces may overlap and may come in any order; generations must not be missing between them. Traces of different processes
/// cannot be joined: a Go trace has one collector and one numbering of goroutines, threads and processors.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace merge flight-1.trace flight-2.trace flight-3.trace -o run.trace
  exectrace merge part-*.trace | exectrace summary -")]
pub struct Args {
    /// The pieces
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    target: Target,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let mut inputs = Vec::new();
    let mut pieces = Vec::new();
    for file in &args.files {
        let input = Input::open(file)?;
        let Some(piece) = input.seekable() else {
            let hint = "write it to a file first";
            return Err(Failure::usage(format_args!("{} cannot be read twice", input.name()), hint));
        };
        pieces.push(piece);
        inputs.push(input);
    }
    let inputs: Vec<&Input> = inputs.iter().collect();
    let total = inputs.iter().filter_map(|i| i.len()).sum::<u64>() * 2;
    let mut watch = inputs[0].watch_bytes().of(total);
    args.target.write(
        &inputs,
        |out| rewrite::merge(&mut pieces, out, &mut |n| watch.at(n)),
        |r| (*r, format!(" of {} pieces", args.files.len())),
    )
}
