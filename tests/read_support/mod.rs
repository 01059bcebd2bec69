//! What the tests of the reader share: Go's tools, traces in text form, traces with damage.
#![allow(dead_code)]

pub mod go;
pub mod mutate;
pub mod text;

use exectrace::read::{Error, Event, Reader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A file among the tests' data.
pub fn data_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Reads a trace on this thread: its events, and the error that ends it, if one does.
pub fn read(bytes: &[u8]) -> (Vec<Event>, Option<Error>) {
    collect(Reader::new(bytes))
}

/// Reads a trace with threads: with one and with two, which must agree.
pub fn read_threaded(bytes: &[u8]) -> (Vec<Event>, Option<Error>) {
    let input = || std::io::Cursor::new(bytes.to_vec());
    let (ahead, stopped) = collect(Reader::read_ahead(input()));
    let (events, error) = collect(Reader::threaded(input()));
    assert_eq!(stopped.map(|e| e.to_string()), error.as_ref().map(|e| e.to_string()));
    assert!(ahead == events, "one thread beside and two");
    (events, error)
}

fn collect(reader: Result<Reader<'_>, Error>) -> (Vec<Event>, Option<Error>) {
    let mut events = Vec::new();
    let mut reader = match reader {
        Ok(r) => r,
        Err(e) => return (events, Some(e)),
    };
    loop {
        match reader.next_event() {
            Ok(Some(ev)) => events.push(*ev),
            Ok(None) => return (events, None),
            Err(e) => {
                assert!(matches!(reader.next_event(), Ok(None)), "something follows an error");
                return (events, Some(e));
            }
        }
    }
}

/// Runs the command on a file.
pub fn exectrace(args: &[&str], file: &Path) -> Output {
    let run = Command::new(env!("CARGO_BIN_EXE_exectrace")).args(args).arg(file).output();
    run.unwrap_or_else(|e| panic!("cannot run exectrace: {e}"))
}

/// A directory of this test's own for files that it makes.
pub fn scratch(test: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    dir
}

/// The first line in which two texts differ.
pub fn first_difference(a: &[u8], b: &[u8]) -> String {
    let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    let mut lines = a.lines().zip(b.lines()).enumerate();
    match lines.find(|(_, (x, y))| x != y) {
        Some((i, (x, y))) => format!("line {}:\n  {x}\n  {y}", i + 1),
        None => format!("{} lines, {} lines", a.lines().count(), b.lines().count()),
    }
}
