//! An interpreter on the GC heap: a Scheme with closures, strings, vectors, tables, errors that can be handled, and
//! continuations, of which it makes coroutines. Calls are on the heap, so that no program overflows the stack.
//!
//! Without an argument it runs programs whose answers are known, checks them, and writes a trace of it.
//!
//! ```sh
//! cargo run --release --example scheme
//! cargo run --release --example scheme -- program.scm
//! go tool trace scheme.trace
//! ```

mod builtins;
mod compile;
mod machine;
mod programs;
mod value;

use exectrace::gc::Config;
use machine::Scheme;
use std::error::Error;
use std::fs::{self, File};
use std::time::Instant;

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args().nth(1) {
        println!("{}", Scheme::new(Config::new()).run(&fs::read_to_string(path)?)?);
        return Ok(());
    }
    exectrace::start(File::create("scheme.trace")?)?;
    println!("program          ms   cycles   longest stop (us)   allocated (MB)");
    for (name, text, answer) in programs::PROGRAMS {
        let _region = exectrace::Region::new(name);
        let mut scheme = Scheme::new(Config::new());
        let begin = Instant::now();
        let got = scheme.run(text)?;
        if got != *answer {
            return Err(format!("{name}: {got} and not {answer}").into());
        }
        let (ms, s) = (begin.elapsed().as_secs_f64() * 1e3, scheme.stats());
        let stop = s.stw.ns_max.max(s.assists.ns_max).max(s.sweeps.ns_max);
        println!(
            "{name:<12} {ms:>6.1} {:>8} {:>19.0} {:>16}",
            s.cycles,
            stop as f64 / 1e3,
            s.bytes_allocated / 1_000_000
        );
    }
    let stats = exectrace::stop()?;
    println!("scheme.trace: {} bytes, {} events lost", stats.bytes, stats.lost_events());
    Ok(())
}
