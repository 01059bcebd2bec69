//! A program with a leak, a peak and churn, traced with all allocations, and the questions to ask of its trace.
//!
//! `cargo run --release --example heap_questions -- trace.out`, and then
//! ```text
//! exectrace heap trace.out                       # what is left at the end: the sessions
//! exectrace heap --at peak trace.out             # who made the peak: the report
//! exectrace heap --sort temporary trace.out      # who churns: the keys
//! exectrace heap --by label trace.out
//! exectrace heap --at peak --flame peak.svg trace.out
//! ```

use std::collections::HashMap;
use std::hint::black_box;

use exectrace::{Allocations, Tracer};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
exectrace::interpose!();

/// Sessions that are opened and never closed.
#[derive(Default)]
struct Sessions(HashMap<u64, Vec<u8>>);

impl Sessions {
    fn open(&mut self, id: u64) {
        exectrace::scope!("sessions");
        self.0.insert(id, vec![0; 2000]);
    }
}

/// Makes a key anew for each look into the cache: it lives for one statement.
fn look_up(cache: &HashMap<String, u64>, id: u64) -> u64 {
    cache.get(&format!("user:{}", id % 100)).copied().unwrap_or(0)
}

/// All rows at once, though one would do.
fn report(rows: u64) -> usize {
    let rows: Vec<String> = (0..rows).map(|i| format!("{i};{};{}\n", i * i, "x".repeat(80))).collect();
    rows.iter().map(String::len).sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| String::from("heap.trace"));
    Tracer::new().allocations(Allocations::All).start(std::fs::File::create(&path)?)?;
    let mut sessions = Sessions::default();
    let cache: HashMap<String, u64> = (0..100).map(|i| (format!("user:{i}"), i)).collect();
    let mut sum = 0;
    for id in 0..5_000 {
        sessions.open(id);
        sum += (0..20).map(|k| look_up(&cache, id + k)).sum::<u64>();
        if id == 2_500 {
            let task = exectrace::Task::new("report");
            let _region = task.region("make report");
            black_box(report(100_000));
        }
    }
    black_box(sum);
    let stats = exectrace::stop()?;
    println!("{path}: {} bytes, {} allocations lost", stats.bytes, stats.lost_allocations);
    drop(sessions);
    Ok(())
}
