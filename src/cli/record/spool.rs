//! What is recorded, on its way to being traces: a directory with raw traces, one or more of each process.
//!
//! ```text
//! app.trace.spool/ 123.raw      what process 123 wrote: whole generations with raw program counters
//!                  123.raw.1    what it wrote after it had executed another program
//!                  123.raw.old  with --flight: what came before, as a trace by itself
//!                  123.raw.box  what it had in memory when it was killed
//! ```
//!
//! When the program has ended, each becomes a trace with names, and the directory is removed. If this command is killed itself, the
//! directory stays, and `exectrace recover` does the same later.

use crate::outcome::Failure;
use exectrace::format::header::HEADER_BYTES;
use exectrace::rewrite::{self, Binaries, Parts, Symbolizer};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// See the module's page.
#[derive(Clone)]
pub struct Spool {
    dir: PathBuf,
}

/// Where names come from.
#[derive(Clone, Default)]
pub struct Names {
    /// Binaries, or files with their debug information.
    pub binaries: Vec<PathBuf>,
    /// Directories of debug information by build id.
    pub debug_dirs: Vec<PathBuf>,
}

impl Names {
    /// One that reads each binary once, for all traces that it is given.
    pub fn symbolizer(&self) -> Symbolizer {
        let mut binaries = Binaries::default();
        binaries.files.clone_from(&self.binaries);
        binaries.debug_dirs.clone_from(&self.debug_dirs);
        Symbolizer::new(binaries)
    }
}

/// A trace that is done.
pub struct Finished {
    pub path: PathBuf,
    /// Whether it is that of the program itself, and not of a process that it started.
    pub is_main: bool,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// Numbers the traces of a program that is started and stopped: how many there are, of itself and of each process that it started.
#[derive(Debug, Default)]
pub struct Numbers {
    own: u32,
    others: HashMap<u32, u32>,
}

impl Numbers {
    /// The next file of the program itself: with the number in place of `%n`, or behind the name from the second on.
    pub fn next(&self, output: &Path) -> PathBuf {
        let n = self.own + 1;
        let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains("%n") {
            return output.with_file_name(name.replace("%n", &n.to_string()));
        }
        if n == 1 { output.to_owned() } else { numbered(output, &format!(".{n}")) }
    }

    /// The next file of a process that the program started.
    pub fn next_of(&self, process: u32, output: &Path) -> PathBuf {
        match self.others.get(&process) {
            None | Some(0) => numbered(output, &format!(".{process}")),
            Some(n) => numbered(output, &format!(".{process}.{}", n + 1)),
        }
    }

    /// That file is there: of the program itself, or of another process.
    pub fn used(&mut self, other: Option<u32>) {
        match other {
            None => self.own += 1,
            Some(process) => *self.others.entry(process).or_default() += 1,
        }
    }
}

/// `app.trace` with something before its extension, and without the place for a number.
fn numbered(output: &Path, what: &str) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy().replace("%n", "");
    let extension = output.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    output.with_file_name(format!("{stem}{what}{extension}"))
}

/// What a process left.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Raw {
    pub process: u32,
    /// Counts the programs that it executed one after the other.
    pub program: u32,
    pub path: PathBuf,
}

impl Spool {
    /// Makes a directory beside `output`.
    pub fn create(output: &Path) -> Result<Spool, Failure> {
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(format!(".spool-{}", std::process::id()));
        let dir = std::path::absolute(output.with_file_name(name)).unwrap_or_default();
        fs::create_dir(&dir).map_err(|e| {
            let hint = "name a file in a directory that can be written with -o FILE";
            Failure::usage(format_args!("cannot make {}: {e}", dir.display()), hint)
        })?;
        Ok(Spool { dir })
    }

    /// One that is there, of a recording that was itself killed.
    pub fn open(dir: &Path) -> Spool {
        Spool { dir: dir.to_owned() }
    }

    /// What the library is told to write to.
    pub fn pattern(&self) -> OsString {
        self.escaped(b"/%p.raw")
    }

    fn escaped(&self, rest: &[u8]) -> OsString {
        // A `%` of the directory's name is written twice.
        let dir = self.dir.as_os_str().as_encoded_bytes();
        let mut pattern = Vec::with_capacity(dir.len() + rest.len());
        for &b in dir {
            pattern.extend_from_slice(if b == b'%' { b"%%" } else { std::slice::from_ref(&b) });
        }
        pattern.extend_from_slice(rest);
        std::os::unix::ffi::OsStringExt::from_vec(pattern)
    }

    /// What is there, by process and in the order in which it was written.
    pub fn raws(&self) -> io::Result<Vec<Raw>> {
        let mut raws = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((process, rest)) = name.split_once(".raw") else { continue };
            let program = if rest.is_empty() { Some(0) } else { rest.strip_prefix('.').and_then(|n| n.parse().ok()) };
            if let (Ok(process), Some(program)) = (process.parse(), program) {
                raws.push(Raw { process, program, path: entry.path() });
            }
        }
        raws.sort();
        Ok(raws)
    }

    /// Makes traces of all that is there, and removes it. That of `main` is `output`; others have the process id in their names, and
    /// a number if a process has more than one. With `numbers` those of `main` are numbered instead, in their order.
    pub fn finish(
        self,
        main: u32,
        output: &Path,
        names: &Names,
        mut numbers: Option<&mut Numbers>,
    ) -> Result<Vec<Finished>, Failure> {
        let cannot = |e: io::Error| Failure::usage(format_args!("cannot read {}: {e}", self.dir.display()), "");
        let raws = self.raws().map_err(cannot)?;
        let mut done = Vec::new();
        let mut kept = false;
        let mut symbolizer = names.symbolizer();
        for (i, raw) in raws.iter().enumerate() {
            // The last program that a process executed is the one that was meant.
            let is_last = raws.get(i + 1).is_none_or(|next| next.process != raw.process);
            let is_main = raw.process == main && (is_last || numbers.is_some());
            let path = match &numbers {
                Some(numbers) if is_main => numbers.next(output),
                Some(numbers) => numbers.next_of(raw.process, output),
                None => name(output, raw, is_main, is_last),
            };
            match finish(raw, &path, &mut symbolizer, false) {
                Ok(None) => continue,
                Ok(Some(trouble)) => done.push(Finished { path, is_main, trouble }),
                Err(e) => {
                    kept = true;
                    let trouble = Some(format!("{e}; what was recorded is in {}", raw.path.display()));
                    done.push(Finished { path, is_main, trouble });
                }
            }
            if let Some(numbers) = &mut numbers {
                numbers.used((!is_main).then_some(raw.process));
            }
        }
        if !kept {
            self.remove();
        }
        Ok(done)
    }

    /// What one process wrote into `raw`, which it has ended, becomes the trace `output`. What is wrong with it, if anything is; `None` if
    /// there is nothing in it.
    pub fn finish_one(
        &self,
        raw: &Raw,
        output: &Path,
        symbolizer: &mut Symbolizer,
    ) -> Result<Option<Option<String>>, rewrite::Error> {
        let done = finish(raw, output, symbolizer, false)?;
        for path in [raw.path.clone(), with(&raw.path, ".old"), box_of(&raw.path)] {
            // What cannot be removed goes with the directory.
            let _ = fs::remove_file(path);
        }
        Ok(done)
    }

    /// Where the processes listen for commands: the pattern for the library.
    pub fn control_pattern(&self) -> OsString {
        self.escaped(b"/%p.ctl")
    }

    /// The processes that listen for commands, or did.
    pub fn listening(&self) -> Vec<u32> {
        let names = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut all: Vec<u32> = names.filter_map(|name| name.to_str()?.strip_suffix(".ctl")?.parse().ok()).collect();
        all.sort_unstable();
        all
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes the directory.
    pub fn remove(&self) {
        // Files that cannot be removed are litter, and no failure of what was asked.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn name(output: &Path, raw: &Raw, is_main: bool, is_last: bool) -> PathBuf {
    if is_main {
        return output.to_owned();
    }
    let program = if is_last { String::new() } else { format!(".{}", raw.program) };
    let stem = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = output.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    output.with_file_name(format!("{stem}.{}{program}{extension}", raw.process))
}

/// The black box of a raw trace.
pub fn box_of(raw: &Path) -> PathBuf {
    with(raw, ".box")
}

/// A path with something behind it.
pub fn with(path: &Path, what: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(what);
    path.into()
}

/// Whether a process still writes to a black box: it has it mapped.
pub fn is_in_use(black_box: &Path) -> bool {
    let mut pid = [0; 16];
    let read = File::open(black_box).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut pid));
    let pid = u64::from_ne_bytes(pid[8..].try_into().unwrap_or_default());
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let path = black_box.canonicalize().unwrap_or_default();
    read.is_ok() && maps.lines().any(|line| line.ends_with(&*path.to_string_lossy()))
}

/// The bytes of a raw trace, with what was put aside of it before; how many those are.
fn input(raw: &Path) -> io::Result<(Box<dyn Read>, u64)> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(raw)?);
    let Ok(old) = File::open(with(raw, ".old")) else { return Ok((Box::new(file), 0)) };
    let before = old.metadata()?.len();
    // The first file has the header for both.
    file.seek_relative(HEADER_BYTES as i64)?;
    Ok((Box::new(BufReader::with_capacity(1 << 20, old).chain(file)), before))
}

/// Makes a whole raw trace of what a process left that was killed, or, if it `is_running`, of what it has written. `None` if there is no
/// black box, or one that was not begun; else how many generations it has.
pub fn recover(raw: &Path, whole: &Path, is_running: bool) -> Result<Option<u64>, rewrite::Error> {
    let Ok(black_box) = File::open(box_of(raw)) else { return Ok(None) };
    let (input, before) = input(raw).map_err(rewrite::Error::Write)?;
    let mut out = BufWriter::with_capacity(1 << 20, File::create(whole).map_err(rewrite::Error::Write)?);
    let parts = Parts { before, is_running };
    let result = rewrite::recover(input, BufReader::with_capacity(1 << 20, black_box), &mut out, parts);
    out.flush().map_err(rewrite::Error::Write)?;
    match result {
        Ok(report) => Ok(Some(report.written.generations_written)),
        Err(e) => {
            // It is in the way of nothing else.
            let _ = fs::remove_file(whole);
            if matches!(e, rewrite::Error::Cannot(_)) { Ok(None) } else { Err(e) }
        }
    }
}

/// Makes a trace with names of a raw one. `None` if there is nothing in it; else what is wrong with it, if anything is.
pub fn finish(
    raw: &Raw,
    output: &Path,
    symbolizer: &mut Symbolizer,
    is_running: bool,
) -> Result<Option<Option<String>>, rewrite::Error> {
    let whole = with(output, ".whole");
    let done = recover(&raw.path, &whole, is_running).and_then(|recovered| {
        let header_alone = || fs::metadata(&raw.path).is_ok_and(|m| m.len() <= HEADER_BYTES as u64);
        if recovered == Some(0) || (recovered.is_none() && header_alone()) {
            return Ok(None);
        }
        name_frames(if recovered.is_some() { &whole } else { &raw.path }, output, symbolizer)
    });
    // It was for this alone, if it was made.
    let _ = fs::remove_file(&whole);
    done
}

/// The last step of [`finish`].
fn name_frames(
    raw: &Path,
    output: &Path,
    symbolizer: &mut Symbolizer,
) -> Result<Option<Option<String>>, rewrite::Error> {
    let (file, _) = input(raw).map_err(rewrite::Error::Write)?;
    let part = with(output, ".part");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(rewrite::Error::Write)?);
    let result = symbolizer.symbolize(file, &mut out, &mut |_| {});
    out.flush().map_err(rewrite::Error::Write)?;
    let trouble = match result {
        Ok(report) if report.written.generations_written == 0 => {
            let _ = fs::remove_file(&part);
            return Ok(None);
        }
        Ok(_) => None,
        // Its whole part was written.
        Err(rewrite::Error::Read(e)) => Some(e.to_string()),
        Err(e) => {
            // It is in the way of nothing else.
            let _ = fs::remove_file(&part);
            return Err(e);
        }
    };
    fs::rename(&part, output).map_err(rewrite::Error::Write)?;
    Ok(Some(trouble))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_program_are_numbered() {
        let numbers = |n| Numbers { own: n, others: HashMap::from([(7, n)]) };
        let next = |n: u32, output: &str| numbers(n).next(Path::new(output)).display().to_string();
        assert_eq!(next(0, "/a/b.trace"), "/a/b.trace");
        assert_eq!(next(1, "/a/b.trace"), "/a/b.2.trace");
        assert_eq!(next(1, "b"), "b.2");
        assert_eq!(next(0, "/%n/b-%n.trace"), "/%n/b-1.trace");
        assert_eq!(next(11, "b-%n.trace"), "b-12.trace");
        let of = |n: u32, output: &str| numbers(n).next_of(7, Path::new(output)).display().to_string();
        assert_eq!([of(0, "b.trace"), of(1, "b.trace"), of(2, "b%n")], ["b.7.trace", "b.7.2.trace", "b.7.3"]);
    }
}
