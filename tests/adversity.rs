//! Starting, stopping, failing, forking, dying: whatever happens, the trace is as whole as can be and the program unharmed. Each bug
//! that was found has its test here.

mod guest;
mod support;

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use exectrace::format::{Kind, Version};
use exectrace::hooks::gc::{GcHeap, Stw};
use exectrace::{FlightRecorder, Region, StartError, StopError, Symbolize, Tracer};

use guest::{Flag, Memory, check, child, look, role, turn, wait};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

exectrace::interpose!();

/// Without names of functions: quick to stop.
fn quick() -> Tracer {
    Tracer::new().symbolize(Symbolize::Never).generation_period(Duration::from_millis(2))
}

/// Something of everything.
fn work(n: u64) {
    for i in 0..n {
        let _region = Region::new("work");
        exectrace::log!("work", "round {i}");
        drop(std::hint::black_box(vec![0u8; 70_000]));
        let mut bytes = [0u8; 16];
        File::open("/dev/zero").and_then(|mut f| f.read_exact(&mut bytes)).expect("read");
        if i % 16 == 0 {
            thread::spawn(|| exectrace::log("work", "in a thread")).join().expect("join");
        }
    }
}

#[test]
fn start_fails_while_tracing_is_on_and_stop_while_it_is_not() {
    let _turn = turn();
    assert!(!exectrace::is_enabled());
    assert!(matches!(exectrace::stop(), Err(StopError::NotOn)));
    let sink = Memory::new();
    quick().start(sink.clone()).expect("start");
    assert!(exectrace::is_enabled());
    assert!(matches!(quick().start(io::sink()), Err(StartError::AlreadyOn)));
    work(10);
    let stats = exectrace::stop().expect("stop");
    assert!(!exectrace::is_enabled());
    assert!(matches!(exectrace::stop(), Err(StopError::NotOn)));
    assert_eq!(check(&sink.bytes()).kind(Kind::UserLog), 11);
    assert_eq!(stats.lost_events(), 0);
    assert!(matches!(Tracer::new().version(Version::Go122).start(io::sink()), Err(StartError::Version(_))));
    assert!(!exectrace::is_enabled());
}

#[test]
fn stop_returns_after_the_last_write_and_drops_the_sink() {
    /// Slow, and says what it is doing.
    struct Slow(Arc<(AtomicBool, AtomicU64, AtomicBool)>);
    impl Write for Slow {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.0.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            self.0.1.fetch_add(data.len() as u64, Ordering::SeqCst);
            self.0.0.store(false, Ordering::SeqCst);
            Ok(data.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.2.store(true, Ordering::SeqCst);
        }
    }
    let _turn = turn();
    for _ in 0..5 {
        let state = Arc::new((AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false)));
        quick().start(Slow(state.clone())).expect("start");
        work(50);
        let stats = exectrace::stop().expect("stop");
        assert!(!state.0.load(Ordering::SeqCst), "a write is under way");
        assert_eq!(state.1.load(Ordering::SeqCst), stats.bytes);
        assert!(state.2.load(Ordering::SeqCst), "the sink is still there");
    }
}

/// A sink that does something else from its `at`th write on.
struct Fails {
    to: Memory,
    writes: u32,
    at: u32,
    how: fn() -> io::Result<usize>,
}

impl Write for Fails {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        if self.writes > self.at {
            return (self.how)();
        }
        self.to.write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_fails_ends_the_trace_and_nothing_else() {
    let _turn = turn();
    type Way = fn() -> io::Result<usize>;
    let ways: [(Way, io::ErrorKind); 3] = [
        (|| Err(io::ErrorKind::StorageFull.into()), io::ErrorKind::StorageFull),
        (|| Ok(0), io::ErrorKind::WriteZero),
        (|| std::panic::panic_any("the sink panics"), io::ErrorKind::Other),
    ];
    for (how, kind) in ways {
        for at in 0..5 {
            let to = Memory::new();
            quick().start(Fails { to: to.clone(), writes: 0, at, how }).expect("start");
            let end = Instant::now() + Duration::from_secs(20);
            while exectrace::is_enabled() && Instant::now() < end {
                work(5);
            }
            assert!(!exectrace::is_enabled(), "{kind:?} at write {at} is not noticed");
            // Failed, but not stopped yet.
            assert!(matches!(Tracer::new().start(io::sink()), Err(StartError::AlreadyOn)));
            assert!(matches!(FlightRecorder::new().start(), Err(StartError::AlreadyOn)));
            exectrace::flush();
            work(5);
            match exectrace::stop() {
                Err(StopError::Sink { error, stats }) => {
                    assert_eq!(error.kind(), kind);
                    assert_eq!(stats.bytes, to.bytes().len() as u64);
                }
                other => panic!("{kind:?} at write {at}: {other:?}"),
            }
            // What was written before is good up to the last whole generation. One takes two writes or three, the header one.
            let bytes = to.bytes();
            let whole = look(&bytes).damage.map_or(bytes.len(), |(_, whole)| whole as usize);
            assert!(if whole > 16 { at > 2 } else { at <= 3 }, "{whole} of {} bytes, at {at}", bytes.len());
            if whole > 16 {
                assert!(check(&bytes[..whole]).generations > 0);
            }
            // And the next one is as good as ever.
            let next = Memory::new();
            quick().start(next.clone()).expect("start");
            work(5);
            exectrace::stop().expect("stop");
            assert_eq!(check(&next.bytes()).kind(Kind::UserLog), 6);
        }
    }
}

#[test]
fn short_and_interrupted_writes_lose_nothing() {
    struct Short(Memory, u64);
    impl Write for Short {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.0.write(&data[..data.len().min(1 + self.1 as usize % 100)])
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let _turn = turn();
    let to = Memory::new();
    quick().start(Short(to.clone(), 0)).expect("start");
    work(100);
    let stats = exectrace::stop().expect("stop");
    assert_eq!(stats.bytes, to.bytes().len() as u64);
    assert_eq!(check(&to.bytes()).kind(Kind::UserLog), 100 + 7);
}

/// The sink takes its time, the bound on buffers is the least, and more threads write (and end) than there are buffers.
#[test]
fn a_slow_sink_loses_events_that_are_counted_and_the_trace_stays_valid() {
    struct Slow(Memory);
    impl Write for Slow {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            thread::sleep(Duration::from_millis(30));
            self.0.write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let _turn = turn();
    let (to, over) = (Memory::new(), Flag::default());
    let threads: Vec<_> = (0..40u64)
        .map(|i| {
            let over = over.clone();
            thread::spawn(move || {
                while !over.is_set() {
                    // These live shorter than a write takes: many begin, wait or end when no buffer is to be had.
                    let short = thread::spawn(move || {
                        let _region = Region::new("short");
                        if i % 2 == 0 {
                            thread::park_timeout(Duration::from_millis(i % 5));
                        }
                        exectrace::log("short", "life");
                    });
                    (0..50).for_each(|_| work(1));
                    short.join().expect("join");
                }
            })
        })
        .collect();
    quick().buffer_bytes(1).start(Slow(to.clone())).expect("start");
    thread::sleep(Duration::from_secs(2));
    let stats = exectrace::stop().expect("stop");
    over.set();
    threads.into_iter().for_each(|t| t.join().expect("join"));
    assert!(stats.lost_events_full > 100, "{stats:?}");
    let trace = to.bytes();
    let seen = check(&trace);
    let told: u64 = seen
        .logs
        .iter()
        .filter(|(category, _)| category == "exectrace: lost")
        .map(|(_, text)| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number first"))
        .sum();
    assert_eq!(told, stats.lost_events_full, "what the trace says was lost");
    let split: Vec<_> = windows(&trace);
    split.iter().for_each(|w| drop(check(w)));
}

/// Some runs of generations of a trace, as traces.
fn windows(trace: &[u8]) -> Vec<Vec<u8>> {
    let split = support::window::Split::new(trace).expect("generations");
    let all: Vec<_> = split.windows(6).collect();
    let step = (all.len() / 60).max(1);
    all.iter().step_by(step).map(|w| [&trace[..16], &trace[w.bytes.clone()]].concat()).collect()
}

#[test]
fn hundreds_of_traces_from_many_threads_with_threads_coming_and_going() {
    const ROUNDS: u64 = 60;
    let _turn = turn();
    let over = Flag::default();
    let o = &over;
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(move || {
                while !o.is_set() {
                    thread::spawn(|| {
                        exectrace::log("churn", "hello");
                        thread::park_timeout(Duration::from_micros(50));
                    })
                    .join()
                    .expect("join");
                }
            });
        }
        s.spawn(move || {
            while !o.is_set() {
                drop(Region::new("busy"));
            }
        });
        let starters: Vec<_> = (0..4u64)
            .map(|i| {
                s.spawn(move || {
                    // A thread that finds tracing on tries again: how often it does depends on the machine.
                    let mut round = 0;
                    while round < ROUNDS {
                        let sink = Memory::new();
                        let tracer = Tracer::new().symbolize(Symbolize::Never).generation_period(
                            Duration::from_micros(if (i + round) % 2 == 0 { 50 } else { 1_000_000 }),
                        );
                        match tracer.start(sink.clone()) {
                            Ok(()) => {
                                round += 1;
                                if round % 4 == 0 {
                                    thread::sleep(Duration::from_micros(200));
                                }
                                exectrace::stop().expect("whoever starts stops");
                                check(&sink.bytes());
                            }
                            Err(StartError::AlreadyOn) => thread::yield_now(),
                            Err(e) => panic!("{e}"),
                        }
                    }
                })
            })
            .collect();
        for t in starters {
            if let Err(e) = t.join() {
                o.set();
                std::panic::resume_unwind(e);
            }
        }
        o.set();
    });
}

/// Who means "no limit" gives the greatest value that there is.
#[test]
fn options_may_be_as_great_as_can_be() {
    let _turn = turn();
    let sink = Memory::new();
    let tracer = Tracer::new()
        .generation_period(Duration::MAX)
        .memory_every(Duration::MAX)
        .buffer_bytes(usize::MAX)
        .heap_quantum(usize::MAX)
        .stack_depth(usize::MAX)
        .cpu_sample_hz(u32::MAX)
        .memory_limit(u64::MAX);
    let flight =
        FlightRecorder::new().max_bytes(usize::MAX).min_age(Duration::MAX).tracer(tracer).start().expect("start");
    Tracer::new().start(sink.clone()).expect("start");
    work(20);
    let mut snapshot = Vec::new();
    flight.snapshot_to(&mut snapshot).expect("a snapshot");
    exectrace::stop().expect("stop");
    flight.stop();
    // At such a rate of samples some come inside of a hook, and that they are lost is one more log.
    for trace in [&sink.bytes(), &snapshot] {
        let logs = check(trace).kind(Kind::UserLog);
        assert!((22..=24).contains(&logs), "{logs}");
    }
}

/// A sink that stopped its own trace used to free what its thread was using.
#[test]
fn the_sink_cannot_stop_its_own_trace() {
    struct Stops(Memory, Arc<AtomicBool>);
    impl Write for Stops {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            exectrace::flush();
            assert!(matches!(exectrace::stop(), Err(StopError::InSink)));
            assert!(matches!(exectrace::start(io::sink()), Err(StartError::InSink)));
            self.1.store(true, Ordering::SeqCst);
            self.0.write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let _turn = turn();
    let (to, called) = (Memory::new(), Arc::new(AtomicBool::new(false)));
    quick().start(Stops(to.clone(), called.clone())).expect("start");
    work(20);
    exectrace::flush();
    assert!(called.load(Ordering::SeqCst));
    exectrace::stop().expect("stop");
    check(&to.bytes());
}

#[test]
fn flush_writes_what_was_recorded() {
    let _turn = turn();
    exectrace::flush();
    let to = Memory::new();
    quick().generation_period(Duration::from_secs(3600)).start(to.clone()).expect("start");
    for i in 0..20 {
        exectrace::log!("flush", "number {i}");
        exectrace::flush();
        let seen = look(&to.bytes());
        assert!(seen.damage.is_none(), "{seen:?}");
        assert_eq!(seen.logs.last().map(|l| l.1.as_str()), Some(format!("number {i}").as_str()));
    }
    exectrace::stop().expect("stop");
    check(&to.bytes());
}

/// A collector that waits, with the world stopped, over the end of a generation: the end that the generation's end writes needs a
/// goroutine that runs.
#[test]
fn a_stopped_world_may_outlast_its_generation_in_a_wait_or_a_call() {
    let _turn = turn();
    let to = Memory::new();
    quick().start(to.clone()).expect("start");
    let heap = GcHeap::new();
    for i in 0..10 {
        heap.cycle_begin();
        heap.stw_begin(Stw::SweepTermination);
        if i % 2 == 0 {
            thread::sleep(Duration::from_millis(7));
        } else {
            let (mut from, to) = io::pipe().expect("a pipe");
            let t = thread::spawn(move || {
                thread::sleep(Duration::from_millis(7));
                drop(to);
            });
            assert_eq!(from.read(&mut [0]).expect("read"), 0);
            t.join().expect("join");
        }
        work(1);
        heap.stw_end();
        heap.cycle_end();
    }
    exectrace::stop().expect("stop");
    let trace = to.bytes();
    let seen = check(&trace);
    assert!(seen.kind(Kind::STWBegin) >= 10, "{seen:?}");
    assert_eq!(seen.kind(Kind::STWBegin), seen.kind(Kind::STWEnd));
    windows(&trace).iter().for_each(|w| drop(check(w)));
}

/// Values that a caller made up, or used twice.
#[test]
fn made_up_waiters_and_births_do_no_harm() {
    use exectrace::hooks::thread::{Birth, Waiter, born, create, create_failed, wake};
    let _turn = turn();
    let to = Memory::new();
    quick().start(to.clone()).expect("start");
    for word in [0, 1, 5, 1 << 32, 3 << 32, u64::MAX, u64::from(u32::MAX) << 32] {
        wake(Waiter::from_word(word));
        born(Birth::from_word(word));
        create_failed(Birth::from_word(word));
    }
    (0..100).for_each(|word| born(Birth::from_word(word)));
    let birth = create();
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(move || {
                born(birth);
                work(3);
            });
        }
    });
    create_failed(birth);
    exectrace::stop().expect("stop");
    check(&to.bytes());
}

#[test]
fn a_forked_child_is_untraced_and_unharmed_and_may_trace_itself() {
    let _turn = turn();
    let to = Memory::new();
    quick().start(to.clone()).expect("start");
    let over = Flag::default();
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let over = over.clone();
            thread::spawn(move || {
                while !over.is_set() {
                    work(1);
                }
            })
        })
        .collect();
    for round in 0..30 {
        let before = exectrace::heap::stats();
        // SAFETY: the child is as a child of fork may be: it has this one thread, and mimalloc can be used there.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let good = std::panic::catch_unwind(|| in_child(&to, before.allocs_total)).is_ok();
            // SAFETY: ends the child without the parent's destructors.
            unsafe { libc::_exit(if good { 0 } else { 1 }) };
        }
        let end = Instant::now() + Duration::from_secs(60);
        let mut status = 0;
        // SAFETY: waits for the child.
        while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == 0 {
            if Instant::now() > end {
                // SAFETY: our own child.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                panic!("the child of round {round} hangs");
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(status, 0, "in the child of round {round}");
    }
    assert!(exectrace::is_enabled());
    over.set();
    busy.into_iter().for_each(|t| t.join().expect("join"));
    exectrace::stop().expect("stop");
    let seen = check(&to.bytes());
    assert!(seen.logs.iter().all(|(category, _)| category != "child"));
}

fn in_child(parents: &Memory, allocs: u64) {
    assert!(!exectrace::is_enabled());
    exectrace::log("child", "nobody hears this");
    assert!(exectrace::heap::stats().allocs_total >= allocs);
    let before = exectrace::heap::stats();
    let v = vec![1u8; 100_000];
    assert_eq!(exectrace::heap::stats().live_bytes, before.live_bytes + 100_000);
    drop(v);
    assert!(matches!(exectrace::stop(), Err(StopError::NotOn)));
    let to = Memory::new();
    quick().start(to.clone()).expect("start");
    exectrace::log("child", "hello");
    extern "C" fn body(_: *mut std::ffi::c_void) -> *mut std::ffi::c_void {
        exectrace::log("child", "in a thread");
        std::ptr::null_mut()
    }
    for _ in 0..3 {
        // Not by std, one of whose locks another thread may have held at the fork.
        // SAFETY: the thread is joined.
        unsafe {
            let mut t = std::mem::zeroed();
            assert_eq!(libc::pthread_create(&mut t, std::ptr::null(), body, std::ptr::null_mut()), 0);
            libc::pthread_join(t, std::ptr::null_mut());
        }
    }
    // Until there are some samples: the queue that they go through must not be stuck.
    std::hint::black_box((0..3_000_000u64).fold(0, |a, b| a ^ std::hint::black_box(b)));
    exectrace::stop().expect("stop");
    let seen = check(&to.bytes());
    assert_eq!(seen.logs.iter().filter(|(category, _)| category == "child").count(), 4);
    drop(parents.clone());
}

/// What a process leaves that ends without stopping: everything but the last generation.
#[test]
fn the_children_of_commands_are_unharmed() {
    let _turn = turn();
    quick().start(io::sink()).expect("start");
    for _ in 0..20 {
        let out = std::process::Command::new("/bin/echo").arg("well").output().expect("echo");
        assert_eq!(out.stdout, b"well\n");
    }
    exectrace::stop().expect("stop");
}

#[test]
fn exit_and_death_without_stop_lose_the_last_generation_only() {
    if let Some(role) = role() {
        let (how, path) = role.split_once(':').expect("how and where");
        let file = File::create(path).expect("a file");
        quick().generation_period(Duration::from_millis(20)).start(file).expect("start");
        for i in 0..40 {
            exectrace::log!("alive", "{i}");
            work(1);
            thread::sleep(Duration::from_millis(5));
            if i == 20 {
                exectrace::flush();
                exectrace::log("after", "the flush");
            }
        }
        match how {
            "exit" => std::process::exit(0),
            "abort" => std::process::abort(),
            // SAFETY: kills this process.
            _ => unsafe { libc::kill(libc::getpid(), libc::SIGKILL) },
        };
        unreachable!();
    }
    let scratch = support::Scratch::new("death");
    for how in ["exit", "abort", "kill"] {
        let path = scratch.path(how);
        let name = "exit_and_death_without_stop_lose_the_last_generation_only";
        let mut command = child(name, &format!("{how}:{}", path.display()));
        let status = wait(command.stdout(std::process::Stdio::null()).spawn().expect("a child"), 60);
        assert_eq!(status.success(), how == "exit", "{how}: {status}");
        let trace = std::fs::read(&path).expect("a trace");
        let seen = look(&trace);
        // The last generation may have been cut in the middle; all before is whole.
        if let Some((words, whole)) = &seen.damage {
            assert!(
                trace.len() as u64 - whole < 64 << 10,
                "{how}: {words}: {whole} of {} bytes are whole",
                trace.len()
            );
        }
        let last = seen.logs.iter().filter(|(c, _)| c == "alive").filter_map(|(_, m)| m.parse::<u32>().ok()).max();
        // A generation is 20 ms, a round 5 and more; twice that, for a slow machine.
        assert!(last.is_some_and(|last| last >= 30), "{how}: the last is {last:?} of 39");
    }
}

#[test]
fn signal_handlers_may_log_and_call_the_system() {
    extern "C" fn on_alarm(_: i32) {
        exectrace::log("signal", "alarm");
        let _region = Region::new("in a handler");
        // SAFETY: both are safe in a handler, and errno is put back.
        unsafe {
            let saved = *libc::__errno_location();
            libc::close(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY));
            *libc::__errno_location() = saved;
        }
    }
    let _turn = turn();
    // SAFETY: a handler that does what handlers may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_alarm as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
    }
    let to = Memory::new();
    quick().cpu_sample_hz(1000).start(to.clone()).expect("start");
    let every = libc::timeval { tv_sec: 0, tv_usec: 500 };
    // SAFETY: a timer of this process.
    unsafe {
        libc::setitimer(
            libc::ITIMER_REAL,
            &libc::itimerval { it_interval: every, it_value: every },
            std::ptr::null_mut(),
        )
    };
    let lock = Mutex::new(0u64);
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let end = Instant::now() + Duration::from_secs(1);
                while Instant::now() < end {
                    *lock.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    drop(Region::new("loop"));
                    exectrace::log!("loop", "{}", 1);
                    drop(std::hint::black_box(vec![0u8; 70_000]));
                }
            });
        }
    });
    let none = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: as above.
    unsafe {
        libc::setitimer(libc::ITIMER_REAL, &libc::itimerval { it_interval: none, it_value: none }, std::ptr::null_mut())
    };
    let stats = exectrace::stop().expect("stop");
    let seen = check(&to.bytes());
    let heard = seen.logs.iter().filter(|(c, _)| c == "signal").count();
    assert!(heard > 100, "{heard} alarms, {stats:?}");
}

/// The program's own handler for SIGPROF stays, and is not called for us: also one that it installs between two traces.
#[test]
fn the_program_keeps_its_own_sigprof() {
    static CALLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn mine(_: i32) {
        CALLED.fetch_add(1, Ordering::Relaxed);
    }
    if role().is_none() {
        let mut command = child("the_program_keeps_its_own_sigprof", "x");
        let status = wait(command.stdout(std::process::Stdio::null()).spawn().expect("a child"), 60);
        assert!(status.success(), "{status}");
        return;
    }
    let samples = || {
        let to = Memory::new();
        quick().cpu_sample_hz(1000).start(to.clone()).expect("start");
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            std::hint::black_box((0..10_000u64).fold(0, |a, b| a ^ std::hint::black_box(b)));
        }
        exectrace::stop().expect("stop");
        check(&to.bytes()).kind(Kind::CPUSample)
    };
    assert!(samples() > 3);
    // SAFETY: a handler that adds to an atomic.
    unsafe { libc::signal(libc::SIGPROF, mine as *const () as usize) };
    assert_eq!(samples(), 0);
    assert_eq!(CALLED.load(Ordering::Relaxed), 0);
    // SAFETY: a signal to oneself.
    unsafe { libc::raise(libc::SIGPROF) };
    assert_eq!(CALLED.load(Ordering::Relaxed), 1);
}

#[inline(never)]
fn the_busy_function(until: Duration) -> u64 {
    let mut n = 0u64;
    while thread_cpu() < until {
        n = (0..100_000u64).fold(n, |a, b| a.rotate_left(5) ^ std::hint::black_box(b));
    }
    n
}

/// CPU time that the calling thread has used.
fn thread_cpu() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a time to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// CPU samples in the trace of a thread that does this: how many there are, and how many in `the_busy_function`.
fn samples_of(f: impl FnOnce() + Send + 'static) -> (u32, u32) {
    let to = Memory::new();
    Tracer::new().start(to.clone()).expect("start");
    thread::spawn(f).join().expect("join");
    exectrace::stop().expect("stop");
    let trace = to.bytes();
    check(&trace);
    let mut reader = exectrace::read::Reader::new(&*trace).expect("a trace");
    let (mut all, mut named) = (0, 0);
    while let Some(ev) = reader.next_event().expect("a good trace") {
        if ev.wire == Kind::CPUSample {
            named += u32::from(ev.stack().frames().any(|f| f.func.contains("the_busy_function")));
            all += 1;
        }
    }
    (all, named)
}

#[test]
fn cpu_samples_come_a_hundred_a_second_and_name_the_function() {
    let _turn = turn();
    let (all, named) = samples_of(|| _ = the_busy_function(Duration::from_secs(1)));
    assert!((80..=125).contains(&named), "{named} of {all} samples in a second of CPU time");
    assert!(named * 100 >= all * 80, "{named} of {all} samples name the function");
}

/// One signal tells of all the periods that have ended meanwhile, as happens on a busy machine.
#[test]
fn a_late_signal_stands_for_all_its_periods() {
    let _turn = turn();
    let (all, _) = samples_of(|| {
        // SAFETY: a set of signals of this frame, for this thread.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGPROF);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            the_busy_function(Duration::from_millis(500));
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        }
    });
    assert!((40..=65).contains(&all), "{all} samples in half a second of CPU time");
}
