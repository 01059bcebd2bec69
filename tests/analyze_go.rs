//! The numbers of our answers beside those of `go tool trace` on the same traces: profiles, goroutines, the MMU.
//!
//! The traces are those of `tests/data`, some that Go's own test programs write on the spot, and those of a directory named in
//! `EXECTRACE_TRACES`. Without a Go 1.27 the tests say so and pass.
#![cfg(feature = "cli")]

mod analyze_support;
mod read_support;

use analyze_support::{GoPages, duration_ns, pprof};
use exectrace::analyze::{self, Counting, ProfileKind, ProfileOptions, Work};
use exectrace::export;
use exectrace::read::Reader;
use read_support::go::{self, Go};
use read_support::scratch;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Traces to compare on: of Go programs with work for each kind of answer.
fn traces(go: &'static Go) -> &'static [PathBuf] {
    static ALL: OnceLock<Vec<PathBuf>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = Vec::new();
        let mut add_dir = |dir: &Path| {
            let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
            all.extend(files.filter(|p| p.extension().is_some_and(|x| x == "trace")));
        };
        add_dir(&read_support::data_file(""));
        if let Some(dir) = std::env::var_os("EXECTRACE_TRACES") {
            add_dir(Path::new(&dir));
        }
        let dir = scratch("analyze-go");
        for program in ["gc-stress", "stress", "annotations", "cgo-callback"] {
            let source = go.testdata().join(format!("testprog/{program}.go"));
            let bin = dir.join(program);
            let built = go.command().arg("build").arg("-o").arg(&bin).arg(&source).output().expect("go build");
            assert!(built.status.success(), "{program}: {}", String::from_utf8_lossy(&built.stderr));
            let ran = Command::new(&bin).output().expect("run");
            assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
            let file = dir.join(format!("{program}.trace"));
            std::fs::write(&file, ran.stdout).expect("write");
            all.push(file);
        }
        all.sort();
        all
    })
}

fn open(path: &Path) -> Reader<'static> {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Reader::new(file).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn profiles_have_gos_numbers() {
    let Some(go) = go::model() else { return };
    let dir = scratch("analyze-go-profiles");
    let mut compared = 0;
    let mut failures: Vec<String> = Vec::new();
    for path in traces(go) {
        for (kind, name) in [
            (ProfileKind::Sync, "sync"),
            (ProfileKind::Network, "net"),
            (ProfileKind::Syscall, "syscall"),
            (ProfileKind::Sched, "sched"),
        ] {
            let at = format!("{}, {name}", path.display());
            let out = go.command().args(["tool", "trace", &format!("-pprof={name}")]).arg(path).output().expect("go");
            assert!(out.status.success(), "{at}: {}", String::from_utf8_lossy(&out.stderr));
            let want = pprof::decode(&out.stdout);
            let profile = analyze::profile(&mut open(path), kind, &ProfileOptions::default());
            let file = dir.join("ours.pb");
            let bytes = export::pprof::encode(&profile);
            let got = pprof::decode(&bytes);
            assert_eq!(got.types, want.types, "{at}");
            let wrong = want.samples.iter().filter(|(stack, values)| got.samples.get(*stack) != Some(values));
            let wrong: Vec<_> =
                wrong.map(|(k, v)| format!("{:?} {v:?}, ours {:?}", k.first(), got.samples.get(k))).collect();
            if !wrong.is_empty() || got.samples.len() != want.samples.len() {
                failures.push(format!("{at}: {} of {}: {:?}", wrong.len(), want.samples.len(), wrong.first()));
                continue;
            }
            assert_eq!(profile.count as i64, want.samples.values().map(|v| v[0]).sum::<i64>(), "{at}");
            compared += want.samples.len();
            if want.samples.is_empty() {
                continue;
            }
            // Go's reader of profiles checks what ours does not.
            std::fs::write(&file, bytes).expect("write");
            let raw = go.command().args(["tool", "pprof", "-raw", "-symbolize=none"]).arg(&file).output().expect("go");
            assert!(raw.status.success(), "{at}: {}", String::from_utf8_lossy(&raw.stderr));
            let raw = String::from_utf8_lossy(&raw.stdout);
            assert!(raw.contains("contentions/count delay/nanoseconds"), "{at}: {raw}");
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared > 100, "{compared} stacks compared");
}

#[test]
fn goroutines_have_gos_times() {
    let Some(go) = go::model() else { return };
    let mut compared = 0;
    for path in traces(go) {
        let pages = GoPages::serve(go, path);
        let ours = analyze::goroutines(&mut open(path), Some(""));
        let by_id: BTreeMap<u64, _> = ours.goroutines.iter().map(|g| (g.id, g)).collect();
        for group in &ours.groups {
            if group.goroutines > 500 || group.name.is_empty() {
                continue;
            }
            let at = format!("{}, {}", path.display(), group.name);
            let ids: Vec<u64> = ours.goroutines.iter().filter(|g| g.name == group.name).map(|g| g.id).collect();
            if ids.iter().collect::<BTreeSet<_>>().len() != ids.len() {
                // Go keeps only the last goroutine of those with the same id (threads that call from C come again).
                continue;
            }
            let rows = pages.goroutines(&group.name);
            assert_eq!(rows.len() as u64, group.goroutines, "{at}");
            let mut blocked: BTreeMap<&str, u64> = BTreeMap::new();
            for (id, parts) in &rows {
                let Some(g) = by_id.get(id) else { continue };
                let part = |name: &str| parts.get(name).map_or(0, |d| duration_ns(d));
                let at = format!("{at}, goroutine {id}: {parts:?}, {g:?}");
                assert_eq!(g.execution_ns, part("Execution time"), "{at}");
                // A system call without a processor that goes on at the end of the trace counts twice in Go, and under
                // other names: as execution of the call and as waiting for a processor.
                // One that lost its processor after another goroutine came back from an older call, which it had begun on the same
                // processor, counts in Go as execution of the call alone: Go forgets whose the processor is then.
                let open = g.syscall_blocked_ns - part("Block time (syscall)");
                let waits_in_go = if g.end_at_ns.is_none() { open } else { 0 };
                assert_eq!(g.sched_wait_ns + waits_in_go, part("Sched wait time"), "{at}");
                assert_eq!(g.syscall_ns + open, part("Syscall execution time"), "{at}");
                let waits = parts.iter().filter_map(|(name, d)| {
                    let reason = name.strip_prefix("Block time (")?.strip_suffix(')')?;
                    (reason != "syscall").then(|| (reason, duration_ns(d)))
                });
                let mut sum = 0;
                for (reason, ns) in waits {
                    *blocked.entry(reason).or_default() += ns;
                    sum += ns;
                }
                assert_eq!(g.blocked_ns, sum, "{at}");
                compared += 1;
            }
            if rows.keys().all(|id| by_id.contains_key(id)) {
                for n in &group.blocked {
                    let want = blocked.get(n.name.as_str()).copied().unwrap_or(0);
                    assert_eq!(n.durations.total_ns, want, "{at}, {}", n.name);
                }
            }
        }
    }
    assert!(compared > 50, "{compared} goroutines compared");
}

#[test]
fn the_mmu_is_gos() {
    let Some(go) = go::model() else { return };
    let mut compared = 0;
    let mut failures: Vec<String> = Vec::new();
    for path in traces(go) {
        let pages = GoPages::serve(go, path);
        for flags in ["stw", "assist", "sweep", "background", "stw|background|assist", "stw|background|assist|sweep"] {
            let mut want = pages.mmu(flags);
            // In a window of 1 ns Go looks behind the end of the trace, where it finds nothing.
            want.retain(|(window, _)| *window > 1);
            let windows: Vec<u64> = want.iter().map(|(w, _)| *w).collect();
            let has = |flag| flags.split('|').any(|f| f == flag);
            let work =
                Work { stw: has("stw"), background: has("background"), assist: has("assist"), sweep: has("sweep") };
            let curve = analyze::mmu(&mut open(path), &windows, work, Counting::AsGo);
            assert_eq!(curve.points.len(), want.len(), "{}", path.display());
            let wrong: Vec<String> = curve
                .points
                .iter()
                .zip(&want)
                .filter(|(p, (_, utilization))| (p.utilization - utilization).abs() > 1e-6)
                .map(|(p, (window, utilization))| format!("{window} ns: {}, Go {utilization}", p.utilization))
                .collect();
            if !wrong.is_empty() {
                failures.push(format!(
                    "{}, {flags}: {} of {}: {:?}",
                    path.display(),
                    wrong.len(),
                    want.len(),
                    wrong[0]
                ));
            }
            compared += want.iter().filter(|(_, u)| *u < 1.0).count();
            if !has("background") && want.last().is_some_and(|(_, u)| *u > 0.0) {
                let own = analyze::mmu(&mut open(path), &windows, work, Counting::Labelled);
                assert_eq!(own, curve, "{}, {flags}: the two ways of counting differ in workers alone", path.display());
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared > 100, "{compared} points below 1 compared");
}
