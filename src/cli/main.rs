//! The `exectrace` command: records programs, reads execution traces and answers questions about them, offline.
//!
//! Here stand the subcommands and what becomes of their results; each subcommand is a file (or a directory) beside this one.
//! Answers go to standard output, everything else to standard error. Nothing here opens a network connection.
//!
//! Exit codes: 0 done (or the limits hold), 1 a limit is violated, 2 the command cannot be carried out
//! (its arguments, a file that cannot be opened, output that cannot be written), 3 the trace is broken. `record` has the program's.
#![forbid(unsafe_code)]

mod anonymize;
mod check;
mod completions;
mod convert;
mod ctl;
mod cut;
mod diff;
mod doctor;
mod filter;
mod fmt;
mod gc;
mod gc_simulate;
mod goroutines;
mod heap;
mod input;
mod latency;
mod merge;
mod mmu;
mod new_file;
mod outcome;
mod output;
mod print;
mod profile;
mod record;
mod recover;
mod regions;
mod rewrite;
mod summary;
mod symbolize;
mod tasks;
mod why_rss;

use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
use clap::{CommandFactory, Parser, Subcommand};
use outcome::{Failure, Outcome};
use std::process::ExitCode;

/// Record, read, check and question execution traces of native programs and of Go programs.
#[derive(Parser)]
#[command(name = "exectrace", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "\
Exit codes: 0 done; 1 a limit is violated; 2 cannot be done as asked; 3 the trace is broken.
A FILE of `-` is standard input.

Examples:
  exectrace record -- ./app --its-arguments     run a program and write app.trace
  exectrace summary app.trace                   one page: what is in it, what looks wrong
  exectrace profile sync app.trace              where goroutines wait for each other
  exectrace goroutines app.trace                what threads and goroutines spent their time on
  exectrace heap --at peak app.trace            who held the heap when it was largest
  exectrace gc app.trace                        each cycle of the collector
  exectrace mmu --svg mmu.svg app.trace         what the collector leaves to the program
  exectrace diff before.trace after.trace       what got better, what got worse
  exectrace check --max heap.peak=64MiB app.trace
  exectrace check app.trace                     is it a valid trace?
  exectrace cut --from 2s --to 3s app.trace -o part.trace
  exectrace print app.trace | less              all events, in order
  exectrace print --kind Log,TaskEnd app.trace  some of them")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Record(record::Args),
    Ctl(ctl::Args),
    Recover(recover::Args),
    Doctor(doctor::Args),
    Summary(summary::Args),
    Profile(profile::Args),
    Goroutines(goroutines::Args),
    Latency(latency::Args),
    Heap(heap::Args),
    Gc(gc::Args),
    Mmu(mmu::Args),
    Tasks(tasks::Args),
    Regions(regions::Args),
    Diff(diff::Args),
    Print(print::Args),
    Check(check::Args),
    Cut(cut::Args),
    Merge(merge::Args),
    Anonymize(anonymize::Args),
    Convert(convert::Args),
    Symbolize(symbolize::Args),
    Completions(completions::Args),
    Man(completions::ManArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() && e.kind() != DisplayHelpOnMissingArgumentOrSubcommand => {
            return misused(&e).report();
        }
        Err(e) => {
            // Help and version are no failures. If they cannot be written there is nobody to tell.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(Failure::USAGE_CODE) } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Record(args) => record::run(&args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Recover(args) => recover::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Goroutines(args) => goroutines::run(&args),
        Command::Heap(args) => heap::run(&args),
        Command::Latency(args) => latency::run(&args),
        Command::Gc(args) => gc::run(&args),
        Command::Mmu(args) => mmu::run(&args),
        Command::Tasks(args) => tasks::run(&args),
        Command::Regions(args) => regions::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Print(args) => print::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Cut(args) => cut::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Anonymize(args) => anonymize::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Symbolize(args) => symbolize::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => completions::man(&args, Cli::command()),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Violated) => ExitCode::from(1),
        Ok(Outcome::Code(code)) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

/// What is wrong with the arguments, in one line.
fn misused(e: &clap::Error) -> Failure {
    let text = e.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|l| !l.starts_with("Usage:") && !l.starts_with("For more"));
    let (tips, lines): (Vec<&str>, Vec<&str>) = lines.filter(|l| !l.is_empty()).partition(|l| l.starts_with("tip: "));
    let what = lines.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    if let Some(tip) = tips.first() {
        return Failure::usage(what, tip.trim_start_matches("tip: "));
    }
    let known = |name: &String| Cli::command().find_subcommand(name).is_some();
    match std::env::args().nth(1).filter(known) {
        Some(sub) => Failure::usage(what, format_args!("`exectrace {sub} --help`")),
        None => Failure::usage(what, "`exectrace --help`"),
    }
}
