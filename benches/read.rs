//! How fast traces are read, with Go's figures for the same file in the same run.
//!
//! ```sh
//! EXECTRACE_GO=.../bin/go cargo bench --bench read              # makes a trace of about 9 s with Go (benches/go/busy.go)
//! cargo bench --bench read -- --trace large.trace --csv out.csv # a trace of yours; rows to a file
//! cargo bench --bench read -- --only answers                    # `reading`, `answers` or `printing` alone
//! ```
//! `EXECTRACE_TRACE` and `EXECTRACE_RESULTS` in the environment do the same as `--trace` and `--csv`.
//!
//! Rivals of the reading: the ordered reader of Go's own `internal/trace`, built into a program that only counts events, and
//! `go tool trace -d=footprint` (which neither orders nor validates). Of `profile sync`: `go tool trace -pprof=sync`. Of
//! printing: `-d=parsed` and `-d=wire`. Each is run five times, turn and turn about with ours; the median counts, the spread
//! is shown, and every run's answer (its number of events, its sum of waits, or its output) is checked against the others'.
//! Where Go takes minutes for a large trace, or more memory than machines have, it gets one of about a second, three times.
//!
//! Beside the time on the wall stands the processor time of all threads, which says more on a machine that others use too.
//!
//! Without Go there is a made-up trace, and no rival.

use exectrace::format::{Kind, Version, varint};
use exectrace::read::Reader;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often each is run; an odd number, so that there is a median.
const RUNS: usize = 5;
/// The same where Go takes long.
const RUNS_OF_SLOW: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, how, trace] = &args[..]
        && flag == "--here"
    {
        return read_here(how, trace);
    }
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).map(PathBuf::from);
    let or_env = |name: &str, var: &str| option(name).or_else(|| std::env::var_os(var).map(PathBuf::from));
    let only = option("--only");
    let wanted = |what: &str| only.as_ref().is_none_or(|o| o.as_os_str() == what);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench_read");
    std::fs::create_dir_all(&dir).expect("a directory");
    let go = Go::find(&dir);
    let large = or_env("--trace", "EXECTRACE_TRACE").unwrap_or_else(|| make(go.as_ref(), &dir, "large", "9s"));
    let small = make(go.as_ref(), &dir, "small", "1s");
    let mut table = Table::default();
    if wanted("reading") {
        reading(&mut table, &large, go.as_ref());
    }
    if wanted("answers") {
        answers(&mut table, &large, None);
        answers(&mut table, &small, go.as_ref());
    }
    if wanted("printing") {
        printing(&mut table, &small, go.as_ref());
    }
    print!("{}", table.text());
    if let Some(csv) = or_env("--csv", "EXECTRACE_RESULTS") {
        std::fs::write(&csv, table.csv()).expect("write");
    }
}

/// The ordered reading of a trace.
fn reading(table: &mut Table, trace: &Path, go: Option<&Go>) {
    let bytes = std::fs::metadata(trace).expect("a trace").len();
    let mut rivals: Vec<Rival<'_>> = vec![
        Rival::new("exectrace, 1 thread", || here("one", trace)),
        Rival::new("exectrace, reading ahead", || here("ahead", trace)),
        Rival::new("exectrace, threads", || here("threads", trace)),
        Rival::new("exectrace check", || {
            let run = run(Command::new(env!("CARGO_BIN_EXE_exectrace")).arg("check").arg(trace));
            let words = String::from_utf8_lossy(&run.head).into_owned();
            let events = words.split(" events").next().and_then(|w| w.rsplit(' ').next()).and_then(|n| n.parse().ok());
            Measured { answer: events.unwrap_or_else(|| panic!("{words}")), ..run }
        }),
    ];
    if let Some(go) = go {
        rivals.push(Rival::new("go, ordered reader", || {
            let run = run(Command::new(&go.order).arg(trace));
            let words = String::from_utf8_lossy(&run.head).into_owned();
            Measured { answer: words.split(' ').next().and_then(|n| n.parse().ok()).expect("a number"), ..run }
        }));
    }
    let events = compete(table, &format!("read {} MB", bytes / 1_000_000), None, RUNS, rivals);
    if let Some(go) = go {
        // Not the same work: neither ordered nor validated, and counted by events of the wire.
        let footprint = vec![Rival::new("go tool trace -d=footprint", || Measured {
            answer: 0,
            ..run(Command::new(&go.tool).arg("-d=footprint").arg(trace))
        })];
        compete(table, "    not ordered", Some(events), RUNS, footprint);
    }
}

/// The answers that people ask for: a summary, and the profile of waiting, whose sum Go's must equal.
fn answers(table: &mut Table, trace: &Path, go: Option<&Go>) {
    let mb = std::fs::metadata(trace).expect("a trace").len() / 1_000_000;
    let events = here("one", trace).answer;
    let ours = |args: &'static [&'static str]| {
        move || run(Command::new(env!("CARGO_BIN_EXE_exectrace")).args(args).arg(trace))
    };
    let summary = vec![Rival::new("exectrace", ours(&["summary"]))];
    compete(table, &format!("summary of {mb} MB"), Some(events), RUNS, summary);
    let Some(go) = go else {
        let profile = vec![Rival::new("exectrace", ours(&["profile", "sync"]))];
        compete(table, &format!("profile sync of {mb} MB"), Some(events), RUNS, profile);
        return;
    };
    // Both write a profile for pprof, compressed; its sum is asked of `go tool pprof`.
    let sum = |m: Measured| Measured { answer: go.sum(&m.head), ..m };
    let profile = vec![
        Rival::new("exectrace", || sum(ours(&["profile", "sync", "--pprof", "-"])())),
        Rival::new("go tool trace", || sum(run(Command::new(&go.tool).arg("-pprof=sync").arg(trace)))),
    ];
    compete(table, &format!("profile sync of {mb} MB"), Some(events), RUNS_OF_SLOW, profile);
}

/// Printing as Go does.
fn printing(table: &mut Table, trace: &Path, go: Option<&Go>) {
    let bytes = std::fs::metadata(trace).expect("a trace").len();
    let events = here("one", trace).answer;
    for (format, mode) in [("go", "parsed"), ("wire", "wire")] {
        let ours = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_exectrace"));
            command.args(["print", "--format", format]).arg(trace);
            command
        };
        let mut rivals = vec![Rival::new("exectrace", to_null(ours))];
        if let Some(go) = go {
            let theirs = || {
                let mut command = Command::new(&go.tool);
                command.env("TZ", "UTC").arg(format!("-d={mode}")).arg(trace);
                command
            };
            rivals.push(Rival::new("go tool trace", to_null(theirs)));
        }
        let what = format!("print {} MB, {mode}", bytes / 1_000_000);
        compete(table, &what, Some(events), RUNS_OF_SLOW, rivals);
    }
}

/// Runs of a command that prints much: what it prints is looked at once, and thrown away where time is measured, since a
/// reader of it would be slower than the command.
fn to_null(command: impl Fn() -> Command) -> impl Fn() -> Measured {
    let answer = std::cell::OnceCell::new();
    move || {
        let answer = *answer.get_or_init(|| run(&mut command()).answer);
        let start = Instant::now();
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
        let (ok, usage) = wait(&mut child);
        let time = start.elapsed();
        assert!(ok, "{:?} fails", command());
        Measured { time, cpu: cpu_of(&usage), answer, peak_kib: usage.ru_maxrss as u64, head: Vec::new() }
    }
}

/// What a run gave.
struct Measured {
    time: Duration,
    /// Of all threads, in user and system mode.
    cpu: Duration,
    /// What must be the same for all rivals: the number of events, or a hash of the output.
    answer: u64,
    /// The most memory in KiB; 0 where it is not known.
    peak_kib: u64,
    /// The first bytes of the output.
    head: Vec<u8>,
}

struct Rival<'a> {
    name: &'static str,
    run: Box<dyn Fn() -> Measured + 'a>,
}

impl<'a> Rival<'a> {
    fn new(name: &'static str, run: impl Fn() -> Measured + 'a) -> Rival<'a> {
        Rival { name, run: Box::new(run) }
    }
}

/// Runs all rivals in turn, some times over, and checks their answers against each other. Returns the answer.
fn compete(table: &mut Table, what: &str, events: Option<u64>, runs: usize, rivals: Vec<Rival<'_>>) -> u64 {
    let mut times = vec![Vec::new(); rivals.len()];
    let mut cpus = vec![Vec::new(); rivals.len()];
    let mut peaks = vec![0; rivals.len()];
    let mut answer = None;
    for _ in 0..runs {
        for (i, rival) in rivals.iter().enumerate() {
            let m = (rival.run)();
            assert_eq!(*answer.get_or_insert(m.answer), m.answer, "{what}: {} gives another answer", rival.name);
            times[i].push(m.time);
            cpus[i].push(m.cpu);
            peaks[i] = peaks[i].max(m.peak_kib);
        }
    }
    let answer = answer.unwrap_or(0);
    let (mut first, mut first_cpu) = (None, None);
    for (i, rival) in rivals.iter().enumerate() {
        times[i].sort();
        cpus[i].sort();
        let (median, cpu) = (times[i][runs / 2].as_secs_f64(), cpus[i][runs / 2].as_secs_f64());
        table.rows.push(Row {
            what: what.into(),
            name: rival.name,
            median,
            spread: (times[i][0].as_secs_f64(), times[i][runs - 1].as_secs_f64()),
            cpu,
            ratio: median / *first.get_or_insert(median),
            cpu_ratio: cpu / *first_cpu.get_or_insert(cpu),
            events: events.unwrap_or(answer),
            peak_kib: peaks[i],
            runs,
        });
    }
    answer
}

/// Reads a trace in a process of its own, this program run anew. What a process had in memory counts for its children too, so
/// this one must stay small.
fn here(how: &str, trace: &Path) -> Measured {
    let this = std::env::current_exe().expect("this program");
    let run = run(Command::new(this).arg("--here").arg(how).arg(trace));
    let words = String::from_utf8_lossy(&run.head).into_owned();
    Measured { answer: words.trim().parse().unwrap_or_else(|_| panic!("{words}")), ..run }
}

/// What that process does.
fn read_here(how: &str, trace: &str) {
    let file = File::open(trace).expect("a trace");
    let reader = match how {
        "threads" => Reader::threaded(file),
        "ahead" => Reader::read_ahead(file),
        _ => Reader::new(file),
    };
    let mut reader = reader.expect("a header");
    let mut events = 0;
    while let Some(block) = reader.next_block().expect("a valid trace") {
        events += block.events().len() as u64;
    }
    println!("{events}");
}

fn cpu_of(usage: &libc::rusage) -> Duration {
    let one = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    one(usage.ru_utime) + one(usage.ru_stime)
}

/// How much of an output is kept: a profile as a whole.
const HEAD: usize = 1 << 20;

/// Runs a command; its answer is a hash of what it prints.
fn run(command: &mut Command) -> Measured {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start");
    let mut out = child.stdout.take().expect("a pipe");
    let mut buf = vec![0; 64 << 10];
    let mut head = Vec::new();
    let mut answer = 0u64;
    let mut len = 0u64;
    loop {
        let n = out.read(&mut buf).expect("read");
        if n == 0 {
            break;
        }
        if head.len() < HEAD {
            head.extend_from_slice(&buf[..n.min(HEAD)]);
        }
        // A cheap hash, so that it is the rival that is measured: the sum of bytes, and their number.
        answer = answer.wrapping_add(buf[..n].iter().map(|&b| u64::from(b)).sum::<u64>());
        len += n as u64;
    }
    let (ok, usage) = wait(&mut child);
    let time = start.elapsed();
    assert!(ok, "{command:?} fails");
    let (cpu, peak_kib) = (cpu_of(&usage), usage.ru_maxrss as u64);
    Measured { time, cpu, answer: answer ^ (len << 40), peak_kib, head }
}

/// Waits for a child: whether it succeeded, and what it used.
fn wait(child: &mut std::process::Child) -> (bool, libc::rusage) {
    let mut status = 0;
    // SAFETY: all zeros is a valid `rusage`, which has numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that live through the call; the child is ours and nobody else waits for it.
    let pid = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
    (pid == child.id() as libc::pid_t && status == 0, usage)
}

#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    name: &'static str,
    median: f64,
    spread: (f64, f64),
    cpu: f64,
    /// To the first of its group: by time on the wall, and by processor time.
    ratio: f64,
    cpu_ratio: f64,
    events: u64,
    peak_kib: u64,
    runs: usize,
}

impl Table {
    fn text(&self) -> String {
        let mut out = format!(
            "{:<24} {:<28} {:>7} {:>9} {:>17} {:>9} {:>7} {:>7} {:>9} {:>8}\n",
            "", "", "ratio", "median s", "spread", "ns/event", "cpu s", "ratio", "ns/event", "peak MB"
        );
        for r in &self.rows {
            let peak = if r.peak_kib == 0 { String::from("-") } else { (r.peak_kib >> 10).to_string() };
            let per_event = |seconds: f64| seconds * 1e9 / r.events as f64;
            out += &format!(
                "{:<24} {:<28} {:>7.2} {:>9.3} {:>8.3}-{:<8.3} {:>9.2} {:>7.2} {:>7.2} {:>9.2} {peak:>8}\n",
                r.what,
                r.name,
                r.ratio,
                r.median,
                r.spread.0,
                r.spread.1,
                per_event(r.median),
                r.cpu,
                r.cpu_ratio,
                per_event(r.cpu),
            );
        }
        out
    }

    fn csv(&self) -> String {
        let mut out =
            String::from("what,who,runs,ratio,median_s,min_s,max_s,cpu_ratio,cpu_s,events,ns_per_event,peak_kib\n");
        for r in &self.rows {
            let ns = r.median * 1e9 / r.events as f64;
            let (what, name) = (r.what.trim().replace(',', ";"), r.name.replace(',', ";"));
            out += &format!(
                "{what},{name},{},{:.3},{:.4},{:.4},{:.4},{:.3},{:.4},{},{ns:.2},{}\n",
                r.runs, r.ratio, r.median, r.spread.0, r.spread.1, r.cpu_ratio, r.cpu, r.events, r.peak_kib
            );
        }
        out
    }
}

/// A Go toolchain: the program that counts events in order, and the trace tool.
struct Go {
    bin: PathBuf,
    order: PathBuf,
    tool: PathBuf,
}

impl Go {
    fn find(dir: &Path) -> Option<Go> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let named = std::env::var_os("EXECTRACE_GO").and_then(|l| std::env::split_paths(&l).next());
        let found = std::fs::read_dir(root.join("target/go")).into_iter().flatten().flatten();
        let mut bins: Vec<PathBuf> = found.map(|e| e.path().join("bin/go")).filter(|b| b.exists()).collect();
        bins.sort();
        let Some(bin) = named.or_else(|| bins.pop()) else {
            eprintln!("no Go: name one in EXECTRACE_GO to compare");
            return None;
        };
        let text = |args: &[&str]| {
            let out = go_command(&bin).args(args).output().expect("run go");
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        };
        let goroot = text(&["env", "GOROOT"]);
        let order = dir.join("go-order");
        let overlay = dir.join("overlay.json");
        let source = root.join("benches/go/order.go");
        let replace = format!("{goroot}/src/cmd/exectracebench/main.go");
        std::fs::write(&overlay, format!("{{\"Replace\":{{{replace:?}:{:?}}}}}", source.display().to_string()))
            .expect("write");
        let mut build = go_command(&bin);
        build.arg("build").arg("-overlay").arg(&overlay).arg("-o").arg(&order).arg("cmd/exectracebench");
        assert!(build.status().expect("go build").success(), "{build:?}");
        let tool = text(&["tool", "-n", "trace"]).into();
        Some(Go { bin, order, tool })
    }

    /// The sum of a profile's last value, in nanoseconds to the digits that `go tool pprof` prints.
    fn sum(&self, profile: &[u8]) -> u64 {
        let file = std::env::temp_dir().join(format!("exectrace-bench-{}.pb.gz", std::process::id()));
        std::fs::write(&file, profile).expect("write");
        let mut pprof = go_command(&self.bin);
        pprof.args(["tool", "pprof", "-raw", "-unit=ns"]).arg(&file);
        let out = pprof.output().expect("run go tool pprof");
        let _ = std::fs::remove_file(&file);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        // After `Samples:` and a line of types comes a line for each: `count time: locations`.
        let samples = text.lines().skip_while(|l| *l != "Samples:").skip(2).map_while(|l| l.split_once(':'));
        let times = samples.filter_map(|(values, _)| values.split_whitespace().nth(1)?.parse::<u64>().ok());
        let sum = times.sum();
        assert_ne!(sum, 0, "no profile: {text}");
        sum
    }
}

fn go_command(bin: &Path) -> Command {
    let mut c = Command::new(bin);
    c.env("GOTOOLCHAIN", "local").env("GO111MODULE", "off").current_dir(std::env::temp_dir());
    c
}

/// A trace to read: of a busy Go program, or made up. Made once and kept.
fn make(go: Option<&Go>, dir: &Path, name: &str, duration: &str) -> PathBuf {
    let path = dir.join(format!("{name}-{}.trace", if go.is_some() { "go" } else { "made-up" }));
    if path.exists() {
        return path;
    }
    match go {
        Some(go) => {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/go/busy.go");
            let mut run = go_command(&go.bin);
            run.arg("run").arg(source).args(["-d", duration, "-o"]).arg(&path);
            assert!(run.status().expect("go run").success(), "{run:?}");
        }
        None => std::fs::write(&path, made_up(if duration == "9s" { 40 } else { 4 })).expect("write"),
    }
    path
}

/// Pairs of goroutines on threads of their own that wake each other in turn, for some generations.
fn made_up(generations: u64) -> Vec<u8> {
    const PAIRS: u64 = 4;
    const ROUNDS: u64 = 40_000;
    /// From one round to the next, in nanoseconds.
    const PERIOD: u64 = 20_000;
    let mut out = Version::Go126.header().to_vec();
    for g in 1..=generations {
        for thread in 0..2 * PAIRS {
            let (me, other, awake) = (thread + 1, (thread ^ 1) + 1, thread % 2 == 0);
            let begin = g * 1_000_000_000 + thread;
            let mut data = Vec::new();
            event(&mut data, Kind::ProcStatus, &[0, thread, 1]);
            event(&mut data, Kind::GoStatus, &[0, me, thread, if awake { 2 } else { 4 }]);
            let (mut time, mut batch_time) = (begin, begin);
            for round in 0..ROUNDS {
                if data.len() > 60_000 {
                    batch(&mut out, g, thread, batch_time, &data);
                    data.clear();
                    batch_time = time;
                }
                // The one wakes the other and blocks; the other runs, wakes the one and blocks; the one runs.
                let at = begin + round * PERIOD + if awake { 1_000 } else { 5_000 };
                let (woken, started) = (2 * round + 1, 2 * round + 2);
                if awake {
                    event(&mut data, Kind::GoUnblock, &[at - time, other, woken, 0]);
                    event(&mut data, Kind::GoBlock, &[1_000, 0, 0]);
                    event(&mut data, Kind::GoStart, &[9_000, me, started]);
                    time = at + 10_000;
                } else {
                    event(&mut data, Kind::GoStart, &[at - time, me, started]);
                    event(&mut data, Kind::GoUnblock, &[1_000, other, woken, 0]);
                    event(&mut data, Kind::GoBlock, &[1_000, 0, 0]);
                    time = at + 2_000;
                }
            }
            batch(&mut out, g, thread, batch_time, &data);
        }
        let mut sync = vec![Kind::Sync as u8];
        event(&mut sync, Kind::Frequency, &[1_000_000_000]);
        event(&mut sync, Kind::ClockSnapshot, &[0, 1, 1, 1]);
        batch(&mut out, g, u64::MAX, g * 1_000_000_000, &sync);
        out.push(Kind::EndOfGeneration as u8);
    }
    out
}

fn number(out: &mut Vec<u8>, v: u64) {
    let mut b = [0; varint::MAX_BYTES];
    let n = varint::write(&mut b, v);
    out.extend_from_slice(&b[..n]);
}

fn event(out: &mut Vec<u8>, kind: Kind, args: &[u64]) {
    out.push(kind as u8);
    args.iter().for_each(|&a| number(out, a));
}

fn batch(out: &mut Vec<u8>, generation: u64, thread: u64, time: u64, data: &[u8]) {
    out.push(Kind::EventBatch as u8);
    [generation, thread, time, data.len() as u64].into_iter().for_each(|v| number(out, v));
    out.extend_from_slice(data);
}
