//! `exectrace heap`: who holds the heap, who held it at the peak, who churns, what leaked.

use crate::filter::parse_ns;
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::{Output, table_name, write_file};
use clap::ValueEnum;
use exectrace::analyze::{self, Bytes, Count, HeapAt, HeapBy, HeapEntry, HeapOptions, HeapReport, Ns, Percent};
use exectrace::export::{flame, pprof};
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::PathBuf;

/// Who holds the heap: at the end, at the peak or at any time, by stack, thread, size, task, region or label
///
/// Answers from recorded allocations: the program is to be traced with `Tracer::allocations`. `held` is what is alive at the
/// instant asked for, `leaked` what is alive at the end, `total` all that was ever allocated, `temporary` the part of it that
/// the same thread freed within its next 8 allocations.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace heap app.trace                           what is alive at the end, by stack
  exectrace heap --at peak app.trace                 who held the heap when it was largest
  exectrace heap --at 12.5s --since 10s app.trace    what came in between and stayed
  exectrace heap --sort temporary app.trace          who churns
  exectrace heap --by label app.trace                by `exectrace::scope!(\"label\")`
  exectrace heap --at peak --flame peak.svg app.trace
  exectrace heap --pprof heap.pb.gz app.trace && go tool pprof -http=: heap.pb.gz
  exectrace heap --json app.trace | jq '.entries[0]'

JSON: one object with \"schema\":\"exectrace.heap/1\". Sizes are bytes, times nanoseconds.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// The instant: a time since the start of the trace such as 12.5s, or `peak`, or `end`
    #[arg(long, default_value = "end", value_name = "TIME", value_parser = parse_at)]
    at: HeapAt,
    /// Of what is held, only what was allocated from this time on: what came and stayed
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    since: Option<i64>,
    /// By what to tell it apart
    #[arg(long, value_enum, default_value_t = By::Stack)]
    by: By,
    /// Which figure decides the order, and is drawn
    #[arg(long, value_enum, default_value_t = Sort::Held)]
    sort: Sort,
    /// How many lines to print
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// Print whole stacks
    #[arg(long)]
    stacks: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a heap profile for pprof to this file, compressed by gzip; `-` is standard output
    #[arg(long, value_name = "OUT")]
    pprof: Option<PathBuf>,
    /// Draw a flame graph into this file; `-` is standard output
    #[arg(long, value_name = "SVG")]
    flame: Option<PathBuf>,
    /// Print stacks as folded lines, root first, with bytes
    #[arg(long, conflicts_with = "json")]
    folded: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Stack,
    Thread,
    Size,
    Task,
    Region,
    Label,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    /// What is alive at the instant
    Held,
    /// What is alive at the end
    Leaked,
    /// What was held when the heap was largest
    Peak,
    /// All that was allocated
    Total,
    /// What was freed soon
    Temporary,
}

impl From<By> for HeapBy {
    fn from(by: By) -> HeapBy {
        match by {
            By::Stack => HeapBy::Stack,
            By::Thread => HeapBy::Thread,
            By::Size => HeapBy::Size,
            By::Task => HeapBy::Task,
            By::Region => HeapBy::Region,
            By::Label => HeapBy::Label,
        }
    }
}

impl Sort {
    fn bytes(self, e: &HeapEntry) -> u64 {
        match self {
            Sort::Held => e.sums.held_bytes,
            Sort::Leaked => e.sums.leaked_bytes,
            Sort::Peak => e.sums.peak_bytes,
            Sort::Total => e.sums.total_bytes,
            Sort::Temporary => e.sums.temporary_bytes,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Sort::Held => "held",
            Sort::Leaked => "leaked",
            Sort::Peak => "peak",
            Sort::Total => "total",
            Sort::Temporary => "temporary",
        }
    }
}

fn parse_at(text: &str) -> Result<HeapAt, String> {
    match text {
        "end" => Ok(HeapAt::End),
        "peak" => Ok(HeapAt::Peak),
        time => parse_ns(time).map(HeapAt::Ns).map_err(|e| format!("{e}, or `peak`, or `end`")),
    }
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let drawn = args.pprof.is_some() || args.flame.is_some() || args.folded;
    if drawn && args.by != By::Stack {
        return Err(Failure::usage("--pprof, --flame and --folded are about stacks", "leave --by out"));
    }
    match (args.at, args.since) {
        (HeapAt::Peak, Some(_)) => {
            return Err(Failure::usage("--since cannot be had for the peak", "give --at the time of the peak"));
        }
        (HeapAt::Ns(at), Some(since)) if since > at => {
            return Err(Failure::usage("--since is later than --at", "nothing lies between them"));
        }
        _ => {}
    }
    let input = Input::open(&args.file)?;
    let options = HeapOptions { by: args.by.into(), at: args.at, since_ns: args.since };
    let mut asked = input.ask(|reader, tick| analyze::heap_watched(reader, &options, tick))?;
    let report = &mut asked.answer;
    report.entries.sort_by_key(|e| std::cmp::Reverse(args.sort.bytes(e)));
    let report = &asked.answer;
    let weights = || report.entries.iter().map(|e| (&e.stack[..], args.sort.bytes(e)));
    if let Some(path) = &args.pprof {
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
        let bytes =
            gzip.write_all(&pprof::encode_heap(report)).and_then(|()| gzip.finish()).map_err(Failure::writing)?;
        write_file(path, &bytes)?;
    }
    if let Some(path) = &args.flame {
        let title = format!("{}: {} bytes{}", input.name(), args.sort.name(), instant(report));
        write_file(path, flame::svg(&title, "bytes", weights()).as_bytes())?;
    }
    let mut out = Output::stdout();
    if args.json {
        out.json(report)?;
    } else if args.folded {
        out.buf.extend_from_slice(flame::folded(weights()).as_bytes());
    } else if !drawn {
        text(&mut out, report, args);
    }
    out.flush()?;
    input.ended(report.damage.as_ref(), asked.bytes_read)
}

fn instant(r: &HeapReport) -> String {
    match r.at {
        HeapAt::End => " at the end".to_owned(),
        HeapAt::Peak => format!(" at the peak, at {}", Ns(r.peak_at_ns)),
        HeapAt::Ns(ns) => format!(" at {}", Ns(ns.max(0) as u64)),
    }
}

fn text(out: &mut Output, r: &HeapReport, args: &Args) {
    let Some(interval) = r.interval_bytes else {
        out.line(format_args!("no recorded allocations in {} of trace", Ns(r.duration_ns)));
        return out.line(format_args!("hint: trace the program with `Tracer::allocations`"));
    };
    let how = match interval {
        0 => "all allocations".to_owned(),
        n => format!("estimates from a sample for each {}", Bytes(n)),
    };
    out.line(format_args!(
        "{how}: {} operations in {}; peak {} at {}",
        Count(r.records),
        Ns(r.duration_ns),
        Bytes(r.peak_bytes),
        Ns(r.peak_at_ns)
    ));
    let s = &r.sum;
    out.line(format_args!(
        "held{} {} in {} blocks; leaked {} in {}; in total {} in {}, of which temporary {} in {}",
        instant(r),
        Bytes(s.held_bytes),
        Count(s.held_blocks),
        Bytes(s.leaked_bytes),
        Count(s.leaked_blocks),
        Bytes(s.total_bytes),
        Count(s.total_blocks),
        Bytes(s.temporary_bytes),
        Count(s.temporary_blocks)
    ));
    if r.lost > 0 {
        out.line(format_args!("{} operations were lost: the figures are not exact", Count(r.lost)));
    }
    if r.unknown_frees > 0 {
        out.line(format_args!("{} frees of blocks from before the trace are left out", Count(r.unknown_frees)));
    }
    if r.entries.is_empty() {
        return;
    }
    out.line(format_args!(
        "\n{:>10}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}  where",
        "held", "share", "blocks", "peak", "leaked", "total", "blocks", "temporary"
    ));
    let whole: u64 = r.entries.iter().map(|e| args.sort.bytes(e)).sum();
    for e in r.entries.iter().take(args.top) {
        let (s, share) = (&e.sums, Percent(args.sort.bytes(e) as f64 / whole.max(1) as f64));
        out.line(format_args!(
            "{:>10}{share:>9}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}  {}",
            Bytes(s.held_bytes),
            Count(s.held_blocks),
            Bytes(s.peak_bytes),
            Bytes(s.leaked_bytes),
            Bytes(s.total_bytes),
            Count(s.total_blocks),
            Bytes(s.temporary_bytes),
            table_name(&e.name)
        ));
        if args.stacks {
            for f in &e.stack {
                out.line(format_args!("{:81}{}  {}:{}", "", f.func, f.file, f.line));
            }
        }
    }
    out.rest(r.entries.len(), args.top);
}
