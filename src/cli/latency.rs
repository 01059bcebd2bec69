//! `exectrace latency`: how long what could run waited until it ran.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::{Output, clip};
use exectrace::analyze::{self, Count, Latency, Ns};
use std::path::PathBuf;

/// Scheduling latency: how long goroutines that could run waited until they ran
///
/// By what made them ready (woken by another, created, stopped while running, back from a system call), by name, and the longest
/// waits one by one.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace latency app.trace
  exectrace latency --longest 50 app.trace
  exectrace latency --json app.trace | jq '.all.p99_ns'

JSON: one object with \"schema\":\"exectrace.latency/1\". Times are nanoseconds.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// How many of the longest waits to print
    #[arg(long, default_value_t = 10, value_name = "N")]
    longest: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let asked = input.ask(|reader, tick| analyze::latency_watched(reader, args.longest, tick))?;
    input.show(&asked, args.json, asked.answer.damage.as_ref(), |out, answer| {
        text(out, answer);
        Ok(())
    })
}

fn text(out: &mut Output, l: &Latency) {
    if l.all.count == 0 {
        return out.line(format_args!("nothing waited to run in {} of trace", Ns(l.duration_ns)));
    }
    let causes = l.causes.iter().map(|n| (n.name.as_str(), &n.durations));
    let rows: Vec<_> = std::iter::once(("all", &l.all)).chain(causes).collect();
    out.durations("Waiting to run", rows.into_iter(), usize::MAX);
    out.line(format_args!(""));
    let most = l.histogram.iter().map(|b| b.count).max().unwrap_or(1).max(1);
    for b in &l.histogram {
        let bar = "█".repeat((b.count as f64 / most as f64 * 50.0).round() as usize);
        out.line(format_args!("{:>10} to {:>8}{:>12}  {bar}", Ns(b.from_ns), Ns(b.to_ns), Count(b.count)));
    }
    out.line(format_args!(""));
    let name = |name: &'_ str| if name.is_empty() { "(no stack seen)".to_owned() } else { name.to_owned() };
    let groups: Vec<_> = l.groups.iter().map(|n| (name(&n.name), &n.durations)).collect();
    out.durations("By name", groups.iter().map(|(name, d)| (name.as_str(), *d)), 20);
    if l.longest.is_empty() {
        return;
    }
    out.line(format_args!("\n{:36}{:>11}{:>11}{:>11}  {:12}where", "The longest", "goroutine", "at", "took", "cause"));
    for x in &l.longest {
        let by = x.by.map_or_else(String::new, |by| format!("goroutine {by}: "));
        out.line(format_args!(
            "  {:34}{:>11}{:>11}{:>11}  {:12}{by}{}",
            clip(&name(&x.name), 34),
            x.goroutine,
            Ns(x.at_ns),
            Ns(x.ns),
            x.cause,
            x.place
        ));
    }
}
