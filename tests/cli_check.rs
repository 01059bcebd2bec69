//! `exectrace check` and `exectrace diff` through the command: limits, baselines, JUnit files, exit codes, what they print.
#![cfg(feature = "cli")]

mod cli_support;
mod read_support;

use cli_support::{expect, refusal, run};
use read_support::{data_file, scratch, text};
use std::path::PathBuf;

fn file(name: &str) -> String {
    data_file(name).display().to_string()
}

/// A short trace: 1.67 ms, one task, two kinds of regions.
fn before() -> String {
    file("go127-annotations.trace")
}

/// The same program with more events in half of the time.
fn after() -> String {
    file("go127-allocfree-annotations.trace")
}

fn broken() -> PathBuf {
    let golden = std::fs::read_to_string(data_file("state-status-disagrees.test")).expect("a golden");
    let path = scratch("cli-check").join("broken.trace");
    std::fs::write(&path, text::parse_test(&golden).wire).expect("write");
    path
}

/// A trace with 30 tasks (`task0` the shortest of them), and 30 stacks on which one goroutine waits.
fn many() -> PathBuf {
    let mut events = String::new();
    let mut tables = String::from("EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nStrings\n");
    let mut stacks = String::from("EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nStacks\n");
    for i in 0..30 {
        let (id, at) = (i + 1, 2 * i + 1);
        events.push_str(&format!("UserTaskBegin dt=1 task={id} parent_task=0 name_string={id} stack=0\n"));
        events.push_str(&format!("GoBlock dt={} reason_string=100 stack={id}\n", 10 + i));
        events.push_str(&format!("GoUnblock dt=1 g=1 g_seq={at} stack=0\nGoStart dt=1 g=1 g_seq={}\n", at + 1));
        events.push_str(&format!("UserTaskEnd dt={} task={id} stack=0\n", 10 + i));
        tables.push_str(&format!("String id={id}\n\tdata=\"task{i}\"\nString id={}\n\tdata=\"main.f{i}\"\n", id + 200));
        // The shortest wait is in the function of the longest, on another line: the two are one place.
        let func = if i == 0 { 230 } else { 200 + id };
        stacks.push_str(&format!("Stack id={id} nframes=1\n\tpc={id} func={func} file=101 line={id}\n"));
    }
    tables.push_str("String id=100\n\tdata=\"sync\"\nString id=101\n\tdata=\"main.go\"\n");
    let text = format!(
        "Trace Go1.22\nEventBatch gen=1 m=1 time=1 size=auto\nProcStatus dt=1 p=0 pstatus=1\n\
         GoStatus dt=1 g=1 m=1 gstatus=2\n{events}{tables}{stacks}\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nFrequency freq=1000000000\n"
    );
    let path = scratch("cli-check").join(format!("many-{:?}.trace", std::thread::current().id()));
    std::fs::write(&path, text::to_wire(&text)).expect("write");
    path
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn limits_that_hold_have_exit_code_0_and_those_that_do_not_have_1() {
    let t = before();
    let held = expect(0, &["check", "--max", "heap.peak=64MiB", "--min", "mmu@1ms=0.8", "--max", "lost=0", &t]);
    assert_eq!(
        held,
        "ok    heap.peak is 2.55 MiB, at most 64.0 MiB\n\
         ok    lost is 0, at most 0\n\
         ok    mmu@1ms is 100.0 %, at least 80.0 %\n"
    );
    let args = ["check", "--max", "heap.peak=2MiB", "--max", "duration=1s", "--min", "task.task0.count=2", &t];
    assert_eq!(
        expect(1, &args),
        "FAIL  heap.peak is 2.55 MiB, at most 2.00 MiB\n\
         ok    duration is 1.67 ms, at most 1.00 s\n\
         FAIL  task.task0.count is 1, at least 2\n"
    );
    assert!(expect(0, &["check", "--max", "duration=1.5m", &t]).contains("at most 90.0 s"));
    // The window of an MMU is any.
    assert!(expect(0, &["check", "--min", "mmu@123us=100%", &t]).contains("mmu@123us is 100.0 %"));
    // Quiet tells only what is wrong.
    let quiet = expect(1, &[&["check", "-q"], &args[1..]].concat());
    assert_eq!(quiet.lines().count(), 2, "{quiet}");
    assert_eq!(expect(0, &["check", "-q", "--max", "lost=0", &t]), "");
}

#[test]
fn a_number_that_is_not_told_holds_no_limit() {
    let args = ["check", "--max", "task.absent.p99=1s", "--max", "series.absent.max=1", &before()];
    let text = expect(1, &args);
    assert!(text.contains("FAIL  task.absent.p99 is not told by the trace, at most 1.00 s"), "{text}");
    assert!(text.contains("FAIL  series.absent.max is not told by the trace"), "{text}");
}

#[test]
fn limits_that_make_no_sense_have_exit_code_2() {
    let t = before();
    for (limit, words) in [
        ("nonsense=3", "no number is called \"nonsense\""),
        ("heap.peak", "expected NAME=BOUND, such as heap.peak=64MiB"),
        ("gc.pause.p99=5d", "expected a time such as 5ms"),
        ("heap.peak=5ms", "\"5ms\" is no bound for heap.peak: expected a size such as 64MiB"),
        ("gc.pause.p99=5", "expected a time such as 5ms"),
    ] {
        let line = refusal(2, &["check", "--max", limit, &t]);
        assert!(line.contains(words), "{line}");
        assert!(line.ends_with("hint: `exectrace check --help`"), "{line}");
    }
    let line = refusal(2, &["check", "--max-regress", "5%", &t]);
    assert!(line.contains("--baseline"), "{line}");
    let line = refusal(2, &["check", "--baseline", &t, "--max-regress=-1", &t]);
    assert!(line.contains("expected a share such as 10% or 0.1"), "{line}");
}

#[test]
fn a_broken_trace_holds_no_limit_and_has_exit_code_3() {
    let broken = broken().display().to_string();
    for args in [
        &["check", "--max", "lost=0", &broken][..],
        &["check", "--json", &broken],
        &["check", "--baseline", &broken, &before()],
        &["check", "--baseline", &before(), &broken],
        &["diff", &broken, &before()],
    ] {
        let out = run(args, b"");
        assert_eq!(out.status.code(), Some(3), "{args:?}");
        let json = args.contains(&"--json");
        assert_eq!(out.stdout.is_empty(), !json, "{args:?}");
        if json {
            let v: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
            assert_eq!((&v["held"], &v["checks"]), (&false.into(), &serde_json::json!([])));
            assert!(v["damage"]["message"].as_str().is_some_and(|m| m.contains("expected running")), "{v}");
        }
        assert!(cli_support::error_line(&out).contains("expected running"), "{args:?}");
    }
}

#[test]
fn a_baseline_bounds_what_may_get_worse() {
    let (a, b) = (before(), after());
    let same = expect(0, &["check", "--baseline", &a, "--max-regress", "0%", &a]);
    assert!(same.lines().count() > 7 && same.lines().all(|l| l.starts_with("ok")), "{same}");
    // Of the two programs the first has the longer region; the heaps differ by half a percent.
    let worse = expect(1, &["check", "--baseline", &b, &a]);
    assert!(worse.contains("FAIL  region.region0.p99 is 1.86 us, at most 1.55 us (was 1.41 us)"), "{worse}");
    assert!(worse.contains("ok    heap.peak is 2.55 MiB, at most 2.82 MiB (was 2.56 MiB)"), "{worse}");
    let lax = expect(0, &["check", "--baseline", &b, "--max-regress", "200%", &a]);
    assert_eq!(lax.lines().count(), worse.lines().count());
    // Limits beside it are checked too.
    assert!(expect(1, &["check", "--baseline", &a, "--max", "duration=1us", &a]).contains("FAIL  duration"));
}

#[test]
fn a_baseline_may_be_a_summary() {
    let (a, b) = (before(), after());
    let dir = scratch("cli-check");
    let path = dir.join("main.json");
    std::fs::write(&path, expect(0, &["summary", "--json", &b])).expect("write");
    let path = path.display().to_string();
    assert_eq!(expect(1, &["check", "--baseline", &path, &a]), expect(1, &["check", "--baseline", &b, &a]));
    let numbers = |args: &[&str]| json(&expect(0, args))["numbers"].clone();
    assert_eq!(numbers(&["diff", "--json", &a, &path]), numbers(&["diff", "--json", &a, &b]));
    for (text, words) in
        [("{}", "missing field"), ("nonsense", "expected ident"), ("{\"schema\":\"exectrace.gc/1\"}", "cannot read")]
    {
        let other = dir.join("other.json");
        std::fs::write(&other, text).expect("write");
        let line = refusal(2, &["check", "--baseline", &other.display().to_string(), &a]);
        assert!(line.contains(words) && line.contains("summary --json"), "{line}");
    }
}

#[test]
fn the_junit_file_has_a_case_for_each_check() {
    let t = before();
    let path = scratch("cli-check").join("check.xml");
    let junit = path.display().to_string();
    let text = expect(1, &["check", "--max", "lost=0", "--max", "duration=1us", "--junit", &junit, &t]);
    assert_eq!(text.lines().count(), 2);
    let xml = std::fs::read_to_string(&path).expect("the file");
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite "), "{xml}");
    assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
    assert!(xml.contains("<testcase classname=\"exectrace\" name=\"lost\"/>"), "{xml}");
    assert!(xml.contains("<failure message=\"duration is 1.67 ms, at most 1.00 us\"/>"), "{xml}");
    // Of a broken trace nothing holds, nor does what an earlier run has left.
    let no_trace = scratch("cli-check").join("none.trace");
    std::fs::write(&no_trace, "nothing").expect("write");
    for broken in [broken(), no_trace] {
        expect(0, &["check", "--max", "lost=0", "--junit", &junit, &t]);
        refusal(3, &["check", "--max", "lost=0", "--junit", &junit, &broken.display().to_string()]);
        let xml = std::fs::read_to_string(&path).expect("the file");
        assert!(xml.contains("tests=\"1\" failures=\"0\" errors=\"1\"") && xml.contains("<error message=\""), "{xml}");
    }
    // To standard output, and nothing else.
    let alone = expect(0, &["check", "--max", "lost=0", "--junit", "-", &t]);
    assert!(alone.ends_with("</testsuite>\n"), "{alone}");
    let both = expect(0, &["check", "-q", "--max", "lost=0", "--junit", "-", &t]);
    assert!(both.starts_with("<?xml") && both.ends_with("</testsuite>\n"), "{both}");
    let line = refusal(2, &["check", "--max", "lost=0", "--junit", "/nonexistent/x.xml", &t]);
    assert!(line.contains("cannot write /nonexistent/x.xml"), "{line}");
}

#[test]
fn checks_as_json() {
    let t = before();
    let v = json(&expect(1, &["check", "--json", "--max", "lost=0", "--max", "duration=1us", &t]));
    assert_eq!((&v["schema"], &v["held"]), (&"exectrace.check/1".into(), &false.into()));
    let checks = v["checks"].as_array().expect("checks");
    assert_eq!(checks.len(), 2);
    assert_eq!((&checks[1]["name"], &checks[1]["held"]), (&"duration".into(), &false.into()));
    assert_eq!((checks[1]["value"].as_f64(), checks[1]["bound"].as_f64()), (Some(1_670_337.0), Some(1_000.0)));
    assert_eq!(json(&expect(0, &["check", "--json", &t]))["held"], true);
}

#[test]
fn the_summary_and_latency_have_the_same_scheduling() {
    for name in
        ["go127-annotations.trace", "go127-cgo-callback.trace", "go127-iter-pull.trace", "go125-wait-on-pipe.trace"]
    {
        let latency = json(&expect(0, &["latency", "--json", &file(name)]));
        let summary = json(&expect(0, &["summary", "--json", &file(name)]));
        assert_eq!(summary["scheduling"], latency["all"], "{name}");
        // What runs, and for how long none does, agree.
        let c = &summary["concurrency"];
        let number = |v: &serde_json::Value| v.as_f64().expect("a number");
        let some = 1.0 - number(&c["none_ns"]) / number(&summary["trace"]["duration_ns"]);
        assert!(number(&c["running_mean"]) <= number(&c["running_max"]) * some + 1e-9, "{name}: {c}");
    }
}

#[test]
fn a_trace_does_not_differ_from_itself() {
    let t = before();
    let text = expect(0, &["diff", &t, &t]);
    let mut rows = text.lines();
    assert_eq!(rows.next().map(str::split_whitespace).map(Iterator::collect), Some(vec!["A", "B", "change"]));
    for row in rows {
        assert!(row.ends_with("same"), "{row}");
    }
}

#[test]
fn a_trace_does_not_differ_from_its_summary() {
    // Of its 30 stacks the summary as JSON has the first 20, and the one of the first one's place.
    let t = many().display().to_string();
    let path = scratch("cli-check-summary").join("whole.json");
    let summary = expect(0, &["summary", "--json", &t]);
    std::fs::write(&path, &summary).expect("write");
    let path = path.display().to_string();
    for args in [["diff", "--json", &t, &path], ["diff", "--json", &path, &t]] {
        let v = json(&expect(0, &args));
        for (list, len) in [("blocking", 20), ("groups", 1), ("tasks", 30)] {
            let rows = v[list].as_array().expect(list);
            assert!(rows.len() == len && rows.iter().all(|r| r["a"] == r["b"]), "{list}: {rows:#?}");
        }
        assert_eq!(v["partial"], serde_json::json!(["blocking"]));
    }
    assert!(
        expect(0, &["diff", &t, &path])
            .ends_with("only the longest of blocking: what it leaves out is not compared.\n")
    );
    assert!(expect(0, &["diff", &t, &t]).ends_with("same\n"));
}

#[test]
fn no_task_is_too_short_for_a_limit() {
    let t = many().display().to_string();
    assert_eq!(
        expect(0, &["check", "--max", "task.task0.p99=100ms", &t]),
        "ok    task.task0.p99 is 22 ns, at most 100 ms\n"
    );
    let baseline = expect(0, &["check", "--baseline", &t, &t]);
    assert!((0..30).all(|i| baseline.contains(&format!("  task.task{i}.p99 is "))), "{baseline}");
    // The page says how much it leaves out of what there is.
    let page = expect(0, &["summary", &t]);
    assert_eq!(page.matches("  ... and 24 more\n").count(), 2, "{page}");
}

#[test]
fn a_diff_has_the_greatest_difference_first_and_says_what_is_worse() {
    let (a, b) = (before(), after());
    let text = expect(0, &["diff", &a, &b]);
    let row = |name: &str| {
        let line = text.lines().find(|l| l.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("duration"), "1.67 ms 745 us -55.4 %");
    assert_eq!(row("heap.peak"), "2.55 MiB 2.56 MiB +0.6 % worse");
    assert_eq!(row("sched.p99"), "1.57 ms 679 us -56.7 % better");
    assert_eq!(row("main.main "), "1.66 ms 740 us -924 us");
    assert!(text.contains("\nWaiting ") && text.contains("\nRegions, p99"), "{text}");

    let v = json(&expect(0, &["diff", "--json", &a, &b]));
    assert_eq!((&v["schema"], &v["per_second"]), (&"exectrace.diff/1".into(), &false.into()));
    for list in ["blocking", "syscalls", "groups", "tasks", "regions"] {
        let rows = v[list].as_array().expect(list);
        let differences: Vec<f64> =
            rows.iter().map(|r| (r["b"].as_f64().expect("b") - r["a"].as_f64().expect("a")).abs()).collect();
        assert!(!rows.is_empty() && differences.is_sorted_by(|x, y| x >= y), "{list}: {differences:?}");
    }
    // The other way round everything is the other way round.
    let back = json(&expect(0, &["diff", "--json", &b, &a]));
    let heap = |v: &serde_json::Value, key: &str| {
        let rows = v["numbers"].as_array().expect("numbers").clone();
        rows.into_iter().find(|r| r["name"] == "heap.peak").expect("heap.peak")[key].clone()
    };
    assert_eq!((heap(&v, "a"), heap(&v, "better")), (heap(&back, "b"), false.into()));
    assert_eq!(heap(&back, "better"), true);

    // For each second of trace.
    let rate = json(&expect(0, &["diff", "--json", "--rate", &a, &b]));
    let main = |v: &serde_json::Value, side: &str| {
        let rows = v["groups"].as_array().expect("groups").clone();
        rows.into_iter().find(|r| r["label"] == "main.main").expect("main.main")[side].as_f64().expect("ns")
    };
    let share = main(&v, "a") / 1_670_337.0;
    assert!((main(&rate, "a") / 1e9 - share).abs() < 1e-9, "{} {share}", main(&rate, "a"));
}

#[test]
fn two_traces_cannot_both_be_standard_input() {
    assert!(refusal(2, &["diff", "-", "-"]).contains("one of them must be a file"));
    let bytes = std::fs::read(before()).expect("a trace");
    let out = run(&["diff", "-", &before()], &bytes);
    assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).lines().skip(1).all(|l| l.ends_with("same")));
}
