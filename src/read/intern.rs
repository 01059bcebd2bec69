//! Strings, frames and stacks that outlive their generation, under numbers that stay the same over the whole trace.
//!
//! A generation numbers its strings and stacks anew. An analysis that adds up by stack or by name over a whole trace asks
//! here. The first time in a generation costs a hash of the content; every later time is two array accesses. Memory grows
//! with the number of *different* strings and stacks that were asked for.

use super::{FrameIndex, Generation, StackId, StringId};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// A string of an [`Interner`]. `StringKey(0)` is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StringKey(pub u32);

/// A frame of an [`Interner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameKey(pub u32);

/// A stack of an [`Interner`]. `StackKey(0)` is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackKey(pub u32);

/// A frame's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameText {
    /// The program counter, or a number that stands for the frame.
    pub pc: u64,
    /// The function.
    pub func: StringKey,
    /// The source file.
    pub file: StringKey,
    /// The line in it.
    pub line: u64,
}

/// Gives strings, frames and stacks numbers that hold over generations: equal content, equal number.
pub struct Interner {
    strings: Set<str>,
    frames: HashMap<FrameText, u32>,
    frame_list: Vec<FrameText>,
    stacks: Set<[FrameKey]>,
    /// The generation that the caches below are for: its number and where it begins.
    generation: Option<(u64, u64)>,
    /// Key + 1 by index in that generation; 0 is "not asked yet".
    string_keys: Vec<u32>,
    frame_keys: Vec<u32>,
    stack_keys: Vec<u32>,
    scratch: Vec<FrameKey>,
}

impl Default for Interner {
    fn default() -> Self {
        Interner::new()
    }
}

impl Interner {
    /// An interner that holds the empty string and the empty stack.
    #[must_use]
    pub fn new() -> Interner {
        let mut i = Interner {
            strings: Set::default(),
            frames: HashMap::new(),
            frame_list: Vec::new(),
            stacks: Set::default(),
            generation: None,
            string_keys: Vec::new(),
            frame_keys: Vec::new(),
            stack_keys: Vec::new(),
            scratch: Vec::new(),
        };
        i.strings.insert("");
        i.stacks.insert(&[]);
        i
    }

    /// The number of a string of a generation; that of the empty one if the generation has no such string.
    #[inline(always)]
    pub fn string(&mut self, generation: &Generation, id: StringId) -> StringKey {
        self.enter(generation);
        match generation.string_index(id) {
            Some(index) => self.string_at(generation, index),
            None => StringKey(0),
        }
    }

    /// The number of a stack of a generation; that of the empty one if the generation has no such stack.
    #[inline(always)]
    pub fn stack(&mut self, generation: &Generation, id: StackId) -> StackKey {
        if id.is_none() {
            return StackKey(0);
        }
        self.enter(generation);
        let Some(index) = generation.stack_index(id) else { return StackKey(0) };
        match self.stack_keys[index as usize] {
            0 => self.new_stack(generation, id, index),
            key => StackKey(key - 1),
        }
    }

    /// The number of a text that need not come from a trace.
    pub fn text_key(&mut self, text: &str) -> StringKey {
        StringKey(self.strings.insert(text))
    }

    /// The text of a string.
    ///
    /// # Panics
    /// If the key is not from this interner.
    #[must_use]
    pub fn text(&self, key: StringKey) -> &str {
        self.strings.get(key.0)
    }

    /// A frame's content.
    ///
    /// # Panics
    /// If the key is not from this interner.
    #[must_use]
    pub fn frame(&self, key: FrameKey) -> FrameText {
        self.frame_list[key.0 as usize]
    }

    /// The frames of a stack, leaf first.
    ///
    /// # Panics
    /// If the key is not from this interner.
    #[must_use]
    pub fn frames(&self, key: StackKey) -> &[FrameKey] {
        self.stacks.get(key.0)
    }

    /// The number of different stacks, the empty one included. Keys are below it.
    #[must_use]
    pub fn stack_count(&self) -> usize {
        self.stacks.list.len()
    }

    /// The number of different strings, the empty one included. Keys are below it.
    #[must_use]
    pub fn string_count(&self) -> usize {
        self.strings.list.len()
    }

    /// The number of different frames. Keys are below it.
    #[must_use]
    pub fn frame_count(&self) -> usize {
        self.frame_list.len()
    }

    #[inline]
    fn enter(&mut self, generation: &Generation) {
        let this = (generation.number(), generation.bytes.start);
        if self.generation != Some(this) {
            self.reset(generation);
            self.generation = Some(this);
        }
    }

    #[cold]
    fn reset(&mut self, generation: &Generation) {
        let renew = |v: &mut Vec<u32>, len| {
            v.clear();
            v.resize(len, 0);
        };
        renew(&mut self.string_keys, generation.string_count());
        renew(&mut self.frame_keys, generation.frame_count());
        renew(&mut self.stack_keys, generation.stack_count());
    }

    #[inline]
    fn string_at(&mut self, generation: &Generation, index: u32) -> StringKey {
        match self.string_keys[index as usize] {
            0 => self.new_string(generation, index),
            key => StringKey(key - 1),
        }
    }

    #[cold]
    fn new_string(&mut self, generation: &Generation, index: u32) -> StringKey {
        let key = self.strings.insert(generation.strings.text(index));
        self.string_keys[index as usize] = key + 1;
        StringKey(key)
    }

    fn frame_at(&mut self, generation: &Generation, index: FrameIndex) -> FrameKey {
        match self.frame_keys[index.0 as usize] {
            0 => {
                let raw = generation.stacks.frames()[index.0 as usize];
                let func = self.string_at(generation, raw.func);
                let file = self.string_at(generation, raw.file);
                let text = FrameText { pc: raw.pc, func, file, line: raw.line };
                let list = &mut self.frame_list;
                let key = *self.frames.entry(text).or_insert_with(|| {
                    list.push(text);
                    list.len() as u32 - 1
                });
                self.frame_keys[index.0 as usize] = key + 1;
                FrameKey(key)
            }
            key => FrameKey(key - 1),
        }
    }

    #[cold]
    fn new_stack(&mut self, generation: &Generation, id: StackId, index: u32) -> StackKey {
        let mut frames = std::mem::take(&mut self.scratch);
        frames.clear();
        for f in generation.stack(id).frame_indices() {
            frames.push(self.frame_at(generation, f));
        }
        let key = self.stacks.insert(&frames);
        self.scratch = frames;
        self.stack_keys[index as usize] = key + 1;
        StackKey(key)
    }
}

/// Slices with a number each, by content.
struct Set<T: ?Sized> {
    list: Vec<Arc<T>>,
    by_content: HashMap<Arc<T>, u32>,
}

impl<T: ?Sized> Default for Set<T> {
    fn default() -> Self {
        Set { list: Vec::new(), by_content: HashMap::new() }
    }
}

impl<T: ?Sized + Hash + Eq> Set<T>
where
    for<'a> Arc<T>: From<&'a T>,
{
    fn insert(&mut self, content: &T) -> u32 {
        if let Some(&key) = self.by_content.get(content) {
            return key;
        }
        let key = self.list.len() as u32;
        let shared: Arc<T> = Arc::from(content);
        self.list.push(Arc::clone(&shared));
        self.by_content.insert(shared, key);
        key
    }

    fn get(&self, key: u32) -> &T {
        &self.list[key as usize]
    }
}
