//! Traces to traces: a part of one, pieces joined, another version of the format, names hidden, names found.
//!
//! It stands beside the analyses: bytes of a trace go in, bytes of a trace come out, and Go's tools open them. It works on
//! whole generations and on batches in them, and copies timed events as they are: a generation names the state of
//! everything that exists at its beginning, so any run of whole generations is a trace. Memory is bounded by a few
//! generations, whatever the length of the file.
//!
//! What is written is read back while it is written, by the [`Reader`](crate::read::Reader), which validates as Go's reader
//! does: [`Error::Invalid`] tells of a result that is no trace (a piece of another run among those to merge, say).
//!
//! A trace that is damaged gives its whole generations and then [`Error::Read`].
//!
//! ```
//! use exectrace::format::Version;
//! use exectrace::rewrite;
//!
//! # fn main() -> Result<(), rewrite::Error> {
//! # let input = &b"go 1.26 trace\0\0\0"[..];
//! // let input = std::fs::File::open("app.trace")?;
//! let mut output = Vec::new();
//! let report = rewrite::convert(input, &mut output, Version::Go126, &mut |_| {})?;
//! assert_eq!(report.bytes_written, output.len() as u64);
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod anonymize;
mod convert;
mod cut;
mod merge;
mod recover;
#[cfg(feature = "symbolize")]
mod symbolize;

// What they stand on.
#[cfg(feature = "symbolize")]
mod binary;
mod clock;
mod generation;
mod hidden;
mod sink;
mod tables;

pub use anonymize::anonymize;
pub use convert::convert;
pub use cut::{Window, cut};
pub use merge::merge;
pub use recover::{Parts, RecoverReport, recover};
#[cfg(feature = "symbolize")]
pub use symbolize::{Binaries, ModuleReport, SymbolizeReport, Symbolizer, symbolize};

use crate::read;
use std::fmt;
use std::io;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The generations that were read.
    pub generations_read: u64,
    /// The generations that were written.
    pub generations_written: u64,
    /// The bytes that were written, the header included.
    pub bytes_written: u64,
}

/// Why a trace could not be written, or not all of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The input is damaged or cannot be read. Its whole generations have been written.
    Read(read::Error),
    /// The output cannot be written.
    Write(io::Error),
    /// What is asked cannot be done with this input.
    Cannot(String),
    /// What was written is not a valid trace.
    Invalid(read::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read(e) => write!(f, "{e}"),
            Error::Write(e) => write!(f, "write: {e}"),
            Error::Cannot(text) => f.write_str(text),
            Error::Invalid(e) => write!(f, "the result is no valid trace: {e}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Read(e) | Error::Invalid(e) => Some(e),
            Error::Write(e) => Some(e),
            Error::Cannot(_) => None,
        }
    }
}
