//! A program that does not ask for the hooks has none of their symbols, though it links the crate and calls into it.

#![cfg(feature = "read")]

mod interpose;

use std::process::Command;

macro_rules! strings {
    ($($name:ident)*) => { [$(stringify!($name)),*] };
}

/// What the symbol table of an object says it defines.
fn defined(path: &std::path::Path) -> Vec<String> {
    let output = Command::new("nm").args(["--defined-only", "--format=posix"]).arg(path).output().expect("nm");
    assert!(output.status.success(), "nm {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("symbols are plain text");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn no_symbol_without_the_macro() {
    let ((), seen) = interpose::record(|| drop(std::fs::read("/proc/self/status").expect("a file")));
    assert!(seen.nothing(), "{seen:?}");

    let symbols = defined(&std::env::current_exe().expect("ourselves"));
    assert!(symbols.len() > 1000, "a test program has more than {} symbols", symbols.len());
    let names = exectrace::__interpose_names!(strings);
    let foreign: Vec<_> = symbols.iter().filter(|s| names.contains(&s.as_str())).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}
