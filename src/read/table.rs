//! The tables of one generation: strings and stacks.
//!
//! Both are filled while the generation is read and not changed afterwards. Texts lie one behind the other in one
//! allocation; a frame is kept once, under its program counter, as Go keeps it: the first frame of a generation with a
//! program counter is the one that all stacks show.

use super::error::{Faulty, fault};
use super::idmap::{IdHashMap, IdMap};
use super::{StackId, StringId};
use crate::format::varint;
use crate::format::{Kind, MAX_FRAMES, MAX_STRING_BYTES};
use std::collections::HashMap;

/// The strings of a generation.
///
/// The format allows any bytes in a string. Texts that are not UTF-8 are held twice: as they are, and with U+FFFD in place
/// of what is wrong.
pub(super) struct Strings {
    ids: IdMap,
    /// Where the text of index i ends; it begins where the one before ends.
    ends: Vec<usize>,
    text: String,
    /// The original bytes of those texts that are not UTF-8.
    odd: HashMap<u32, Box<[u8]>>,
    /// An id above this has not been used.
    max_id: u64,
    /// All ids below this one exist, which is quickly asked. Tracers number strings one after the other.
    prefix: u64,
}

impl Strings {
    pub(super) fn new() -> Strings {
        // Index 0 is the empty string, which has the id 0 in every generation.
        let mut s = Strings {
            ids: IdMap::new(),
            ends: vec![0],
            text: String::new(),
            odd: HashMap::new(),
            max_id: 0,
            prefix: 1,
        };
        s.ids.insert(0, 0);
        s
    }

    /// The number of strings, the empty one included.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline(always)]
    pub(super) fn has(&self, id: u64) -> bool {
        id < self.prefix || self.ids.get(id).is_some()
    }

    #[inline]
    pub(super) fn index(&self, id: StringId) -> Option<u32> {
        self.ids.get(id.0)
    }

    pub(super) fn get(&self, id: StringId) -> Option<&str> {
        self.index(id).map(|i| self.text(i))
    }

    pub(super) fn text(&self, index: u32) -> &str {
        let i = index as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    pub(super) fn bytes(&self, index: u32) -> &[u8] {
        if self.odd.is_empty() {
            return self.text(index).as_bytes();
        }
        match self.odd.get(&index) {
            Some(bytes) => bytes,
            None => self.text(index).as_bytes(),
        }
    }

    fn insert(&mut self, id: u64, bytes: &[u8]) -> Faulty<()> {
        if self.ids.get(id).is_some() {
            let what = if id == 0 { "the empty string" } else { "another one" };
            return Err(fault!(DuplicateId, "string {id}: the id belongs to {what} already"));
        }
        let Ok(index) = u32::try_from(self.ends.len()) else {
            return Err(fault!(Table, "too many strings in one generation: {}", self.ends.len()));
        };
        match std::str::from_utf8(bytes) {
            Ok(s) => self.text.push_str(s),
            Err(_) => {
                self.text.push_str(&String::from_utf8_lossy(bytes));
                self.odd.insert(index, bytes.into());
            }
        }
        self.ends.push(self.text.len());
        self.ids.insert(id, index);
        self.max_id = self.max_id.max(id);
        Ok(())
    }

    /// Adds a string that the file does not have in this generation, under an id that the file does not use. Used for the
    /// names of tasks that began in an earlier generation.
    pub(super) fn add(&mut self, bytes: &[u8]) -> StringId {
        let mut id = self.max_id.saturating_add(1);
        while self.ids.get(id).is_some() {
            // Only where the file uses the largest id there is.
            id = id.wrapping_sub(1);
        }
        match self.insert(id, bytes) {
            Ok(()) => StringId(id),
            Err(_) => StringId(0),
        }
    }

    /// Takes in a batch of strings: `data` is its payload.
    pub(super) fn read(&mut self, data: &[u8]) -> Faulty<()> {
        let mut data = Fields::after_first_byte(data);
        while let Some(kind) = data.byte() {
            if kind != Kind::String as u8 {
                return Err(fault!(Table, "byte {kind} in a batch of strings: expected {}", Kind::String as u8));
            }
            let id = data.number("a string's id")?;
            let len = data.number("a string's length")?;
            if len > MAX_STRING_BYTES as u64 {
                return Err(fault!(Table, "string {id}: length {len}: at most {MAX_STRING_BYTES} are allowed"));
            }
            let Some(bytes) = data.take(len as usize) else {
                return Err(fault!(Table, "string {id}: {} bytes left: expected {len}", data.rest.len()));
            };
            self.insert(id, bytes)?;
        }
        Ok(())
    }

    /// To be called when all strings are in.
    pub(super) fn finish(&mut self) {
        self.ids.compact();
        self.prefix = self.ids.prefix();
    }
}

/// A frame as the tables hold it: texts by index.
#[derive(Clone, Copy)]
pub(super) struct RawFrame {
    pub(super) pc: u64,
    pub(super) line: u64,
    pub(super) func: u32,
    pub(super) file: u32,
}

/// The stacks of a generation.
pub(super) struct Stacks {
    ids: IdMap,
    /// Where the frames of index i end in `order`.
    ends: Vec<usize>,
    /// The frames of all stacks, leaf first, as indices into `frames`.
    order: Vec<u32>,
    frames: Vec<RawFrame>,
    /// While reading: the frame of each program counter, and the string ids of each frame.
    by_pc: IdHashMap<u32>,
    texts: Vec<(u64, u64)>,
    /// All ids below this one exist, which is quickly asked. Tracers number stacks one after the other.
    prefix: u64,
}

impl Stacks {
    pub(super) fn new() -> Stacks {
        // Index 0 is the empty stack, which has the id 0 in every generation.
        let mut s = Stacks {
            ids: IdMap::new(),
            ends: vec![0],
            order: Vec::new(),
            frames: Vec::new(),
            by_pc: IdHashMap::default(),
            texts: Vec::new(),
            prefix: 1,
        };
        s.ids.insert(0, 0);
        s
    }

    /// The number of stacks, the empty one included.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline(always)]
    pub(super) fn has(&self, id: u64) -> bool {
        id < self.prefix || self.ids.get(id).is_some()
    }

    #[inline]
    pub(super) fn index(&self, id: StackId) -> Option<u32> {
        self.ids.get(id.0)
    }

    /// The frames of the stack with this index, as indices into [`frames`](Self::frames).
    pub(super) fn order(&self, index: u32) -> &[u32] {
        let i = index as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.order[start..self.ends[i]]
    }

    pub(super) fn frames(&self) -> &[RawFrame] {
        &self.frames
    }

    /// Takes in a batch of stacks: `data` is its payload.
    pub(super) fn read(&mut self, data: &[u8]) -> Faulty<()> {
        let mut data = Fields::after_first_byte(data);
        while let Some(kind) = data.byte() {
            if kind != Kind::Stack as u8 {
                return Err(fault!(Table, "byte {kind} in a batch of stacks: expected {}", Kind::Stack as u8));
            }
            let id = data.number("a stack's id")?;
            let n = data.number("a stack's number of frames")?;
            if n > MAX_FRAMES as u64 {
                return Err(fault!(Table, "stack {id}: {n} frames: at most {MAX_FRAMES} are allowed"));
            }
            for i in 1..=n {
                let frame = |d: &mut Fields<'_>| Some([d.varint()?, d.varint()?, d.varint()?, d.varint()?]);
                let Some([pc, func, file, line]) = frame(&mut data) else {
                    return Err(fault!(Table, "stack {id}: frame {i} of {n} is cut short or has too large a number"));
                };
                let frames = &mut self.frames;
                let texts = &mut self.texts;
                let index = *self.by_pc.entry(pc).or_insert_with(|| {
                    frames.push(RawFrame { pc, line, func: 0, file: 0 });
                    texts.push((func, file));
                    frames.len() as u32 - 1
                });
                self.order.push(index);
            }
            if self.ids.get(id).is_some() {
                let what = if id == 0 { "the empty stack" } else { "another one" };
                return Err(fault!(DuplicateId, "stack {id}: the id belongs to {what} already"));
            }
            let Ok(index) = u32::try_from(self.ends.len()) else {
                return Err(fault!(Table, "too many stacks in one generation: {}", self.ends.len()));
            };
            self.ids.insert(id, index);
            self.ends.push(self.order.len());
        }
        Ok(())
    }

    /// To be called when all stacks and strings are in: looks up the texts of the frames.
    pub(super) fn finish(&mut self, strings: &Strings) -> Faulty<()> {
        self.ids.compact();
        self.prefix = self.ids.prefix();
        self.by_pc = IdHashMap::default();
        for (frame, (func, file)) in self.frames.iter_mut().zip(std::mem::take(&mut self.texts)) {
            let index = |id, what| {
                strings.index(StringId(id)).ok_or_else(|| {
                    let pc = frame.pc;
                    fault!(UnknownId, "frame with pc {pc:#x}: its {what} name is string {id}, which does not exist")
                })
            };
            (frame.func, frame.file) = (index(func, "function")?, index(file, "file")?);
        }
        Ok(())
    }
}

/// A walk over the integers of a table.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// A walk over a payload without its first byte, which told what the batch is.
    pub(super) fn after_first_byte(data: &'a [u8]) -> Fields<'a> {
        Fields { rest: data.get(1..).unwrap_or_default() }
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&b, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(b)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let (v, n) = varint::read(self.rest)?;
        self.rest = &self.rest[n..];
        Some(v)
    }

    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(bytes)
    }

    /// The next integer, which must be there.
    ///
    /// Where the data ends before the first byte of an integer, Go's reader sees the end of the file and stops without a
    /// word; such a fault is marked.
    pub(super) fn number(&mut self, what: &str) -> Faulty<u64> {
        let at_end = self.rest.is_empty();
        self.varint().ok_or_else(|| {
            if at_end {
                fault!(Table, "end of data: expected {what}").silent_in_go()
            } else {
                fault!(Table, "{what} is cut short or too large")
            }
        })
    }
}
