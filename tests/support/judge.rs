//! The judge: says whether Go's own tools accept a trace, and what they make of it.
//!
//! [`Judge::accept`] runs the unmodified `go tool trace` in each of its modes, its four profiles through `go tool pprof`, and
//! its web UI page by page. [`Judge::accept_all`] and [`Judge::accept_windows`] take thousands of traces through the same
//! code in a few processes ([`batch`](super::batch)). Whatever is refused is told in the tool's own words.
//!
//! The version matrix: a tool opens headers up to its own version. Known exceptions: Go 1.23 has no `-d=footprint` and
//! names the other modes by numbers; `-d=wire` and `-d=footprint` refuse AllocFree events in a trace whose header is older
//! than the tool (see [`Judge::without_wire`]).

use super::batch::{self, Depth, Item, Verdict};
use super::facts::Facts;
use super::go::Toolchain;
use super::pprof::{PROFILES, Profile};
use super::web::{Crawl, Server};
use super::window::Split;
use super::{Scratch, process};
use exectrace::format::header::HEADER_BYTES;
use exectrace::format::{Kind, Version};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// One version of Go's tools as a judge.
#[derive(Clone, Copy)]
pub struct Judge {
    go: &'static Toolchain,
    wire: bool,
}

/// What the tools made of an accepted trace.
pub struct Report {
    /// What the trace says.
    pub facts: Facts,
    /// Events on the wire by name, tables and batches among them.
    pub wire: BTreeMap<String, u64>,
    /// Bytes on the wire by name; empty with Go 1.23.
    pub wire_bytes: BTreeMap<String, u64>,
    /// The profiles `net`, `sync`, `syscall` and `sched`.
    pub profiles: BTreeMap<&'static str, Profile>,
    /// The web UI.
    pub web: Crawl,
}

/// What the tools had to say against a trace.
pub struct Refusal {
    path: PathBuf,
    version: String,
    /// One for each thing wrong.
    pub complaints: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Go {} refuses {}:", self.version, self.path.display())?;
        self.complaints.iter().take(20).try_for_each(|c| writeln!(f, "- {c}"))
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Report {
    /// Timed events on the wire: what the program did, without tables, batch headers and clocks.
    pub fn timed_events(&self) -> u64 {
        let timed = Kind::ALL.iter().filter(|k| k.spec().timed && **k != Kind::ClockSnapshot);
        timed.filter_map(|k| self.wire.get(k.spec().name)).sum()
    }

    /// Size of the file for each timed event, tables and all.
    pub fn bytes_per_event(&self) -> f64 {
        self.facts.bytes as f64 / self.timed_events() as f64
    }

    /// How many events of that name are on the wire, such as `GoUnblock`.
    pub fn wire(&self, name: &str) -> u64 {
        self.wire.get(name).copied().unwrap_or(0)
    }

    /// One of the four profiles.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn profile(&self, name: &str) -> &Profile {
        self.profiles.get(name).unwrap_or_else(|| panic!("no profile {name:?}"))
    }
}

impl Judge {
    /// The judge with the newest Go. `None`, with a word on stderr, if there is no Go here: the caller's test is skipped.
    ///
    /// # Panics
    /// In CI, where nothing may be skipped.
    pub fn find() -> Option<Judge> {
        Judge::all().into_iter().next()
    }

    /// A judge for each Go there is, newest first. Says so on stderr if there is none.
    ///
    /// # Panics
    /// In CI, if there is not each of [`VERSIONS`](super::go::VERSIONS).
    pub fn all() -> Vec<Judge> {
        let all: Vec<Judge> = Toolchain::all().iter().map(|go| Judge { go, wire: true }).collect();
        if all.is_empty() {
            let thread = std::thread::current();
            // Not by `eprintln!`: the test harness would swallow it.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: {} needs a Go to judge traces (run .ci/install-go, or set EXECTRACE_GO)",
                thread.name().unwrap_or("this test")
            );
        }
        all
    }

    /// The judges that open traces with that header, newest first.
    ///
    /// # Panics
    /// As [`Judge::all`].
    pub fn all_for(header: Version) -> Vec<Judge> {
        Judge::all().into_iter().filter(|j| j.go.opens(header)).collect()
    }

    /// The Go behind it.
    pub fn toolchain(&self) -> &'static Toolchain {
        self.go
    }

    /// The same without `-d=wire` and `-d=footprint`: for traces with AllocFree events and an older header.
    pub fn without_wire(self) -> Judge {
        Judge { wire: false, ..self }
    }

    /// Has Go's tools look at a trace from all sides.
    ///
    /// # Panics
    /// With the tools' words, if they refuse it.
    pub fn accept(&self, trace: &Path) -> Report {
        self.check(trace).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// As [`Judge::accept`], and hands a refusal back.
    ///
    /// # Errors
    /// All that the tools complain of.
    pub fn check(&self, trace: &Path) -> Result<Report, Refusal> {
        let mut complaints = Vec::new();
        let item = Item::file(trace);
        let verdict = batch::judge(self.go, std::slice::from_ref(&item), Depth::Order, true).remove(0);
        if !verdict.accepted() {
            complaints.push(format!("judge, {}: {}", verdict.stage, verdict.error));
        }
        let printed = self.print("parsed", trace, &mut complaints);
        let (wire, wire_bytes) = if self.wire {
            let wire = self.print("wire", trace, &mut complaints);
            let bytes = self.footprint(trace, &wire, &mut complaints);
            (wire, bytes)
        } else {
            Default::default()
        };
        let profiles = self.profiles(trace, &mut complaints);
        let procs = verdict.facts.as_ref().map_or(0, |f| f.procs);
        let web = Server::start(self.go, trace).map(|server| server.crawl(procs));
        let mut web = web.unwrap_or_else(|e| Crawl::failed(format!("the server {e}")));
        if let Some(facts) = &verdict.facts {
            if complaints.is_empty() && printed != facts.kinds {
                complaints.push(format!("-d=parsed prints {printed:?}, and the judge counts {:?}", facts.kinds));
            }
            web.complaints.retain(|c| !is_task_without_ends(c, facts));
        }
        complaints.append(&mut web.complaints);
        match verdict.facts {
            Some(facts) if complaints.is_empty() => Ok(Report { facts, wire, wire_bytes, profiles, web }),
            _ => Err(Refusal { path: trace.to_owned(), version: self.go.version.clone(), complaints }),
        }
    }

    /// Judges many traces and returns the verdicts in their order.
    pub fn verdicts(&self, items: &[Item], depth: Depth) -> Vec<Verdict> {
        batch::judge(self.go, items, depth, false)
    }

    /// What one trace says, without the tool's other modes: quick.
    ///
    /// # Panics
    /// With the reader's words, if it refuses the trace.
    pub fn facts(&self, trace: &Path) -> Facts {
        let verdict = batch::judge(self.go, &[Item::file(trace)], Depth::Order, true).remove(0);
        match verdict.facts {
            Some(facts) if verdict.accepted() => facts,
            _ => panic!("Go {} refuses {}: {}: {}", self.go.version, trace.display(), verdict.stage, verdict.error),
        }
    }

    /// Judges many traces. Returns how many events they held.
    ///
    /// # Panics
    /// If one is refused, with the number of refusals and the reader's words on the first few, whose bytes are kept beside the
    /// scratch directories.
    pub fn accept_all(&self, items: &[Item], depth: Depth) -> u64 {
        let verdicts = self.verdicts(items, depth);
        let refused: Vec<_> = items.iter().zip(&verdicts).filter(|(_, v)| !v.accepted()).collect();
        if refused.is_empty() {
            return verdicts.iter().map(|v| v.events).sum();
        }
        let mut text = format!("Go {} refuses {} of {} traces:\n", self.go.version, refused.len(), items.len());
        for (item, v) in refused.iter().take(5) {
            let kept = keep(item).unwrap_or_else(|e| format!("(not kept: {e})"));
            text += &format!(
                "- {} {}: {}: {}\n  kept as {kept}\n",
                item.name,
                if v.panic { "(dies)" } else { "" },
                v.stage,
                v.error
            );
        }
        panic!("{text}");
    }

    /// Judges every window of 1 to `most` generations of a trace. Returns how many there were.
    ///
    /// # Panics
    /// As [`Judge::accept_all`], and if the trace can't be split.
    pub fn accept_windows(&self, trace: &Path, most: usize, depth: Depth) -> usize {
        let items = window_items(trace, most);
        self.accept_all(&items, depth);
        items.len()
    }

    /// The arguments for a debug mode. Go 1.23 numbers them.
    fn mode(&self, name: &str) -> String {
        match (self.go.minor, name) {
            (..=23, "parsed") => "-d=1".into(),
            (..=23, "wire") => "-d=2".into(),
            _ => format!("-d={name}"),
        }
    }

    /// Prints the trace and counts its events by kind.
    fn print(&self, mode: &str, trace: &Path, complaints: &mut Vec<String>) -> BTreeMap<String, u64> {
        let counts = Arc::new(Mutex::new(BTreeMap::new()));
        let sink = Arc::clone(&counts);
        let parsed = mode == "parsed";
        let mut command = self.go.tool_command("trace");
        let out = process::run_each_line(command.arg(self.mode(mode)).arg(trace), move |line| {
            if let Some(kind) = if parsed { parsed_kind(line) } else { wire_kind(line) } {
                *sink.lock().expect("nobody panics with it").entry(kind).or_default() += 1;
            }
        });
        if !out.success || !out.stderr.trim().is_empty() {
            complaints.push(format!("-d={mode}: {}", out.words()));
        }
        std::mem::take(&mut *counts.lock().expect("nobody panics with it"))
    }

    fn footprint(
        &self,
        trace: &Path,
        wire: &BTreeMap<String, u64>,
        complaints: &mut Vec<String>,
    ) -> BTreeMap<String, u64> {
        if self.go.minor <= 23 {
            return BTreeMap::new();
        }
        let out = process::run(self.go.tool_command("trace").arg(self.mode("footprint")).arg(trace));
        if !out.success || !out.stderr.trim().is_empty() {
            complaints.push(format!("-d=footprint: {}", out.words()));
            return BTreeMap::new();
        }
        let mut bytes = BTreeMap::new();
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [name, size, _, count, _] = fields[..] else { continue };
            let (Ok(size), Ok(count)) = (size.parse(), count.parse::<u64>()) else { continue };
            if count != wire.get(name).copied().unwrap_or(0) {
                complaints.push(format!("-d=footprint counts {count} {name}, and -d=wire {:?}", wire.get(name)));
            }
            if count > 0 {
                bytes.insert(name.to_owned(), size);
            }
        }
        bytes
    }

    fn profiles(&self, trace: &Path, complaints: &mut Vec<String>) -> BTreeMap<&'static str, Profile> {
        let scratch = Scratch::new("profiles");
        let mut profiles = BTreeMap::new();
        for name in PROFILES {
            let out = process::run(self.go.tool_command("trace").arg(format!("-pprof={name}")).arg(trace));
            if !out.success || !out.stderr.trim().is_empty() {
                complaints.push(format!("-pprof={name}: {}", out.words()));
                continue;
            }
            match Profile::read(self.go, &scratch.write(name, &out.stdout)) {
                Ok(profile) => drop(profiles.insert(name, profile)),
                Err(e) => complaints.push(format!("pprof of {name}: {e}")),
            }
        }
        profiles
    }
}

/// Every window of 1 to `most` generations of a trace, as parts of its file.
///
/// # Panics
/// If the trace can't be split.
pub fn window_items(trace: &Path, most: usize) -> Vec<Item> {
    let bytes = std::fs::read(trace).unwrap_or_else(|e| panic!("{}: {e}", trace.display()));
    let split = Split::new(&bytes).unwrap_or_else(|e| panic!("{}: {e}", trace.display()));
    let item = |w: super::window::Window| Item {
        name: format!("{}, {} generations from {}", trace.display(), w.count, w.first),
        path: trace.to_owned(),
        ranges: vec![0..HEADER_BYTES, w.bytes],
    };
    split.windows(most).map(item).collect()
}

/// The version in a trace's header.
pub fn header_of(trace: &[u8]) -> Option<Version> {
    Version::ALL.into_iter().find(|v| trace.starts_with(&v.header()))
}

/// The tool lists a task that began before the trace and went on after it, and has no timeline for it.
fn is_task_without_ends(complaint: &str, facts: &Facts) -> bool {
    let homeless = |t: &&super::facts::Task| t.begin_ns.is_none() && t.end_ns.is_none();
    facts.tasks.iter().filter(homeless).any(|t| {
        [format!("focustask={}:", t.id), format!("taskid={}:", t.id), format!("find task with id {}", t.id)]
            .iter()
            .any(|part| complaint.contains(part.as_str()) || complaint.ends_with(part.as_str()))
    })
}

/// Writes a refused trace to a file of its own, over that of an earlier run.
fn keep(item: &Item) -> std::io::Result<String> {
    let name = item.name.rsplit('/').next().unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("refused-{name}.trace"));
    std::fs::write(&path, item.bytes()?)?;
    Ok(path.display().to_string())
}

/// The kind of the event that a line of `-d=parsed` begins with: `M=1 P=1 G=1 Metric Time=1 ...`.
fn parsed_kind(line: &[u8]) -> Option<String> {
    let rest = line.strip_prefix(b"M=")?;
    let kind = rest.split(|b| *b == b' ').nth(3)?;
    Some(String::from_utf8_lossy(kind).into_owned())
}

/// The name of the event that a line of `-d=wire` begins with; the lines of its data are indented.
fn wire_kind(line: &[u8]) -> Option<String> {
    line.first().filter(|b| b.is_ascii_uppercase())?;
    let name = line.split(|b| *b == b' ').next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}
