//! The rules of ranges: stop-the-world and mark assist on a goroutine, sweep on a processor, the collection on the whole.

use super::{Faulty, GcState, NO_SLOT, Open, Ordering, Step, fault};
use crate::format::Kind;

/// The event with which a range begins, for an event that tells it or ends it.
fn begin_of(kind: Kind) -> Kind {
    match kind {
        Kind::STWEnd => Kind::STWBegin,
        Kind::GCMarkAssistEnd | Kind::GCMarkAssistActive => Kind::GCMarkAssistBegin,
        k => k,
    }
}

impl Ordering {
    /// What is open on a goroutine, made if nothing was.
    pub(super) fn open_mut(&mut self, go: u32) -> &mut Open {
        let g = &mut self.gos[go as usize];
        if g.open == NO_SLOT {
            g.open = self.free_open.pop().unwrap_or_else(|| {
                self.open.push(Open::default());
                self.open.len() as u32 - 1
            });
        }
        &mut self.open[g.open as usize]
    }

    pub(super) fn go_range_begin(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_goroutine()?;
        let slot = self.current_go(&s)?;
        let stw = s.kind == Kind::STWBegin;
        let range = (s.kind, if stw { s.args[0] } else { 0 });
        let open = self.open_mut(slot);
        if open.ranges.contains(&range) {
            return Err(fault!(Range, "{}: the goroutine has such a range open already", s.name()));
        }
        open.ranges.push(range);
        if stw {
            s.check_string(0)?;
        }
        s.emit_with_stack(usize::from(stw))
    }

    pub(super) fn go_range_end(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_goroutine()?;
        let slot = self.current_go(&s)?;
        let begin = begin_of(s.kind);
        let open = self.open_mut(slot);
        let Some(i) = open.ranges.iter().position(|r| r.0 == begin) else {
            return Err(fault!(Range, "{}: the goroutine has no such range open", s.name()));
        };
        let (_, string) = open.ranges.swap_remove(i);
        if s.kind == Kind::STWEnd {
            s.args[0] = string;
        }
        s.emit();
        Ok(true)
    }

    /// A mark assist that is under way. It may name a goroutine that does not run, so the context does not matter.
    pub(super) fn go_range_active(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let id = s.args[0];
        let Some(slot) = self.go_ids.get(id) else {
            return Err(fault!(State, "{}: goroutine {} is not known", s.name(), id as i64));
        };
        let initial = self.in_initial();
        let range = (begin_of(s.kind), 0);
        let open = self.open_mut(slot);
        let has = open.ranges.contains(&range);
        if initial {
            if has {
                return Err(fault!(Range, "{}: goroutine {} has a range open already", s.name(), id as i64));
            }
            open.ranges.push(range);
        } else if !has {
            return Err(fault!(Range, "{}: goroutine {} has no range open", s.name(), id as i64));
        }
        s.emit();
        Ok(true)
    }

    pub(super) fn sweep_begin(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_proc()?;
        let p = self.current_proc(&s)?;
        if p.sweeping {
            return Err(fault!(Range, "GCSweepBegin: processor {} sweeps already", s.ctx.proc));
        }
        p.sweeping = true;
        s.emit_with_stack(0)
    }

    pub(super) fn sweep_end(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_proc()?;
        let p = self.current_proc(&s)?;
        if !p.sweeping {
            return Err(fault!(Range, "GCSweepEnd: processor {} does not sweep", s.ctx.proc));
        }
        p.sweeping = false;
        s.emit();
        Ok(true)
    }

    pub(super) fn sweep_active(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let id = s.args[0];
        let initial = self.in_initial();
        let Some(p) = self.proc_mut(id) else {
            return Err(fault!(State, "GCSweepActive: processor {} is not known", id as i64));
        };
        if p.sweeping == initial {
            let found = if initial { "sweeps already" } else { "does not sweep" };
            return Err(fault!(Range, "GCSweepActive: processor {} {found}", id as i64));
        }
        p.sweeping = true;
        s.emit();
        Ok(true)
    }

    /// A collection that is under way. In the first generation it may be any; later it must be the one that was seen, and
    /// its number must come next.
    pub(super) fn gc_active(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let seq = s.args[0];
        if self.in_initial() {
            if self.gc != GcState::Undetermined {
                return Err(fault!(Range, "GCActive in the first generation: expected it before other GC events"));
            }
            (self.gc, self.gc_seq) = (GcState::Running, seq);
            s.emit();
            return Ok(true);
        }
        if seq != self.gc_seq.wrapping_add(1) {
            return Ok(false);
        }
        if self.gc != GcState::Running {
            return Err(fault!(Range, "GCActive: no collection is under way"));
        }
        self.gc_seq = seq;
        s.need_goroutine()?;
        s.emit();
        Ok(true)
    }

    pub(super) fn gc_begin(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let seq = s.args[0];
        if self.gc != GcState::Undetermined {
            if seq != self.gc_seq.wrapping_add(1) {
                return Ok(false);
            }
            if self.gc == GcState::Running {
                return Err(fault!(Range, "GCBegin: a collection is under way already"));
            }
            s.need_goroutine()?;
        }
        (self.gc, self.gc_seq) = (GcState::Running, seq);
        s.emit_with_stack(1)
    }

    pub(super) fn gc_end(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let seq = s.args[0];
        if seq != self.gc_seq.wrapping_add(1) {
            return Ok(false);
        }
        if self.gc != GcState::Running {
            return Err(fault!(Range, "GCEnd: no collection is under way"));
        }
        (self.gc, self.gc_seq) = (GcState::NotRunning, seq);
        s.need_goroutine()?;
        s.emit();
        Ok(true)
    }
}
