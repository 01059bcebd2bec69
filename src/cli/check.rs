//! `exectrace check`: is it a valid trace, and do its numbers keep their limits?

mod junit;

use crate::input::{Asked, Input, size};
use crate::new_file::{is_stdout, one_document, write_file};
use crate::outcome::{Failure, Outcome};
use crate::output::{Colour, Output};
use exectrace::analyze::limits::{self, Check, Direction, Limit};
use exectrace::analyze::{self, Damage, Summary, SummaryOptions};
use exectrace::read::EventKind;
use std::path::{Path, PathBuf};

/// Validate a trace, and check its numbers against limits
///
/// Without limits: reads the whole trace and puts its events in order by the rules of Go's reader. Says nothing but a line of
/// figures if all is well; if not, says where the trace breaks and how much of it is lost, and exits with code 3.
///
/// With limits: says for each whether it holds, and exits with code 1 if one does not. A number that the trace does not tell
/// holds no limit.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace check app.trace
  ssh host cat app.trace | exectrace check -
  exectrace check -q app.trace && echo good
  exectrace check --max heap.peak=64MiB --max gc.pause.p99=5ms --min mmu@10ms=0.8 --max lost=0 app.trace
  exectrace check --baseline main.trace --max-regress 10% --junit check.xml app.trace
  exectrace summary --json main.trace > main.json && exectrace check --baseline main.json app.trace

Numbers: duration, events, lost, threads, goroutines, goroutines.max, heap.start, heap.peak, heap.end, heap.growth,
gc.cycles, gc.pause.DIST, gc.marking.DIST, gc.assist.DIST, gc.assist.share, gc.sweep.DIST, gc.utilization, mmu@TIME,
sched.DIST, syscall.NAME.DIST, block.REASON.DIST, task.NAME.DIST, region.NAME.DIST, series.NAME.max, findings;
DIST is count, total, mean, min, p50, p90, p99, p999 or max.

Exit codes: 0 valid, limits hold; 1 a limit is violated; 2 cannot be done as asked; 3 the trace is broken.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// Print nothing if all is well
    #[arg(short, long)]
    quiet: bool,
    /// A number must be at most this: NAME=BOUND
    #[arg(long, value_name = "LIMIT", value_parser = |t: &str| Limit::parse(t, Direction::Max))]
    max: Vec<Limit>,
    /// A number must be at least this: NAME=BOUND
    #[arg(long, value_name = "LIMIT", value_parser = |t: &str| Limit::parse(t, Direction::Min))]
    min: Vec<Limit>,
    /// Compare with another trace, or with what `summary --json` printed of it
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// By how much a number may be worse than the baseline's
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = parse_share, requires = "baseline")]
    max_regress: f64,
    /// Write the checks to this file in JUnit's form; `-` is standard output
    #[arg(long, value_name = "OUT")]
    junit: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The schema of the JSON.
const SCHEMA: &str = "exectrace.check/1";

#[derive(serde::Serialize)]
struct Report<'a> {
    schema: &'a str,
    held: bool,
    /// Why nothing could be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<&'a Damage>,
    checks: &'a [Check],
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let limited = !args.max.is_empty() || !args.min.is_empty() || args.baseline.is_some();
    if !limited && args.junit.is_none() && !args.json {
        return validate(args);
    }
    let junit_to_stdout = is_stdout(args.junit.as_deref());
    one_document(&[("--json", args.json), ("--junit -", junit_to_stdout)])?;
    let input = Input::open(&args.file)?;
    let inputs: Vec<&Path> = [input.path()].into_iter().chain(args.baseline.as_deref()).collect();
    let write_junit = |xml: String| match &args.junit {
        Some(path) => write_file(path, xml.as_bytes(), &inputs),
        None => Ok(()),
    };
    let mut out = Output::stdout();
    let checks = match checks(&input, args) {
        Ok(checks) => checks,
        Err((Failure::Broken(text), damage)) => {
            // Whoever reads only the report must not take an older one for this one's.
            write_junit(junit::broken(&input.name(), &text))?;
            if args.json {
                let damage = damage.unwrap_or_else(|| Damage { message: text.clone(), whole_bytes: 0 });
                out.json(&Report { schema: SCHEMA, held: false, damage: Some(&damage), checks: &[] })?;
                out.flush()?;
            }
            return Err(Failure::Broken(text));
        }
        Err((failure, _)) => return Err(failure),
    };
    let held = checks.iter().all(|c| c.held);
    write_junit(junit::xml(&input.name(), &checks))?;
    if args.json {
        out.json(&Report { schema: SCHEMA, held, damage: None, checks: &checks })?;
    } else if !junit_to_stdout {
        for c in checks.iter().filter(|c| !c.held || !args.quiet) {
            let word = if c.held { out.paint(Colour::Green, "ok  ") } else { out.paint(Colour::Red, "FAIL") };
            out.line(format_args!("{word}  {c}"));
        }
    }
    out.flush()?;
    Ok(if held { Outcome::Done } else { Outcome::Violated })
}

/// All checks that were asked for. With a failure goes what is known of the trace's damage, if that is the reason.
fn checks(input: &Input, args: &Args) -> Result<Vec<Check>, (Failure, Option<Damage>)> {
    let summary = whole(input, args)?;
    let mut checks: Vec<Check> = args.max.iter().chain(&args.min).map(|l| l.check(&summary)).collect();
    if let Some(path) = &args.baseline {
        // What is wrong with another trace is no damage of this one.
        let baseline = baseline(path, args).map_err(|failure| (failure, None))?;
        checks.extend(limits::compare(&summary, &baseline, args.max_regress));
    }
    Ok(checks)
}

/// The summary of a trace that can be read to its end.
fn whole(input: &Input, args: &Args) -> Result<Summary, (Failure, Option<Damage>)> {
    let asked = ask(input, args).map_err(|failure| (failure, None))?;
    match &asked.answer.losses.damage {
        Some(d) => Err((input.cut_off(&d.message, d.whole_bytes, asked.bytes_read), Some(d.clone()))),
        None => Ok(asked.answer),
    }
}

/// The summary, with the windows of the MMU that limits name.
fn ask(input: &Input, args: &Args) -> Result<Asked<Summary>, Failure> {
    let mut options = SummaryOptions::default();
    let names = args.max.iter().chain(&args.min).filter_map(|l| limits::mmu_window_ns(&l.name));
    options.mmu_windows_ns.extend(names);
    options.mmu_windows_ns.sort_unstable();
    options.mmu_windows_ns.dedup();
    input.ask(|reader, tick| analyze::summary_with(reader, &options, tick))
}

/// The summary of the trace to compare with: from the trace, or from JSON.
fn baseline(path: &Path, args: &Args) -> Result<Summary, Failure> {
    if path.extension().is_some_and(|x| x == "json") {
        return crate::summary::from_json(path);
    }
    whole(&Input::open(path)?, args).map_err(|(failure, _)| failure)
}

/// A share: `10%` or `0.1`.
fn parse_share(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.strip_suffix('%') {
        Some(n) => (n, 0.01),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(v) if v.is_finite() && v >= 0.0 => Ok(v * factor),
        _ => Err("expected a share such as 10% or 0.1".to_owned()),
    }
}

fn validate(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let mut reader = input.bare_reader()?;
    let progress = reader.progress();
    let mut watch = input.watch(progress.clone());
    let (mut events, mut generations) = (0u64, 0u64);
    let (mut first, mut last) = (None, None);
    loop {
        let block = match reader.next_block() {
            Ok(Some(block)) => block,
            Ok(None) => break,
            Err(e) => return Err(input.broken(&e, progress.bytes_read())),
        };
        events += block.events().len() as u64;
        generations += block.events().iter().filter(|e| e.kind() == EventKind::Sync).count() as u64;
        first = first.or_else(|| block.events().first().map(|e| e.time));
        last = block.events().last().map(|e| e.time).or(last);
        watch.tick();
    }
    drop(watch);
    if !args.quiet {
        let seconds = last.zip(first).map_or(0.0, |(l, f)| l.since(f) as f64 / 1e9);
        // The last `Sync` ends the trace and begins no generation.
        let generations = generations.saturating_sub(1);
        let mut out = Output::stdout();
        out.line(format_args!(
            "{}: valid, go 1.{}, {events} events in {generations} generation{}, {seconds:.3} s, {}",
            input.name(),
            reader.version().minor(),
            if generations == 1 { "" } else { "s" },
            size(progress.bytes_read()),
        ));
        out.flush()?;
    }
    Ok(Outcome::Done)
}
