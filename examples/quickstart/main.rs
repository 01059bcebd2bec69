//! A real program with everything in it that a trace can show, and what the trace then says.
//!
//! ```sh
//! cargo run --release --example quickstart -- [DIR]
//! ```
//!
//! Several threads index a directory of text; a service answers queries about it over a loopback socket while that goes on; a
//! script runs on a garbage-collected heap beside. The program checks its own answers, prints them, and then reads its trace
//! back. What it does to be traced is the two items below, `start` and `stop`, and the tasks, regions and logs in the
//! other files, which are optional.

mod clients;
mod corpus;
mod index;
mod options;
mod report;
mod script;
mod scripting;
mod service;
mod text;

use index::Index;
use options::Options;
use std::error::Error;
use std::fs::File;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// The heap in the trace: every allocation of the program goes through this.
#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

// Threads, locks, waits and system calls in the trace.
exectrace::interpose!();

/// Threads that index, and threads that search.
const INDEXERS: usize = 4;
const SEARCHERS: usize = 2;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(e) => return fail(&e),
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e.to_string()),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("quickstart: {error}");
    ExitCode::from(2)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let corpus = corpus::choose(options.dir.clone())?;
    println!("indexing {} ({}), up to {} MB", corpus.dir.display(), corpus.what, options.max_bytes / 1_000_000);

    if options.trace {
        let out = File::create(&options.out).map_err(|e| format!("{}: {e}", options.out.display()))?;
        exectrace::start(out)?;
    }
    let begin = Instant::now();
    let work = work(options, &corpus.dir);
    let time = begin.elapsed();
    let heap = exectrace::heap::stats();
    let stats = if options.trace { Some(exectrace::stop()?) } else { None };
    let work = work?;

    work.print();
    work.check()?;
    println!(
        "it took {:.2} s; {:.1} MB were allocated in {} blocks",
        time.as_secs_f64(),
        heap.allocated_bytes_total as f64 / 1e6,
        heap.allocs_total
    );
    if let Some(stats) = stats {
        let out = options.out.display();
        println!();
        println!(
            "{out}: {} bytes in {} generations, {} events lost",
            stats.bytes,
            stats.generations,
            stats.lost_events()
        );
        report::print(&options.out)?;
        println!();
        println!("look at it:");
        println!("  go tool trace {out}");
        println!("  target/release/exectrace summary {out}");
    }
    Ok(())
}

/// What the program has done.
struct Work {
    index: Arc<Index>,
    clients: Vec<clients::Report>,
    script: scripting::Report,
    answered: u64,
}

/// The program's work: everything starts at once, and ends when the clients and the script have no more to ask.
fn work(options: &Options, dir: &std::path::Path) -> Result<Work, Box<dyn Error>> {
    let index = Arc::new(Index::new());
    let service = service::Service::start(&index, SEARCHERS)?;
    let build = index::build(&index, dir, options.max_bytes, INDEXERS);
    let clients: Vec<_> = (1..=options.clients).map(|n| clients::start(n, options.queries, service.addr)).collect();
    let script = scripting::start(&index, service.addr);

    build.join().expect("the walking thread panicked");
    exectrace::log!("index", "complete: {} files", index.progress().files_done);
    let clients: Vec<_> = clients.into_iter().map(|c| c.join().expect("a client panicked")).collect();
    let script = script.join().expect("the script's thread panicked");
    let answered = service.stop()?;
    Ok(Work { index, clients: clients.into_iter().collect::<Result<_, _>>()?, script: script?, answered })
}

impl Work {
    fn print(&self) {
        let p = self.index.progress();
        let (words, postings) = self.index.sizes();
        println!(
            "indexed {} files, {:.1} MB: {words} different words, {postings} entries; {} files could not be read",
            p.files_done,
            p.bytes_done as f64 / 1e6,
            p.failed
        );
        let mut latency_us = self.clients[0].latency_ns.clone();
        for c in &self.clients[1..] {
            latency_us.add(&c.latency_ns).expect("histograms of the same make");
        }
        println!(
            "answered {} queries: median {:.0} us, 99 % within {:.0} us, all within {:.0} us",
            self.answered,
            latency_us.value_at_quantile(0.5) as f64 / 1e3,
            latency_us.value_at_quantile(0.99) as f64 / 1e3,
            latency_us.max() as f64 / 1e3
        );
        for line in &self.script.printed {
            println!("script: {line}");
        }
        let heap = &self.script.heap;
        println!(
            "script: {:.1} million instructions, {:.1} MB on the GC heap, {} cycles, {} pauses of at most {:.0} us",
            self.script.instructions as f64 / 1e6,
            heap.bytes_allocated as f64 / 1e6,
            heap.cycles,
            heap.stw.count,
            heap.stw.ns_max as f64 / 1e3
        );
    }

    /// Compares the answers with those of a program that is slow and obvious.
    fn check(&self) -> Result<(), String> {
        let replies: Vec<_> = self.clients.iter().flat_map(|c| c.replies.iter().cloned()).collect();
        let checked = clients::check(&self.index, &replies)?;
        scripting::check(&self.script)?;
        println!("checked: {} answers against {} files read again, and the script's", checked.queries, checked.files);
        Ok(())
    }
}
