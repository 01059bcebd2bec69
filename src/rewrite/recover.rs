//! A whole trace of a process that was killed: what it had written, and what it still had in its buffers.
//!
//! The tracer shares its buffers and tables with a file, the [black box](crate::format::black_box). The last generations are put
//! together from there as the tracer would have: batches, strings, stacks, clock. What threads had said by then is a whole
//! beginning of what they would have said, because nobody tells of an effect before its cause has been told.

use super::generation::{Batch, Generation, Generations, put, put_text};
use super::sink::Sink;
use super::{Error, Report, tables};
use crate::format::black_box::{JOURNAL_AT, JOURNAL_BYTES, MAGIC, SLABS_AT, STRIDE_BYTES, TAIL_BYTES};
use crate::format::black_box::{content, entry, tail, word};
use crate::format::header::HEADER_BYTES;
use crate::format::private::{PRIVATE, Section, meta};
use crate::format::{EXPERIMENT_ALLOC_FREE, Kind, MAX_BATCH_BYTES, MAX_FRAMES, MAX_STRING_BYTES, Version, bytes};
use crate::read::ThreadId;
use crate::read::batches::{BatchReader, Content, Item};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoverReport {
    /// What was written, all in all.
    pub written: Report,
    /// Of the generations, how many were put together from the black box.
    pub recovered: u64,
    /// The process.
    pub pid: u32,
}

/// Where the bytes of a trace are that was being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// How many bytes of the input come before those of the last file: of one that was put aside, header and all.
    pub before: u64,
    /// Whether the process still runs: then only what it has written is taken, and not its buffers.
    pub is_running: bool,
}

/// Writes the whole trace of a process that was killed; nothing but a header if it has none. `input` is the trace's file, `black_box` the file beside it. If it had put a
/// file aside (a flight recorder), the input is that and then the last one without its header.
///
/// # Errors
/// [`Error::Cannot`] if the black box is none, or was never begun; else as the [module](super) says.
pub fn recover(
    input: impl Read,
    mut black_box: impl Read + Seek,
    output: impl Write,
    parts: Parts,
) -> Result<RecoverReport, Error> {
    let found = BlackBox::read(&mut black_box).map_err(|e| Error::Cannot(format!("black box: {e}")))?;
    let mut sink = Sink::new(output, found.version)?;
    let mut tables = Tables::default();
    let mut read = 0;
    // What is behind that was being written when the process ended: it is in the box, too.
    let header = if parts.before > 0 { HEADER_BYTES as u64 } else { 0 };
    let bytes = (parts.before + found.written_bytes).saturating_sub(header);
    if bytes > HEADER_BYTES as u64 {
        let mut generations = Generations::new(input.take(bytes)).map_err(Error::Read)?;
        while let Some(g) = generations.next().map_err(Error::Read)? {
            read += 1;
            tables.learn(&g);
            sink.write(&g)?;
        }
    }
    tables.add_journal(&found);
    let mut recovered = 0;
    for clock in found.generations.iter().filter(|_| !parts.is_running) {
        if let Some(g) = generation(&found, clock, &tables) {
            sink.write(&g)?;
            recovered += 1;
        }
    }
    if read + recovered == 0 {
        // The process ended, or is, before its first event.
        return Ok(RecoverReport { pid: found.pid, ..RecoverReport::default() });
    }
    let written = sink.finish(read)?;
    Ok(RecoverReport { written, recovered, pid: found.pid })
}

/// A generation that was not written, and its clock.
struct Clock {
    number: u64,
    opened_ns: u64,
    mono_ns: u64,
    wall_ns: u64,
}

/// A buffer that had something.
struct Found {
    content: u32,
    generation: u64,
    tid: u64,
    base_ns: u64,
    data: Vec<u8>,
}

/// What is in the file.
struct BlackBox {
    pid: u32,
    version: Version,
    written_bytes: u64,
    generations: Vec<Clock>,
    buffers: Vec<Found>,
    journal: Vec<u8>,
}

impl BlackBox {
    fn read(file: &mut (impl Read + Seek)) -> io::Result<BlackBox> {
        let len = file.seek(SeekFrom::End(0))?;
        let mut head = [0; word::COUNT * 8];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut head)?;
        let at = |index: usize| word_at(&head, index * 8);
        if at(word::MAGIC) != MAGIC {
            return Err(io::Error::other("not begun, or of another version of exectrace"));
        }
        let minor = at(word::VERSION);
        let version = Version::ALL.iter().find(|v| u64::from(v.minor()) == minor);
        let version = *version.ok_or_else(|| io::Error::other("a version of the format that is not known"))?;
        let written = at(word::WRITTEN);
        let mut generations: Vec<Clock> = word::GENERATIONS
            .iter()
            .map(|slot| Clock {
                number: at(slot + word::NUMBER),
                opened_ns: at(slot + word::OPENED_NS),
                mono_ns: at(slot + word::MONO_NS),
                wall_ns: at(slot + word::WALL_NS),
            })
            .filter(|clock| clock.number > written)
            .collect();
        generations.sort_by_key(|clock| clock.number);
        let mut journal = Vec::new();
        file.seek(SeekFrom::Start(JOURNAL_AT as u64))?;
        file.take(at(word::JOURNAL_USED).min(JOURNAL_BYTES as u64)).read_to_end(&mut journal)?;
        let mut buffers = Vec::new();
        let slabs = at(word::SLABS_BYTES).min(len.saturating_sub(SLABS_AT as u64));
        file.seek(SeekFrom::Start(SLABS_AT as u64))?;
        let mut stride = vec![0; STRIDE_BYTES];
        for _ in 0..slabs / STRIDE_BYTES as u64 {
            file.read_exact(&mut stride)?;
            buffers.extend(buffer(&stride).filter(|b| generations.iter().any(|g| g.number == b.generation)));
        }
        let pid = at(word::PID) as u32;
        let written_bytes = at(word::WRITTEN_BYTES).saturating_sub(at(word::FILE_BASE));
        Ok(BlackBox { pid, version, written_bytes, generations, buffers, journal })
    }
}

fn word_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

fn buffer(stride: &[u8]) -> Option<Found> {
    let (payload, end) = stride.split_at(STRIDE_BYTES - TAIL_BYTES);
    let half = |at: usize| end.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let content = half(tail::CONTENT);
    let data = payload.get(..half(tail::LEN) as usize).filter(|data| !data.is_empty() && content != 0)?;
    Some(Found {
        content,
        generation: half(tail::GENERATION).into(),
        tid: half(tail::TID).into(),
        base_ns: word_at(end, tail::BASE_NS),
        data: data.to_vec(),
    })
}

/// What events refer to.
#[derive(Default)]
struct Tables {
    stacks: BTreeMap<u32, Vec<u64>>,
    names: BTreeMap<u32, String>,
    /// Of goroutines.
    threads: HashMap<u64, String>,
    calls: HashMap<u64, String>,
    modules: BTreeMap<u64, Vec<u8>>,
}

/// Ids of strings and stacks as the tracer gives them: the low bits tell whose number the rest is. (`record/section.rs`.)
mod id {
    pub const fn name(id: u32) -> u64 {
        (id as u64) << 2
    }
    pub const fn writer(n: u64) -> u64 {
        n << 2 | 1
    }
    pub const fn is_name_of_goroutine(stack: u64) -> bool {
        stack & 1 == 1
    }
}

impl Tables {
    /// Takes from a generation of the file what the box may lack: what it says of modules and goroutines.
    fn learn(&mut self, g: &Generation) {
        let texts: HashMap<u64, &[u8]> = tables::strings(g).map(|t| (t.id, t.bytes)).collect();
        for stack in tables::stacks(g).filter(|s| id::is_name_of_goroutine(s.id)) {
            if let Some(text) = stack.frames.first().and_then(|frame| texts.get(&frame[1])) {
                self.threads.insert(stack.id >> 1, String::from_utf8_lossy(text).into_owned());
            }
        }
        for b in &g.batches {
            let Some(mut rest) = b.data.strip_prefix(&[PRIVATE, Section::Modules as u8]) else { continue };
            let mut one = || {
                let mut fields = tables::Fields { rest };
                let start = fields.number()?;
                fields.number()?;
                fields.number()?;
                for _ in 0..2 {
                    let len = fields.number()?;
                    fields.take(len)?;
                }
                let (record, behind) = rest.split_at(rest.len() - fields.rest.len());
                rest = behind;
                Some((start, record.to_vec()))
            };
            self.modules.extend(std::iter::from_fn(&mut one));
        }
    }

    /// Takes in the entries of the journal, up to one that was not finished.
    fn add_journal(&mut self, found: &BlackBox) {
        let mut rest = &found.journal[..];
        loop {
            let (kind, bytes, id) = entry::parts(word_at(rest, 0));
            let Some(payload) = rest.get(8..8 + bytes).filter(|_| kind != 0) else { return };
            let text = || String::from_utf8_lossy(payload).into_owned();
            match kind {
                entry::STACK => {
                    self.stacks.insert(id, payload.chunks_exact(8).map(|w| word_at(w, 0)).collect());
                }
                entry::NAME => _ = self.names.insert(id, text()),
                entry::THREAD => _ = self.threads.insert(id.into(), text()),
                entry::SYSCALL => _ = self.calls.insert(id.into(), text()),
                entry::MODULE => {
                    let numbers: [u64; 4] = std::array::from_fn(|i| word_at(payload, i * 8));
                    let texts = payload.get(32..).unwrap_or_default();
                    let (build_id, path) = texts.split_at((numbers[3] as usize).min(texts.len()));
                    let mut record = Vec::new();
                    numbers[..3].iter().for_each(|&n| put(&mut record, n));
                    put_text(&mut record, build_id);
                    put_text(&mut record, path);
                    self.modules.entry(numbers[0]).or_insert(record);
                }
                // Of a later version.
                _ => {}
            }
            rest = &rest[(8 + bytes.next_multiple_of(8)).min(rest.len())..];
        }
    }
}

/// Puts a generation together. `None` if nothing was recorded in it.
fn generation(found: &BlackBox, clock: &Clock, tables: &Tables) -> Option<Generation> {
    let mut batches: Vec<Batch> = Vec::new();
    for b in found.buffers.iter().filter(|b| b.generation == clock.number) {
        match b.content {
            content::EVENTS => batches.push(batch(b, None, b.data.clone())),
            content::STRINGS => batches.push(batch(b, None, whole_strings(&b.data))),
            content::PRIVATE if private_is_whole(&b.data) => {
                batches.push(batch(b, Some(EXPERIMENT_ALLOC_FREE), b.data.clone()));
            }
            content::BATCHES => batches.extend(whole_batches(found.version, &b.data)),
            _ => {}
        }
    }
    if !batches.iter().any(|b| b.content() == Content::Events) {
        return None;
    }
    // A thread's batches in the order in which it wrote them.
    batches.sort_by_key(|b| (b.thread.0, b.time));
    let place = |data| Batch { experiment: None, thread: ThreadId(0), time: clock.opened_ns, data };
    let mut refers = References::default();
    batches.iter().for_each(|b| refers.add(b));
    let mut strings = Strings { taken: refers.told.clone(), ..Strings::default() };
    let stacks = stacks(tables, &refers, &mut strings);
    for (&n, text) in &tables.names {
        strings.tell(id::name(n), text);
    }
    for &id in &refers.strings {
        // Why a thread waits, which the tracer finds out when it closes a generation; and what was lost in the last moment.
        strings.tell(id, if id & 3 == 2 { "sync" } else { "?" });
    }
    let mut all = vec![place(sync(found.version, clock))];
    all.append(&mut batches);
    all.extend(cut(Kind::Stacks, stacks).map(place));
    all.extend(cut(Kind::Strings, strings.records).map(place));
    let private = |section, data: Vec<u8>| {
        let data = [&[PRIVATE, section as u8], &data[..]].concat();
        Batch { experiment: Some(EXPERIMENT_ALLOC_FREE), ..place(data) }
    };
    all.push(private(Section::Meta, about(found, clock)));
    let mut modules = Vec::new();
    for record in tables.modules.values().filter(|r| r.len() < MAX_BATCH_BYTES / 16) {
        if modules.len() + record.len() + 2 > MAX_BATCH_BYTES {
            break;
        }
        modules.extend_from_slice(record);
    }
    all.push(private(Section::Modules, modules));
    Some(Generation { number: clock.number, batches: all, offset: 0, bytes: 0 })
}

fn batch(b: &Found, experiment: Option<u8>, data: Vec<u8>) -> Batch {
    Batch { experiment, thread: ThreadId(b.tid), time: b.base_ns, data }
}

/// A string table without a last record that was not finished.
fn whole_strings(data: &[u8]) -> Vec<u8> {
    let mut fields = tables::Fields { rest: data.get(1..).unwrap_or_default() };
    let mut whole = data.len().min(1);
    let mut one = || {
        (fields.number()? == Kind::String as u64).then_some(())?;
        fields.number()?;
        let len = fields.number()?;
        fields.take(len)?;
        Some(data.len() - fields.rest.len())
    };
    while let Some(end) = one() {
        whole = end;
    }
    data[..whole].to_vec()
}

/// Whether the head of a batch of allocations is there. Its records come whole.
fn private_is_whole(data: &[u8]) -> bool {
    let mut fields = tables::Fields { rest: data.get(2..).unwrap_or_default() };
    fields.number().and_then(|_| fields.number()).is_some()
}

/// Batches that threads which ended left together.
fn whole_batches(version: Version, data: &[u8]) -> Vec<Batch> {
    let bytes = [&version.header()[..], data].concat();
    let Ok(mut reader) = BatchReader::new(&bytes[..]) else { return Vec::new() };
    let mut all = Vec::new();
    while let Ok(Some(Item::Batch(b))) = reader.next_item() {
        all.push(Batch { experiment: b.experiment, thread: b.thread, time: b.time, data: b.data.to_vec() });
    }
    all
}

/// What the events of a generation name.
#[derive(Default)]
struct References {
    strings: BTreeSet<u64>,
    stacks: BTreeSet<u64>,
    /// Strings that their batches have told.
    told: BTreeSet<u64>,
}

impl References {
    fn add(&mut self, b: &Batch) {
        if b.content() == Content::Strings {
            let of = Generation { number: 0, batches: vec![b.clone()], offset: 0, bytes: 0 };
            self.told.extend(tables::strings(&of).map(|t| t.id));
        }
        for (kind, args) in b.events() {
            for (name, value) in kind.spec().args.iter().zip(args) {
                if name.ends_with("stack") {
                    self.stacks.insert(value);
                } else if name.ends_with("_string") {
                    self.strings.insert(value);
                }
            }
        }
    }
}

/// The records of a string table in the making.
#[derive(Default)]
struct Strings {
    taken: BTreeSet<u64>,
    ids: HashMap<String, u64>,
    records: Vec<Vec<u8>>,
}

impl Strings {
    /// Gives `id` a text, unless it has one.
    fn tell(&mut self, id: u64, text: &str) {
        if id == 0 || !self.taken.insert(id) {
            return;
        }
        let end = (0..=MAX_STRING_BYTES.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        let mut record = vec![Kind::String as u8];
        put(&mut record, id);
        put_text(&mut record, &text.as_bytes()[..end]);
        self.records.push(record);
    }

    /// The id of a text of ours.
    fn id(&mut self, text: &str) -> u64 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = id::writer(self.ids.len() as u64 + 1);
        self.ids.insert(text.to_owned(), id);
        self.tell(id, text);
        id
    }
}

/// Where the program counters of frames begin that are no code, as the tracer has it.
const NAME_PCS: u64 = 1 << 40;

/// The records of the stack table: all that was journaled, the names of goroutines, and empty ones for what was lost.
fn stacks(tables: &Tables, refers: &References, strings: &mut Strings) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut told = BTreeSet::new();
    let mut record = |id: u64, frames: &[(u64, u64)]| {
        let mut record = vec![Kind::Stack as u8];
        put(&mut record, id);
        put(&mut record, frames.len() as u64);
        frames.iter().for_each(|&(pc, func)| [pc, func, 0, 0].into_iter().for_each(|v| put(&mut record, v)));
        told.insert(id);
        records.push(record);
    };
    for (&n, pcs) in &tables.stacks {
        let frame = |&pc: &u64| {
            let text = tables.calls.get(&pc).cloned().unwrap_or_else(|| format!("{pc:#x}"));
            (pc, strings.id(&text))
        };
        let frames: Vec<_> = pcs.iter().take(MAX_FRAMES).map(frame).collect();
        record(u64::from(n) << 1, &frames);
    }
    for &stack in refers.stacks.iter().filter(|&&s| id::is_name_of_goroutine(s)) {
        let name = strings.id(tables.threads.get(&(stack >> 1)).map_or("thread", |name| name));
        record(stack, &[(NAME_PCS + name, name)]);
    }
    let lost: Vec<u64> = refers.stacks.iter().filter(|&s| *s != 0 && !told.contains(s)).copied().collect();
    for stack in lost {
        let mut record = vec![Kind::Stack as u8];
        put(&mut record, stack);
        put(&mut record, 0);
        records.push(record);
    }
    records
}

/// Records as batches of a table.
fn cut(kind: Kind, records: Vec<Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    let mut batches: Vec<Vec<u8>> = Vec::new();
    for record in records {
        match batches.last_mut().filter(|b| b.len() + record.len() <= MAX_BATCH_BYTES) {
            Some(b) => b.extend_from_slice(&record),
            None => batches.push([&[kind as u8], &record[..]].concat()),
        }
    }
    batches.into_iter()
}

/// The clock: units are nanoseconds.
fn sync(version: Version, clock: &Clock) -> Vec<u8> {
    let (seconds, ns) = (clock.wall_ns / 1_000_000_000, clock.wall_ns % 1_000_000_000);
    bytes::clock(version, 1_000_000_000, [0, clock.mono_ns, seconds, ns])
}

/// What wrote the trace and how, as far as it is known.
fn about(found: &BlackBox, clock: &Clock) -> Vec<u8> {
    let mut data = Vec::new();
    let mut pair = |key: &str, value: &str| {
        put_text(&mut data, key.as_bytes());
        put_text(&mut data, value.as_bytes());
    };
    pair(meta::WRITER, concat!("exectrace ", env!("CARGO_PKG_VERSION")));
    for (key, value) in [
        (meta::PID, u64::from(found.pid)),
        (meta::TRACE_NS, clock.opened_ns),
        (meta::MONO_NS, clock.mono_ns),
        (meta::WALL_NS, clock.wall_ns),
    ] {
        pair(key, &value.to_string());
    }
    pair(meta::RAW_PCS, "1");
    data
}
