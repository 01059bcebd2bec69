//! The summary as a page for people.
//!
//! Sections without content are left out. Tables have one line for an entry, the worst first, and say how much they leave
//! out.

use super::{Blocked, Collector, Cpu, Group, Named, SeriesRange, Severity, Summary};
use crate::analyze::dist::Durations;
use crate::analyze::frames::short_func;
use crate::analyze::heap::Heap;
use crate::analyze::units::{Bytes, Count, Ns, Percent};
use crate::format::private::series;
use std::fmt::{self, Display, Formatter};

/// Lines of a table on the page; JSON has more.
const LINES: usize = 6;
/// The width of the name column.
const NAME: usize = 30;
/// Columns of the picture of the heap.
const PICTURE: usize = 64;

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        if let Some(heap) = &self.heap {
            heap_lines(f, heap)?;
        }
        // The parts of the heap, if there are several. The others are for `heap why-rss`.
        let is_gc = |s: &&SeriesRange| s.name.starts_with(series::GC_PREFIX);
        let parts = self.series.iter().filter(|s| is_gc(s) || s.name == series::NATIVE_HEAP);
        for s in parts.filter(|_| self.series.iter().any(|s| is_gc(&s))) {
            let v = |v: i64| Value(&s.name, v);
            writeln!(f, "{:11}{}: start {}, max {}, end {}", "", s.name, v(s.start), v(s.max), v(s.end))?;
        }
        if let Some(gc) = &self.gc {
            collector(f, gc)?;
        }
        self.findings_lines(f)?;
        self.tables(f)
    }
}

/// A value of a series, in the unit with which the name ends.
struct Value<'a>(&'a str, i64);

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.1) {
            Ok(v) if self.0.ends_with("bytes") => Bytes(v).fmt(f),
            Ok(v) if self.0.ends_with("_ns") => Ns(v).fmt(f),
            _ => self.1.fmt(f),
        }
    }
}

impl Summary {
    fn head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let t = &self.trace;
        write!(f, "Trace      {}, {} of a ", Ns(t.duration_ns), Bytes(t.bytes))?;
        match &t.writer {
            Some(w) => write!(f, "native program ({w}, ")?,
            None => write!(f, "Go program (")?,
        }
        write!(f, "format {}", t.format)?;
        if let Some(pid) = t.pid {
            write!(f, ", pid {pid}")?;
        }
        writeln!(f, ")")?;
        let generations = plural(t.generations, "generation");
        writeln!(f, "Events     {} in {generations}; {}", Count(self.events.total), self.lost())?;
        let th = &self.threads;
        write!(f, "Threads    {}, ", plural(th.threads, "thread"))?;
        if !t.is_native() {
            // In a native trace each thread has one of its own.
            write!(f, "{}, ", plural(th.procs, "processor"))?;
        }
        writeln!(
            f,
            "{} ({} from before, {} ended, at most {} at a time)",
            plural(th.goroutines, "goroutine"),
            Count(th.from_before),
            Count(th.ended),
            Count(th.max)
        )?;
        let c = &self.concurrency;
        let share = |ns: u64| Percent(ns as f64 / t.duration_ns.max(1) as f64);
        writeln!(
            f,
            "Running    {:.2} on average, at most {}; none {}, exactly one {} of the time; {:.2} more could run",
            c.running_mean,
            c.running_max,
            share(c.none_ns),
            share(c.one_ns),
            c.runnable_mean
        )
    }

    fn lost(&self) -> String {
        let l = &self.losses;
        let mut parts = Vec::new();
        if l.events + l.samples > 0 {
            parts.push(format!("{} and {} lost", plural(l.events, "event"), plural(l.samples, "sample")));
        }
        if l.damage.is_some() {
            parts.push("not read to its end".to_owned());
        }
        if parts.is_empty() { "nothing lost".to_owned() } else { parts.join(", ") }
    }

    fn findings_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return writeln!(f, "\nFindings   none");
        }
        writeln!(f, "\nFindings")?;
        for x in &self.findings {
            let mark = match x.severity {
                Severity::Serious => "!!",
                Severity::Warning => " !",
                Severity::Note => " -",
            };
            writeln!(f, "  {mark} {} [{}]", x.text, x.rule)?;
        }
        Ok(())
    }

    fn tables(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let reasons: Vec<_> = self.blocking.iter().filter(|n| !is_idle(&n.name)).map(row).collect();
        table(f, "Waiting by reason", reasons.into_iter())?;
        let places: Vec<_> = self.blocking_stacks.iter().filter(|b| !is_idle(&b.reason)).collect();
        // What was cut off the list has the least time: hardly the idle ones.
        let idle = self.blocking_stacks.len() - places.len();
        blocked(f, &places, (self.blocking_stacks_len as usize).saturating_sub(idle))?;
        table(f, "System calls", self.syscalls.iter().map(|s| (s.name.as_str(), &s.durations)))?;
        if self.scheduling.count > 0 {
            table(f, "Scheduling", [("could run, not yet running", &self.scheduling)].into_iter())?;
        }
        cpu_stacks(f, &self.cpu)?;
        let open = self.tasks_begun.saturating_sub(self.tasks_ended);
        let tasks = if open > 0 { format!("Tasks ({} not ended)", Count(open)) } else { "Tasks".to_owned() };
        table(f, &tasks, self.tasks.iter().map(row))?;
        table(f, "Regions", self.regions.iter().map(row))?;
        groups(f, &self.groups, self.groups_len as usize)
    }
}

/// Whether goroutines of the runtime wait so while they have nothing to do. That is not the program's waiting.
fn is_idle(reason: &str) -> bool {
    matches!(reason, "system goroutine wait" | "GC background sweeper wait" | "GC worker (idle)")
}

fn row(n: &Named) -> (&str, &Durations) {
    (&n.name, &n.durations)
}

fn heap_lines(f: &mut Formatter<'_>, heap: &Heap) -> fmt::Result {
    let sign = if heap.growth_bytes < 0 { '-' } else { '+' };
    write!(
        f,
        "Heap       start {}, peak {} at {}, end {} ({sign}{})",
        Bytes(heap.start_bytes),
        Bytes(heap.peak_bytes),
        Ns(heap.peak_at_ns),
        Bytes(heap.end_bytes),
        Bytes(heap.growth_bytes.unsigned_abs())
    )?;
    if let Some(goal) = heap.goal_bytes {
        write!(f, ", goal {}", Bytes(goal))?;
    }
    writeln!(f)?;
    let tops = heap.ceiling(PICTURE.min(heap.curve.len()));
    if tops.len() >= 8 {
        writeln!(f, "{:11}{} up to {}", "", bars(&tops), Bytes(heap.peak_bytes))?;
    }
    Ok(())
}

/// Values as a row of bars, the largest a full one.
fn bars(values: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let max = values.iter().copied().max().unwrap_or(0).max(1);
    values.iter().map(|&v| BARS[((v as u128 * 8 / (max as u128 + 1)) as usize).min(7)]).collect()
}

fn collector(f: &mut Formatter<'_>, gc: &Collector) -> fmt::Result {
    let m = &gc.marking;
    write!(f, "Collector  {}", plural(gc.cycles, "cycle"))?;
    if m.count > 0 {
        write!(f, ", marking {} each (p99 {}, max {})", Ns(m.mean_ns), Ns(m.p99_ns), Ns(m.max_ns))?;
    }
    writeln!(f)?;
    if gc.pauses.count > 0 {
        let p = &gc.pauses;
        writeln!(
            f,
            "{:11}{}, {} in all: p50 {}, p90 {}, p99 {}, max {} at {}",
            "",
            plural(p.count, "pause"),
            Ns(p.total_ns),
            Ns(p.p50_ns),
            Ns(p.p90_ns),
            Ns(p.p99_ns),
            Ns(p.max_ns),
            Ns(gc.longest_pause_at_ns)
        )?;
    }
    if gc.assists.count + gc.sweeps.count > 0 {
        writeln!(
            f,
            "{:11}{} took {} of running time ({}); {} took {} and gave back {} of {}",
            "",
            plural(gc.assists.count, "assist"),
            Ns(gc.assist_running_ns),
            Percent(gc.assist_share),
            plural(gc.sweeps.count, "sweep"),
            Ns(gc.sweeps.total_ns),
            Bytes(gc.reclaimed_bytes),
            Bytes(gc.swept_bytes)
        )?;
    }
    if !gc.mmu.is_empty() {
        write!(f, "{:11}mutator utilization {} on average; at least", "", Percent(gc.mutator_utilization))?;
        for (i, p) in gc.mmu.iter().enumerate() {
            let sep = if i == 0 { "" } else { "," };
            write!(f, "{sep} {} in any {}", Percent(p.utilization), Ns(p.window_ns))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

/// Durations by name. Nothing if there is no row.
fn table<'a>(
    f: &mut Formatter<'_>,
    title: &str,
    rows: impl ExactSizeIterator<Item = (&'a str, &'a Durations)>,
) -> fmt::Result {
    let n = rows.len();
    if n == 0 {
        return Ok(());
    }
    write!(f, "\n{title:w$}", w = NAME + 2)?;
    for head in ["count", "total", "mean", "p50", "p90", "p99", "max"] {
        write!(f, "{head:>10}")?;
    }
    writeln!(f)?;
    for (name, d) in rows.take(LINES) {
        let name = if name.is_empty() { "(since before the trace)" } else { name };
        write!(f, "  {:NAME$}{:>10}", clip(&short_func(name), NAME), Count(d.count))?;
        for ns in [d.total_ns, d.mean_ns, d.p50_ns, d.p90_ns, d.p99_ns, d.max_ns] {
            write!(f, "{:>10}", Ns(ns))?;
        }
        writeln!(f)?;
    }
    more(f, n)
}

/// Places where goroutines waited; `all` is how many there are.
fn blocked(f: &mut Formatter<'_>, list: &[&Blocked], all: usize) -> fmt::Result {
    if list.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{:w$}{:>10}{:>10}{:>10}  where", "Waiting by place", "count", "total", "max", w = NAME + 2)?;
    for b in list.iter().take(LINES) {
        let reason = if b.reason.is_empty() { "(since before the trace)" } else { &b.reason };
        writeln!(
            f,
            "  {:NAME$}{:>10}{:>10}{:>10}  {}",
            clip(reason, NAME),
            Count(b.count),
            Ns(b.total_ns),
            Ns(b.max_ns),
            clip(&b.place, 100)
        )?;
    }
    more(f, all.max(list.len()))
}

fn cpu_stacks(f: &mut Formatter<'_>, cpu: &Cpu) -> fmt::Result {
    if cpu.stacks.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nCPU samples ({})", Count(cpu.samples))?;
    for w in cpu.stacks.iter().take(LINES) {
        writeln!(
            f,
            "  {:>8}{:>8}  {}",
            Count(w.count),
            Percent(w.count as f64 / cpu.samples.max(1) as f64),
            clip(&w.place, 130)
        )?;
    }
    more(f, cpu.stacks.len().max(cpu.stacks_len as usize))
}

/// Goroutines by name; `all` is how many names there are.
fn groups(f: &mut Formatter<'_>, list: &[Group], all: usize) -> fmt::Result {
    if list.is_empty() {
        return Ok(());
    }
    let title = "Goroutines by name";
    write!(f, "\n{title:w$}", w = NAME + 2)?;
    for head in ["count", "running", "waiting", "in calls", "runnable"] {
        write!(f, "{head:>10}")?;
    }
    writeln!(f)?;
    for g in list.iter().take(LINES) {
        let name = if g.name.is_empty() { "(no stack seen)".to_owned() } else { short_func(&g.name) };
        write!(f, "  {:NAME$}{:>10}", clip(&name, NAME), Count(g.goroutines))?;
        for ns in [g.running_ns, g.waiting_ns, g.syscall_ns, g.runnable_ns] {
            write!(f, "{:>10}", Ns(ns))?;
        }
        writeln!(f)?;
    }
    more(f, all.max(list.len()))
}

/// Says how many of `n` entries a table has left out.
fn more(f: &mut Formatter<'_>, n: usize) -> fmt::Result {
    if n > LINES { writeln!(f, "  ... and {} more", n - LINES) } else { Ok(()) }
}

/// The first characters of a text, with a mark if that is not all.
fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(most.saturating_sub(1)).collect();
    out.push('…');
    out
}

fn plural(n: u64, what: &str) -> String {
    format!("{} {what}{}", Count(n), if n == 1 { "" } else { "s" })
}
