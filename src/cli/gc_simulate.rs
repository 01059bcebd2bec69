//! `exectrace gc simulate`: what a collector would cost a program, by its settings.

use crate::filter::parse_ns;
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use exectrace::analyze::{self, Bytes, Count, GcCosts, GcSetting, GcSimulation, Ns, Percent};
use std::path::PathBuf;

/// What a collector would cost: the program's allocations and frees, replayed under the GC heap's pacer
///
/// For programs with and without a collector, from recorded allocations: the program is to be traced with
/// `Tracer::allocations`. The dead stay on the heap until a cycle ends, and allocations pay for marking; what is printed is
/// the cycles, the largest heap, the time, the longest stop, and the program's smallest share in windows of 1 and 10 ms.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace gc simulate app.trace
  exectrace gc simulate --gc-percent 50,100,200,off --memory-limit 512MiB app.trace
  exectrace gc simulate --stop-the-world --mark 300us app.trace      one go; trees are marked as fast as that

What marking costs depends on the objects: 300us a MiB for trees, 1ms for most, 5ms for lists in random order. Not in it: the
costs of allocation, of write barriers, of caches.
JSON: one object with \"schema\":\"exectrace.gc-simulate/1\". Times are nanoseconds, sizes bytes, utilization is from 0 to 1.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// Growth of the heap in percent of what is alive, as GOGC; `off` leaves cycles to the limit
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "50,100,200", value_parser = parse_percent)]
    gc_percent: Vec<Percentage>,
    /// The soft limit, as GOMEMLIMIT: such as 512MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory_limit: Option<u64>,
    /// No cycle begins in a smaller heap
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_bytes)]
    heap_min: u64,
    /// Mark in one go, and not in steps
    #[arg(long)]
    stop_the_world: bool,
    /// What marking a MiB takes
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = parse_ns)]
    mark: i64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A percentage; none is `off`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Percentage(Option<u32>);

fn parse_percent(text: &str) -> Result<Percentage, String> {
    match text {
        "off" => Ok(Percentage(None)),
        _ => {
            text.parse().map(|p| Percentage(Some(p))).map_err(|_| String::from("expected a number such as 100, or off"))
        }
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        unit => return Err(format!("unit {unit:?}: expected B, KiB, MiB, GiB, kB, MB or GB")),
    };
    let number: u64 = number.parse().map_err(|_| String::from("expected a size such as 512MiB"))?;
    number.checked_mul(unit).ok_or_else(|| String::from("too large"))
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let settings: Vec<GcSetting> = args
        .gc_percent
        .iter()
        .map(|p| GcSetting {
            gc_percent: p.0,
            memory_limit_bytes: args.memory_limit,
            heap_bytes_min: args.heap_min,
            incremental: !args.stop_the_world,
        })
        .collect();
    let costs = GcCosts { mark_ns_per_mib: args.mark as u64, ..GcCosts::default() };
    let input = Input::open(&args.file)?;
    let asked = input.ask(|reader, tick| analyze::gc_simulate_watched(reader, &settings, costs, tick))?;
    input.show(&asked, args.json, asked.answer.damage.as_ref(), |out, answer| {
        text(out, answer);
        Ok(())
    })
}

fn text(out: &mut Output, s: &GcSimulation) {
    match s.interval_bytes {
        None => {
            return out.line(format_args!("no allocations are recorded: trace the program with `Tracer::allocations`"));
        }
        Some(0) => {}
        Some(bytes) => out.line(format_args!("an estimate: of the allocations one in {} was recorded", Bytes(bytes))),
    }
    let (allocated, live) = (Bytes(s.allocated_bytes), Bytes(s.live_bytes_max));
    out.line(format_args!("{allocated} allocated in {}, {live} alive at most\n", Ns(s.duration_ns)));
    out.line(format_args!(
        "{:>10}{:>9}{:>12}{:>12}{:>10}{:>9}{:>10}{:>11}{:>10}{:>10}",
        "gc-percent", "cycles", "peak", "marked", "time", "share", "assists", "longest", "MMU 1ms", "MMU 10ms"
    ));
    for o in &s.outcomes {
        let percent = o.setting.gc_percent.map_or_else(|| "off".to_owned(), |p| p.to_string());
        out.line(format_args!(
            "{percent:>10}{:>9}{:>12}{:>12}{:>10}{:>9}{:>10}{:>11}{:>10}{:>10}",
            Count(o.cycles),
            Bytes(o.peak_bytes),
            Bytes(o.marked_bytes),
            Ns(o.gc_ns),
            Percent(o.gc_ns as f64 / o.duration_ns.max(1) as f64),
            Ns(o.assist_ns),
            Ns(o.pause_ns_max),
            Percent(o.mmu_1ms),
            Percent(o.mmu_10ms)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_percentages_are_read() {
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("7"), Ok(7));
        assert!(parse_bytes("7 parsecs").is_err() && parse_bytes("99999999999GiB").is_err());
        assert_eq!(parse_percent("off"), Ok(Percentage(None)));
        assert_eq!(parse_percent("50"), Ok(Percentage(Some(50))));
        assert!(parse_percent("-3").is_err());
    }
}
