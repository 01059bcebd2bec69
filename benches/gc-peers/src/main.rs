//! The GC heap beside other collectors: gc-arena, boa_gc, dumpster, Go, Boehm's, MMTk's, and beside
//! `Box` and a bump allocator as the limits of what is possible. The same programs for all, each written as the
//! contender's users would write it; answers must agree.
//!
//! Each run is a process of its own, so that memory is each one's; contenders take turns. The figures: CPU time and wall
//! time of the process (medians of the rounds, with the spread of the first), the ratio to the heap's default mode, peak
//! resident memory, and, by the program's own looks at the clock (`watch`), the longest stop and the least share of any
//! 1 ms and 10 ms that was left to the program (MMU). Stops are of the thread's own time, so that a busy machine
//! does not show; but Go's and MMTk's are of the wall, since there the collector's threads do the work or take the processor
//! away.
//!
//! Go is found at `EXECTRACE_GO` or in the path, Boehm's library by the C compiler, MMTk's program (`--bin mmtk`) beside
//! this one: whichever is not there is left out.
//!
//! `cargo build --release --manifest-path benches/gc-peers/Cargo.toml`, then
//! `cargo run --release --manifest-path benches/gc-peers/Cargo.toml [-- PROGRAM[,PROGRAM...] [CONTENDER[,CONTENDER...]]]`
//! with `ROUNDS` (5), `LIMIT_SECONDS` (60, for one run), and `EXECTRACE_RESULTS`, a file that the rows are added to.

mod boa_peer;
mod dumpster_peer;
mod gc_arena_peer;
mod limits;
mod ours;
mod watch;
mod work;

use exectrace::gc::{Config, Mode};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use watch::Stop;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROGRAMS: &[&str] = &["bt16", "bt18", "bt20", "gb18", "gb20", "gb22", "lru", "vecs", "lists", "wide", "strings"];

/// The base of the ratios.
const BASE: &str = "incremental";
const CONTENDERS: &[&str] = &[
    BASE,
    "stop-the-world",
    "generational",
    "gc-arena",
    "boa_gc",
    "dumpster",
    "Go, 1 proc",
    "Go, 2 procs",
    "Boehm",
    "MMTk Immix",
    "MMTk StickyImmix",
    "MMTk MarkSweep",
    "Box/Rc",
    "bumpalo",
];

/// Runs one program in this process.
fn run(contender: &str, program: &str) -> Option<u64> {
    let mode = |mode| ours::run(program, Config::new().mode(mode));
    match contender {
        "incremental" => mode(Mode::Incremental),
        "stop-the-world" => mode(Mode::StopTheWorld),
        "generational" => mode(Mode::Generational),
        "gc-arena" => gc_arena_peer::run(program),
        "boa_gc" => boa_peer::run(program),
        "dumpster" => dumpster_peer::run(program),
        "Box/Rc" => limits::owned(program),
        "bumpalo" => limits::bump(program),
        _ => None,
    }
}

struct Run {
    answer: u64,
    cpu_ms: f64,
    wall_ms: f64,
    peak_mib: f64,
    longest_ms: f64,
    mmu_1ms: f64,
    mmu_10ms: f64,
}

impl Run {
    fn parse(text: &str, by_wall: bool) -> Option<Run> {
        let mut lines = text.lines().map(|l| l.split(' ').map(|n| n.parse().expect("a number")).collect::<Vec<u64>>());
        let head = lines.next()?;
        let stops: Vec<Stop> = lines.map(|l| Stop { end: l[0], wall: l[1], cpu: l[2] }).collect();
        let stops: Vec<_> = stops.iter().map(|s| (s.end, if by_wall { s.wall } else { s.cpu })).collect();
        let mmu = |window| mmu(&stops, head[2], window);
        Some(Run {
            answer: head[0],
            cpu_ms: head[1] as f64 / 1e6,
            wall_ms: head[2] as f64 / 1e6,
            peak_mib: head[3] as f64 / 1024.0,
            longest_ms: stops.iter().map(|s| s.1).max().unwrap_or(0) as f64 / 1e6,
            mmu_1ms: mmu(1_000_000),
            mmu_10ms: mmu(10_000_000),
        })
    }
}

/// The least share of a window of this length that is not stops, given as (end, length). The worst window begins with a
/// stop or ends with one.
fn mmu(stops: &[(u64, u64)], total: u64, window: u64) -> f64 {
    let mut sums = vec![0];
    for s in stops {
        sums.push(sums[sums.len() - 1] + s.1);
    }
    // The time in stops before a moment.
    let stopped = |at: u64| {
        let i = stops.partition_point(|s| s.0 <= at);
        sums[i] + stops.get(i).map_or(0, |(end, len)| (at + len).saturating_sub(*end))
    };
    let worst = stops
        .iter()
        .flat_map(|(end, len)| [end - len, end.saturating_sub(window)])
        .filter(|from| from + window <= total)
        .map(|from| stopped(from + window) - stopped(from))
        .max();
    1.0 - worst.unwrap_or(0) as f64 / window as f64
}

/// The command of a contender, if it is to be had.
fn command(contender: &str, program: &str, built: &Built) -> Option<Command> {
    let mut command = match contender {
        "Go, 1 proc" | "Go, 2 procs" => {
            let mut c = Command::new(built.go.as_ref()?);
            c.env("GOMAXPROCS", &contender[4..5]).env("GOGC", "100");
            c
        }
        "Boehm" => {
            let mut c = Command::new(built.boehm.as_ref()?);
            c.env("GC_MARKERS", "1");
            c
        }
        "MMTk Immix" | "MMTk StickyImmix" | "MMTk MarkSweep" => {
            let beside = std::env::current_exe().expect("this program has a path").with_file_name("mmtk");
            let mut c = Command::new(beside.exists().then_some(beside)?);
            c.arg(contender.strip_prefix("MMTk ")?);
            c
        }
        _ => {
            let mut c = Command::new(std::env::current_exe().expect("this program has a path"));
            c.args(["child", contender]);
            c
        }
    };
    command.arg(program).stdin(Stdio::null()).stderr(Stdio::null());
    Some(command)
}

/// Runs a program once. `Ok(None)` if the contender has not got it, an error if it did not end well.
fn one(mut command: Command, limit: Duration, by_wall: bool) -> Result<Option<Run>, String> {
    let out = std::env::temp_dir().join(format!("gc-peers-{}", std::process::id()));
    let file = fs::File::create(&out).map_err(|e| e.to_string())?;
    let mut child = command.stdout(file).spawn().map_err(|e| e.to_string())?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break status;
        }
        if begin.elapsed() > limit {
            child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
            return Err(format!("more than {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !status.success() {
        return Err(format!("died: {status}"));
    }
    Ok(Run::parse(&fs::read_to_string(out).map_err(|e| e.to_string())?, by_wall))
}

/// The programs in other languages.
struct Built {
    go: Option<PathBuf>,
    boehm: Option<PathBuf>,
}

impl Built {
    fn new() -> Built {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let to = std::env::temp_dir();
        let go = std::env::var_os("EXECTRACE_GO").unwrap_or_else(|| "go".into());
        let build = |name: &str, command: &mut Command| {
            let built = command.status().is_ok_and(|s| s.success());
            built.then(|| to.join(name)).or_else(|| {
                println!("{name}: not to be had here");
                None
            })
        };
        let mut go = Command::new(go);
        go.current_dir(here.join("go"))
            .env("GOTOOLCHAIN", "local")
            .args(["build", "-o"])
            .arg(to.join("gc-peers-go"))
            .arg("main.go");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-o"]).arg(to.join("gc-peers-boehm")).arg(here.join("c/boehm.c")).arg("-lgc");
        Built { go: build("gc-peers-go", &mut go), boehm: build("gc-peers-boehm", &mut cc) }
    }
}

/// Whether a contender's collector works on threads of its own, so that stops are to be taken by the wall.
fn has_threads(contender: &str) -> bool {
    contender.starts_with("Go") || contender.starts_with("MMTk")
}

/// What came of a contender's rounds.
struct Row {
    contender: &'static str,
    runs: Vec<Run>,
    failure: Option<String>,
}

/// The middle of some figures, with the least and the most.
fn spread(runs: &[Run], f: impl Fn(&Run) -> f64) -> (f64, f64, f64) {
    let mut v: Vec<_> = runs.iter().map(f).collect();
    v.sort_by(f64::total_cmp);
    (v[v.len() / 2], v[0], v[v.len() - 1])
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [first, contender, program] = &args[..]
        && first == "child"
    {
        return watch::child(|| run(contender, program));
    }
    let picked = |i: usize, name: &str| {
        args.get(i).is_none_or(|list| list.split(',').any(|part| part == "all" || name.contains(part)))
    };
    let (rounds, limit) = (number("ROUNDS", 5), Duration::from_secs(number("LIMIT_SECONDS", 60)));
    let built = Built::new();
    for program in PROGRAMS.iter().filter(|p| picked(0, p)) {
        let names = CONTENDERS.iter().filter(|c| **c == BASE || picked(1, c));
        let mut rows: Vec<_> = names.map(|contender| Row { contender, runs: Vec::new(), failure: None }).collect();
        for _ in 0..rounds {
            for row in rows.iter_mut().filter(|r| r.failure.is_none()) {
                let Some(command) = command(row.contender, program, &built) else { continue };
                match one(command, limit, has_threads(row.contender)) {
                    Ok(run) => row.runs.extend(run),
                    Err(e) => row.failure = Some(e),
                }
            }
        }
        let answer = rows[0].runs[0].answer;
        let base = spread(&rows[0].runs, |r| r.cpu_ms).0;
        println!(
            "{program:<8}                  CPU ms (least..most)         x   wall ms   peak MiB  longest ms   MMU 1 ms  10 ms"
        );
        for row in &rows {
            show(program, row, base);
            assert!(row.runs.iter().all(|r| r.answer == answer), "{program} {}", row.contender);
        }
    }
}

fn show(program: &str, row: &Row, base: f64) {
    let name = row.contender;
    let mut csv = String::new();
    if let Some(failure) = &row.failure {
        println!("{program:<8} {name:<16} {failure}");
        csv = format!("{program},\"{name}\",,,,,,,,,,\"{failure}\"\n");
    } else if !row.runs.is_empty() {
        let (cpu, least, most) = spread(&row.runs, |r| r.cpu_ms);
        let wall = spread(&row.runs, |r| r.wall_ms).0;
        let peak = spread(&row.runs, |r| r.peak_mib).0;
        let longest = spread(&row.runs, |r| r.longest_ms).0;
        let (mmu_1, mmu_10) = (spread(&row.runs, |r| r.mmu_1ms).0, spread(&row.runs, |r| r.mmu_10ms).0);
        let range = format!("({least:.0}..{most:.0})");
        println!(
            "{program:<8} {name:<16} {cpu:>8.1} {range:<16} {:>6.2} {wall:>9.1} {peak:>10.1} {longest:>11.3} {:>9.0}% {:>5.0}%",
            cpu / base,
            mmu_1 * 100.0,
            mmu_10 * 100.0
        );
        csv = format!(
            "{program},\"{name}\",{cpu:.1},{least:.1},{most:.1},{:.2},{wall:.1},{peak:.1},{longest:.3},{mmu_1:.3},{mmu_10:.3},\n",
            cpu / base
        );
    }
    if let Some(path) = std::env::var_os("EXECTRACE_RESULTS") {
        let new = !Path::new(&path).exists();
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the results can be written");
        let head =
            "program,contender,cpu ms,least,most,ratio,wall ms,peak MiB,longest stop ms,mmu 1 ms,mmu 10 ms,failure\n";
        file.write_all(if new { head.as_bytes() } else { b"" }).expect("the results can be written");
        file.write_all(csv.as_bytes()).expect("the results can be written");
    }
}
