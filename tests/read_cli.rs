//! The `exectrace` command as its callers see it: exit codes, messages, standard input and output, filters.
#![cfg(feature = "cli")]

mod cli_support;
mod read_support;

use cli_support::{error_line, run};
use read_support::{data_file, scratch, text};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn lines(out: &Output) -> Vec<String> {
    String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
}

fn annotations() -> String {
    data_file("go127-annotations.trace").display().to_string()
}

/// A trace of two generations, the second of which is broken.
fn broken() -> (PathBuf, Vec<u8>) {
    let golden = std::fs::read_to_string(data_file("state-status-disagrees.test")).expect("a golden");
    let wire = text::parse_test(&golden).wire;
    let file = scratch("cli").join("broken.trace");
    std::fs::write(&file, &wire).expect("write");
    (file, wire)
}

#[test]
fn a_valid_trace_is_called_valid() {
    let out = run(&["check", &annotations()], b"");
    assert_eq!(out.status.code(), Some(0));
    assert!(out.stderr.is_empty(), "{}", error_line(&out));
    let line = lines(&out).join("\n");
    assert!(
        line.ends_with("go127-annotations.trace: valid, go 1.26, 48 events in 1 generation, 0.002 s, 3.6 KiB"),
        "{line}"
    );
    let out = run(&["check", "-q", &annotations()], b"");
    assert!(out.status.success() && out.stdout.is_empty() && out.stderr.is_empty());
}

#[test]
fn standard_input_is_a_dash() {
    let bytes = std::fs::read(annotations()).expect("a trace");
    let out = run(&["check", "-"], &bytes);
    assert_eq!(out.status.code(), Some(0));
    assert!(lines(&out)[0].starts_with("standard input: valid, go 1.26, 48 events"));
    assert_eq!(run(&["print", "-"], &bytes).stdout, run(&["print", &annotations()], b"").stdout);
}

#[test]
fn a_broken_trace_has_its_own_exit_code_and_says_what_is_lost() {
    let (file, wire) = broken();
    let out = run(&["check", &file.display().to_string()], b"");
    assert_eq!(out.status.code(), Some(3));
    assert!(out.stdout.is_empty());
    let line = error_line(&out);
    let end = "generation 2, thread 1, byte 0x3a: GoStatus: goroutine 1 is waiting: expected running, as it was before; \
               lost 40.2 % of the trace (33 B of 82 B)";
    assert!(line.ends_with(end), "{line}");
    // What is whole is printed first.
    let out = run(&["print", "--format", "go", "-"], &wire);
    assert_eq!(out.status.code(), Some(3));
    assert_eq!(lines(&out).len(), 5);
    assert!(error_line(&out).contains("lost at least"), "{}", error_line(&out));
    // A file that is cut off.
    let bytes = std::fs::read(annotations()).expect("a trace");
    let out = run(&["check", "-"], &bytes[..bytes.len() - 1]);
    assert_eq!(out.status.code(), Some(3));
    assert!(error_line(&out).contains("the trace ends before the generation does"), "{}", error_line(&out));
}

#[test]
fn what_is_no_trace_gets_a_hint() {
    for (bytes, words) in [
        (&b"GIF89a"[..], "not a Go execution trace: expected the header"),
        (b"", "not a Go execution trace"),
        (
            b"go 1.21 trace\0\0\0",
            "a trace of Go 1.21, in format version 1: expected version 2, which Go writes from 1.22 on; hint: record it anew",
        ),
        (b"go 1.99 trace\0\0\0", "a trace with the header of Go 1.99"),
    ] {
        let out = run(&["check", "-"], bytes);
        assert_eq!(out.status.code(), Some(3));
        assert!(error_line(&out).contains(words), "{}", error_line(&out));
    }
}

#[test]
fn what_cannot_be_done_has_exit_code_2() {
    let annotations = annotations();
    for (args, words) in [
        (&["check", "/nonexistent.trace"][..], "cannot open /nonexistent.trace"),
        (&["check", "/"], "is a directory"),
        (&["print", "--format", "wire", "--thread", "1", &annotations], "filters do not work with --format wire"),
        (&["print", "--from", "2s", "--to", "1s", &annotations], "--from is later than --to"),
    ] {
        let out = run(args, b"");
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(error_line(&out).contains(words), "{args:?}: {}", error_line(&out));
    }
    for args in
        [&["frobnicate"][..], &["print"], &["print", "--kind", "Nonsense", "-"], &["print", "--from", "1x", "-"]]
    {
        let out = run(args, b"");
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(!out.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_shows_examples() {
    for args in [&["--help"][..], &["help", "print"], &["check", "--help"]] {
        let out = run(args, b"");
        assert!(out.status.success(), "{args:?}");
        assert!(String::from_utf8_lossy(&out.stdout).contains("Examples:"), "{args:?}");
    }
    assert!(run(&["--version"], b"").status.success());
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_exectrace"))
        .args(["print", "--stacks"])
        .arg(data_file("go127-iter-pull.trace"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start exectrace");
    let mut out = child.stdout.take().expect("a pipe");
    let mut first = [0; 64];
    out.read_exact(&mut first).expect("some output");
    drop(out);
    let rest = child.wait_with_output().expect("wait");
    assert!(rest.status.success(), "{:?}", rest.status);
    assert!(rest.stderr.is_empty(), "{}", String::from_utf8_lossy(&rest.stderr));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let out = Command::new(env!("CARGO_BIN_EXE_exectrace"))
        .args(["print", &annotations()])
        .stdout(full)
        .output()
        .expect("run");
    assert_eq!(out.status.code(), Some(2));
    assert!(error_line(&out).contains("cannot write"), "{}", error_line(&out));
}

#[test]
fn filters_choose_events() {
    let file = annotations();
    let count = |args: &[&str]| {
        let mut all = vec!["print"];
        all.extend_from_slice(args);
        all.push(&file);
        let out = run(&all, b"");
        assert!(out.status.success(), "{args:?}");
        lines(&out)
    };
    assert_eq!(count(&[]).len(), 48);
    assert_eq!(count(&["--kind", "Log"]).len(), 1);
    assert_eq!(count(&["--kind", "RegionBegin,RegionEnd"]).len(), 7);
    assert_eq!(count(&["--kind", "UserRegionBegin"]).len(), 5);
    assert_eq!(count(&["--kind", "Log", "--kind", "TaskEnd"]).len(), 2);
    let of_10 = count(&["--goroutine", "10"]);
    assert!(of_10.iter().all(|l| l.contains("G10")), "{of_10:#?}");
    // It is created and started by others and then does the rest by itself.
    assert!(of_10[0].contains("GoCreate") && of_10[1].contains("GoStart"), "{of_10:#?}");
    let early = count(&["--to", "1.41ms"]);
    let late = count(&["--from", "1.410001ms"]);
    assert_eq!(early.len() + late.len(), 48);
    assert!(early.last().expect("a line").contains("ProcsChange"), "{early:#?}");
    assert!(count(&["--thread", "9467"]).iter().all(|l| l.contains("M9467")));
    assert!(count(&["--thread", "1"]).is_empty());
}

#[test]
fn text_and_json_are_as_they_were() {
    for (args, golden) in [
        (&["print"][..], "go127-annotations.txt"),
        (&["print", "--json"], "go127-annotations.jsonl"),
        (&["print", "--stacks", "--kind", "GoCreate,UserLog"], "go127-annotations-stacks.txt"),
    ] {
        let mut all = args.to_vec();
        let file = annotations();
        all.push(&file);
        let out = run(&all, b"");
        let path = data_file(golden);
        if std::env::var_os("EXECTRACE_BLESS").is_some() {
            std::fs::write(&path, &out.stdout).expect("write");
        }
        let want = std::fs::read(&path).unwrap_or_default();
        let at = read_support::first_difference(&out.stdout, &want);
        assert!(out.stdout == want, "{golden}: {at}; EXECTRACE_BLESS=1 writes it anew");
    }
}

#[test]
fn json_lines_are_json() {
    let out = run(
        &["print", "--json", "--stacks", &data_file("go127-allocfree-annotations.trace").display().to_string()],
        b"",
    );
    let mut kinds = std::collections::BTreeSet::new();
    let mut last = 0;
    for (i, line) in lines(&out).iter().enumerate() {
        let v: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        if i == 0 {
            assert_eq!(v["schema"], "exectrace.events/1");
            continue;
        }
        let time = v["time"].as_i64().expect("a time");
        assert!(time > last, "{line}");
        last = time;
        kinds.insert(v["kind"].as_str().expect("a kind").to_owned());
    }
    let want = [
        "Experimental",
        "Log",
        "Metric",
        "RangeBegin",
        "RangeEnd",
        "RegionBegin",
        "RegionEnd",
        "StateTransition",
        "Sync",
        "TaskBegin",
        "TaskEnd",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), want);
}
