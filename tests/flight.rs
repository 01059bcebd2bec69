//! The flight recorder: what it keeps, within which bounds, beside which traces, and that each snapshot is a trace.
#![cfg(all(feature = "read", not(debug_assertions)))]

mod support;

use exectrace::read::Reader;
use exectrace::{Fired, FlightRecorder, StartError, StopError, Tracer, Trigger};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use support::Scratch;
use support::judge::Judge;

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
exectrace::interpose!();

/// The tracer is one for the process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer behind a lock.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("no panic").clone()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Our reader takes the trace, and Go's tools do where there are any. The messages that were logged, in order.
fn accepted(trace: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(trace).expect("a trace");
    let mut logs = Vec::new();
    while let Some(event) = reader.next_event().unwrap_or_else(|e| panic!("{e}")) {
        if let Some(log) = event.log() {
            let message = event.string(log.message);
            // The tracer's own word: CPU samples that came inside of a hook.
            if message.contains(" lost") {
                assert!(message.starts_with("0 events lost"), "{message}");
                continue;
            }
            logs.push(message.to_owned());
        }
    }
    if let Some(judge) = Judge::find() {
        let scratch = Scratch::new("flight");
        judge.without_wire().facts(&scratch.write("snapshot.trace", trace));
    }
    logs
}

/// A recorder that drops nothing for its age: Go's tools may take their time between two snapshots.
fn patient() -> FlightRecorder {
    FlightRecorder::new().min_age(Duration::from_secs(3600))
}

fn log(what: &str, from: u32, to: u32) {
    (from..to).for_each(|i| exectrace::log(what, &i.to_string()));
}

#[test]
fn a_snapshot_has_the_last_events_and_no_more_than_the_bound() {
    let _alone = alone();
    let bound = 256 << 10;
    let tracer = Tracer::new().generation_period(Duration::from_millis(20));
    let flight = FlightRecorder::new().max_bytes(bound).min_age(Duration::from_secs(60)).tracer(tracer).start();
    let flight = flight.expect("a flight recorder");
    assert!(matches!(FlightRecorder::new().start(), Err(StartError::AlreadyOn)));
    // Opened long before the window begins, and still open at its end.
    let region = exectrace::Region::new("outermost");
    let waiting = Arc::new(AtomicBool::new(true));
    let waits = waiting.clone();
    let blocked = std::thread::spawn(move || {
        while waits.load(Ordering::Relaxed) {
            std::thread::park();
        }
    });
    for round in 0..20 {
        log("n", round * 10_000, (round + 1) * 10_000);
        let mut trace = Vec::new();
        let snapshot = flight.snapshot_to(&mut trace).expect("a snapshot");
        assert_eq!(snapshot.bytes, trace.len() as u64);
        assert!(trace.len() <= bound + 16, "round {round}: {} bytes", trace.len());
        let logs = accepted(&trace);
        let last = ((round + 1) * 10_000 - 1).to_string();
        assert_eq!(logs.last(), Some(&last), "round {round}, {snapshot:?}");
        let numbers: Vec<u32> = logs.iter().map(|n| n.parse().expect("a number")).collect();
        assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "nothing is missing in between");
        assert!(round < 5 || numbers[0] > 0, "what is old was dropped");
    }
    drop(region);
    waiting.store(false, Ordering::Relaxed);
    blocked.thread().unpark();
    blocked.join().expect("no panic");
    flight.stop();
    assert!(!exectrace::is_enabled());
    assert!(matches!(exectrace::stop(), Err(StopError::NotOn)));
}

#[test]
fn what_is_older_than_asked_for_is_dropped() {
    let _alone = alone();
    let tracer = Tracer::new().generation_period(Duration::from_millis(10));
    let flight = FlightRecorder::new().min_age(Duration::from_millis(100)).tracer(tracer).start().expect("on");
    exectrace::log("old", "old");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(500) {
        exectrace::log("new", "new");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut trace = Vec::new();
    let snapshot = flight.snapshot_to(&mut trace).expect("a snapshot");
    let logs = accepted(&trace);
    assert!(!logs.is_empty() && !logs.contains(&"old".to_owned()), "{logs:?}");
    assert!(snapshot.age >= Duration::from_millis(100), "{snapshot:?}");
}

#[test]
fn a_trace_and_a_flight_recorder_come_and_go_beside_each_other() {
    let _alone = alone();
    let snapshot = |flight: &exectrace::Flight| {
        let mut trace = Vec::new();
        flight.snapshot_to(&mut trace).expect("a snapshot");
        accepted(&trace)
    };
    // The recorder is first and last.
    let flight = patient().start().expect("on");
    log("a", 0, 10);
    let sink = Shared::default();
    exectrace::start(sink.clone()).expect("a trace beside it");
    assert!(matches!(exectrace::start(io::sink()), Err(StartError::AlreadyOn)));
    log("b", 10, 20);
    let stats = exectrace::stop().expect("the trace ends well");
    assert_eq!(stats.bytes, sink.bytes().len() as u64);
    log("c", 20, 30);
    let expected = |from: u32, to: u32| (from..to).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(accepted(&sink.bytes()), expected(10, 20), "the trace has its own time");
    assert_eq!(snapshot(&flight), expected(0, 30), "the recorder has all");
    // And a second trace.
    let second = Shared::default();
    exectrace::start(second.clone()).expect("a second trace");
    log("d", 30, 40);
    flight.stop();
    assert!(exectrace::is_enabled(), "the trace goes on");
    log("e", 40, 50);
    exectrace::stop().expect("the second ends well");
    assert_eq!(accepted(&second.bytes()), expected(30, 50));
    assert!(!exectrace::is_enabled());
    // The trace is first.
    let third = Shared::default();
    exectrace::start(third.clone()).expect("a trace");
    log("f", 50, 60);
    let flight = patient().start().expect("beside it");
    log("g", 60, 70);
    exectrace::stop().expect("ends well");
    assert_eq!(accepted(&third.bytes()), expected(50, 70));
    assert_eq!(snapshot(&flight), expected(60, 70));
}

/// A disk that is full.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_fails_is_no_concern_of_the_recorders() {
    let _alone = alone();
    let flight = patient().start().expect("on");
    exectrace::start(Full).expect("a trace");
    log("a", 0, 10);
    exectrace::flush();
    match exectrace::stop() {
        Err(StopError::Sink { error, .. }) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    }
    let mut trace = Vec::new();
    flight.snapshot_to(&mut trace).expect("a snapshot");
    assert_eq!(accepted(&trace).len(), 10);
    // A snapshot's writer that fails is told, and the next one is whole.
    let failed = flight.snapshot_to(Full).expect_err("it is full");
    assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    let mut trace = Vec::new();
    flight.snapshot_to(&mut trace).expect("a snapshot");
    assert_eq!(accepted(&trace).len(), 10);
}

/// Snapshots from four threads at once, while hundreds of threads come and go.
#[test]
fn a_storm_of_snapshots_and_dying_threads() {
    let _alone = alone();
    let watchdog = std::thread::spawn(|| {
        std::thread::park_timeout(Duration::from_secs(120));
    });
    let tracer = Tracer::new().generation_period(Duration::from_millis(1));
    let flight = FlightRecorder::new().max_bytes(4 << 20).tracer(tracer).start().expect("on");
    let done = AtomicBool::new(false);
    let traces: Vec<Vec<u8>> = std::thread::scope(|s| {
        let takers: Vec<_> = (0..4)
            .map(|_| {
                s.spawn(|| {
                    let mut last = Vec::new();
                    let mut count = 0;
                    while !done.load(Ordering::Relaxed) || count < 5 {
                        last.clear();
                        flight.snapshot_to(&mut last).expect("a snapshot");
                        Reader::new(&last[..]).expect("a trace");
                        count += 1;
                    }
                    last
                })
            })
            .collect();
        for _ in 0..10 {
            let threads: Vec<_> = (0..200)
                .map(|i| s.spawn(move || exectrace::with_region("short", || vec![0u8; 1000 * (i % 50)].len())))
                .collect();
            threads.into_iter().for_each(|t| _ = t.join().expect("no panic"));
        }
        done.store(true, Ordering::Relaxed);
        takers.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    traces.iter().for_each(|trace| _ = accepted(trace));
    assert!(!watchdog.is_finished(), "it took too long");
    watchdog.thread().unpark();
    flight.stop();
}

/// What a recorder with triggers has done so far.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Fired>>>);

impl Heard {
    fn all(&self) -> Vec<Fired> {
        self.0.lock().expect("no panic").clone()
    }

    /// Waits for the `n`th.
    fn wait(&self, n: usize) -> Fired {
        let end = Instant::now() + Duration::from_secs(120);
        while self.all().len() < n {
            assert!(Instant::now() < end, "{:?}", self.all());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.all()[n - 1].clone()
    }
}

fn hunting(scratch: &Scratch, triggers: &[Trigger], heard: &Heard) -> FlightRecorder {
    let heard = heard.clone();
    let recorder = patient().tracer(Tracer::new().generation_period(Duration::from_millis(10)));
    let recorder = recorder.snapshots_at(scratch.path("app")).cooldown(Duration::ZERO).keep(2);
    let recorder = triggers.iter().fold(recorder, |recorder, trigger| recorder.on(*trigger));
    recorder.then(move |fired| heard.0.lock().expect("no panic").push(fired.clone()))
}

fn snapshots(scratch: &Scratch) -> Vec<String> {
    let names = std::fs::read_dir(scratch.path("")).expect("a directory");
    let mut all: Vec<String> = names.map(|e| e.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[test]
fn what_took_too_long_leaves_a_snapshot_and_the_worst_are_kept() {
    let _alone = alone();
    let (scratch, heard) = (Scratch::new("hunt-regions"), Heard::default());
    let limit = Duration::from_millis(20);
    let flight = hunting(&scratch, &[Trigger::Region(limit)], &heard).start().expect("on");
    // Shorter ones, system calls and messages are nothing to it.
    exectrace::log("before", "");
    std::thread::sleep(Duration::from_millis(60));
    assert!(heard.all().is_empty(), "{:?}", heard.all());
    for (i, ms) in [200, 60, 120].into_iter().enumerate() {
        exectrace::log("round", &i.to_string());
        exectrace::with_region("long", || std::thread::sleep(Duration::from_millis(ms)));
        let fired = heard.wait(i + 1);
        assert_eq!(fired.trigger, Trigger::Region(limit));
        assert!(fired.score >= ms * 100 / 20, "{fired:?}");
        if fired.path.exists() {
            let name = fired.path.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(name.starts_with(&format!("app.snapshot-region-{:03}", fired.score)), "{name}");
            let logs = accepted(&std::fs::read(&fired.path).expect("a snapshot"));
            assert_eq!(logs.last(), Some(&i.to_string()), "it has what it was taken for");
        }
    }
    flight.stop();
    // Of three the two with the highest scores are left.
    let mut scores: Vec<u64> = heard.all().iter().map(|fired| fired.score).collect();
    scores.sort_unstable();
    let kept = snapshots(&scratch);
    assert_eq!(kept.len(), 2, "{kept:?}");
    for score in &scores[1..] {
        assert!(kept.iter().any(|name| name.contains(&format!("-{score:03}"))), "{scores:?} {kept:?}");
    }
    // It is over.
    exectrace::with_region("long", || std::thread::sleep(Duration::from_millis(60)));
    assert_eq!(heard.all().len(), 3);
}

#[test]
fn system_calls_pauses_and_the_cooldown() {
    let _alone = alone();
    let (scratch, heard) = (Scratch::new("hunt-calls"), Heard::default());
    let limit = Duration::from_millis(15);
    let flight = hunting(&scratch, &[Trigger::Syscall(limit)], &heard).start().expect("on");
    let (mut from, mut to) = io::pipe().expect("a pipe");
    let read = std::thread::spawn(move || io::Read::read(&mut from, &mut [0]).expect("a byte"));
    std::thread::sleep(Duration::from_millis(100));
    to.write_all(b"x").expect("it reads");
    read.join().expect("no panic");
    assert_eq!(heard.wait(1).trigger, Trigger::Syscall(limit));
    flight.stop();
    // A pause is looked at inside of a generation.
    let heard = Heard::default();
    let recorder = hunting(&scratch, &[Trigger::GcPause(limit)], &heard);
    let flight = recorder.tracer(Tracer::new().generation_period(Duration::from_secs(3600))).start().expect("on");
    let heap = exectrace::hooks::gc::GcHeap::new();
    heap.stw_begin(exectrace::hooks::gc::Stw::MarkTermination);
    std::thread::sleep(Duration::from_millis(60));
    heap.stw_end();
    exectrace::flush();
    assert_eq!(heard.wait(1).trigger, Trigger::GcPause(limit));
    flight.stop();
    // With a cool-down the second is not taken.
    let heard = Heard::default();
    let recorder = hunting(&scratch, &[Trigger::Region(limit)], &heard).cooldown(Duration::from_secs(3600));
    let flight = recorder.start().expect("on");
    for _ in 0..2 {
        exectrace::with_region("long", || std::thread::sleep(Duration::from_millis(50)));
        exectrace::flush();
    }
    heard.wait(1);
    exectrace::flush();
    flight.stop();
    assert_eq!(heard.all().len(), 1);
}

#[test]
fn an_allocation_that_fails_leaves_a_snapshot() {
    let _alone = alone();
    let (scratch, heard) = (Scratch::new("hunt-memory"), Heard::default());
    let flight = hunting(&scratch, &[Trigger::AllocationFailure], &heard).start().expect("on");
    let huge = std::alloc::Layout::from_size_align(isize::MAX as usize - 100, 8).expect("a layout");
    // SAFETY: the layout is not empty.
    let none = unsafe { std::alloc::alloc(std::hint::black_box(huge)) };
    // Looked at, so that the compiler does not leave it out.
    assert!(std::hint::black_box(none).is_null());
    let fired = heard.wait(1);
    assert_eq!((fired.trigger, fired.score), (Trigger::AllocationFailure, 100));
    let logs = accepted(&std::fs::read(&fired.path).expect("a snapshot"));
    assert_eq!(logs, [format!("{} bytes", isize::MAX as usize - 100)]);
    flight.stop();
    assert_eq!(snapshots(&scratch), ["app.snapshot-alloc-failure-100.trace"]);
}

#[test]
fn a_panic_has_its_snapshot_before_anybody_catches_it() {
    let _alone = alone();
    let (scratch, heard) = (Scratch::new("hunt-panic"), Heard::default());
    let flight = hunting(&scratch, &[Trigger::Panic], &heard).start().expect("on");
    exectrace::log("before", "the panic");
    for n in 1..=2 {
        assert!(std::panic::catch_unwind(|| panic!("expected by this test")).is_err());
        // No waiting: the panic itself has waited.
        assert_eq!(heard.all().len(), n);
    }
    let fired = heard.wait(1);
    let logs = accepted(&std::fs::read(&fired.path).expect("a snapshot"));
    assert_eq!(logs.last().map(String::as_str), Some("the panic"));
    flight.stop();
    assert_eq!(snapshots(&scratch), ["app.snapshot-panic-100-2.trace", "app.snapshot-panic-100.trace"]);
    assert!(std::panic::catch_unwind(|| panic!("expected by this test")).is_err());
    assert_eq!(heard.all().len(), 2, "it is over");
}

/// The program's function may end the recorder itself.
#[test]
fn a_recorder_that_is_stopped_by_what_it_calls() {
    let _alone = alone();
    let scratch = Scratch::new("hunt-stop");
    let place: Arc<Mutex<Option<exectrace::Flight>>> = Arc::default();
    let (inner, done) = (place.clone(), Arc::new(AtomicBool::new(false)));
    let told = done.clone();
    let recorder = hunting(&scratch, &[Trigger::Region(Duration::from_millis(5))], &Heard::default());
    let recorder = recorder.then(move |_| {
        drop(inner.lock().expect("no panic").take());
        told.store(true, Ordering::Release);
    });
    *place.lock().expect("no panic") = Some(recorder.start().expect("on"));
    exectrace::with_region("long", || std::thread::sleep(Duration::from_millis(30)));
    let end = Instant::now() + Duration::from_secs(120);
    while !done.load(Ordering::Acquire) {
        assert!(Instant::now() < end, "it is stuck");
        std::thread::sleep(Duration::from_millis(2));
    }
    FlightRecorder::new().start().expect("it is off").stop();
}
