//! One page about a whole trace, gathered in one pass.
//!
//! [`summary`] reads a trace to its end and says what is in it: as a value, as JSON (by `serde`; the schema is named in
//! [`Summary::schema`]), and as text for people (by `Display`).
//!
//! A trace that is cut off or damaged has a summary of its whole part, and [`Losses::damage`] says what is missing.

mod collect;
mod findings;
mod text;

use super::Damage;
use super::dist::Durations;
use super::frames::FrameInfo;
use super::heap::Heap;
use crate::read::Reader;
use serde::{Deserialize, Serialize};

pub use findings::{Finding, Severity};

/// The schema of [`Summary`] as JSON. Members may be added under the same number; other changes raise it.
pub const SCHEMA: &str = "exectrace.summary/1";

/// How many entries each list of stacks or groups has, unless told otherwise.
const TOP: usize = 20;

/// What is in a trace. Times are nanoseconds; those that end in `at_ns` are counted from the beginning of the trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: String,
    /// Where the trace is from.
    pub trace: Origin,
    /// What is not in it.
    pub losses: Losses,
    /// How many events, by kind.
    pub events: Events,
    /// Threads, processors and goroutines.
    pub threads: Threads,
    /// How much ran at the same time.
    pub concurrency: Parallel,
    /// The heap; `None` if no size was told.
    pub heap: Option<Heap>,
    /// Series of a native trace: the parts of the heap, the resident set and the like.
    pub series: Vec<SeriesRange>,
    /// The collector; `None` if there is no sign of one.
    pub gc: Option<Collector>,
    /// System calls by name, the greatest sum first.
    pub syscalls: Vec<Syscall>,
    /// Why goroutines waited, the greatest sum first.
    pub blocking: Vec<Named>,
    /// Where they waited, the greatest sum first.
    pub blocking_stacks: Vec<Blocked>,
    /// How many such places there are; the list may have fewer.
    #[serde(default)]
    pub blocking_stacks_len: u64,
    /// How long goroutines that could run waited until they ran, as [`Latency`](crate::analyze::Latency) has it.
    pub scheduling: Durations,
    /// CPU samples.
    pub cpu: Cpu,
    /// Tasks by name.
    pub tasks: Vec<Named>,
    /// Tasks that begin in the trace, and that end in it.
    pub tasks_begun: u64,
    /// See `tasks_begun`.
    pub tasks_ended: u64,
    /// Regions by name.
    pub regions: Vec<Named>,
    /// Log messages.
    pub logs: u64,
    /// Goroutines by name, the longest running first.
    pub groups: Vec<Group>,
    /// How many such names there are; the list may have fewer.
    #[serde(default)]
    pub groups_len: u64,
    /// What looks wrong, the worst first.
    pub findings: Vec<Finding>,
}

/// Where a trace is from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// The version in the header: `go 1.23`.
    pub format: String,
    /// What wrote it, if it is no Go program: `exectrace 0.1.0`.
    pub writer: Option<String>,
    /// The process, if told.
    pub pid: Option<u64>,
    /// When it begins, in nanoseconds since 1970, if told.
    pub begin_unix_ns: Option<i64>,
    /// From the first event to the last.
    pub duration_ns: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Generations read whole.
    pub generations: u64,
}

impl Origin {
    /// Whether a native program wrote it by way of this crate.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.writer.as_deref().is_some_and(super::is_our_writer)
    }
}

/// What is not in a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Losses {
    /// Events that the tracer could not record.
    pub events: u64,
    /// CPU samples that it could not record.
    pub samples: u64,
    /// Why the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// How many events there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Events {
    /// All.
    pub total: u64,
    /// By kind, the most frequent first.
    pub by_kind: Vec<KindCount>,
}

/// A kind of event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCount {
    /// Its name on the wire, such as `GoBlock`.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// Threads, processors and goroutines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Threads {
    /// Threads that wrote events.
    pub threads: u64,
    /// The most processors told at a time (`GOMAXPROCS`; in a native trace one for each thread).
    pub procs: u64,
    /// Goroutines seen.
    pub goroutines: u64,
    /// Of those, the ones that were there already when the trace began.
    pub from_before: u64,
    /// Goroutines that ended in the trace.
    pub ended: u64,
    /// The most that existed at a time.
    pub max: u64,
}

/// How much ran at the same time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parallel {
    /// The mean number of goroutines that ran.
    pub running_mean: f64,
    /// The most that ran at a time.
    pub running_max: u64,
    /// The mean number of goroutines that could run and had no processor.
    pub runnable_mean: f64,
    /// How long none ran.
    pub none_ns: u64,
    /// How long exactly one ran.
    pub one_ns: u64,
    /// The longest time that one ran with no other beside it.
    pub longest_alone: Option<Alone>,
}

/// A goroutine that runs with no other beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Alone {
    /// Which.
    pub goroutine: u64,
    /// Its name.
    pub name: String,
    /// Since when.
    pub at_ns: u64,
    /// How long.
    pub ns: u64,
}

/// The values of a series of a native trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SeriesRange {
    /// Its name, which ends in the unit.
    pub name: String,
    /// The first value.
    pub start: i64,
    /// The smallest.
    pub min: i64,
    /// The largest.
    pub max: i64,
    /// When the largest was reached.
    pub max_at_ns: u64,
    /// The last value.
    pub end: i64,
    /// How many values.
    pub samples: u64,
}

/// What the collector did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Collector {
    /// Cycles that begin in the trace or are under way when it begins.
    pub cycles: u64,
    /// How long the cycles marked that end in the trace.
    pub marking: Durations,
    /// Pauses for the collector: the world is stopped.
    pub pauses: Durations,
    /// When the longest began.
    pub longest_pause_at_ns: u64,
    /// All stops of the world by reason, those for other reasons too.
    pub stops: Vec<Named>,
    /// Mark assists, from begin to end.
    pub assists: Durations,
    /// Of that time, what the goroutines spent running: the work that they did for the collector.
    pub assist_running_ns: u64,
    /// The share of that in all running time of goroutines, 0 to 1.
    pub assist_share: f64,
    /// Where goroutines had to assist, the greatest running time first.
    pub assist_stacks: Vec<Weighted>,
    /// Sweeps.
    pub sweeps: Durations,
    /// Bytes that they looked at.
    pub swept_bytes: u64,
    /// Bytes that they gave back.
    pub reclaimed_bytes: u64,
    /// The minimum mutator utilization in windows of 1, 10 and 100 ms, or as asked for. Empty if the number of processors was never told.
    pub mmu: Vec<MmuPoint>,
    /// The mean mutator utilization over the whole trace, 0 to 1.
    pub mutator_utilization: f64,
}

/// The minimum mutator utilization for a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmuPoint {
    /// The length of the window.
    pub window_ns: u64,
    /// The smallest mean utilization in any window of that length, 0 to 1.
    pub utilization: f64,
    /// When the worst window begins.
    pub at_ns: u64,
}

/// Durations under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Named {
    /// The name.
    pub name: String,
    /// The durations.
    #[serde(flatten)]
    pub durations: Durations,
}

/// A system call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Syscall {
    /// Its name.
    pub name: String,
    /// How long the calls took.
    #[serde(flatten)]
    pub durations: Durations,
    /// Of the sum, the time during which the caller had no processor: the call was a long one.
    pub without_proc_ns: u64,
}

/// A place where goroutines waited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Blocked {
    /// The reason.
    pub reason: String,
    /// How many times.
    pub count: u64,
    /// How long together.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// When that began.
    pub max_at_ns: u64,
    /// The stack in one line.
    pub place: String,
    /// The stack, leaf first.
    pub stack: Vec<FrameInfo>,
}

/// A stack with a count and a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Weighted {
    /// How many times.
    pub count: u64,
    /// How long together; 0 if only counted.
    pub total_ns: u64,
    /// The stack in one line.
    pub place: String,
    /// The stack, leaf first.
    pub stack: Vec<FrameInfo>,
}

/// CPU samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cpu {
    /// All samples.
    pub samples: u64,
    /// By stack, the most first.
    pub stacks: Vec<Weighted>,
    /// How many different stacks there are; the list may have fewer.
    #[serde(default)]
    pub stacks_len: u64,
}

/// Goroutines of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Group {
    /// The name: a thread's name in a native trace, the function with which it began in Go.
    pub name: String,
    /// How many.
    pub goroutines: u64,
    /// How long they ran together.
    pub running_ns: u64,
    /// How long they waited.
    pub waiting_ns: u64,
    /// How long they were in system calls.
    pub syscall_ns: u64,
    /// How long they could run and had no processor.
    pub runnable_ns: u64,
}

/// Reads the rest of a trace and says what is in it.
///
/// It asks for blocks of events, so a [`Reader::threaded`] pays. Memory is what the reader needs, plus what is
/// different: stacks, names, goroutines that exist at one time.
///
/// ```
/// use exectrace::{analyze, read::Reader};
///
/// # fn main() -> Result<(), exectrace::read::Error> {
/// # let file: &[u8] = b"go 1.26 trace\0\0\0";
/// // let file = std::fs::File::open("app.trace")?;
/// let summary = analyze::summary(&mut Reader::new(file)?);
/// println!("{summary}");
/// for finding in &summary.findings {
///     eprintln!("{}", finding.text);
/// }
/// # assert!(summary.losses.damage.is_none());
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn summary(reader: &mut Reader<'_>) -> Summary {
    summary_with(reader, &SummaryOptions::default(), &mut || {})
}

/// What a summary is asked for beyond what is always in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SummaryOptions {
    /// The windows of [`Collector::mmu`], in nanoseconds. By default 1, 10 and 100 ms.
    pub mmu_windows_ns: Vec<u64>,
    /// How many entries each list of stacks or groups of goroutines has at most, beside further stacks of the same places. By
    /// default 20. Lists of names (reasons,
    /// system calls, tasks, regions) are whole: they have at most 1024 names, and one entry for all others.
    pub top: usize,
}

impl Default for SummaryOptions {
    fn default() -> Self {
        SummaryOptions { mmu_windows_ns: vec![1_000_000, 10_000_000, 100_000_000], top: TOP }
    }
}

/// Like [`summary`], with options; calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn summary_with(reader: &mut Reader<'_>, options: &SummaryOptions, tick: &mut dyn FnMut()) -> Summary {
    let mut c = collect::Collect::new(options);
    let end = super::each_event(reader, tick, |ev| c.event(ev));
    let mut s = c.finish(reader, end.err());
    s.findings = findings::find(&s);
    s
}
