//! A trace without what its program's makers call things.

use super::generation::{Batch, Generation, Generations, Table, put, put_text};
use super::hidden::{Hider, is_public_function};
use super::sink::Sink;
use super::tables::checked;
use super::{Error, Report, clock, tables};
use crate::format::private::{PRIVATE, Section, meta, series};
use crate::format::{EXPERIMENT_ALLOC_FREE, Kind};
use crate::read::batches::Content;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

/// Writes a trace without names of the user's: functions, files, goroutines, tasks, regions, labels and categories become hashes
/// (the same name has the same hash within one call); log messages become empty; the map of modules, the process id and the types
/// of objects are left out. What remains: times, states, stacks as shapes, line numbers, sizes, and names of standard
/// libraries. `tick` is called with the number of bytes read, now and then.
///
/// # Errors
/// As the [module](super) says.
pub fn anonymize(input: impl Read, output: impl Write, tick: &mut dyn FnMut(u64)) -> Result<Report, Error> {
    let mut generations = Generations::new(input).map_err(Error::Read)?;
    let mut sink = Sink::new(output, generations.version())?;
    let hider = Hider::new();
    let mut read = 0;
    loop {
        match generations.next().and_then(checked) {
            Ok(Some(mut g)) => {
                read += 1;
                hide(&mut g, &hider);
                sink.write(&g)?;
                tick(generations.bytes_read());
            }
            Ok(None) => return sink.finish(read),
            Err(e) => return Err(sink.damaged(read, e)),
        }
    }
}

/// How the strings of a generation are used, by id.
#[derive(Default)]
struct Uses {
    /// As functions' names; whether all that have it are public.
    functions: HashMap<u64, bool>,
    /// As files; whether all functions in them are public.
    files: HashMap<u64, bool>,
    /// As names of what is neither.
    words: HashSet<u64>,
}

impl Uses {
    fn of(g: &Generation) -> Uses {
        let mut uses = Uses::default();
        let texts: HashMap<u64, &[u8]> = tables::strings(g).map(|t| (t.id, t.bytes)).collect();
        let text = |id: u64| texts.get(&id).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
        // The leaf of a system call's stack is its name where no file is told.
        let mut calls = HashSet::new();
        let mut call_names = Vec::new();
        for b in &g.batches {
            for (kind, args) in b.events() {
                for (name, &arg) in kind.spec().args.iter().zip(&args) {
                    match *name {
                        // A message.
                        "value_string" => false,
                        name if name.ends_with("string") => uses.words.insert(arg),
                        "stack" if kind == Kind::GoSyscallBegin => calls.insert(arg),
                        _ => false,
                    };
                }
            }
        }
        for stack in tables::stacks(g) {
            for (i, &[_, func, file, _]) in stack.frames.iter().enumerate() {
                let call = i == 0 && text(file).is_empty() && calls.contains(&stack.id) && is_call(text(func));
                if call {
                    call_names.push(func);
                }
                let public = call || is_public_function(text(func));
                uses.functions.entry(func).and_modify(|p| *p &= public).or_insert(public);
                if file != 0 && !text(file).is_empty() {
                    uses.files.entry(file).and_modify(|p| *p &= public).or_insert(public);
                }
            }
        }
        // The C library has a function of the same name, which is as public where it is an ordinary frame.
        uses.functions.extend(call_names.into_iter().map(|func| (func, true)));
        uses
    }

    /// What a string becomes.
    fn hidden(&self, id: u64, bytes: &[u8], hider: &Hider) -> String {
        let text = String::from_utf8_lossy(bytes);
        // The same text may be a function's name too, such as `sleep`: it is a word all the same.
        if self.words.contains(&id) && Hider::is_public_word(&text) {
            return text.into_owned();
        }
        if let Some(&public) = self.functions.get(&id) {
            return if public { text.into_owned() } else { hider.function(&text) };
        }
        if let Some(&public) = self.files.get(&id) {
            return hider.file(&text, public);
        }
        // What is no word is a message, or nothing that is used.
        if self.words.contains(&id) && !text.is_empty() { hider.word(&text) } else { String::new() }
    }
}

/// Whether this could be the name of a system call.
fn is_call(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn hide(g: &mut Generation, hider: &Hider) {
    let uses = Uses::of(g);
    let place = g.with(Content::Strings).next().cloned();
    let mut strings = place.as_ref().map(|like| Table::new(Kind::Strings, like));
    if let Some(table) = &mut strings {
        let mut record = Vec::new();
        for t in tables::strings(g) {
            record.clear();
            record.push(Kind::String as u8);
            put(&mut record, t.id);
            put_text(&mut record, uses.hidden(t.id, t.bytes, hider).as_bytes());
            table.record(&record);
        }
    }
    let mut strings = strings.map(|t| t.batches);
    for b in std::mem::take(&mut g.batches) {
        match b.content() {
            // All of them stand where the first one stood.
            Content::Strings => g.batches.extend(strings.take().into_iter().flatten()),
            Content::Experiment(_) => g.batches.extend(private(b)),
            _ => g.batches.push(b),
        }
    }
}

/// What remains of a batch of data of an experiment.
fn private(b: Batch) -> Option<Batch> {
    if b.experiment != Some(EXPERIMENT_ALLOC_FREE) {
        return None;
    }
    match (b.data.first(), b.data.get(1).and_then(|&n| Section::from_wire(n))) {
        // How to read addresses.
        (Some(1), _) => Some(b),
        (Some(&PRIVATE), Some(Section::Meta)) => {
            let mut data = vec![PRIVATE, Section::Meta as u8];
            const KEPT: [&str; 10] = [
                meta::WRITER,
                meta::WALL_NS,
                meta::TRACE_NS,
                meta::MONO_NS,
                meta::LOST_EVENTS,
                meta::LOST_SAMPLES,
                meta::LOST_ALLOCATIONS,
                meta::RAW_PCS,
                meta::HEAP_QUANTUM,
                meta::SAMPLE_PERIOD,
            ];
            for (key, value) in clock::meta_pairs(&b) {
                if KEPT.iter().any(|k| k.as_bytes() == key) {
                    put_text(&mut data, key);
                    put_text(&mut data, value);
                }
            }
            Some(Batch { data, ..b })
        }
        // Addresses, sizes and numbers of strings.
        (Some(&PRIVATE), Some(Section::Allocations)) => Some(b),
        // Their names are the tracer's own.
        (Some(&PRIVATE), Some(Section::Series)) => series_are_ours(&b.data[2..]).then_some(b),
        _ => None,
    }
}

/// Whether all series of a batch have names that the tracer gives.
fn series_are_ours(data: &[u8]) -> bool {
    let mut fields = tables::Fields { rest: data };
    let mut one = || {
        let len = fields.number()?;
        let name = fields.take(len)?;
        let n = fields.number()?;
        for _ in 0..n {
            fields.number()?;
            fields.number()?;
        }
        let ours = series::PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
        Some((ours, fields.rest.is_empty()))
    };
    loop {
        match one() {
            Some((true, true)) => return true,
            Some((true, false)) => {}
            _ => return false,
        }
    }
}
