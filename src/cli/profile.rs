//! `exectrace profile`: where time goes, by stack.

use crate::filter::parse_ns;
use crate::input::Input;
use crate::new_file::{is_stdout, one_document, write_file};
use crate::outcome::{Failure, Outcome};
use crate::output::{Output, table_name};
use clap::ValueEnum;
use exectrace::analyze::{self, Count, FunctionEntry, Ns, Percent, Profile, ProfileKind, ProfileOptions};
use exectrace::export::pprof;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::PathBuf;

/// Where time goes, by stack: waiting, system calls, the scheduler, CPU samples, regions
///
/// sync, network, syscall and sched have the numbers of `go tool trace -pprof=`. Prints a list, the greatest time first;
/// writes a file for pprof with --pprof.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace profile sync app.trace
  exectrace profile syscall --by function app.trace
  exectrace profile sync --pprof sync.pb.gz app.trace && go tool pprof -http=: sync.pb.gz
  exectrace profile sched --from 1s --to 1.5s --name worker app.trace
  exectrace profile cpu --json app.trace | jq '.entries[0]'

JSON: one object with \"schema\":\"exectrace.profile/1\". Times are nanoseconds. With --by function it has `functions` too.")]
pub struct Args {
    /// What to add up
    #[arg(value_enum)]
    kind: Kind,
    /// The trace; `-` is standard input
    file: PathBuf,
    /// Write the profile to this file for pprof, compressed by gzip; `-` is standard output
    #[arg(long, value_name = "OUT")]
    pprof: Option<PathBuf>,
    /// How many lines to print
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// Add up by stack, or by function (with all that it calls)
    #[arg(long, value_enum, default_value_t = By::Stack)]
    by: By,
    /// Print whole stacks
    #[arg(long)]
    stacks: bool,
    /// Leave out what is before this time since the start of the trace, such as 1.5s or 20ms
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    from: Option<i64>,
    /// Leave out what is after this time since the start of the trace
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    to: Option<i64>,
    /// Only goroutines with this text in their names
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Take in what Go leaves out: before a goroutine first runs, what is not over at the end, and goroutines
    /// whose ids were used again
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Waiting for other goroutines or threads: channels, locks, conditions
    Sync,
    /// Waiting for the network
    #[value(alias = "net")]
    Network,
    /// System calls
    Syscall,
    /// Waiting for a processor; the stack is that of whoever woke the goroutine
    Sched,
    /// CPU samples
    Cpu,
    /// User regions
    Region,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Stack,
    Function,
}

impl From<Kind> for ProfileKind {
    fn from(k: Kind) -> ProfileKind {
        match k {
            Kind::Sync => ProfileKind::Sync,
            Kind::Network => ProfileKind::Network,
            Kind::Syscall => ProfileKind::Syscall,
            Kind::Sched => ProfileKind::Sched,
            Kind::Cpu => ProfileKind::Cpu,
            Kind::Region => ProfileKind::Region,
        }
    }
}

/// The profile as JSON.
#[derive(serde::Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    profile: &'a Profile,
    /// The same by function, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<Vec<FunctionEntry>>,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        return Err(Failure::usage("--from is later than --to", "nothing lies between them"));
    }
    one_document(&[("--json", args.json), ("--pprof -", is_stdout(args.pprof.as_deref()))])?;
    let input = Input::open(&args.file)?;
    let options = ProfileOptions { from_ns: args.from, to_ns: args.to, name: args.name.clone(), all: args.all };
    let asked = input.ask(|reader, tick| analyze::profile_watched(reader, args.kind.into(), &options, tick))?;
    let profile = &asked.answer;
    if let Some(path) = &args.pprof {
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
        let bytes = gzip.write_all(&pprof::encode(profile)).and_then(|()| gzip.finish()).map_err(Failure::writing)?;
        write_file(path, &bytes, &[input.path()])?;
    }
    let mut out = Output::stdout();
    if args.json {
        let functions = (args.by == By::Function).then(|| profile.by_function());
        out.json(&Json { profile, functions })?;
    } else if args.pprof.is_none() {
        text(&mut out, profile, args);
    }
    out.flush()?;
    input.ended(profile.damage.as_ref(), asked.bytes_read)
}

fn text(out: &mut Output, p: &Profile, args: &Args) {
    let what = match p.kind {
        ProfileKind::Cpu => "samples",
        ProfileKind::Region => "regions",
        ProfileKind::Syscall => "calls",
        _ => "waits",
    };
    out.line(format_args!(
        "{}: {} in {} {what} with {} different stacks, in {} of trace",
        p.kind.name(),
        Ns(p.total_ns),
        Count(p.count),
        Count(p.entries.len() as u64),
        Ns(p.duration_ns)
    ));
    if p.entries.is_empty() {
        return;
    }
    let share = |ns: u64| Percent(ns as f64 / p.total_ns.max(1) as f64);
    if args.by == By::Function {
        out.line(format_args!("\n{:>10}{:>9}{:>10}{:>12}  function", "total", "share", "own", "count"));
        let all = p.by_function();
        for f in all.iter().take(args.top) {
            let (total, own, count) = (Ns(f.total_ns), Ns(f.own_ns), Count(f.count));
            out.line(format_args!("{total:>10}{:>9}{own:>10}{count:>12}  {}", share(f.total_ns), f.func));
        }
        return out.rest(all.len(), args.top);
    }
    // A sample has no length of its own.
    let sampled = p.kind == ProfileKind::Cpu;
    let lengths = |mean: &str, max: &str| if sampled { String::new() } else { format!("{mean:>10}{max:>10}") };
    let heads = lengths("mean", "max");
    out.line(format_args!("\n{:>10}{:>9}{:>12}{heads}  where", "total", "share", "count"));
    let indent = 33 + heads.len();
    for e in p.entries.iter().take(args.top) {
        let lengths = lengths(&Ns(e.total_ns / e.count.max(1)).to_string(), &Ns(e.max_ns).to_string());
        let label = if e.label.is_empty() { String::new() } else { format!("{}: ", table_name(&e.label)) };
        let (total, count) = (Ns(e.total_ns), Count(e.count));
        out.line(format_args!("{total:>10}{:>9}{count:>12}{lengths}  {label}{}", share(e.total_ns), e.place));
        if args.stacks {
            for f in &e.stack {
                out.line(format_args!("{:indent$}{}  {}:{}", "", f.func, f.file, f.line));
            }
        }
    }
    out.rest(p.entries.len(), args.top);
}
