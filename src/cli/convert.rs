//! `exectrace convert`: another version of the format.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::rewrite::Target;
use exectrace::format::Version;
use exectrace::rewrite;
use std::path::PathBuf;

/// Write a trace in another version of the format, for a tool that does not know the one it has
///
/// Events are the same from 1.23 on; the clock and the marks between generations differ. The time of the wall is kept for exectrace
/// (1.23 has no place where Go's tools look for it); where it is not known it becomes 1970.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace convert --to 1.23 app.trace -o old.trace     for the tools of Go 1.23, and all later ones
  exectrace convert --to 1.26 app.trace -o new.trace
  exectrace convert --to 1.23 - < app.trace > old.trace")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// The version: 1.23 (Go 1.23 and 1.24), 1.25, or 1.26 (Go 1.26 and later)
    #[arg(long, value_name = "VERSION", value_parser = parse_version)]
    to: Version,
    #[command(flatten)]
    target: Target,
}

fn parse_version(text: &str) -> Result<Version, String> {
    let minor = text.strip_prefix("go").unwrap_or(text).strip_prefix("1.").and_then(|m| m.parse().ok());
    match minor {
        // The format did not change with these.
        Some(24) => Ok(Version::Go123),
        Some(27) => Ok(Version::Go126),
        Some(22) => Err("Go 1.22 cannot read events that later versions have; expected 1.23, 1.25 or 1.26".to_owned()),
        Some(minor) => Version::from_minor(minor).ok_or_else(|| "expected 1.23, 1.25 or 1.26".to_owned()),
        None => Err("expected 1.23, 1.25 or 1.26".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let bytes = input.bytes()?;
    let mut watch = input.watch_bytes();
    args.target.write(
        &[&input],
        |out| rewrite::convert(bytes, out, args.to, &mut |n| watch.at(n)),
        |r| (*r, format!(", format go 1.{}", args.to.minor())),
    )
}
