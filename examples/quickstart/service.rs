//! The service: a line with words in, the files that have them all out, over TCP.
//!
//! Each connection has a thread that reads and writes; a pool of threads searches. A query is a task of the trace that goes
//! from one to the other and back.

use crate::index::{Hit, Index, spawn};
use exectrace::Task;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Hits that an answer lists by name.
const LISTED: usize = 3;

struct Job {
    task: Task,
    query: String,
    answer_to: SyncSender<Answer>,
}

struct Answer {
    task: Task,
    hits: Vec<Hit>,
    /// Whether the index was complete before the search began.
    is_whole: bool,
}

/// The running service.
pub struct Service {
    pub addr: SocketAddr,
    closing: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    accept: JoinHandle<()>,
}

impl Service {
    /// Listens on a free port of the loopback interface.
    pub fn start(index: &Arc<Index>, searchers: usize) -> io::Result<Service> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let closing = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (send, receive) = channel();
        let receive = Arc::new(Mutex::new(receive));
        let pool: Vec<_> = (1..=searchers)
            .map(|n| {
                let (index, receive) = (index.clone(), receive.clone());
                spawn(&format!("search-{n}"), move || search(&index, &receive))
            })
            .collect();
        let accept = {
            let (closing, answered, index) = (closing.clone(), answered.clone(), index.clone());
            spawn("accept", move || {
                accept(&listener, &closing, &answered, &index, send);
                for p in pool {
                    p.join().expect("a searching thread panicked");
                }
            })
        };
        Ok(Service { addr, closing, answered, accept })
    }

    /// Ends when the last client has gone. Returns how many queries were answered.
    pub fn stop(self) -> io::Result<u64> {
        self.closing.store(true, Ordering::Release);
        // `accept` waits for one more connection.
        TcpStream::connect(self.addr)?;
        self.accept.join().expect("the accepting thread panicked");
        Ok(self.answered.load(Ordering::Relaxed))
    }
}

fn accept(
    listener: &TcpListener,
    closing: &AtomicBool,
    answered: &Arc<AtomicU64>,
    index: &Arc<Index>,
    jobs: Sender<Job>,
) {
    let mut connections = Vec::new();
    for stream in listener.incoming() {
        if closing.load(Ordering::Acquire) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let (jobs, answered, index) = (jobs.clone(), answered.clone(), index.clone());
        connections.push(spawn(&format!("connection-{}", connections.len() + 1), move || {
            if let Err(e) = serve(&stream, &jobs, &answered, &index) {
                exectrace::log!("service", "a client was lost: {e}");
            }
        }));
    }
    drop(jobs);
    for c in connections {
        c.join().expect("a connection's thread panicked");
    }
}

fn serve(stream: &TcpStream, jobs: &Sender<Job>, answered: &AtomicU64, index: &Index) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream);
    let mut out = BufWriter::new(stream);
    let (answer_to, answer) = sync_channel(1);
    let mut query = String::new();
    while lines.read_line(&mut query)? > 0 {
        let task = Task::new("query");
        task.log("words", query.trim());
        let job = Job { task, query: std::mem::take(&mut query), answer_to: answer_to.clone() };
        if jobs.send(job).is_err() {
            return Err(io::Error::other("the service is closing"));
        }
        let Ok(Answer { task, hits, is_whole }) = answer.recv() else { return Err(io::Error::other("no answer")) };
        let _region = task.region("reply");
        let state = if is_whole { "whole" } else { "partial" };
        writeln!(out, "{} {} {state}", hits.len(), hits.iter().map(|h| h.count).sum::<u64>())?;
        let listed = &hits[..hits.len().min(LISTED)];
        let paths: Vec<_> = {
            let p = index.progress.lock().unwrap();
            listed.iter().map(|h| p.files[h.file as usize].clone()).collect()
        };
        for (hit, path) in listed.iter().zip(paths) {
            writeln!(out, "{} {}", hit.count, path.display())?;
        }
        writeln!(out)?;
        out.flush()?;
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn search(index: &Index, jobs: &Mutex<Receiver<Job>>) {
    let next = || jobs.lock().unwrap().recv();
    while let Ok(Job { task, query, answer_to }) = next() {
        let (hits, is_whole) = {
            let _region = task.region("search");
            let is_whole = index.is_complete();
            let words: Vec<&str> = query.split_whitespace().collect();
            (index.search(&words), is_whole)
        };
        // The client may have gone.
        let _ = answer_to.send(Answer { task, hits, is_whole });
    }
}

/// A client's end of a connection.
pub struct Client {
    lines: BufReader<TcpStream>,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Files with all words.
    pub files: usize,
    /// The words in them.
    pub count: u64,
    pub is_whole: bool,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Client { lines: BufReader::new(stream) })
    }

    /// Asks one query and waits for the answer.
    pub fn ask(&mut self, words: &str) -> io::Result<Reply> {
        let broken = |line: &str| io::Error::new(io::ErrorKind::InvalidData, format!("a broken answer: {line:?}"));
        self.lines.get_mut().write_all(format!("{words}\n").as_bytes())?;
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        let mut parts = line.split_whitespace();
        let mut part = || parts.next().ok_or_else(|| broken(&line));
        let (files, count, state) = (part()?.parse(), part()?.parse(), part()?);
        let (Ok(files), Ok(count)) = (files, count) else { return Err(broken(&line)) };
        let reply = Reply { files, count, is_whole: state == "whole" };
        loop {
            line.clear();
            if self.lines.read_line(&mut line)? == 0 {
                return Err(broken(""));
            }
            if line == "\n" {
                return Ok(reply);
            }
        }
    }
}
