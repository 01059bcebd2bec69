//! `exectrace record`: programs that know nothing of it run as without it, and their traces say what they did.
//!
//! The program is `tests/c/recorded.c`. Traces are read by our own reader and, where there is a Go, judged by its tools. In a debug
//! build the command has no preload library inside, and then there is nothing to test.
#![cfg(all(feature = "cli", target_os = "linux", target_env = "gnu", not(debug_assertions)))]

mod cli_support;
mod support;

use cli_support::expect;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use support::Scratch;
use support::judge::Judge;

/// The program, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<(PathBuf, Scratch)> = OnceLock::new();
    let (path, _) = PROGRAM.get_or_init(|| {
        let scratch = Scratch::new("recorded");
        let path = scratch.path("recorded");
        compile(&path, &[]);
        (path, scratch)
    });
    path
}

fn compile(to: &Path, flags: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/recorded.c");
    let status =
        Command::new("cc").args(["-O1", "-g", "-w", "-pthread"]).args(flags).arg("-o").arg(to).arg(source).status();
    assert!(status.expect("a C compiler").success());
}

fn exectrace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_exectrace"))
}

/// Records the program and returns what came of it.
fn record(trace: &Path, options: &[&str], args: &[&str]) -> Output {
    record_of(program(), trace, options, args, b"")
}

fn record_of(program: &Path, trace: &Path, options: &[&str], args: &[&str], stdin: &[u8]) -> Output {
    let mut command = exectrace();
    command.arg("record").args(options).arg("-o").arg(trace).arg("--").arg(program).args(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("exectrace");
    child.stdin.take().expect("a pipe").write_all(stdin).expect("the program reads");
    child.wait_with_output().expect("its end")
}

fn json(command: &str, trace: &Path) -> Value {
    let text = expect(0, &[command, "--json", trace.to_str().expect("a plain path")]);
    serde_json::from_str(&text).expect("JSON")
}

/// How often a trace has a system call.
fn calls(trace: &Path, name: &str) -> u64 {
    let summary = json("summary", trace);
    let all = summary["syscalls"].as_array().expect("a list");
    all.iter().find(|call| call["name"] == name).map_or(0, |call| call["count"].as_u64().expect("a number"))
}

/// Go's tools accept a trace, if there is a Go; our own reader does.
fn accepted(trace: &Path) {
    expect(0, &["check", trace.to_str().expect("a plain path")]);
    if let Some(judge) = Judge::find() {
        judge.without_wire().facts(trace);
    }
}

/// What is in a directory.
fn files(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

#[test]
fn a_program_runs_as_without_it() {
    let scratch = Scratch::new("record-echo");
    let trace = scratch.path("echo.trace");
    let out = record_of(program(), &trace, &[], &["echo"], b"some words\n");
    assert_eq!(out.status.code(), Some(42));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "SOME WORDS\n");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    // The first free descriptor is what it is without a recorder: the program has 0, 1 and 2.
    assert!(said.starts_with("first 3\n"), "{said}");
    assert!(said.contains("go tool trace ") && said.contains("System calls"), "{said}");
    accepted(&trace);
    assert_eq!(calls(&trace, "open"), 1);
    assert_eq!(files(trace.parent().expect("the directory")), ["echo.trace"], "nothing else is left");

    let quiet = record_of(program(), &trace, &["--quiet"], &["echo"], b"");
    assert_eq!(String::from_utf8_lossy(&quiet.stderr), "first 3\n");
}

#[test]
fn each_allocation_function_is_recorded_with_its_stack_and_size() {
    allocations_are_recorded(&["--heap", "exact"]);
}

#[test]
fn the_same_with_another_allocator() {
    allocations_are_recorded(&["--heap", "exact", "--mimalloc"]);
}

fn allocations_are_recorded(options: &[&str]) {
    let scratch = Scratch::new("record-allocations");
    let trace = scratch.path("a.trace");
    let out = record(&trace, options, &["allocations"]);
    assert_eq!(out.status.code(), Some(0), "the number says which line of recorded.c: {out:?}");
    accepted(&trace);
    let text = expect(0, &["heap", "--json", "--at", "end", "--top", "1000", trace.to_str().expect("a plain path")]);
    let heap: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(heap["lost"], 0);
    let entries = heap["entries"].as_array().expect("a list");
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let (name, bytes) = line.split_once(' ').expect("a name and a size");
        let bytes: u64 = bytes.parse().expect("a size");
        // The frame of the allocation function itself is not shown.
        let of = entries.iter().filter(|e| e["stack"][0]["func"] == name);
        let held: Vec<(u64, u64)> = of
            .map(|e| (e["held_blocks"].as_u64().expect("blocks"), e["held_bytes"].as_u64().expect("bytes")))
            .collect();
        assert_eq!(held, [(1, bytes)], "{name}: {heap:#}");
    }
}

/// Programs of other languages run with mimalloc in the place of their allocator, which has blocks from before.
#[test]
fn programs_run_on_another_allocator() {
    let scratch = Scratch::new("record-mimalloc");
    let program = scratch.path("allocates");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/allocates.cpp");
    let status = Command::new("c++").args(["-O1", "-g", "-pthread", "-o"]).arg(&program).arg(source).status();
    assert!(status.expect("a C++ compiler").success());
    let usable = |options: &[&str]| {
        let trace = scratch.path("c.trace");
        let out = record_of(&program, &trace, options, &[], b"");
        assert_eq!(out.status.code(), Some(0), "the number says which part of allocates.cpp: {out:?}");
        accepted(&trace);
        let heap = json("heap", &trace);
        assert!(heap["sum"]["total_blocks"].as_u64() > Some(30_000), "{heap:#}");
        String::from_utf8_lossy(&out.stdout).trim().parse::<usize>().expect("a number")
    };
    let sizes = [&["--quiet", "--heap", "exact"][..], &["--quiet", "--heap", "exact", "--mimalloc"]].map(usable);
    // A block of 100 bytes has 104 with glibc's allocator and 112 with mimalloc.
    assert_ne!(sizes[0], sizes[1]);

    let script = "
import json, os, subprocess, threading
def work():
    for i in range(100):
        assert json.loads(json.dumps(list(range(500))))[499] == 499
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
assert subprocess.check_output(['echo', 'heard']) == b'heard\\n'
pid = os.fork()
if pid == 0:
    work()
    os._exit(3)
assert os.waitpid(pid, 0)[1] == 3 << 8
";
    if Command::new("python3").arg("--version").output().is_err() {
        return;
    }
    let trace = scratch.path("p.trace");
    let options = ["--quiet", "--heap", "exact", "--mimalloc"];
    let out = record_of(Path::new("python3"), &trace, &options, &["-c", script], b"");
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    accepted(&trace);
}

#[test]
fn a_process_ends_with_its_last_thread_though_ours_goes_on() {
    let scratch = Scratch::new("record-last-thread");
    let (trace, socket) = (scratch.path("l.trace"), scratch.path("s"));
    let socket = socket.to_str().expect("a plain path");
    // Many times: threads that end together must not each take another for the last.
    let ends = |times: usize, options: &[&str]| {
        for _ in 0..times {
            let mut command = Command::new("timeout");
            command.args(["60", env!("CARGO_BIN_EXE_exectrace"), "record", "--quiet", "--follow"]).args(options);
            command.arg("-o").arg(&trace).arg("--").arg(program()).arg("last_thread");
            let out = command.output().expect("timeout");
            assert_eq!(out.status.code(), Some(0), "{options:?}: {out:?}");
        }
    };
    ends(20, &[]);
    accepted(&trace);
    let count = || files(trace.parent().expect("a directory")).len();
    assert_eq!(count(), 1 + 20, "the program's, and each child's");
    // Another thread of ours, with and without the one that writes.
    ends(10, &["--ctl", socket]);
    accepted(&trace);
    assert_eq!(count(), 1 + 20 + 10);
    ends(10, &["--ctl", socket, "--paused"]);
    assert_eq!(count(), 1 + 20 + 10);
}

#[test]
fn a_program_that_closes_everything_is_recorded_on() {
    let scratch = Scratch::new("record-close");
    for how in ["0", "1", "2", "3", "4", "5", "6"] {
        let trace = scratch.path(&format!("{how}.trace"));
        let out = record(&trace, &["--quiet"], &["close_all", how]);
        assert_eq!(out.status.code(), Some(0), "{how}: {out:?}");
        accepted(&trace);
        assert_eq!(calls(&trace, "access"), 500, "{how}");
    }
}

/// Whatever way a process ends: what it did last is in the trace.
#[test]
fn the_last_moments_are_in_the_trace() {
    let scratch = Scratch::new("record-last");
    let ways = [
        ("kill", 137),
        ("segv", 139),
        ("abort", 134),
        ("term", 143),
        ("exec", 0),
        ("_exit", 5),
        ("quick_exit", 5),
        ("raw", 5),
        ("handler", 5),
        ("return", 5),
    ];
    for (how, code) in ways {
        let trace = scratch.path(&format!("{how}.trace"));
        let out = record(&trace, &["--quiet", "--heap", "exact"], &["last_words", "700", how]);
        assert_eq!(out.status.code(), Some(code), "{how}: {out:?}");
        // What the process was before it executed another program has the number of that.
        let first = |name: &String| name.starts_with("exec.") && name.ends_with(".0.trace");
        let trace = match files(trace.parent().expect("a directory")).into_iter().find(first) {
            Some(before) if how == "exec" => scratch.path(&before),
            _ => trace,
        };
        accepted(&trace);
        assert_eq!(calls(&trace, "access"), 700, "{how}");
        let heap = json("heap", &trace);
        assert!(heap["peak_bytes"].as_u64() >= Some(70_000_000), "{how}: {heap:#}");
        assert!(heap["entries"][0]["stack"].to_string().contains("last_words"), "{how}: {heap:#}");
        let summary = json("summary", &trace);
        assert_eq!(summary["threads"]["goroutines"].as_u64().map(|n| n >= 4), Some(true), "{how}: {summary:#}");
    }
}

#[test]
fn children_have_traces_of_their_own_if_they_are_followed() {
    let scratch = Scratch::new("record-children");
    let trace = scratch.path("c.trace");
    let out = record(&trace, &["--quiet"], &["children"]);
    assert_eq!(out.status.code(), Some(0), "the number says which part of recorded.c: {out:?}");
    accepted(&trace);
    assert_eq!(calls(&trace, "access"), 300, "the parent's own");
    assert_eq!(files(trace.parent().expect("a directory")), ["c.trace"]);

    let out = record(&trace, &["--quiet", "--follow"], &["children"]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let all = files(trace.parent().expect("a directory"));
    all.iter().for_each(|name| accepted(&scratch.path(name)));
    let forked = all.iter().filter(|name| calls(&scratch.path(name), "access") == 1).count();
    assert_eq!(forked, 3, "three that forked: {all:?}");
    // Those, what one of them executed, and the two that were started by vfork and posix_spawn.
    assert_eq!(all.len(), 1 + 3 + 1 + 2, "{all:?}");
}

#[test]
fn a_signal_to_the_recorder_is_the_programs() {
    // The second is one that a terminal would have sent to the program as well. A process manager does not.
    for signal in [libc::SIGTERM, libc::SIGQUIT] {
        signalled(signal);
    }
}

fn signalled(signal: i32) {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    let scratch = Scratch::new("record-signal");
    let trace = scratch.path("s.trace");
    let mut child = exectrace()
        .args(["record", "--quiet", "-o"])
        .arg(&trace)
        .arg("--")
        .arg(program())
        .arg("signal")
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("exectrace");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the program writes");
    assert_eq!(line, "ready\n");
    // The handlers are in place a moment after the program was started. Until then the signal ends the recorder, which the loop sees.
    // SAFETY: a signal to our own child.
    unsafe { libc::kill(child.id() as i32, signal) };
    assert_eq!(child.wait().expect("its end").code(), Some(128 + signal));
    accepted(&trace);
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let scratch = Scratch::new("record-refused");
    let trace = scratch.path("r.trace");
    let refused = |program: &Path, why: &str| {
        let out = record_of(program, &trace, &[], &["echo"], b"");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!trace.exists());
    };
    let fixed = scratch.path("fixed");
    compile(&fixed, &["-static"]);
    refused(&fixed, "is linked statically");
    refused(&scratch.write("script", format!("#!{}\n", fixed.display()).as_bytes()), "no program");
    let script = scratch.path("script");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    refused(&script, "is linked statically");
    refused(Path::new("no-such-program"), "no program no-such-program");
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } == 0 {
        let other = scratch.path("other");
        std::fs::copy(program(), &other).expect("a copy");
        std::os::unix::fs::chown(&other, Some(12345), None).expect("a new owner");
        std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).expect("a mode");
        refused(&other, "is setuid");
    }
    assert_eq!(files(trace.parent().expect("a directory")).iter().filter(|f| f.contains("spool")).count(), 0);
}

/// Without the command: the library and the environment alone.
#[test]
fn the_library_works_by_the_environment_alone() {
    let scratch = Scratch::new("record-environment");
    let library = expect(0, &["record", "--print-library"]);
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = Command::new(program());
        command.env("LD_PRELOAD", library.trim()).args(args).stdin(Stdio::null()).current_dir(scratch.path(""));
        command.envs(variables.iter().copied()).output().expect("the program")
    };
    // Nothing is asked for: nothing happens.
    assert_eq!(run(&[], &["children"]).status.code(), Some(0));
    assert_eq!(files(&scratch.path("")), [""; 0]);
    // One file: the children do not touch it.
    let out = run(&[("EXECTRACE_OUT", "one.trace"), ("EXECTRACE_STACK_DEPTH", "8")], &["children"]);
    assert_eq!((out.status.code(), out.stderr), (Some(0), vec![]));
    accepted(&scratch.path("one.trace"));
    assert_eq!(calls(&scratch.path("one.trace"), "access"), 300);
    assert_eq!(files(&scratch.path("")), ["one.trace"]);
    std::fs::remove_file(scratch.path("one.trace")).expect("the trace");
    // One that is killed leaves a box beside it.
    let out = run(&[("EXECTRACE_OUT", "k.trace")], &["last_words", "100", "kill"]);
    assert_eq!(out.status.code(), None);
    assert_eq!(files(&scratch.path("")), ["k.trace", "k.trace.box"]);
    let said = expect(0, &["recover", scratch.path("").to_str().expect("a plain path")]);
    assert!(said.contains("k.trace: recovered"), "{said}");
    assert_eq!(files(&scratch.path("")), ["k.trace"]);
    accepted(&scratch.path("k.trace"));
    assert_eq!(calls(&scratch.path("k.trace"), "access"), 100);
    // What is wrong is said, and the program runs all the same.
    for (name, value) in [
        ("EXECTRACE_HEAP", "some"),
        ("EXECTRACE_CPU_HZ", "x"),
        ("EXECTRACE_FOLLOW", "1"),
        ("EXECTRACE_MALLOC", "other"),
        ("EXECTRACE_PAUSED", "1"),
    ] {
        let out = run(&[("EXECTRACE_OUT", "w.trace"), (name, value)], &["echo"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(42), "{said}");
        assert!(said.starts_with(&format!("exectrace: {name}")), "{said}");
    }
    // Of several processes only one could listen there.
    let follows = [("EXECTRACE_OUT", "%p.trace"), ("EXECTRACE_FOLLOW", "1"), ("EXECTRACE_CTL", "s")];
    let out = run(&follows, &["echo"]);
    assert_eq!(out.status.code(), Some(42));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.starts_with("exectrace: EXECTRACE_FOLLOW needs a %p in EXECTRACE_CTL"), "{said}");
    let out = run(&[("EXECTRACE_OUT", "/no/such/directory/w.trace")], &["echo"]);
    assert_eq!(out.status.code(), Some(42));
    assert!(String::from_utf8_lossy(&out.stderr).starts_with("exectrace: cannot record to /no/such"), "{out:?}");
}

/// A server's cache grows without bound until there is no memory. The recorder fires before that, and the snapshot names the guilty stack.
#[test]
fn the_snapshot_before_memory_runs_out_names_the_guilty() {
    let scratch = Scratch::new("record-story");
    let trace = scratch.path("server.trace");
    // 300 MB of address space: a machine's limit in small. The shell is the process that the server then is.
    let server = format!("ulimit -v 300000; exec {} serve", program().display());
    let out = exectrace()
        .args(["record", "--heap", "sampled:64KiB", "--flight", "4MiB", "--on", "rss=60MiB", "--cooldown", "1"])
        // Address space is what the limit is of.
        .args(["--buffer", "8MiB"])
        .args(["--keep", "2", "--then", "wc -c <", "-o"])
        .arg(&trace)
        .args(["--", "sh", "-c", &server])
        .output()
        .expect("exectrace");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(128 + libc::SIGABRT), "{said}");
    assert!(said.contains("out of memory"), "{said}");
    let all = files(trace.parent().expect("a directory"));
    let snapshots: Vec<&String> = all.iter().filter(|name| name.contains(".snapshot-rss-")).collect();
    assert_eq!(snapshots.len(), 2, "of all that were taken two are kept: {all:?}\n{said}");
    for name in snapshots {
        assert!(said.contains(name.as_str()), "{said}");
        let snapshot = scratch.path(name);
        accepted(&snapshot);
        let heap = json("heap", &snapshot);
        let first = &heap["entries"][0];
        let (held, all) =
            (first["held_bytes"].as_f64().expect("bytes"), heap["sum"]["held_bytes"].as_f64().expect("bytes"));
        assert!(all > 40e6 && held > 0.9 * all, "{heap:#}");
        assert_eq!(
            [&first["stack"][0]["func"], &first["stack"][1]["func"]],
            ["remember", "handle_request"],
            "{heap:#}"
        );
    }
    // The flight recorder's own, up to the end.
    accepted(&trace);
    assert!(trace.metadata().expect("the trace").len() < 6 << 20);
}

/// A control group that is full, as far as its files say so.
#[test]
fn a_control_group_near_its_limit_is_seen() {
    let scratch = Scratch::new("record-cgroup");
    let trace = scratch.path("server.trace");
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("a control group");
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return };
    let group = scratch.path("groups").join(path.trim_start_matches('/'));
    std::fs::create_dir_all(&group).expect("a directory");
    for (file, text) in [
        ("memory.max", "max\n"),
        ("memory.high", "1000000\n"),
        ("memory.current", "950000\n"),
        ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n"),
        (
            "memory.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        ),
    ] {
        std::fs::write(group.join(file), text).expect("a file");
    }
    let run = |condition: &str| {
        let out = exectrace()
            .env("EXECTRACE_CGROUP_ROOT", scratch.path("groups"))
            .args(["record", "--on", condition, "--cooldown", "60", "-o"])
            .arg(&trace)
            .args(["--", "timeout", "-s", "KILL", "2"])
            .arg(program())
            .arg("serve")
            .output()
            .expect("exectrace");
        let all = files(trace.parent().expect("a directory"));
        (String::from_utf8_lossy(&out.stderr).into_owned(), all)
    };
    let (said, all) = run("cgroup=90%");
    assert!(said.contains("cgroup at 105 % of its limit"), "{said}");
    assert!(all.contains(&"server.snapshot-cgroup-105.trace".to_owned()), "{all:?}");
    let (said, _) = run("cgroup=99%");
    assert!(!said.contains("cgroup at"), "{said}");
    let (said, _) = run("psi=10%");
    assert!(!said.contains("psi at"), "{said}");
    std::fs::write(group.join("memory.pressure"), "some avg10=25.00 avg60=1.00 avg300=0.00 total=9\n").expect("a file");
    let (said, _) = run("psi=10%");
    assert!(said.contains("psi at 250 % of its limit"), "{said}");
}

/// What took too long, and what failed, is found in what the program writes; also when it has ended meanwhile.
#[test]
fn events_that_are_waited_for_leave_snapshots() {
    let scratch = Scratch::new("record-events");
    let trace = scratch.path("e.trace");
    let snapshots = |condition: &str, args: &[&str]| {
        let options = ["--on", condition, "--then", "wc -c <", "--flight", "1MiB"];
        let out = record(&trace, &options, args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let all = files(trace.parent().expect("a directory"));
        let all: Vec<String> = all.into_iter().filter(|name| name.contains(".snapshot-")).collect();
        all.iter().for_each(|name| accepted(&scratch.path(name)));
        assert!(all.iter().all(|name| said.contains(name.as_str())), "{all:?}: {said}");
        all.iter().for_each(|name| std::fs::remove_file(scratch.path(name)).expect("a snapshot"));
        all
    };
    assert_eq!(snapshots("alloc-failure", &["allocations"]), ["e.snapshot-alloc-failure-100.trace"]);
    assert_eq!(snapshots("alloc-failure", &["echo"]), [""; 0]);
    // It waits for its children in system calls.
    let found = snapshots("syscall=1ns", &["children"]);
    assert!(found.len() == 1 && found[0].starts_with("e.snapshot-syscall-"), "{found:?}");
    assert_eq!(snapshots("syscall=3600s", &["children"]), [""; 0]);
    assert_eq!(snapshots("region=1ns", &["children"]), [""; 0]);
}

#[test]
fn doctor_says_what_works() {
    let out = exectrace()
        .args(["doctor", "--"])
        .arg(program())
        .current_dir(std::env::temp_dir())
        .output()
        .expect("exectrace");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.starts_with("ok  preload ") && said.contains("can be recorded"), "{said}");
    let out = exectrace().args(["doctor", "--", "no-such-program"]).output().expect("exectrace");
    assert_eq!(out.status.code(), Some(1), "{out:?}");
}

/// A black box that is damaged in any way gives a valid trace or an error: never a panic, nor a trace that is none.
#[test]
fn a_damaged_black_box_is_an_error_or_a_trace() {
    use exectrace::rewrite::{Parts, recover};
    use std::io::Cursor;
    let scratch = Scratch::new("record-damage");
    let library = expect(0, &["record", "--print-library"]);
    let trace = scratch.path("k.trace");
    let status = Command::new(program())
        .args(["last_words", "300", "kill"])
        .envs([("LD_PRELOAD", library.trim().as_ref()), ("EXECTRACE_OUT", trace.as_os_str())])
        .status();
    assert_eq!(status.expect("the program").code(), None);
    let raw = std::fs::read(&trace).expect("the trace");
    let mut black_box = std::fs::read(scratch.path("k.trace.box")).expect("the box");
    // What is behind the used part is zeros.
    let used = black_box.iter().rposition(|&b| b != 0).expect("something") + 1;
    let mut out = Vec::new();
    let parts = Parts::default();
    let whole = recover(&raw[..], Cursor::new(&black_box), &mut out, parts).expect("a whole box");
    assert!(whole.recovered >= 1 && out.len() > 1000);
    // Where there is something: the head, the journal's begin, the buffers' begin and tails.
    let places: Vec<usize> =
        (0..used).step_by(8).filter(|&i| black_box[i..used.min(i + 8)].iter().any(|&b| b != 0)).collect();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    let (mut good, mut bad) = (0, 0);
    for _ in 0..300 {
        let at = places[next() % places.len()] + next() % 8;
        let before = black_box[at];
        black_box[at] = next() as u8;
        out.clear();
        match recover(&raw[..], Cursor::new(&black_box), &mut out, parts) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
        black_box[at] = before;
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
    for len in [0, 1, 100, 256, 70_000, used / 2, used - 1] {
        let _ = recover(&raw[..], Cursor::new(&black_box[..len.min(used)]), Vec::new(), parts);
        let _ = recover(&raw[..raw.len().min(len)], Cursor::new(&black_box), Vec::new(), parts);
    }
}
