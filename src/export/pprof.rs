//! Profiles as pprof has them: `profile.proto` of github.com/google/pprof, not compressed.
//!
//! `go tool pprof` and whatever else reads pprof open it, compressed by gzip or not. Sample types and values are those of
//! `go tool trace -pprof=`: a count and nanoseconds. Each sample has its reason as a label (`reason`, or `region`). Profiles of
//! the heap have the four values of Go's.

use super::proto::Message;
use crate::analyze::{FrameInfo, HeapReport, Profile, ProfileKind};
use std::collections::HashMap;

/// A profile as an uncompressed pprof file.
#[must_use]
pub fn encode(p: &Profile) -> Vec<u8> {
    let mut out = Message::default();
    let mut strings = Strings::new();
    let (count, time) = p.kind.values();
    let (count, time) = (strings.id(count), strings.id(time));
    let (unit, ns) = (strings.id("count"), strings.id("nanoseconds"));
    out.message(1, &value_type(count, unit));
    out.message(1, &value_type(time, ns));

    let label_key = strings.id(if p.kind == ProfileKind::Region { "region" } else { "reason" });
    let mut code = Code::default();
    for e in &p.entries {
        let mut sample = Message::default();
        sample.packed(1, code.locations(&e.stack, &e.pcs, &mut strings));
        sample.packed(2, [e.count, e.total_ns]);
        if !e.label.is_empty() {
            let mut label = Message::default();
            label.number(1, label_key);
            label.number(2, strings.id(&e.label));
            sample.message(3, &label);
        }
        out.message(2, &sample);
    }
    let mut bytes = out.into_bytes();
    bytes.extend_from_slice(&code.tables.into_bytes());

    let mut tail = Message::default();
    for s in &strings.list {
        tail.bytes(6, s.as_bytes());
    }
    tail.number(9, p.begin_unix_ns.unwrap_or(0) as u64);
    tail.number(10, p.duration_ns);
    let period = if p.kind == ProfileKind::Cpu { value_type(time, ns) } else { value_type(time, unit) };
    tail.message(11, &period);
    tail.number(12, p.sample_period_ns.max(1));
    tail.number(14, time);
    bytes.extend_from_slice(&tail.into_bytes());
    bytes
}

/// Who holds the heap as an uncompressed pprof file: what was allocated, and what was held at the report's instant, as Go's heap
/// profiles have it. The report must be one by stack.
#[must_use]
pub fn encode_heap(r: &HeapReport) -> Vec<u8> {
    let mut out = Message::default();
    let mut strings = Strings::new();
    let (objects, bytes) = (strings.id("count"), strings.id("bytes"));
    for (kind, unit) in
        [("alloc_objects", objects), ("alloc_space", bytes), ("inuse_objects", objects), ("inuse_space", bytes)]
    {
        out.message(1, &value_type(strings.id(kind), unit));
    }
    let mut code = Code::default();
    for e in &r.entries {
        let mut sample = Message::default();
        sample.packed(1, code.locations(&e.stack, &e.pcs, &mut strings));
        let s = &e.sums;
        sample.packed(2, [s.total_blocks, s.total_bytes, s.held_blocks, s.held_bytes]);
        out.message(2, &sample);
    }
    let period = value_type(strings.id("space"), bytes);
    let default = strings.id("inuse_space");
    let mut file = out.into_bytes();
    file.extend_from_slice(&code.tables.into_bytes());
    let mut tail = Message::default();
    for s in &strings.list {
        tail.bytes(6, s.as_bytes());
    }
    tail.number(9, r.begin_unix_ns.unwrap_or(0) as u64);
    tail.number(10, r.duration_ns);
    tail.message(11, &period);
    tail.number(12, r.interval_bytes.unwrap_or(0).max(1));
    tail.number(14, default);
    file.extend_from_slice(&tail.into_bytes());
    file
}

/// The tables of functions and locations.
#[derive(Default)]
struct Code {
    functions: HashMap<(u64, u64), u64>,
    locations: HashMap<(u64, u64, u64), u64>,
    tables: Message,
}

impl Code {
    /// The locations of a stack, which are put into the tables if they are new.
    fn locations<'a>(&mut self, stack: &'a [FrameInfo], pcs: &[u64], strings: &mut Strings<'a>) -> Vec<u64> {
        let mut ids = Vec::with_capacity(stack.len());
        let tables = &mut self.tables;
        // A frame without a name says nothing: there is no mapping either by which pprof could find one.
        for (f, &pc) in stack.iter().zip(pcs).filter(|(f, _)| !f.func.is_empty()) {
            let (name, file) = (strings.id(&f.func), strings.id(&f.file));
            let next = self.functions.len() as u64 + 1;
            let function = *self.functions.entry((name, file)).or_insert_with(|| {
                // No system name: where it equals the name, pprof takes Rust and C++ names apart.
                let mut m = Message::default();
                m.number(1, next);
                m.number(2, name);
                m.number(4, file);
                tables.message(5, &m);
                next
            });
            let next = self.locations.len() as u64 + 1;
            let location = *self.locations.entry((pc, function, f.line)).or_insert_with(|| {
                let mut line = Message::default();
                line.number(1, function);
                line.number(2, f.line);
                let mut m = Message::default();
                m.number(1, next);
                m.number(3, pc);
                m.message(4, &line);
                tables.message(4, &m);
                next
            });
            ids.push(location);
        }
        ids
    }
}

fn value_type(kind: u64, unit: u64) -> Message {
    let mut m = Message::default();
    m.number(1, kind);
    m.number(2, unit);
    m
}

/// The string table. Its first entry is empty.
struct Strings<'a> {
    ids: HashMap<&'a str, u64>,
    list: Vec<&'a str>,
}

impl<'a> Strings<'a> {
    fn new() -> Strings<'a> {
        Strings { ids: HashMap::from([("", 0)]), list: vec![""] }
    }

    fn id(&mut self, s: &'a str) -> u64 {
        let list = &mut self.list;
        *self.ids.entry(s).or_insert_with(|| {
            list.push(s);
            list.len() as u64 - 1
        })
    }
}
