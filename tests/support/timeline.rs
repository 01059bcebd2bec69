//! What the timeline of the web UI shows: the JSON that the page `/trace` draws.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A timeline, counted and indexed.
#[derive(Debug, Default)]
pub struct Timeline {
    /// The rows, by (section, number): `Proc 0`, `GC`, `Network`, `G1 main` and so on.
    pub lanes: BTreeMap<(u64, u64), String>,
    /// Spans by name, with how often they occur.
    pub slices: BTreeMap<String, usize>,
    /// Instants by name.
    pub instants: BTreeMap<String, usize>,
    /// Arrows from one slice to another, by name (`go`, `unblock (sync)`, ...): only those with both ends. The
    /// tool draws none that come from processor 0.
    pub arrows: BTreeMap<String, usize>,
    /// The points of each counter (`Heap`, `Goroutines`, `Threads`): microseconds and its parts by name.
    pub counters: BTreeMap<String, Vec<Point>>,
}

/// One point of a counter.
#[derive(Debug)]
pub struct Point {
    /// Microseconds since the trace's start.
    pub us: f64,
    /// The parts, such as `Allocated` and `NextGC`.
    pub values: BTreeMap<&'static str, f64>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
    #[serde(rename = "stackFrames")]
    frames: BTreeMap<String, Frame>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    name: String,
    ph: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    pid: u64,
    tid: u64,
    #[serde(default)]
    id: u64,
    #[serde(default)]
    sf: u64,
    #[serde(default)]
    esf: u64,
    #[serde(default)]
    args: Option<Args>,
}

/// The arguments that are looked at. Each kind of event has its own and some have others besides.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Args {
    name: Option<String>,
    #[serde(rename = "Allocated")]
    allocated: Option<f64>,
    #[serde(rename = "NextGC")]
    next_gc: Option<f64>,
    #[serde(rename = "Running")]
    running: Option<f64>,
    #[serde(rename = "Runnable")]
    runnable: Option<f64>,
    #[serde(rename = "GCWaiting")]
    gc_waiting: Option<f64>,
    #[serde(rename = "InSyscall")]
    in_syscall: Option<f64>,
}

impl Args {
    fn values(&self) -> BTreeMap<&'static str, f64> {
        [
            ("Allocated", self.allocated),
            ("NextGC", self.next_gc),
            ("Running", self.running),
            ("Runnable", self.runnable),
            ("GCWaiting", self.gc_waiting),
            ("InSyscall", self.in_syscall),
        ]
        .into_iter()
        .filter_map(|(name, v)| Some((name, v?)))
        .collect()
    }
}

#[derive(Deserialize)]
struct Frame {
    #[serde(default)]
    parent: u64,
}

impl Timeline {
    /// Reads the JSON.
    ///
    /// # Errors
    /// In words, if it is not JSON of that form, or names a stack frame that it does not hold, or has a span of negative length.
    pub fn parse(json: &[u8]) -> Result<Timeline, String> {
        let data: Data = serde_json::from_slice(json).map_err(|e| format!("not a timeline: {e}"))?;
        let known: BTreeSet<u64> = data.frames.keys().filter_map(|k| k.parse().ok()).collect();
        let frame = |id: u64| (id == 0 || known.contains(&id)).then_some(()).ok_or(format!("no stack frame {id}"));
        for f in data.frames.values() {
            frame(f.parent)?;
        }
        let mut out = Timeline::default();
        let (mut starts, mut ends) = (BTreeSet::new(), BTreeMap::new());
        for e in data.events {
            frame(e.sf)?;
            frame(e.esf)?;
            if e.dur < 0.0 || e.ts < 0.0 {
                return Err(format!("{:?} at {} us for {} us", e.name, e.ts, e.dur));
            }
            match e.ph.as_str() {
                "X" => *out.slices.entry(e.name).or_default() += 1,
                "I" => *out.instants.entry(e.name).or_default() += 1,
                "s" => drop(starts.insert(e.id)),
                "t" | "f" => drop(ends.insert(e.id, e.name)),
                "C" => {
                    let values = e.args.unwrap_or_default().values();
                    out.counters.entry(e.name).or_default().push(Point { us: e.ts, values });
                }
                "M" if e.name == "thread_name" => {
                    let name = e.args.and_then(|a| a.name).ok_or("a row without a name")?;
                    out.lanes.insert((e.pid, e.tid), name);
                }
                _ => {}
            }
        }
        for (_, name) in ends.into_iter().filter(|(id, _)| starts.contains(id)) {
            *out.arrows.entry(name).or_default() += 1;
        }
        Ok(out)
    }

    /// Whether there is a row of that name.
    pub fn has_lane(&self, name: &str) -> bool {
        self.lanes.values().any(|l| l == name)
    }

    /// How many arrows have `part` in their name, such as `unblock (sync)`.
    pub fn arrows_with(&self, part: &str) -> usize {
        self.arrows.iter().filter(|(name, _)| name.contains(part)).map(|(_, n)| n).sum()
    }

    /// How many spans have `part` in their name.
    pub fn slices_with(&self, part: &str) -> usize {
        self.slices.iter().filter(|(name, _)| name.contains(part)).map(|(_, n)| n).sum()
    }
}
