//! A file that a command writes. It gets its name when it is complete, so that no half of one takes the place of a whole one,
//! and it never takes the place of what the command reads.

use crate::outcome::Failure;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file in the making.
pub struct NewFile {
    /// Where it is to stand, and what to call it.
    path: PathBuf,
    /// Where it is made: beside it, or there at once if what stands there cannot be replaced.
    part: PathBuf,
    /// What is written to.
    pub file: File,
}

/// How many names of parts are tried: those of this process's number may be left from others that were killed.
const PART_NAMES: u32 = 64;

impl NewFile {
    /// Begins a file; `inputs` are what the command reads (`-` is standard input).
    pub fn begin(path: &Path, inputs: &[&Path]) -> Result<NewFile, Failure> {
        let target = path.canonicalize().ok();
        if target.is_some() && inputs.iter().any(|i| canonical_input(i) == target) {
            let hint = "name another file to write";
            return Err(Failure::usage(format_args!("{} is the trace to read", path.display()), hint));
        }
        let cannot = |e: io::Error| Failure::usage(format_args!("cannot write {}: {e}", path.display()), "");
        // A link stays, and what it leads to is replaced. What is no file, such as a pipe, cannot be; nor has a link that
        // leads nowhere a place to make the part in.
        let real = target.unwrap_or_else(|| path.to_owned());
        let old = real.symlink_metadata().ok();
        if old.as_ref().is_some_and(|m| !m.is_file()) {
            let file = File::create(&real).map_err(cannot)?;
            return Ok(NewFile { part: real.clone(), path: real, file });
        }
        let (part, file) = part_of(&real).map_err(cannot)?;
        if let Some(old) = old {
            // Who may read the old one may read the new one. Where that cannot be said, the user's defaults hold.
            let _ = file.set_permissions(old.permissions());
        }
        Ok(NewFile { path: real, part, file })
    }

    /// Gives the file its name.
    pub fn keep(self) -> io::Result<()> {
        if self.part == self.path {
            return Ok(());
        }
        let kept = fs::rename(&self.part, &self.path);
        if kept.is_err() {
            self.discard();
        }
        kept
    }

    /// Leaves things as they were. What was written to a pipe is written.
    pub fn discard(self) {
        if self.part != self.path {
            // What is left of it is of no use; that it stays is no new failure.
            let _ = fs::remove_file(&self.part);
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What an input is, by its one true name.
fn canonical_input(input: &Path) -> Option<PathBuf> {
    // Where a shell has sent a file to standard input this leads to it.
    let input = if input.as_os_str() == "-" { Path::new("/dev/stdin") } else { input };
    input.canonicalize().ok()
}

/// Makes a file beside another that nobody else has: not another run, not the user.
fn part_of(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let pid = std::process::id();
    let mut n = 0;
    loop {
        let number = if n == 0 { String::new() } else { format!("-{n}") };
        let part = path.with_file_name(format!(".{name}.{pid}{number}.part"));
        match OpenOptions::new().write(true).create_new(true).open(&part) {
            Ok(file) => return Ok((part, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists && n < PART_NAMES => n += 1,
            Err(e) => return Err(e),
        }
    }
}

/// Refuses a command of whose options, each with whether it was given so, several write a document to standard output.
pub fn one_document(options: &[(&str, bool)]) -> Result<(), Failure> {
    let given: Vec<&str> = options.iter().filter(|o| o.1).map(|o| o.0).collect();
    match given.len() {
        0 | 1 => Ok(()),
        _ => {
            let what = format_args!("{} write to standard output", given.join(" and "));
            Err(Failure::usage(what, "name a file in place of `-`, or leave one of them out"))
        }
    }
}

/// Whether an option names standard output.
pub fn is_stdout(path: Option<&Path>) -> bool {
    path.is_some_and(|p| p.as_os_str() == "-")
}

/// Writes a file, or standard output for `-`. `inputs` are what the command reads.
pub fn write_file(path: &Path, bytes: &[u8], inputs: &[&Path]) -> Result<(), Failure> {
    if path.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        return out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::writing);
    }
    let mut new = NewFile::begin(path, inputs)?;
    let done = match new.file.write_all(bytes) {
        Ok(()) => new.keep(),
        Err(e) => {
            new.discard();
            Err(e)
        }
    };
    done.map_err(|e| Failure::usage(format_args!("cannot write {}: {e}", path.display()), ""))
}
