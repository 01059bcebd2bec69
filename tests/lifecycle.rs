//! Starting and stopping, sinks that misbehave, and processes that end or fork.
//!
//! The tracer's state is the process's, so each case is a child process of its own: this test runs itself with the case's name.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use exectrace::read::Reader;
use exectrace::{StartError, StopError, Tracer};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
exectrace::interpose!();

/// A sink in memory, of which the test keeps a handle.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("lock"))
    }
}

impl Write for Memory {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(b);
        Ok(b.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the whole trace as Go would; how many events it has.
#[track_caller]
fn valid(trace: &[u8]) -> u64 {
    let (events, whole) = read(trace);
    assert!(whole, "refused after {events} events");
    events
}

/// How many events can be read, and whether that is all.
fn read(trace: &[u8]) -> (u64, bool) {
    let mut reader = Reader::new(trace).expect("a header");
    let mut events = 0;
    loop {
        match reader.next_event() {
            Ok(Some(_)) => events += 1,
            Ok(None) => return (events, true),
            Err(e) => {
                println!("{e}");
                return (events, false);
            }
        }
    }
}

fn work(n: u64) {
    for i in 0..n {
        exectrace::with_region("work", || exectrace::log!("work", "{i}"));
    }
}

fn a_second_start_fails_and_is_harmless() {
    let sink = Memory::default();
    exectrace::start(sink.clone()).expect("start");
    assert!(exectrace::is_enabled());
    assert!(matches!(exectrace::start(io::sink()), Err(StartError::AlreadyOn)));
    work(10);
    exectrace::stop().expect("stop");
    assert!(!exectrace::is_enabled());
    assert!(valid(&sink.take()) > 30);
    assert!(matches!(exectrace::stop(), Err(StopError::NotOn)));
}

fn flush_brings_everything_so_far() {
    let sink = Memory::default();
    exectrace::start(sink.clone()).expect("start");
    exectrace::log("here", "a message to look for");
    exectrace::flush();
    let so_far = sink.0.lock().expect("lock").clone();
    valid(&so_far);
    assert!(so_far.windows(21).any(|w| w == b"a message to look for"));
    exectrace::stop().expect("stop");
}

/// Fails at the `n`th write, or panics.
struct Failing(u32, bool);

impl Write for Failing {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            assert!(!self.1, "on purpose");
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.0 -= 1;
        // Short writes are legal.
        Ok(b.len().div_ceil(2))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn a_failing_sink_ends_the_trace_with_its_error() {
    // The panics on purpose need not be seen; one of the test does.
    std::panic::set_hook(Box::new(|p| {
        if !p.to_string().contains("on purpose") {
            eprintln!("{p}");
        }
    }));
    for n in [0, 1, 2, 5, 40] {
        for panics in [false, true] {
            Tracer::new().generation_period(Duration::from_millis(1)).start(Failing(n, panics)).expect("start");
            let end = Instant::now() + Duration::from_secs(120);
            while exectrace::is_enabled() && Instant::now() < end {
                work(50);
            }
            assert!(!exectrace::is_enabled(), "write {n} failed unnoticed");
            work(50);
            assert!(matches!(exectrace::start(io::sink()), Err(StartError::AlreadyOn)), "stop comes first");
            match exectrace::stop() {
                Err(StopError::Sink { error, .. }) if panics => {
                    assert!(error.to_string().contains("panicked"), "{error}")
                }
                Err(StopError::Sink { error, .. }) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
                other => panic!("{other:?}"),
            }
        }
    }
    a_second_start_fails_and_is_harmless();
}

/// Writes nothing before it is told to.
struct Slow(Memory, Arc<AtomicBool>);

impl Write for Slow {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        while !self.1.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        self.0.write(b)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn a_slow_sink_costs_events_which_are_counted() {
    let (memory, go) = (Memory::default(), Arc::new(AtomicBool::new(false)));
    Tracer::new()
        .buffer_bytes(1 << 20)
        .generation_period(Duration::from_millis(5))
        .start(Slow(memory.clone(), go.clone()))
        .expect("start");
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| work(100_000));
        }
        // The program is not held up: it ends its work while the sink stands still.
    });
    go.store(true, Ordering::Relaxed);
    exectrace::flush();
    work(10);
    let stats = exectrace::stop().expect("stop");
    assert!(stats.lost_events() > 100_000, "{stats:?}");
    let trace = memory.take();
    valid(&trace);
    let told = b"events lost because no buffer was left";
    assert!(trace.windows(told.len()).any(|w| w == told), "the trace does not tell of its losses");
}

fn thousands_of_traces_while_threads_come_and_go() {
    let over = AtomicBool::new(false);
    let (traces, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    thread::spawn(|| work(3)).join().expect("join");
                    work(5);
                }
            });
        }
        let starters: Vec<_> = (0..2)
            .map(|_| {
                s.spawn(|| {
                    for _ in 0..100 {
                        let sink = Memory::default();
                        if exectrace::start(sink.clone()).is_err() {
                            refused.fetch_add(1, Ordering::Relaxed);
                            thread::yield_now();
                            continue;
                        }
                        work(1);
                        // Only who has started stops, so this one is ours.
                        exectrace::stop().expect("stop");
                        valid(&sink.take());
                        traces.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        starters.into_iter().for_each(|t| t.join().expect("join"));
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(traces.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed), 200);
    assert!(traces.load(Ordering::Relaxed) >= 50);
}

fn a_forked_child_is_untraced_and_may_trace_itself() {
    let sink = Memory::default();
    exectrace::start(sink.clone()).expect("start");
    let busy = AtomicBool::new(true);
    thread::scope(|s| {
        s.spawn(|| {
            while busy.load(Ordering::Relaxed) {
                work(20);
            }
        });
        for _ in 0..20 {
            // SAFETY: the child calls nothing but our own code and `_exit`. Its heap is consistent: mimalloc's is per thread.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let mut ok = !exectrace::is_enabled();
                work(10);
                let own = Memory::default();
                ok &= exectrace::start(own.clone()).is_ok();
                work(10);
                ok &= exectrace::stop().is_ok();
                ok &= read(&own.take()).1;
                // SAFETY: ends the child without destructors, which belong to the parent.
                unsafe { libc::_exit(if ok { 0 } else { 1 }) };
            }
            let mut status = 0;
            // SAFETY: `status` may be written; the child is ours.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
        }
        busy.store(false, Ordering::Relaxed);
    });
    exectrace::stop().expect("stop");
    assert!(valid(&sink.take()) > 100);
}

/// Run by the test below, which kills it.
fn writes_until_it_is_killed() {
    let path = std::env::var("LIFECYCLE_TRACE").expect("a path");
    let file = std::fs::File::create(path).expect("a file");
    Tracer::new().generation_period(Duration::from_millis(20)).start(file).expect("start");
    println!("tracing");
    loop {
        work(10);
        thread::sleep(Duration::from_micros(200));
    }
}

fn a_killed_process_leaves_whole_generations() {
    use std::io::BufRead;
    let path = std::env::temp_dir().join(format!("exectrace-killed-{}.trace", std::process::id()));
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .arg("writes_until_it_is_killed")
        .env("LIFECYCLE_TRACE", &path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut line = String::new();
    io::BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    // Until a good deal has been written, however slow the machine.
    while std::fs::metadata(&path).map_or(0, |m| m.len()) < 100_000 {
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    let trace = std::fs::read(&path).expect("the trace");
    std::fs::remove_file(&path).expect("remove");
    let good = read(&trace).0;
    assert!(good > 1_000, "{good} events of {} bytes", trace.len());
}

fn the_children_of_commands_are_unharmed() {
    exectrace::start(io::sink()).expect("start");
    for _ in 0..20 {
        let out = Command::new("/bin/echo").arg("well").output().expect("echo");
        assert_eq!(out.stdout, b"well\n");
    }
    exectrace::stop().expect("stop");
}

const CASES: &[(&str, fn())] = &[
    ("a_second_start_fails_and_is_harmless", a_second_start_fails_and_is_harmless),
    ("flush_brings_everything_so_far", flush_brings_everything_so_far),
    ("a_failing_sink_ends_the_trace_with_its_error", a_failing_sink_ends_the_trace_with_its_error),
    ("a_slow_sink_costs_events_which_are_counted", a_slow_sink_costs_events_which_are_counted),
    ("thousands_of_traces_while_threads_come_and_go", thousands_of_traces_while_threads_come_and_go),
    ("a_forked_child_is_untraced_and_may_trace_itself", a_forked_child_is_untraced_and_may_trace_itself),
    ("a_killed_process_leaves_whole_generations", a_killed_process_leaves_whole_generations),
    ("the_children_of_commands_are_unharmed", the_children_of_commands_are_unharmed),
];

fn main() {
    let asked = std::env::args().nth(1).unwrap_or_default();
    if asked == "writes_until_it_is_killed" {
        return writes_until_it_is_killed();
    }
    if let Some((_, case)) = CASES.iter().find(|(name, _)| *name == asked) {
        return case();
    }
    let mut failed = 0;
    for (name, _) in CASES {
        let status = Command::new(std::env::current_exe().expect("own path")).arg(name).status().expect("spawn");
        println!("test {name} ... {}", if status.success() { "ok" } else { "FAILED" });
        failed += usize::from(!status.success());
    }
    println!("{} passed, {failed} failed", CASES.len() - failed);
    std::process::exit(i32::from(failed > 0));
}
