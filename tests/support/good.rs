//! A right trace of a small native program that does not exist, with something of everything that the recorder writes.
//!
//! Three threads and one that shows up late, three generations: a lock, a channel, a socket and a sleep, system calls short,
//! long and over a generation's end, two GC cycles (one over a generation's end), sweep and assist, tasks, regions, logs,
//! labels, CPU samples and private data. The comments name what a test finds in it.

use super::synth::{Batch, Tables, Trace, status::*};
use exectrace::format::{EXPERIMENT_ALLOC_FREE, Kind, NO_THREAD, Version, private};

/// The source file of the program.
pub const FILE: &str = "/home/u/demo/src/main.rs";
/// The name of the main thread.
pub const MAIN: &str = "main-thread (demo::main)";
/// The name of the two workers.
pub const WORKER: &str = "worker (demo::main::{closure#0})";
/// The name of the thread that nobody announced.
pub const LATE: &str = "late-ffi-thread";
/// How many generations it has.
pub const GENERATIONS: usize = 3;
/// How long the lock was waited for: from 6.0 ms to 10.101 ms.
pub const LOCK_WAIT_NS: i64 = 4_101_000;

const US: u64 = 1000;
const START: u64 = 5_000_000_000;
const GENERATION_NS: u64 = 10_000_000;
const THREADS: [u64; 4] = [1001, 1002, 1003, 1005];

/// Ids of stacks and strings.
struct Ids {
    main: u64,
    worker: u64,
    late: u64,
    spawn: u64,
    recv: u64,
    lock: u64,
    send: u64,
    read: u64,
    net: u64,
    alloc: u64,
    gc: u64,
    hot: u64,
    user: u64,
    chan: u64,
    sync: u64,
    network: u64,
    sleep: u64,
    stw_mark: u64,
    stw_sweep: u64,
    task: u64,
    subtask: u64,
    region: u64,
    key: u64,
    value: u64,
    label: u64,
}

impl Ids {
    fn new(t: &mut Tables) -> Ids {
        let (main, worker) = ((MAIN, FILE, 1), (WORKER, FILE, 40));
        let work = ("demo::work", FILE, 60);
        Ids {
            main: t.stack(&[main]),
            worker: t.stack(&[worker]),
            late: t.stack(&[(LATE, "<foreign>", 0)]),
            spawn: t.stack(&[("std::thread::spawn", "std/thread.rs", 720), ("demo::start_workers", FILE, 20), main]),
            recv: t.stack(&[
                ("crossbeam_channel::Receiver::recv", "channel.rs", 900),
                ("demo::collect", FILE, 33),
                main,
            ]),
            lock: t.stack(&[("std::sync::Mutex::lock", "std/mutex.rs", 330), work, worker]),
            send: t.stack(&[("crossbeam_channel::Sender::send", "channel.rs", 500), work, worker]),
            read: t.stack(&[("libc::read", "libc", 0), ("demo::work", FILE, 70), worker]),
            net: t.stack(&[("mio::Poll::poll", "mio/poll.rs", 100), ("demo::net", FILE, 80), worker]),
            alloc: t.stack(&[("demo::gc::Heap::alloc_slow", "gc.rs", 200), work, worker]),
            gc: t.stack(&[
                ("demo::gc::Heap::collect", "gc.rs", 100),
                ("demo::gc::Heap::alloc_slow", "gc.rs", 205),
                work,
                worker,
            ]),
            hot: t.stack(&[("demo::hot_loop", FILE, 99), work, worker]),
            user: t.stack(&[("demo::handle_request", FILE, 120), main]),
            chan: t.string("chan receive"),
            sync: t.string("sync"),
            network: t.string("network"),
            sleep: t.string("sleep"),
            stw_mark: t.string("GC mark termination"),
            stw_sweep: t.string("GC sweep termination"),
            task: t.string("request"),
            subtask: t.string("parse"),
            region: t.string("decode body"),
            key: t.string("http"),
            value: t.string("GET /index 200"),
            label: t.string("GC (dedicated)"),
        }
    }
}

/// The trace, as a tool that writes this version would have it.
pub fn trace(version: Version) -> Vec<u8> {
    let mut tables = Tables::default();
    let ids = Ids::new(&mut tables);
    let mut trace = Trace::new(version);
    let names = version >= Version::Go123;
    for generation in 1..=GENERATIONS as u64 {
        let at = START + (generation - 1) * GENERATION_NS;
        trace.clock(generation, at);
        let batches = match generation {
            1 => first(at, &ids, names),
            2 => second(at, &ids, names),
            _ => third(at, &ids, names),
        };
        for b in batches.iter().filter(|b| !b.is_empty()) {
            trace.batch(b);
        }
        if generation == 1 {
            let us = |n: u64| at + n * US;
            trace.samples(1, &[[us(700), THREADS[1], 1, 2, ids.hot], [us(800), THREADS[2], 2, 3, ids.hot]]);
        }
        if version >= Version::Go123 {
            trace.experimental(
                EXPERIMENT_ALLOC_FREE,
                generation,
                at,
                &[private::PRIVATE, private::Section::Meta as u8],
            );
        }
        tables.write(&mut trace, generation);
        trace.end();
    }
    trace.bytes
}

/// A goroutine's status at the start of a generation; with its name where the version can say it.
fn go_status(b: &mut Batch, time: u64, g: u64, m: u64, status: u64, name: u64, names: bool) {
    if names {
        b.ev(Kind::GoStatusStack, time, &[g, m, status, name]);
    } else {
        b.ev(Kind::GoStatus, time, &[g, m, status]);
    }
}

fn first(t: u64, i: &Ids, names: bool) -> Vec<Batch> {
    use Kind::*;
    let us = |n: u64| t + n * US;
    let [m1, m2, m3, _] = THREADS;
    let mut main = Batch::new(1, m1, t);
    let mut a = Batch::new(1, m2, us(200));
    let mut b = Batch::new(1, m3, us(250));
    main.ev(ProcStatus, t + 10, &[0, PROC_RUNNING]);
    go_status(&mut main, t + 20, 1, m1, RUNNING, i.main, names);
    main.ev(ProcsChange, t + 30, &[4, 0])
        .ev(HeapGoal, t + 40, &[4 << 20])
        .ev(HeapAlloc, t + 50, &[1 << 20])
        .ev(UserTaskBegin, us(10), &[1, 0, i.task, i.user])
        .ev(UserTaskBegin, us(11), &[2, 1, i.subtask, i.user])
        .ev(UserRegionBegin, us(12), &[1, i.region, i.user])
        .ev(UserLog, us(13), &[1, i.key, i.value, i.user])
        .ev(GoCreate, us(100), &[2, i.worker, i.spawn])
        .ev(GoCreate, us(110), &[3, i.worker, i.spawn])
        .ev(UserRegionEnd, us(150), &[1, i.region, i.user])
        .ev(UserTaskEnd, us(155), &[2, i.user])
        // Waits for a message of worker a.
        .ev(GoBlock, us(160), &[i.chan, i.recv])
        .ev(ProcStop, us(161), &[])
        .ev(ProcStart, us(3520), &[0, 1])
        .ev(GoStart, us(3521), &[1, 2])
        .ev(UserTaskEnd, us(3600), &[1, i.user])
        // Open over the generation's end.
        .ev(UserRegionBegin, us(3700), &[0, i.region, i.user]);
    a.ev(ProcStatus, us(201), &[1, PROC_IDLE])
        .ev(ProcStart, us(202), &[1, 1])
        .ev(GoStart, us(203), &[2, 1])
        .ev(HeapAlloc, us(300), &[2 << 20])
        .ev(GoSyscallBegin, us(400), &[2, i.read])
        .ev(GoSyscallEnd, us(408), &[])
        .ev(HeapAlloc, us(500), &[4 << 20])
        // A whole GC cycle.
        .ev(STWBegin, us(1000), &[i.stw_sweep, i.gc])
        .ev(GCBegin, us(1010), &[1, i.gc])
        .ev(STWEnd, us(1040), &[])
        .ev(STWBegin, us(3000), &[i.stw_mark, i.gc])
        .ev(GCEnd, us(3050), &[2])
        .ev(HeapGoal, us(3060), &[6 << 20])
        .ev(STWEnd, us(3070), &[])
        .ev(GCSweepBegin, us(3100), &[i.alloc])
        .ev(GCSweepEnd, us(3200), &[2 << 20, 1 << 20])
        .ev(HeapAlloc, us(3210), &[3 << 20])
        // Wakes main.
        .ev(GoUnblock, us(3500), &[1, 1, i.send])
        // A second GC, over the generation's end; then asleep until the third generation.
        .ev(GCBegin, us(9000), &[3, i.gc])
        .ev(GoBlock, us(9100), &[i.sleep, i.lock])
        .ev(ProcStop, us(9101), &[]);
    b.ev(ProcStatus, us(251), &[2, PROC_IDLE])
        .ev(ProcStart, us(252), &[2, 1])
        .ev(GoStart, us(253), &[3, 1])
        .ev(GCMarkAssistBegin, us(1500), &[i.alloc])
        .ev(GCMarkAssistEnd, us(1700), &[])
        // A system call of 600 us: its processor is given up after 20 us.
        .ev(GoSyscallBegin, us(2000), &[2, i.read])
        .ev(ProcStop, us(2020), &[])
        .ev(ProcStart, us(2600), &[2, 3])
        .ev(GoSyscallEndBlocked, us(2601), &[])
        .ev(GoStart, us(2602), &[3, 2])
        // Waits for the network; nobody known wakes it.
        .ev(GoBlock, us(4000), &[i.network, i.net])
        .ev(GoUnblock, us(5000), &[3, 3, 0])
        .ev(GoStart, us(5010), &[3, 4])
        // Waits for a lock until main, in the next generation, lets it go.
        .ev(GoBlock, us(6000), &[i.sync, i.lock])
        .ev(ProcStop, us(6001), &[]);
    vec![main, a, b]
}

fn second(t: u64, i: &Ids, names: bool) -> Vec<Batch> {
    use Kind::*;
    let us = |n: u64| t + n * US;
    let [m1, _, m3, m4] = THREADS;
    let mut main = Batch::new(2, m1, t);
    let mut b = Batch::new(2, m3, us(110));
    let mut late = Batch::new(2, m4, us(500));
    let mut silent = Batch::new(2, NO_THREAD, t + 5);
    main.ev(ProcStatus, t + 10, &[0, PROC_RUNNING]);
    go_status(&mut main, t + 20, 1, m1, RUNNING, i.main, names);
    main.ev(ProcsChange, t + 30, &[4, 0])
        .ev(GCActive, t + 40, &[4])
        .ev(UserRegionEnd, t + 50, &[0, i.region, i.user])
        .ev(UserLog, us(60), &[0, i.key, i.value, i.user])
        .ev(GoStatus, us(100), &[3, NO_THREAD, WAITING])
        .ev(GoUnblock, us(101), &[3, 1, i.user]);
    b.ev(ProcStatus, us(110), &[2, PROC_IDLE])
        .ev(ProcStart, us(111), &[2, 1])
        .ev(GoStart, us(112), &[3, 2])
        .ev(GoLabel, us(113), &[i.label])
        .ev(GCEnd, us(2000), &[5])
        .ev(GCSweepBegin, us(2100), &[i.alloc])
        .ev(GCSweepEnd, us(2150), &[1 << 20, 1 << 19])
        .ev(HeapAlloc, us(2160), &[1 << 20])
        .ev(GoDestroy, us(3000), &[])
        .ev(ProcStop, us(3001), &[]);
    // A thread that nobody announced makes itself known, and is in a system call at the generation's end.
    late.ev(ProcStatus, us(500), &[3, PROC_IDLE])
        .ev(ProcStart, us(501), &[3, 1])
        .ev(GoCreate, us(502), &[4, i.late, 0])
        .ev(GoStart, us(503), &[4, 1])
        .ev(HeapAlloc, us(600), &[5 << 20])
        .ev(GoSyscallBegin, us(700), &[2, i.read]);
    // Worker a sleeps all the time: somebody else must say so.
    silent.ev(ProcStatus, t + 5, &[1, PROC_IDLE]);
    go_status(&mut silent, t + 6, 2, NO_THREAD, WAITING, i.worker, names);
    vec![main, b, late, silent]
}

fn third(t: u64, i: &Ids, names: bool) -> Vec<Batch> {
    use Kind::*;
    let us = |n: u64| t + n * US;
    let [m1, m2, _, m4] = THREADS;
    let mut a = Batch::new(3, m2, us(1000));
    let mut late = Batch::new(3, m4, t + 10);
    let mut main = Batch::new(3, m1, t + 5);
    let mut silent = Batch::new(3, NO_THREAD, t + 5);
    a.ev(ProcStatus, us(1000), &[1, PROC_IDLE]).ev(ProcStart, us(1001), &[1, 1]);
    go_status(&mut a, us(1002), 2, NO_THREAD, WAITING, i.worker, names);
    a.ev(GoUnblock, us(1003), &[2, 1, 0])
        .ev(GoStart, us(1004), &[2, 2])
        .ev(HeapAlloc, us(1100), &[2 << 20])
        .ev(GoDestroy, us(2000), &[])
        .ev(ProcStop, us(2001), &[]);
    late.ev(ProcStatus, t + 10, &[3, PROC_SYSCALL]);
    go_status(&mut late, t + 11, 4, m4, SYSCALL, i.late, names);
    late.ev(ProcStop, t + 12, &[])
        .ev(ProcStart, us(4000), &[3, 1])
        .ev(GoSyscallEndBlocked, us(4001), &[])
        .ev(GoStart, us(4002), &[4, 1])
        .ev(GoDestroy, us(5000), &[])
        .ev(ProcStop, us(5001), &[]);
    // Main computes without an event of its own.
    main.ev(ProcStatus, t + 5, &[0, PROC_RUNNING]);
    go_status(&mut main, t + 6, 1, m1, RUNNING, i.main, names);
    main.ev(ProcsChange, t + 7, &[4, 0]);
    silent.ev(ProcStatus, t + 5, &[2, PROC_IDLE]);
    vec![a, late, main, silent]
}
