//! User tasks and regions as they begin and end.
//!
//! A task or region that the trace shows whole is counted with its length. One that began before the trace or goes on after
//! it is counted as begun or ended alone.

use super::tally::ByName;
use crate::read::{EventKind, EventRef, IdHashMap, Interner, StringKey, Time};

/// The tasks and regions of a trace.
#[derive(Default)]
pub struct UserEvents {
    /// Tasks by name: those that begin and end in the trace.
    pub tasks: ByName,
    /// Regions by name, likewise.
    pub regions: ByName,
    /// Tasks that begin in the trace.
    pub tasks_begun: u64,
    /// Tasks that end in it.
    pub tasks_ended: u64,
    /// Regions that begin in it.
    pub regions_begun: u64,
    /// Regions that end in it.
    pub regions_ended: u64,
    /// Log messages.
    pub logs: u64,
    open_tasks: IdHashMap<(StringKey, Time)>,
    /// Open regions by goroutine, innermost last.
    open_regions: IdHashMap<Vec<(StringKey, Time)>>,
}

impl UserEvents {
    /// Takes in an event.
    #[inline]
    pub fn update(&mut self, ev: &EventRef<'_>, interner: &mut Interner) {
        match ev.kind() {
            EventKind::TaskBegin => {
                let Some(t) = ev.task() else { return };
                self.tasks_begun += 1;
                self.open_tasks.insert(t.id.0, (interner.string(ev.generation(), t.name), ev.time));
            }
            EventKind::TaskEnd => {
                let Some(t) = ev.task() else { return };
                self.tasks_ended += 1;
                if let Some((name, begin)) = self.open_tasks.remove(&t.id.0) {
                    self.tasks.add(name, ev.time.since(begin).max(0) as u64);
                }
            }
            EventKind::RegionBegin => {
                let Some(r) = ev.region() else { return };
                self.regions_begun += 1;
                let name = interner.string(ev.generation(), r.name);
                self.open_regions.entry(ev.goroutine.0).or_default().push((name, ev.time));
            }
            EventKind::RegionEnd => {
                self.regions_ended += 1;
                // The reader has made sure that it is the innermost one.
                let open = self.open_regions.get_mut(&ev.goroutine.0).and_then(Vec::pop);
                if let Some((name, begin)) = open {
                    self.regions.add(name, ev.time.since(begin).max(0) as u64);
                }
            }
            EventKind::Log => self.logs += 1,
            _ => {}
        }
    }

    /// A goroutine has ended: what it had open does not end any more.
    #[inline]
    pub fn ended(&mut self, goroutine: crate::read::GoId) {
        if !self.open_regions.is_empty() {
            self.open_regions.remove(&goroutine.0);
        }
    }
}
