//! `exectrace summary`: one page about a trace.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use exectrace::analyze::{self, Summary, SummaryOptions};
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One page about a trace: what ran, waited, allocated and collected, and what looks wrong
///
/// Reads the trace once. Percentiles are off by less than 1 %; counts, sums and extremes are exact. Waits and system calls that
/// begin before the trace or go on after it count with the part inside.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace summary app.trace
  exectrace summary --json app.trace | jq '.findings[].text'
  exectrace summary --json app.trace | jq '.gc.pauses.p99_ns'
  curl -s localhost:6060/debug/pprof/trace?seconds=5 | exectrace summary -

JSON: one object with \"schema\":\"exectrace.summary/1\". Times are nanoseconds, sizes bytes; names say so.
A trace that is cut off has a summary of its whole part; then the exit code is 3.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let asked = input.ask(|reader, tick| analyze::summary_with(reader, &SummaryOptions::default(), tick))?;
    let summary = &asked.answer;
    let mut out = Output::stdout();
    if args.json {
        out.json(summary)?;
    } else {
        // Writing to memory cannot fail.
        let _ = write!(out.buf, "{summary}");
    }
    out.flush()?;
    input.ended(summary.losses.damage.as_ref(), asked.bytes_read)
}

/// A summary that `summary --json` has printed to a file.
pub fn from_json(path: &Path) -> Result<Summary, Failure> {
    let cannot = |e: &dyn Display| {
        let hint = "`exectrace summary --json` makes such a file";
        Failure::usage(format_args!("cannot read {}: {e}", path.display()), hint)
    };
    let text = std::fs::read_to_string(path).map_err(|e| cannot(&e))?;
    let summary: Summary = serde_json::from_str(&text).map_err(|e| cannot(&e))?;
    if summary.schema != analyze::SCHEMA {
        return Err(cannot(&format_args!("schema {:?}, expected {:?}", summary.schema, analyze::SCHEMA)));
    }
    Ok(summary)
}
