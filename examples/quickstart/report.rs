//! What the trace says, read back from the file.

use exectrace::read::{Event, EventKind, Metric, RangeKind, Reader};
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Prints the summary of a trace.
pub fn print(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut reader = Reader::threaded(std::fs::File::open(path)?)?;
    let mut kinds: BTreeMap<EventKind, u64> = BTreeMap::new();
    while let Some(block) = reader.next_block()? {
        for ev in block.iter() {
            *kinds.entry(ev.kind()).or_default() += 1;
        }
    }
    for (kind, n) in kinds {
        println!("{n:>12} {}", kind.name());
    }
    Ok(())
}
