//! The rules about rooms: the directories of `src`.

use super::Source;
use super::lex::{closing, tokens, without_tests};

/// Each room and the rooms that it may name. In the order of the picture in ARCHITECTURE.md.
const ROOMS: [(&str, &[&str]); 12] = [
    ("format", &[]),
    ("names", &[]),
    ("sys", &[]),
    ("record", &["format", "names", "sys"]),
    ("hook", &["record", "format", "sys"]),
    ("gc", &["hook", "sys"]),
    ("read", &["format"]),
    ("analyze", &["read", "format"]),
    ("rewrite", &["read", "names", "format"]),
    ("export", &["analyze", "read", "format"]),
    ("view", &["export", "analyze", "read", "format"]),
    ("cli", &["view", "export", "rewrite", "analyze", "read", "format"]),
];

/// Macros of rooms, which the compiler puts at the crate's root.
const MACROS: [&str; 1] = ["Rootable"];

/// The rooms that run inside someone else's program.
const IN_PROCESS: [&str; 6] = ["format", "names", "sys", "record", "hook", "gc"];

/// The rooms that may have no unsafe code at all.
pub const SAFE: [&str; 7] = ["names", "read", "analyze", "rewrite", "export", "view", "cli"];

/// Where unsafe code may stand: the start of a path, and why.
const UNSAFE: [(&str, &str); 11] = [
    ("src/sys/", "talks to the operating system"),
    ("src/record/", "writes to memory that it got from the system"),
    ("src/gc/", "is a heap"),
    ("src/hook/interpose/", "is C's side of the functions that it stands in for"),
    ("src/hook/preload.rs", "is the floor under the preload library"),
    ("src/hook/symbols.rs", "declares those functions"),
    ("src/format/varint.rs", "has the unchecked form of the hottest function"),
    ("alloc-shim/", "is an allocator"),
    ("derive/", "writes an unsafe impl, and has no unsafe code itself"),
    ("tests/", "calls unsafe functions to test them"),
    ("benches/", "calls unsafe functions to measure them"),
];

/// The room of a file of the main package, and how deep below the crate's root its module stands.
fn room(path: &str) -> Option<(&str, usize)> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<_> = inner.split('/').filter(|p| *p != "mod").collect();
    // The front door, and binaries.
    (!["lib", "main"].contains(parts.last()?) || parts.len() > 1).then_some((parts[0], parts.len()))
}

/// Files that are test modules from end to end, and so may name what they test against.
fn is_test_file(path: &str) -> bool {
    path.ends_with("_tests.rs") || path.ends_with("/tests.rs")
}

/// Who may import whom.
pub fn imports(s: &Source) -> Vec<String> {
    if s.path.starts_with("alloc-shim/src/") && tokens(&s.text).contains(&"exectrace") {
        return vec![format!("{}: the shim knows nothing of the tracer", s.path)];
    }
    // The command is a crate of its own, which stands in the last room.
    let command = s.path.starts_with("src/cli/");
    let Some((room, depth)) = room(&s.path).or(command.then_some(("cli", 1))) else { return Vec::new() };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: no room of this name is foreseen", s.path)];
    };
    if is_test_file(&s.path) {
        return Vec::new();
    }
    let known = |name: &str| ROOMS.iter().any(|(r, _)| *r == name);
    let mut complaints = Vec::new();
    let tokens = without_tests(&tokens(&s.text));
    for name in if command { named_behind("exectrace", &tokens) } else { roots_named(&tokens, depth) } {
        if name != room && !allowed.contains(&name) && !MACROS.contains(&name) {
            let what = if known(name) { "may not name" } else { "goes through the front door for" };
            complaints.push(format!("{}: {room} {what} {name}", s.path));
        }
    }
    complaints
}

/// The names right below the crate's root that the tokens of a module, `depth` below the root, name.
fn roots_named<'a>(tokens: &[&'a str], depth: usize) -> Vec<&'a str> {
    let mut found = Vec::new();
    // Where the modules written out in this file end.
    let mut inner: Vec<usize> = Vec::new();
    for i in 0..tokens.len() {
        inner.retain(|end| i < *end);
        if tokens[i] == "mod" && tokens.get(i + 2) == Some(&"{") {
            inner.push(closing(tokens, i + 2));
        }
        let path_goes_on = |at: usize| tokens[at + 1..].starts_with(&[":", ":"]);
        let begins = i == 0 || (tokens[i - 1] != ":" && tokens[i - 1] != "$");
        let mut at = i;
        if tokens[i] == "super" && begins {
            let mut up = 1;
            while path_goes_on(at) && tokens.get(at + 3) == Some(&"super") {
                (up, at) = (up + 1, at + 3);
            }
            if up < depth + inner.len() {
                continue;
            }
        } else if tokens[i] != "crate" || !begins {
            continue;
        }
        if path_goes_on(at) {
            found.extend(heads(tokens, at + 3));
        }
    }
    found
}

/// The names right below another crate's root.
fn named_behind<'a>(name: &str, tokens: &[&'a str]) -> Vec<&'a str> {
    let starts = (0..tokens.len()).filter(|i| tokens[*i..].starts_with(&[name, ":", ":"]));
    starts.flat_map(|i| heads(tokens, i + 3)).collect()
}

/// The first names of a path or of a group `{a::b, c}`, without macros.
fn heads<'a>(tokens: &[&'a str], at: usize) -> Vec<&'a str> {
    if tokens.get(at) != Some(&"{") {
        let is_macro = tokens.get(at + 1) == Some(&"!");
        return tokens.get(at).filter(|_| !is_macro).copied().into_iter().collect();
    }
    let (end, mut found, mut i) = (closing(tokens, at), Vec::new(), at + 1);
    while i < end {
        found.push(tokens[i]);
        // On to the comma that ends this part.
        while i < end && tokens[i] != "," {
            i = if tokens[i] == "{" { closing(tokens, i) } else { i } + 1;
        }
        i += 1;
    }
    found
}

/// Where `unsafe` may stand.
pub fn unsafe_code(s: &Source) -> Vec<String> {
    let allowed = UNSAFE.iter().any(|(start, _)| s.path.starts_with(start)) || !s.path.ends_with(".rs");
    if allowed || !tokens(&s.text).contains(&"unsafe") {
        return Vec::new();
    }
    vec![format!("{}: unsafe code", s.path)]
}

/// Whether a module forbids unsafe code.
pub fn forbids_unsafe(text: &str) -> bool {
    let tokens = tokens(text);
    tokens.windows(8).any(|w| w == ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"])
}

/// Hooks do not print: standard output belongs to the program, and may be the very thing that is being recorded.
pub fn output(s: &Source) -> Vec<String> {
    let Some((room, _)) = room(&s.path) else { return Vec::new() };
    if !IN_PROCESS.contains(&room) || is_test_file(&s.path) {
        return Vec::new();
    }
    let tokens = without_tests(&tokens(&s.text));
    let prints = |w: &&[&str]| ["print", "println", "eprint", "eprintln", "dbg"].contains(&w[0]) && w[1] == "!";
    tokens.windows(2).filter(prints).map(|w| format!("{}: {}!", s.path, w[0])).collect()
}
