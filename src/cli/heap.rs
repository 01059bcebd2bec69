//! `exectrace heap`: who holds the heap, who held it at the peak, who churns, what leaked.

use crate::filter::parse_ns;
use crate::input::Input;
use crate::new_file::{is_stdout, one_document, write_file};
use crate::outcome::{Failure, Outcome};
use crate::output::{Output, table_name};
use crate::why_rss;
use clap::ValueEnum;
use exectrace::analyze::{
    self, Bytes, Count, HeapAt, HeapBucket, HeapBy, HeapEntry, HeapOptions, HeapReport, Ns, Percent, TreeNode, TreeRoot,
};
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
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, subcommand_value_name = "QUESTION")]
#[command(after_help = "\
Examples:
  exectrace heap app.trace                           what is alive at the end, by stack
  exectrace heap --at peak app.trace                 who held the heap when it was largest
  exectrace heap --at 12.5s --since 10s app.trace    what came in between and stayed
  exectrace heap --sort temporary app.trace          who churns
  exectrace heap --by label app.trace                by `exectrace::scope!(\"label\")`
  exectrace heap --tree down --at peak app.trace     as a tree, from the threads' beginnings
  exectrace heap --tree up --sort total app.trace    from where is allocated to who calls that
  exectrace heap --histograms app.trace              sizes of blocks, and how long they lived
  exectrace heap --at peak --flame peak.svg app.trace
  exectrace heap --pprof heap.pb.gz app.trace && go tool pprof -http=: heap.pb.gz
  exectrace heap --json app.trace | jq '.entries[0]'
  exectrace heap why-rss app.trace                   why the resident set is not the heap

JSON: one object with \"schema\":\"exectrace.heap/1\". Sizes are bytes, times nanoseconds.")]
pub struct Args {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// The trace; `-` is standard input
    #[arg(required = true)]
    file: Option<PathBuf>,
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
    /// Print stacks as a tree: `down` from where threads begin, `up` from where they allocate
    #[arg(long, value_enum, value_name = "WAY", conflicts_with = "folded")]
    tree: Option<Way>,
    /// Leave out of a tree what is less than this share of the whole, in per cent
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT", requires = "tree")]
    least: f64,
    /// Print histograms of the sizes of blocks and of how long they lived
    #[arg(long, conflicts_with_all = ["folded", "tree"])]
    histograms: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// Top-down
    Down,
    /// Bottom-up
    Up,
}

/// What else to ask of the heap.
#[derive(clap::Subcommand)]
enum Instead {
    WhyRss(why_rss::Args),
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
    let file = match (&args.instead, &args.file) {
        (Some(Instead::WhyRss(args)), _) => return why_rss::run(args),
        (None, Some(file)) => file,
        (None, None) => return Err(Failure::usage("no trace", "name a trace file")),
    };
    let drawn = args.pprof.is_some() || args.flame.is_some() || args.folded || args.tree.is_some();
    if drawn && args.by != By::Stack {
        return Err(Failure::usage("--pprof, --flame, --folded and --tree are about stacks", "leave --by out"));
    }
    let printed = args.json || args.folded || args.tree.is_some() || args.histograms;
    one_document(&[
        ("--pprof -", is_stdout(args.pprof.as_deref())),
        ("--flame -", is_stdout(args.flame.as_deref())),
        ("what is printed", printed),
    ])?;
    match (args.at, args.since) {
        (HeapAt::Peak, Some(_)) => {
            return Err(Failure::usage("--since cannot be had for the peak", "give --at the time of the peak"));
        }
        (HeapAt::Ns(at), Some(since)) if since > at => {
            return Err(Failure::usage("--since is later than --at", "nothing lies between them"));
        }
        _ => {}
    }
    let input = Input::open(file)?;
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
        write_file(path, &bytes, &[input.path()])?;
    }
    if let Some(path) = &args.flame {
        let title = format!("{}: {} bytes{}", input.name(), args.sort.name(), instant(report));
        write_file(path, flame::svg(&title, "bytes", weights()).as_bytes(), &[input.path()])?;
    }
    let mut out = Output::stdout();
    if let Some(way) = args.tree {
        let root = match way {
            Way::Down => TreeRoot::Begin,
            Way::Up => TreeRoot::Leaf,
        };
        let whole: u64 = weights().map(|(_, bytes)| bytes).sum();
        let tree = TreeNode::of(root, (whole as f64 * args.least / 100.0) as u64, weights());
        if args.json {
            out.json(&tree)?;
        } else {
            let what = format!("{}{}", args.sort.name(), instant(report));
            print_tree(&mut out, &what, &tree);
        }
    } else if args.histograms && !args.json {
        histogram(&mut out, "blocks by size", report.size_buckets.iter(), |to| format!("<= {}", Bytes(to)));
        out.line(format_args!(""));
        histogram(&mut out, "freed blocks by how long they lived", report.lifetime_buckets.iter(), |to| {
            format!("< {}", Ns(to))
        });
    } else if args.json {
        out.json(report)?;
    } else if args.folded {
        out.buf.extend_from_slice(flame::folded(weights()).as_bytes());
    } else if !drawn {
        text(&mut out, report, args);
    }
    out.flush()?;
    input.ended(report.damage.as_ref(), asked.bytes_read)
}

fn print_tree(out: &mut Output, what: &str, tree: &TreeNode) {
    out.line(format_args!("{:>10}{:>9}{:>10}  {what}", "bytes", "share", "own"));
    print_node(out, tree, tree.weight.max(1), 0);
}

/// A function and what is below it. Only where a way divides do its parts stand further to the right.
fn print_node(out: &mut Output, n: &TreeNode, whole: u64, indent: usize) {
    let share = Percent(n.weight as f64 / whole as f64).to_string();
    let own = if n.own > 0 { Bytes(n.own).to_string() } else { String::new() };
    let func = if n.func.is_empty() { "all" } else { &n.func };
    out.line(format_args!(
        "{:>10}{share:>9}{own:>10}  {:indent$}{}",
        Bytes(n.weight).to_string(),
        "",
        table_name(func)
    ));
    let goes_on = n.children.len() == 1 && n.children[0].weight == n.weight;
    for child in &n.children {
        print_node(out, child, whole, if goes_on { indent } else { indent + 2 });
    }
}

/// The longest bar of a histogram.
const BAR: usize = 40;

fn histogram<'a>(
    out: &mut Output,
    title: &str,
    buckets: impl Iterator<Item = &'a HeapBucket> + Clone,
    to: impl Fn(u64) -> String,
) {
    out.line(format_args!("{:>14}{:>10}{:>10}  {title}", "", "blocks", "bytes"));
    let most = buckets.clone().map(|b| b.blocks).max().unwrap_or(0).max(1);
    for b in buckets {
        let bar = "#".repeat((b.blocks as u128 * BAR as u128).div_ceil(u128::from(most)) as usize);
        out.line(format_args!(
            "{:>14}{:>10}{:>10}  {bar}",
            to(b.to),
            Count(b.blocks).to_string(),
            Bytes(b.bytes).to_string()
        ));
    }
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
