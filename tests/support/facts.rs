//! What a trace says, as Go's own reader and summarizer understand it, in a form that tests can assert on.
//!
//! The judge program writes it (`tests/go/judge/facts.go`). Times are nanoseconds since the first event. A stack is a list of
//! `function file:line`, leaf first. An id of 0 is "none".

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// All there is to know about a trace.
#[derive(Debug, Deserialize)]
pub struct Facts {
    /// `go 1.23 trace`.
    pub header: String,
    /// Size of the file.
    pub bytes: u64,
    /// Events that the ordered reader gives, its own sync events among them.
    pub events: u64,
    /// Generations.
    pub generations: u64,
    /// From the first event to the last.
    pub duration_ns: u64,
    /// Events by the reader's kind: `StateTransition`, `Metric`, `RangeBegin`, `Log` ...
    pub kinds: BTreeMap<String, u64>,
    /// Processors that were seen.
    pub procs: u64,
    /// Threads that were seen.
    pub threads: u64,
    /// Changes of state, as `Go Running->Waiting` or `Proc Idle->Running`.
    pub transitions: BTreeMap<String, u64>,
    /// Goroutines by id.
    pub goroutines: Vec<Goroutine>,
    /// Creations in order.
    pub creations: Vec<Creation>,
    /// Stays off the processor by goroutine, state, reason and stack; the longest in sum first.
    pub waits: Vec<Wait>,
    /// Who woke whom, the most frequent first.
    pub wakes: Vec<Wake>,
    /// Series such as `/memory/classes/heap/objects:bytes`.
    pub metrics: BTreeMap<String, Metric>,
    /// Spans such as GC phases, in order of their begin.
    pub ranges: Vec<Range>,
    /// Tasks by id. Task 0 is what belongs to no task.
    pub tasks: Vec<Task>,
    /// Regions by goroutine and begin.
    pub regions: Vec<Region>,
    /// Log messages in order.
    pub logs: Vec<Log>,
    /// Labels in order.
    pub labels: Vec<Label>,
    /// CPU samples by goroutine and stack, the most frequent first.
    pub samples: Vec<Sample>,
}

/// A goroutine, which for us is a thread, and where its time went.
#[derive(Debug, Deserialize)]
pub struct Goroutine {
    pub id: u64,
    pub name: String,
    pub created_ns: i64,
    /// `None`: it lived on when the trace ended.
    pub end_ns: Option<i64>,
    pub total_ns: i64,
    pub exec_ns: i64,
    pub sched_wait_ns: i64,
    pub syscall_ns: i64,
    pub syscall_block_ns: i64,
    /// Time blocked, by reason.
    pub block_ns: BTreeMap<String, i64>,
    /// Time in ranges such as mark assist, by name.
    pub range_ns: BTreeMap<String, i64>,
}

/// A goroutine's creation.
#[derive(Debug, Deserialize)]
pub struct Creation {
    pub id: u64,
    pub creator: u64,
    pub time_ns: i64,
    /// The creator's.
    pub stack: Vec<String>,
}

/// The stays of one goroutine in one state, for one reason, at one stack.
#[derive(Debug, Deserialize)]
pub struct Wait {
    pub goroutine: u64,
    /// `Waiting`, `Runnable` (it yielded) or `Syscall`.
    pub state: String,
    pub reason: String,
    pub stack: Vec<String>,
    /// Stays that ended.
    pub count: u64,
    pub total_ns: i64,
    pub max_ns: i64,
}

/// How often one goroutine made another runnable.
#[derive(Debug, Deserialize)]
pub struct Wake {
    pub from: u64,
    pub to: u64,
    /// The waker's.
    pub stack: Vec<String>,
    pub count: u64,
}

/// A series.
#[derive(Debug, Deserialize)]
pub struct Metric {
    pub count: u64,
    pub min: u64,
    pub max: u64,
    pub last: u64,
    /// Time and value.
    pub points: Vec<(u64, u64)>,
}

/// A span. Begin or end is missing where the trace does not hold it.
#[derive(Debug, Deserialize)]
pub struct Range {
    pub name: String,
    /// `Goroutine`, `Proc` or `None` (the whole program).
    pub scope: String,
    pub id: u64,
    pub begin_ns: Option<i64>,
    pub end_ns: Option<i64>,
    pub stack: Vec<String>,
    /// What its end says, such as `bytes swept`.
    pub values: BTreeMap<String, u64>,
}

/// A task.
#[derive(Debug, Deserialize)]
pub struct Task {
    pub id: u64,
    pub parent: u64,
    pub name: String,
    pub begin_ns: Option<i64>,
    pub end_ns: Option<i64>,
    pub goroutines: Vec<u64>,
}

/// A region. The tool adds one without a name for each goroutine that is made within a task.
#[derive(Debug, Deserialize)]
pub struct Region {
    pub goroutine: u64,
    pub task: u64,
    pub name: String,
    pub begin_ns: Option<i64>,
    pub end_ns: Option<i64>,
    pub stack: Vec<String>,
}

/// A log message.
#[derive(Debug, Deserialize)]
pub struct Log {
    pub time_ns: i64,
    pub goroutine: u64,
    pub task: u64,
    pub category: String,
    pub message: String,
    pub stack: Vec<String>,
}

/// A label given to a goroutine.
#[derive(Debug, Deserialize)]
pub struct Label {
    pub time_ns: i64,
    pub goroutine: u64,
    pub label: String,
}

/// CPU samples of one stack.
#[derive(Debug, Deserialize)]
pub struct Sample {
    pub goroutine: u64,
    pub stack: Vec<String>,
    pub count: u64,
}

impl Facts {
    /// How many events of this kind there are.
    pub fn kind(&self, name: &str) -> u64 {
        self.kinds.get(name).copied().unwrap_or(0)
    }

    /// The names of all goroutines.
    pub fn names(&self) -> BTreeSet<&str> {
        self.goroutines.iter().map(|g| g.name.as_str()).collect()
    }

    /// The goroutines of that name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Goroutine> {
        self.goroutines.iter().filter(move |g| g.name == name)
    }

    /// The name of a goroutine; empty for "none" and for unknown ones.
    pub fn name_of(&self, id: u64) -> &str {
        self.goroutines.iter().find(|g| g.id == id).map_or("", |g| &g.name)
    }

    /// All reasons for which goroutines waited.
    pub fn reasons(&self) -> BTreeSet<&str> {
        self.waits.iter().filter(|w| w.state == "Waiting").map(|w| w.reason.as_str()).collect()
    }

    /// The waits for `reason` with `part` in a frame of the stack.
    pub fn waits_at<'a>(&'a self, reason: &'a str, part: &'a str) -> impl Iterator<Item = &'a Wait> {
        self.waits.iter().filter(move |w| w.state == "Waiting" && w.reason == reason && has_frame(&w.stack, part))
    }

    /// The system calls with `part` in a frame of the stack.
    pub fn syscalls_at<'a>(&'a self, part: &'a str) -> impl Iterator<Item = &'a Wait> {
        self.waits.iter().filter(move |w| w.state == "Syscall" && has_frame(&w.stack, part))
    }

    /// How often a goroutine named `from` woke one named `to`.
    pub fn wakes_between(&self, from: &str, to: &str) -> u64 {
        let fits = |w: &&Wake| self.name_of(w.from) == from && self.name_of(w.to) == to && w.from != w.to;
        self.wakes.iter().filter(fits).map(|w| w.count).sum()
    }

    /// The ranges of that name.
    pub fn ranges_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Range> {
        self.ranges.iter().filter(move |r| r.name == name)
    }

    /// The live heap: the series that `HeapAlloc` events make.
    pub fn heap(&self) -> Option<&Metric> {
        self.metrics.get("/memory/classes/heap/objects:bytes")
    }

    /// The heap goal: the series that `HeapGoal` events make.
    pub fn heap_goal(&self) -> Option<&Metric> {
        self.metrics.get("/gc/heap/goal:bytes")
    }
}

/// Whether a frame of the stack has `part` in it.
pub fn has_frame(stack: &[String], part: &str) -> bool {
    stack.iter().any(|f| f.contains(part))
}
