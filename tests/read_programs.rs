//! Traces of real Go programs, made on the spot by each Go toolchain at hand: its own trace test programs are built, run,
//! and what they write must read as Go 1.27's tool reads it, byte for byte, in both printed forms.
//!
//! Each toolchain runs a few programs; with `EXECTRACE_FULL=1` it runs all, which takes minutes. `EXECTRACE_GO_UPTO=23` leaves
//! out toolchains newer than Go 1.23.
#![cfg(feature = "cli")]

mod read_support;

use read_support::go::{self, Go, Verdict};
use read_support::{exectrace, first_difference, read, scratch};
use std::path::Path;

/// The programs of the short run: goroutines and GC, system calls, user annotations, coroutines.
const SHORT: [&str; 4] = ["gc-stress", "wait-on-pipe", "annotations", "iter-pull"];

fn trace_of(go: &Go, program: &Path, dir: &Path) -> Option<Vec<u8>> {
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    let bin = dir.join(format!("{name}-{}", go.minor));
    let build = go.command().arg("build").arg("-o").arg(&bin).arg(program).output().expect("go build");
    if !build.status.success() {
        // A program for cgo where there is no C compiler.
        eprintln!("not built: {name}: {}", String::from_utf8_lossy(&build.stderr).trim());
        return None;
    }
    let run = std::process::Command::new(&bin).output().expect("run");
    let _ = std::fs::remove_file(&bin);
    assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
    Some(run.stdout)
}

#[test]
fn traces_of_go_programs_print_as_go_prints_them() {
    let Some(model) = go::model() else { return };
    let full = std::env::var_os("EXECTRACE_FULL").is_some();
    let dir = scratch("programs");
    let mut compared = 0;
    let newest = std::env::var("EXECTRACE_GO_UPTO").map_or(u32::MAX, |v| v.parse().expect("a minor version"));
    for go in go::all().iter().filter(|g| g.minor <= newest) {
        let programs = go.testdata().join("testprog");
        let mut paths: Vec<_> = std::fs::read_dir(&programs).expect("programs").flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let wanted = full || SHORT.contains(&name.as_str());
            if !wanted || path.extension().is_none_or(|x| x != "go") {
                continue;
            }
            let Some(trace) = trace_of(go, &path, &dir) else { continue };
            let file = dir.join(format!("go1.{}-{name}.trace", go.minor));
            std::fs::write(&file, &trace).expect("write");
            let at = format!("go 1.{}, {name}", go.minor);
            let (want, verdict) = model.parse(&file);
            assert_eq!(verdict, Verdict::Accepts, "{at}");
            let (events, error) = read(&trace);
            assert!(error.is_none(), "{at}: {error:?}");
            assert!(events.len() > 10, "{at}: {} events", events.len());
            let wire = model.trace("wire", &file).stdout;
            for (format, want) in [("go", want), ("wire", wire)] {
                let ours = exectrace(&["print", "--format", format], &file);
                assert!(ours.stdout == want, "{at}, {format}: {}", first_difference(&ours.stdout, &want));
                assert!(ours.status.success(), "{at}, {format}: {}", String::from_utf8_lossy(&ours.stderr));
            }
            compared += 1;
            // What agrees is of no more use; what does not is left for a look.
            let _ = std::fs::remove_file(&file);
        }
    }
    eprintln!("{compared} traces of {} toolchains agree", go::all().len());
    assert!(compared >= SHORT.len(), "{compared} traces");
}
