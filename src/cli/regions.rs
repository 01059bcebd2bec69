//! `exectrace regions`: user regions by name, and what their goroutines did in them.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::{Output, clip};
use exectrace::analyze::{self, Count, Ns, Percent, Regions};
use std::path::PathBuf;

/// User regions: how long they took, by name, and what their goroutines did in them
///
/// Nested regions count each for itself.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace regions app.trace
  exectrace regions --json app.trace | jq '.names[] | select(.name == \"decode\")'
  exectrace profile region app.trace                  the same by stack

JSON: one object with \"schema\":\"exectrace.regions/1\". Times are nanoseconds.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let asked = input.ask(|reader, tick| analyze::regions_watched(reader, tick))?;
    input.show(&asked, args.json, asked.answer.damage.as_ref(), text)
}

fn text(out: &mut Output, r: &Regions) -> Result<(), Failure> {
    if r.names.is_empty() {
        out.line(format_args!("no regions in {} of trace", Ns(r.duration_ns)));
        return Ok(());
    }
    out.durations("Regions by name", r.names.iter().map(|n| (n.name.as_str(), &n.durations)), usize::MAX);
    out.line(format_args!(
        "\n{:36}{:>11}{:>11}{:>11}{:>11}{:>8}  begun at",
        "Of their time", "running", "waiting", "in calls", "no proc", "open"
    ));
    for n in &r.names {
        let share = |ns: u64| Percent(ns as f64 / n.durations.total_ns.max(1) as f64).to_string();
        out.line(format_args!(
            "  {:34}{:>11}{:>11}{:>11}{:>11}{:>8}  {}",
            clip(&n.name, 34),
            share(n.running_ns),
            share(n.waiting_ns),
            share(n.syscall_ns),
            share(n.runnable_ns),
            Count(n.open),
            n.place
        ));
        out.poll()?;
    }
    Ok(())
}
