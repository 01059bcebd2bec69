//! Who holds the heap, by three tools: ours, heaptrack and valgrind's dhat, of the same program, to the byte.
//!
//! The program is this one, in a role of its own: it leaks, comes to a peak in two functions, churns, and comes to a lower peak. The other
//! tools are asked where they are installed; where they are not, the test says so and compares with what the program does by plan.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use exectrace::analyze::{HeapAt, HeapOptions, heap};
use exectrace::read::Reader;
use exectrace::{Allocations, Tracer};

/// Over the system's allocator, whose functions the other tools see.
#[global_allocator]
static ALLOC: exectrace::Alloc<std::alloc::System> = exectrace::Alloc::with(std::alloc::System);

#[inline(never)]
fn leaks() {
    for i in 0..200 {
        std::mem::forget(black_box(Vec::<u8>::with_capacity(1000 + i)));
    }
}

#[inline(never)]
fn peaks_outside() {
    let all: [Vec<u8>; 50] = std::array::from_fn(|_| Vec::with_capacity(100_000));
    peaks_inside();
    drop(black_box(all));
}

#[inline(never)]
fn peaks_inside() {
    let all: [Vec<u8>; 30] = std::array::from_fn(|i| Vec::with_capacity(50_000 + i));
    drop(black_box(all));
}

#[inline(never)]
fn churns() {
    for i in 0..20_000 {
        drop(black_box(Vec::<u8>::with_capacity(16 + i % 100)));
    }
}

#[inline(never)]
fn rises_again() {
    let all: [Vec<u8>; 10] = std::array::from_fn(|_| Vec::with_capacity(200_000));
    drop(black_box(all));
}

#[inline(never)]
fn work() {
    leaks();
    churns();
    peaks_outside();
    churns();
    rises_again();
}

const FUNCTIONS: [&str; 5] = ["leaks", "peaks_outside", "peaks_inside", "churns", "rises_again"];

/// What a function has; what it calls counts as its own only where that has no name here. `None` where a tool does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    total_blocks: Option<u64>,
    total_bytes: Option<u64>,
    peak_bytes: Option<u64>,
    peak_blocks: Option<u64>,
    leaked_bytes: Option<u64>,
}

type Answer = BTreeMap<&'static str, Held>;

/// The innermost of our functions on a stack, leaf first.
fn function<'a>(stack: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    // heaptrack leaves the path out, and tells the file.
    let is = |frame: &str, f: &str| {
        frame.contains(&format!("heap_rivals::{f}")) || frame.starts_with(&format!("{f} (heap_rivals.rs"))
    };
    let named = |frame: &str| FUNCTIONS.iter().find(|f| is(frame, f)).copied();
    stack.into_iter().find_map(named)
}

fn add(to: &mut Option<u64>, n: u64) {
    *to = Some(to.unwrap_or(0) + n);
}

fn planned() -> Answer {
    let sum = |n: u64| n * (n - 1) / 2;
    let churned = 2 * (20_000 * 16 + 200 * sum(100));
    let of = |total_blocks, total_bytes, peak_blocks, peak_bytes, leaked_bytes| Held {
        total_blocks: Some(total_blocks),
        total_bytes: Some(total_bytes),
        peak_bytes: Some(peak_bytes),
        peak_blocks: Some(peak_blocks),
        leaked_bytes: Some(leaked_bytes),
    };
    let leaked = 200_000 + sum(200);
    let inside = 30 * 50_000 + sum(30);
    BTreeMap::from([
        ("leaks", of(200, leaked, 200, leaked, leaked)),
        ("peaks_outside", of(50, 5_000_000, 50, 5_000_000, 0)),
        ("peaks_inside", of(30, inside, 30, inside, 0)),
        ("churns", of(40_000, churned, 0, 0, 0)),
        ("rises_again", of(10, 2_000_000, 0, 0, 0)),
    ])
}

fn ours(trace: &[u8]) -> Answer {
    let options = HeapOptions { at: HeapAt::Peak, ..HeapOptions::default() };
    let report = heap(&mut Reader::new(trace).expect("a trace"), &options);
    assert_eq!((&report.damage, report.lost), (&None, 0));
    let mut answer = Answer::new();
    for e in &report.entries {
        let Some(f) = function(e.stack.iter().map(|f| f.func.as_str())) else { continue };
        let held = answer.entry(f).or_default();
        add(&mut held.total_blocks, e.sums.total_blocks);
        add(&mut held.total_bytes, e.sums.total_bytes);
        add(&mut held.peak_bytes, e.sums.peak_bytes);
        add(&mut held.peak_blocks, e.sums.peak_blocks);
        add(&mut held.leaked_bytes, e.sums.leaked_bytes);
    }
    answer
}

/// Whether a program is there to be run.
fn is_installed(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        println!("heap_rivals: {tool} is not installed, so it is not asked");
    }
    there
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("this program")
}

fn run(command: &mut Command) -> String {
    let out = command.output().expect("run");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn dhat(dir: &Path) -> Option<Answer> {
    if !is_installed("valgrind") {
        return None;
    }
    let out = dir.join("dhat.json");
    let file = format!("--dhat-out-file={}", out.display());
    run(Command::new("valgrind").args(["--tool=dhat", "--num-callers=40", &file]).arg(this_program()).arg("work"));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out).expect("its output")).expect("what it says is JSON");
    let frames: Vec<&str> = json["ftbl"].as_array().expect("frames").iter().filter_map(|f| f.as_str()).collect();
    let mut answer = Answer::new();
    for point in json["pps"].as_array().expect("points") {
        let stack = point["fs"].as_array().expect("a stack").iter();
        let Some(f) = function(stack.map(|i| frames[i.as_u64().expect("a frame") as usize])) else { continue };
        let held = answer.entry(f).or_default();
        let number = |key: &str| point[key].as_u64().expect("a number");
        add(&mut held.total_blocks, number("tbk"));
        add(&mut held.total_bytes, number("tb"));
        add(&mut held.peak_bytes, number("gb"));
        add(&mut held.peak_blocks, number("gbk"));
        add(&mut held.leaked_bytes, number("eb"));
    }
    Some(answer)
}

fn heaptrack(dir: &Path) -> Option<Answer> {
    if !is_installed("heaptrack") || !is_installed("heaptrack_print") {
        return None;
    }
    let out = dir.join("heaptrack");
    run(Command::new("heaptrack").arg("--output").arg(&out).arg(this_program()).arg("work"));
    let file = ["zst", "gz"].map(|e| out.with_extension(e)).into_iter().find(|f| f.exists()).expect("its output");
    let mut answer = Answer::new();
    for kind in ["allocations", "peak", "leaked"] {
        let folded = dir.join(kind);
        let mut print = Command::new("heaptrack_print");
        run(print.arg("-f").arg(&file).arg("-F").arg(&folded).args(["--flamegraph-cost-type", kind]));
        for line in std::fs::read_to_string(folded).expect("folded lines").lines() {
            let Some((stack, n)) = line.rsplit_once(' ') else { continue };
            let Some(f) = function(stack.split(';').rev()) else { continue };
            let held = answer.entry(f).or_default();
            let n = n.parse().expect("a number");
            match kind {
                "allocations" => add(&mut held.total_blocks, n),
                "peak" => add(&mut held.peak_bytes, n),
                _ => add(&mut held.leaked_bytes, n),
            }
        }
    }
    Some(answer)
}

/// Where a tool tells something it has to be the same; what it does not name it has none of.
fn check(tool: &str, answer: &Answer) {
    let all: Vec<&Held> = answer.values().collect();
    let tells = |of: fn(&Held) -> Option<u64>| all.iter().any(|h| of(h).is_some());
    type Figure = (&'static str, fn(&Held) -> Option<u64>);
    let figures: [Figure; 5] = [
        ("blocks in total", |h| h.total_blocks),
        ("bytes in total", |h| h.total_bytes),
        ("bytes at the peak", |h| h.peak_bytes),
        ("blocks at the peak", |h| h.peak_blocks),
        ("bytes leaked", |h| h.leaked_bytes),
    ];
    let mut compared = 0;
    for (what, figure) in figures.into_iter().filter(|(_, f)| tells(*f)) {
        for (name, planned) in planned() {
            let got = answer.get(name).and_then(figure).unwrap_or(0);
            assert_eq!(Some(got), figure(&planned), "{tool}: {name}, {what}");
            compared += 1;
        }
    }
    println!("heap_rivals: {tool} agrees in {compared} figures");
    assert!(compared >= 15, "{tool}: {answer:?}");
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("work") => return work(),
        Some("traced") => {
            let file = std::fs::File::create(std::env::args().nth(2).expect("a path")).expect("a file");
            Tracer::new().allocations(Allocations::All).cpu_sample_hz(0).start(file).expect("start");
            work();
            assert_eq!(exectrace::stop().expect("stop").lost_allocations, 0);
            return;
        }
        _ => {}
    }
    let dir = std::env::temp_dir().join(format!("exectrace-rivals-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let trace = dir.join("trace");
    run(Command::new(this_program()).arg("traced").arg(&trace));
    check("exectrace", &ours(&std::fs::read(&trace).expect("a trace")));
    for (tool, answer) in [("dhat", dhat(&dir)), ("heaptrack", heaptrack(&dir))] {
        if let Some(answer) = answer {
            check(tool, &answer);
        }
    }
    std::fs::remove_dir_all(dir).expect("removed");
    println!("heap_rivals: ok");
}
