//! The clients, and the check of what they are told.

use crate::index::{Index, spawn};
use crate::service::{Client, Reply};
use crate::text;
use hdrhistogram::Histogram;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What clients ask for: alone, or two of them together.
const WORDS: [&str; 24] = [
    "memory",
    "thread",
    "value",
    "string",
    "error",
    "the",
    "lifetime",
    "unsafe",
    "license",
    "copyright",
    "slice",
    "iterator",
    "panic",
    "format",
    "alloc",
    "return",
    "mutex",
    "reference",
    "static",
    "build",
    "socket",
    "struct",
    "release",
    "zyzzyva",
];
/// After so many queries a client rests.
const BURST: usize = 25;
const REST: Duration = Duration::from_millis(8);

/// A longer wait counts as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// What one client was told and how long it waited.
pub struct Report {
    pub replies: Vec<(String, Reply)>,
    pub latency_ns: Histogram<u64>,
}

/// A client that asks `queries` times; which words, its number decides.
pub fn start(number: usize, queries: usize, addr: SocketAddr) -> JoinHandle<io::Result<Report>> {
    spawn(&format!("client-{number}"), move || {
        let mut client = Client::connect(addr)?;
        let mut latency_ns = Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("the bounds are allowed");
        let mut replies = Vec::with_capacity(queries);
        let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(number as u64 + 1);
        for i in 0..queries {
            let query = query(&mut random);
            let begin = Instant::now();
            let reply = exectrace::with_region("ask", || client.ask(&query))?;
            latency_ns.saturating_record(begin.elapsed().as_nanos() as u64);
            replies.push((query, reply));
            if i % BURST == BURST - 1 {
                std::thread::sleep(REST);
            }
        }
        Ok(Report { replies, latency_ns })
    })
}

fn query(random: &mut u64) -> String {
    let mut word = || {
        // Xorshift.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        WORDS[(*random >> 20) as usize % WORDS.len()]
    };
    let (a, b) = (word(), word());
    if a < b { format!("{a} {b}") } else { a.into() }
}

/// What came of comparing replies with the truth.
pub struct Checked {
    pub queries: usize,
    pub files: usize,
}

/// Compares the replies with what reading every file again finds. Replies from before the index was whole may say less.
///
/// # Errors
/// The first difference.
pub fn check(index: &Index, replies: &[(String, Reply)]) -> Result<Checked, String> {
    let files = index.progress().files;
    let mut truth: HashMap<&str, Reply> = HashMap::new();
    for (query, _) in replies {
        truth.insert(query, Reply { files: 0, count: 0, is_whole: true });
    }
    for path in &files {
        let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let words = text::words_slowly(&String::from_utf8_lossy(&text), text::is_html(path));
        let mut counts: HashMap<&str, u64> = WORDS.iter().map(|w| (*w, 0)).collect();
        for word in &words {
            if let Some(n) = counts.get_mut(word.as_str()) {
                *n += 1;
            }
        }
        for (query, reply) in &mut truth {
            let counts: Vec<u64> = query.split(' ').map(|w| counts[w]).collect();
            if counts.iter().all(|n| *n > 0) {
                reply.files += 1;
                reply.count += counts.iter().sum::<u64>();
            }
        }
    }
    for (query, reply) in replies {
        let truth = truth[query.as_str()];
        let is_right = if reply.is_whole { *reply == truth } else { reply.files <= truth.files };
        if !is_right {
            return Err(format!("query {query:?} was answered {reply:?}, but the files say {truth:?}"));
        }
    }
    Ok(Checked { queries: replies.len(), files: files.len() })
}
