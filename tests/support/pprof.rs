//! The four profiles of `go tool trace -pprof=`, as `go tool pprof -top` prints them.

use super::go::Toolchain;
use super::process;
use std::path::Path;

/// The profiles by the tool's names.
pub const PROFILES: [&str; 4] = ["net", "sync", "syscall", "sched"];

/// A profile's functions.
#[derive(Debug, Default)]
pub struct Profile {
    /// Sum over all functions, in nanoseconds.
    pub total_ns: f64,
    /// Its functions, the largest first.
    pub rows: Vec<Row>,
}

/// One function of a profile.
#[derive(Debug)]
pub struct Row {
    /// Time in the function itself (it was the leaf).
    pub flat_ns: f64,
    /// Time in it and what it called.
    pub cum_ns: f64,
    /// Its name, as pprof shows it, which may be shorter than in the trace.
    pub function: String,
}

impl Profile {
    /// Has pprof read a profile.
    ///
    /// # Errors
    /// In pprof's words.
    pub fn read(go: &Toolchain, file: &Path) -> Result<Profile, String> {
        let mut command = go.tool_command("pprof");
        command.args(["-top", "-symbolize=none", "-unit=ns", "-nodecount=1000000", "-nodefraction=0"]).arg(file);
        let out = process::run(&mut command);
        if !out.success {
            return Err(out.words());
        }
        Profile::parse(&String::from_utf8_lossy(&out.stdout))
    }

    /// Reads what `pprof -top` prints.
    ///
    /// # Errors
    /// With the text that is no such table.
    pub fn parse(text: &str) -> Result<Profile, String> {
        let mut lines = text.lines().skip_while(|l| !l.trim_start().starts_with("flat"));
        lines.next().ok_or_else(|| format!("no table: {text}"))?;
        let mut profile = Profile::default();
        for line in lines {
            let row = Row::parse(line).ok_or_else(|| format!("no row: {line:?}"))?;
            profile.total_ns += row.flat_ns;
            profile.rows.push(row);
        }
        Ok(profile)
    }

    /// The first function with `part` in its name.
    pub fn function(&self, part: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.function.contains(part))
    }
}

impl Row {
    fn parse(line: &str) -> Option<Row> {
        let mut fields = line.split_whitespace();
        let (flat, _, _, cum, _) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let ns = |text: &str| text.trim_end_matches("ns").parse::<f64>().ok();
        Some(Row { flat_ns: ns(flat)?, cum_ns: ns(cum)?, function: fields.collect::<Vec<_>>().join(" ") })
    }
}
