//! `exectrace mmu`: what the collector leaves to the program, by length of the window.

use crate::filter::parse_ns;
use crate::input::Input;
use crate::new_file::{is_stdout, one_document, write_file};
use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use exectrace::analyze::{self, Counting, MmuCurve, Ns, Percent, Work};
use std::fmt::Write;
use std::path::PathBuf;

/// Minimum mutator utilization: what the collector leaves to the program at the worst moment
///
/// For each length of a window of time, the smallest share of the processors that the program had in any such window. Stops of
/// the world for the collector, background workers and mark assists count as the collector's; sweeps with --sweep.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace mmu app.trace
  exectrace mmu --window 1ms,10ms,100ms --json app.trace | jq '.points[].utilization'
  exectrace mmu --svg mmu.svg app.trace

Go's page counts a background worker once more in each cycle, so that its curve sinks the longer a trace is; --as-go does the
same, for comparison.
JSON: one object with \"schema\":\"exectrace.mmu/1\". Times are nanoseconds, utilization is from 0 to 1.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// Lengths of windows [default: from 1us to the length of the trace, five to a decade]
    #[arg(long, value_name = "TIME", value_delimiter = ',', value_parser = parse_ns)]
    window: Vec<i64>,
    /// Count sweeping too
    #[arg(long)]
    sweep: bool,
    /// Count background workers as `go tool trace` does
    #[arg(long)]
    as_go: bool,
    /// Write a picture of the curve to this file; `-` is standard output
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    if args.window.contains(&0) {
        return Err(Failure::usage("a window of length 0", "there is no mean over no time"));
    }
    one_document(&[("--json", args.json), ("--svg -", is_stdout(args.svg.as_deref()))])?;
    let input = Input::open(&args.file)?;
    let windows = if args.window.is_empty() {
        // The length of the trace shows at its end only: points beyond are cut off then.
        analyze::mmu_windows(1_000, 1_000_000_000_000, 5)
    } else {
        args.window.iter().map(|&w| w as u64).collect()
    };
    let work = Work { sweep: args.sweep, ..Work::default() };
    let counting = if args.as_go { Counting::AsGo } else { Counting::Labelled };
    let mut asked = input.ask(|reader, tick| analyze::mmu_watched(reader, &windows, work, counting, tick))?;
    let curve = &mut asked.answer;
    if args.window.is_empty() {
        // The first that is too long stands for the whole trace.
        if let Some(i) = curve.points.iter().position(|p| p.window_ns >= curve.duration_ns) {
            curve.points.truncate(i + 1);
            curve.points[i].window_ns = curve.duration_ns;
        }
    }
    if let Some(path) = &args.svg {
        write_file(path, svg(curve).as_bytes(), &[input.path()])?;
    }
    input.show(&asked, args.json, asked.answer.damage.as_ref(), |out, curve| {
        if args.svg.is_none() {
            text(out, curve);
        }
        Ok(())
    })
}

fn text(out: &mut Output, c: &MmuCurve) {
    if c.points.is_empty() {
        return out.line(format_args!("the trace does not tell the number of processors: no utilization is known"));
    }
    out.line(format_args!("mutator utilization: {} on average over {}", Percent(c.mean), Ns(c.duration_ns)));
    out.line(format_args!("\n{:>10}{:>10}{:>11}", "window", "at least", "worst at"));
    for p in &c.points {
        let bar = "█".repeat((p.utilization * 50.0).round() as usize);
        let line = format!("{:>10}{:>10}{:>11}  {bar}", Ns(p.window_ns), Percent(p.utilization), Ns(p.at_ns));
        out.line(format_args!("{}", line.trim_end()));
    }
}

/// The picture: window lengths from left to right by their logarithm, utilization from 0 to 100 % upwards.
fn svg(c: &MmuCurve) -> String {
    // The picture, and in it the field of the curve.
    const W: f64 = 720.0;
    const H: f64 = 360.0;
    const LEFT: f64 = 60.0;
    const TOP: f64 = 20.0;
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 290.0;
    let log = |ns: u64| (ns.max(1) as f64).log10();
    let first = c.points.first().map_or(0.0, |p| log(p.window_ns));
    let last = c.points.last().map_or(1.0, |p| log(p.window_ns)).max(first + 1e-9);
    let x = |l: f64| LEFT + (l - first) / (last - first) * WIDTH;
    let y = |u: f64| TOP + (1.0 - u) * HEIGHT;
    let mut s = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {W} {H}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{W}\" height=\"{H}\" fill=\"white\"/>\n"
    );
    // Writing to a string cannot fail.
    for i in 0..=4 {
        let u = f64::from(i) / 4.0;
        let _ = writeln!(
            s,
            "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#ddd\"/><text x=\"{tx}\" y=\"{ty:.1}\" text-anchor=\"end\">{p} %</text>",
            y = y(u),
            tx = LEFT - 6.0,
            ty = y(u) + 4.0,
            p = i * 25
        );
    }
    for decade in (first.ceil() as i32)..=(last.floor() as i32) {
        let at = x(f64::from(decade));
        let _ = writeln!(
            s,
            "<path d=\"M{at:.1} {TOP}v{HEIGHT}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{ty}\" text-anchor=\"middle\">{w}</text>",
            ty = TOP + HEIGHT + 18.0,
            w = unit(decade)
        );
    }
    let line: String =
        c.points.iter().map(|p| format!("{:.1},{:.1} ", x(log(p.window_ns)), y(p.utilization))).collect();
    let _ =
        writeln!(s, "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"2\"/>", line.trim_end());
    let _ = writeln!(
        s,
        "<text x=\"{mid}\" y=\"{bottom}\" text-anchor=\"middle\">window; minimum mutator utilization</text>\n</svg>",
        mid = LEFT + WIDTH / 2.0,
        bottom = H - 8.0
    );
    s
}

/// A power of ten of nanoseconds.
fn unit(decade: i32) -> String {
    let (unit, base) = match decade {
        i32::MIN..=2 => ("ns", 0),
        3..=5 => ("us", 3),
        6..=8 => ("ms", 6),
        _ => ("s", 9),
    };
    format!("{} {unit}", 10f64.powi(decade - base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_have_units() {
        for (d, want) in [(0, "1 ns"), (3, "1 us"), (7, "10 ms"), (11, "100 s")] {
            assert_eq!(unit(d), want);
        }
    }
}
