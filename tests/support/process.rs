//! Child processes with a time limit: a tool that hangs on a trace is a finding, not a test run that never ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one run of a tool may take. Generous: the slowest machine judges the largest trace of the tests.
pub const LIMIT: Duration = Duration::from_secs(300);

/// What came of a run.
pub struct Outcome {
    /// Exit status 0.
    pub success: bool,
    /// Exit status or signal, in words.
    pub status: String,
    /// What the reader of stdout made of it.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: String,
}

impl Outcome {
    /// The end of stderr, for messages.
    pub fn words(&self) -> String {
        let text = self.stderr.trim();
        let start = text.char_indices().rev().nth(3000).map_or(0, |(i, _)| i);
        format!("{}: {}", self.status, &text[start..])
    }
}

/// Runs `command` to its end and keeps all its output.
pub fn run(command: &mut Command) -> Outcome {
    run_lines(command, None)
}

/// Runs `command` and hands each line of stdout to `line`, for outputs too large to keep.
pub fn run_each_line(command: &mut Command, line: impl FnMut(&[u8]) + Send + 'static) -> Outcome {
    run_lines(command, Some(Box::new(line)))
}

type LineSink = Box<dyn FnMut(&[u8]) + Send>;

fn run_lines(command: &mut Command, line: Option<LineSink>) -> Outcome {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?} can't be started: {e}"));
    let stdout = child.stdout.take().expect("stdout is piped");
    let out = std::thread::spawn(move || match line {
        None => read_all(stdout),
        Some(mut sink) => {
            let mut reader = BufReader::with_capacity(1 << 20, stdout);
            let mut buf = Vec::new();
            while reader.read_until(b'\n', &mut buf).is_ok_and(|n| n > 0) {
                sink(buf.strip_suffix(b"\n").unwrap_or(&buf));
                buf.clear();
            }
            Vec::new()
        }
    });
    let err = keep_stderr(&mut child);
    let status = wait(&mut child, LIMIT);
    Outcome {
        success: status == "exit status: 0",
        status,
        stdout: out.join().expect("the reader of stdout doesn't panic"),
        stderr: err.join().expect("the reader of stderr doesn't panic"),
    }
}

fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut data = Vec::new();
    // A child that dies while it writes ends its stream, and its status tells the rest.
    let _ = from.read_to_end(&mut data);
    data
}

/// A thread that reads a child's stderr to its end.
pub fn keep_stderr(child: &mut Child) -> JoinHandle<String> {
    let stderr = child.stderr.take().expect("stderr is piped");
    std::thread::spawn(move || String::from_utf8_lossy(&read_all(stderr)).into_owned())
}

/// Waits for the child's end, and kills it at the limit. Returns the status in words.
pub fn wait(child: &mut Child, limit: Duration) -> String {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait().expect("the child can be waited for") {
            Some(status) => return status.to_string(),
            None if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return format!("killed after {} s without an end", limit.as_secs());
            }
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
