//! `exectrace record --ctl` and `exectrace ctl`: a program that runs is started, stopped, snapshotted and asked, from outside.
//!
//! The program is `obeys` in `tests/c/faults.c`: it makes as many calls of `access` as it is told, so that each trace has its own number.
#![cfg(all(feature = "cli", target_os = "linux", target_env = "gnu", not(debug_assertions)))]

mod cli_support;
mod record_support;
mod support;

use cli_support::{expect, refusal};
use record_support::{accepted, calls, exectrace, files, library, program, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use support::Scratch;

/// A program that runs, and is told what to do.
struct Running {
    child: Child,
    to: ChildStdin,
    from: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn of(mut command: Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut running = Running { child, to, from };
        running.says("ready");
        running
    }

    fn recorded(socket: &Path, output: &Path, options: &[&str]) -> Running {
        Running::recorded_as("obeys", socket, output, options)
    }

    fn recorded_as(what: &str, socket: &Path, output: &Path, options: &[&str]) -> Running {
        let mut command = exectrace();
        command.args(["record", "--ctl"]).arg(socket).arg("-o").arg(output).args(options);
        command.arg("--").arg(program("faults.c")).arg(what);
        Running::of(command)
    }

    fn says(&mut self, what: &str) {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the program writes");
        assert_eq!(line.trim(), what);
    }

    /// Has it make so many calls.
    fn calls(&mut self, n: u32) {
        writeln!(self.to, "{n}").expect("the program reads");
        self.says("done");
    }

    fn end(self) -> Output {
        let Running { mut child, to, mut from } = self;
        drop(to);
        // The pipe is read to its end elsewhere.
        let rest = std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = from.read_to_end(&mut all);
            all
        });
        let mut errors = child.stderr.take().expect("a pipe");
        let errors = std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = errors.read_to_end(&mut all);
            all
        });
        let mut status = None;
        until("its end", || {
            status = child.try_wait().expect("a child");
            status.is_some()
        });
        let status = status.expect("it has ended");
        Output { status, stdout: rest.join().expect("join"), stderr: errors.join().expect("join") }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn ctl(socket: &Path, args: &[&str]) -> String {
    expect(0, &[&["ctl", text(socket)], args].concat())
}

fn ctl_json(socket: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&ctl(socket, &[args, &["--json"]].concat())).expect("JSON")
}

#[test]
fn a_program_is_started_and_stopped_and_started_again() {
    let scratch = Scratch::new("ctl");
    // Longer than an address of a socket has room for.
    let dir = scratch.path(&"long".repeat(30));
    std::fs::create_dir(&dir).expect("a directory");
    let (socket, trace) = (dir.join("app.ctl"), dir.join("app.trace"));
    let mut app = Running::recorded(&socket, &trace, &["--paused"]);
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    app.calls(5);
    let status = ctl_json(&socket, &["status"]);
    assert_eq!((&status["state"], &status["file"]), (&Value::from("paused"), &Value::Null), "{status}");
    assert_eq!(
        refusal(2, &["ctl", text(&socket), "stop"]),
        "exectrace: it is not recorded; hint: `exectrace ctl SOCKET start`"
    );
    assert!(refusal(2, &["ctl", text(&socket), "snapshot"]).contains("it is not recorded"));

    let said = ctl(&socket, &["start"]);
    assert!(said.starts_with("recording process "), "{said}");
    assert!(refusal(2, &["ctl", text(&socket), "start"]).contains("it is recorded already"));
    app.calls(100);
    let status = ctl_json(&socket, &["status"]);
    assert_eq!((&status["state"], &status["file"]), (&"recording".into(), &text(&trace).into()), "{status}");
    // A snapshot has all that was recorded up to it; the recording goes on.
    assert_eq!(ctl(&socket, &["snapshot"]), format!("snapshot: {}\n", dir.join("app.snapshot-1.trace").display()));
    app.calls(30);
    let own = dir.join("own.trace");
    assert_eq!(ctl(&socket, &["snapshot", text(&own)]), format!("snapshot: {}\n", own.display()));
    assert_eq!(ctl(&socket, &["stop"]), format!("stopped: {}\n", trace.display()));
    app.calls(7);
    let counted = |path: PathBuf| {
        accepted(&path);
        calls(&path, "access")
    };
    assert_eq!(counted(dir.join("app.snapshot-1.trace")), 100);
    assert_eq!(counted(own), 130);
    assert_eq!(counted(trace.clone()), 130);

    ctl(&socket, &["start"]);
    app.calls(200);
    assert_eq!(ctl(&socket, &["stop"]), format!("stopped: {}\n", dir.join("app.2.trace").display()));
    assert_eq!(counted(dir.join("app.2.trace")), 200);
    // The third ends with the program.
    ctl(&socket, &["start"]);
    app.calls(300);
    let status = ctl_json(&socket, &["status"]);
    assert_eq!(status["files"].as_array().map(Vec::len), Some(2), "{status}");
    let out = app.end();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(7), "{said}");
    assert!(said.contains("app.3.trace") && said.contains("app.snapshot-1.trace"), "{said}");
    assert_eq!(counted(dir.join("app.3.trace")), 300);
    assert_eq!(files(dir), ["app.2.trace", "app.3.trace", "app.snapshot-1.trace", "app.trace", "own.trace"]);
    assert!(refusal(2, &["ctl", text(&socket), "status"]).starts_with("exectrace: no socket "));
}

#[test]
fn a_program_that_was_never_started_leaves_nothing() {
    let scratch = Scratch::new("ctl-never");
    let (socket, trace) = (scratch.path("s"), scratch.path("t.trace"));
    let mut app = Running::recorded(&socket, &trace, &["--paused"]);
    app.calls(3);
    let out = app.end();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(7));
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(said.contains("it was not told to start"), "{said}");
    assert_eq!(files(scratch.path("")), [""; 0]);
}

#[test]
fn numbers_stand_where_they_are_wanted() {
    let scratch = Scratch::new("ctl-numbers");
    let socket = scratch.path("s");
    let mut app = Running::recorded(&socket, &scratch.path("part-%n.trace"), &["--quiet", "--flight", "1MiB"]);
    for n in 1..=3 {
        app.calls(n);
        ctl(&socket, &["stop"]);
        ctl(&socket, &["start"]);
    }
    app.calls(4);
    assert_eq!(app.end().status.code(), Some(7));
    for n in 1..=4 {
        let path = scratch.path(&format!("part-{n}.trace"));
        accepted(&path);
        assert_eq!(calls(&path, "access"), n);
    }
    assert_eq!(files(scratch.path("")).len(), 4);
}

#[test]
fn sockets_that_are_there_already() {
    let scratch = Scratch::new("ctl-there");
    let (socket, trace) = (scratch.path("s"), scratch.path("t.trace"));
    let refused = |why: &str| {
        let socket = text(&socket);
        let words =
            refusal(2, &["record", "--ctl", socket, "-o", text(&trace), "--", text(program("faults.c")), "calls"]);
        assert!(words.contains(why), "{words}");
        assert_eq!(files(scratch.path("")), ["s"], "nothing else is left");
    };
    std::fs::write(&socket, "a file").expect("a file");
    refused("there is something else under that name");
    std::fs::remove_file(&socket).expect("the file");
    let listener = UnixListener::bind(&socket).expect("a socket");
    refused("another program is controlled by it");
    // Left by a process that was killed.
    drop(listener);
    let words = refusal(2, &["ctl", text(&socket), "status"]);
    assert!(words.contains("the program has ended"), "{words}");
    let mut app = Running::recorded(&socket, &trace, &["--quiet"]);
    app.calls(9);
    assert_eq!(ctl_json(&socket, &["status"])["state"], "recording");
    assert_eq!(app.end().status.code(), Some(7));
    assert_eq!(files(scratch.path("")), ["t.trace"]);
    let gone = refusal(2, &["record", "--ctl", "/no/such/directory/s", "-o", text(&trace), "--", "true"]);
    assert!(gone.contains("cannot listen on /no/such/directory/s"), "{gone}");
}

/// A child listens itself, and does what its parent is told.
#[test]
fn children_are_started_and_stopped_with_their_parent() {
    let scratch = Scratch::new("ctl-children");
    let (socket, trace) = (scratch.path("s"), scratch.path("t.trace"));
    let mut app = Running::recorded_as("obeys_in_child", &socket, &trace, &["--quiet", "--follow", "--paused"]);
    app.calls(3);
    let status = ctl_json(&socket, &["status"]);
    assert_eq!(status["processes"].as_array().map(Vec::len), Some(2), "{status}");
    let mut seen = Vec::new();
    for n in [50, 60] {
        ctl(&socket, &["start"]);
        app.calls(n);
        let answer = ctl_json(&socket, &["stop"]);
        let paths = answer["files"].as_array().expect("a list").iter().map(|path| path.as_str().expect("a path"));
        let counts: Vec<u64> = paths.map(|path| calls(Path::new(path), "access")).collect();
        assert_eq!(counts.iter().sum::<u64>(), u64::from(n), "the child's alone: {answer}");
        seen.extend(answer["files"].as_array().expect("a list").clone());
    }
    assert_eq!(app.end().status.code(), Some(7));
    // Each time both, and nothing twice.
    assert_eq!(files(scratch.path("")).len(), 4, "{seen:?}");
    seen.iter().for_each(|path| accepted(Path::new(path.as_str().expect("a path"))));
}

/// One client says nothing, one says nonsense, one goes away; two others are served meanwhile.
#[test]
fn clients_that_hang_are_in_nobodys_way() {
    let scratch = Scratch::new("ctl-clients");
    let (socket, trace) = (scratch.path("s"), scratch.path("t.trace"));
    let mut app = Running::recorded(&socket, &trace, &["--quiet"]);
    let silent: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(&socket).expect("the socket")).collect();
    let mut gone = UnixStream::connect(&socket).expect("the socket");
    gone.write_all(b"status\n").expect("it reads");
    drop(gone);
    for (line, answer) in [("dance\n", "unknown command"), ("snapshot relative\n", "absolute path")] {
        let mut odd = UnixStream::connect(&socket).expect("the socket");
        odd.write_all(line.as_bytes()).expect("it reads");
        let mut said = String::new();
        odd.read_to_string(&mut said).expect("an answer");
        assert!(said.contains(answer), "{said}");
    }
    app.calls(40);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| (0..3).for_each(|_| _ = ctl(&socket, &["status"])));
        }
    });
    // One that waits when the program ends hears of that, or of the end of the connection.
    let mut waits = UnixStream::connect(&socket).expect("the socket");
    assert_eq!(app.end().status.code(), Some(7));
    let mut said = String::new();
    let _ = waits.write_all(b"status\n");
    let _ = waits.read_to_string(&mut said);
    assert!(said.is_empty() || said.contains("\"ok\":false"), "{said}");
    drop(silent);
    accepted(&trace);
    assert_eq!(calls(&trace, "access"), 40);
}

/// Without the command: the library listens itself.
#[test]
fn the_library_listens_by_the_environment_alone() {
    let scratch = Scratch::new("ctl-environment");
    let mut command = Command::new(program("faults.c"));
    command.arg("obeys").env("LD_PRELOAD", library()).env("EXECTRACE_OUT", scratch.path("raw.trace"));
    command.env("EXECTRACE_CTL", scratch.path("%p.ctl")).env("EXECTRACE_PAUSED", "1");
    let mut app = Running::of(command);
    let socket = scratch.path(&format!("{}.ctl", app.child.id()));
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    app.calls(5);
    ctl(&socket, &["start"]);
    app.calls(60);
    let snapshot = scratch.path("snapshot.trace");
    ctl(&socket, &["snapshot", text(&snapshot)]);
    accepted(&snapshot);
    assert_eq!(calls(&snapshot, "access"), 60);
    app.calls(10);
    assert_eq!(ctl(&socket, &["stop"]), format!("stopped: {}\n", scratch.path("raw.trace").display()));
    ctl(&socket, &["start"]);
    app.calls(80);
    let status = ctl_json(&socket, &["status"]);
    assert_eq!(status["file"], text(&scratch.path("raw.trace.1")), "{status}");
    // A client that sends nothing is given up.
    let _silent = UnixStream::connect(&socket).expect("the socket");
    ctl(&socket, &["status"]);
    // So is one whose line never ends, though a letter comes time and again.
    let mut slow = UnixStream::connect(&socket).expect("the socket");
    let begin = std::time::Instant::now();
    while slow.write_all(b"s").is_ok() {
        assert!(begin.elapsed().as_secs() < 60, "it is still listened to");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let out = app.end();
    assert_eq!((out.status.code(), out.stderr), (Some(7), vec![]));
    for (name, n) in [("raw.trace", 70), ("raw.trace.1", 80)] {
        accepted(&scratch.path(name));
        assert_eq!(calls(&scratch.path(name), "access"), n, "{name}");
    }
    assert_eq!(files(scratch.path("")), ["raw.trace", "raw.trace.1", "snapshot.trace"]);
}

/// A file under the socket's name stays what it is, and the program is recorded all the same. A socket that was left is replaced.
#[test]
fn the_library_removes_no_file_that_is_no_socket() {
    let scratch = Scratch::new("ctl-no-socket");
    let socket = scratch.path("s");
    let run = || {
        let mut command = Command::new(program("faults.c"));
        command.arg("obeys").env("LD_PRELOAD", library()).env("EXECTRACE_OUT", scratch.path("raw.trace"));
        command.env("EXECTRACE_CTL", &socket);
        let mut app = Running::of(command);
        app.calls(5);
        let is_socket = UnixStream::connect(&socket).is_ok();
        let out = app.end();
        assert_eq!(out.status.code(), Some(7));
        assert_eq!(calls(&scratch.path("raw.trace"), "access"), 5);
        (is_socket, String::from_utf8_lossy(&out.stderr).into_owned())
    };
    std::fs::write(&socket, "words").expect("a file");
    let (listens, said) = run();
    assert!(!listens && said.contains("cannot listen on "), "{said}");
    assert_eq!(std::fs::read_to_string(&socket).expect("the file"), "words");
    std::fs::remove_file(&socket).expect("the file");
    // A link to a socket that was left is no socket either.
    let left = scratch.path("left");
    drop(UnixListener::bind(&left).expect("a socket"));
    std::os::unix::fs::symlink(&left, &socket).expect("a link");
    let (listens, said) = run();
    assert!(!listens && said.contains("cannot listen on "), "{said}");
    std::fs::rename(&left, &socket).expect("its name");
    let (listens, said) = run();
    assert!(listens && said.is_empty(), "{said}");
    assert_eq!(files(scratch.path("")), ["raw.trace"]);
}

/// A child that is forked after the command to start is recorded from its beginning; one that is forked after the command to stop is not.
#[test]
fn a_child_does_as_its_parent_was_told() {
    let scratch = Scratch::new("ctl-forks");
    let (socket, trace) = (scratch.path("s"), scratch.path("t.trace"));
    for (options, first) in [(&["--quiet", "--follow", "--paused"][..], false), (&["--quiet", "--follow"], true)] {
        let mut app = Running::recorded_as("obeys_by_forks", &socket, &trace, options);
        app.calls(30);
        ctl(&socket, &[if first { "stop" } else { "start" }]);
        app.calls(50);
        ctl(&socket, &[if first { "start" } else { "stop" }]);
        app.calls(70);
        assert_eq!(app.end().status.code(), Some(7));
        let all = files(scratch.path(""));
        let mut counts: Vec<u64> = all.iter().map(|name| calls(&scratch.path(name), "access")).collect();
        counts.sort_unstable();
        let expected: &[u64] = if first { &[1, 1, 30, 70] } else { &[1, 50] };
        assert_eq!(counts, expected, "{options:?}: {all:?}");
        all.iter().for_each(|name| std::fs::remove_file(scratch.path(name)).expect("a trace"));
    }
}

/// Whoever finds the socket as soon as it is there finds the recording that the program began with, and its file.
#[test]
fn a_command_that_comes_at_once_waits_for_the_beginning() {
    let scratch = Scratch::new("ctl-at-once");
    let (socket, trace) = (scratch.path("s"), scratch.path("raw.trace"));
    for command in ["start\n", "status\n"].repeat(10) {
        let ask = || {
            let mut stream = UnixStream::connect(&socket).ok()?;
            stream.write_all(command.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok().map(|_| answer)
        };
        let mut app = Command::new(program("faults.c"));
        app.arg("obeys").env("LD_PRELOAD", library()).env("EXECTRACE_OUT", &trace).env("EXECTRACE_CTL", &socket);
        let said = std::thread::scope(|s| {
            let asked = s.spawn(|| {
                let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
                loop {
                    match ask() {
                        Some(answer) => return answer,
                        None => assert!(std::time::Instant::now() < end, "no answer"),
                    }
                }
            });
            let app = Running::of(app);
            let said = asked.join().expect("an answer");
            assert_eq!(app.end().status.code(), Some(7));
            said
        });
        let expected = if command == "start\n" { "it is recorded already" } else { "raw.trace\"" };
        assert!(said.contains(expected), "{command}: {said}");
        assert_eq!(files(scratch.path("")), ["raw.trace"]);
        std::fs::remove_file(&trace).expect("the trace");
    }
}

/// A command that was killed while it made its socket leaves a directory; one with the same number is not hindered by it.
#[test]
fn what_a_killed_command_left_is_replaced() {
    let scratch = Scratch::new("ctl-left");
    let (socket, trace) = (scratch.path("s"), scratch.path("t.trace"));
    let mut command = Command::new("sh");
    let script =
        "mkdir \"$1.$$\" && : >\"$1.$$/ctl\" && exec \"$0\" record --quiet --ctl \"$1\" -o \"$2\" -- \"$3\" obeys";
    command.args(["-c", script, env!("CARGO_BIN_EXE_exectrace")]).args([&socket, &trace]).arg(program("faults.c"));
    let mut app = Running::of(command);
    app.calls(3);
    ctl(&socket, &["status"]);
    assert_eq!(app.end().status.code(), Some(7));
    assert_eq!(files(scratch.path("")), ["t.trace"]);
}
