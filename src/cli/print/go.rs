//! The format of `go tool trace -d=parsed`, byte for byte that of Go 1.27.
//!
//! Go prints the wall clock in the local time zone; this prints UTC, as Go does with `TZ=UTC`.

use super::Printer;
use super::stacks::RenderedStacks;
use crate::fmt::{push_hex, push_i64, push_quoted, push_rfc3339, push_u64};
use exectrace::format::Kind;
use exectrace::read::{
    Block, Details, EventRef, Generation, Range, RangeKind, Scope, Stack, StackId, StateTransition, StringId,
};

/// Prints as Go does.
#[derive(Default)]
pub struct Go {
    stacks: RenderedStacks,
}

impl Printer for Go {
    fn block(&mut self, block: &Block) {
        self.stacks.enter(block.generation());
    }

    fn event(&mut self, ev: EventRef<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"M=");
        push_i64(out, ev.thread.0 as i64);
        out.extend_from_slice(b" P=");
        push_i64(out, ev.proc.0 as i64);
        out.extend_from_slice(b" G=");
        push_i64(out, ev.goroutine.0 as i64);
        out.push(b' ');
        out.extend_from_slice(ev.kind().name().as_bytes());
        out.extend_from_slice(b" Time=");
        push_i64(out, ev.time.0);
        self.details(ev, out);
        let stack = ev.stack_id();
        // A CPU sample counts as having a stack whatever its id.
        if !stack.is_none() || ev.wire == Kind::CPUSample {
            out.extend_from_slice(b"\nStack=\n");
            self.stack(ev.generation(), stack, out);
        }
        out.push(b'\n');
    }
}

impl Go {
    fn details(&mut self, ev: EventRef<'_>, out: &mut Vec<u8>) {
        let generation = ev.generation();
        match ev.details() {
            Details::StateTransition(t) => self.transition(ev, t, out),
            Details::Metric(m) => {
                out.extend_from_slice(b" Name=");
                push_quoted(out, m.name().as_bytes());
                out.extend_from_slice(b" Value=");
                value(out, m.value());
            }
            Details::Label(label) => {
                field(out, b" Label=", generation, label);
                out.extend_from_slice(b" Resource=Goroutine(");
                push_i64(out, ev.goroutine.0 as i64);
                out.push(b')');
            }
            Details::RangeBegin(r) | Details::RangeActive(r) => range(out, generation, r),
            Details::RangeEnd(r) => {
                range(out, generation, r);
                out.extend_from_slice(b" Attributes=[");
                if let Some(totals) = ev.sweep_totals() {
                    out.extend_from_slice(b"\"bytes swept\"=");
                    value(out, totals.swept_bytes);
                    out.extend_from_slice(b" \"bytes reclaimed\"=");
                    value(out, totals.reclaimed_bytes);
                }
                out.push(b']');
            }
            Details::TaskBegin(t) | Details::TaskEnd(t) => {
                out.extend_from_slice(b" ID=");
                push_u64(out, t.id.0);
                out.extend_from_slice(b" Parent=");
                push_u64(out, t.parent.0);
                field(out, b" Type=", generation, t.name);
            }
            Details::RegionBegin(r) | Details::RegionEnd(r) => {
                out.extend_from_slice(b" Task=");
                push_u64(out, r.task.0);
                field(out, b" Type=", generation, r.name);
            }
            Details::Log(l) => {
                out.extend_from_slice(b" Task=");
                push_u64(out, l.task.0);
                field(out, b" Category=", generation, l.category);
                field(out, b" Message=", generation, l.message);
            }
            Details::Experimental(e) => {
                out.extend_from_slice(b" Name=");
                out.extend_from_slice(e.name.as_bytes());
                out.extend_from_slice(b" Args=[");
                for (i, (name, v)) in e.names.iter().zip(e.values).enumerate() {
                    if i != 0 {
                        out.extend_from_slice(b", ");
                    }
                    out.extend_from_slice(name.as_bytes());
                    out.push(b'=');
                    value(out, *v);
                }
                out.push(b']');
            }
            Details::Sync(_) => {
                if let Some(s) = ev.sync() {
                    out.extend_from_slice(b" N=");
                    push_u64(out, s.n);
                    if let Some(c) = s.clock {
                        out.extend_from_slice(b" Trace=");
                        push_i64(out, c.trace.0);
                        out.extend_from_slice(b" Mono=");
                        push_u64(out, c.mono_ns);
                        out.extend_from_slice(b" Wall=");
                        push_rfc3339(out, c.wall_sec, c.wall_nsec);
                    }
                }
            }
            _ => {}
        }
    }

    fn transition(&mut self, ev: EventRef<'_>, t: StateTransition, out: &mut Vec<u8>) {
        match t {
            StateTransition::Goroutine { id, from, to, reason, stack } => {
                change(out, b" GoID=", id.0, from.name(), to.name());
                field(out, b" Reason=", ev.generation(), reason);
                // A new goroutine counts as having a stack whatever its id.
                if !stack.is_none() || matches!(ev.wire, Kind::GoCreate | Kind::GoCreateBlocked) {
                    out.extend_from_slice(b"\nTransitionStack=\n");
                    self.stack(ev.generation(), stack, out);
                }
            }
            StateTransition::Proc { id, from, to } => {
                change(out, b" ProcID=", id.0, from.name(), to.name());
                out.extend_from_slice(b" Reason=\"\"");
            }
            _ => {}
        }
    }

    fn stack(&mut self, generation: &Generation, id: StackId, out: &mut Vec<u8>) {
        out.extend_from_slice(self.stacks.text(generation, id, render));
    }
}

fn render(out: &mut Vec<u8>, generation: &Generation, stack: Stack<'_>) {
    for index in stack.frame_indices() {
        let frame = generation.frame(index);
        let (func, file) = generation.frame_bytes(index);
        out.push(b'\t');
        out.extend_from_slice(func);
        out.extend_from_slice(b" @ 0x");
        push_hex(out, frame.pc);
        out.extend_from_slice(b"\n\t\t");
        out.extend_from_slice(file);
        out.push(b':');
        push_u64(out, frame.line);
        out.push(b'\n');
    }
}

fn change(out: &mut Vec<u8>, name: &[u8], id: u64, from: &str, to: &str) {
    out.extend_from_slice(name);
    push_i64(out, id as i64);
    out.push(b' ');
    out.extend_from_slice(from.as_bytes());
    out.extend_from_slice(b"->");
    out.extend_from_slice(to.as_bytes());
}

fn field(out: &mut Vec<u8>, name: &[u8], generation: &Generation, id: StringId) {
    out.extend_from_slice(name);
    push_quoted(out, generation.string_bytes(id).unwrap_or_default());
}

fn value(out: &mut Vec<u8>, v: u64) {
    out.extend_from_slice(b"Value{Uint64(");
    push_u64(out, v);
    out.extend_from_slice(b")}");
}

fn range(out: &mut Vec<u8>, generation: &Generation, r: Range) {
    out.extend_from_slice(b" Name=");
    match r.kind {
        RangeKind::StopTheWorld(why) => {
            let mut name = b"stop-the-world (".to_vec();
            name.extend_from_slice(generation.string_bytes(why).unwrap_or_default());
            name.push(b')');
            push_quoted(out, &name);
        }
        RangeKind::GcMark => out.extend_from_slice(b"\"GC concurrent mark phase\""),
        RangeKind::Sweep => out.extend_from_slice(b"\"GC incremental sweep\""),
        RangeKind::MarkAssist => out.extend_from_slice(b"\"GC mark assist\""),
        _ => {}
    }
    out.extend_from_slice(b" Scope=");
    match r.scope {
        Scope::Proc(id) => {
            out.extend_from_slice(b"Proc(");
            push_i64(out, id.0 as i64);
            out.push(b')');
        }
        Scope::Goroutine(id) => {
            out.extend_from_slice(b"Goroutine(");
            push_i64(out, id.0 as i64);
            out.push(b')');
        }
        _ => out.extend_from_slice(b"None"),
    }
}
