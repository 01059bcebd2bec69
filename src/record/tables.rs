//! The string and stack tables of each generation, put together by the writer.
//!
//! Program counters are resolved once; each generation writes the strings and stacks that its events refer to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::section::{stack_id, string_id};
use super::string_table::{self, NameId};
use super::symbolize::{Frame, Symbolizer};
use super::wire::{Table, put, put_text};
use super::{obituary, stacks};
use crate::format::{Kind, MAX_FRAMES};
use crate::sys::thread::NAME_BYTES;

/// Frames of captured stacks have these program counters: `index * FRAME_STEP`. Readers look frames up by program counter, so each
/// level of inlining needs one of its own; small numbers are short on the wire.
const FRAME_STEP: u64 = 16;
/// Where the program counters of the one-frame stacks begin that name goroutines.
const NAME_PCS: u64 = 1 << 40;

#[derive(Debug)]
struct FrameText {
    func: u32,
    file: u32,
    line: u32,
}

/// What is known of a stack of the stack table.
#[derive(Debug)]
struct KnownStack {
    /// Indices into `frames`, leaf first.
    frames: Box<[u32]>,
    /// Why a thread blocks here.
    reason: &'static str,
    /// The generation in which that was found out. Events of it and of the next may still ask.
    known_in: u32,
}

/// How frames are resolved.
pub(crate) enum Resolve {
    Symbols(Box<Symbolizer>),
    /// Module and offset, with the true program counter.
    Raw,
}

pub(crate) struct Tables {
    resolve: Resolve,
    texts: Vec<Box<str>>,
    text_ids: HashMap<Box<str>, u32>,
    /// The generation in which a text was last used.
    text_used: Vec<u32>,
    frames: Vec<FrameText>,
    /// In raw mode the program counter of each frame.
    raw_pcs: Vec<u64>,
    pcs: HashMap<usize, Box<[u32]>>,
    stacks: HashMap<u32, KnownStack>,
}

impl Tables {
    pub(crate) fn new(resolve: Resolve) -> Tables {
        Tables {
            resolve,
            texts: Vec::new(),
            text_ids: HashMap::new(),
            text_used: Vec::new(),
            frames: Vec::new(),
            raw_pcs: Vec::new(),
            pcs: HashMap::new(),
            stacks: HashMap::new(),
        }
    }

    /// The number of a text, which may be new.
    fn text(&mut self, text: &str) -> u32 {
        let text = string_table::cut(text);
        match self.text_ids.entry(text.into()) {
            Entry::Occupied(e) => *e.get(),
            Entry::Vacant(e) => {
                let n = self.texts.len() as u32;
                self.texts.push(text.into());
                self.text_used.push(0);
                *e.insert(n)
            }
        }
    }

    /// The wire id of a text that this generation uses.
    pub(crate) fn use_text(&mut self, text: &str, generation: u32) -> u64 {
        let n = self.text(text);
        self.use_number(n, generation)
    }

    fn use_number(&mut self, n: u32, generation: u32) -> u64 {
        self.text_used[n as usize] = generation;
        string_id::writer(u64::from(n))
    }

    /// Appends the tables of `generation`: everything that its events refer to. `names` are the goroutines' names.
    /// `between` is called now and then while that takes its time.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        generation: u32,
        m: u64,
        at_ns: u64,
        names: &[(u64, [u8; NAME_BYTES])],
        between: &mut dyn FnMut(),
    ) {
        let parity = (generation & 1) as usize;
        let mut strings = Table::new(Kind::Strings, generation, m, at_ns);
        let mut table = Table::new(Kind::Stacks, generation, m, at_ns);
        let mut used = Vec::new();
        stacks::drain_used(parity, |id| used.push(id));
        for id in used {
            if self.stack(id, generation) {
                between();
            }
            let Some(known) = self.stacks.get(&id) else { continue };
            table.record(out, |data| {
                data.push(Kind::Stack as u8);
                put(data, stack_id::captured(id));
                put(data, known.frames.len() as u64);
                for &f in &known.frames {
                    let frame = &self.frames[f as usize];
                    put(data, self.raw_pcs.get(f as usize).copied().unwrap_or((u64::from(f) + 1) * FRAME_STEP));
                    put(data, string_id::writer(u64::from(frame.func)));
                    put(data, string_id::writer(u64::from(frame.file)));
                    put(data, u64::from(frame.line));
                    self.text_used[frame.func as usize] = generation;
                    self.text_used[frame.file as usize] = generation;
                }
            });
            // Once the reason has a name of its own, events that were on their way may still refer to that of the stack, for one
            // generation. Where the table of names was full it never gets one.
            if known.known_in + 1 >= generation || stacks::reason(id) == 0 {
                strings.record(out, |data| {
                    data.push(Kind::String as u8);
                    put(data, string_id::reason_of_stack(id));
                    put_text(data, known.reason.as_bytes());
                });
            }
        }
        let mut name = |this: &mut Tables, goid: u64, name: &[u8; NAME_BYTES]| {
            let n = this.text(readable(name).as_ref());
            let func = this.use_number(n, generation);
            table.record(out, |data| {
                data.push(Kind::Stack as u8);
                for v in [stack_id::name_of(goid), 1, NAME_PCS + u64::from(n) * FRAME_STEP, func, 0, 0] {
                    put(data, v);
                }
            });
        };
        let mut told: Vec<u64> = Vec::new();
        obituary::drain(parity, |goid, text| {
            told.push(goid);
            name(self, goid, &text);
        });
        told.sort_unstable();
        for (goid, text) in names {
            if told.binary_search(goid).is_err() {
                name(self, *goid, text);
            }
        }
        table.flush(out);
        string_table::drain_used(parity, |id| {
            self.string(&mut strings, out, string_id::name(id), string_table::bytes(id))
        });
        for (n, used) in self.text_used.iter().enumerate() {
            if *used == generation {
                self.string(&mut strings, out, string_id::writer(n as u64), self.texts[n].as_bytes());
            }
        }
        strings.flush(out);
    }

    fn string(&self, strings: &mut Table, out: &mut Vec<u8>, id: u64, text: &[u8]) {
        strings.record(out, |data| {
            data.push(Kind::String as u8);
            put(data, id);
            put_text(data, text);
        });
    }

    /// Sees to it that the frames of a stack are known. True if they were not.
    fn stack(&mut self, id: u32, generation: u32) -> bool {
        if self.stacks.contains_key(&id) {
            return false;
        }
        let pcs = stacks::get(id);
        let (frames, reason) = match &self.resolve {
            Resolve::Symbols(_) => self.resolve_stack(pcs),
            Resolve::Raw => (self.raw_stack(pcs), "sync"),
        };
        stacks::set_reason(id, reason);
        self.stacks.insert(id, KnownStack { frames: frames.into(), reason, known_in: generation });
        true
    }

    fn resolve_stack(&mut self, pcs: &[usize]) -> (Vec<u32>, &'static str) {
        let Resolve::Symbols(mut symbolizer) = core::mem::replace(&mut self.resolve, Resolve::Raw) else {
            return (Vec::new(), "sync");
        };
        // A system call's name stands before the code that makes it; a wrapper of the same name would say it again.
        let (syscall, pcs) = match pcs.split_first() {
            Some((&pc, rest)) if let Some(name) = stacks::syscall_at(pc) => (Some((pc, name.as_str())), rest),
            _ => (None, pcs),
        };
        let mut indices = Vec::new();
        let mut frames: Vec<Frame> = Vec::new();
        for &pc in pcs {
            frames.extend_from_slice(symbolizer.frames(pc));
            let resolved = &frames[indices.len()..];
            let texts = resolved.iter().map(|f| (symbolizer.name(f.func), symbolizer.name(f.file), f.line));
            indices.extend_from_slice(self.of_pc(pc, texts));
        }
        let reason = symbolizer.classify_block(&frames).as_str();
        let own = symbolizer.trim_entry(&frames);
        indices.truncate(own.len());
        let mut shown = symbolizer.trim_internal(own);
        if let Some((_, name)) = syscall
            && shown.first().is_some_and(|f| symbolizer.name(f.func) == name)
        {
            shown = &shown[1..];
        }
        indices.drain(..own.len() - shown.len());
        if let Some((pc, name)) = syscall {
            let leaf = self.of_pc(pc, [(name, "", 0)].into_iter())[0];
            indices.insert(0, leaf);
        }
        indices.truncate(MAX_FRAMES);
        self.resolve = Resolve::Symbols(symbolizer);
        (indices, reason)
    }

    /// The indices of the frames at a program counter, which are `resolved` if it is new.
    fn of_pc<'a>(&mut self, pc: usize, resolved: impl Iterator<Item = (&'a str, &'a str, u32)>) -> &[u32] {
        if !self.pcs.contains_key(&pc) {
            let first = self.frames.len() as u32;
            for (func, file, line) in resolved {
                let (func, file) = (self.text(func), self.text(file));
                self.frames.push(FrameText { func, file, line });
            }
            let of_pc = (first..self.frames.len() as u32).collect();
            self.pcs.insert(pc, of_pc);
        }
        &self.pcs[&pc]
    }

    fn raw_stack(&mut self, pcs: &[usize]) -> Vec<u32> {
        let mut indices = Vec::new();
        for &pc in pcs.iter().take(MAX_FRAMES) {
            let text = match stacks::syscall_at(pc) {
                Some(name) => name.as_str().to_owned(),
                None => format!("{pc:#x}"),
            };
            let i = self.of_pc(pc, [(&*text, "", 0)].into_iter())[0];
            // The true counter stands in the frame.
            self.raw_pcs.resize(self.frames.len(), 0);
            self.raw_pcs[i as usize] = pc as u64;
            indices.push(i);
        }
        indices
    }

    /// Gives back what symbolizing needs; it is found again when needed.
    pub(crate) fn clear(&mut self) {
        if let Resolve::Symbols(s) = &mut self.resolve {
            s.clear();
        }
    }

    pub(crate) fn is_raw(&self) -> bool {
        matches!(self.resolve, Resolve::Raw)
    }
}

/// A name of a thread as text; an empty one is `thread`.
fn readable(name: &[u8; NAME_BYTES]) -> std::borrow::Cow<'_, str> {
    let end = name.iter().position(|&b| b == 0).unwrap_or(NAME_BYTES);
    if end == 0 { "thread".into() } else { String::from_utf8_lossy(&name[..end]) }
}

/// The reason that a hook gives when the writer does not know the stack yet: found out from the stack's frames.
pub(crate) fn reason(stack: u32, known: NameId, parity: usize) -> u64 {
    if known != 0 {
        string_table::mark_used(known, parity);
        return string_id::name(known);
    }
    string_id::reason_of_stack(stack)
}
