//! One small trace for each rule that Go's reader keeps, and its words about it.
//!
//! They prove that the judge can say no, and they tell the recorder's author what each mistake looks like from outside.
//! A few look wrong and are right; they stand here so that nobody "mends" them.

use super::synth::{Batch, Frame, Trace, put, status::*};
use exectrace::format::{Kind, Kind::*, NO_THREAD, Version};

/// A trace and what the judge must say.
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    /// The trace.
    pub trace: Vec<u8>,
    /// The stage that refuses it and a part of its words; `None` if it is accepted.
    pub refused: Option<(&'static str, &'static str)>,
}

const START: u64 = 5_000_000_000;
const GENERATION_NS: u64 = 10_000_000;
/// The thread of the one goroutine that each case begins with.
const M: u64 = 100;

/// Ids in the tables of each generation.
const SYNC: u64 = 1;
const STW: u64 = 4;
const REGION: u64 = 5;
const OTHER_REGION: u64 = 6;
const STRINGS: [(u64, &str); 6] =
    [(SYNC, "sync"), (2, "main"), (3, "a.rs"), (STW, "GC mark"), (REGION, "reg"), (OTHER_REGION, "reg2")];

fn frame(pc: u64, line: u64) -> Frame {
    Frame { pc, function: 2, file: 3, line }
}

/// The time at which a generation begins.
fn start(generation: u64) -> u64 {
    START + (generation - 1) * GENERATION_NS
}

/// A batch in which processor 0 and goroutine 1 run.
fn running(generation: u64) -> Batch {
    let t = start(generation);
    let mut b = Batch::new(generation, M, t);
    b.ev(ProcStatus, t + 1, &[0, PROC_RUNNING]).ev(GoStatus, t + 2, &[1, M, RUNNING]).ev(ProcsChange, t + 3, &[2, 0]);
    b
}

fn finish(trace: &mut Trace, generation: u64) {
    trace.stacks(generation, &[(1, vec![frame(16, 7)])]);
    trace.strings(generation, &STRINGS);
    trace.end();
}

/// A trace of so many generations that begin alike, with what `add` does in each of them.
fn trace(version: Version, generations: u64, mut add: impl FnMut(&mut Trace, u64, &mut Batch)) -> Vec<u8> {
    let mut trace = Trace::new(version);
    for g in 1..=generations {
        trace.clock(g, start(g));
        let mut b = running(g);
        add(&mut trace, g, &mut b);
        if !b.is_empty() {
            trace.batch(&b);
        }
        finish(&mut trace, g);
    }
    trace.bytes
}

/// One generation of the newest version, with these events of goroutine 1 from 10 ns after its start.
fn events(list: &[(Kind, &[u64])]) -> Vec<u8> {
    trace(Version::Go126, 1, |_, _, b| add(b, list))
}

fn add(b: &mut Batch, list: &[(Kind, &[u64])]) {
    for (kind, args) in list {
        b.ev(*kind, b.last + 10, args);
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = order();
    cases.extend(tables());
    cases.extend(generations());
    cases.extend(pages());
    cases
}

fn refused(name: &'static str, words: &'static str, trace: Vec<u8>) -> Case {
    Case { name, trace, refused: Some(("parsed", words)) }
}

fn accepted(name: &'static str, trace: Vec<u8>) -> Case {
    Case { name, trace, refused: None }
}

/// The rules about the order and state of goroutines, processors, ranges and tasks.
fn order() -> Vec<Case> {
    let second_goroutine = |b: &mut Batch| {
        b.ev(ProcStatus, START + 101, &[1, PROC_RUNNING]).ev(GoStatus, START + 102, &[2, M, RUNNING]);
    };
    vec![
        accepted("nothing special", events(&[(HeapAlloc, &[1])])),
        refused(
            "regions that end crosswise",
            "misuse of region in goroutine 1",
            events(&[
                (UserRegionBegin, &[0, REGION, 0]),
                (UserRegionBegin, &[0, OTHER_REGION, 0]),
                (UserRegionEnd, &[0, REGION, 0]),
            ]),
        ),
        accepted("a region that ends without a begin", events(&[(UserRegionEnd, &[0, REGION, 0])])),
        refused(
            "a GC that ends first of all",
            "encountered GCEnd when GC was in an undetermined state",
            events(&[(GCEnd, &[1])]),
        ),
        refused("a gap in the GC sequence", "failed to advance", events(&[(GCBegin, &[1, 0]), (GCEnd, &[3])])),
        refused("a world that was never stopped", "but not in-flight", events(&[(STWEnd, &[])])),
        refused("a sweep that never began", "but not in-flight", events(&[(GCSweepEnd, &[1, 1])])),
        refused(
            "a range within itself",
            "discovered event already in-flight",
            events(&[(GCMarkAssistBegin, &[0]), (GCMarkAssistBegin, &[0])]),
        ),
        refused(
            "a heap size without a processor",
            "expected a proc but didn't have one",
            events(&[(GoBlock, &[SYNC, 0]), (ProcStop, &[]), (HeapAlloc, &[5])]),
        ),
        refused(
            "a log without a goroutine",
            "expected a goroutine but didn't have one",
            events(&[(GoBlock, &[SYNC, 0]), (UserLog, &[0, SYNC, SYNC, 0])]),
        ),
        accepted(
            "a log and a heap size in a system call",
            events(&[
                (GoSyscallBegin, &[1, 0]),
                (UserLog, &[0, SYNC, SYNC, 0]),
                (HeapAlloc, &[5]),
                (GoSyscallEnd, &[]),
            ]),
        ),
        refused("a wake-up of a goroutine that runs", "failed to advance", events(&[(GoUnblock, &[1, 1, 0])])),
        refused(
            "a gap in a goroutine's sequence",
            "failed to advance",
            events(&[(GoBlock, &[SYNC, 0]), (GoUnblock, &[1, 1, 0]), (GoStart, &[1, 3])]),
        ),
        refused("a gap in a processor's sequence", "can't make sequence", events(&[(GoSyscallBegin, &[2, 0])])),
        refused(
            "a block in a system call",
            "for goroutine that's not Running",
            events(&[(GoSyscallBegin, &[1, 0]), (GoBlock, &[SYNC, 0])]),
        ),
        refused("a goroutine made twice", "already exists", events(&[(GoCreate, &[2, 1, 0]), (GoCreate, &[2, 1, 0])])),
        refused(
            "a task begun twice",
            "task ID conflict",
            events(&[(UserTaskBegin, &[3, 0, REGION, 0]), (UserTaskBegin, &[3, 0, REGION, 0])]),
        ),
        refused(
            "one thread id, two threads",
            "expected a proc",
            trace(Version::Go126, 1, |trace, _, b| {
                add(b, &[(HeapAlloc, &[1])]);
                trace.batch(b);
                let mut other = Batch::new(1, M, START + 100);
                second_goroutine(&mut other);
                add(&mut other, &[(GoBlock, &[SYNC, 0]), (ProcStop, &[])]);
                trace.batch(&other);
                *b = Batch::new(1, M, START + 200);
                add(b, &[(HeapAlloc, &[3])]);
            }),
        ),
        refused(
            "a running goroutine in a batch of no thread",
            "expected a proc but didn't have one",
            trace(Version::Go126, 1, |trace, _, _| {
                let mut nobody = Batch::new(1, NO_THREAD, START);
                second_goroutine(&mut nobody);
                trace.batch(&nobody);
                let mut other = Batch::new(1, M + 1, START + 200);
                add(&mut other, &[(HeapAlloc, &[1])]);
                trace.batch(&other);
            }),
        ),
    ]
}

/// The rules about strings, stacks and sizes.
fn tables() -> Vec<Case> {
    let with = |data: Vec<u8>| trace(Version::Go126, 1, |t, _, _| t.raw(1, NO_THREAD, START, &data));
    let mut long_string = vec![Strings as u8, String as u8];
    put(&mut long_string, &[77, 1025]);
    long_string.extend([b'x'; 1025]);
    let mut deep_stack = vec![Stacks as u8, Stack as u8];
    put(&mut deep_stack, &[9, 129]);
    deep_stack.extend([1; 4 * 129]);
    vec![
        refused("a string id that is in no table", "found invalid string ID", events(&[(UserLog, &[0, 99, SYNC, 0])])),
        refused("a stack id that is in no table", "found invalid stack ID", events(&[(UserLog, &[0, SYNC, SYNC, 99])])),
        refused("a string of 1025 bytes", "invalid string size 1025", with(long_string)),
        refused("a stack of 129 frames", "invalid stack size 129", with(deep_stack)),
        refused("a batch of 65537 bytes", "invalid batch size", with(vec![0; 65537])),
        refused(
            "two strings with one id",
            "multiple strings with the same ID",
            trace(Version::Go126, 1, |t, _, _| t.strings(1, &[(SYNC, "again")])),
        ),
        accepted(
            "two functions at one program counter (the second shows as the first)",
            trace(Version::Go126, 1, |t, _, b| {
                t.stacks(1, &[(2, vec![Frame { function: REGION, ..frame(16, 99) }])]);
                add(b, &[(UserLog, &[0, SYNC, SYNC, 2])]);
            }),
        ),
    ]
}

/// The rules about generations.
fn generations() -> Vec<Case> {
    let no_clock = |data: &[u8]| {
        let mut t = Trace::new(Version::Go126);
        if !data.is_empty() {
            t.raw(1, NO_THREAD, START, data);
        }
        t.batch(&running(1));
        finish(&mut t, 1);
        t.bytes
    };
    let mut frequency = vec![Sync as u8, Frequency as u8];
    put(&mut frequency, &[1_000_000_000]);
    let cut = |version, bytes: usize| {
        let mut t = trace(version, 2, |_, _, _| {});
        t.truncate(t.len() - bytes);
        t
    };
    let skip = |version| {
        let mut t = Trace::new(version);
        for g in [1, 3] {
            t.clock(g, start(g));
            t.batch(&running(g));
            finish(&mut t, g);
        }
        t.bytes
    };
    vec![
        refused(
            "a goroutine that is first seen in the second generation",
            "found goroutine status for new goroutine after the first generation",
            trace(Version::Go126, 2, |_, g, b| {
                if g == 2 {
                    add(b, &[(GoStatus, &[7, NO_THREAD, WAITING])]);
                }
            }),
        ),
        refused("no clock", "no frequency event found", no_clock(&[])),
        refused("no clock snapshot", "no clock snapshot event found", no_clock(&frequency)),
        refused("no end of the generation", "incomplete generation found", cut(Version::Go126, 1)),
        refused("the end cut off, 1.26", "failed to read full batch", cut(Version::Go126, 20)),
        refused("the end cut off, 1.25", "found invalid func string ID", cut(Version::Go125, 20)),
        refused("a generation left out, 1.25", "generations out of order", skip(Version::Go125)),
        accepted("a generation left out, 1.26", skip(Version::Go126)),
        refused(
            "a goroutine that waits, and then runs by its status",
            "inconsistent status for goroutine 1",
            trace(Version::Go126, 2, |_, g, b| {
                if g == 1 {
                    add(b, &[(GoBlock, &[SYNC, 0])]);
                }
            }),
        ),
        refused(
            "a processor that is idle, and then runs by its status",
            "inconsistent status for proc 0",
            trace(Version::Go126, 2, |_, g, b| {
                if g == 1 {
                    add(b, &[(GoBlock, &[SYNC, 0]), (ProcStop, &[])]);
                } else {
                    *b = Batch::new(2, M, start(2));
                    add(b, &[(ProcStatus, &[0, PROC_RUNNING])]);
                }
            }),
        ),
        refused(
            "a wake-up in an older generation than the block",
            "failed to advance",
            trace(Version::Go126, 2, |t, g, b| {
                if g == 1 {
                    let mut waker = Batch::new(1, M + 1, START);
                    add(&mut waker, &[(GoUnblock, &[1, 1, 0])]);
                    t.batch(&waker);
                } else {
                    add(b, &[(GoBlock, &[SYNC, 0])]);
                }
            }),
        ),
        refused("a trace of another age", "unknown or unsupported", b"go 1.99 trace\0\0\0".to_vec()),
        refused("no trace at all", "bad file format", b"#!/bin/sh\necho no trace\n".to_vec()),
    ]
}

/// What the ordered reader accepts and another part of the tool does not.
fn pages() -> Vec<Case> {
    let later = |stage, words, name, trace| Case { name, trace, refused: Some((stage, words)) };
    vec![
        later(
            "wire",
            "invalid event type",
            "objects in a trace with an older header",
            trace(Version::Go125, 1, |_, _, b| add(b, &[(HeapObjectAlloc, &[1, 1])])),
        ),
        later(
            "pages",
            "index out of range",
            "a sweep on a processor beyond GOMAXPROCS",
            trace(Version::Go126, 1, |t, _, _| {
                let mut x = Batch::new(1, M + 1, START);
                add(
                    &mut x,
                    &[
                        (ProcStatus, &[5, PROC_RUNNING]),
                        (GoStatus, &[2, M + 1, RUNNING]),
                        (GCSweepBegin, &[0]),
                        (GCSweepEnd, &[1, 1]),
                    ],
                );
                t.batch(&x);
            }),
        ),
        later(
            "pages",
            "failed to find matching goroutines",
            "no goroutine at all",
            trace(Version::Go126, 1, |_, _, b| *b = Batch::new(1, M, START)),
        ),
        later(
            "pages",
            "index out of range [0] with length 0",
            "no word about GOMAXPROCS",
            trace(Version::Go126, 1, |_, _, b| {
                *b = Batch::new(1, M, START);
                b.ev(ProcStatus, START + 1, &[0, PROC_RUNNING]).ev(GoStatus, START + 2, &[1, M, RUNNING]);
            }),
        ),
        later(
            "parsed",
            "index out of range",
            "an experiment that does not exist",
            trace(Version::Go126, 1, |t, _, _| t.experimental(2, 1, START, &[1, 2, 3])),
        ),
        later("parsed", "panic", "a stopped world over generations with other string ids", {
            let mut t = Trace::new(Version::Go126);
            for g in 1..=2 {
                t.clock(g, start(g));
                let mut b = running(g);
                b.ev(if g == 1 { STWBegin } else { STWEnd }, start(g) + 10, if g == 1 { &[STW, 0] } else { &[] });
                t.batch(&b);
                t.stacks(g, &[(1, vec![frame(16, 7)])]);
                let strings: Vec<_> = STRINGS.into_iter().filter(|s| g == 1 || s.0 != STW).collect();
                t.strings(g, &strings);
                t.end();
            }
            t.bytes
        }),
    ]
}

/// A trace that is fine as a whole, and whose second generation is not: it ends a sweep and does not say that one was going on.
pub fn leaning() -> Vec<u8> {
    trace(Version::Go126, 2, |_, g, b| add(b, &[if g == 1 { (GCSweepBegin, &[0]) } else { (GCSweepEnd, &[1, 1]) }]))
}
