//! What the trace says, read back from the file: the first page of it.

use exectrace::analyze;
use exectrace::read::Reader;
use std::path::Path;

/// Kinds of events on a line.
const COLUMNS: usize = 4;

/// Prints the summary of a trace.
///
/// # Errors
/// If the file cannot be read or is no trace, or if a part of the trace is damaged.
pub fn print(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut reader = Reader::threaded(std::fs::File::open(path)?)?;
    let summary = analyze::summary(&mut reader);
    println!("{summary}");
    println!("Events by kind");
    for line in summary.events.by_kind.chunks(COLUMNS) {
        let line: Vec<String> = line.iter().map(|k| format!("{:>8} {:<16}", k.count, k.kind)).collect();
        println!("  {}", line.join("").trim_end());
    }
    match summary.losses.damage {
        Some(damage) => Err(format!("{}: {}", path.display(), damage.message).into()),
        None => Ok(()),
    }
}
