//! `exectrace diff`: two traces side by side.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::{Colour, Output, clip};
use exectrace::analyze::limits::Unit;
use exectrace::analyze::{self, Bytes, Count, Diff, Ns, NumberDiff, Percent, PlaceDiff, Summary, SummaryOptions};
use std::path::{Path, PathBuf};

/// Two traces side by side: what got better, what got worse
///
/// Compares heap, collector and latency, and waiting, CPU samples, system calls and running time by place or name, the greatest
/// difference first. Places are the same if their functions are; lines may differ. A is before, B after.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace diff before.trace after.trace
  exectrace diff --rate monday.trace tuesday.trace      traces of different length
  exectrace diff --json before.trace after.trace | jq '.blocking[0]'

To fail where a number got worse, see `exectrace check --baseline`.
JSON: one object with \"schema\":\"exectrace.diff/1\".")]
pub struct Args {
    /// The trace before, or what `summary --json` printed of it (FILE.json)
    a: PathBuf,
    /// The trace after
    b: PathBuf,
    /// Compare sums for each second of trace
    #[arg(long)]
    rate: bool,
    /// How many lines of each list to print
    #[arg(long, default_value_t = 8, value_name = "N")]
    top: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    if args.a == args.b && args.a.as_os_str() == "-" {
        return Err(Failure::usage("both traces from standard input", "one of them must be a file"));
    }
    let (a, b) = (summary(&args.a)?, summary(&args.b)?);
    let diff = analyze::diff(&a, &b, args.rate);
    let mut out = Output::stdout();
    if args.json {
        out.json(&diff)?;
    } else {
        text(&mut out, &diff, args.top);
    }
    out.flush()?;
    Ok(Outcome::Done)
}

/// The summary of a trace with all its places, or one from JSON.
pub fn summary(path: &Path) -> Result<Summary, Failure> {
    if path.extension().is_some_and(|x| x == "json") {
        return crate::summary::from_json(path);
    }
    let input = Input::open(path)?;
    let mut options = SummaryOptions::default();
    options.top = usize::MAX;
    let asked = input.ask(|reader, tick| analyze::summary_with(reader, &options, tick))?;
    input.ended(asked.answer.losses.damage.as_ref(), asked.bytes_read)?;
    Ok(asked.answer)
}

fn text(out: &mut Output, d: &Diff, top: usize) {
    out.line(format_args!("{:36}{:>12}{:>12}{:>10}", "", "A", "B", "change"));
    for n in &d.numbers {
        let show = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), |v| value(v, n.unit));
        let word = match n.better {
            Some(true) => out.paint(Colour::Green, "  better"),
            Some(false) => out.paint(Colour::Red, "  worse"),
            None => String::new(),
        };
        out.line(format_args!("{:36}{:>12}{:>12}{:>10}{word}", n.name, show(n.a), show(n.b), change(n)));
    }
    let per = if d.per_second { " a second" } else { "" };
    list(out, &format!("Waiting{per}"), &d.blocking, top, Unit::Ns);
    list(out, &format!("CPU samples{per}"), &d.cpu, top, Unit::Count);
    list(out, &format!("System calls{per}"), &d.syscalls, top, Unit::Ns);
    list(out, &format!("Running{per}, by goroutine"), &d.groups, top, Unit::Ns);
    list(out, "Tasks, p99", &d.tasks, top, Unit::Ns);
    list(out, "Regions, p99", &d.regions, top, Unit::Ns);
    if !d.partial.is_empty() {
        let lists = d.partial.join(", ");
        out.line(format_args!("\nA summary has only the longest of {lists}: what it leaves out is not compared."));
    }
}

fn change(n: &NumberDiff) -> String {
    match (n.a, n.b) {
        (Some(a), Some(b)) if a == b => "same".to_owned(),
        // A share's change is told in its own unit.
        (Some(a), Some(b)) if n.unit == Unit::Share => format!("{:+.1}", (b - a) * 100.0),
        (Some(a), Some(b)) if a != 0.0 => format!("{:+.1} %", (b - a) / a.abs() * 100.0),
        _ => String::new(),
    }
}

fn value(v: f64, unit: Unit) -> String {
    let n = v.abs().round() as u64;
    let text = match unit {
        Unit::Ns => Ns(n).to_string(),
        Unit::Bytes => Bytes(n).to_string(),
        Unit::Count => Count(n).to_string(),
        Unit::Share => Percent(v.abs()).to_string(),
    };
    if v < 0.0 { format!("-{text}") } else { text }
}

fn list(out: &mut Output, title: &str, rows: &[PlaceDiff], top: usize, unit: Unit) {
    // Only waiting has reasons; it has none where it began before the trace.
    let no_label = if title.starts_with("Waiting") { "(since before the trace)" } else { "" };
    let differing = rows.iter().filter(|p| p.delta() != 0.0);
    let n = differing.clone().count();
    if n == 0 {
        return;
    }
    out.line(format_args!("\n{title:36}{:>12}{:>12}{:>12}", "A", "B", "more"));
    for p in differing.take(top) {
        let (a, b, more) = (value(p.a, unit), value(p.b, unit), value(p.delta(), unit));
        let sign = if p.delta() > 0.0 { "+" } else { "" };
        let label = if p.label.is_empty() { no_label.to_owned() } else { clip(&p.label, 34) };
        let line = format!("  {label:34}{a:>12}{b:>12}{:>12}  {}", format!("{sign}{more}"), p.place);
        out.line(format_args!("{}", line.trim_end()));
    }
    out.rest(n, top);
}
