//! From events to answers.
//!
//! Each answer reads a trace once, from the first event to the last, and keeps sums, not events: memory is bounded by one
//! generation of the trace and by what is different in it (stacks, names, goroutines that exist at one time).
//!
//! [`summary()`] is the page that a person reads first.
//!
//! The machines from which answers are made are public too, for answers of your own: [`States`] follows goroutines through
//! their states, [`Dist`] gathers durations, [`Mmu`] finds the minimum mutator utilization.
//!
//! ```
//! use exectrace::analyze::States;
//! use exectrace::read::{GoState, Interner, Reader};
//!
//! # fn main() -> Result<(), exectrace::read::Error> {
//! # let file: &[u8] = b"go 1.26 trace\0\0\0";
//! // let file = std::fs::File::open("app.trace")?;
//! let mut reader = Reader::new(file)?;
//! let (mut states, mut interner) = (States::new(), Interner::new());
//! let mut waited_ns = 0;
//! while let Some(ev) = reader.next_event()? {
//!     if let Some(span) = states.update(&ev, &mut interner).and_then(|change| change.span) {
//!         if span.state == GoState::Waiting && interner.text(span.reason) == "sync" {
//!             waited_ns += span.ns();
//!         }
//!     }
//! }
//! # assert_eq!(waited_ns, 0);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here writes or prints, and there is no `unsafe`.
#![forbid(unsafe_code)]

// Answers.
mod summary;

pub mod limits;

mod diff;
mod gc_report;
mod gc_simulate;
mod goroutines;
mod heap_report;
mod latency;
mod mmu_curve;
mod profile;
mod regions;
mod tasks;
mod why_rss;

// What they are made of.
mod blocks;
mod gc;
mod heap;
mod live_table;
mod mmu;
mod running;
mod stack_tree;
mod states;
mod tally;
mod times;
mod user;

mod dist;
mod frames;
mod units;

pub use diff::{DIFF_SCHEMA, Diff, NumberDiff, PlaceDiff, diff};
pub use dist::{Dist, Durations};
pub use frames::FrameInfo;
pub use gc_report::{CycleInfo, GC_SCHEMA, GcReport, gc, gc_watched};
pub use gc_simulate::{
    GC_SIMULATE_SCHEMA, GcCosts, GcOutcome, GcSetting, GcSimulation, gc_simulate, gc_simulate_watched,
};
pub use goroutines::{
    GOROUTINES_LISTED, GOROUTINES_SCHEMA, GoroutineGroup, GoroutineInfo, Goroutines, goroutines, goroutines_watched,
};
pub use heap::{Heap, HeapStretch};
pub use heap_report::{
    HEAP_SCHEMA, HeapAt, HeapBucket, HeapBy, HeapEntry, HeapOptions, HeapReport, HeapSums, heap, heap_watched,
};
pub use latency::{LATENCY_SCHEMA, Latency, LatencyBucket, LatencyCase, latency, latency_watched};
pub use mmu::{Counting, Minimum, Mmu, Work};
pub use mmu_curve::{CurvePoint, MMU_SCHEMA, MmuCurve, mmu, mmu_watched, mmu_windows};
pub use profile::{
    FunctionEntry, PROFILE_SCHEMA, Profile, ProfileEntry, ProfileKind, ProfileOptions, profile, profile_watched,
};
pub use regions::{REGIONS_SCHEMA, RegionName, Regions, regions, regions_watched};
pub use stack_tree::{TreeNode, TreeRoot};
pub use states::{Change, Go, Slot, Span, States};
pub use summary::{
    Alone, Blocked, Collector, Cpu, Events, Finding, Group, KindCount, Losses, MmuPoint, Named, Origin, Parallel,
    SCHEMA, SeriesRange, Severity, Summary, SummaryOptions, Syscall, Threads, Weighted, summary, summary_with,
};
pub use tasks::{TASKS_SCHEMA, TaskInfo, TaskName, Tasks, tasks, tasks_watched};
pub use units::{Bytes, Count, Ns, Percent, ns_of_unit};
pub use why_rss::{MappedBy, RssInstant, RssPart, WHY_RSS_SCHEMA, WhyRss, why_rss, why_rss_watched};

use crate::format::private::meta;
use crate::read::{Error, EventRef, Private, Reader, Time};
use serde::{Deserialize, Serialize};

/// The reason with which Go stops a goroutine for ever: it is no wait that would end.
const FOREVER: &str = "forever";

/// Why a trace could not be read to its end, beside an answer about its whole part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Place and reason.
    pub message: String,
    /// How many bytes were whole.
    pub whole_bytes: u64,
}

impl Damage {
    fn of(e: &Error) -> Damage {
        Damage { message: e.to_string(), whole_bytes: e.whole_bytes() }
    }
}

/// The moment of a `Sync` in nanoseconds since 1970, if its generation tells the time of the wall: in a clock snapshot, or as
/// our tracer tells it in traces whose version has none.
fn wall_clock_ns(ev: &EventRef<'_>) -> Option<i64> {
    let (wall, at) = match ev.sync()?.clock {
        Some(c) => (c.wall_sec.saturating_mul(1_000_000_000).saturating_add(c.wall_nsec.into()), c.trace),
        None => ev.generation().sections().flatten().find_map(|s| {
            let Private::Meta(pairs) = s.content else { return None };
            let number = |key| pairs.iter().find(|(k, _)| *k == key).and_then(|(_, v)| v.parse::<i64>().ok());
            Some((number(meta::WALL_NS)?, Time(number(meta::TRACE_NS)?)))
        })?,
    };
    Some(wall.saturating_sub(at.since(ev.time)))
}

/// Whether a generation was written by this crate's tracer.
fn is_native(g: &crate::read::Generation) -> bool {
    g.sections().flatten().any(|s| match s.content {
        Private::Meta(pairs) => pairs.iter().any(|&(k, v)| k == meta::WRITER && is_our_writer(v)),
        _ => false,
    })
}

/// How much CPU time a sample stands for, as our tracer tells it.
fn sample_period_ns(g: &crate::read::Generation) -> Option<u64> {
    g.sections().flatten().find_map(|s| {
        let Private::Meta(pairs) = s.content else { return None };
        pairs.iter().find(|(k, _)| *k == meta::SAMPLE_PERIOD)?.1.parse().ok()
    })
}

fn is_our_writer(writer: &str) -> bool {
    writer.starts_with("exectrace")
}

/// Hands each event of a trace to `each`, and calls `tick` between blocks of them.
fn each_event(
    reader: &mut Reader<'_>,
    tick: &mut dyn FnMut(),
    mut each: impl FnMut(EventRef<'_>),
) -> Result<(), Error> {
    while let Some(block) = reader.next_block()? {
        for ev in block.iter() {
            each(ev);
        }
        tick();
    }
    Ok(())
}
