//! A trace recorded without symbols gets, afterwards, the names that the tracer would have given it.
//!
//! The same work is traced twice in this process, with names and without, and the binary that `exectrace symbolize` reads is
//! this test.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod cli_support;
mod read_support;

use cli_support::{expect, refusal};
use exectrace::read::{Private, Reader};
use exectrace::{Symbolize, Tracer};
use read_support::{go, scratch};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

#[inline(never)]
fn outer(step: &str) -> usize {
    inlined(step) + std::hint::black_box(0)
}

#[inline(always)]
fn inlined(step: &str) -> usize {
    exectrace::log("step", step);
    step.len()
}

/// Work with stacks of several kinds: on the main thread and on others, inlined and generic, in the standard library's hands.
#[inline(never)]
fn work() {
    outer("main");
    std::thread::Builder::new()
        .name("worker".into())
        .spawn(|| outer("thread"))
        .expect("a thread")
        .join()
        .expect("join");
    // Over more than one generation.
    for i in 0..3 {
        exectrace::flush();
        [3, 1, 2].sort_by_key(|n| outer(&format!("sort {i} {n}")));
    }
    exectrace::with_region("region", || outer("region"));
}

fn record(symbolize: Symbolize, path: &Path) {
    let file = std::fs::File::create(path).expect("a file");
    Tracer::new().symbolize(symbolize).generation_period(Duration::from_secs(60)).start(file).expect("start");
    work();
    exectrace::stop().expect("stop");
}

type Frames = Vec<(String, String, u64)>;

/// The stacks of the logs by message; whether the trace says that its frames are raw.
fn logs(path: &Path) -> (BTreeMap<String, Frames>, bool) {
    let mut reader = Reader::new(std::fs::File::open(path).expect("a file")).expect("a trace");
    let (mut logs, mut raw) = (BTreeMap::new(), false);
    while let Some(ev) = reader.next_event().expect("a valid trace") {
        if ev.sync().is_some() {
            let sections = ev.generation().sections().map(|s| s.expect("a section"));
            raw |= sections.into_iter().any(|s| matches!(s.content, Private::Meta(m) if m.contains(&("raw_pcs", "1"))));
        }
        if let Some(log) = ev.log() {
            let frames = ev.stack().frames().map(|f| (f.func.to_owned(), f.file.to_owned(), f.line)).collect();
            logs.insert(ev.string(log.message).to_owned(), frames);
        }
    }
    (logs, raw)
}

/// One trace at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn names_come_out_as_the_tracer_gives_them() {
    let _turn = alone();
    let dir = scratch("symbolize");
    let [live, raw, named] = ["live", "raw", "named"].map(|n| dir.join(format!("{n}.trace")));
    // From one line, so that all frames are the same.
    for (symbolize, path) in [(Symbolize::Live, &live), (Symbolize::Never, &raw)] {
        record(symbolize, path);
    }
    let ((live, _), (before, is_raw)) = (logs(&live), logs(&raw));
    assert!(is_raw && before.len() == live.len() && live.len() > 8, "{live:#?}");
    assert!(before["main"].iter().all(|f| f.0.starts_with("0x")), "{:#?}", before["main"]);

    let text = expect(0, &["symbolize", &raw.display().to_string(), "-o", &named.display().to_string()]);
    assert!(text.contains("addresses named") && text.contains("rewrite_symbolize-"), "{text}");
    let (after, is_raw) = logs(&named);
    assert!(live["thread"].iter().any(|f| f.0.ends_with("::outer") && f.1.ends_with("rewrite_symbolize.rs")));
    for (message, want) in &live {
        assert_eq!(&after[message], want, "{message}");
    }
    assert!(!is_raw, "all frames have names, and the trace says so");
    let again = refusal(2, &["symbolize", &named.display().to_string(), "-o", &raw.display().to_string()]);
    assert!(again.contains("its frames have names already"), "{again}");
    if let Some(go) = go::model() {
        assert_eq!(go.parse(&named).1, go::Verdict::Accepts);
    }
}

/// Replaces text in a file by text of the same length.
fn patch(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let at: Vec<usize> = (0..out.len() - from.len()).filter(|&i| out[i..].starts_with(from.as_bytes())).collect();
    assert!(!at.is_empty(), "{from}");
    for i in at {
        out[i..i + to.len()].copy_from_slice(to.as_bytes());
    }
    out
}

#[test]
fn binaries_are_found_by_build_id_and_no_other_build_is_taken() {
    let _turn = alone();
    let dir = scratch("symbolize-ids");
    let raw = dir.join("raw.trace");
    record(Symbolize::Never, &raw);
    let exe = std::env::current_exe().expect("this test");
    let path = exe.to_str().expect("UTF-8").to_owned();
    // The trace comes from a machine where the program is elsewhere.
    let bytes = std::fs::read(&raw).expect("the trace");
    let elsewhere = format!("/nowhere{}", "x".repeat(path.len() - 8));
    let moved = dir.join("moved.trace");
    std::fs::write(&moved, patch(&bytes, &path, &elsewhere)).expect("write");
    let (moved, out) = (moved.display().to_string(), dir.join("out.trace"));
    let to = out.display().to_string();
    let run = |args: &[&str]| expect(0, &[&["symbolize", &moved, "-o", &to], args].concat());
    let main_is_named = || logs(&out).0["main"].iter().any(|f| f.0.ends_with("::outer"));

    let text = run(&[]);
    assert!(text.contains(&format!("{elsewhere}: 0 of ")) && text.contains("(not found)"), "{text}");
    let (left, is_raw) = logs(&out);
    assert!(is_raw && left["main"].iter().any(|f| f.0.starts_with("0x")), "{left:#?}");
    // What could not be named can be named later, from what has been written.
    let last = dir.join("last.trace");
    expect(0, &["symbolize", &to, "--binary", &path, "-o", &last.display().to_string()]);
    assert!(logs(&last).0["main"].iter().any(|f| f.0.ends_with("::outer")));

    run(&["--binary", &path]);
    assert!(main_is_named());

    let mut reader = Reader::new(&bytes[..]).expect("a trace");
    let generation = std::sync::Arc::clone(reader.next_block().expect("valid").expect("events").generation());
    let id = generation.sections().flatten().find_map(|s| match s.content {
        Private::Modules(m) => m.iter().find(|m| m.path == path).map(|m| m.build_id.to_owned()),
        _ => None,
    });
    let id = id.expect("the module of this test");
    if id.is_empty() {
        eprintln!("skipped in part: the linker gives no build ids");
        return;
    }
    let debug = dir.join("debug");
    let place = debug.join(".build-id").join(&id[..2]);
    std::fs::create_dir_all(&place).expect("a directory");
    let link = place.join(format!("{}.debug", &id[2..]));
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&exe, &link).expect("a link");
    run(&["--debug-dir", &debug.display().to_string()]);
    assert!(main_is_named());

    // A program built anew since stands in the old one's place: its names would be wrong.
    let other: String = id.chars().rev().collect();
    let rebuilt = dir.join("rebuilt.trace");
    std::fs::write(&rebuilt, patch(&bytes, &id, &other)).expect("write");
    let text = expect(0, &["symbolize", &rebuilt.display().to_string(), "--binary", &path, "-o", &to]);
    assert!(text.contains("(another build is there now)"), "{text}");
    assert!(!main_is_named());
    assert!(refusal(2, &["symbolize", &moved, "--binary", "/nonexistent", "-o", &to]).contains("/nonexistent"));
}

#[test]
fn a_trace_of_ours_can_be_cut_merged_converted_and_made_anonymous() {
    let _turn = alone();
    let dir = scratch("rewrite-ours");
    let path = |n: &str| dir.join(format!("{n}.trace")).display().to_string();
    let ours = path("ours");
    record(Symbolize::Live, Path::new(&ours));
    let print = |file: &str| {
        let text = expect(0, &["print", "--stacks", file]);
        text.lines().filter(|l| !l.contains(" Sync ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let whole = print(&ours);
    let accepted = |file: &str| {
        expect(0, &["check", "-q", file]);
        if let Some(go) = go::model() {
            assert_eq!(go.parse(Path::new(file)).1, go::Verdict::Accepts, "{file}");
        }
    };
    let (new, old, hidden, again) = (path("new"), path("old"), path("hidden"), path("again"));
    expect(0, &["convert", "--to", "1.26", &ours, "-o", &new]);
    expect(0, &["convert", "--to", "1.23", &new, "-o", &old]);
    for file in [&new, &old] {
        accepted(file);
        assert!(print(file) == whole, "{file}");
    }
    // The generations are not at certain times, so it is cut where it can be and put together again.
    let summary: serde_json::Value = serde_json::from_str(&expect(0, &["summary", "--json", &ours])).expect("JSON");
    let half = format!("{}ns", summary["trace"]["duration_ns"].as_u64().expect("ns") / 2);
    let (begin, end) = (path("begin"), path("end"));
    expect(0, &["cut", "--to", &half, &ours, "-o", &begin]);
    expect(0, &["cut", "--from", &half, &ours, "-o", &end]);
    expect(0, &["merge", &end, &begin, "-o", &again]);
    [&begin, &end, &again].into_iter().for_each(|f| accepted(f));
    assert!(print(&again) == whole);

    expect(0, &["anonymize", &ours, "-o", &hidden]);
    accepted(&hidden);
    let has = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|w| w == word.as_bytes());
    let gone = |words: &[&str], from: &str, hidden: &str| {
        let (before, bytes) = (std::fs::read(from).expect("read"), std::fs::read(hidden).expect("read"));
        for word in words {
            assert!(has(&before, word), "{word} is in the trace");
            assert!(!has(&bytes, word), "{word} is left");
        }
    };
    gone(&["rewrite_symbolize", "worker", "region", "sort 1 2", "step"], &ours, &hidden);
    // The map of modules has paths.
    let (raw, hidden_raw) = (path("raw"), path("hidden-raw"));
    record(Symbolize::Never, Path::new(&raw));
    expect(0, &["anonymize", &raw, "-o", &hidden_raw]);
    accepted(&hidden_raw);
    let exe = std::env::current_exe().expect("this test").display().to_string();
    gone(&[&exe, "libc.so", "worker"], &raw, &hidden_raw);
    assert_eq!(
        print(&hidden).iter().filter(|l| l.contains("GoStatus")).count(),
        whole.iter().filter(|l| l.contains("GoStatus")).count()
    );
}
