//! `exectrace tasks`: user tasks by name, and the longest.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::{Output, clip};
use exectrace::analyze::{self, Count, Ns, Tasks};
use std::path::PathBuf;

/// User tasks: how long they took, by name, and the longest of them
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace tasks app.trace
  exectrace tasks --longest 50 app.trace
  exectrace tasks --json app.trace | jq '.names[] | {name, p99_ns}'

JSON: one object with \"schema\":\"exectrace.tasks/1\". Times are nanoseconds.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// How many of the longest tasks to print
    #[arg(long, default_value_t = 10, value_name = "N")]
    longest: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let asked = input.ask(|reader, tick| analyze::tasks_watched(reader, args.longest, tick))?;
    input.show(&asked, args.json, asked.answer.damage.as_ref(), |out, answer| {
        text(out, answer);
        Ok(())
    })
}

fn text(out: &mut Output, t: &Tasks) {
    if t.names.is_empty() {
        return out.line(format_args!("no tasks in {} of trace", Ns(t.duration_ns)));
    }
    out.durations("Tasks by name", t.names.iter().map(|n| (n.name.as_str(), &n.durations)), usize::MAX);
    for n in t.names.iter().filter(|n| n.open + n.from_before > 0) {
        out.line(format_args!(
            "  {}: {} without an end, {} without a beginning in the trace",
            clip(&n.name, 34),
            Count(n.open),
            Count(n.from_before)
        ));
    }
    if t.longest.is_empty() {
        return;
    }
    out.line(format_args!(
        "\n{:36}{:>11}{:>11}{:>11}{:>10}{:>11}{:>8}{:>10}",
        "The longest", "task", "begins at", "took", "regions", "in them", "logs", "children"
    ));
    for x in &t.longest {
        let took = if x.ended { Ns(x.ns).to_string() } else { format!(">{}", Ns(x.ns)) };
        out.line(format_args!(
            "  {:34}{:>11}{:>11}{took:>11}{:>10}{:>11}{:>8}{:>10}",
            clip(&x.name, 34),
            x.id,
            Ns(x.begin_at_ns),
            Count(x.regions),
            Ns(x.regions_ns),
            Count(x.logs),
            Count(x.children)
        ));
    }
}
