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
    pub values: BTreeMap<String, f64>,
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
    args: serde_json::Value,
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
                    let parts = e.args.as_object().into_iter().flatten();
                    let values = parts.filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect();
                    out.counters.entry(e.name).or_default().push(Point { us: e.ts, values });
                }
                "M" if e.name == "thread_name" => {
                    let name = e.args["name"].as_str().unwrap_or_default();
                    out.lanes.insert((e.pid, e.tid), name.to_owned());
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
