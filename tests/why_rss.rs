//! What `analyze::why_rss` says of programs that fill their resident set on purpose: by live blocks, by fragmentation, by mappings, by
//! stacks. Each in a trace of its own, of which the last sample counts.
//!
//! Without the test harness, whose threads would have stacks and blocks of their own.

mod guest;

use std::hint::black_box;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use exectrace::analyze::{RssInstant, RssPart, WhyRss, why_rss};
use exectrace::read::Reader;
use exectrace::{Allocations, Tracer};

use guest::Memory;

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
exectrace::interpose!();

const MIB: u64 = 1 << 20;

/// Traces `f` and tells what the last sample says, and all of it.
fn traced<R>(f: impl FnOnce() -> R) -> (R, RssInstant, WhyRss, Vec<u8>) {
    let sink = Memory::new();
    let tracer = Tracer::new().allocations(Allocations::SAMPLED).memory_every(Duration::from_millis(10));
    tracer.cpu_sample_hz(0).start(sink.clone()).expect("start");
    let r = f();
    exectrace::stop().expect("stop");
    let trace = sink.bytes();
    let why = why_rss(&mut Reader::new(&trace[..]).expect("a trace"));
    assert_eq!(why.damage, None);
    assert!(!why.because.is_empty());
    for i in &why.instants {
        assert_eq!(RssPart::ALL.iter().map(|&p| i.part(p)).sum::<u64>(), i.rss_bytes, "{i:?}");
    }
    (r, why.last.expect("a sample"), why, trace)
}

fn near(what: &str, got: u64, expected: u64, by: u64, i: &RssInstant) {
    assert!(got.abs_diff(expected) <= by, "{what}: {got}, expected {expected} to within {by}: {i:?}");
}

fn main() {
    let ((), base, ..) = traced(|| ());
    held(&base);
    fragmented(&base);
    mapped();
    stacks(&base);
    never();
    println!("why_rss: ok");
}

fn held(base: &RssInstant) {
    let (blocks, now, why, trace) = traced(|| (0..1024).map(|i| vec![i as u8 | 1; 64 << 10]).collect::<Vec<_>>());
    near("held", now.live_heap_bytes, base.live_heap_bytes + 64 * MIB, MIB, &now);
    near("heap", now.heap_bytes, base.heap_bytes + 64 * MIB, MIB, &now);
    assert!(now.committed_bytes.expect("mimalloc tells") >= 64 * MIB, "{now:?}");
    assert_eq!(now.largest(), RssPart::LiveHeap);
    assert!(why.because[0].contains("what the program holds on its heap"), "{:?}", why.because);
    assert_eq!(why.grown.map(|g| g.0), Some(RssPart::LiveHeap));
    assert!(why.minor_faults > 0, "{why:?}");
    drop(black_box(blocks));
    command(&trace, &why);
}

/// A million small blocks, of which one in 64 stays: no page is free.
fn fragmented(base: &RssInstant) {
    let all: Vec<Box<[u8; 64]>> = (0..1_000_000).map(|i| Box::new([i as u8; 64])).collect();
    let (few, now, why, _) = traced(|| all.into_iter().step_by(64).collect::<Vec<_>>());
    assert!(now.live_heap_bytes < base.live_heap_bytes + 12 * MIB, "{now:?}");
    assert!(now.allocator_retained_bytes > 45 * MIB, "{now:?}");
    assert_eq!(now.largest(), RssPart::AllocatorRetained, "{now:?}");
    assert!(why.because.iter().any(|s| s.contains("the allocator keeps")), "{:?}", why.because);
    drop(black_box(few));
}

/// Memory that the allocator does not know of.
#[inline(never)]
fn map(bytes: usize) -> *mut u8 {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) }.cast::<u8>();
    assert!(!at.is_null());
    // SAFETY: it has so many bytes.
    unsafe { at.write_bytes(1, bytes) };
    at
}

fn mapped() {
    // The allocator keeps what the others have left, and goes on giving it back.
    let ((), base, ..) = traced(|| ());
    let (at, now, why, _) = traced(|| {
        let other = map(4 << 20);
        // SAFETY: half of a mapping that nobody uses.
        assert_eq!(unsafe { libc::munmap(other.cast(), 2 << 20) }, 0);
        map(96 << 20)
    });
    // Which of the two it is depends on how much of what is committed is resident.
    let either = |i: &RssInstant| i.rest_bytes + i.allocator_retained_bytes;
    near("rest and retained", either(&now), either(&base) + 98 * MIB, 16 * MIB, &now);
    let by = why.mapped_by.iter().filter(|m| m.name.starts_with("why_rss::map "));
    let by: Vec<_> = by.map(|m| (m.bytes, m.pieces)).collect();
    assert_eq!(by, [(96 * MIB, 1), (2 * MIB, 1)], "{:?}", why.mapped_by);
    // SAFETY: the mapping is used no more.
    unsafe { libc::munmap(at.cast(), 96 << 20) };
}

/// Eight threads each of which has touched 2 MiB of its stack.
fn stacks(base: &RssInstant) {
    let (stop, stopped) = mpsc::channel::<()>();
    let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
    let (threads, now, ..) = traced(|| {
        let (ready, wait) = mpsc::channel();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (ready, stopped) = (ready.clone(), stopped.clone());
                let deep = move || {
                    black_box([1u8; 2 << 20]);
                    exectrace::log("stack", "touched");
                    ready.send(()).expect("send");
                    // Ends when there is nobody to send.
                    let _ = stopped.lock().map(|s| s.recv());
                };
                thread::Builder::new().stack_size(4 << 20).spawn(deep).expect("spawn")
            })
            .collect();
        (0..8).for_each(|_| wait.recv().expect("ready"));
        threads
    });
    near("stacks", now.stacks_bytes, base.stacks_bytes + 16 * MIB, 2 * MIB, &now);
    drop(stop);
    threads.into_iter().for_each(|t| t.join().expect("join"));
}

/// Nothing is recorded where it is not wanted.
fn never() {
    let sink = Memory::new();
    Tracer::new().memory_every(Duration::ZERO).start(sink.clone()).expect("start");
    exectrace::stop().expect("stop");
    let why = why_rss(&mut Reader::new(&sink.bytes()[..]).expect("a trace"));
    assert_eq!((why.max, why.because.len()), (None, 0));
}

fn command(trace: &[u8], why: &WhyRss) {
    let file = std::env::temp_dir().join(format!("exectrace-why-{}.trace", std::process::id()));
    std::fs::write(&file, trace).expect("a file");
    let ask = |args: &[&str]| {
        let exe = env!("CARGO_BIN_EXE_exectrace");
        let out = Command::new(exe).args(["heap", "why-rss"]).args(args).arg(&file).output().expect("run");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "");
        String::from_utf8(out.stdout).expect("text")
    };
    let json: WhyRss = serde_json::from_str(&ask(&["--json"])).expect("json");
    assert_eq!(&json, why);
    let text = ask(&[]);
    assert!(text.contains(&why.because[0]) && text.contains("<- largest"), "{text}");
    let svg = ask(&["--svg", "-"]);
    assert!(svg.starts_with("<svg") && svg.matches("<polygon").count() == RssPart::ALL.len(), "{svg}");
    std::fs::remove_file(file).expect("removed");
}
