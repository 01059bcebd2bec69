//! Opens a trace and watches over its reading: standard input, progress on a terminal, what to say of damage.

use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use exectrace::analyze::Damage;
use exectrace::read::{Error, Progress, Reader};
use serde::Serialize;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A trace to read.
pub struct Input {
    path: PathBuf,
    /// The length of the file; not known for standard input and for what has none.
    len: Option<u64>,
    source: Source,
}

enum Source {
    Stdin,
    File(File),
}

impl Input {
    /// Opens a file, or standard input for `-`.
    pub fn open(path: &Path) -> Result<Input, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Input { path: path.into(), len: None, source: Source::Stdin });
        }
        let file = File::open(path).map_err(|e| {
            let hint = if e.kind() == io::ErrorKind::NotFound { "`-` is standard input" } else { "" };
            Failure::usage(format_args!("cannot open {}: {e}", path.display()), hint)
        })?;
        let meta = file.metadata().ok();
        if meta.as_ref().is_some_and(std::fs::Metadata::is_dir) {
            return Err(Failure::usage(format_args!("{} is a directory", path.display()), "name a trace file"));
        }
        let len = meta.filter(std::fs::Metadata::is_file).map(|m| m.len());
        Ok(Input { path: path.into(), len, source: Source::File(file) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of the file, if it has one.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// The file, if it can be read more than once.
    pub fn seekable(&self) -> Option<File> {
        match &self.source {
            Source::File(f) if self.len.is_some() => f.try_clone().ok(),
            _ => None,
        }
    }

    /// What to call the trace in messages.
    pub fn name(&self) -> String {
        if self.path.as_os_str() == "-" { String::from("standard input") } else { self.path.display().to_string() }
    }

    /// The bytes of the trace.
    pub fn bytes(&self) -> Result<Box<dyn Read + Send>, Failure> {
        Ok(match &self.source {
            Source::Stdin => Box::new(io::stdin()),
            Source::File(f) => {
                let f =
                    f.try_clone().map_err(|e| Failure::usage(format_args!("cannot read {}: {e}", self.name()), ""))?;
                Box::new(f)
            }
        })
    }

    /// A reader of the trace that uses other threads if the machine has them to spare.
    pub fn reader(&self) -> Result<Reader<'static>, Failure> {
        self.reader_by(Reader::threaded)
    }

    /// The same for a command that does next to nothing with each event.
    pub fn bare_reader(&self) -> Result<Reader<'static>, Failure> {
        self.reader_by(Reader::read_ahead)
    }

    fn reader_by(
        &self,
        with_threads: fn(Box<dyn Read + Send>) -> Result<Reader<'static>, Error>,
    ) -> Result<Reader<'static>, Failure> {
        let bytes = self.bytes()?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let reader = if threads > 1 { with_threads(bytes) } else { Reader::new(bytes) };
        reader.map_err(|e| Failure::unreadable(&self.name(), &e))
    }

    /// What to say of a trace that broke while it was read: where, why, and how much is lost.
    pub fn broken(&self, e: &Error, bytes_read: u64) -> Failure {
        self.cut_off(&e.to_string(), e.whole_bytes(), bytes_read)
    }

    /// The same, of what is known of an error.
    pub fn cut_off(&self, e: &str, whole_bytes: u64, bytes_read: u64) -> Failure {
        let total = self.len.unwrap_or(bytes_read);
        let whole = whole_bytes.min(total);
        let lost = total - whole;
        let share = if total == 0 { 100.0 } else { lost as f64 / total as f64 * 100.0 };
        // Beyond what was read of a stream nothing is known.
        let least = if self.len.is_none() { "at least " } else { "" };
        Failure::Broken(format!(
            "{}: {e}; lost {least}{share:.1} % of the trace ({} of {})",
            self.name(),
            size(lost),
            size(total)
        ))
    }

    /// Reads the whole trace with progress shown: `answer` gets the reader and what to call now and then.
    pub fn ask<T>(&self, answer: impl FnOnce(&mut Reader<'_>, &mut dyn FnMut()) -> T) -> Result<Asked<T>, Failure> {
        let mut reader = self.reader()?;
        let mut watch = self.watch(reader.progress());
        let answer = answer(&mut reader, &mut || watch.tick());
        Ok(Asked { answer, bytes_read: reader.bytes_read() })
    }

    /// Prints an answer, as JSON or as `text` puts it, and ends the command.
    pub fn show<T: Serialize>(
        &self,
        asked: &Asked<T>,
        json: bool,
        damage: Option<&Damage>,
        text: impl FnOnce(&mut Output, &T) -> Result<(), Failure>,
    ) -> Result<Outcome, Failure> {
        let mut out = Output::stdout();
        if json {
            out.json(&asked.answer)?;
        } else {
            text(&mut out, &asked.answer)?;
        }
        out.flush()?;
        self.ended(damage, asked.bytes_read)
    }

    /// How a command ends whose answer is about a trace's whole part.
    pub fn ended(&self, damage: Option<&Damage>, bytes_read: u64) -> Result<Outcome, Failure> {
        match damage {
            Some(d) => Err(self.cut_off(&d.message, d.whole_bytes, bytes_read)),
            None => Ok(Outcome::Done),
        }
    }

    /// A display of progress; it shows something only where a person watches.
    pub fn watch(&self, progress: Progress) -> Watch {
        Watch { progress: Some(progress), ..self.watch_bytes() }
    }

    /// The same, to be told how far the work is.
    pub fn watch_bytes(&self) -> Watch {
        // Where answers appear on the terminal by and by, they are the progress.
        let shown = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Watch { progress: None, len: self.len, next: shown.then(|| Instant::now() + FIRST), shown: false }
    }
}

/// An answer, and how much was read for it.
pub struct Asked<T> {
    pub answer: T,
    pub bytes_read: u64,
}

/// Work shorter than this shows no progress.
const FIRST: Duration = Duration::from_millis(700);
/// The time between two displays.
const AGAIN: Duration = Duration::from_millis(200);

/// Shows on standard error how far the reading is.
pub struct Watch {
    progress: Option<Progress>,
    len: Option<u64>,
    /// When to show it next; never, if nobody watches.
    next: Option<Instant>,
    shown: bool,
}

impl Watch {
    /// Of so many bytes in all.
    pub fn of(mut self, len: u64) -> Watch {
        self.len = Some(len);
        self
    }

    /// To be called now and then.
    pub fn tick(&mut self) {
        if self.next.is_some() {
            self.at(self.progress.as_ref().map_or(0, Progress::bytes_read));
        }
    }

    /// To be called now and then, with the number of bytes that are done.
    pub fn at(&mut self, read: u64) {
        let Some(next) = self.next else { return };
        let now = Instant::now();
        if now < next {
            return;
        }
        self.next = Some(now + AGAIN);
        self.shown = true;
        let text = match self.len {
            Some(len) if len > 0 => format!("{:3.0} % of {}", read as f64 / len as f64 * 100.0, size(len)),
            _ => size(read),
        };
        // A progress that cannot be shown is no loss.
        let _ = write!(io::stderr(), "\r{text:<40}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r{:<40}\r", "");
        }
    }
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut v = bytes as f64;
    let mut unit = 0;
    while v >= 1024.0 && unit + 1 < units.len() {
        v /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{v:.1} {}", units[unit]) }
}
