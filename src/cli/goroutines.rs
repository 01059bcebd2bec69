//! `exectrace goroutines`: what threads and goroutines spent their time on, by group.

use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::{Output, clip, table_name};
use exectrace::analyze::{self, Count, GOROUTINES_LISTED, GoroutineGroup, Goroutines, Ns};
use std::path::PathBuf;

/// What goroutines (threads, in a native trace) spent their time on, by name
///
/// Each line is a distribution over the goroutines of a group: what one of them spent so in its whole life. The parts are those
/// of Go's goroutine page and do not overlap; assists and sweeps lie within them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace goroutines app.trace
  exectrace goroutines --list worker app.trace       each goroutine with `worker` in its name
  exectrace goroutines --json app.trace | jq '.groups[] | [.name, .sched_wait.p99_ns]'

JSON: one object with \"schema\":\"exectrace.goroutines/1\". Times are nanoseconds.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// List single goroutines with this text in their names, the longest running first
    #[arg(long, value_name = "TEXT")]
    list: Option<String>,
    /// How many groups, or goroutines, to print
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let input = Input::open(&args.file)?;
    let list = args.list.as_deref();
    // JSON is for programs: it has more than fits a screen, and says how many there are.
    let most = if args.json { args.top.max(GOROUTINES_LISTED) } else { args.top };
    let asked = input.ask(|reader, tick| analyze::goroutines_watched(reader, list, most, tick))?;
    input.show(&asked, args.json, asked.answer.damage.as_ref(), |out, answer| {
        let print = if args.list.is_some() { single } else { groups };
        print(out, answer, args.top);
        Ok(())
    })
}

fn groups(out: &mut Output, g: &Goroutines, top: usize) {
    for group in g.groups.iter().take(top) {
        one_group(out, group);
    }
    out.rest(g.groups.len(), top);
}

fn one_group(out: &mut Output, g: &GoroutineGroup) {
    let name = if g.name.is_empty() { "(no stack seen)".to_owned() } else { table_name(&g.name) };
    out.line(format_args!("{name}: {}", Count(g.goroutines)));
    let blocked: Vec<_> = g.blocked.iter().map(|n| (format!("waiting: {}", reason(&n.name)), &n.durations)).collect();
    let mut rows =
        vec![("lifetime", &g.lifetime), ("execution", &g.execution), ("waiting for a processor", &g.sched_wait)];
    rows.extend(blocked.iter().map(|(name, d)| (name.as_str(), *d)));
    rows.extend([
        ("system calls", &g.syscall),
        ("system calls, no processor", &g.syscall_blocked),
        ("GC assist", &g.gc_assist),
        ("GC sweep", &g.gc_sweep),
    ]);
    rows.retain(|(_, d)| d.count > 0);
    out.durations("", rows.into_iter(), usize::MAX);
    out.line(format_args!(""));
}

fn reason(name: &str) -> &str {
    if name.is_empty() { "(since before the trace)" } else { name }
}

fn single(out: &mut Output, g: &Goroutines, top: usize) {
    out.line(format_args!(
        "{:>10}  {:34}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}",
        "goroutine", "name", "begins at", "ends at", "execution", "no proc", "calls", "waiting"
    ));
    for x in g.goroutines.iter().take(top) {
        let end = x.end_at_ns.map_or_else(|| "-".to_owned(), |t| Ns(t).to_string());
        out.line(format_args!(
            "{:>10}  {:34}{:>11}{end:>11}{:>11}{:>11}{:>11}{:>11}",
            x.id,
            clip(&x.name, 34),
            Ns(x.begin_at_ns),
            Ns(x.execution_ns),
            Ns(x.sched_wait_ns),
            Ns(x.syscall_ns + x.syscall_blocked_ns),
            Ns(x.blocked_ns)
        ));
    }
    out.rest(g.goroutines_total as usize, top);
}
