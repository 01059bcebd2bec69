//! A cache that grows towards a memory limit: the curve, the limit beside it, and what holds the memory.
//!
//! ```sh
//! cargo run --release --example memory_pressure -- [LIMIT_MB]
//! go tool trace memory_pressure.trace
//! ```
//!
//! Four threads serve requests from a cache that is thrown away by halves when it comes near to the limit. One kind of
//! request, `export`, keeps a copy of what it is asked for until the end of its task, and that is what brings the program close: the
//! regions and the log lines, which say how much each kind holds, show it.
//!
//! What the trace does not say yet is which call stack holds how many bytes: that takes a record of each block. Until then the way is the
//! one shown here, a count before and after, which is exact ([`exectrace::heap::stats`]).

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

exectrace::interpose!();

const THREADS: usize = 4;
const REQUESTS: u64 = 12_000;
/// Every so many requests of a thread, one is an export.
const EXPORT_EVERY: u64 = 1_000;
const VALUE_BYTES: usize = 8 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let limit_mb = std::env::args().nth(1).unwrap_or("48".into());
    let limit_mb: u64 = limit_mb.parse().map_err(|_| format!("{limit_mb}: not a number of MB"))?;
    let limit = limit_mb << 20;
    let path = "memory_pressure.trace";
    let out = File::create(path).map_err(|e| format!("{path}: {e}"))?;

    // The limit is the heap's goal in the trace. Without this line it is that of the control group, if it has one.
    exectrace::Tracer::new().memory_limit(limit).start(out)?;
    let cache = Cache::new(limit);
    thread::scope(|s| {
        for n in 1..=THREADS {
            let cache = &cache;
            let serve = move || (0..REQUESTS).for_each(|i| request(cache, n as u64, i));
            thread::Builder::new().name(format!("serve-{n}")).spawn_scoped(s, serve).expect("cannot make a thread");
        }
    });
    let heap = exectrace::heap::stats();
    let stats = exectrace::stop()?;

    println!("limit {limit_mb} MiB; peak {:.1} MiB, end {:.1} MiB", mib(heap.peak_bytes), mib(heap.live_bytes));
    println!(
        "the cache was halved {} times; exports held up to {:.1} MiB at a time",
        cache.halved.load(Ordering::Relaxed),
        mib(cache.exported_peak.load(Ordering::Relaxed))
    );
    println!("{path}: {} bytes, {} events lost", stats.bytes, stats.lost_events());
    println!("look at the heap's row in: go tool trace {path}");
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

struct Cache {
    values: Mutex<HashMap<u64, Vec<u8>>>,
    limit: u64,
    halved: AtomicU64,
    exported: AtomicU64,
    exported_peak: AtomicU64,
}

impl Cache {
    fn new(limit: u64) -> Cache {
        Cache {
            values: Mutex::default(),
            limit,
            halved: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            exported_peak: AtomicU64::new(0),
        }
    }

    /// A part of the value of a key, which is computed if the cache does not have it.
    fn get(&self, key: u64) -> u64 {
        let mut values = self.values.lock().unwrap();
        let value = values.entry(key).or_insert_with(|| compute(key));
        let sum = value.iter().map(|b| u64::from(*b)).sum();
        // Three quarters of the limit: what is not the cache needs room as well.
        if exectrace::heap::stats().live_bytes > self.limit / 4 * 3 {
            self.halve(&mut values);
        }
        sum
    }

    fn halve(&self, values: &mut HashMap<u64, Vec<u8>>) {
        let _region = exectrace::Region::new("halve the cache");
        let before = exectrace::heap::stats().live_bytes;
        let mut keep = false;
        values.retain(|_, _| {
            keep = !keep;
            keep
        });
        let after = exectrace::heap::stats().live_bytes;
        self.halved.fetch_add(1, Ordering::Relaxed);
        exectrace::log!(
            "memory",
            "cache halved: heap {before} -> {after} bytes, of which exports hold {}",
            self.exported.load(Ordering::Relaxed)
        );
    }
}

fn compute(key: u64) -> Vec<u8> {
    (0..VALUE_BYTES as u64).map(|i| (key.wrapping_mul(31) ^ i) as u8).collect()
}

fn request(cache: &Cache, thread: u64, number: u64) {
    if number % EXPORT_EVERY == EXPORT_EVERY - 1 {
        return export(cache, thread, number);
    }
    let task = exectrace::Task::new("get");
    let _region = task.region("get");
    // Most keys are asked for again and again.
    let key = if number.is_multiple_of(3) { thread << 32 | number } else { number % 64 };
    std::hint::black_box(cache.get(key));
}

/// Copies a great deal, and holds it while it is written out.
fn export(cache: &Cache, thread: u64, number: u64) {
    let task = exectrace::Task::new("export");
    let copies: Vec<Vec<u8>> = {
        let _region = task.region("copy");
        (0..400).map(|i| compute(thread << 32 | number << 16 | i)).collect()
    };
    let bytes: u64 = copies.iter().map(|c| c.len() as u64).sum();
    let held = cache.exported.fetch_add(bytes, Ordering::Relaxed) + bytes;
    cache.exported_peak.fetch_max(held, Ordering::Relaxed);
    task.log("memory", &format!("this export holds {bytes} bytes, all of them {held}"));
    {
        let _region = task.region("write");
        thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(copies);
    cache.exported.fetch_sub(bytes, Ordering::Relaxed);
}
