//! What can be wrong with a trace, and where.
//!
//! One type for all of `read`: a kind to branch on, the place (generation, thread, byte offset) and a sentence that says
//! what was found and what was expected. Inside the room faults without a place travel as [`Fault`]; whoever knows the
//! place makes an [`Error`] of it.

use super::ThreadId;
use std::fmt;
use std::io;

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input could not be read; [`std::error::Error::source`] has the reason.
    Io,
    /// The input does not begin with the header of a Go execution trace.
    NotATrace,
    /// A trace of format version 1 (Go 1.21 and earlier). The number is the minor Go version of its header.
    OldVersion(u32),
    /// A version of the format that this reader does not know. The number is the minor Go version of its header.
    UnknownVersion(u32),
    /// The input ends in the middle of something.
    Truncated,
    /// A byte that is no batch, or a batch header that makes no sense.
    Batch,
    /// Batches of different generations are mixed, or a generation is missing.
    GenerationOrder,
    /// A generation has no clock frequency or no clock snapshot, or two of them.
    Clock,
    /// A table (strings, stacks, CPU samples, clock) that cannot be decoded.
    Table,
    /// Two entries of a table have the same id.
    DuplicateId,
    /// A string or stack is named that the generation does not have.
    UnknownId,
    /// A timed event that cannot be decoded.
    Event,
    /// A state that contradicts what is known of the goroutine, processor or thread.
    State,
    /// An event on a thread that has not the processor or goroutine which the event needs.
    Context,
    /// A range (GC, sweep, assist, stop-the-world), region or task that begins or ends where it cannot.
    Range,
    /// No thread's next event can follow what came before.
    Stuck,
}

/// Why a trace, or the rest of it, could not be read.
///
/// The text is one line, lower case, and begins with the place: `generation 3, thread 71, byte 0x51f: ...`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    generation: Option<u64>,
    thread: Option<ThreadId>,
    offset: Option<u64>,
    text: String,
    source: Option<io::Error>,
    whole_bytes: u64,
    go_is_silent: bool,
}

impl Error {
    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The number of the generation in which it is wrong.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.0.generation
    }

    /// The thread whose event it is.
    #[must_use]
    pub fn thread(&self) -> Option<ThreadId> {
        self.0.thread
    }

    /// The place in the input, in bytes from its beginning.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What was found and what was expected, without the place.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.text
    }

    /// How many bytes from the beginning of the input hold whole generations, all of which were delivered. What follows
    /// is lost, in whole or in part.
    #[must_use]
    pub fn whole_bytes(&self) -> u64 {
        self.0.whole_bytes
    }

    /// Whether Go's reader takes this damage for the end of the trace and says nothing. It does so where an end of data
    /// inside a table looks to it like the end of the file. This reader reports it; nothing else is judged differently.
    #[must_use]
    pub fn go_is_silent(&self) -> bool {
        self.0.go_is_silent
    }

    /// A generation that is not whole, for rooms that take traces apart by themselves.
    pub(crate) fn of_generation(kind: ErrorKind, generation: u64, offset: u64, text: &str) -> Error {
        Fault::new(kind, text).at((generation != 0).then_some(generation), None, Some(offset))
    }

    pub(crate) fn with_whole_bytes(mut self, bytes: u64) -> Error {
        self.set_whole_bytes(bytes);
        self
    }

    /// Whether the input ends, or fails, where more was to come.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Truncated | ErrorKind::Io)
    }

    /// This end of the input in place of what it led to: half a generation was taken for a whole one, and `e` was wrong with
    /// it. What is whole, and what Go says, is as it is with `e`.
    pub(super) fn because_of(mut self, e: &Error) -> Error {
        self.0.whole_bytes = e.0.whole_bytes;
        self.0.go_is_silent = e.0.go_is_silent;
        let number = e.0.generation.map_or(String::new(), |n| format!(" {n}"));
        self.0.text.push_str(&format!("; generation{number} is incomplete"));
        self
    }

    pub(super) fn set_whole_bytes(&mut self, bytes: u64) {
        self.0.whole_bytes = bytes;
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sep = "";
        if let Some(generation) = self.0.generation {
            write!(f, "generation {generation}")?;
            sep = ", ";
        }
        if let Some(thread) = self.0.thread {
            write!(f, "{sep}thread {thread}")?;
            sep = ", ";
        }
        if let Some(offset) = self.0.offset {
            write!(f, "{sep}byte {offset:#x}")?;
            sep = ", ";
        }
        if !sep.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

/// An error that does not know its place yet.
#[derive(Debug)]
pub(super) struct Fault {
    kind: ErrorKind,
    text: String,
    source: Option<io::Error>,
    go_is_silent: bool,
}

/// Faults are rare and results of the hot path are many: a pointer keeps those small.
pub(super) type Faulty<T> = Result<T, Box<Fault>>;

impl Fault {
    #[cold]
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Box<Fault> {
        Box::new(Fault { kind, text: text.into(), source: None, go_is_silent: false })
    }

    #[cold]
    pub(super) fn io(e: io::Error) -> Box<Fault> {
        Box::new(Fault { kind: ErrorKind::Io, text: format!("read: {e}"), source: Some(e), go_is_silent: false })
    }

    /// Marks damage that Go's reader takes for the end of the trace.
    pub(super) fn silent_in_go(mut self: Box<Self>) -> Box<Fault> {
        self.go_is_silent = true;
        self
    }

    /// Takes the mark away.
    pub(super) fn loud_in_go(mut self: Box<Self>) -> Box<Fault> {
        self.go_is_silent = false;
        self
    }

    pub(super) fn at(self, generation: Option<u64>, thread: Option<ThreadId>, offset: Option<u64>) -> Error {
        let Fault { kind, text, source, go_is_silent } = self;
        Error(Box::new(Inner { kind, generation, thread, offset, text, source, whole_bytes: 0, go_is_silent }))
    }
}

/// `fault!(Kind, "text {}", x)`: a [`Fault`] with a formatted text.
macro_rules! fault {
    ($kind:ident, $($arg:tt)*) => {
        $crate::read::error::Fault::new($crate::read::ErrorKind::$kind, format!($($arg)*))
    };
}
pub(super) use fault;
