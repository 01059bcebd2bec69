//! Standard output in large pieces.

use crate::outcome::Failure;
use std::io::{self, Write};
use std::path::Path;

/// How much is gathered before it is written: several times what a pipe takes at once.
const CHUNK_BYTES: usize = 512 << 10;

/// Text on its way to standard output.
pub struct Output {
    /// What is not yet written; appended to directly.
    pub buf: Vec<u8>,
    out: io::Stdout,
}

impl Output {
    pub fn stdout() -> Output {
        Output { buf: Vec::with_capacity(CHUNK_BYTES + (64 << 10)), out: io::stdout() }
    }

    /// Appends a line of text.
    pub fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory cannot fail.
        let _ = writeln!(self.buf, "{text}");
    }

    /// Appends a line that says how many lines of a list were left out, if any.
    pub fn rest(&mut self, all: usize, shown: usize) {
        if all > shown {
            self.line(format_args!("... and {} more", all - shown));
        }
    }

    /// Appends a value as JSON, for people too: indented, and with a line end.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.buf, value).map_err(|e| Failure::writing(e.into()))?;
        self.buf.push(b'\n');
        Ok(())
    }

    /// Writes what has gathered if it is enough. To be called after each item.
    #[inline]
    pub fn poll(&mut self) -> Result<(), Failure> {
        if self.buf.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes everything.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let mut out = self.out.lock();
        out.write_all(&self.buf).and_then(|()| out.flush()).map_err(Failure::writing)?;
        self.buf.clear();
        Ok(())
    }
}

/// A name from a trace as it stands in a line of text: control characters would break the line.
pub fn table_name(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes a file, or standard output for `-`.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if path.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        return out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::writing);
    }
    std::fs::write(path, bytes).map_err(|e| Failure::usage(format_args!("cannot write {}: {e}", path.display()), ""))
}
