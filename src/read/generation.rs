//! One generation: its tables, which stay while its events are looked at, and its timed batches, which are used up.

use super::clock::Clock;
use super::error::{Faulty, fault};
use super::table::{Fields, Stacks, Strings};
use super::{ClockSnapshot, GoId, ProcId, StackId, StringId, ThreadId, Time};
use crate::format::{Kind, Version};
use std::ops::Range;

/// What the events of a generation refer to: its strings, stacks, clock and batches of private data.
pub struct Generation {
    pub(super) number: u64,
    pub(super) version: Version,
    pub(super) bytes: Range<u64>,
    pub(super) strings: Strings,
    pub(super) stacks: Stacks,
    pub(super) clock: Clock,
    pub(super) snapshot: Option<ClockSnapshot>,
    pub(super) min_time: Time,
    pub(super) experimental: Vec<RawExperimental>,
    pub(super) experimental_data: Vec<u8>,
}

pub(super) struct RawExperimental {
    pub(super) experiment: u8,
    pub(super) thread: ThreadId,
    pub(super) time: u64,
    pub(super) data: Range<usize>,
}

/// A frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame<'a> {
    /// The program counter, or a number that stands for the frame.
    pub pc: u64,
    /// The function.
    pub func: &'a str,
    /// The source file.
    pub file: &'a str,
    /// The line in it.
    pub line: u64,
}

/// A stack: its frames, leaf first.
#[derive(Clone, Copy)]
pub struct Stack<'a> {
    generation: &'a Generation,
    frames: &'a [u32],
}

impl<'a> Stack<'a> {
    /// The frames, leaf first.
    pub fn frames(&self) -> impl DoubleEndedIterator<Item = Frame<'a>> + ExactSizeIterator + use<'a> {
        let generation = self.generation;
        self.frames.iter().map(move |&i| generation.frame(FrameIndex(i)))
    }

    /// The frames as indices: the same frame has the same index in all stacks of the generation.
    pub fn frame_indices(&self) -> impl DoubleEndedIterator<Item = FrameIndex> + ExactSizeIterator + use<'a> {
        self.frames.iter().map(|&i| FrameIndex(i))
    }

    /// The number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame: the event has no stack.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

/// A frame of a generation, below [`Generation::frame_count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameIndex(pub u32);

/// A batch of data of an experiment, not interpreted. Private sections of ours are among them: see
/// [`Generation::sections`].
#[derive(Clone, Copy, Debug)]
pub struct ExperimentalBatch<'a> {
    /// The number of the experiment; [`EXPERIMENT_ALLOC_FREE`](crate::format::EXPERIMENT_ALLOC_FREE) is the only known one.
    pub experiment: u8,
    /// The thread that wrote it.
    pub thread: ThreadId,
    /// When it was begun.
    pub time: Time,
    /// The payload.
    pub data: &'a [u8],
}

impl Generation {
    /// An empty one, for the `Sync` that ends a trace.
    pub(super) fn empty(version: Version, number: u64, at: u64) -> Generation {
        Generation {
            number,
            version,
            bytes: at..at,
            strings: Strings::new(),
            stacks: Stacks::new(),
            clock: Clock::new(1_000_000_000),
            snapshot: None,
            min_time: Time(0),
            experimental: Vec::new(),
            experimental_data: Vec::new(),
        }
    }

    /// The number that the trace gives it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The version of the trace.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where in the input it stands, in bytes.
    #[must_use]
    pub fn bytes(&self) -> Range<u64> {
        self.bytes.clone()
    }

    /// The string with this id, `None` if the generation has none such. Bytes that are not UTF-8 show as U+FFFD.
    #[must_use]
    #[inline]
    pub fn string(&self, id: StringId) -> Option<&str> {
        self.strings.get(id)
    }

    /// The string with this id, byte for byte.
    #[must_use]
    pub fn string_bytes(&self, id: StringId) -> Option<&[u8]> {
        self.strings.index(id).map(|i| self.strings.bytes(i))
    }

    /// The place of a string in this generation's table: a number below [`string_count`](Self::string_count), for side
    /// tables that need no hashing.
    #[must_use]
    #[inline]
    pub fn string_index(&self, id: StringId) -> Option<u32> {
        self.strings.index(id)
    }

    /// The number of strings, the empty one (index 0) included.
    #[must_use]
    pub fn string_count(&self) -> usize {
        self.strings.len()
    }

    /// The stack with this id; an empty one if the id is 0 or the generation has none such.
    #[must_use]
    pub fn stack(&self, id: StackId) -> Stack<'_> {
        let index = self.stacks.index(id).unwrap_or(0);
        Stack { generation: self, frames: self.stacks.order(index) }
    }

    /// The place of a stack in this generation's table: a number below [`stack_count`](Self::stack_count), for side tables
    /// that need no hashing.
    #[must_use]
    #[inline]
    pub fn stack_index(&self, id: StackId) -> Option<u32> {
        self.stacks.index(id)
    }

    /// The number of stacks, the empty one (index 0) included.
    #[must_use]
    pub fn stack_count(&self) -> usize {
        self.stacks.len()
    }

    /// A frame by index.
    ///
    /// # Panics
    /// If the index is not below [`frame_count`](Self::frame_count).
    #[must_use]
    pub fn frame(&self, index: FrameIndex) -> Frame<'_> {
        let f = &self.stacks.frames()[index.0 as usize];
        Frame { pc: f.pc, func: self.strings.text(f.func), file: self.strings.text(f.file), line: f.line }
    }

    /// The function and file names of a frame, byte for byte.
    ///
    /// # Panics
    /// If the index is not below [`frame_count`](Self::frame_count).
    #[must_use]
    pub fn frame_bytes(&self, index: FrameIndex) -> (&[u8], &[u8]) {
        let f = &self.stacks.frames()[index.0 as usize];
        (self.strings.bytes(f.func), self.strings.bytes(f.file))
    }

    /// The number of frames. A frame is its program counter: each stands once, however many stacks it is in.
    #[must_use]
    pub fn frame_count(&self) -> usize {
        self.stacks.frames().len()
    }

    /// One moment on the trace's clock, the monotonic clock and the wall. Traces from Go 1.25 on have it.
    #[must_use]
    pub fn clock_snapshot(&self) -> Option<ClockSnapshot> {
        self.snapshot
    }

    /// The batches of data of experiments, in the order of the file.
    pub fn experimental_batches(&self) -> impl ExactSizeIterator<Item = ExperimentalBatch<'_>> {
        self.experimental.iter().map(|b| ExperimentalBatch {
            experiment: b.experiment,
            thread: b.thread,
            time: Time(self.clock.ns(b.time)),
            data: &self.experimental_data[b.data.clone()],
        })
    }
}

/// A batch of timed events: where its payload lies in [`Pending::data`].
pub(super) struct TimedBatch {
    pub(super) start: usize,
    pub(super) end: usize,
    /// In units of the clock.
    pub(super) time: u64,
    /// The thread's next batch, or [`NO_BATCH`].
    pub(super) next: u32,
}

/// The end of a thread's list of batches.
pub(super) const NO_BATCH: u32 = u32::MAX;

/// The batches of one thread.
pub(super) struct ThreadBatches {
    pub(super) thread: ThreadId,
    pub(super) first: u32,
    pub(super) last: u32,
}

/// A CPU sample.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) time: i64,
    pub(super) thread: ThreadId,
    pub(super) proc: ProcId,
    pub(super) goroutine: GoId,
    pub(super) stack: u64,
}

/// How many bytes follow the last batch in [`Pending::data`], so that an event may be decoded before its end is checked.
pub(super) const PADDING: usize = 128;

/// A generation that was read whole and whose events are not yet ordered.
pub(super) struct Pending {
    pub(super) generation: Generation,
    /// The bytes of the generation, batch headers included, then at least [`PADDING`] bytes of anything.
    pub(super) data: Vec<u8>,
    pub(super) batches: Vec<TimedBatch>,
    /// In the order of their first batches.
    pub(super) threads: Vec<ThreadBatches>,
    /// By time.
    pub(super) samples: Vec<Sample>,
    /// Whether the input ends, or fails, inside it: an event of it that does not fit may lack what did not come.
    pub(super) cut: bool,
}

/// Takes in a batch of CPU samples. Their times are units of the clock until the clock is known.
pub(super) fn read_samples(samples: &mut Vec<Sample>, data: &[u8]) -> Faulty<()> {
    let mut data = Fields::after_first_byte(data);
    while let Some(kind) = data.byte() {
        if kind != Kind::CPUSample as u8 {
            return Err(fault!(Table, "byte {kind} in a batch of CPU samples: expected {}", Kind::CPUSample as u8));
        }
        let time = data.number("a sample's time")?;
        let thread = ThreadId(data.number("a sample's thread")?);
        let proc = ProcId(data.number("a sample's processor")?);
        let goroutine = match data.number("a sample's goroutine")? {
            0 => GoId::NONE,
            g => GoId(g),
        };
        let stack = data.number("a sample's stack")?;
        samples.push(Sample { time: time as i64, thread, proc, goroutine, stack });
    }
    Ok(())
}

/// A generation's clock as it is put together from its batches.
#[derive(Default)]
pub(super) struct ClockParts {
    pub(super) freq: Option<Clock>,
    /// Trace time in units, monotonic clock, seconds, nanoseconds.
    snapshot: Option<[u64; 4]>,
}

impl ClockParts {
    /// Takes in a batch with the frequency (before 1.25), or with frequency and snapshot. `time` is the batch's.
    pub(super) fn read(&mut self, data: &[u8], time: u64, version: Version) -> Faulty<()> {
        let mut data =
            if version.has_clock_snapshot() { Fields::after_first_byte(data) } else { Fields { rest: data } };
        let mut last = time;
        while let Some(kind) = data.byte() {
            if kind == Kind::Frequency as u8 {
                if self.freq.is_some() {
                    return Err(fault!(Clock, "a second clock frequency: expected one in a generation"));
                }
                self.freq = Some(Clock::new(data.number("the clock frequency")?));
            } else if kind == Kind::ClockSnapshot as u8 && version.has_clock_snapshot() {
                if self.snapshot.is_some() {
                    return Err(fault!(Clock, "a second clock snapshot: expected one in a generation"));
                }
                last = last.wrapping_add(data.number("the clock snapshot's time")?);
                let mono = data.number("the clock snapshot's monotonic clock")?;
                let sec = data.number("the clock snapshot's seconds")?;
                let nsec = data.number("the clock snapshot's nanoseconds")?;
                self.snapshot = Some([last, mono, sec, nsec]);
            } else {
                return Err(fault!(Table, "byte {kind} in a clock batch: expected a frequency or a clock snapshot"));
            }
        }
        Ok(())
    }

    /// The finished clock.
    pub(super) fn finish(self, version: Version) -> Faulty<(Clock, Option<ClockSnapshot>)> {
        let Some(clock) = self.freq else {
            return Err(fault!(Clock, "no clock frequency: expected one in each generation"));
        };
        if version.has_clock_snapshot() && self.snapshot.is_none() {
            return Err(fault!(Clock, "no clock snapshot: expected one in each generation"));
        }
        let snapshot = self.snapshot.map(|[time, mono_ns, sec, nsec]| {
            // Nanoseconds may exceed a second in either direction; they are carried over.
            let nsec = nsec as i64;
            ClockSnapshot {
                trace: Time(clock.ns(time)),
                mono_ns,
                wall_sec: (sec as i64).wrapping_add(nsec.div_euclid(1_000_000_000)),
                wall_nsec: nsec.rem_euclid(1_000_000_000) as u32,
            }
        });
        Ok((clock, snapshot))
    }
}
