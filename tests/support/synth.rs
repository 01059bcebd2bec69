//! Writes traces byte by byte, right ones and wrong ones.
//!
//! Unlike the recorder this writer keeps no rule: times may go back, ids may be unknown, a generation may lack its clock.
//! That is what it is for: a judge that has never said no proves nothing.

use exectrace::format::{self, Kind, NO_THREAD, Version, varint};

/// The clock's units are nanoseconds.
pub const FREQUENCY: u64 = 1_000_000_000;

/// A trace in the making.
pub struct Trace {
    version: Version,
    /// What has been written so far.
    pub bytes: Vec<u8>,
}

/// A run of timed events of one thread in one generation.
pub struct Batch {
    generation: u64,
    thread: u64,
    base: u64,
    /// The time of the last event, or of the batch.
    pub last: u64,
    data: Vec<u8>,
}

/// A frame of a stack: function and file are ids of strings.
#[derive(Clone, Copy)]
pub struct Frame {
    /// Program counter; readers look frames up by it, so each frame needs its own.
    pub pc: u64,
    /// String id.
    pub function: u64,
    /// String id.
    pub file: u64,
    /// Line number.
    pub line: u64,
}

impl Batch {
    /// An empty batch that begins at `time`.
    pub fn new(generation: u64, thread: u64, time: u64) -> Batch {
        Batch { generation, thread, base: time, last: time, data: Vec::new() }
    }

    /// Adds an event at `time`. The arguments are those behind `dt`.
    ///
    /// # Panics
    /// If the number of arguments is wrong, or the time lies before the last event's: such a batch can't be written.
    pub fn ev(&mut self, kind: Kind, time: u64, args: &[u64]) -> &mut Batch {
        assert_eq!(kind.spec().args.len(), args.len() + 1, "arguments of {kind:?}");
        self.data.push(kind as u8);
        put(&mut self.data, &[time.checked_sub(self.last).expect("times in a batch don't go back")]);
        put(&mut self.data, args);
        self.last = time;
        self
    }

    /// Whether it has no event.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

impl Trace {
    /// A trace with nothing but its header.
    pub fn new(version: Version) -> Trace {
        Trace { version, bytes: version.header().to_vec() }
    }

    /// Adds a batch of events.
    pub fn batch(&mut self, b: &Batch) {
        self.raw(b.generation, b.thread, b.base, &b.data);
    }

    /// Adds a batch with this payload, whatever it is.
    pub fn raw(&mut self, generation: u64, thread: u64, time: u64, data: &[u8]) {
        self.bytes.push(Kind::EventBatch as u8);
        put(&mut self.bytes, &[generation, thread, time, data.len() as u64]);
        self.bytes.extend_from_slice(data);
    }

    /// Adds a batch of an experiment.
    pub fn experimental(&mut self, experiment: u8, generation: u64, time: u64, data: &[u8]) {
        self.bytes.extend_from_slice(&[Kind::ExperimentalBatch as u8, experiment]);
        put(&mut self.bytes, &[generation, NO_THREAD, time, data.len() as u64]);
        self.bytes.extend_from_slice(data);
    }

    /// Adds the generation's clock as the version has it.
    pub fn clock(&mut self, generation: u64, time: u64) {
        let mut data = Vec::new();
        if self.version.has_clock_snapshot() {
            data.push(Kind::Sync as u8);
        }
        data.push(Kind::Frequency as u8);
        put(&mut data, &[FREQUENCY]);
        if self.version.has_clock_snapshot() {
            data.push(Kind::ClockSnapshot as u8);
            put(&mut data, &[0, time, 1_790_000_000, 123_456_789]);
        }
        self.raw(generation, NO_THREAD, time, &data);
    }

    /// Adds a string table.
    pub fn strings<S: AsRef<str>>(&mut self, generation: u64, table: &[(u64, S)]) {
        let mut data = vec![Kind::Strings as u8];
        for (id, text) in table {
            data.push(Kind::String as u8);
            put(&mut data, &[*id, text.as_ref().len() as u64]);
            data.extend_from_slice(text.as_ref().as_bytes());
        }
        self.raw(generation, NO_THREAD, 1, &data);
    }

    /// Adds a stack table.
    pub fn stacks(&mut self, generation: u64, table: &[(u64, Vec<Frame>)]) {
        let mut data = vec![Kind::Stacks as u8];
        for (id, frames) in table {
            data.push(Kind::Stack as u8);
            put(&mut data, &[*id, frames.len() as u64]);
            for f in frames {
                put(&mut data, &[f.pc, f.function, f.file, f.line]);
            }
        }
        self.raw(generation, NO_THREAD, 1, &data);
    }

    /// Adds CPU samples: time, thread, processor, goroutine, stack.
    pub fn samples(&mut self, generation: u64, samples: &[[u64; 5]]) {
        let mut data = vec![Kind::CPUSamples as u8];
        for s in samples {
            data.push(Kind::CPUSample as u8);
            put(&mut data, s);
        }
        self.raw(generation, NO_THREAD, 1, &data);
    }

    /// Ends the generation, where the version says so explicitly.
    pub fn end(&mut self) {
        if self.version.has_end_of_generation() {
            self.bytes.push(Kind::EndOfGeneration as u8);
        }
    }
}

/// Appends integers.
pub fn put(out: &mut Vec<u8>, values: &[u64]) {
    for &v in values {
        let mut buf = [0; varint::MAX_BYTES];
        let n = varint::write(&mut buf, v);
        out.extend_from_slice(&buf[..n]);
    }
}

/// Gives out ids for strings and stacks, and writes them all as the tables of a generation.
#[derive(Default)]
pub struct Tables {
    strings: Vec<String>,
    stacks: Vec<Vec<Frame>>,
    frames: Vec<(u64, u64, u64)>,
}

impl Tables {
    /// The id of a string.
    pub fn string(&mut self, text: &str) -> u64 {
        let at = self.strings.iter().position(|s| s == text).unwrap_or_else(|| {
            self.strings.push(text.to_owned());
            self.strings.len() - 1
        });
        at as u64 + 1
    }

    /// The id of a stack of (function, file, line), leaf first.
    pub fn stack(&mut self, frames: &[(&str, &str, u64)]) -> u64 {
        let frames = frames
            .iter()
            .map(|&(function, file, line)| {
                let key = (self.string(function), self.string(file), line);
                let at = self.frames.iter().position(|&f| f == key).unwrap_or_else(|| {
                    self.frames.push(key);
                    self.frames.len() - 1
                });
                Frame { pc: (at as u64 + 1) * 16, function: key.0, file: key.1, line }
            })
            .collect();
        self.stacks.push(frames);
        self.stacks.len() as u64
    }

    /// Writes both tables.
    pub fn write(&self, trace: &mut Trace, generation: u64) {
        let numbered: Vec<_> = self.strings.iter().zip(1..).map(|(s, id)| (id, s)).collect();
        trace.strings(generation, &numbered);
        let numbered: Vec<_> = self.stacks.iter().zip(1..).map(|(s, id)| (id, s.clone())).collect();
        trace.stacks(generation, &numbered);
    }
}

/// Statuses as numbers, short for tables of events.
pub mod status {
    use super::format::{GoStatus, ProcStatus};

    /// A goroutine that runs.
    pub const RUNNING: u64 = GoStatus::Running as u64;
    /// A goroutine that waits.
    pub const WAITING: u64 = GoStatus::Waiting as u64;
    /// A goroutine in a system call.
    pub const SYSCALL: u64 = GoStatus::Syscall as u64;
    /// A processor that runs.
    pub const PROC_RUNNING: u64 = ProcStatus::Running as u64;
    /// A processor without a thread.
    pub const PROC_IDLE: u64 = ProcStatus::Idle as u64;
    /// A processor in a system call.
    pub const PROC_SYSCALL: u64 = ProcStatus::Syscall as u64;
}
