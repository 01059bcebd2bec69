//! `exectrace check`: is it a valid trace?

use crate::input::{Input, size};
use crate::outcome::{Failure, Outcome};
use exectrace::read::EventKind;
use std::path::PathBuf;

/// Validate a trace
///
/// Reads the whole trace and puts its events in order by the rules of Go's reader. Says nothing but a line of figures
/// if all is well; if not, says where the trace breaks and how much of it is lost, and exits with code 3.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace check app.trace
  ssh host cat app.trace | exectrace check -
  exectrace check -q app.trace && echo good")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// Print nothing if the trace is valid
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let mut reader = input.reader()?;
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
        let text = format!(
            "{}: valid, go 1.{}, {events} events in {generations} generation{}, {seconds:.3} s, {}\n",
            input.name(),
            reader.version().minor(),
            if generations == 1 { "" } else { "s" },
            size(progress.bytes_read()),
        );
        let mut out = crate::output::Output::stdout();
        out.buf.extend_from_slice(text.as_bytes());
        out.flush()?;
    }
    Ok(Outcome::Done)
}
