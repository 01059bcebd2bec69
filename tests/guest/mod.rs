//! What the tests of the recorder share: sinks, a check of every trace by the reader, and children that are this program again.

// Each test program uses its own part of this.
#![allow(dead_code)]

pub mod heap;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exectrace::format::Kind;
use exectrace::read::{EventKind, Reader, StateTransition};

/// A sink in memory, whose contents outlive the trace. It is written to once for each generation.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>, Arc<AtomicU64>);

impl Memory {
    pub fn new() -> Memory {
        Memory::default()
    }

    /// One that does not allocate until it holds that many bytes.
    pub fn with_capacity(bytes: usize) -> Memory {
        let memory = Memory::new();
        memory.0.lock().unwrap_or_else(PoisonError::into_inner).reserve(bytes);
        memory
    }

    /// How many generations were written so far.
    pub fn generations(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    /// What was written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for Memory {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// There is one tracer in a process: tests that use it take turns.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a trace holds.
#[derive(Debug, Default)]
pub struct Seen {
    pub events: u64,
    pub generations: u64,
    pub kinds: BTreeMap<Kind, u64>,
    /// By the reader's transitions: names of goroutines that were seen to exist.
    pub logs: Vec<(String, String)>,
    /// Values of `HeapAlloc`, with their times.
    pub heap: Vec<(i64, u64)>,
    /// The reader's words, if the trace is damaged, and how much of it is whole.
    pub damage: Option<(String, u64)>,
}

impl Seen {
    pub fn kind(&self, kind: Kind) -> u64 {
        self.kinds.get(&kind).copied().unwrap_or(0)
    }
}

/// Reads a trace as far as it goes.
pub fn look(trace: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut reader = match Reader::new(trace) {
        Ok(reader) => reader,
        Err(e) => {
            seen.damage = Some((e.to_string(), 0));
            return seen;
        }
    };
    loop {
        let ev = match reader.next_event() {
            Ok(Some(ev)) => ev,
            Ok(None) => break,
            Err(e) => {
                seen.damage = Some((e.to_string(), e.whole_bytes()));
                break;
            }
        };
        seen.events += 1;
        *seen.kinds.entry(ev.wire).or_default() += 1;
        match ev.kind() {
            // One more stands at the end of the trace.
            EventKind::Sync => seen.generations += 1,
            EventKind::Log => {
                if let Some(log) = ev.log() {
                    seen.logs.push((ev.string(log.category).to_owned(), ev.string(log.message).to_owned()));
                }
            }
            EventKind::Metric if ev.wire == Kind::HeapAlloc => seen.heap.push((ev.time.0, ev.args[0])),
            _ => {}
        }
    }
    seen.generations = seen.generations.saturating_sub(1);
    seen
}

/// Reads a trace that has to be whole.
#[track_caller]
pub fn check(trace: &[u8]) -> Seen {
    let seen = look(trace);
    if let Some((words, _)) = &seen.damage {
        let path =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("refused-{}.trace", std::process::id()));
        let kept = std::fs::write(&path, trace).map(|()| path.display().to_string());
        panic!("the reader refuses a trace of {} bytes: {words}; kept: {kept:?}", trace.len());
    }
    seen
}

/// For each wait that ended: whether another goroutine ended it, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    pub woken: u64,
    pub alone: u64,
}

/// Counts waits by reason and by who ended them.
pub fn waits(trace: &[u8]) -> BTreeMap<String, Waits> {
    use exectrace::read::GoState;
    let mut reader = Reader::new(trace).expect("a trace");
    let mut open = BTreeMap::new();
    let mut found: BTreeMap<String, Waits> = BTreeMap::new();
    while let Some(ev) = reader.next_event().expect("a good trace") {
        let Some(StateTransition::Goroutine { id, from, to, reason, .. }) = ev.transition() else { continue };
        if to == GoState::Waiting && from != to {
            open.insert(id, ev.string(reason).to_owned());
        } else if from == GoState::Waiting
            && to != from
            && let Some(reason) = open.remove(&id)
        {
            let w = found.entry(reason).or_default();
            // By itself it has no goroutine on its thread yet: it is waiting.
            if ev.goroutine.is_none() { w.alone += 1 } else { w.woken += 1 }
        }
    }
    found
}

/// Runs test `name` of this program in a child, by itself, with `EXECTRACE_TEST_CHILD` set to `role`.
pub fn child(name: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env("EXECTRACE_TEST_CHILD", role);
    command.stdin(Stdio::null());
    command
}

/// The role of this process, if it is a child of a test.
pub fn role() -> Option<String> {
    std::env::var("EXECTRACE_TEST_CHILD").ok()
}

/// Kills a child that outlives the test's patience, so that a deadlock is a failure and no endless run.
pub fn wait(mut child: Child, seconds: u64) -> std::process::ExitStatus {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if std::time::Instant::now() > end {
            let _ = child.kill();
            panic!("the child did not end within {seconds} s");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A small generator of numbers, so that a failing run can be had again from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// Ends the threads of a workload.
#[derive(Clone, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
