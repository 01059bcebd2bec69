//! The rules about files as texts.

use super::Source;
use std::path::Path;

/// The ceiling of design: what lies above is two files.
const MOST_LINES: usize = 800;

/// Every file says what it is for, first of all.
pub fn opening(s: &Source) -> Vec<String> {
    let first = s.text.lines().find(|l| !l.starts_with("#!") && !l.is_empty() && !l.starts_with("//go:build"));
    let opens = match s.path.rsplit_once('.').map(|(_, e)| e) {
        Some("rs") => "//!",
        Some("go") => return go_opening(s),
        _ if s.path.starts_with(".ci/") => "#",
        _ => return Vec::new(),
    };
    if first.is_some_and(|l| l.starts_with(opens)) {
        Vec::new()
    } else {
        vec![format!("{}: does not open with {opens}", s.path)]
    }
}

/// A Go file has a comment before its package clause, or on its first declaration if it is one of several.
fn go_opening(s: &Source) -> Vec<String> {
    let comment = s.text.lines().any(|l| l.starts_with("// ") || l.starts_with("/*"));
    if comment { Vec::new() } else { vec![format!("{}: no comment", s.path)] }
}

/// Nobody reads a file of a thousand lines.
pub fn length(s: &Source) -> Vec<String> {
    let lines = s.text.lines().count();
    let code = [".rs", ".go"].iter().any(|e| s.path.ends_with(e)) || s.path.starts_with(".ci/");
    if code && lines > MOST_LINES { vec![format!("{}: {lines} lines", s.path)] } else { Vec::new() }
}

/// Notes to oneself, paths of somebody's machine, and hosts of registries (which a mirror may replace). In two parts each, so
/// that this list is not found by itself.
const WORDS: [(&str, &str); 14] = [
    ("TO", "DO"),
    ("FIX", "ME"),
    ("X", "XX"),
    ("to", "do!"),
    ("unimple", "mented!"),
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("py", "pi.org"),
    ("python", "hosted.org"),
    ("static.cra", "tes.io"),
    ("index.cra", "tes.io"),
    ("proxy.go", "lang.org"),
    ("npm", "js.org"),
    ("/.pyenv", "/"),
];

/// Words that do not belong in the repository.
pub fn words(s: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (a, b) in WORDS {
        let word = format!("{a}{b}");
        for (at, _) in s.text.match_indices(&word) {
            let before = s.text[..at].chars().next_back();
            let after = s.text[at + word.len()..].chars().next();
            let joined = |c: Option<char>, edge: char| {
                c.is_some_and(|c| (c.is_alphanumeric() || c == '_') && edge.is_alphanumeric())
            };
            let (first, last) = (word.chars().next().unwrap_or(' '), word.chars().next_back().unwrap_or(' '));
            // A path that begins with the word has nothing before it.
            let within = joined(before, first)
                || joined(after, last)
                || (first == '/' && before.is_some_and(|c| c.is_alphanumeric() || c == '.'));
            if !within {
                let line = s.text[..at].lines().count().max(1);
                complaints.push(format!("{}:{line}: {word}", s.path));
            }
        }
    }
    complaints
}

/// The top-level names that begin a path of the repository.
const TOPS: [&str; 10] =
    ["src/", "tests/", "benches/", "examples/", "alloc-shim/", "derive/", "fuzz/", "docs/", "assets/", ".ci/"];

/// The same of Go's source tree, which our comments name as the source of the format.
const TOPS_OF_GO: [&str; 3] = ["src/cmd/", "src/internal/", "src/runtime/"];

/// Paths in documents (all their text) and in Rust comments that do not exist: those between backticks that begin like a path
/// of the repository, and the targets of links in documents.
pub fn paths(s: &Source, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let document = s.path.ends_with(".md");
    if !document && !s.path.ends_with(".rs") {
        return Vec::new();
    }
    let mut named = Vec::new();
    for line in s.text.lines().filter(|l| document || l.trim_start().starts_with("//")) {
        let ours =
            |t: &&str| TOPS.iter().any(|top| t.starts_with(top)) && !TOPS_OF_GO.iter().any(|top| t.starts_with(top));
        let in_ticks = line.split('`').skip(1).step_by(2).filter(ours);
        named.extend(in_ticks.map(|t| (t, t.to_owned())));
        if document {
            let beside = s.path.rsplit_once('/').map_or(String::new(), |(dir, _)| format!("{dir}/"));
            let targets = line.split("](").skip(1).filter_map(|t| t.split(')').next());
            let local = targets.filter(|t| !t.contains("://") && !t.starts_with('#') && !t.starts_with("mailto:"));
            named.extend(local.map(|t| (t, format!("{beside}{t}"))));
        }
    }
    let complaints = named.iter().filter(|(_, path)| !exists(bare(path)));
    complaints.map(|(name, _)| format!("{}: {name}", s.path)).collect()
}

/// A path without a line number, a fragment, or what follows it in a command.
fn bare(path: &str) -> &str {
    let path = path.split(['#', ' ']).next().unwrap_or_default();
    path.split_once(':').map_or(path, |(p, _)| p)
}

/// Whether the path exists. `*`, `{}` and `<>` stand for more than one: then the directory before them counts.
pub fn exists(root: &Path, path: &str) -> bool {
    let fixed = match path.find(['*', '{', '<']) {
        Some(i) => path[..i].rsplit_once('/').map_or("", |(dir, _)| dir),
        None => path,
    };
    root.join(fixed).exists()
}
