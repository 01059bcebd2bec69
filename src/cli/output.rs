//! Standard output in large pieces.

use crate::outcome::Failure;
use exectrace::analyze::{Count, Durations, Ns};
use std::io::{self, IsTerminal, Write};

/// How much is gathered before it is written: several times what a pipe takes at once.
const CHUNK_BYTES: usize = 512 << 10;

/// Text on its way to standard output.
pub struct Output {
    /// What is not yet written; appended to directly.
    pub buf: Vec<u8>,
    out: io::Stdout,
    colours: bool,
}

/// A colour, as terminals call it.
#[derive(Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
}

impl Output {
    pub fn stdout() -> Output {
        let out = io::stdout();
        // As <https://no-color.org> has it: any value but the empty one says no.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
        let colours = out.is_terminal() && !unwanted && !dumb;
        Output { buf: Vec::with_capacity(CHUNK_BYTES + (64 << 10)), out, colours }
    }

    /// A word in a colour where a person sees it and wants it; else as it is.
    pub fn paint(&self, colour: Colour, word: &str) -> String {
        if self.colours { format!("\x1b[{}m{word}\x1b[0m", colour as u8) } else { word.to_owned() }
    }

    /// Appends a line of text.
    pub fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory cannot fail.
        let _ = writeln!(self.buf, "{text}");
    }

    /// Appends a table of durations by name, `most` lines of it. Nothing if there is no row.
    pub fn durations<'a>(
        &mut self,
        title: &str,
        rows: impl ExactSizeIterator<Item = (&'a str, &'a Durations)>,
        most: usize,
    ) {
        let all = rows.len();
        if all == 0 {
            return;
        }
        let heads = ["count", "total", "mean", "min", "p50", "p90", "p99", "max"];
        let heads: String = heads.iter().map(|h| format!("{h:>11}")).collect();
        self.line(format_args!("{title:36}{heads}"));
        for (name, d) in rows.take(most) {
            let ns = [d.total_ns, d.mean_ns, d.min_ns, d.p50_ns, d.p90_ns, d.p99_ns, d.max_ns];
            let ns: String = ns.iter().map(|&v| format!("{:>11}", Ns(v).to_string())).collect();
            self.line(format_args!("  {:34}{:>11}{ns}", clip(name, 34), Count(d.count)));
        }
        self.rest(all, most);
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

/// The first characters of a name from a trace, as it stands in a table; "-" for an empty one.
pub fn clip(name: &str, most: usize) -> String {
    if name.is_empty() {
        return "-".to_owned();
    }
    let name = table_name(name);
    if name.chars().count() <= most {
        return name;
    }
    name.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A name from a trace as it stands in a line of text: control characters would break the line.
pub fn table_name(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
