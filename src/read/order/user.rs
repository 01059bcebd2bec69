//! The rules of tasks and regions.

use super::names::Name;
use super::{Faulty, Generation, Ordering, Step, StringId, fault};
use crate::format::Kind;
use crate::read::TaskId;

/// A task that has begun and not ended.
pub(super) struct Task {
    name: Name,
    parent: TaskId,
}

impl Ordering {
    /// Begins a generation. Tasks that began earlier may end in it, so their names get strings in its table.
    pub(in crate::read) fn begin_generation(&mut self, generation: &mut Generation) {
        self.generation = generation.number;
        let open = self.open.iter().map(|o| o.regions.len()).sum::<usize>();
        if self.names.crowded(open + self.tasks.len()) {
            let (tasks, open) = (&mut self.tasks, &mut self.open);
            self.names.renumber(|keep| {
                tasks.values_mut().for_each(|t| keep(&mut t.name));
                open.iter_mut().flat_map(|o| &mut o.regions).for_each(|r| keep(&mut r.1));
            });
        }
        self.names.begin(generation);
        for task in self.tasks.values() {
            if task.name != 0 && self.names.string(task.name) == StringId(0) {
                let id = generation.strings.add(self.names.text(task.name));
                self.names.set_string(task.name, id);
            }
        }
    }

    /// Looks up a name; an unknown one ends the trace.
    fn name_of(&mut self, s: &Step<'_, '_>, arg: usize) -> Faulty<Name> {
        let id = s.args[arg];
        self.names.name(s.tables, StringId(id)).ok_or_else(|| s.no_such("string", id))
    }

    /// A task begins. Little can be checked: a task may be named without a beginning, and end more than once; but it cannot
    /// begin while it is active.
    pub(super) fn task_begin(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let id = s.args[0];
        if self.tasks.contains_key(&id) {
            return Err(fault!(Range, "UserTaskBegin: task {id} is active already"));
        }
        // Here 0 stands for no parent at all and not for the background task.
        if s.args[1] == 0 {
            s.args[1] = TaskId::NONE.0;
        }
        let name = self.name_of(&s, 2)?;
        self.names.set_string(name, StringId(s.args[2]));
        self.tasks.insert(id, Task { name, parent: TaskId(s.args[1]) });
        s.need_goroutine()?;
        s.emit_with_stack(3)
    }

    pub(super) fn task_end(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        let (parent, name) = match self.tasks.remove(&s.args[0]) {
            Some(task) => (task.parent, self.names.string(task.name)),
            None => (TaskId::NONE, StringId(0)),
        };
        (s.args[2], s.args[3]) = (parent.0, name.0);
        s.need_goroutine()?;
        s.emit_with_stack(1)
    }

    pub(super) fn region_begin(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        s.need_goroutine()?;
        let name = self.name_of(&s, 1)?;
        let slot = self.current_go(&s)?;
        self.open_mut(slot).regions.push((s.args[0], name));
        s.emit_with_stack(2)
    }

    /// A region ends: it must be the innermost one, unless none is open, because it may have begun before the trace.
    pub(super) fn region_end(&mut self, mut s: Step<'_, '_>) -> Faulty<bool> {
        debug_assert_eq!(s.kind, Kind::UserRegionEnd);
        s.need_goroutine()?;
        let name = self.name_of(&s, 1)?;
        let slot = self.current_go(&s)?;
        let ending = (s.args[0], name);
        if let Some(innermost) = self.open_mut(slot).regions.pop()
            && innermost != ending
        {
            let text = |r: (u64, Name)| format!("{:?} of task {}", String::from_utf8_lossy(self.names.text(r.1)), r.0);
            let (found, expected) = (text(ending), text(innermost));
            return Err(fault!(
                Range,
                "UserRegionEnd of {found} on goroutine {}: the innermost open region is {expected}",
                s.ctx.goroutine
            ));
        }
        s.emit_with_stack(2)
    }
}
