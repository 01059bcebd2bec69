//! The command line.

use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
Indexes a directory of text with several threads, answers queries about it over a loopback socket, runs a script on a
garbage-collected heap beside, and writes an execution trace of it all.

Usage: quickstart [OPTIONS] [DIR]

  DIR            what to index [the Rust toolchain's documentation, or the next best text there is]
  --out FILE     where the trace goes [trace.out]
  --max-mb N     index at most N MB of text [48]
  --clients N    how many clients ask [3]
  --queries N    how many queries each of them asks [800]
  --no-trace     run without a trace, to compare
  -h, --help     print this";

/// The options, with their defaults filled in.
#[derive(Debug, PartialEq)]
pub struct Options {
    pub dir: Option<PathBuf>,
    pub out: PathBuf,
    pub max_bytes: u64,
    pub clients: usize,
    pub queries: usize,
    pub trace: bool,
}

/// Reads the arguments after the program's name; `None` if help was asked for.
pub fn parse(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Option<Options>, String> {
    let mut o =
        Options { dir: None, out: "trace.out".into(), max_bytes: 48_000_000, clients: 3, queries: 800, trace: true };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let name = arg.to_str().unwrap_or_default();
        let mut value = || args.next().ok_or(format!("{name} needs a value: see --help"));
        match name {
            "-h" | "--help" => return Ok(None),
            "--out" => o.out = value()?.into(),
            "--max-mb" => o.max_bytes = number(name, value()?, 1)? as u64 * 1_000_000,
            "--clients" => o.clients = number(name, value()?, 1)?,
            "--queries" => o.queries = number(name, value()?, 1)?,
            "--no-trace" => o.trace = false,
            _ if name.starts_with('-') => return Err(format!("unknown option {name}: see --help")),
            _ if o.dir.is_some() => return Err(format!("one directory only, not also {}", arg.display())),
            _ => o.dir = Some(arg.into()),
        }
    }
    Ok(Some(o))
}

fn number(name: &str, value: std::ffi::OsString, min: usize) -> Result<usize, String> {
    let n = value.to_str().and_then(|v| v.parse().ok()).filter(|n| (min..=100_000).contains(n));
    n.ok_or(format!("{name} {}: not a number from {min} to 100000", value.display()))
}
