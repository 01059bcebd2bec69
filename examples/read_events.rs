//! Reads a trace with the library: where goroutines (in a native program: threads) waited longest, and why.
//!
//! ```sh
//! cargo run --release --example read_events -- app.trace
//! curl -s localhost:6060/debug/pprof/trace?seconds=5 | cargo run --release --example read_events -- -
//! ```
//!
//! It shows the three things that most analyses do: iterate over events, follow the state of each goroutine, and look up
//! strings and stacks, under keys that stay the same from generation to generation.

use exectrace::read::{Error, GoId, GoState, Interner, Reader, StackKey, StateTransition, StringKey, Time};
use std::collections::HashMap;
use std::process::ExitCode;

/// A goroutine that waits: since when, why, and where in the program.
struct Wait {
    since: Time,
    reason: StringKey,
    stack: StackKey,
}

#[derive(Default)]
struct Waits {
    interner: Interner,
    now: HashMap<GoId, Wait>,
    /// By reason and stack: how many times, and how long together in nanoseconds.
    sums: HashMap<(StringKey, StackKey), (u64, i64)>,
    events: u64,
}

impl Waits {
    /// Reads up to the end of the trace, or to where it breaks; what was read until then counts.
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        while let Some(ev) = reader.next_event()? {
            self.events += 1;
            let Some(StateTransition::Goroutine { id, from, to, reason, .. }) = ev.transition() else { continue };
            if from == to {
                // Nothing changed: each state is told anew where a generation begins.
                continue;
            }
            if let Some(wait) = self.now.remove(&id) {
                let sum = self.sums.entry((wait.reason, wait.stack)).or_default();
                sum.0 += 1;
                sum.1 += ev.time.since(wait.since);
            }
            if to == GoState::Waiting {
                let reason = self.interner.string(ev.generation(), reason);
                let stack = self.interner.stack(ev.generation(), ev.stack_id());
                self.now.insert(id, Wait { since: ev.time, reason, stack });
            }
        }
        Ok(())
    }

    fn print(&self, top: usize) {
        let mut sums: Vec<_> = self.sums.iter().collect();
        sums.sort_by_key(|&(&key, &(_, ns))| (std::cmp::Reverse(ns), key));
        println!("{} events, {} different waits", self.events, sums.len());
        for (&(reason, stack), &(count, ns)) in sums.into_iter().take(top) {
            println!("\n{:.3} ms in {count} waits: {}", ns as f64 / 1e6, self.interner.text(reason));
            for &key in self.interner.frames(stack) {
                let frame = self.interner.frame(key);
                println!("    {}  {}:{}", self.interner.text(frame.func), self.interner.text(frame.file), frame.line);
            }
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: read_events TRACE, or - for standard input")?;
    let input: Box<dyn std::io::Read + Send> =
        if path == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) };
    // Bytes are read and events ordered on threads beside this one.
    let mut reader = Reader::threaded(input)?;
    let mut waits = Waits::default();
    let end = waits.read(&mut reader);
    waits.print(10);
    if let Err(e) = end {
        eprintln!("the trace is damaged: {e}; {} of {} bytes are whole", e.whole_bytes(), reader.bytes_read());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
