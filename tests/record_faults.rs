//! `exectrace record` when things go wrong: files that are full, slow or closed, storms of threads, children and signals, and children
//! that nobody is told of. The program runs as without it, the trace is a trace, and what is missing is said.
//!
//! Each test has a watchdog: what does not end is a failure. The programs are in `tests/c/faults.c`.
#![cfg(all(feature = "cli", target_os = "linux", target_env = "gnu", not(debug_assertions)))]

mod cli_support;
mod record_support;
mod support;

use record_support::{accepted, calls, ended, exectrace, files, library, lost, program};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::Scratch;

fn faults() -> &'static Path {
    program("faults.c")
}

/// Records the program.
fn record(trace: &Path, options: &[&str], args: &[&str]) -> Output {
    let mut command = exectrace();
    command.arg("record").args(options).arg("-o").arg(trace).arg("--").arg(faults()).args(args);
    ended(command.stdin(Stdio::null()))
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The program has the descriptors that it would have, by every way of looking, and always the next free number.
#[test]
fn the_program_meets_no_descriptor_of_ours() {
    let scratch = Scratch::new("faults-fds");
    let trace = scratch.path("f.trace");
    let bare = ended(Command::new(faults()).arg("fds").stdin(Stdio::null()));
    for options in [&["--quiet"][..], &["--quiet", "--follow"], &["--quiet", "--flight", "1MiB", "--heap", "exact"]] {
        let out = record(&trace, options, &["fds"]);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        let lines = |out: &Output| String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(lines(&out), lines(&bare), "{options:?}");
        accepted(&trace);
    }
}

/// A copy of the process that libc did not make shares the buffers' file, and writes nothing to it.
#[test]
fn a_child_that_nobody_is_told_of_writes_nothing() {
    let scratch = Scratch::new("faults-clone");
    for heap in ["curve", "exact"] {
        let trace = scratch.path(&format!("{heap}.trace"));
        let out = record(&trace, &["--quiet", "--heap", heap], &["raw_clone"]);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        accepted(&trace);
        assert_eq!(calls(&trace, "access"), 20_000, "the parent's own");
    }
    assert_eq!(files(trace_dir(&scratch)), ["curve.trace", "exact.trace"]);
}

fn trace_dir(scratch: &Scratch) -> std::path::PathBuf {
    scratch.path("")
}

/// The file may not grow: the trace ends there, is whole up to there, and it is said.
#[test]
fn a_full_disk_ends_the_trace_and_not_the_program() {
    let scratch = Scratch::new("faults-full");
    let trace = scratch.path("f.trace");
    // In units of 512 bytes. The limit is the program's alone.
    let limited = format!("ulimit -f 200; exec {} calls 400000", faults().display());
    let mut command = exectrace();
    command.args(["record", "-o"]).arg(&trace).args(["--", "sh", "-c", &limited]).stdin(Stdio::null());
    let out = ended(&mut command);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let bytes = trace.metadata().expect("a trace").len();
    assert!(bytes < 400 << 10, "{bytes} bytes");
    accepted(&trace);
    let seen = calls(&trace, "access");
    assert!(seen < 400_000, "{seen} of 400000 calls in {bytes} bytes");
    // Not silently.
    let line = said(&out).lines().find(|line| line.contains("f.trace: ")).map(str::to_owned);
    assert!(line.is_some(), "{}", said(&out));
}

/// Runs the program with its trace going to a pipe, and `read` at the other end of that.
fn into_pipe(
    scratch: &Scratch,
    args: &[&str],
    read: impl FnOnce(File) -> Vec<u8> + Send + 'static,
) -> (Output, Vec<u8>) {
    let pipe = scratch.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let from = pipe.clone();
    let reader = std::thread::spawn(move || read(File::open(from).expect("the pipe")));
    let mut command = Command::new(faults());
    command.args(args).env("LD_PRELOAD", library()).env("EXECTRACE_OUT", &pipe).env("EXECTRACE_BUFFER", "2MiB");
    let out = ended(command.stdin(Stdio::null()));
    let bytes = reader.join().expect("the reader");
    std::fs::remove_file(&pipe).expect("the pipe");
    assert_eq!(files(trace_dir(scratch)), [""; 0], "nothing is left");
    (out, bytes)
}

#[test]
fn a_slow_reader_slows_nobody() {
    let scratch = Scratch::new("faults-slow");
    let (out, bytes) = into_pipe(&scratch, &["calls", "300000"], |mut pipe| {
        let (mut all, mut part) = (Vec::new(), [0; 16 << 10]);
        loop {
            match pipe.read(&mut part).expect("the pipe") {
                0 => return all,
                n => all.extend_from_slice(&part[..n]),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!((out.status.code(), said(&out)), (Some(0), String::new()));
    let trace = scratch.write("t.trace", &bytes);
    accepted(&trace);
    // What found no room is counted in the trace: nothing is lost silently.
    let (seen, lost) = (calls(&trace, "access"), lost(&trace));
    assert!(seen <= 300_000 && seen + lost >= 300_000, "{seen} of 300000 calls, and {lost} said to be lost");
}

#[test]
fn a_reader_that_goes_away_ends_the_trace_and_not_the_program() {
    let scratch = Scratch::new("faults-closed");
    let (out, bytes) = into_pipe(&scratch, &["calls", "300000"], |mut pipe| {
        let mut all = vec![0; 64 << 10];
        pipe.read_exact(&mut all).expect("the beginning");
        all
    });
    assert_eq!((out.status.code(), said(&out)), (Some(0), String::new()));
    assert!(bytes.starts_with(b"go 1."));
}

/// Five hundred short children, each with a trace of its own, each whole.
#[test]
fn a_bomb_of_children_is_recorded_whole() {
    let scratch = Scratch::new("faults-bomb");
    let trace = scratch.path("b.trace");
    let began = Instant::now();
    let out = record(&trace, &["--quiet", "--follow"], &["bomb", "500"]);
    println!("500 children in {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let all = files(trace_dir(&scratch));
    assert_eq!(all.len(), 501, "{all:?}");
    // Each of them is read by our reader; Go's tools see a few.
    for (i, name) in all.iter().enumerate() {
        let path = scratch.path(name);
        if i % 100 == 0 {
            accepted(&path);
        }
        let expected = u64::from(*name != "b.trace");
        let file = File::open(&path).expect("a trace");
        let mut reader = exectrace::read::Reader::new(file).expect("a trace");
        let summary = exectrace::analyze::summary(&mut reader);
        let json = serde_json::to_value(&summary).expect("JSON");
        let found =
            json["syscalls"].as_array().and_then(|all| all.iter().find(|call| call["name"] == "access").cloned());
        let count = found.map_or(0, |call| call["count"].as_u64().expect("a number"));
        assert_eq!(count, expected, "{name}");
    }
}

#[test]
fn signals_ten_thousand_times_a_second_lose_nothing_silently() {
    let scratch = Scratch::new("faults-signals");
    let trace = scratch.path("s.trace");
    let out = record(&trace, &["--quiet", "--heap", "exact"], &["signals", "5000"]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    accepted(&trace);
    let made: u64 = String::from_utf8_lossy(&out.stdout).trim().parse().expect("a number");
    let seen = calls(&trace, "access");
    // A call in a handler that interrupted a hook is not recorded, and is counted.
    let lost = lost(&trace);
    assert!(seen <= made && seen + lost >= made, "{seen} of {made} calls, and {lost} said to be lost");
    assert!(seen * 2 > made, "{seen} of {made} calls");
}

/// Snapshots from several sides, again and again, while threads are born and die.
#[test]
fn a_storm_of_snapshots_in_a_storm_of_threads() {
    let scratch = Scratch::new("faults-storm");
    let trace = scratch.path("s.trace");
    let socket = scratch.path("s.ctl");
    let mut command = exectrace();
    command
        .args(["record", "--quiet", "--flight", "4MiB", "--heap", "exact", "--ctl"])
        .arg(&socket)
        .arg("-o")
        .arg(&trace);
    command.arg("--").arg(faults()).arg("storm").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("exectrace");
    let stdin = child.stdin.take();
    let watched = std::thread::spawn(move || record_support::watched(child));
    let takers: Vec<_> = (0..3)
        .map(|who| {
            let (socket, dir) = (socket.clone(), trace_dir(&scratch));
            std::thread::spawn(move || {
                for n in 0..4 {
                    let to = dir.join(format!("snapshot-{who}-{n}.trace"));
                    let mut command = exectrace();
                    command.arg("ctl").arg(&socket).arg("snapshot").arg(&to);
                    let end = Instant::now() + Duration::from_secs(120);
                    loop {
                        let out = ended(command.stdin(Stdio::null()));
                        // The program may not have been begun yet, or have written nothing.
                        if out.status.success() || Instant::now() > end {
                            assert_eq!(out.status.code(), Some(0), "{out:?}");
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    record_support::checked(&to);
                }
            })
        })
        .collect();
    takers.into_iter().for_each(|taker| taker.join().expect("snapshots"));
    // The end of its input ends the program.
    drop(stdin);
    let out = watched.join().expect("its end");
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stdout).lines().last().is_some_and(|n| n.parse::<u32>().is_ok()), "{out:?}");
    accepted(&trace);
    accepted(&scratch.path("snapshot-2-3.trace"));
    assert_eq!(files(trace_dir(&scratch)).len(), 13);
}
