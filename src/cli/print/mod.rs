//! `exectrace print`: the events of a trace as text.
//!
//! Each format is a file beside this one. `go` and `wire` are, byte for byte, what `go tool trace -d=parsed` and `-d=wire`
//! of Go 1.27 print; `text` and `json` are our own.

mod go;
mod json;
mod stacks;
mod text;
mod wire;

use crate::filter::FilterArgs;
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use clap::ValueEnum;
use exectrace::read::{Block, EventRef};
use std::path::PathBuf;

/// Print the events of a trace, in order
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace print app.trace | less
  exectrace print --stacks --from 1s --to 1.01s app.trace
  exectrace print --kind GoBlock,GoUnblock --goroutine 7 app.trace
  exectrace print --json --kind Metric app.trace | jq .value
  exectrace print --format go app.trace        as `go tool trace -d=parsed` prints it
  exectrace print --format wire broken.trace   not ordered, not validated

JSON: the first line is {\"schema\":\"exectrace.events/1\", ...}, each other line an event. Times are in nanoseconds on the
clock of the trace. A member that does not apply is left out.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print whole stacks (formats text and json; go has them always)
    #[arg(long)]
    stacks: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each event, for people
    Text,
    /// A line of JSON for each event
    Json,
    /// As `go tool trace -d=parsed` of Go 1.27 (times of the wall in UTC)
    Go,
    /// As `go tool trace -d=wire` of Go 1.27: the events of the wire in the order of the file
    Wire,
}

/// Writes ordered events in one of the formats.
trait Printer {
    /// What stands in front of all events.
    fn begin(&mut self, _version: u32, _out: &mut Vec<u8>) {}

    /// A block of events is about to come, perhaps of a new generation.
    fn block(&mut self, _block: &Block) {}

    /// One event.
    fn event(&mut self, ev: EventRef<'_>, out: &mut Vec<u8>);
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let format = if args.json { Format::Json } else { args.format };
    match format {
        Format::Wire if args.filter.any() => {
            Err(Failure::usage("filters do not work with --format wire", "its events have no order and no context"))
        }
        Format::Wire => wire::print(&input),
        Format::Go => print(args, &input, &mut go::Go::default()),
        Format::Text => print(args, &input, &mut text::Text::new(args.stacks)),
        Format::Json => print(args, &input, &mut json::Json::new(args.stacks)),
    }
}

fn print(args: &Args, input: &Input, printer: &mut impl Printer) -> Result<Outcome, Failure> {
    let mut filter = args.filter.filter()?;
    let mut reader = input.reader()?;
    let progress = reader.progress();
    let mut watch = input.watch(progress.clone());
    let mut out = Output::stdout();
    printer.begin(reader.version().minor(), &mut out.buf);
    loop {
        let block = match reader.next_block() {
            Ok(Some(block)) => block,
            Ok(None) => break,
            Err(e) => {
                out.flush()?;
                return Err(input.broken(&e, progress.bytes_read()));
            }
        };
        printer.block(block);
        for ev in block.iter() {
            if filter.passes(&ev) {
                printer.event(ev, &mut out.buf);
                out.poll()?;
            }
        }
        if block.events().last().is_some_and(|e| filter.is_past(e.time)) {
            break;
        }
        watch.tick();
    }
    out.flush()?;
    Ok(Outcome::Done)
}
