//! Recorded allocations are the truth: programs that allocate by plan, and what `analyze::heap` says of their traces.
//!
//! With all allocations recorded every figure must be equal to the plan's, to the byte; in a sample the sums over many traces must
//! agree within the sampling's error. Without the test harness, whose threads would allocate beside.

#[path = "analyze_support/pprof.rs"]
mod pprof;

mod guest;
mod support;

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use exectrace::analyze::{HeapAt, HeapBy, HeapEntry, HeapOptions, HeapReport, TreeNode, heap};
use exectrace::read::{AllocationKind, Private, Reader};
use exectrace::{Allocations, Tracer};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();
exectrace::interpose!();

fn main() {
    exact::all();
    sampled::all();
    sampled::freed();
    losses::none_is_silent();
    losses::back_pressure();
    println!("heap_recorded: ok");
}

/// A tracer that records little else, and often ends generations.
fn tracer(which: Allocations) -> Tracer {
    Tracer::new().allocations(which).cpu_sample_hz(0).generation_period(Duration::from_millis(20))
}

fn report(trace: &[u8], options: HeapOptions) -> HeapReport {
    let report = heap(&mut Reader::new(trace).expect("a trace"), &options);
    assert_eq!(report.damage, None);
    report
}

/// The sums of all entries with this function on their stacks, and one of [`Raw`]'s: the library's own blocks are not part of a plan.
fn of(report: &HeapReport, func: &str) -> HeapEntry {
    let mut sum = HeapEntry::default();
    let on = |e: &HeapEntry, what: &str| e.stack.iter().any(|f| f.func.contains(what));
    let has = |e: &&HeapEntry| on(e, func) && (on(e, "Raw>::") || on(e, "Raw::"));
    for e in report.entries.iter().filter(has) {
        let (s, of) = (&mut sum.sums, &e.sums);
        s.held_bytes += of.held_bytes;
        s.held_blocks += of.held_blocks;
        s.peak_bytes += of.peak_bytes;
        s.peak_blocks += of.peak_blocks;
        s.leaked_bytes += of.leaked_bytes;
        s.leaked_blocks += of.leaked_blocks;
        s.total_bytes += of.total_bytes;
        s.total_blocks += of.total_blocks;
        s.temporary_bytes += of.temporary_bytes;
        s.temporary_blocks += of.temporary_blocks;
    }
    sum
}

/// A block of its own, which nothing else in the program knows.
struct Raw(*mut u8, Layout);

// SAFETY: it is memory with one owner.
unsafe impl Send for Raw {}

impl Raw {
    #[inline(never)]
    fn new(size: usize, align: usize) -> Raw {
        let layout = Layout::from_size_align(size, align).expect("layout");
        // SAFETY: the size is not 0.
        Raw(unsafe { alloc(layout) }, layout)
    }

    #[inline(never)]
    fn zeroed(size: usize, align: usize) -> Raw {
        let layout = Layout::from_size_align(size, align).expect("layout");
        // SAFETY: the size is not 0.
        Raw(unsafe { alloc_zeroed(layout) }, layout)
    }

    #[inline(never)]
    fn resize(&mut self, size: usize) {
        // SAFETY: the block has this layout, and the size is not 0.
        self.0 = unsafe { realloc(self.0, self.1, size) };
        self.1 = Layout::from_size_align(size, self.1.align()).expect("layout");
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the block has this layout.
        unsafe { dealloc(self.0, self.1) }
    }
}

mod exact {
    use super::*;

    /// 100 blocks of 1000 to 1099 bytes that nobody frees.
    #[inline(never)]
    fn leaks() {
        for i in 0..100 {
            std::mem::forget(black_box(Raw::new(1000 + i, 1)));
        }
    }

    /// 20 MB that come and go: the peak.
    #[inline(never)]
    fn peaks(at_peak: impl FnOnce()) {
        let all: [Raw; 20] = std::array::from_fn(|_| Raw::zeroed(1_000_000, 4096));
        at_peak();
        drop(black_box(all));
    }

    /// 10,000 blocks of 64 bytes, each freed at once.
    #[inline(never)]
    fn churns() {
        for _ in 0..10_000 {
            drop(black_box(Raw::new(64, 16)));
        }
    }

    /// Ten blocks that grow from 100 to 100,000 bytes and shrink to 7.
    #[inline(never)]
    fn grows() {
        for _ in 0..10 {
            let mut b = Raw::new(100, 8);
            b.resize(1_000);
            b.resize(100_000);
            b.resize(7);
            drop(black_box(b));
        }
    }

    /// Made by one thread, freed by another, while both allocate: addresses change hands all the time.
    #[inline(never)]
    fn handed_over(round: usize) {
        let (to, from) = mpsc::sync_channel::<Raw>(64);
        let makers: Vec<_> = (0..2)
            .map(|_| {
                let to = to.clone();
                thread::spawn(move || makes(&to))
            })
            .collect();
        drop(to);
        let freer = thread::spawn(move || from.into_iter().enumerate().for_each(|(i, b)| frees(i, b)));
        makers.into_iter().for_each(|t| t.join().expect("join"));
        freer.join().expect("join");
        black_box(round);
    }

    const HANDED_OVER: u64 = 3_000;

    #[inline(never)]
    fn makes(to: &mpsc::SyncSender<Raw>) {
        for _ in 0..HANDED_OVER {
            let mut b = black_box(Raw::new(48, 8));
            b.resize(200);
            to.send(b).expect("send");
        }
    }

    #[inline(never)]
    fn frees(i: usize, b: Raw) {
        drop(black_box(b));
        if i.is_multiple_of(2) {
            drop(black_box(Raw::new(200, 8)));
        }
    }

    #[inline(never)]
    fn labelled() {
        let task = exectrace::Task::new("import");
        let _region = task.region("parse");
        let keep = {
            exectrace::scope!("cache");
            let keep = Raw::new(5_000, 8);
            {
                exectrace::scope!("index");
                std::mem::forget(black_box(Raw::new(300, 8)));
            }
            std::mem::forget(black_box(Raw::new(20, 8)));
            keep
        };
        std::mem::forget(black_box(Raw::new(1, 1)));
        std::mem::forget(keep);
    }

    pub fn all() {
        for round in 0..3 {
            run(round);
        }
    }

    fn run(round: usize) {
        let sink = guest::Memory::with_capacity(64 << 20);
        tracer(Allocations::All).start(sink.clone()).expect("start");
        let before = exectrace::heap::stats();
        let mut peak = 0;
        leaks();
        exectrace::flush();
        // The thread is named, so that there is a name to tell it by.
        thread::Builder::new().name("churner".into()).spawn(churns).expect("spawn").join().expect("join");
        peaks(|| peak = exectrace::heap::stats().live_bytes - before.live_bytes);
        grows();
        handed_over(round);
        labelled();
        let after = exectrace::heap::stats();
        exectrace::flush();
        let stats = exectrace::stop().expect("stop");
        assert_eq!((stats.lost_allocations, stats.lost_events()), (0, 0));
        let trace = sink.bytes();

        let r = report(&trace, HeapOptions::default());
        assert_eq!((r.interval_bytes, r.lost), (Some(0), 0));
        let sums = |f: &str| of(&r, f).sums;
        let leaked = (100_000 + 99 * 100 / 2, 100);
        let s = sums("exact::leaks");
        assert_eq!((s.leaked_bytes, s.leaked_blocks), leaked);
        assert_eq!((s.total_bytes, s.total_blocks), leaked);
        assert_eq!((s.peak_bytes, s.peak_blocks), leaked);
        assert_eq!((s.held_bytes, s.held_blocks), leaked);
        assert_eq!(s.temporary_blocks, 0);
        let s = sums("exact::churns");
        assert_eq!((s.total_bytes, s.total_blocks), (640_000, 10_000));
        assert_eq!((s.temporary_bytes, s.temporary_blocks), (640_000, 10_000));
        assert_eq!((s.leaked_blocks, s.peak_blocks), (0, 0));
        assert_eq!(sums("exact::labelled").leaked_bytes, 5_321);
        let s = sums("exact::peaks");
        assert_eq!((s.peak_bytes, s.peak_blocks, s.leaked_bytes), (20_000_000, 20, 0));
        let s = sums("exact::grows");
        assert_eq!((s.total_bytes, s.total_blocks), (10 * (100 + 1_000 + 100_000 + 7), 40));
        assert_eq!(s.leaked_blocks, 0);
        let s = sums("exact::makes");
        assert_eq!((s.total_bytes, s.total_blocks), (2 * HANDED_OVER * 248, 4 * HANDED_OVER));
        assert_eq!(s.leaked_blocks, 0, "{s:?}");
        let s = sums("exact::frees");
        assert_eq!((s.total_bytes, s.leaked_blocks), (HANDED_OVER * 200, 0));

        // Against the counters, which count each call.
        let (mut allocs, mut frees, mut aligns) = (0, 0, [0; 13]);
        each(&trace, |kind| match kind {
            AllocationKind::Alloc { align, .. } => {
                allocs += 1;
                aligns[align.trailing_zeros() as usize] += 1;
            }
            AllocationKind::Free { .. } => frees += 1,
            _ => {}
        });
        // The calls of `start` and `stop` themselves allocate too, at either end.
        let (told_allocs, told_frees) =
            (after.allocs_total - before.allocs_total, after.frees_total - before.frees_total);
        assert!((told_allocs..told_allocs + 20).contains(&allocs), "{allocs} recorded, {told_allocs} counted");
        assert!((told_frees..told_frees + 20).contains(&frees), "{frees} recorded, {told_frees} counted");
        assert_eq!(aligns[12], 20, "{aligns:?}");
        let grown = (after.live_bytes - before.live_bytes) as i64;
        let recorded = r.sum.leaked_bytes as i64;
        assert!((recorded - grown).abs() < 4_000, "{recorded} recorded as alive, {grown} counted");
        // Little else is alive at the peak.
        assert!(r.peak_bytes >= peak && r.peak_bytes < peak + 4_000, "{} for {peak}", r.peak_bytes);
        assert_eq!(r.sum.peak_bytes, r.peak_bytes);

        options(&trace, &r);
        by(&trace);
        cli::all(&trace, &r);
    }

    /// Other instants: the same sums where they must be the same.
    fn options(trace: &[u8], r: &HeapReport) {
        let at_peak = report(trace, HeapOptions { at: HeapAt::Peak, ..HeapOptions::default() });
        assert_eq!((at_peak.sum.held_bytes, at_peak.sum.leaked_bytes), (r.peak_bytes, r.sum.leaked_bytes));
        // The slow, obvious twin of the peak: stop at that instant.
        let at = HeapAt::Ns(r.peak_at_ns as i64);
        let there = report(trace, HeapOptions { at, ..HeapOptions::default() });
        assert_eq!(there.sum.held_bytes, r.peak_bytes);
        let held = |r: &HeapReport| {
            let mut all: Vec<_> =
                r.entries.iter().map(|e| (e.pcs.clone(), e.sums.held_bytes, e.sums.held_blocks)).collect();
            all.sort();
            all
        };
        assert_eq!(held(&there), held(&at_peak));
        let begin = report(trace, HeapOptions { at: HeapAt::Ns(0), ..HeapOptions::default() });
        assert!(begin.sum.held_bytes < 1_000, "{:?}", begin.sum);
        // What came after the peak and stayed: what is labelled, and no leak of before.
        let since = HeapOptions { since_ns: Some(r.peak_at_ns as i64), ..HeapOptions::default() };
        let since = report(trace, since);
        assert_eq!(
            (of(&since, "exact::leaks").sums.held_bytes, of(&since, "exact::labelled").sums.held_bytes),
            (0, 5_321)
        );
    }

    fn by(trace: &[u8]) {
        let held = |by, name: &str| {
            let r = report(trace, HeapOptions { by, ..HeapOptions::default() });
            let total: u64 = r.entries.iter().map(|e| e.sums.total_bytes).sum();
            assert_eq!(total, r.sum.total_bytes, "{by:?}");
            r.entries.into_iter().find(|e| e.name == name).unwrap_or_else(|| panic!("{by:?}: no {name}")).sums
        };
        assert_eq!(held(HeapBy::Label, "cache").held_bytes, 5_020);
        assert_eq!(held(HeapBy::Label, "index").held_bytes, 300);
        assert_eq!(held(HeapBy::Region, "parse").held_bytes, 5_321);
        assert_eq!(held(HeapBy::Task, "import").held_bytes, 5_321);
        assert_eq!(held(HeapBy::Thread, "churner").temporary_blocks, 10_000);
        assert_eq!(held(HeapBy::Size, "<= 1048576").total_blocks, 20);
        assert!(held(HeapBy::Size, "<= 64").total_blocks >= 10_000);
    }
}

/// Each recorded operation.
fn each(trace: &[u8], mut f: impl FnMut(AllocationKind)) {
    let mut reader = Reader::new(trace).expect("a trace");
    let mut last = None;
    while let Some(block) = reader.next_block().expect("whole") {
        let generation = block.generation();
        if last.replace(generation.number()) == Some(generation.number()) {
            continue;
        }
        for section in generation.sections() {
            if let Private::Allocations(batch) = section.expect("a section").content {
                batch.records().for_each(|r| f(r.expect("a record").kind));
            }
        }
    }
}

mod sampled {
    use super::*;

    const INTERVAL: u64 = 4 << 10;
    const SEEDS: u64 = 40;

    /// One size a function, so that each has a stack of its own: some below the interval, one near, one above.
    macro_rules! keeps {
        ($name:ident, $blocks:expr, $block:expr) => {
            #[inline(never)]
            fn $name() -> Vec<Raw> {
                let mut all = Vec::with_capacity($blocks);
                for _ in 0..$blocks {
                    all.push(black_box($block));
                }
                all
            }
        };
    }
    keeps!(keeps_small, 50_000, Raw::new(32, 1));
    keeps!(keeps_some, 2_000, Raw::new(1_000, 1));
    keeps!(keeps_large, 1_000, Raw::new(5_000, 1));
    keeps!(keeps_grown, 800, {
        let mut b = Raw::new(500, 1);
        b.resize(3_000);
        b
    });
    keeps!(frees, 20_000, Raw::new(100, 1));

    /// Estimates of (bytes, blocks) over all seeds against the truth, in units of the standard error.
    fn check(what: &str, size: u64, blocks: u64, got: &[(f64, f64)]) {
        let taken = 1.0 - (-(size as f64) / INTERVAL as f64).exp();
        // Each block is in the sample by itself: the variance of the estimated number is n (1 - p) / p.
        let error = (blocks as f64 * (1.0 - taken) / taken / got.len() as f64).sqrt();
        let mean = got.iter().map(|g| g.1).sum::<f64>() / got.len() as f64;
        let off = (mean - blocks as f64) / error.max(1e-9);
        assert!(off.abs() < 4.5, "{what}: {mean:.1} blocks for {blocks}, {off:.1} standard errors off");
        let bytes = got.iter().map(|g| g.0).sum::<f64>() / got.len() as f64;
        assert!((bytes / (mean * size as f64) - 1.0).abs() < 0.01, "{what}: {bytes} bytes for {mean} blocks of {size}");
        // It spreads as it should: neither fixed by something, nor wilder.
        let spread = (got.iter().map(|g| (g.1 - mean).powi(2)).sum::<f64>() / (got.len() - 1) as f64).sqrt();
        let expected = error * (got.len() as f64).sqrt();
        assert!(
            spread > expected * 0.5 && spread < expected * 1.8,
            "{what}: spread {spread:.1}, expected {expected:.1}"
        );
    }

    pub fn all() {
        let mut got: [Vec<(f64, f64)>; 4] = Default::default();
        for seed in 0..SEEDS {
            let sink = guest::Memory::with_capacity(16 << 20);
            tracer(Allocations::Sampled { every_bytes: INTERVAL }).start(sink.clone()).expect("start");
            let held = [keeps_small(), keeps_some(), keeps_large(), keeps_grown()];
            drop(black_box(frees()));
            exectrace::flush();
            let stats = exectrace::stop().expect("stop");
            assert_eq!(stats.lost_allocations, 0);
            let r = report(&sink.bytes(), HeapOptions::default());
            assert_eq!(r.interval_bytes, Some(INTERVAL));
            for (got, func) in got.iter_mut().zip(["keeps_small", "keeps_some", "keeps_large", "keeps_grown"]) {
                let sums = of(&r, func).sums;
                got.push((sums.leaked_bytes as f64, sums.leaked_blocks as f64));
            }
            // The frees of a sample are all there: nothing of what was freed is alive.
            let freed = of(&r, "sampled::frees").sums;
            assert!(freed.total_blocks > 10_000 && freed.leaked_blocks == 0, "{freed:?}");
            drop(black_box((held, seed)));
        }
        check("32 bytes", 32, 50_000, &got[0]);
        check("1000 bytes", 1000, 2_000, &got[1]);
        check("5000 bytes", 5000, 1_000, &got[2]);
        check("3000 bytes, grown", 3000, 800, &got[3]);
    }

    /// With several threads that free what others allocated: when all is freed, nothing of the sample is alive.
    pub fn freed() {
        let sink = guest::Memory::with_capacity(64 << 20);
        tracer(Allocations::Sampled { every_bytes: 300 }).start(sink.clone()).expect("start");
        let (to, from) = mpsc::channel::<Raw>();
        let makers: Vec<_> = (0..3)
            .map(|i| {
                let to = to.clone();
                thread::spawn(move || {
                    for k in 0..20_000 {
                        let mut b = makes_some(i, k);
                        if k % 3 == 0 {
                            b.resize(k % 700 + 1);
                        }
                        if k % 2 == 0 { drop(b) } else { to.send(b).expect("send") }
                    }
                })
            })
            .collect();
        drop(to);
        from.into_iter().for_each(drop);
        makers.into_iter().for_each(|t| t.join().expect("join"));
        exectrace::flush();
        assert_eq!(exectrace::stop().expect("stop").lost_allocations, 0);
        let r = report(&sink.bytes(), HeapOptions::default());
        let s = of(&r, "sampled::makes_some").sums;
        assert_eq!((s.leaked_bytes, s.leaked_blocks), (0, 0));
        assert!(s.total_blocks.abs_diff(60_000) < 3_000, "{s:?}");
        assert_eq!(r.unknown_frees, 0);
    }

    #[inline(never)]
    fn makes_some(i: usize, k: usize) -> Raw {
        black_box(Raw::new(i * 100 + k % 300 + 1, 8))
    }
}

/// The command says what the library says.
mod cli {
    use super::*;
    use std::path::PathBuf;
    use std::process::Command;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            // What stays behind is in the system's own directory for that.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    pub fn all(trace: &[u8], r: &HeapReport) {
        let dir = Scratch(std::env::temp_dir().join(format!("exectrace-heap-{}", std::process::id())));
        std::fs::create_dir_all(&dir.0).expect("a directory");
        let file = dir.0.join("app.trace");
        std::fs::write(&file, trace).expect("a file");
        let ask = |args: &[&str]| {
            let out =
                Command::new(env!("CARGO_BIN_EXE_exectrace")).arg("heap").arg(&file).args(args).output().expect("run");
            let error = String::from_utf8_lossy(&out.stderr).into_owned();
            (out.status.code(), String::from_utf8(out.stdout).expect("text"), error)
        };
        let (code, text, error) = ask(&["--json"]);
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let json: HeapReport = serde_json::from_str(&text).expect("json");
        assert_eq!(&json, r);

        let (code, text, _) = ask(&["--at", "peak", "--top", "1"]);
        assert_eq!(code, Some(0));
        assert!(
            text.contains("all allocations") && text.contains("zeroed (heap_recorded.rs:") && text.contains("... and "),
            "{text}"
        );
        let (_, text, _) = ask(&["--sort", "temporary", "--top", "30", "--stacks"]);
        assert!(text.contains("heap_recorded::exact::churns (heap_recorded.rs:"), "{text}");
        let (_, text, _) = ask(&["--by", "label"]);
        assert!(text.lines().any(|l| l.ends_with("  cache") && l.contains("4.90 KiB")), "{text}");

        let (_, text, _) = ask(&["--tree", "down", "--at", "peak", "--least", "5"]);
        let mut lines = text.lines();
        assert!(lines.next().is_some_and(|l| l.contains("held at the peak")), "{text}");
        assert!(lines.next().is_some_and(|l| l.contains("100.0 %") && l.ends_with("  all")), "{text}");
        assert!(text.contains("exact::peaks") && !text.contains("exact::leaks"), "{text}");
        let (_, text, _) = ask(&["--tree", "up", "--sort", "total", "--least", "0", "--json"]);
        let tree: TreeNode = serde_json::from_str(&text).expect("json");
        assert_eq!(tree.weight, tree.children.iter().map(|c| c.weight).sum::<u64>() + tree.own);
        assert!(tree.weight <= r.sum.total_bytes && tree.weight > r.sum.total_bytes / 2);
        let (_, text, _) = ask(&["--histograms"]);
        assert!(
            text.contains("blocks by size") && text.contains("<= 64 B") && text.contains("how long they lived"),
            "{text}"
        );
        assert_eq!(
            r.size_buckets.iter().map(|b| (b.bytes, b.blocks)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            (r.sum.total_bytes, r.sum.total_blocks)
        );
        assert_eq!(r.lifetime_buckets.iter().map(|b| b.blocks).sum::<u64>(), r.lifetimes.count);
        assert_eq!(r.sum.total_bytes - r.sum.leaked_bytes, r.lifetime_buckets.iter().map(|b| b.bytes).sum::<u64>());

        let (_, text, _) = ask(&["--folded", "--at", "peak"]);
        let weight = |line: &str| line.rsplit_once(' ').expect("a weight").1.parse::<u64>().expect("a number");
        assert_eq!(text.lines().map(weight).sum::<u64>(), r.peak_bytes);
        let (svg, pb) = (dir.0.join("peak.svg"), dir.0.join("heap.pb.gz"));
        let path = |p: &PathBuf| p.to_str().expect("a path").to_owned();
        let (code, text, _) = ask(&["--at", "peak", "--flame", &path(&svg), "--pprof", &path(&pb)]);
        assert_eq!((code, text.as_str()), (Some(0), ""));
        let svg = std::fs::read_to_string(svg).expect("a picture");
        assert!(svg.contains(&format!("<title>all: {} bytes, 100.00 %</title>", r.peak_bytes)));
        profile(&std::fs::read(&pb).expect("a profile"), r);

        // Go's own tools take the records for what they skip, in the whole trace and in parts of it.
        if let Some(judge) = support::judge::Judge::find() {
            judge.accept(&file);
            assert!(judge.accept_windows(&file, 6, support::batch::Depth::All) > 0);
        }

        for (args, complaint) in [
            (&["--at", "peak", "--since", "1s"][..], "--since cannot be had for the peak"),
            (&["--at", "1s", "--since", "2s"], "--since is later than --at"),
            (&["--by", "label", "--folded"], "about stacks"),
            (&["--at", "soon"], "`peak`"),
        ] {
            let (code, _, error) = ask(args);
            assert!(code == Some(2) && error.contains(complaint), "{args:?}: {error}");
        }
    }

    fn profile(file: &[u8], r: &HeapReport) {
        let p = pprof::decode(file);
        let types: Vec<_> = p.types.iter().map(|(kind, unit)| format!("{kind}/{unit}")).collect();
        assert_eq!(types, ["alloc_objects/count", "alloc_space/bytes", "inuse_objects/count", "inuse_space/bytes"]);
        let sum = |i: usize| p.samples.values().map(|values| values[i] as u64).sum::<u64>();
        assert_eq!([sum(0), sum(1)], [r.sum.total_blocks, r.sum.total_bytes]);
        assert_eq!([sum(2), sum(3)], [r.sum.peak_blocks, r.sum.peak_bytes]);
        let churned = p.samples.iter().filter(|(stack, _)| stack.iter().any(|f| f.0.contains("exact::churns")));
        assert!(churned.map(|(_, v)| v[0]).sum::<i64>() >= 10_000);
    }
}

mod losses {
    use super::*;
    use std::io::{self, Write};

    /// Takes its time.
    struct Slow(guest::Memory, Duration);

    impl Write for Slow {
        fn write(&mut self, b: &[u8]) -> io::Result<usize> {
            let begin = std::time::Instant::now();
            while begin.elapsed() < self.1 {
                thread::yield_now();
            }
            self.0.write(b)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    const BLOCKS: u64 = 1_000_000;

    #[inline(never)]
    fn many() {
        for i in 0..BLOCKS {
            drop(black_box(Raw::new(i as usize % 1000 + 1, 8)));
        }
    }

    fn run(wait: Duration, takes: Duration) -> (u64, u64) {
        let sink = guest::Memory::with_capacity(64 << 20);
        let tracer = tracer(Allocations::All).buffer_bytes(1 << 20).back_pressure(wait);
        tracer.start(Slow(sink.clone(), takes)).expect("start");
        many();
        let stats = exectrace::stop().expect("stop");
        let r = report(&sink.bytes(), HeapOptions::default());
        assert_eq!(r.lost, stats.lost_allocations, "the trace says what was lost");
        let mut recorded = 0;
        each(&sink.bytes(), |_| recorded += 1);
        assert_eq!(recorded, r.records);
        (recorded, stats.lost_allocations)
    }

    /// What a slow sink costs is counted to the last operation.
    pub fn none_is_silent() {
        let (recorded, lost) = run(Duration::ZERO, Duration::from_millis(200));
        assert!(lost > 0, "the sink was fast enough");
        assert!((2 * BLOCKS..2 * BLOCKS + 200).contains(&(recorded + lost)), "{recorded} recorded, {lost} lost");
    }

    /// The same sink, and nothing is lost.
    pub fn back_pressure() {
        let (recorded, lost) = run(Duration::from_secs(60), Duration::from_millis(20));
        assert_eq!(lost, 0);
        assert!((2 * BLOCKS..2 * BLOCKS + 200).contains(&recorded), "{recorded} recorded");
    }
}
