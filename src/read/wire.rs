//! The events of the wire one after the other, as they stand in the file: neither ordered nor validated.
//!
//! For looking at a trace's bytes, and at traces that the ordered [`Reader`](super::Reader) refuses. Batches are not taken
//! apart first: a batch's header is an event like those behind it, so a wrong length goes unnoticed, as in Go's
//! `internal/trace/raw`.

use super::error::{Error, Fault, Faulty, fault};
use super::header::read_header;
use crate::format::{Kind, Version, varint};
use std::io::Read;

/// How much is asked of the input at a time.
const READ_BYTES: usize = 256 << 10;

/// One event of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireEvent<'a> {
    /// Its kind; `None` for a number between the known ones that the format leaves unused and that has no arguments.
    pub kind: Option<Kind>,
    /// Where it begins in the input, in bytes.
    pub offset: u64,
    /// Its arguments, by the names of [`Spec::args`](crate::format::Spec::args).
    pub args: &'a [u64],
    /// A stack's frames: program counter, function, file, line.
    pub frames: &'a [[u64; 4]],
    /// The bytes of a string or of an experimental batch.
    pub data: &'a [u8],
}

/// Reads the events of the wire.
pub struct WireReader<R> {
    input: R,
    version: Version,
    buf: Vec<u8>,
    pos: usize,
    /// Where in the input `buf` begins.
    base: u64,
    failure: Option<std::io::Error>,
    ended: bool,
    args: Vec<u64>,
    frames: Vec<[u64; 4]>,
    data: Vec<u8>,
}

/// The number of the last kind that a version has. All below it count as known, as in Go.
fn last_kind(version: Version) -> u8 {
    let last = match version {
        Version::Go122 => Kind::UserLog,
        Version::Go123 => Kind::ExperimentalBatch,
        Version::Go125 => Kind::ClockSnapshot,
        Version::Go126 => Kind::GoroutineStackFree,
    };
    last as u8
}

impl<R: Read> WireReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// If the input cannot be read, or its header is not that of a trace, or of a version that cannot be read.
    pub fn new(mut input: R) -> Result<WireReader<R>, Error> {
        let (version, header_bytes) = read_header(&mut input)?;
        Ok(WireReader {
            input,
            version,
            buf: Vec::new(),
            pos: 0,
            base: header_bytes,
            failure: None,
            ended: false,
            args: Vec::new(),
            frames: Vec::new(),
            data: Vec::new(),
        })
    }

    /// The version of the trace.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The next event, `None` at the end of the input.
    ///
    /// # Errors
    /// If the bytes are no event of this version, or the input ends inside one, or fails.
    pub fn next_event(&mut self) -> Result<Option<WireEvent<'_>>, Error> {
        let offset = self.offset();
        match self.read_event() {
            Ok(Some(kind)) => {
                let (args, frames, data) = (&self.args, &self.frames, &self.data);
                Ok(Some(WireEvent { kind, offset, args, frames, data }))
            }
            Ok(None) => Ok(None),
            Err(f) => {
                let mut e = f.at(None, None, Some(offset));
                e.set_whole_bytes(offset);
                Err(e)
            }
        }
    }

    fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    fn read_event(&mut self) -> Faulty<Option<Option<Kind>>> {
        self.fill(1);
        let Some(&number) = self.buf.get(self.pos) else {
            return self.failure.take().map_or(Ok(None), |e| Err(Fault::io(e)));
        };
        if number == 0 || number > last_kind(self.version) {
            return Err(fault!(Event, "event kind {number}: not known in version 1.{}", self.version.minor()));
        }
        self.pos += 1;
        self.args.clear();
        self.frames.clear();
        self.data.clear();
        let Some(kind) = Kind::from_wire(number) else { return Ok(Some(None)) };
        for _ in kind.spec().args {
            let v = self.number()?;
            self.args.push(v);
        }
        if kind == Kind::Stack {
            // A number that claims more frames than there are ends at the end of the input; one that is negative as Go
            // reads it claims none.
            let n = self.args[1] as i64;
            for _ in 0..n {
                let frame = [self.number()?, self.number()?, self.number()?, self.number()?];
                self.frames.push(frame);
            }
        }
        if matches!(kind, Kind::String | Kind::ExperimentalBatch) {
            let mut left = usize::try_from(self.number()? as i64).unwrap_or(0);
            while left > 0 {
                self.fill(1);
                let there = (self.buf.len() - self.pos).min(left);
                if there == 0 {
                    return Err(self.cut());
                }
                self.data.extend_from_slice(&self.buf[self.pos..self.pos + there]);
                self.pos += there;
                left -= there;
            }
        }
        Ok(Some(Some(kind)))
    }

    fn number(&mut self) -> Faulty<u64> {
        self.fill(varint::MAX_BYTES);
        let rest = &self.buf[self.pos..];
        match varint::read(rest) {
            Some((v, n)) => {
                self.pos += n;
                Ok(v)
            }
            None if rest.len() < varint::MAX_BYTES => Err(self.cut()),
            None => Err(fault!(Event, "a number is too large for 64 bits")),
        }
    }

    fn cut(&mut self) -> Box<Fault> {
        match self.failure.take() {
            Some(e) => Fault::io(e),
            None => fault!(Truncated, "the input ends inside an event"),
        }
    }

    /// Sees to it that `n` bytes are there from `pos` on, if the input has them.
    #[inline]
    fn fill(&mut self, n: usize) {
        if self.buf.len() - self.pos < n && !self.ended {
            self.refill(n);
        }
    }

    #[cold]
    fn refill(&mut self, n: usize) {
        self.base += self.pos as u64;
        self.buf.drain(..self.pos);
        self.pos = 0;
        while self.buf.len() < n && !self.ended {
            let want = READ_BYTES as u64;
            match (&mut self.input).take(want).read_to_end(&mut self.buf) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(e) => {
                    self.ended = true;
                    self.failure = Some(e);
                }
            }
        }
    }
}
