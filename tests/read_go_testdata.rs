//! The test data of Go's own trace reader, read from an installed Go: the same verdict on each file, and where Go accepts,
//! the same events.

#![cfg(feature = "cli")]

mod read_support;

use exectrace::read::ErrorKind;
use read_support::go::{self, Go, Verdict};
use read_support::{exectrace, first_difference, read, read_threaded, scratch, text};
use std::path::{Path, PathBuf};

fn files(dir: &Path, ext: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().unwrap_or_default() == ext)
        .collect();
    files.sort();
    files
}

/// Gives a trace to Go and to us and compares verdict, output and the two ways of reading.
fn compare(go: &Go, name: &str, wire: &[u8]) -> Verdict {
    let file = scratch("go_testdata").join(format!("{name}.trace"));
    std::fs::write(&file, wire).expect("write");
    let (want, verdict) = go.parse(&file);
    let ours = exectrace(&["print", "--format", "go"], &file);
    let (events, error) = read(wire);
    match &verdict {
        Verdict::Accepts => {
            let silent = error.as_ref().is_none_or(exectrace::read::Error::go_is_silent);
            assert!(silent, "{name}: Go accepts it, we say: {error:?}");
        }
        Verdict::Rejects(words) => assert!(error.is_some(), "{name}: Go says {words}, we accept it"),
        Verdict::Panics(words) => panic!("{name}: Go panics: {words}"),
    }
    assert!(ours.stdout == want, "{name}: {}", first_difference(&ours.stdout, &want));
    let (threaded, again) = read_threaded(wire);
    assert_eq!(events, threaded, "{name}");
    assert_eq!(error.map(|e| e.to_string()), again.map(|e| e.to_string()), "{name}");
    verdict
}

#[test]
fn text_traces_get_the_verdict_that_go_expects() {
    let Some(go) = go::model() else { return };
    let mut tests = files(&go.testdata().join("tests"), "test");
    assert!(tests.len() >= 20, "{} tests in {}", tests.len(), go.testdata().display());
    tests.push(go.root.join("src/cmd/trace/testdata/go122.test"));
    let mut failures = 0;
    for path in &tests {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let test = text::parse_test(&text);
        let verdict = compare(go, &name, &test.wire);
        if test.expect == "SUCCESS" {
            assert_eq!(verdict, Verdict::Accepts, "{name}");
            continue;
        }
        failures += 1;
        // All failures that Go's files expect are of one sort.
        assert!(test.expect.contains("expected a proc but didn't have one"), "{name}: a new sort: {}", test.expect);
        let error = read(&test.wire).1.unwrap_or_else(|| panic!("{name} is accepted"));
        // One of them ends in the middle of a batch, which Go does not see before it has ordered what is there; we say that.
        if error.kind() == ErrorKind::Truncated {
            assert!(
                error.to_string().contains("is incomplete") && name == "go122-fail-first-gen-first",
                "{name}: {error}"
            );
            continue;
        }
        assert_eq!(error.kind(), ErrorKind::Context, "{name}: {error}");
        assert!(error.to_string().contains("expected a processor"), "{name}: {error}");
        assert!(
            error.generation().is_some() && error.thread().is_some() && error.offset().is_some(),
            "{name}: {error}"
        );
    }
    assert!(failures >= 2, "no failure among {} tests", tests.len());
}

#[test]
fn fuzz_seeds_get_the_verdict_of_go() {
    let Some(go) = go::model() else { return };
    let dir = go.testdata().join("fuzz/FuzzReader");
    let mut n = 0;
    for entry in std::fs::read_dir(&dir).expect("seeds").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path()).expect("a seed");
        let body = text.lines().nth(1).expect("a second line");
        let literal = body.strip_prefix("[]byte(").and_then(|b| b.strip_suffix(')')).expect("a literal of bytes");
        let wire = text::unquote(literal);
        n += 1;
        if wire.starts_with(b"go 1.11") {
            let error = read(&wire).1.expect("an error");
            assert_eq!(error.kind(), ErrorKind::OldVersion(11), "{name}: {error}");
            continue;
        }
        // Several of the seeds once made Go's reader or printer panic.
        compare(go, &name, &wire);
    }
    assert!(n >= 15, "{n} seeds in {}", dir.display());
}

#[test]
fn traces_of_the_old_format_are_named_as_such() {
    let Some(go) = go::model() else { return };
    let dir = go.root.join("src/internal/trace/internal/tracev1/testdata");
    let mut n = 0;
    for entry in std::fs::read_dir(&dir).expect("old traces").flatten() {
        let bytes = std::fs::read(entry.path()).expect("a trace");
        let (events, error) = read(&bytes);
        let error = error.expect("an error");
        let minor = match error.kind() {
            ErrorKind::OldVersion(minor) => minor,
            kind => panic!("{}: {kind:?}", entry.path().display()),
        };
        assert!(events.is_empty());
        assert!(error.to_string().contains(&format!("Go 1.{minor}")), "{error}");
        n += 1;
    }
    assert!(n >= 5, "{n} traces in {}", dir.display());
}
