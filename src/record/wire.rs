//! Batches as bytes, on the writer's side.

use super::buffer::{Chunk, Content};
use crate::format::{EXPERIMENT_ALLOC_FREE, Kind, MAX_BATCH_BYTES, Version, bytes, private};

pub(crate) use crate::format::bytes::{put, put_text};

/// Appends a batch of `data`.
pub(crate) fn batch(out: &mut Vec<u8>, generation: u32, m: u64, time_ns: u64, data: &[u8]) {
    debug_assert!(data.len() <= MAX_BATCH_BYTES);
    out.push(Kind::EventBatch as u8);
    for v in [u64::from(generation), m, time_ns, data.len() as u64] {
        put(out, v);
    }
    out.extend_from_slice(data);
}

/// Appends a chunk that holds the payload of one batch.
pub(crate) fn chunk(out: &mut Vec<u8>, tid: u32, chunk: &Chunk) {
    let (n, m, bytes) = (chunk.generation, u64::from(tid), chunk.bytes());
    if chunk.content != Content::Private {
        return batch(out, n, m, chunk.base_ns, bytes);
    }
    out.extend_from_slice(&[Kind::ExperimentalBatch as u8, EXPERIMENT_ALLOC_FREE]);
    for v in [u64::from(n), m, chunk.base_ns, bytes.len() as u64] {
        put(out, v);
    }
    out.extend_from_slice(bytes);
}

/// Appends a batch of private data.
pub(crate) fn private(
    out: &mut Vec<u8>,
    generation: u32,
    m: u64,
    time_ns: u64,
    section: private::Section,
    data: &[u8],
) {
    debug_assert!(data.len() + 2 <= MAX_BATCH_BYTES);
    out.push(Kind::ExperimentalBatch as u8);
    out.push(EXPERIMENT_ALLOC_FREE);
    for v in [u64::from(generation), m, time_ns, data.len() as u64 + 2] {
        put(out, v);
    }
    out.extend_from_slice(&[private::PRIVATE, section as u8]);
    out.extend_from_slice(data);
}

/// The clock of a generation: units are nanoseconds.
pub(crate) fn sync(
    out: &mut Vec<u8>,
    version: Version,
    generation: u32,
    m: u64,
    time_ns: u64,
    mono_ns: u64,
    wall_ns: u64,
) {
    let wall = [wall_ns / 1_000_000_000, wall_ns % 1_000_000_000];
    let data = bytes::clock(version, 1_000_000_000, [0, mono_ns, wall[0], wall[1]]);
    batch(out, generation, m, time_ns, &data);
}

/// A table on its way out: records of one kind, cut into batches that begin with the table's first byte.
#[derive(Debug)]
pub(crate) struct Table {
    first: Kind,
    generation: u32,
    m: u64,
    time_ns: u64,
    data: Vec<u8>,
}

impl Table {
    pub(crate) fn new(first: Kind, generation: u32, m: u64, time_ns: u64) -> Table {
        Table { first, generation, m, time_ns, data: vec![first as u8] }
    }

    /// Appends a record.
    pub(crate) fn record(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.data.len();
        write(&mut self.data);
        if self.data.len() > MAX_BATCH_BYTES {
            let last = self.data.split_off(begin);
            self.flush(out);
            self.data.extend_from_slice(&last);
        }
    }

    /// Writes what is left.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        if self.data.len() > 1 {
            batch(out, self.generation, self.m, self.time_ns, &self.data);
            self.data.truncate(1);
        }
        debug_assert_eq!(self.data[0], self.first as u8);
    }
}

/// Timed events that the closer writes itself, one thread's.
#[derive(Debug)]
pub(crate) struct Events {
    base_ns: u64,
    last_ns: u64,
    data: Vec<u8>,
}

impl Events {
    pub(crate) fn new(base_ns: u64) -> Events {
        Events { base_ns, last_ns: base_ns, data: Vec::new() }
    }

    pub(crate) fn event<const N: usize>(&mut self, kind: Kind, at_ns: u64, args: [u64; N]) {
        debug_assert_eq!(kind.spec().args.len(), N + 1, "{kind:?}");
        let at_ns = at_ns.max(self.last_ns + 1);
        self.data.push(kind as u8);
        put(&mut self.data, at_ns - self.last_ns);
        for a in args {
            put(&mut self.data, a);
        }
        self.last_ns = at_ns;
    }

    /// Appends the batch, if it has any events.
    pub(crate) fn write(&self, out: &mut Vec<u8>, generation: u32, m: u64) {
        if !self.data.is_empty() {
            batch(out, generation, m, self.base_ns, &self.data);
        }
    }
}
