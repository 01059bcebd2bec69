//! Traces and Go's own tools: that the judge of the other tests can be believed, and that the traces at hand pass it.
//!
//! First the judge is put to the test: it must refuse what is broken, accept what real Go programs write, and find in a known
//! trace what is in it. The recorder's own tests then need no more than `judge.accept(path)`.

mod support;

use exectrace::format::Version;
use std::path::{Path, PathBuf};
use support::batch::{Depth, Item};
use support::go::Toolchain;
use support::judge::{Judge, header_of, window_items};
use support::window::{Split, windows};
use support::{Scratch, broken, good, process};

/// Each rule that Go's reader keeps: the judge refuses the trace that breaks it, in the reader's words.
#[test]
fn broken_traces_are_refused() {
    let scratch = Scratch::new("broken");
    let cases = broken::cases();
    let items: Vec<_> =
        cases.iter().enumerate().map(|(i, c)| Item::file(&scratch.write(&format!("{i}.trace"), &c.trace))).collect();
    let mut wrong = Vec::new();
    for (age, judge) in Judge::all().into_iter().enumerate() {
        for (case, verdict) in cases.iter().zip(judge.verdicts(&items, Depth::All)) {
            if header_of(&case.trace).is_some_and(|v| !judge.toolchain().opens(v)) {
                assert!(verdict.error.contains("unsupported"), "{}: {verdict:?}", case.name);
                continue;
            }
            // The words and the stage are those of the newest Go; the older ones agree on yes and no.
            let agrees = match case.refused {
                None => verdict.accepted(),
                Some((stage, words)) if age == 0 => verdict.stage == stage && verdict.error.contains(words),
                Some(("parsed", _)) => !verdict.accepted(),
                Some(_) => true,
            };
            if !agrees {
                let said =
                    format!("{} {}", verdict.stage, verdict.error.lines().take(8).collect::<Vec<_>>().join(" | "));
                wrong.push(format!(
                    "{}, {}: expected {:?}, got {said}",
                    judge.toolchain().version,
                    case.name,
                    case.refused
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The unmodified tools refuse too, each in its own way: text mode, wire mode, the page that dies, the file that is no trace.
#[test]
fn the_unmodified_tools_refuse_as_well() {
    let Some(judge) = Judge::find() else { return };
    let scratch = Scratch::new("refuse");
    let check = |name: &str, complaint: &str| {
        let cases = broken::cases();
        let case = cases.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no case {name:?}"));
        let path = scratch.write("x.trace", &case.trace);
        let refusal = judge.check(&path).err().unwrap_or_else(|| panic!("{name}: accepted"));
        let found = refusal.complaints.iter().any(|c| c.contains(complaint));
        assert!(found, "{name}: nobody says {complaint:?}:\n{refusal}");
    };
    check("a gap in the GC sequence", "-d=parsed: exit status: 1: broken trace");
    check("no trace at all", "-pprof=sync: ");
    check("the end cut off, 1.26", "able to proceed");
    check("objects in a trace with an older header", "-d=wire: exit status: 1: invalid event type");
    check("objects in a trace with an older header", "-d=footprint: ");
    check("a sweep on a processor beyond GOMAXPROCS", "/mmu?mode=plot&flags=system%7Csweep: closed without an answer");
    check("a sweep on a processor beyond GOMAXPROCS", "the server says: ");
    check("no trace at all", "the server does not listen");
}

/// A tool opens headers up to its own version, and the judge knows which.
#[test]
fn old_tools_do_not_open_new_headers() {
    let scratch = Scratch::new("headers");
    for version in Version::ALL {
        let path = scratch.write(&format!("{}.trace", version.minor()), &good::trace(version));
        for judge in Judge::all() {
            let verdict = judge.verdicts(&[Item::file(&path)], Depth::Text).remove(0);
            assert_eq!(
                verdict.accepted(),
                judge.toolchain().opens(version),
                "{}: {verdict:?}",
                judge.toolchain().version
            );
        }
    }
}

/// A known trace, in each version of the format, is accepted by each tool that opens it, and the judge finds in it what is in it.
#[test]
fn a_good_trace_is_accepted_and_understood() {
    let scratch = Scratch::new("good");
    for version in Version::ALL {
        let path = scratch.write(&format!("{}.trace", version.minor()), &good::trace(version));
        for judge in Judge::all_for(version) {
            understood(&judge, version, &path);
        }
    }
}

fn understood(judge: &Judge, version: Version, path: &Path) {
    let report = judge.accept(path);
    let facts = &report.facts;
    assert_eq!(facts.header, format!("go 1.{} trace", version.minor()));
    assert_eq!((facts.generations as usize, facts.procs), (good::GENERATIONS, 4));
    assert_eq!(facts.names().into_iter().collect::<Vec<_>>(), [good::LATE, good::MAIN, good::WORKER]);
    assert_eq!(facts.named(good::WORKER).count(), 2, "two workers in one group");
    assert_eq!(facts.reasons().into_iter().collect::<Vec<_>>(), ["chan receive", "network", "sleep", "sync"]);
    assert_eq!(facts.wakes_between(good::WORKER, good::MAIN), 1, "the message");
    assert_eq!(facts.wakes_between(good::MAIN, good::WORKER), 1, "the lock");
    let lock = facts.waits_at("sync", "std::sync::Mutex::lock").next().expect("the wait for the lock");
    assert!(lock.stack[1].ends_with(&format!("{}:60", good::FILE)), "{:?}", lock.stack);
    assert_eq!((lock.count, lock.total_ns), (1, good::LOCK_WAIT_NS), "{lock:?}");
    assert_eq!(facts.syscalls_at("libc::read").map(|s| s.count).sum::<u64>(), 3);
    let heap = facts.heap().expect("a heap curve");
    assert_eq!((heap.count, heap.min, heap.max, heap.last), (7, 1 << 20, 5 << 20, 2 << 20));
    assert_eq!(facts.heap_goal().expect("a goal").max, 6 << 20);
    let cycles: Vec<_> = facts.ranges_named("GC concurrent mark phase").collect();
    assert_eq!(cycles.len(), 2);
    assert!(cycles.iter().all(|c| c.scope == "None" && c.begin_ns.is_some() && c.end_ns.is_some()), "{cycles:?}");
    assert_eq!(facts.ranges_named("stop-the-world (GC mark termination)").count(), 1);
    assert_eq!(facts.ranges_named("GC incremental sweep").count(), 2);
    assert_eq!(facts.ranges_named("GC mark assist").count(), 1);
    assert_eq!(
        facts.tasks.iter().filter(|t| t.id != 0).map(|t| (t.id, t.parent, t.name.as_str())).collect::<Vec<_>>(),
        [(1, 0, "request"), (2, 1, "parse")]
    );
    assert_eq!(facts.regions.iter().filter(|r| r.name == "decode body").count(), 2);
    assert_eq!(
        facts.logs.iter().map(|l| (l.category.as_str(), l.message.as_str())).collect::<Vec<_>>(),
        [("http", "GET /index 200"); 2]
    );
    assert_eq!(facts.samples.iter().map(|s| s.count).sum::<u64>(), 2);
    let created = facts.creations.iter().find(|c| c.creator == 1).expect("main made a worker");
    assert!(created.stack[0].starts_with("std::thread::spawn"), "{:?}", created.stack);

    assert_eq!((report.wire("HeapAlloc"), report.wire("GCBegin"), report.wire("GCActive")), (7, 2, 1));
    assert!(report.timed_events() > 100 && report.bytes_per_event() > 4.0, "{}", report.bytes_per_event());
    let sync = report.profile("sync");
    assert!(sync.function("Mutex::lock").is_some_and(|r| r.flat_ns > 1e6), "{sync:?}");
    assert!(report.profile("net").function("mio::Poll::poll").is_some_and(|r| r.flat_ns > 0.9e6));
    assert!(report.profile("syscall").function("libc::read").is_some());

    let timeline = &report.web.by_proc;
    for lane in ["Proc 0", "Proc 1", "Proc 2", "Proc 3", "GC", "Network"] {
        assert!(timeline.has_lane(lane), "{lane} of {:?}", timeline.lanes);
    }
    assert!(report.web.by_thread.has_lane("Thread 1001"), "{:?}", report.web.by_thread.lanes);
    assert!(timeline.slices_with(good::WORKER) > 3, "{:?}", timeline.slices);
    // The wake-up by main is not drawn: the tool leaves out arrows that come from processor 0.
    assert_eq!((timeline.arrows_with("unblock (chan receive)"), timeline.arrows_with("unblock (sync)")), (1, 0));
    let heap = &timeline.counters["Heap"];
    assert!(heap.iter().any(|p| p.values.get("Allocated") == Some(&f64::from(5 << 20))), "{heap:?}");
    assert!(report.web.mmu.len() > 10 && report.web.pages.len() > 40, "{:?}", report.web.pages);
    for page in ["/goroutines", "/usertask?type=request", "/jsontrace?goid=2", "/jsontrace?focustask=1", "/mmu"] {
        assert!(report.web.pages.contains_key(page), "{page} of {:?}", report.web.pages.keys());
    }
}

/// What real Go programs write is accepted: the judge is not stricter than the world.
#[test]
fn real_go_traces_are_accepted() {
    let scratch = Scratch::new("real");
    for judge in Judge::all() {
        for program in ["annotations", "wait-on-pipe", "iter-pull"] {
            let trace = go_trace(&judge, program, "", &scratch);
            let report = judge.accept(&trace);
            assert!(report.facts.events > 20 && report.facts.names().contains("main.main"), "{program}");
        }
    }
}

/// Every window of a trace is a trace: of the known one, and of a real one with many generations.
#[test]
fn windows_of_good_traces_are_accepted() {
    let Some(judge) = Judge::find() else { return };
    let scratch = Scratch::new("windows");
    for version in Version::ALL {
        let trace = good::trace(version);
        let path = scratch.write(&format!("{}.trace", version.minor()), &trace);
        assert_eq!(windows(&trace).len(), 3 + 2 + 1);
        assert_eq!(judge.accept_windows(&path, 6, Depth::Pages), 3 + 2 + 1);
    }
    let real = go_trace(&judge, "stress", "traceadvanceperiod=20000000", &scratch);
    let split = Split::new(&std::fs::read(&real).expect("it was written")).expect("whole batches");
    assert!(split.generations.len() > 3 && split.batches > split.generations.len(), "{}", split.generations.len());
    judge.accept_windows(&real, 2, Depth::Text);
}

/// A generation that rests on the one before it makes no window: the judge finds it although the whole trace is fine.
#[test]
fn a_window_that_leans_on_the_past_is_refused() {
    let Some(judge) = Judge::find() else { return };
    let scratch = Scratch::new("leaning");
    let path = scratch.write("x.trace", &broken::leaning());
    judge.accept(&path);
    let verdicts = judge.verdicts(&window_items(&path, 2), Depth::Text);
    let said: Vec<_> = verdicts.iter().map(|v| v.error.lines().next().unwrap_or_default()).collect();
    assert_eq!(verdicts.iter().map(|v| v.accepted()).collect::<Vec<_>>(), [true, false, true], "{said:?}");
    assert!(said[1].contains("but not in-flight"), "{said:?}");
}

/// A refusal of one among many is told, with its name and the reader's words.
#[test]
#[should_panic(expected = "refuses 1 of 3 traces")]
fn one_bad_trace_among_many_is_found() {
    let Some(judge) = Judge::find() else { panic!("refuses 1 of 3 traces: there is no judge to say it") };
    let scratch = Scratch::new("many");
    let good = scratch.write("good.trace", &good::trace(Version::Go123));
    let mut bytes = good::trace(Version::Go123);
    bytes.truncate(bytes.len() - 7);
    let bad = scratch.write("bad.trace", &bytes);
    judge.accept_all(&[Item::file(&good), Item::file(&bad), Item::file(&good)], Depth::Text);
}

/// Judges each trace in the directory that `EXECTRACE_TRACES` names, by every Go that opens it, and its windows of up to 6
/// generations. Of a large one only the order of its events is checked by the older Gos, and windows of up to 2.
#[test]
fn the_traces_of_a_directory_are_accepted() {
    const LARGE_BYTES: usize = 8 << 20;
    let Some(dir) = std::env::var_os("EXECTRACE_TRACES") else { return };
    let mut files = traces_under(Path::new(&dir));
    files.sort();
    assert!(!files.is_empty(), "no trace in {}", dir.display());
    for path in files {
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let version = header_of(&bytes).unwrap_or_else(|| panic!("{}: no header of a trace", path.display()));
        let large = bytes.len() > LARGE_BYTES;
        for (age, judge) in Judge::all_for(version).into_iter().enumerate() {
            match (large, age) {
                (true, 0) => drop(judge.accept_windows(&path, 2, Depth::Pages)),
                (true, _) => drop(judge.accept_all(&[Item::file(&path)], Depth::Order)),
                (false, 0) => {
                    judge.accept(&path);
                    judge.accept_windows(&path, 6, Depth::Pages);
                }
                (false, _) => drop(judge.accept(&path)),
            }
        }
    }
}

fn traces_under(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    let nested = paths.iter().filter(|p| p.is_dir()).flat_map(|p| traces_under(p));
    let here = paths.iter().filter(|p| p.is_file() && p.extension().is_some_and(|e| e == "trace")).cloned();
    here.chain(nested).collect()
}

/// Runs one of the programs that Go's own tests trace, and returns its trace.
fn go_trace(judge: &Judge, program: &str, debug: &str, scratch: &Scratch) -> PathBuf {
    let go: &Toolchain = judge.toolchain();
    let source = go.goroot().join(format!("src/internal/trace/testdata/testprog/{program}.go"));
    let out = process::run(go.command().env("GODEBUG", debug).current_dir(scratch.path("")).arg("run").arg(source));
    assert!(out.success, "{program}: {}", out.words());
    scratch.write(&format!("{program}-{}.trace", go.version), &out.stdout)
}
