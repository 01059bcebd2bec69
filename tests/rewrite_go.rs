//! Traces that the command writes: our reader and Go's tool accept them, and they say what they should.
//!
//! The traces are those of `tests/data`, those that Go's own test programs write on the spot, and those of a directory named in
//! `EXECTRACE_TRACES`. Without a Go 1.27 the comparison with Go is left out.
#![cfg(feature = "cli")]

mod cli_support;
mod read_support;

use cli_support::{expect, refusal, run, stdout};
use exectrace::format::Version;
use exectrace::read::{EventKind, Reader};
use exectrace::rewrite::{self, Window};
use read_support::go::{self, Verdict};
use read_support::{data_file, read, scratch};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The traces to work on.
fn traces() -> &'static [PathBuf] {
    static ALL: OnceLock<Vec<PathBuf>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = Vec::new();
        let mut add_dir = |dir: &Path| {
            let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
            all.extend(files.filter(|p| p.extension().is_some_and(|x| x == "trace")));
        };
        add_dir(&data_file(""));
        if let Some(dir) = std::env::var_os("EXECTRACE_TRACES") {
            add_dir(Path::new(&dir));
        }
        all.extend(many_generations().cloned());
        all.sort();
        all
    })
}

/// A trace of a Go program with many generations.
fn many_generations() -> Option<&'static PathBuf> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    FILE.get_or_init(|| {
        let go = go::model()?;
        let dir = scratch("rewrite-go");
        let bin = dir.join("stress");
        let source = go.testdata().join("testprog/stress.go");
        let built = go.command().arg("build").arg("-o").arg(&bin).arg(&source).output().expect("go build");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let ran = Command::new(&bin).env("GODEBUG", "traceadvanceperiod=10000000").output().expect("run");
        let file = dir.join("stress-many.trace");
        std::fs::write(&file, ran.stdout).expect("write");
        Some(file)
    })
    .as_ref()
}

/// Both readers take it for a trace.
fn accepted(bytes: &[u8], what: &str) {
    let (events, error) = read(bytes);
    assert!(error.is_none() && !events.is_empty(), "{what}: {error:?}");
    let Some(go) = go::model() else { return };
    let file = scratch("rewrite-accepted").join(format!("{:?}.trace", std::thread::current().id()));
    std::fs::write(&file, bytes).expect("write");
    assert_eq!(go.parse(&file).1, Verdict::Accepts, "{what}");
}

/// The events as text, without `Sync`s, whose wall clocks may differ.
fn events(bytes: &[u8]) -> Vec<String> {
    let out = run(&["print", "--stacks", "-"], bytes);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    text.lines().filter(|l| !l.contains(" Sync ")).map(str::to_owned).collect()
}

/// How many generations, and when each begins, in nanoseconds since the first.
fn generations(bytes: &[u8]) -> Vec<i64> {
    let (events, _) = read(bytes);
    let syncs: Vec<i64> =
        events.iter().filter(|e| e.kind() == EventKind::Sync).map(|e| e.time.since(events[0].time)).collect();
    syncs[..syncs.len() - 1].to_vec()
}

/// How many events each generation has, its `Sync` included.
fn sizes(bytes: &[u8]) -> Vec<usize> {
    let (events, _) = read(bytes);
    let parts = events.split(|e| e.kind() == EventKind::Sync);
    let all: Vec<usize> = parts.skip(1).map(|part| part.len() + 1).collect();
    all[..all.len() - 1].to_vec()
}

#[test]
fn other_versions_have_the_same_events() {
    for path in traces() {
        let name = path.display().to_string();
        let original = std::fs::read(path).expect("a trace");
        let want = events(&original);
        for (to, minor) in [("1.23", 23), ("1.25", 25), ("1.26", 26)] {
            let bytes = stdout(&["convert", "--to", to, &name]);
            assert!(bytes.starts_with(format!("go 1.{minor} trace").as_bytes()), "{name}");
            accepted(&bytes, &format!("{name} as {to}"));
            assert_eq!(Reader::new(&bytes[..]).expect("a trace").version().minor(), minor);
            let got = events(&bytes);
            assert!(
                got == want,
                "{name} as {to}: {}",
                read_support::first_difference(got.join("\n").as_bytes(), want.join("\n").as_bytes())
            );
        }
    }
}

#[test]
fn the_wall_clock_survives_the_versions_that_have_none() {
    let name = data_file("go127-annotations.trace").display().to_string();
    let old = stdout(&["convert", "--to", "1.23", &name]);
    let back = run(&["convert", "--to", "1.26", "-"], &old).stdout;
    assert_eq!(run(&["print", "--format", "go", "-"], &back).stdout, stdout(&["print", "--format", "go", &name]));
    let begin = |bytes: &[u8]| {
        let out = run(&["summary", "--json", "-"], bytes).stdout;
        let v: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        v["trace"]["begin_unix_ns"].as_i64()
    };
    let want = begin(&std::fs::read(&name).expect("a trace"));
    assert!(want.is_some_and(|ns| ns > 1_500_000_000_000_000_000), "{want:?}");
    assert_eq!((begin(&old), begin(&back)), (want, want));
}

#[test]
fn the_tools_of_older_gos_open_what_is_converted_for_them() {
    let Some(trace) = many_generations() else { return };
    let dir = scratch("rewrite-old-go");
    for (minor, to) in [(23, "1.23"), (25, "1.25")] {
        let Some(go) = go::all().iter().find(|g| g.minor == minor) else { continue };
        let file = dir.join(format!("{to}.trace"));
        expect(0, &["convert", "--to", to, "-q", "-o", &file.display().to_string(), &trace.display().to_string()]);
        let out = go.command().args(["tool", "trace", "-pprof=sync"]).arg(&file).output().expect("go");
        assert!(out.status.success() && !out.stdout.is_empty(), "1.{minor}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn a_cut_has_the_generations_of_the_window() {
    let Some(trace) = many_generations() else { return };
    let name = trace.display().to_string();
    let whole = std::fs::read(trace).expect("a trace");
    let starts = generations(&whole);
    assert!(starts.len() > 5, "{starts:?}");
    let ms = |ns: i64| format!("{ns}ns");
    // Well inside a generation: its first events may be dated before the last ones of the generation before.
    let middle = |i: usize| (starts[i] + starts[i + 1]) / 2;
    for (from, to, want) in [
        (middle(1), middle(2), 1..3),
        (middle(2), middle(2), 2..3),
        (middle(0), middle(2), 0..3),
        (0, middle(0), 0..1),
        (middle(3), i64::MAX / 4, 3..starts.len()),
    ] {
        let bytes = stdout(&["cut", "--from", &ms(from), "--to", &ms(to), &name]);
        accepted(&bytes, &format!("{from} to {to}"));
        assert_eq!(sizes(&bytes), sizes(&whole)[want], "{from} to {to} of {starts:?}");
    }
    // Every run of generations is a trace.
    for first in 0..4 {
        let at = Some(middle(first) as u64);
        let window = Window { from_ns: at, to_ns: at };
        let mut one = Vec::new();
        let report = rewrite::cut(&whole[..], &mut one, window, &mut |_| {}).expect("a cut");
        assert_eq!((report.generations_written, report.bytes_written), (1, one.len() as u64));
        accepted(&one, &format!("generation {first}"));
    }
    let line = refusal(2, &["cut", "--from", "1h", &name]);
    assert!(line.contains("the window begins after the end of the trace"), "{line}");
}

#[test]
fn pieces_make_the_whole_again() {
    let Some(trace) = many_generations() else { return };
    let name = trace.display().to_string();
    let whole = std::fs::read(trace).expect("a trace");
    let starts = generations(&whole);
    let dir = scratch("rewrite-merge");
    let piece = |n: &str, from: i64, to: i64| {
        let path = dir.join(format!("{n}.trace")).display().to_string();
        expect(0, &["cut", "-q", "--from", &format!("{from}ns"), "--to", &format!("{to}ns"), &name, "-o", &path]);
        path
    };
    let middle = |i: usize| (starts[i] + starts[i + 1]) / 2;
    let begin = piece("begin", 0, middle(2));
    let between = piece("middle", middle(1), middle(3));
    let end = piece("end", middle(3), i64::MAX / 4);
    let merged = dir.join("merged.trace").display().to_string();
    for order in [[&begin, &between, &end], [&end, &begin, &between]] {
        let said = expect(0, &["merge", order[0], order[1], order[2], "-o", &merged]);
        assert!(
            said.contains(&format!(": {} generations, ", starts.len())) && said.ends_with("of 3 pieces\n"),
            "{said}"
        );
        let bytes = std::fs::read(&merged).expect("the result");
        accepted(&bytes, "merged");
        assert!(events(&bytes) == events(&whole));
    }
    let line = refusal(2, &["merge", &begin, &piece("far", middle(4), middle(4)), "-o", &merged]);
    // On a busy machine generations overlap, and more than one may be left out.
    let (one, more) =
        ("generation 4 between piece 1 and piece 2 is missing", "between piece 1 and piece 2 are missing");
    assert!(line.contains(one) || line.contains("generations 4 to ") && line.contains(more), "{line}");
    let other = data_file("go127-annotations.trace").display().to_string();
    assert!(refusal(2, &["merge", &begin, &other, "-o", &merged]).contains("they are not of one run"));
    assert!(refusal(2, &["merge", &begin, "-", "-o", &merged]).contains("cannot be read twice"));
    // Pieces of different versions of the format.
    let old = dir.join("old.trace").display().to_string();
    expect(0, &["convert", "-q", "--to", "1.23", &begin, "-o", &old]);
    expect(0, &["merge", "-q", &old, &between, &end, "-o", &merged]);
    assert!(events(&std::fs::read(&merged).expect("the result")) == events(&whole));
    // Numbers that fit do not make one run of two: the result is read back before it gets its name.
    let strange = dir.join("strange.trace");
    let bytes = stdout(&["convert", "--to", "1.26", &other]);
    std::fs::write(&strange, renumbered(&bytes, starts.len() as u64 + 1)).expect("write");
    let out = run(
        &["merge", &name, &strange.display().to_string(), "-o", &dir.join("none.trace").display().to_string()],
        b"",
    );
    assert_eq!(out.status.code(), Some(3));
    assert!(
        cli_support::error_line(&out).contains("the result is no valid trace"),
        "{}",
        cli_support::error_line(&out)
    );
    assert!(!dir.join("none.trace").exists() && parts(&dir).is_empty());
}

/// Names of files in a directory that are parts of others.
fn parts(dir: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("a directory").flatten();
    names.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.ends_with(".part")).collect()
}

/// A trace of one generation with another number, in batches of the same length.
fn renumbered(bytes: &[u8], number: u64) -> Vec<u8> {
    use exectrace::read::batches::{BatchReader, Item};
    let mut out = Version::Go126.header().to_vec();
    let mut reader = BatchReader::new(bytes).expect("a trace");
    while let Some(item) = reader.next_item().expect("a batch") {
        let Item::Batch(b) = item else {
            out.push(52);
            continue;
        };
        out.push(1);
        for v in [number, b.thread.0, b.time, b.data.len() as u64] {
            let mut buf = [0; 10];
            let n = exectrace::format::varint::write(&mut buf, v);
            out.extend_from_slice(&buf[..n]);
        }
        out.extend_from_slice(b.data);
    }
    out
}

#[test]
fn nothing_of_the_users_is_left_in_an_anonymous_trace() {
    for path in traces() {
        let name = path.display().to_string();
        let bytes = stdout(&["anonymize", &name]);
        accepted(&bytes, &name);
        let original = std::fs::read(path).expect("a trace");
        let shape = |bytes: &[u8]| {
            let (events, _) = read(bytes);
            events.iter().map(|e| (e.time, e.thread, e.wire, e.goroutine)).collect::<Vec<_>>()
        };
        assert!(shape(&bytes) == shape(&original), "{name}: the events are the same");
        // Names of files, modules, tasks, regions, categories, messages in Go's test programs.
        let left = String::from_utf8_lossy(&bytes);
        for word in ["annotations.go", "stress.go", "testprog", "task0", "region0", "key0", "0123456789abcdef", "/usr/"]
        {
            assert!(!left.contains(word), "{name}: {word}");
        }
    }
    let name = data_file("go127-annotations.trace").display().to_string();
    let bytes = stdout(&["anonymize", &name]);
    let json = |bytes: &[u8]| {
        serde_json::from_slice::<serde_json::Value>(&run(&["summary", "--json", "-"], bytes).stdout).expect("JSON")
    };
    let (got, want) = (json(&bytes), json(&std::fs::read(&name).expect("a trace")));
    let names = |v: &serde_json::Value, list: &str| -> Vec<String> {
        v[list].as_array().expect(list).iter().map(|x| x["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&want, "regions"), ["region0", "region1"]);
    let hidden = names(&got, "regions");
    assert!(hidden.len() == 2 && hidden[0] != hidden[1] && hidden.iter().all(|n| n.len() == 8), "{hidden:?}");
    assert_eq!(names(&got, "blocking"), names(&want, "blocking"), "reasons are the runtime's own words");
    // Another run has another key.
    assert_ne!(stdout(&["anonymize", &name]), bytes);
}

#[test]
fn public_words_stay_whatever_else_has_their_names() {
    // The reason `sleep` is a function's name too, and the call `statx` an ordinary frame of another stack.
    let wire = read_support::text::to_wire(
        "Trace Go1.25\nEventBatch gen=1 m=1 time=1 size=auto\nProcStatus dt=1 p=0 pstatus=1\n\
         GoStatus dt=1 g=1 m=1 gstatus=2\nGoSyscallBegin dt=1 p_seq=1 stack=1\nGoSyscallEnd dt=1\n\
         GoBlock dt=1 reason_string=1 stack=2\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nStrings\n\
         String id=1\n\tdata=\"sleep\"\nString id=2\n\tdata=\"statx\"\nString id=3\n\tdata=\"my::own\"\n\
         String id=4\n\tdata=\"/home/me/libc.c\"\nString id=5\n\tdata=\"\"\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nStacks\n\
         Stack id=1 nframes=2\n\tpc=1 func=2 file=5 line=0\n\tpc=2 func=3 file=4 line=1\n\
         Stack id=2 nframes=3\n\tpc=3 func=1 file=4 line=1\n\tpc=4 func=2 file=4 line=1\n\tpc=2 func=3 file=4 line=1\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\n\
         Sync\nFrequency freq=1000000000\nClockSnapshot dt=0 mono=1 sec=1 nsec=1\n",
    );
    let out = run(&["anonymize", "-"], &wire);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let left = String::from_utf8_lossy(&out.stdout);
    assert!(left.contains("sleep") && left.contains("statx"), "{left:?}");
    assert!(!left.contains("my") && !left.contains("own") && !left.contains("libc"), "{left:?}");
}

#[test]
fn what_is_whole_of_a_damaged_trace_can_be_cut_out() {
    let Some(trace) = many_generations() else { return };
    let whole = std::fs::read(trace).expect("a trace");
    let starts = generations(&whole);
    let dir = scratch("rewrite-damage");
    let out = dir.join("whole.trace");
    let to = out.display().to_string();
    for command in [&["cut"][..], &["anonymize"], &["convert", "--to", "1.25"]] {
        let _ = std::fs::remove_file(&out);
        let done = run(&[command, &["-", "-o", &to]].concat(), &whole[..whole.len() - 20]);
        assert_eq!(done.status.code(), Some(3), "{command:?}");
        let line = cli_support::error_line(&done);
        assert!(line.contains("lost at least"), "{line}");
        let bytes = std::fs::read(&out).expect("what is whole");
        accepted(&bytes, &format!("{command:?}"));
        assert_eq!(generations(&bytes).len(), starts.len() - 1, "{command:?}");
    }
}

#[test]
fn a_trace_is_never_written_over_itself_nor_left_half() {
    let name = data_file("go127-annotations.trace").display().to_string();
    let dir = scratch("rewrite-target");
    let copy = dir.join("copy.trace").display().to_string();
    std::fs::copy(&name, &copy).expect("copy");
    let line = refusal(2, &["convert", "--to", "1.26", &copy, "-o", &copy]);
    assert!(line.contains("is the trace to read"), "{line}");
    assert_eq!(std::fs::read(&copy).expect("read"), std::fs::read(&name).expect("read"));
    // A failure leaves what was there.
    let line = refusal(2, &["cut", "--from", "1h", &name, "-o", &copy]);
    assert!(line.contains("window"), "{line}");
    assert_eq!(std::fs::read(&copy).expect("read"), std::fs::read(&name).expect("read"));
    // What stands beside it is the user's own, whatever its name.
    let own = dir.join("copy.trace.part");
    std::fs::write(&own, "mine").expect("write");
    expect(0, &["cut", "-q", &name, "-o", &copy]);
    assert_eq!(std::fs::read(&own).expect("read"), b"mine");
    // A link stays one, and what it leads to is replaced as a whole or not at all.
    let link = dir.join("link.trace");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&copy, &link).expect("link");
    let to = link.display().to_string();
    refusal(2, &["cut", "--from", "1h", &name, "-o", &to]);
    assert!(refusal(2, &["cut", &copy, "-o", &to]).contains("is the trace to read"));
    accepted(&std::fs::read(&copy).expect("read"), "behind a link that nothing was written to");
    expect(0, &["convert", "-q", "--to", "1.25", &name, "-o", &to]);
    assert!(std::fs::read_link(&link).is_ok() && std::fs::read(&copy).expect("read").starts_with(b"go 1.25 "));
    assert!(parts(&dir).iter().eq(["copy.trace.part"].iter()), "{:?}", parts(&dir));
    assert!(
        refusal(2, &["convert", "--to", "1.26", &name, "-o", "/nonexistent/x"]).contains("cannot write /nonexistent/x")
    );
    assert!(refusal(2, &["convert", "--to", "1.24x", &name]).contains("expected 1.23, 1.25 or 1.26"));
    // Through a pipe, and to a device.
    let piped = run(&["convert", "--to", "1.26", "-", "-o", "-"], &std::fs::read(&name).expect("read"));
    assert_eq!(piped.stdout, stdout(&["convert", "--to", "1.26", &name]));
    assert!(piped.stderr.is_empty());
    expect(0, &["convert", "-q", "--to", "1.26", &name, "-o", "/dev/null"]);
    assert!(std::fs::metadata("/dev/null").is_ok_and(|m| !m.is_file()));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let out = Command::new(env!("CARGO_BIN_EXE_exectrace")).args(["cut", &name]).stdout(full).output().expect("run");
    assert_eq!(out.status.code(), Some(2));
    assert!(cli_support::error_line(&out).contains("cannot write"), "{}", cli_support::error_line(&out));
}
