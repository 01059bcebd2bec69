//! What the tests of recorded programs share: programs, compiled once, with a watchdog, and questions to their traces.
#![allow(dead_code)]

use crate::cli_support::expect;
use crate::support::Scratch;
use crate::support::judge::Judge;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Whoever takes longer is stuck. A loaded machine is slow, so it is long.
const PATIENCE: Duration = Duration::from_secs(300);

/// A program of `tests/c`, compiled once.
pub fn program(source: &str) -> &'static Path {
    static PROGRAMS: OnceLock<(Mutex<HashMap<String, &'static Path>>, Scratch)> = OnceLock::new();
    let (programs, scratch) = PROGRAMS.get_or_init(|| (Mutex::default(), Scratch::new("record-programs")));
    let mut programs = programs.lock().expect("no test fails in here");
    programs.entry(source.to_owned()).or_insert_with(|| {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source);
        let to = scratch.path(&source.replace('.', "-"));
        let compiler = if source.ends_with(".cpp") { "c++" } else { "cc" };
        let mut command = Command::new(compiler);
        command.args(["-O1", "-g", "-w", "-pthread", "-o"]).arg(&to).arg(from);
        assert!(command.status().expect("a compiler").success(), "{source}");
        Box::leak(to.into_boxed_path())
    })
}

pub fn exectrace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_exectrace"))
}

/// The preload library.
pub fn library() -> String {
    expect(0, &["record", "--print-library"]).trim().to_owned()
}

/// Runs a command to its end, which must come.
pub fn ended(command: &mut Command) -> Output {
    watched(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
}

/// Waits for the end of a process that has pipes for its output.
pub fn watched(mut child: Child) -> Output {
    use std::io::Read;
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let out = std::thread::spawn(move || {
        let mut all = Vec::new();
        out.read_to_end(&mut all).map(|_| all)
    });
    let err = std::thread::spawn(move || {
        let mut all = Vec::new();
        err.read_to_end(&mut all).map(|_| all)
    });
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("a process did not end within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let all = |reader: std::thread::JoinHandle<std::io::Result<Vec<u8>>>| reader.join().expect("join").expect("a pipe");
    Output { status, stdout: all(out), stderr: all(err) }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn json(command: &str, trace: &Path) -> Value {
    let text = expect(0, &[command, "--json", trace.to_str().expect("a plain path")]);
    serde_json::from_str(&text).expect("JSON")
}

/// How often a trace has a system call.
pub fn calls(trace: &Path, name: &str) -> u64 {
    let summary = json("summary", trace);
    let all = summary["syscalls"].as_array().expect("a list");
    all.iter().find(|call| call["name"] == name).map_or(0, |call| call["count"].as_u64().expect("a number"))
}

/// How many events a trace says that it lacks.
pub fn lost(trace: &Path) -> u64 {
    json("summary", trace)["losses"]["events"].as_u64().expect("a number")
}

/// Our own reader accepts a trace.
pub fn checked(trace: &Path) {
    expect(0, &["check", trace.to_str().expect("a plain path")]);
}

/// Go's tools accept a trace, if there is a Go; our own reader does.
pub fn accepted(trace: &Path) {
    checked(trace);
    if let Some(judge) = Judge::find() {
        judge.without_wire().facts(trace);
    }
}

/// What is in a directory.
pub fn files(dir: PathBuf) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}
