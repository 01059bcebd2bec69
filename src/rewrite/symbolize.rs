//! Names for the frames of a trace that was recorded without symbols.

use super::binary::{Binary, Files, FrameName, Module};
use super::generation::{Batch, Generation, Generations, Table, put, put_text};
use super::sink::Sink;
use super::tables::checked;
use super::{Error, Report, clock, tables};
use crate::format::private::{PRIVATE, Section, meta};
use crate::format::{EXPERIMENT_ALLOC_FREE, Kind, MAX_FRAMES, MAX_STRING_BYTES};
use crate::names::{function_path, internal};
use crate::read::batches::Content;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::rc::Rc;

pub use super::binary::Binaries;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SymbolizeReport {
    /// What was written.
    pub written: Report,
    /// The modules that frames lie in, by path.
    pub modules: Vec<ModuleReport>,
}

/// What came of one module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleReport {
    /// Its path in the process.
    pub path: String,
    /// Its build id, in hexadecimal digits; may be empty.
    pub build_id: String,
    /// The file that gave the names.
    pub found: Option<PathBuf>,
    /// Why no file did.
    pub why_not: Option<String>,
    /// The program counters in it.
    pub addresses: u64,
    /// Of them, those that have names now.
    pub named: u64,
}

/// Writes a trace with names in place of raw program counters: as [`Symbolizer::symbolize`] does, for one trace.
///
/// # Errors
/// As there.
pub fn symbolize(
    input: impl Read,
    output: impl Write,
    binaries: &Binaries,
    tick: &mut dyn FnMut(u64),
) -> Result<SymbolizeReport, Error> {
    Symbolizer::new(binaries.clone()).symbolize(input, output, tick)
}

/// Names for any number of traces: debug information that one of them needed is not read again for the next.
#[derive(Default)]
pub struct Symbolizer {
    binaries: Binaries,
    files: Files,
}

impl fmt::Debug for Symbolizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbolizer").field("binaries", &self.binaries).finish_non_exhaustive()
    }
}

impl Symbolizer {
    /// Nothing is read before a trace needs it.
    #[must_use]
    pub fn new(binaries: Binaries) -> Symbolizer {
        Symbolizer { binaries, files: Files::new() }
    }

    /// Writes a trace with names in place of raw program counters, as the tracer would have written it by itself. `tick` is
    /// called with the number of bytes read, now and then.
    ///
    /// Binaries are found by the build ids that the trace has: among those named, among debug information by build id, and where they
    /// were when the program ran. Frames of a module that is not found stay as they are, so that another run can name them.
    /// The reasons of waits stay as they were recorded. A file that is replaced while this value lives is not looked at again.
    ///
    /// # Errors
    /// [`Error::Cannot`] if the trace has no raw program counters; else as the [module](super) says.
    pub fn symbolize(
        &mut self,
        input: impl Read,
        output: impl Write,
        tick: &mut dyn FnMut(u64),
    ) -> Result<SymbolizeReport, Error> {
        let Symbolizer { binaries, files } = self;
        let names = Names { binaries, files, modules: BTreeMap::new(), known: HashMap::new(), pcs: HashMap::new() };
        with_names(input, output, names, tick)
    }
}

fn with_names(
    input: impl Read,
    output: impl Write,
    mut names: Names<'_>,
    tick: &mut dyn FnMut(u64),
) -> Result<SymbolizeReport, Error> {
    let mut generations = Generations::new(input).map_err(Error::Read)?;
    let mut sink = Sink::new(output, generations.version())?;
    let (mut read, mut raw) = (0, false);
    let damage = loop {
        match generations.next().and_then(checked) {
            Ok(Some(mut g)) => {
                read += 1;
                if is_raw(&g) {
                    raw = true;
                    names.generation(&mut g);
                }
                sink.write(&g)?;
                tick(generations.bytes_read());
            }
            Ok(None) => break None,
            Err(e) => break Some(e),
        }
    };
    if let Some(e) = damage {
        return Err(sink.damaged(read, e));
    }
    let written = sink.finish(read)?;
    if !raw && read > 0 {
        return Err(Error::Cannot("the trace has no raw program counters: its frames have names already".to_owned()));
    }
    Ok(SymbolizeReport { written, modules: names.modules.into_values().map(|m| m.report).collect() })
}

/// Whether the frames of a generation are raw.
fn is_raw(g: &Generation) -> bool {
    let raw = |(key, value): (&[u8], &[u8])| key == meta::RAW_PCS.as_bytes() && value == b"1";
    g.batches.iter().flat_map(clock::meta_pairs).any(raw)
}

/// The modules that a generation tells.
fn modules(g: &Generation) -> Vec<Module> {
    let mut all = Vec::new();
    for b in &g.batches {
        if b.experiment != Some(EXPERIMENT_ALLOC_FREE) || !b.data.starts_with(&[PRIVATE, Section::Modules as u8]) {
            continue;
        }
        let mut fields = tables::Fields { rest: &b.data[2..] };
        let mut one = || {
            let (start, end, file_offset) = (fields.number()?, fields.number()?, fields.number()?);
            let mut text = || {
                let len = fields.number()?;
                Some(String::from_utf8_lossy(fields.take(len)?).into_owned())
            };
            Some(Module { start, end, file_offset, build_id: text()?, path: text()? })
        };
        all.extend(std::iter::from_fn(&mut one));
    }
    all.sort_by_key(|m| m.start);
    all
}

/// All names so far, for the whole trace.
struct Names<'a> {
    binaries: &'a Binaries,
    files: &'a mut Files,
    modules: BTreeMap<(String, u64), Opened>,
    /// By raw program counter; empty if it has no name.
    known: HashMap<u64, Rc<[FrameName]>>,
    /// The number that stands for a frame. Readers look frames up by program counter, so each needs one of its own.
    pcs: HashMap<FrameName, u64>,
}

struct Opened {
    binary: Option<Binary>,
    report: ModuleReport,
}

/// A frame of the new table.
enum Shown {
    Named(FrameName),
    /// As it was.
    Raw([u64; 4]),
}

/// The least distance of numbers that stand for frames, as the tracer has it.
const FRAME_STEP: u64 = 16;

impl Names<'_> {
    fn generation(&mut self, g: &mut Generation) {
        let modules = modules(g);
        let texts: HashMap<u64, String> =
            tables::strings(g).map(|t| (t.id, String::from_utf8_lossy(t.bytes).into_owned())).collect();
        let mut strings = NewStrings { taken: texts.keys().copied().collect(), ..NewStrings::default() };
        let Some(place) = g.with(Content::Stacks).next().cloned() else { return };
        let mut table = Table::new(Kind::Stacks, &place);
        let mut all_named = true;
        for stack in tables::stacks(g) {
            let shown = self.stack(&stack.frames, &modules, &texts);
            let mut record = vec![Kind::Stack as u8];
            put(&mut record, stack.id);
            put(&mut record, shown.len() as u64);
            for frame in shown {
                let fields = match frame {
                    Shown::Raw(fields) => {
                        all_named &= !is_address(&fields, &texts);
                        fields
                    }
                    Shown::Named(f) => {
                        let next = (self.pcs.len() as u64 + 1) * FRAME_STEP;
                        let (func, file, line) = (strings.id(&f.func), strings.id(&f.file), u64::from(f.line));
                        [*self.pcs.entry(f).or_insert(next), func, file, line]
                    }
                };
                fields.into_iter().for_each(|v| put(&mut record, v));
            }
            table.record(&record);
        }
        let mut new = Table::new(Kind::Strings, &place);
        for (text, id) in &strings.order {
            let mut record = vec![Kind::String as u8];
            put(&mut record, *id);
            put_text(&mut record, text.as_bytes());
            new.record(&record);
        }
        let mut stacks = Some(table.batches);
        for b in std::mem::take(&mut g.batches) {
            match b.content() {
                Content::Stacks => g.batches.extend(stacks.take().into_iter().flatten()),
                Content::Experiment(_) if all_named => g.batches.push(without_raw_mark(b)),
                _ => g.batches.push(b),
            }
        }
        g.batches.extend(new.batches);
    }

    /// The frames of a stack as the tracer shows them.
    fn stack(&mut self, raw: &[[u64; 4]], modules: &[Module], texts: &HashMap<u64, String>) -> Vec<Shown> {
        if !raw.iter().any(|f| is_address(f, texts)) {
            return raw.iter().map(|f| Shown::Raw(*f)).collect();
        }
        // A system call's name stands before the code that makes it; a wrapper of the same name would say it again.
        let (call, raw) = match raw.split_first() {
            Some((first, rest)) if !is_address(first, texts) => (Some(*first), rest),
            _ => (None, raw),
        };
        let mut frames = Vec::new();
        let mut paths = Vec::new();
        for fields in raw {
            let found = if is_address(fields, texts) { self.frames(fields[0], modules) } else { Rc::default() };
            if found.is_empty() {
                paths.push(String::new());
                frames.push(Shown::Raw(*fields));
            }
            for f in &*found {
                paths.push(function_path::of(&f.func));
                frames.push(Shown::Named(f.clone()));
            }
        }
        let own = internal::within_entry(paths.iter().map(|p| internal::entry(p)));
        frames.truncate(own);
        let mut hidden = internal::leading(paths[..own].iter().map(|p| internal::role(p)));
        if hidden >= own {
            hidden = 0;
        }
        frames.drain(..hidden);
        if let Some(call) = call {
            let name = texts.get(&call[1]);
            if matches!(frames.first(), Some(Shown::Named(f)) if Some(&f.func) == name) {
                frames.remove(0);
            }
            frames.insert(0, Shown::Raw(call));
        }
        frames.truncate(MAX_FRAMES);
        frames
    }

    /// The frames at a raw program counter.
    fn frames(&mut self, pc: u64, modules: &[Module]) -> Rc<[FrameName]> {
        if let Some(known) = self.known.get(&pc) {
            return known.clone();
        }
        let found = self.resolve(pc, modules);
        self.known.insert(pc, found.clone());
        found
    }

    fn resolve(&mut self, pc: u64, modules: &[Module]) -> Rc<[FrameName]> {
        // It is where the call returns to; the call is before it.
        let address = pc.saturating_sub(1);
        let behind = modules.partition_point(|m| m.start <= address);
        let Some(module) = modules[..behind].last().filter(|m| address < m.end) else { return Rc::default() };
        let (binaries, files) = (self.binaries, &mut *self.files);
        let opened = self.modules.entry((module.path.clone(), module.start)).or_insert_with(|| {
            let (binary, why_not) = match binaries.find(module, files) {
                Ok(binary) => (Some(binary), None),
                Err(why) => (None, Some(why)),
            };
            let found = binary.as_ref().map(|b| b.path().to_owned());
            let (path, build_id) = (module.path.clone(), module.build_id.clone());
            Opened { binary, report: ModuleReport { path, build_id, found, why_not, addresses: 0, named: 0 } }
        });
        opened.report.addresses += 1;
        let frames = opened.binary.as_ref().map(|b| b.frames(address)).unwrap_or_default();
        opened.report.named += u64::from(!frames.is_empty());
        frames
    }
}

/// Whether a frame is a raw program counter: then its function is the number.
fn is_address(fields: &[u64; 4], texts: &HashMap<u64, String>) -> bool {
    texts.get(&fields[1]).is_some_and(|t| t.starts_with("0x") && *t == format!("{:#x}", fields[0]))
}

/// Private data without the word that frames are raw.
fn without_raw_mark(b: Batch) -> Batch {
    let pairs = clock::meta_pairs(&b);
    if pairs.is_empty() {
        return b;
    }
    let mut data = vec![PRIVATE, Section::Meta as u8];
    for (key, value) in pairs.into_iter().filter(|(key, _)| *key != meta::RAW_PCS.as_bytes()) {
        put_text(&mut data, key);
        put_text(&mut data, value);
    }
    Batch { data, ..b }
}

/// Strings that come to those of a generation, under numbers that are free.
#[derive(Default)]
struct NewStrings {
    taken: HashSet<u64>,
    last: u64,
    ids: HashMap<String, u64>,
    order: Vec<(String, u64)>,
}

impl NewStrings {
    fn id(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        let end = (0..=MAX_STRING_BYTES.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        let text = &text[..end];
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let free = |id: &u64| !self.taken.contains(id);
        let id = (self.last + 1..).find(free).unwrap_or(0);
        self.last = id;
        self.ids.insert(text.to_owned(), id);
        self.order.push((text.to_owned(), id));
        id
    }
}
