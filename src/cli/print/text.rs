//! The default format: a line for each event, made to be read by people.
//!
//! ```text
//!    0.000213504  M9465  P0  G1     GoBlock          running -> waiting: chan receive  main.main (main.go:31)
//! ```

use super::Printer;
use crate::fmt::{push_i64, push_u64};
use exectrace::format::Kind;
use exectrace::read::{Details, EventRef, Range, RangeKind, Scope, Stack, StateTransition, TaskId, Time};
use std::io::Write;

/// Prints for people.
pub struct Text {
    stacks: bool,
    start: Option<Time>,
    /// Details of the event at hand.
    line: Vec<u8>,
}

impl Text {
    pub fn new(stacks: bool) -> Text {
        Text { stacks, start: None, line: Vec::new() }
    }
}

impl Printer for Text {
    fn block(&mut self, block: &exectrace::read::Block) {
        // The start of the trace is the time of its first event, whether or not that passes the filters.
        self.start = self.start.or_else(|| block.events().first().map(|e| e.time));
    }

    fn event(&mut self, ev: EventRef<'_>, out: &mut Vec<u8>) {
        let since = ev.time.since(self.start.unwrap_or(ev.time));
        seconds(out, since);
        column(out, b'M', ev.thread.some().map(|t| t.0), 9);
        column(out, b'P', ev.proc.some().map(|p| p.0), 4);
        column(out, b'G', ev.goroutine.some().map(|g| g.0), 7);
        let name = ev.wire.spec().name;
        out.extend_from_slice(b"  ");
        out.extend_from_slice(name.as_bytes());
        self.line.clear();
        details(&mut self.line, ev);
        let stack = ev.stack();
        if !self.stacks
            && let Some(f) = stack.frames().next()
        {
            gap(&mut self.line);
            let file = f.file.rsplit('/').next().unwrap_or(f.file);
            let _ = write!(self.line, "{} ({file}:{})", f.func, f.line);
        }
        if !self.line.is_empty() {
            pad(out, name.len(), 20);
            out.extend_from_slice(b"  ");
            out.extend_from_slice(&self.line);
        }
        out.push(b'\n');
        if self.stacks {
            frames(out, stack);
            if let Some(StateTransition::Goroutine { stack: own, .. }) = ev.transition()
                && own != ev.stack_id()
            {
                if !own.is_none() {
                    out.extend_from_slice(b"            its own stack:\n");
                }
                frames(out, ev.stack_of(own));
            }
        }
    }
}

/// Writes to a `Vec` cannot fail, so results of `write!` are dropped in what follows.
fn details(out: &mut Vec<u8>, ev: EventRef<'_>) {
    match ev.details() {
        Details::StateTransition(t) => transition(out, ev, t),
        Details::Metric(m) => {
            let _ = write!(out, "{}", m.value());
        }
        Details::Label(l) => {
            let _ = write!(out, "{:?}", ev.string(l));
        }
        Details::RangeBegin(r) | Details::RangeActive(r) | Details::RangeEnd(r) => {
            range(out, ev, r);
            if let Some(t) = ev.sweep_totals() {
                let _ = write!(out, "  swept {} bytes, reclaimed {}", t.swept_bytes, t.reclaimed_bytes);
            }
        }
        Details::TaskBegin(t) | Details::TaskEnd(t) => {
            let _ = write!(out, "task {} {:?}", t.id, ev.string(t.name));
            if let Some(p) = t.parent.some() {
                let _ = write!(out, " in task {p}");
            }
        }
        Details::RegionBegin(r) | Details::RegionEnd(r) => {
            let _ = write!(out, "{:?}", ev.string(r.name));
            in_task(out, r.task);
        }
        Details::Log(l) => {
            let _ = write!(out, "{:?} {:?}", ev.string(l.category), ev.string(l.message));
            in_task(out, l.task);
        }
        Details::Experimental(e) => {
            for (name, v) in e.names.iter().zip(e.values) {
                gap(out);
                let _ = write!(out, "{name} {v}");
            }
        }
        Details::Sync(n) => {
            let generation = ev.generation();
            if generation.bytes().is_empty() {
                let _ = write!(out, "{n}: the end");
            } else {
                let _ = write!(out, "{n}: generation {}", generation.number());
            }
            if let Some(c) = generation.clock_snapshot() {
                out.extend_from_slice(b"  ");
                crate::fmt::push_rfc3339(out, c.wall_sec, c.wall_nsec);
            }
        }
        _ => {}
    }
}

fn transition(out: &mut Vec<u8>, ev: EventRef<'_>, t: StateTransition) {
    match t {
        StateTransition::Goroutine { id, from, to, reason, .. } => {
            if id != ev.goroutine {
                let _ = write!(out, "G{id} ");
            }
            let _ = write!(out, "{} -> {}", from.name(), to.name());
            let reason = ev.string(reason);
            if !reason.is_empty() {
                let _ = write!(out, ": {reason}");
            }
        }
        StateTransition::Proc { id, from, to } => {
            if id != ev.proc {
                let _ = write!(out, "P{id} ");
            }
            let _ = write!(out, "{} -> {}", from.name(), to.name());
            if ev.wire == Kind::ProcSteal {
                let _ = write!(out, ", from M{}", ev.args[2] as i64);
            }
        }
        _ => {}
    }
}

fn range(out: &mut Vec<u8>, ev: EventRef<'_>, r: Range) {
    match r.kind {
        RangeKind::StopTheWorld(why) => {
            let _ = write!(out, "{}", ev.string(why));
        }
        RangeKind::GcMark => {
            let _ = write!(out, "gc_seq {}", ev.args[0]);
        }
        _ => {}
    }
    match r.scope {
        Scope::Proc(id) if id != ev.proc => {
            let _ = write!(out, "P{id}");
        }
        Scope::Goroutine(id) if id != ev.goroutine => {
            let _ = write!(out, "G{id}");
        }
        _ => {}
    }
}

fn in_task(out: &mut Vec<u8>, task: TaskId) {
    if task != TaskId::BACKGROUND && !task.is_none() {
        let _ = write!(out, " in task {task}");
    }
}

fn gap(out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.extend_from_slice(b"  ");
    }
}

fn frames(out: &mut Vec<u8>, stack: Stack<'_>) {
    for f in stack.frames() {
        let _ = writeln!(out, "              {}  {}:{}", f.func, f.file, f.line);
    }
}

/// Seconds with all nine digits behind the point.
fn seconds(out: &mut Vec<u8>, ns: i64) {
    let start = out.len();
    if ns < 0 {
        out.push(b'-');
    }
    let ns = ns.unsigned_abs();
    push_u64(out, ns / 1_000_000_000);
    out.push(b'.');
    let mut digits = [b'0'; 9];
    let mut v = ns % 1_000_000_000;
    for d in digits.iter_mut().rev() {
        *d += (v % 10) as u8;
        v /= 10;
    }
    out.extend_from_slice(&digits);
    right(out, start, 14);
}

/// A letter and an id, or blanks.
fn column(out: &mut Vec<u8>, letter: u8, id: Option<u64>, width: usize) {
    out.extend_from_slice(b"  ");
    let start = out.len();
    match id {
        Some(id) => {
            out.push(letter);
            push_i64(out, id as i64);
        }
        None => out.push(b'-'),
    }
    pad(out, out.len() - start, width);
}

fn pad(out: &mut Vec<u8>, len: usize, width: usize) {
    out.resize(out.len() + width.saturating_sub(len), b' ');
}

/// Moves what stands from `start` on to the right edge of a column.
fn right(out: &mut Vec<u8>, start: usize, width: usize) {
    let len = out.len() - start;
    if len < width {
        out.resize(start + width, b' ');
        out[start..].rotate_right(width - len);
    }
}
