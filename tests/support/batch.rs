//! Verdicts on many traces at once, by Go's own tool with a hook in it (`tests/go/judge`).
//!
//! One process of it a core, each with its own queue end. A process that dies or hangs on a trace is a verdict on that trace;
//! the next trace gets a new process.

use super::facts::Facts;
use super::go::Toolchain;
use super::process;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How far the judge looks into each trace, the cheapest first. In brackets what a million events with deep stacks cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The ordered, validating reader alone (1 s).
    Order,
    /// That, and what the web UI does: timelines, goroutines, profiles, MMU, tasks, regions (30 s).
    Pages,
    /// What `-d=parsed`, `-d=wire` and `-d=footprint` do (40 s: each event becomes text).
    Text,
    /// All of it.
    All,
}

impl Depth {
    fn stages(self) -> &'static [&'static str] {
        match self {
            Depth::Order => &["read"],
            Depth::Pages => &["read", "tool", "pages"],
            Depth::Text => &["parsed", "wire"],
            Depth::All => &["parsed", "wire", "tool", "pages"],
        }
    }
}

/// A trace to judge: a whole file, or parts of it put together.
#[derive(Clone, Debug)]
pub struct Item {
    /// What to call it.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The parts; none: the whole file.
    pub ranges: Vec<Range<usize>>,
}

impl Item {
    /// A whole file.
    pub fn file(path: &Path) -> Item {
        Item { name: path.display().to_string(), path: path.to_owned(), ranges: Vec::new() }
    }

    /// The bytes that it stands for.
    pub fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let all = std::fs::read(&self.path)?;
        if self.ranges.is_empty() {
            return Ok(all);
        }
        Ok(self.ranges.iter().flat_map(|r| &all[r.clone()]).copied().collect())
    }
}

/// What the judge said of one trace.
#[derive(Debug, Deserialize)]
pub struct Verdict {
    /// Where the trace was refused; empty if it was accepted.
    pub stage: String,
    /// The reader's own words.
    pub error: String,
    /// The tool died rather than refused.
    pub panic: bool,
    /// Events read.
    pub events: u64,
    /// How long it took.
    pub ns: u64,
    /// What the trace says, if that was asked for.
    pub facts: Option<Facts>,
}

impl Verdict {
    /// Whether the trace was accepted.
    pub fn accepted(&self) -> bool {
        self.stage.is_empty()
    }
}

#[derive(Serialize)]
struct Request<'a> {
    path: &'a Path,
    ranges: Vec<[usize; 2]>,
    stages: &'a [&'a str],
    facts: bool,
}

/// Judges all items. The verdicts stand in their order.
pub fn judge(go: &Toolchain, items: &[Item], depth: Depth, facts: bool) -> Vec<Verdict> {
    judge_by(go.judge_program(), process::LIMIT, items, depth, facts)
}

/// As [`judge`], by this program, which has so long for each item.
pub fn judge_by(program: &Path, limit: Duration, items: &[Item], depth: Depth, facts: bool) -> Vec<Verdict> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let next = Mutex::new(0..items.len());
    let verdicts: Mutex<Vec<Option<Verdict>>> = Mutex::new(items.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut worker = None;
                loop {
                    let Some(i) = next.lock().expect("no worker panics").next() else { break };
                    let verdict = one(program, limit, &mut worker, &items[i], depth, facts);
                    verdicts.lock().expect("no worker panics")[i] = Some(verdict);
                }
            });
        }
    });
    let verdicts = verdicts.into_inner().expect("no worker panics");
    verdicts.into_iter().map(|v| v.expect("each item was taken by a worker")).collect()
}

fn one(
    program: &Path,
    limit: Duration,
    worker: &mut Option<Worker>,
    item: &Item,
    depth: Depth,
    facts: bool,
) -> Verdict {
    let ranges = item.ranges.iter().map(|r| [r.start, r.end]).collect();
    let request = Request { path: &item.path, ranges, stages: depth.stages(), facts };
    let mut w = worker.take().unwrap_or_else(|| Worker::start(program));
    match w.ask(&request, limit) {
        Ok(verdict) => {
            *worker = Some(w);
            verdict
        }
        Err(error) => {
            let error = format!("{error}; {}", w.end());
            Verdict { stage: "judge".into(), error, panic: true, events: 0, ns: 0, facts: None }
        }
    }
}

/// One running judge.
struct Worker {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<std::io::Result<String>>,
    stderr: JoinHandle<String>,
}

impl Worker {
    fn start(program: &Path) -> Worker {
        let mut child = std::process::Command::new(program)
            .env("EXECTRACE_JUDGE", "1")
            // One process a core: more threads would only quarrel with the other processes' ones.
            .env("GOMAXPROCS", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the judge can be started");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = process::keep_stderr(&mut child);
        let (send, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::with_capacity(1 << 20, stdout).lines() {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Worker { child, stdin, answers, stderr }
    }

    fn ask(&mut self, request: &Request, limit: Duration) -> Result<Verdict, String> {
        let mut line = serde_json::to_vec(request).map_err(|e| format!("request: {e}"))?;
        line.push(b'\n');
        // A judge that has just died takes no request; its silence below tells.
        let _ = self.stdin.write_all(&line);
        match self.answers.recv_timeout(limit) {
            Ok(Ok(line)) => serde_json::from_str(&line).map_err(|e| format!("no verdict: {e}: {line:.200}")),
            Ok(Err(e)) => Err(format!("no verdict: {e}")),
            Err(RecvTimeoutError::Timeout) => Err(format!("no verdict after {limit:?}")),
            Err(RecvTimeoutError::Disconnected) => Err("the judge died".into()),
        }
    }

    /// Ends it and returns its last words.
    fn end(mut self) -> String {
        drop(self.stdin);
        let _ = self.child.kill();
        let _ = self.child.wait();
        let words = self.stderr.join().unwrap_or_default();
        words.lines().take(12).collect::<Vec<_>>().join("\n")
    }
}
