//! `exectrace heap why-rss`: why the resident set is not the heap.

use crate::input::Input;
use crate::new_file::{is_stdout, one_document, write_file};
use crate::outcome::{Failure, Outcome};
use crate::output::{Output, table_name};
use exectrace::analyze::{self, Bytes, Count, Ns, RssInstant, RssPart, WhyRss};
use std::fmt::Write;
use std::path::PathBuf;

/// Why the resident set is not the heap: its parts over time, with the biggest cause named
///
/// The parts: what the program holds on its heap; what the allocator keeps beyond that (free memory, fragmentation); GC heaps; the
/// tracer; mapped files; stacks; shared memory; and the rest, which was mapped by other means. The tracer records what is needed
/// unless `Tracer::memory_every` is zero.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace heap why-rss app.trace
  exectrace heap why-rss --svg rss.svg app.trace
  exectrace heap why-rss --json app.trace | jq -r '.because[]'

JSON: one object with \"schema\":\"exectrace.why-rss/1\". Sizes are bytes, times nanoseconds.")]
pub struct Args {
    /// The trace; `-` is standard input
    file: PathBuf,
    /// How many instants to print
    #[arg(long, default_value_t = 16, value_name = "N")]
    top: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Draw the parts over time into this file; `-` is standard output
    #[arg(long, value_name = "SVG")]
    svg: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    one_document(&[("--json", args.json), ("--svg -", is_stdout(args.svg.as_deref()))])?;
    let input = Input::open(&args.file)?;
    let asked = input.ask(|reader, tick| analyze::why_rss_watched(reader, tick))?;
    let why = &asked.answer;
    if let Some(path) = &args.svg {
        write_file(path, svg(&input.name(), why).as_bytes(), &[input.path()])?;
    }
    let mut out = Output::stdout();
    if args.json {
        out.json(why)?;
    } else if args.svg.is_none() {
        text(&mut out, why, args.top);
    }
    out.flush()?;
    input.ended(why.damage.as_ref(), asked.bytes_read)
}

fn text(out: &mut Output, w: &WhyRss, top: usize) {
    if w.max.is_none() {
        out.line(format_args!("nothing is known of the resident set in {} of trace", Ns(w.duration_ns)));
        return out.line(format_args!("hint: record it with `Tracer::memory_every`"));
    }
    for sentence in &w.because {
        out.line(format_args!("{sentence}"));
    }
    out.line(format_args!(
        "page faults: {} without reading, {} with; waited for memory {}",
        Count(w.minor_faults),
        Count(w.major_faults),
        Ns(w.stalled_us.saturating_mul(1000))
    ));
    let mut head = format!("\n{:>10}{:>11}", "at", "rss");
    for p in RssPart::ALL {
        let _ = write!(head, "{:>11}", p.name());
    }
    out.line(format_args!("{head}{:>11}", "committed"));
    for i in chosen(w, top) {
        let mut line = format!("{:>10}{:>11}", Ns(i.at_ns).to_string(), Bytes(i.rss_bytes).to_string());
        for p in RssPart::ALL {
            let _ = write!(line, "{:>11}", Bytes(i.part(p)).to_string());
        }
        let committed = i.committed_bytes.map_or("?".to_owned(), |b| Bytes(b).to_string());
        let mark = if Some(*i) == w.max { "  <- largest" } else { "" };
        out.line(format_args!("{line}{committed:>11}{mark}"));
    }
    if !w.mapped_by.is_empty() {
        out.line(format_args!(
            "\n{:>10}{:>8}  mapped then by (1 MiB and more at a time, touched or not)",
            "bytes", "pieces"
        ));
        for m in w.mapped_by.iter().take(top) {
            out.line(format_args!("{:>10}{:>8}  {}", Bytes(m.bytes), Count(m.pieces), table_name(&m.name)));
        }
        out.rest(w.mapped_by.len(), top);
    }
}

/// About `n` instants: the first, the last, the largest, and others at equal distances.
fn chosen(w: &WhyRss, n: usize) -> impl Iterator<Item = &RssInstant> {
    let step = w.instants.len().div_ceil(n.max(1)).max(1);
    let last = w.instants.len().saturating_sub(1);
    w.instants
        .iter()
        .enumerate()
        .filter(move |(i, x)| i % step == 0 || *i == last || Some(**x) == w.max)
        .map(|(_, x)| x)
}

/// Colours of the parts, in their order: told apart also by those who see few colours.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#999999", "#56b4e9", "#f0e442", "#cc79a7", "#444444"];

/// The parts as stacked areas.
fn svg(name: &str, w: &WhyRss) -> String {
    const W: f64 = 960.0;
    const H: f64 = 420.0;
    const LEFT: f64 = 80.0;
    const TOP: f64 = 40.0;
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 330.0;
    let most = w.max.map_or(1, |m| m.rss_bytes).max(1) as f64;
    let long = w.duration_ns.max(1) as f64;
    let x = |ns: u64| LEFT + (ns as f64 / long).min(1.0) * WIDTH;
    let y = |bytes: u64| TOP + HEIGHT - bytes as f64 / most * HEIGHT;
    let mut s = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {W} {H}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{W}\" height=\"{H}\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}: resident set by part</text>\n",
        escaped(name)
    );
    // Writing to a string cannot fail.
    let mut below = vec![0u64; w.instants.len()];
    for (i, p) in RssPart::ALL.into_iter().enumerate() {
        let (mut up, mut down) = (String::new(), Vec::new());
        for (instant, base) in w.instants.iter().zip(&mut below) {
            down.push(format!("{:.1},{:.1}", x(instant.at_ns), y(*base)));
            *base += instant.part(p);
            let _ = write!(up, "{:.1},{:.1} ", x(instant.at_ns), y(*base));
        }
        down.reverse();
        let colour = COLOURS[i];
        let title = p.name();
        let _ = writeln!(
            s,
            "<polygon points=\"{up}{}\" fill=\"{colour}\"><title>{title}</title></polygon>",
            down.join(" ")
        );
        let at = TOP + i as f64 * 20.0;
        let _ = writeln!(
            s,
            "<rect x=\"{bx}\" y=\"{at}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{tx}\" y=\"{ty}\">{title}: {}</text>",
            Bytes(w.max.map_or(0, |m| m.part(p))),
            bx = LEFT + WIDTH + 12.0,
            tx = LEFT + WIDTH + 30.0,
            ty = at + 11.0
        );
    }
    for i in 0..=4u64 {
        let (bytes, ns) = ((most * i as f64 / 4.0) as u64, (long * i as f64 / 4.0) as u64);
        let _ = writeln!(
            s,
            "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#0002\"/><text x=\"{tx}\" y=\"{ty:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{bx:.1}\" y=\"{by}\" text-anchor=\"middle\">{}</text>",
            Bytes(bytes),
            Ns(ns),
            y = y(bytes),
            tx = LEFT - 6.0,
            ty = y(bytes) + 4.0,
            bx = x(ns),
            by = TOP + HEIGHT + 18.0
        );
    }
    s.push_str("</svg>\n");
    s
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
