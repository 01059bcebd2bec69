//! How fast `analyze::heap` reads a trace in which all allocations were recorded, and how much memory it takes for that.
//!
//! `cargo bench --bench heap_read -- 100` records 100 million operations (10 by default) into a file under `target/`, by four threads that
//! hold 200,000 blocks between them, exchange them, and free each other's; then reads it in a process of its own, by
//! stack at the end, at the peak, and by thread. The sums are compared with what the program has counted. A file that is there
//! already is read as it is.

use std::alloc::{Layout, alloc, dealloc};
use std::fs::File;
use std::hint::black_box;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use exectrace::analyze::{HeapAt, HeapBy, HeapOptions, heap};
use exectrace::read::Reader;
use exectrace::{Allocations, Tracer};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

const THREADS: usize = 4;
const HELD: usize = 50_000;

/// A block that may go to another thread.
struct Block(*mut u8, Layout);

// SAFETY: memory with one owner.
unsafe impl Send for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block has this layout.
        unsafe { dealloc(self.0, self.1) }
    }
}

/// Goes some frames down, by one of two ways each, and makes a block there.
#[inline(never)]
fn left(depth: u32, way: u64, size: usize) -> Block {
    let b = if depth == 0 {
        make(size)
    } else if way & 1 == 0 {
        left(depth - 1, way >> 1, size)
    } else {
        right(depth - 1, way >> 1, size)
    };
    black_box(way);
    b
}

#[inline(never)]
fn right(depth: u32, way: u64, size: usize) -> Block {
    let b = left(depth.saturating_sub(1), way, size);
    black_box(depth);
    b
}

#[inline(never)]
fn make(size: usize) -> Block {
    let layout = Layout::from_size_align(size, 8).expect("layout");
    // SAFETY: the size is not 0.
    let at = unsafe { alloc(layout) };
    Block(at, layout)
}

fn work(seed: u64, exchanges: u64, to: &mpsc::SyncSender<Block>, from: &mpsc::Receiver<Block>) {
    let mut held: Vec<Block> = Vec::with_capacity(HELD);
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for i in 0..exchanges {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let b = left(6, x >> 30 & 63, 16 + (x >> 20) as usize % 1009);
        if i % 64 == 0 {
            // To the next thread, which frees it in its time; with no room there it is freed here.
            let _ = to.try_send(b);
            drop(from.try_recv());
        } else if held.len() < HELD {
            held.push(b);
        } else {
            held[(x >> 8) as usize % HELD] = b;
        }
    }
}

fn record(path: &Path, millions: u64) {
    let exchanges = millions * 1_000_000 / 2 / THREADS as u64;
    let file = BufWriter::with_capacity(1 << 20, File::create(path).expect("the trace's file"));
    let tracer = Tracer::new().allocations(Allocations::All).back_pressure(Duration::from_secs(600));
    let begin = Instant::now();
    tracer.cpu_sample_hz(0).start(file).expect("start");
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::sync_channel(256)).unzip();
    std::thread::scope(|s| {
        for (i, from) in receivers.into_iter().enumerate() {
            let to = senders[(i + 1) % THREADS].clone();
            s.spawn(move || work(i as u64 + 1, exchanges, &to, &from));
        }
    });
    drop(senders);
    let stats = exectrace::stop().expect("stop");
    assert_eq!(stats.lost_allocations, 0);
    println!("recorded in {:.1} s", begin.elapsed().as_secs_f64());
}

/// CPU time of this process and its largest resident size, in seconds and bytes.
fn usage() -> (f64, u64) {
    // SAFETY: all-zero is a valid rusage.
    let mut u: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `u` may be written to.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut u) };
    let s = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (s(u.ru_utime) + s(u.ru_stime), u.ru_maxrss as u64 * 1024)
}

fn read(path: &Path, what: &str) {
    let options = match what {
        "end" => HeapOptions::default(),
        "peak" => HeapOptions { at: HeapAt::Peak, ..HeapOptions::default() },
        _ => HeapOptions { by: HeapBy::Thread, ..HeapOptions::default() },
    };
    let begin = Instant::now();
    let file = File::open(path).expect("the trace");
    let mut reader = Reader::threaded(file).expect("a trace");
    let report = heap(&mut reader, &options);
    assert!(report.damage.is_none(), "{:?}", report.damage);
    assert_eq!((report.lost, report.unknown_frees), (0, 0));
    let (cpu, rss) = usage();
    println!(
        "{what:<7} {:>6.1} M records {:>6.2} s {cpu:>6.2} s CPU {:>6.1} MB  leaked {} in {}, total {} blocks",
        report.records as f64 / 1e6,
        begin.elapsed().as_secs_f64(),
        rss as f64 / 1e6,
        report.sum.leaked_bytes,
        report.sum.leaked_blocks,
        report.sum.total_blocks
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if let [what, path] = &args[..] {
        return read(Path::new(path), what);
    }
    let millions: u64 = args.first().and_then(|a| a.parse().ok()).unwrap_or(10);
    let path = PathBuf::from(format!("{}/heap_read-{millions}.trace", env!("CARGO_TARGET_TMPDIR")));
    if !path.exists() {
        record(&path, millions);
    }
    let bytes = path.metadata().expect("metadata").len();
    println!("{:.1} MB, {:.2} bytes a record", bytes as f64 / 1e6, bytes as f64 / (millions * 1_000_000) as f64);
    for what in ["end", "peak", "thread"] {
        let me = std::env::current_exe().expect("this program");
        let status = Command::new(me).args([what, &path.to_string_lossy()]).status().expect("a process of its own");
        assert!(status.success());
    }
}
