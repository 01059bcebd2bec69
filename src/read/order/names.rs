//! Names that outlive a generation.
//!
//! String ids are good for one generation, but a task or region may end in a later one than it began. So their names are
//! numbered here, by text. The numbers are forgotten when nothing uses them, so that a program which makes up names does
//! not fill memory.

use super::{Generation, StringId};
use std::collections::HashMap;

/// A name by number. 0 is the empty name.
pub(super) type Name = u32;

/// Above this many names, and twice as many as are in use, the unused ones are dropped.
const KEPT: usize = 1 << 12;

/// All names in use, and some that were.
pub(super) struct Names {
    texts: Vec<Box<[u8]>>,
    by_text: HashMap<Box<[u8]>, Name>,
    /// For this generation: the name of each string by its index, or [`UNASKED`].
    of_string: Vec<Name>,
    /// For this generation: a string id for each name that a task has.
    string_of: Vec<StringId>,
}

const UNASKED: Name = u32::MAX;

impl Default for Names {
    fn default() -> Self {
        Names {
            texts: vec![Box::default()],
            by_text: HashMap::from([(Box::default(), 0)]),
            of_string: Vec::new(),
            string_of: vec![StringId(0)],
        }
    }
}

impl Names {
    /// Whether it is time to drop names, given how many may be in use.
    pub(super) fn crowded(&self, used: usize) -> bool {
        self.texts.len() > KEPT + 2 * used
    }

    /// Starts again, keeping the names that `each` visits, under new numbers.
    pub(super) fn renumber(&mut self, each: impl FnOnce(&mut dyn FnMut(&mut Name))) {
        let old = std::mem::take(self);
        each(&mut |name| *name = self.intern(&old.texts[*name as usize]));
    }

    /// Begins a generation: its string ids are not known here.
    pub(super) fn begin(&mut self, generation: &Generation) {
        self.of_string.clear();
        self.of_string.resize(generation.strings.len(), UNASKED);
        self.string_of.fill(StringId(0));
    }

    fn intern(&mut self, text: &[u8]) -> Name {
        if let Some(&name) = self.by_text.get(text) {
            return name;
        }
        let name = self.texts.len() as Name;
        self.texts.push(text.into());
        self.by_text.insert(text.into(), name);
        self.string_of.push(StringId(0));
        name
    }

    /// The name with this id in the generation at hand, if there is such a string.
    pub(super) fn name(&mut self, generation: &Generation, id: StringId) -> Option<Name> {
        let index = generation.strings.index(id)?;
        match self.of_string.get(index as usize) {
            Some(&UNASKED) => {
                let name = self.intern(generation.strings.bytes(index));
                self.of_string[index as usize] = name;
                Some(name)
            }
            Some(&name) => Some(name),
            None => Some(self.intern(generation.strings.bytes(index))),
        }
    }

    pub(super) fn text(&self, name: Name) -> &[u8] {
        &self.texts[name as usize]
    }

    /// The string of a name in the generation at hand: 0 if it was not told.
    pub(super) fn string(&self, name: Name) -> StringId {
        self.string_of[name as usize]
    }

    pub(super) fn set_string(&mut self, name: Name, id: StringId) {
        self.string_of[name as usize] = id;
    }
}
