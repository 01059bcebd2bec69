//! What the commands that write traces share: where the trace goes, progress, what to say at the end.

use crate::input::{Input, size};
use crate::outcome::{Failure, Outcome};
use exectrace::format::header::HEADER_BYTES;
use exectrace::rewrite::{Error, Report};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Where a trace is written.
#[derive(clap::Args)]
pub struct Target {
    /// Write the trace to this file; `-` is standard output, which is the default where it is no terminal
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Say nothing if all is well
    #[arg(short, long)]
    quiet: bool,
}

/// A trace being written. The file gets its name when it is complete, so that no half a trace takes the place of a whole one.
enum Sink {
    Stdout(io::Stdout),
    File { part: PathBuf, path: PathBuf, file: BufWriter<File> },
}

impl Write for &mut Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(out) => out.write(buf),
            Sink::File { file, .. } => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(out) => out.flush(),
            Sink::File { file, .. } => file.flush(),
        }
    }
}

impl Target {
    /// Whether the trace goes to standard output.
    fn is_stdout(&self) -> bool {
        self.output.as_ref().is_none_or(|p| p.as_os_str() == "-")
    }

    fn open(&self, inputs: &[&Path]) -> Result<Sink, Failure> {
        if self.is_stdout() {
            if self.output.is_none() && io::stdout().is_terminal() {
                return Err(Failure::usage("a trace is no text for a terminal", "name a file with -o OUT"));
            }
            return Ok(Sink::Stdout(io::stdout()));
        }
        let path = self.output.clone().unwrap_or_default();
        let same = |a: &Path| a.canonicalize().ok().is_some_and(|a| path.canonicalize().ok() == Some(a));
        if inputs.iter().any(|i| same(i)) {
            let hint = "name another file with -o OUT";
            return Err(Failure::usage(format_args!("{} is the trace to read", path.display()), hint));
        }
        let cannot = |e: io::Error| Failure::usage(format_args!("cannot write {}: {e}", path.display()), "");
        // What is no file, such as a pipe, cannot be replaced.
        let in_place = path.symlink_metadata().is_ok_and(|m| !m.is_file());
        let mut part = path.clone();
        if !in_place {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(".part");
            part = path.with_file_name(name);
        }
        let file = File::create(&part).map_err(cannot)?;
        Ok(Sink::File { part, path, file: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Writes a trace: `write` gets the output. Then says what was written, on standard error unless it went to a file.
    pub fn write<T>(
        &self,
        inputs: &[&Input],
        write: impl FnOnce(&mut dyn Write) -> Result<T, Error>,
        report: impl FnOnce(&T) -> (Report, String),
    ) -> Result<Outcome, Failure> {
        let paths: Vec<&Path> = inputs.iter().map(|i| i.path()).collect();
        let mut sink = self.open(&paths)?;
        let result = write(&mut &mut sink);
        let name = match &sink {
            Sink::Stdout(_) => "standard output".to_owned(),
            Sink::File { path, .. } => path.display().to_string(),
        };
        // Of a damaged trace what is whole is kept, if anything is.
        let any = |part: &Path| std::fs::metadata(part).is_ok_and(|m| m.len() > HEADER_BYTES as u64);
        if let Sink::File { part, path, mut file } = sink {
            let mut done = file.flush();
            let keep = match &result {
                Ok(_) => true,
                Err(Error::Read(_)) => any(&part),
                Err(_) => false,
            };
            if part != path && keep {
                done = done.and_then(|()| std::fs::rename(&part, &path));
            } else if part != path {
                // What is left of it is of no use; that it stays is no new failure.
                let _ = std::fs::remove_file(&part);
            }
            done.map_err(|e| Failure::usage(format_args!("cannot write {name}: {e}"), ""))?;
        }
        match result {
            Ok(answer) => {
                let (r, more) = report(&answer);
                if !self.quiet && !self.is_stdout() {
                    let s = if r.generations_written == 1 { "" } else { "s" };
                    let (n, bytes) = (r.generations_written, size(r.bytes_written));
                    let line = format!("{name}: {n} generation{s}, {bytes}{more}\n");
                    io::stdout().write_all(line.as_bytes()).map_err(Failure::writing)?;
                }
                Ok(Outcome::Done)
            }
            Err(Error::Read(e)) => match inputs {
                [one] => Err(one.broken(&e, e.offset().unwrap_or(0).max(e.whole_bytes()))),
                _ => Err(Failure::Broken(e.to_string())),
            },
            Err(Error::Write(e)) if self.is_stdout() => Err(Failure::writing(e)),
            Err(Error::Write(e)) => Err(Failure::usage(format_args!("cannot write {name}: {e}"), "")),
            Err(e @ Error::Invalid(_)) => Err(Failure::Broken(format!("{e}; nothing was kept"))),
            Err(e) => Err(Failure::usage(e, "")),
        }
    }
}
