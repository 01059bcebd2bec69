//! Runs the script on a thread of its own, with the index's files as its world.

use crate::index::{Index, spawn};
use crate::script::{Host, Machine, compiler};
use crate::service::Client;
use crate::text;
use exectrace::gc::{Config, HeapStats};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

const SCRIPT: &str = include_str!("words.script");
/// The script reads files until it has so many words, so that it takes about as long on any text.
const WORDS_MAX: usize = 600_000;

pub struct Report {
    /// What it printed, a line each.
    pub printed: Vec<String>,
    pub result: String,
    pub instructions: u64,
    pub heap: HeapStats,
    /// The files that it read.
    files: Vec<PathBuf>,
}

/// Runs the script once enough files have been indexed.
pub fn start(index: &Arc<Index>, addr: SocketAddr) -> JoinHandle<Result<Report, String>> {
    let index = index.clone();
    spawn("script", move || {
        let program = compiler::compile(SCRIPT)?;
        index.wait_for(64);
        let client = Client::connect(addr).map_err(|e| e.to_string())?;
        let mut world =
            World { files: index.progress().files, words: 0, read: Vec::new(), printed: Vec::new(), client };
        let mut machine = Machine::new(program, Config::new().heap_bytes_min(3 << 20));
        let _region = exectrace::Region::new("run script");
        let result = machine.run(&mut world)?;
        Ok(Report {
            printed: world.printed,
            result,
            instructions: machine.instructions(),
            heap: machine.heap_stats(),
            files: world.read,
        })
    })
}

struct World {
    files: Vec<PathBuf>,
    words: usize,
    read: Vec<PathBuf>,
    printed: Vec<String>,
    client: Client,
}

impl Host for World {
    fn files(&mut self) -> usize {
        if self.words < WORDS_MAX { self.files.len() } else { self.read.len() }
    }

    fn words(&mut self, file: usize) -> Result<Vec<String>, String> {
        let path = self.files.get(file).ok_or_else(|| format!("there is no file {file}"))?;
        let text = text::read_lower(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut words = Vec::new();
        text::for_each_word(&text, text::is_html(path), |w| words.push(w.to_string()));
        self.words += words.len();
        self.read.push(path.clone());
        exectrace::log!("script", "{} words of {}", words.len(), path.display());
        Ok(words)
    }

    fn ask(&mut self, query: &str) -> Result<f64, String> {
        self.client.ask(query).map(|r| r.files as f64).map_err(|e| e.to_string())
    }

    fn print(&mut self, line: &str) {
        exectrace::log("print", line);
        self.printed.push(line.into());
    }
}

/// Does what the script did, in Rust, and compares.
///
/// # Errors
/// The difference.
pub fn check(report: &Report) -> Result<(), String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for path in &report.files {
        let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        for word in text::words_slowly(&String::from_utf8_lossy(&text), text::is_html(path)) {
            if word.len() > 3 {
                *counts.entry(word).or_default() += 1;
            }
        }
    }
    let total: u64 = counts.values().sum();
    let top = counts.iter().max_by_key(|(word, n)| (**n, std::cmp::Reverse(*word)));
    let expected = format!("{total} {} {}", counts.len(), top.map_or("", |(word, _)| word));
    if report.result == expected {
        Ok(())
    } else {
        Err(format!("the script says {:?}, but the files say {expected:?}", report.result))
    }
}
