//! What the commands that write traces share: where the trace goes, progress, what to say at the end.

use crate::input::{Input, size};
use crate::new_file::NewFile;
use crate::outcome::{Failure, Outcome};
use exectrace::format::header::HEADER_BYTES;
use exectrace::rewrite::{Error, Report};
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

/// A trace being written.
enum Sink {
    Stdout(io::Stdout),
    File(BufWriter<NewFile>),
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(out) => out.write(buf),
            Sink::File(file) => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(out) => out.flush(),
            Sink::File(file) => file.flush(),
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
        let path = self.output.as_deref().unwrap_or(Path::new("-"));
        Ok(Sink::File(BufWriter::with_capacity(1 << 20, NewFile::begin(path, inputs)?)))
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
        let result = write(&mut sink);
        let name = match &self.output {
            Some(path) if !self.is_stdout() => path.display().to_string(),
            _ => "standard output".to_owned(),
        };
        if let Sink::File(file) = sink {
            let done = match file.into_inner() {
                Ok(new) => {
                    // Of a damaged trace what is whole is kept, if anything is.
                    let any = || new.file.metadata().is_ok_and(|m| m.len() > HEADER_BYTES as u64);
                    match &result {
                        Err(Error::Read(_)) if any() => new.keep(),
                        Ok(_) => new.keep(),
                        Err(_) => {
                            new.discard();
                            Ok(())
                        }
                    }
                }
                Err(e) => {
                    let (e, file) = e.into_parts();
                    file.into_parts().0.discard();
                    Err(e)
                }
            };
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
