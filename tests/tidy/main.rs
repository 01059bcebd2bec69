//! The house rules that a compiler does not keep: who may import whom, where `unsafe` may stand, sizes, headers, dead references.
//!
//! ARCHITECTURE.md tells the reasons. Each rule is a table or a pure function here, and each is tried on an example that breaks it,
//! so that a rule that never fires is noticed.

#![forbid(unsafe_code)]

mod lex;
mod prose;
mod rooms;

use std::path::{Path, PathBuf};

/// A text file of the repository.
pub struct Source {
    /// Its path from the repository's root, with `/` between the parts.
    pub path: String,
    /// What is in it.
    pub text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All text files of the repository, without what is built, locked or private to a machine.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut left = vec![root().to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).expect("directories of the repository can be read").flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().expect("names in the repository are UTF-8");
            let hidden = name.starts_with('.') && ![".ci", ".cargo", ".github", ".gitignore"].contains(&name.as_str());
            if hidden || ["target", "Cargo.lock", "corpus", "artifacts"].contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                left.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                found.push(Source { path: relative(&path), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.iter().any(|s| s.path == "src/lib.rs"), "the walk finds the sources");
    found
}

fn relative(path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root()).expect("the walk stays in the repository").into();
    path.to_str().expect("names in the repository are UTF-8").replace('\\', "/")
}

/// Fails with all complaints of a rule at once.
fn report(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}:\n{}", complaints.join("\n"));
}

fn check_each(rule: &str, check: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<_> = sources().iter().flat_map(check).collect();
    report(rule, &complaints);
}

#[test]
fn rooms_import_only_what_they_may() {
    check_each("imports against the order of rooms", rooms::imports);
}

#[test]
fn unsafe_stands_only_where_it_may() {
    check_each("unsafe code in a room that may have none", rooms::unsafe_code);
    let mut complaints = Vec::new();
    for room in rooms::SAFE {
        let path = format!("src/{room}/mod.rs");
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        if !rooms::forbids_unsafe(&text) {
            complaints.push(format!("{path}: no #![forbid(unsafe_code)]"));
        }
    }
    report("a room that may have no unsafe code says so", &complaints);
}

#[test]
fn the_guest_does_not_print() {
    check_each("output in the in-process half", rooms::output);
}

#[test]
fn every_file_opens_with_its_purpose() {
    check_each("a file without a word on what it is for", prose::opening);
}

#[test]
fn no_file_is_too_long() {
    check_each("a file too long to be read in one go", prose::length);
}

#[test]
fn no_words_that_do_not_belong() {
    check_each("words that do not belong in the repository", prose::words);
}

#[test]
fn paths_named_in_documents_exist() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        assert!(root().join(document).exists(), "{document}");
    }
    let exists = |path: &str| prose::exists(root(), path);
    check_each("a path that is named and does not exist", |s| prose::paths(s, &exists));
}

/// Each rule fires on an example that breaks it, and is silent on one that does not.
#[test]
fn the_rules_bite() {
    type Rule = fn(&Source) -> Vec<String>;
    let check = |rule: Rule, path: &str, text: &str, expected: usize| {
        let source = Source { path: path.into(), text: text.into() };
        let said = rule(&source);
        assert_eq!(said.len(), expected, "{path}: {text:?}: {said:?}");
    };
    check(rooms::imports, "src/format/a.rs", "use crate::sys::x;", 1);
    check(rooms::imports, "src/format/a.rs", "use crate::{format::a, read::{b, c}};", 1);
    check(rooms::imports, "src/hook/a.rs", "fn f() { super::super::read::go() }", 1);
    check(rooms::imports, "src/hook/mod.rs", "mod inner { use super::super::read; }", 1);
    check(rooms::imports, "src/record/a.rs", "use crate::{format::Kind, sys}; use super::b; // crate::read", 0);
    check(rooms::imports, "src/read/a.rs", "use crate::Stats;", 1);
    check(rooms::imports, "src/read/a.rs", "crate::check!(1); let s = \"crate::hook\";", 0);
    check(rooms::imports, "src/read/a.rs", "#[cfg(test)] mod tests { use crate::record::x; } use crate::format;", 0);
    check(rooms::imports, "src/read/a.rs", "#[cfg(not(test))] use crate::record::x;", 1);
    check(rooms::imports, "src/attic/a.rs", "", 1);
    check(rooms::imports, "src/cli/main.rs", "use crate::input; use exectrace::{analyze::x, read};", 0);
    check(rooms::imports, "src/cli/a.rs", "exectrace::start(x);", 1);
    check(rooms::imports, "alloc-shim/src/a.rs", "use exectrace::x;", 1);
    check(rooms::unsafe_code, "src/read/a.rs", "fn f() { unsafe { g() } }", 1);
    check(rooms::unsafe_code, "src/read/a.rs", "// unsafe\nlet c = 'u'; let s = r#\"unsafe \" {\"#;", 0);
    check(rooms::unsafe_code, "src/sys/a.rs", "fn f() { unsafe { g() } }", 0);
    check(rooms::output, "src/sys/a.rs", "fn f() { println!(\"x\") }", 1);
    check(rooms::output, "src/sys/a.rs", "#[test] fn f() { println!(\"x\") } #[cfg(test)] fn g() { dbg!(1) }", 0);
    check(prose::opening, "src/a.rs", "use x;", 1);
    check(prose::opening, "src/a.rs", "//! Words.\n", 0);
    check(prose::opening, "a/b.go", "package b", 1);
    check(prose::opening, ".ci/x", "#!/bin/sh\n# Words.\n", 0);
    check(prose::length, "src/a.rs", &"\n".repeat(801), 1);
    check(prose::words, "a.md", concat!("a TO", "DO here"), 1);
    check(prose::words, "a.rs", "let todos = TODOS;", 0);
    check(prose::words, "a.rs", concat!("see /wo", "rk/x and /ro", "ot/y"), 2);
    let none: Rule = |s| prose::paths(s, &|_| false);
    check(
        none,
        "README.md",
        "see `src/none.rs`, `tests/x.rs:12`, [it](docs/a.md#b) and `a/b` or [web](https://x/y)",
        3,
    );
    check(none, "src/a.rs", "//! see `src/none.rs`\nlet s = \"`src/none.rs`\";", 1);
}
