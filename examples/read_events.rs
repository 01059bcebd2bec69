//! Reads a trace with the library: counts events by kind and adds up how long goroutines waited, by reason.
//!
//! ```sh
//! cargo run --release --example read_events -- app.trace
//! ```

use exectrace::read::{EventKind, GoState, Reader, StateTransition, Time};
use std::collections::{BTreeMap, HashMap};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: read_events TRACE")?;
    let mut reader = Reader::new(std::fs::File::open(path)?)?;
    let mut counts = BTreeMap::new();
    let mut since: HashMap<_, (Time, String)> = HashMap::new();
    let mut waited: BTreeMap<String, i64> = BTreeMap::new();
    let mut damage = None;
    loop {
        let ev = match reader.next_event() {
            Ok(Some(ev)) => ev,
            Ok(None) => break,
            Err(e) => {
                damage = Some(e);
                break;
            }
        };
        *counts.entry(ev.kind()).or_insert(0u64) += 1;
        if ev.kind() != EventKind::StateTransition {
            continue;
        }
        if let Some(StateTransition::Goroutine { id, from, to, reason, .. }) = ev.transition() {
            if to == GoState::Waiting && from != to {
                since.insert(id, (ev.time, ev.string(reason).to_owned()));
            } else if let Some((begin, reason)) = since.remove(&id) {
                *waited.entry(reason).or_default() += ev.time.since(begin);
            }
        }
    }
    for (kind, n) in counts {
        println!("{n:>12} {}", kind.name());
    }
    for (reason, ns) in waited {
        println!("{:>12.3} s waiting for {reason:?}", ns as f64 / 1e9);
    }
    if let Some(e) = damage {
        println!("the trace is damaged: {e}; {} bytes are whole", e.whole_bytes());
    }
    Ok(())
}
