//! Rules that look for what is wrong, in the manner of JDK Mission Control: each has a threshold, and says what it saw.
//!
//! Few and right beats many: a rule speaks only where the numbers leave little doubt, and it names its evidence. A finding is
//! computed from the summary alone, so that whoever has the JSON can check it.
//!
//! | rule | speaks when |
//! |---|---|
//! | `damaged` | the trace cannot be read to its end |
//! | `lost-events` | the tracer could not record some events or samples |
//! | `heap-grows` | in at least 2 s the smallest heap of each eighth of the time is above the one before, by half and 4 MiB in all, and the last quarter has a tenth of the growth |
//! | `gc-assist` | mark assists are at least 10 % of all running time |
//! | `gc-pause` | the longest pause for the collector is at least 10 ms |
//! | `gc-share` | in at least three cycles the collector takes at least 25 % of the processors' time |
//! | `lock` | on average at least one goroutine waits for a lock while less than 1.5 run, in a program that can run two |
//! | `alone` | one goroutine runs for at least 1 s and a quarter of the time with none beside it, in a program where others run too |
//! | `starved` | at least as many goroutines as processors wait for a processor on average, and 1 % wait 10 ms or more |
//! | `disk` | at least 100 ms and 10 % of the time is spent in `fsync` and the like |
//! | `thread-churn` | a native program ends at least 100 threads, and 100 a second |
//! | `goroutines-pile-up` | after 1 s there are 1000 goroutines more than at first, ten times as many, and not a tenth of the new ones has ended |

use super::{Blocked, Summary};
use crate::analyze::frames::FrameInfo;
use crate::analyze::units::{Bytes, Count, Ns, Percent};
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know when reading the rest.
    #[default]
    Note,
    /// Costs time or memory.
    Warning,
    /// Probably the main problem.
    Serious,
}

/// Something that looks wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// The name of the rule, which stays.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// A sentence with the evidence.
    pub text: String,
    /// The number on which the rule decided.
    pub value: f64,
    /// The threshold that it met.
    pub threshold: f64,
    /// When, in nanoseconds since the trace began, if it is about a moment.
    pub at_ns: Option<u64>,
    /// Where, leaf first, if it is about a place.
    pub stack: Vec<FrameInfo>,
}

const SECOND: f64 = 1e9;

/// All findings, the worst first.
pub(super) fn find(s: &Summary) -> Vec<Finding> {
    let rules = [
        damaged,
        lost_events,
        heap_grows,
        lock,
        alone,
        gc_assist,
        gc_pause,
        gc_share,
        starved,
        disk,
        thread_churn,
        pile_up,
    ];
    let mut all: Vec<Finding> = rules.iter().filter_map(|rule| rule(s)).collect();
    all.sort_by_key(|f| std::cmp::Reverse(f.severity));
    all
}

fn finding(rule: &str, severity: Severity, value: f64, threshold: f64, text: String) -> Finding {
    Finding { rule: rule.to_owned(), severity, text, value, threshold, at_ns: None, stack: Vec::new() }
}

/// Severe from `threshold` times this on.
fn graded(value: f64, threshold: f64, serious: f64) -> Severity {
    if value >= threshold * serious { Severity::Serious } else { Severity::Warning }
}

fn damaged(s: &Summary) -> Option<Finding> {
    let d = s.losses.damage.as_ref()?;
    let text = format!(
        "The trace cannot be read to its end: {}. All else here is about the {} before.",
        d.message,
        Bytes(d.whole_bytes)
    );
    Some(finding("damaged", Severity::Serious, d.whole_bytes as f64, 0.0, text))
}

fn lost_events(s: &Summary) -> Option<Finding> {
    let (events, samples) = (s.losses.events, s.losses.samples);
    // A sample now and then is lost where two fall together, and changes nothing.
    if events == 0 && samples * 100 < s.cpu.samples.max(1) {
        return None;
    }
    let share = events as f64 / (events + s.events.total).max(1) as f64;
    let mut parts = Vec::new();
    if events > 0 {
        parts.push(format!("{} events ({})", Count(events), Percent(share)));
    }
    if samples > 0 {
        parts.push(format!("{} CPU samples", Count(samples)));
    }
    let text = format!("The tracer could not record {}: sums here are too small by those.", parts.join(" and "));
    let severity = if share >= 0.01 { Severity::Warning } else { Severity::Note };
    Some(finding("lost-events", severity, (events + samples) as f64, 1.0, text))
}

fn heap_grows(s: &Summary) -> Option<Finding> {
    let heap = s.heap.as_ref()?;
    let seconds = s.trace.duration_ns as f64 / SECOND;
    let floor = heap.floor(8);
    let (&first, &last) = (floor.first()?, floor.last()?);
    let growth = last.saturating_sub(first);
    let rises = floor.windows(2).all(|w| w[1] > w[0]);
    let goes_on = (last - floor[5].min(last)) as f64 >= 0.1 * growth as f64;
    let factor = last as f64 / first.max(1) as f64;
    if seconds < 2.0 || !rises || !goes_on || growth < 4 << 20 || factor < 1.5 {
        return None;
    }
    let text = format!(
        "The heap grows without end: its floor rises in each eighth of the trace, from {} to {}, {} a second. \
         Nothing shows that it would stop.",
        Bytes(first),
        Bytes(last),
        Bytes((growth as f64 / seconds / 0.875) as u64)
    );
    Some(finding("heap-grows", graded(factor, 1.5, 2.0), factor, 1.5, text))
}

fn gc_assist(s: &Summary) -> Option<Finding> {
    let gc = s.gc.as_ref()?;
    if gc.assist_share < 0.1 {
        return None;
    }
    let place = gc.assist_stacks.first();
    let mut text = format!(
        "Mark assists eat {} of the program's running time: it allocates faster than the collector marks.",
        Percent(gc.assist_share)
    );
    if let Some(w) = place {
        text.push_str(&format!(
            " The most ({}) are paid at {}.",
            Percent(w.total_ns as f64 / gc.assist_running_ns.max(1) as f64),
            w.place
        ));
    }
    let mut f = finding("gc-assist", graded(gc.assist_share, 0.1, 2.0), gc.assist_share, 0.1, text);
    f.stack = place.map(|w| w.stack.clone()).unwrap_or_default();
    Some(f)
}

fn gc_pause(s: &Summary) -> Option<Finding> {
    let gc = s.gc.as_ref()?;
    let max = gc.pauses.max_ns;
    if max < 10_000_000 {
        return None;
    }
    let text = format!(
        "The collector stops the world for up to {} (at {}; {} pauses, half of them below {}).",
        Ns(max),
        Ns(gc.longest_pause_at_ns),
        Count(gc.pauses.count),
        Ns(gc.pauses.p50_ns)
    );
    let mut f = finding("gc-pause", graded(max as f64, 1e7, 10.0), max as f64, 1e7, text);
    f.at_ns = Some(gc.longest_pause_at_ns);
    Some(f)
}

fn gc_share(s: &Summary) -> Option<Finding> {
    let gc = s.gc.as_ref()?;
    let share = 1.0 - gc.mutator_utilization;
    if gc.cycles < 3 || gc.mmu.is_empty() || share < 0.25 {
        return None;
    }
    let text = format!(
        "The collector takes {} of the processors' time, in {} cycles. A larger heap goal would make them fewer.",
        Percent(share),
        Count(gc.cycles)
    );
    Some(finding("gc-share", graded(share, 0.25, 2.0), share, 0.25, text))
}

/// Whether somebody waits here for a lock that another one holds.
fn is_lock(b: &Blocked) -> bool {
    // Go gives waiting for a WaitGroup the same reason.
    b.reason == "sync" && !b.stack.iter().any(|f| f.func.contains("WaitGroup"))
}

fn lock(s: &Summary) -> Option<Finding> {
    let duration = s.trace.duration_ns.max(1) as f64;
    let waits = || s.blocking_stacks.iter().filter(|b| is_lock(b));
    let all: u64 = waits().map(|b| b.total_ns).sum();
    let worst = waits().next()?;
    let waiters = all as f64 / duration;
    let can_two = s.threads.procs >= 2 && s.threads.max >= 3;
    if waiters < 1.0 || s.concurrency.running_mean >= 1.5 || !can_two || worst.count < 100 {
        return None;
    }
    let share = worst.total_ns as f64 / all as f64;
    let what = if share >= 0.5 { "One lock serialises" } else { "Locks serialise" };
    let text = format!(
        "{what} the program: on average {waiters:.1} goroutines wait and {:.2} run. {} of the waiting is at {} \
         ({} times, up to {}).",
        s.concurrency.running_mean,
        Percent(share),
        worst.place,
        Count(worst.count),
        Ns(worst.max_ns)
    );
    let mut f = finding("lock", graded(waiters, 1.0, 2.0), waiters, 1.0, text);
    f.at_ns = Some(worst.max_at_ns);
    f.stack = worst.stack.clone();
    Some(f)
}

fn alone(s: &Summary) -> Option<Finding> {
    let a = s.concurrency.longest_alone.as_ref()?;
    let share = a.ns as f64 / s.trace.duration_ns.max(1) as f64;
    if a.ns < 1_000_000_000 || share < 0.25 || s.concurrency.running_max < 2 || s.threads.procs < 2 {
        return None;
    }
    let name = if a.name.is_empty() { "A goroutine" } else { &a.name };
    let text = format!(
        "{name} (goroutine {}) runs for {} from {} on with nobody beside it: {} of the trace is serial there.",
        a.goroutine,
        Ns(a.ns),
        Ns(a.at_ns),
        Percent(share)
    );
    let mut f = finding("alone", graded(share, 0.25, 2.0), a.ns as f64, 1e9, text);
    f.at_ns = Some(a.at_ns);
    Some(f)
}

fn starved(s: &Summary) -> Option<Finding> {
    let waiting = s.concurrency.runnable_mean;
    let procs = s.threads.procs.max(1) as f64;
    // Each thread of a native trace has a processor of its own, so that the number says nothing of the machine.
    if s.trace.is_native() || waiting < procs || s.scheduling.p99_ns < 10_000_000 {
        return None;
    }
    let text = format!(
        "Goroutines wait for a processor: on average {waiting:.1} could run and have none of the {}; 1 % wait {} or longer.",
        s.threads.procs,
        Ns(s.scheduling.p99_ns)
    );
    Some(finding("starved", graded(waiting, procs, 4.0), waiting, procs, text))
}

fn disk(s: &Summary) -> Option<Finding> {
    const CALLS: [&str; 6] = ["fsync", "fdatasync", "sync", "syncfs", "msync", "sync_file_range"];
    let of_disk = |name: &str| {
        let call = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
        CALLS.contains(&call.as_str())
    };
    let calls = || s.syscalls.iter().filter(|c| of_disk(&c.name));
    let total: u64 = calls().map(|c| c.durations.total_ns).sum();
    let share = total as f64 / s.trace.duration_ns.max(1) as f64;
    let worst = calls().next()?;
    if total < 100_000_000 || share < 0.1 {
        return None;
    }
    let d = &worst.durations;
    let text = format!(
        "The program waits for the disk: {} in {} calls of {} (half of them {} or longer, up to {}), {} of the trace's time.",
        Ns(d.total_ns),
        Count(d.count),
        worst.name,
        Ns(d.p50_ns),
        Ns(d.max_ns),
        Percent(share)
    );
    Some(finding("disk", graded(share, 0.1, 5.0), share, 0.1, text))
}

fn thread_churn(s: &Summary) -> Option<Finding> {
    let seconds = s.trace.duration_ns.max(1) as f64 / SECOND;
    let rate = s.threads.ended as f64 / seconds;
    if !s.trace.is_native() || s.threads.ended < 100 || rate < 100.0 {
        return None;
    }
    let text = format!(
        "Threads come and go: {} ended in {}, {:.0} a second. Making and joining one costs tens of microseconds; a pool \
         would save that.",
        Count(s.threads.ended),
        Ns(s.trace.duration_ns),
        rate
    );
    Some(finding("thread-churn", Severity::Warning, rate, 100.0, text))
}

fn pile_up(s: &Summary) -> Option<Finding> {
    let t = &s.threads;
    let now = t.goroutines - t.ended.min(t.goroutines);
    let made = t.goroutines - t.from_before.min(t.goroutines);
    let more = now.saturating_sub(t.from_before);
    if s.trace.duration_ns < 1_000_000_000 || more < 1000 || now < 10 * t.from_before || t.ended * 10 >= made {
        return None;
    }
    let most = s.groups.iter().max_by_key(|g| g.goroutines);
    let mut text = format!(
        "Goroutines pile up: {} are there at the end, {} were there at the beginning, and only {} ended.",
        Count(now),
        Count(t.from_before),
        Count(t.ended)
    );
    if let Some(g) = most {
        text.push_str(&format!(" {} of them began as {}.", Count(g.goroutines), g.name));
    }
    Some(finding("goroutines-pile-up", Severity::Warning, more as f64, 1000.0, text))
}
