//! Lines of JSON. The schema is `exectrace.events/1`; members may be added to it, none is taken away or changes its sense.

use super::Printer;
use exectrace::read::{
    Details, EventRef, Generation, Range, RangeKind, Scope, Stack, StateTransition, StringId, SweepTotals, TaskId,
};
use serde::Serialize;
use std::borrow::Cow;

/// Prints JSON.
pub struct Json {
    stacks: bool,
}

#[derive(Serialize)]
struct Header {
    schema: &'static str,
    /// The Go version in the header of the trace.
    trace_version: String,
}

/// One event.
#[derive(Default, Serialize)]
struct Line<'a> {
    time: i64,
    /// The event on the wire.
    event: &'static str,
    /// What it tells.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proc: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine: Option<u64>,
    #[serde(flatten)]
    details: Option<Body<'a>>,
    /// The innermost frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Frame<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<Vec<Frame<'a>>>,
    /// The stack of the goroutine that changes, where it is not that of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine_stack: Option<Vec<Frame<'a>>>,
}

#[derive(Serialize)]
struct Frame<'a> {
    func: &'a str,
    file: &'a str,
    line: u64,
    pc: u64,
}

/// What each kind of event adds.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Transition {
        /// `goroutine` or `proc`.
        of: &'static str,
        id: u64,
        from: &'static str,
        to: &'static str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'a str,
    },
    Metric {
        name: &'static str,
        value: u64,
    },
    Label {
        label: &'a str,
    },
    Range {
        range: Cow<'a, str>,
        scope: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        scope_id: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        swept_bytes: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reclaimed_bytes: Option<u64>,
    },
    Task {
        task: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<u64>,
        name: &'a str,
    },
    Region {
        #[serde(skip_serializing_if = "Option::is_none")]
        task: Option<u64>,
        name: &'a str,
    },
    Log {
        #[serde(skip_serializing_if = "Option::is_none")]
        task: Option<u64>,
        category: &'a str,
        message: &'a str,
    },
    Experimental {
        args: std::collections::BTreeMap<&'static str, u64>,
    },
    Sync {
        n: u64,
        /// Not in the last one, which ends the trace.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        clock_time: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mono_ns: Option<u64>,
        /// Nanoseconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none")]
        wall_ns: Option<i64>,
    },
}

impl Json {
    pub fn new(stacks: bool) -> Json {
        Json { stacks }
    }
}

impl Printer for Json {
    fn begin(&mut self, version: u32, out: &mut Vec<u8>) {
        write(out, &Header { schema: "exectrace.events/1", trace_version: format!("go 1.{version}") });
    }

    fn event(&mut self, ev: EventRef<'_>, out: &mut Vec<u8>) {
        let own = match ev.transition() {
            Some(StateTransition::Goroutine { stack, .. }) if stack != ev.stack_id() => Some(ev.stack_of(stack)),
            _ => None,
        };
        let line = Line {
            time: ev.time.0,
            event: ev.wire.spec().name,
            kind: ev.kind().name(),
            thread: ev.thread.some().map(|t| t.0),
            proc: ev.proc.some().map(|p| p.0),
            goroutine: ev.goroutine.some().map(|g| g.0),
            details: body(ev),
            at: if self.stacks { None } else { ev.leaf().map(frame) },
            stack: self.frames(Some(ev.stack())),
            goroutine_stack: self.frames(own),
        };
        write(out, &line);
    }
}

impl Json {
    fn frames<'a>(&self, stack: Option<Stack<'a>>) -> Option<Vec<Frame<'a>>> {
        let stack = stack.filter(|s| self.stacks && !s.is_empty())?;
        Some(stack.frames().map(frame).collect())
    }
}

/// Appends a line. Neither a write to memory nor these types can fail.
fn write(out: &mut Vec<u8>, line: &impl Serialize) {
    let start = out.len();
    match serde_json::to_writer(&mut *out, line) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(start),
    }
}

fn frame(f: exectrace::read::Frame<'_>) -> Frame<'_> {
    Frame { func: f.func, file: f.file, line: f.line, pc: f.pc }
}

fn body(ev: EventRef<'_>) -> Option<Body<'_>> {
    let text = |id: StringId| ev.string(id);
    Some(match ev.details() {
        Details::StateTransition(StateTransition::Goroutine { id, from, to, reason, .. }) => {
            Body::Transition { of: "goroutine", id: id.0, from: from.name(), to: to.name(), reason: text(reason) }
        }
        Details::StateTransition(StateTransition::Proc { id, from, to }) => {
            Body::Transition { of: "proc", id: id.0, from: from.name(), to: to.name(), reason: "" }
        }
        Details::Metric(m) => Body::Metric { name: m.name(), value: m.value() },
        Details::Label(l) => Body::Label { label: text(l) },
        Details::RangeBegin(r) | Details::RangeActive(r) | Details::RangeEnd(r) => {
            range(ev.generation(), r, ev.sweep_totals())
        }
        Details::TaskBegin(t) | Details::TaskEnd(t) => {
            Body::Task { task: t.id.0, parent: t.parent.some().map(|p| p.0), name: text(t.name) }
        }
        Details::RegionBegin(r) | Details::RegionEnd(r) => Body::Region { task: task(r.task), name: text(r.name) },
        Details::Log(l) => Body::Log { task: task(l.task), category: text(l.category), message: text(l.message) },
        Details::Experimental(e) => Body::Experimental {
            // The values belong to the event, which `ev` only lends here; they are few.
            args: e.names.iter().copied().zip(e.values.iter().copied()).collect(),
        },
        Details::Sync(n) => {
            let g = ev.generation();
            let clock = g.clock_snapshot();
            Body::Sync {
                n,
                generation: (!g.bytes().is_empty()).then(|| g.number()),
                clock_time: clock.map(|c| c.trace.0),
                mono_ns: clock.map(|c| c.mono_ns),
                wall_ns: clock.map(|c| c.wall_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(c.wall_nsec))),
            }
        }
        _ => return None,
    })
}

/// The background task is no task.
fn task(id: TaskId) -> Option<u64> {
    id.some().filter(|&t| t != TaskId::BACKGROUND).map(|t| t.0)
}

fn range(generation: &Generation, r: Range, totals: Option<SweepTotals>) -> Body<'_> {
    let (scope, scope_id) = match r.scope {
        Scope::Proc(id) => ("proc", Some(id.0)),
        Scope::Goroutine(id) => ("goroutine", Some(id.0)),
        _ => ("global", None),
    };
    let range = match r.kind {
        RangeKind::StopTheWorld(why) => {
            Cow::Owned(format!("stop-the-world ({})", generation.string(why).unwrap_or_default()))
        }
        RangeKind::GcMark => Cow::Borrowed("GC concurrent mark phase"),
        RangeKind::Sweep => Cow::Borrowed("GC incremental sweep"),
        RangeKind::MarkAssist => Cow::Borrowed("GC mark assist"),
        _ => Cow::Borrowed(""),
    };
    let swept_bytes = totals.map(|t| t.swept_bytes);
    let reclaimed_bytes = totals.map(|t| t.reclaimed_bytes);
    Body::Range { range, scope, scope_id, swept_bytes, reclaimed_bytes }
}
