//! The header of a trace, as a reader must take it.
//!
//! Go scans the header with a pattern, in which a blank stands for one or more and a number may have blanks and zeros in
//! front. No tracer writes such headers, but a trace is what Go takes for one.

use super::Error;
use super::error::{Fault, fault};
use crate::format::Version;
use std::io::{self, Read};

/// What follows the number.
const TAIL: &[u8] = b"trace\0\0\0";

/// Reads the header; returns the version and how many bytes it took.
pub(super) fn read_header(input: &mut impl Read) -> Result<(Version, u64), Error> {
    let mut bytes = Bytes { input, read: 0, back: None };
    match bytes.header() {
        Ok(version) => Ok((version, bytes.read)),
        Err(f) => Err(f.at(None, None, None)),
    }
}

/// Bytes one by one, the last of which may be put back.
struct Bytes<'a, R> {
    input: &'a mut R,
    read: u64,
    back: Option<u8>,
}

impl<R: Read> Bytes<'_, R> {
    fn next(&mut self) -> Result<u8, Box<Fault>> {
        if let Some(b) = self.back.take() {
            return Ok(b);
        }
        let mut b = [0];
        match self.input.read_exact(&mut b) {
            Ok(()) => {
                self.read += 1;
                Ok(b[0])
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(no_trace()),
            Err(e) => Err(Fault::io(e)),
        }
    }

    fn expect(&mut self, text: &[u8]) -> Result<(), Box<Fault>> {
        for &t in text {
            if self.next()? != t {
                return Err(no_trace());
            }
        }
        Ok(())
    }

    /// Skips blanks; returns how many.
    fn blanks(&mut self) -> Result<u32, Box<Fault>> {
        let mut n = 0;
        loop {
            let b = self.next()?;
            if !matches!(b, b' ' | b'\t' | b'\r' | b'\x0b' | b'\x0c') {
                self.back = Some(b);
                return Ok(n);
            }
            n += 1;
        }
    }

    fn number(&mut self) -> Result<u32, Box<Fault>> {
        let mut v: Option<u32> = None;
        loop {
            let b = self.next()?;
            if !b.is_ascii_digit() {
                self.back = Some(b);
                return v.ok_or_else(no_trace);
            }
            let more = v.unwrap_or(0).checked_mul(10).and_then(|v| v.checked_add(u32::from(b - b'0')));
            v = Some(more.ok_or_else(no_trace)?);
        }
    }

    fn header(&mut self) -> Result<Version, Box<Fault>> {
        self.expect(b"go")?;
        if self.blanks()? == 0 {
            return Err(no_trace());
        }
        self.expect(b"1.")?;
        self.blanks()?;
        let minor = self.number()?;
        if self.blanks()? == 0 {
            return Err(no_trace());
        }
        self.expect(TAIL)?;
        match Version::from_minor(minor) {
            Some(v) => Ok(v),
            None if matches!(minor, 5 | 7..=11 | 19 | 21) => Err(Fault::new(
                super::ErrorKind::OldVersion(minor),
                format!(
                    "a trace of Go 1.{minor}, in format version 1: expected version 2, which Go writes from 1.22 on"
                ),
            )),
            None => Err(Fault::new(
                super::ErrorKind::UnknownVersion(minor),
                format!("a trace with the header of Go 1.{minor}: expected 1.22, 1.23, 1.25 or 1.26"),
            )),
        }
    }
}

#[cold]
fn no_trace() -> Box<Fault> {
    fault!(NotATrace, "not a Go execution trace: expected the header \"go 1.NN trace\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::ErrorKind;

    fn check(header: &[u8], want: Result<Version, ErrorKind>) {
        let mut rest = header;
        let got = read_header(&mut rest);
        if let Ok((_, n)) = &got {
            assert_eq!(*n as usize, header.len() - rest.len());
        }
        assert_eq!(got.map(|v| v.0).map_err(|e| e.kind()), want, "{:?}", String::from_utf8_lossy(header));
    }

    #[test]
    fn takes_what_go_takes() {
        for v in Version::ALL {
            check(&v.header(), Ok(v));
        }
        check(b"go 1.22 trace\0\0\0more", Ok(Version::Go122));
        check(b"go  1. 0022   trace\0\0\0", Ok(Version::Go122));
        check(b"go 1.21 trace\0\0\0", Err(ErrorKind::OldVersion(21)));
        check(b"go 1.11 trace\0\0\0", Err(ErrorKind::OldVersion(11)));
        check(b"go 1.24 trace\0\0\0", Err(ErrorKind::UnknownVersion(24)));
        check(b"go 1.99999999999 trace\0\0\0", Err(ErrorKind::NotATrace));
        for bad in [
            &b""[..],
            b"go",
            b"go 1.22 trace",
            b"go 1.22 trace\0\0x",
            b"go1.22 trace\0\0\0",
            b"go 1.x trace\0\0\0",
            b"\x1f\x8b",
        ] {
            check(bad, Err(ErrorKind::NotATrace));
        }
    }
}
