//! `exectrace cut`: a part of a trace.

use crate::filter::parse_ns;
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::rewrite::Target;
use exectrace::rewrite::{self, Window};
use std::path::PathBuf;

/// A part of a trace, as a trace: the generations that have anything of a window of time in them
///
/// A trace can be cut where a generation begins, for there it names the state of everything: once a second in Go, and in the
/// traces of this crate unless told otherwise. So the part is longer than the window by up to a second on either side. Events are
/// copied as they are. What comes after the window is not read. A trace that is damaged gives its whole generations (then
/// the exit code is 3): `exectrace cut broken.trace -o whole.trace`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace cut --from 10s --to 12s app.trace -o part.trace
  exectrace cut --from 1m app.trace | go tool trace -d=parsed /dev/stdin | head
  exectrace cut broken.trace -o whole.trace          what is whole of a damaged trace
  ssh host cat app.trace | exectrace cut --to 5s - -o begin.trace")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// Where the window begins, since the start of the trace, such as 1.5s or 2m
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    from: Option<i64>,
    /// Where the window ends
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    to: Option<i64>,
    #[command(flatten)]
    target: Target,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        return Err(Failure::usage("--from is later than --to", "nothing lies between them"));
    }
    let input = Input::open(&args.file)?;
    let ns = |t: Option<i64>| t.and_then(|t| u64::try_from(t).ok());
    let window = Window { from_ns: ns(args.from), to_ns: ns(args.to) };
    let bytes = input.bytes()?;
    let mut watch = input.watch_bytes();
    args.target.write(
        &[&input],
        |out| rewrite::cut(bytes, out, window, &mut |n| watch.at(n)),
        |r| (*r, format!("; {} read", r.generations_read)),
    )
}
