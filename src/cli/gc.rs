//! `exectrace gc`: each cycle of the collector.

use crate::gc_simulate as simulate;
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use exectrace::analyze::{self, Bytes, Count, GcReport, Ns};
use std::path::PathBuf;

/// Each cycle of the garbage collector: marking, pauses, assists, sweep, heap
///
/// A pause before a cycle's marking belongs to it; so do sweeps after it, up to the next cycle. `after` is the smallest heap
/// between the end of marking and the next cycle.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  exectrace gc app.trace
  exectrace gc --top 10 app.trace                    the ten cycles with the longest pauses
  exectrace gc simulate --gc-percent 50,100,200 app.trace   what a collector would cost this program
  exectrace gc --json app.trace | jq '.cycles[] | select(.pause_ns_max > 1e6)'

JSON: one object with \"schema\":\"exectrace.gc/1\". Times are nanoseconds, sizes bytes.")]
pub struct Args {
    /// The trace; `-` is standard input
    #[arg(required = true)]
    file: Option<PathBuf>,
    /// Print only the N cycles with the longest pauses
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    Simulate(simulate::Args),
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    if let Some(What::Simulate(args)) = &args.what {
        return simulate::run(args);
    }
    let Some(file) = &args.file else { return Err(Failure::usage("no trace", "a file is needed")) };
    let input = Input::open(file)?;
    let mut asked = input.ask(|reader, tick| analyze::gc_watched(reader, tick))?;
    if let Some(top) = args.top {
        let cycles = &mut asked.answer.cycles;
        cycles.sort_by_key(|c| (std::cmp::Reverse(c.pause_ns_max), c.number));
        cycles.truncate(top);
    }
    input.show(&asked, args.json, asked.answer.damage.as_ref(), text)
}

fn text(out: &mut Output, r: &GcReport) -> Result<(), Failure> {
    if r.cycles.is_empty() && r.stops.is_empty() && r.assists.count + r.sweeps.count == 0 {
        out.line(format_args!("no sign of a collector in {} of trace", Ns(r.duration_ns)));
        return Ok(());
    }
    let sums = [
        ("marking", &r.marking),
        ("pauses for the collector", &r.pauses),
        ("assists", &r.assists),
        ("sweeps", &r.sweeps),
    ];
    let sums: Vec<_> = sums.into_iter().filter(|(_, d)| d.count > 0).collect();
    out.durations("In all", sums.into_iter(), usize::MAX);
    out.line(format_args!(""));
    out.durations("Stops of the world", r.stops.iter().map(|n| (n.name.as_str(), &n.durations)), usize::MAX);
    if r.cycles.is_empty() {
        return Ok(());
    }
    out.line(format_args!(
        "\n{:>6}{:>10}{:>10}{:>8}{:>10}{:>10}{:>10}{:>11}{:>11}{:>11}{:>11}",
        "cycle", "at", "marking", "pauses", "longest", "assists", "sweeps", "heap", "peak", "after", "goal"
    ));
    let size = |b: Option<u64>| b.map_or_else(|| "-".to_owned(), |b| Bytes(b).to_string());
    for c in &r.cycles {
        let marking = match c.end_at_ns {
            Some(end) => Ns(end - c.begin_at_ns).to_string(),
            None => "not over".to_owned(),
        };
        out.line(format_args!(
            "{:>6}{:>10}{marking:>10}{:>8}{:>10}{:>10}{:>10}{:>11}{:>11}{:>11}{:>11}",
            c.number,
            Ns(c.begin_at_ns),
            Count(c.pauses),
            Ns(c.pause_ns_max),
            Ns(c.assist_ns),
            Ns(c.sweep_ns),
            size(c.heap_begin_bytes),
            Bytes(c.heap_peak_bytes),
            size(c.heap_after_bytes),
            size(c.goal_bytes)
        ));
        out.poll()?;
    }
    Ok(())
}
