//! One line in a program, around whichever allocator it has: the heap becomes visible, exactly and as a curve over time.
//!
//! ```sh
//! cargo run --release --example drop_in
//! go tool trace drop_in.trace
//! ```

use std::alloc::System;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;

/// The line. `exectrace::Alloc::new()` is over mimalloc, `with` is over any other allocator.
#[global_allocator]
static ALLOC: exectrace::Alloc<System> = exectrace::Alloc::with(System);

fn main() -> Result<(), Box<dyn Error>> {
    // Counting needs no trace.
    let before = exectrace::heap::stats();
    let block = vec![0u8; 1_000_000];
    let with_block = exectrace::heap::stats();
    drop(block);
    let after = exectrace::heap::stats();
    println!("a block of 1,000,000 bytes: live bytes {:+}", with_block.live_bytes as i64 - before.live_bytes as i64);
    println!("after it is dropped:        live bytes {:+}", after.live_bytes as i64 - before.live_bytes as i64);

    // With a trace, time comes in.
    let path = std::env::args().nth(1).unwrap_or("drop_in.trace".into());
    let out = File::create(&path).map_err(|e| format!("{path}: {e}"))?;
    exectrace::Tracer::new().heap_quantum(16 << 10).start(out)?;
    let kept = exectrace::with_region("grow and shrink", grow_and_shrink);
    let at_end = exectrace::heap::stats();
    let stats = exectrace::stop()?;

    println!(
        "{} entries are kept; the heap's peak was {} bytes, its end {}",
        kept.len(),
        at_end.peak_bytes,
        at_end.live_bytes
    );
    println!("{path}: {} bytes, {} events lost", stats.bytes, stats.lost_events());
    print_curve(&path)
}

/// Fills a map, doubles it, and throws most of it away again, five times over.
fn grow_and_shrink() -> BTreeMap<u64, String> {
    let mut map = BTreeMap::new();
    for round in 0..5u64 {
        let _region = exectrace::Region::new("round");
        for i in 0..40_000 {
            map.insert(round * 1_000_000 + i, format!("entry {i} of round {round}"));
        }
        let copy = map.clone();
        exectrace::log!("copy", "{} entries", copy.len());
        drop(copy);
        map.retain(|i, _| i % 4 == 0);
    }
    map
}

/// The heap's curve, as a line of text.
#[cfg(feature = "read")]
fn print_curve(path: &str) -> Result<(), Box<dyn Error>> {
    use exectrace::analyze;
    use exectrace::read::Reader;
    let summary = analyze::summary(&mut Reader::new(File::open(path)?)?);
    let page = summary.to_string();
    for line in page.lines().skip_while(|l| !l.starts_with("Heap")).take(2) {
        println!("{line}");
    }
    Ok(())
}

#[cfg(not(feature = "read"))]
fn print_curve(_path: &str) -> Result<(), Box<dyn Error>> {
    Ok(())
}
