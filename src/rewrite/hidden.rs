//! Names that say nothing: what a symbol, a file or a word of the user's becomes when it is hidden.
//!
//! A name becomes a hash under a key that exists only while the program runs, so that nobody can try names until one fits.
//! Within one run the same name has the same hash, so a reader sees which are the same. What is public anyhow stays: the
//! names of the standard libraries of Go and Rust, and the words that runtimes use for reasons.

use crate::names::block_reason::BlockReason;
use crate::names::fixed::TEXTS;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Hides names, under one key.
pub(super) struct Hider {
    key: RandomState,
}

/// Words by which Go's runtime says why something waits or stops. Tools know many of them. Those of this crate's tracer are
/// where it has them from.
const GO_WORDS: &[&str] = &[
    // why a goroutine blocks
    "unspecified",
    "forever",
    "network",
    "select",
    "sync",
    "sync.(*Cond).Wait",
    "chan send",
    "chan receive",
    "GC mark assist wait for work",
    "GC background sweeper wait",
    "system goroutine wait",
    "preempted",
    "wait for debug call",
    "wait until GC ends",
    "sleep",
    "GC weak to strong wait",
    "synctest",
    // why it stops
    "runtime.Gosched",
    // why the world stops
    "unknown",
    "GC mark termination",
    "GC sweep termination",
    "write heap dump",
    "goroutine profile",
    "goroutine profile cleanup",
    "all goroutines stack trace",
    "read mem stats",
    "AllThreadsSyscall",
    "GOMAXPROCS",
    "start trace",
    "stop trace",
    // labels of the collector's workers
    "GC (dedicated)",
    "GC (fractional)",
    "GC (idle)",
];

/// The first parts of the paths of Go's standard packages.
const GO_STD: &[&str] = &[
    "archive",
    "bufio",
    "bytes",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "runtime",
    "slices",
    "sort",
    "strconv",
    "strings",
    "structs",
    "sync",
    "syscall",
    "testing",
    "text",
    "time",
    "unicode",
    "unique",
    "unsafe",
    "vendor",
    "weak",
];

/// Parts of names that are not names: words of the language, and what compilers call things without a name.
const NOT_NAMES: &[&str] =
    &["as", "closure", "const", "dyn", "fn", "for", "impl", "init", "main", "mut", "ref", "shim", "vtable", "where"];

impl Hider {
    pub(super) fn new() -> Hider {
        Hider { key: RandomState::new() }
    }

    /// Whether a word is public.
    pub(super) fn is_public_word(text: &str) -> bool {
        GO_WORDS.contains(&text) || TEXTS.contains(&text) || BlockReason::ALL.iter().any(|r| r.as_str() == text)
    }

    /// A name without structure: eight letters and digits, the first a letter.
    pub(super) fn word(&self, text: &str) -> String {
        const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        // Forty bits: among ten thousand names two are the same once in twenty thousand traces.
        let mut hash = self.key.hash_one(text);
        let mut word = String::with_capacity(8);
        for i in 0..8 {
            let digit = DIGITS[(hash % if i == 0 { 26 } else { 32 }) as usize];
            hash /= 32;
            word.push(char::from(digit));
        }
        word
    }

    /// A function: paths keep their shape, so that what is of one module still is; names of standard libraries stay.
    pub(super) fn function(&self, name: &str) -> String {
        if is_go_std(name) || name.is_empty() {
            return name.to_owned();
        }
        let mut out = String::with_capacity(name.len());
        let mut rest = name;
        while let Some(c) = rest.chars().next() {
            let len = rest.find(|c| !in_path(c)).unwrap_or(rest.len());
            if len == 0 {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
            self.path(&rest[..len], &mut out);
            rest = &rest[len..];
        }
        if out.len() > crate::format::MAX_STRING_BYTES { self.word(name) } else { out }
    }

    /// A path such as `app::module::function` or `example.com/app.function`.
    fn path(&self, path: &str, out: &mut String) {
        if ["std::", "core::", "alloc::"].iter().any(|root| path.starts_with(root)) {
            return out.push_str(path);
        }
        let mut rest = path;
        while let Some(c) = rest.chars().next() {
            let len = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
            if len == 0 {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
            let (name, after) = rest.split_at(len);
            let numbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
            if NOT_NAMES.contains(&name) || ["", "func", "gowrap"].contains(&numbered) {
                out.push_str(name);
            } else {
                out.push_str(&self.word(name));
            }
            rest = after;
        }
    }

    /// A source file: its ending stays, and of the files of public functions the last part.
    pub(super) fn file(&self, path: &str, public: bool) -> String {
        let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
        if public || path.is_empty() {
            return last.to_owned();
        }
        match last.rsplit_once('.') {
            Some((_, end)) if ["rs", "go", "c", "cc", "cpp", "h", "s", "S"].contains(&end) => {
                format!("{}.{end}", self.word(path))
            }
            _ => self.word(path),
        }
    }
}

/// Whether a function is one of a standard library, from end to end.
pub(super) fn is_public_function(name: &str) -> bool {
    let rust = ["std::", "core::", "alloc::"].iter().any(|root| name.starts_with(root)) && !name.contains('<');
    rust || is_go_std(name)
}

/// Whether a name is a function of a standard package of Go's, such as `net/http.(*Server).Serve`.
fn is_go_std(name: &str) -> bool {
    let Some((root, _)) = name.split_once(['/', '.']) else { return false };
    // Type arguments may be the user's; the runtime writes them as three dots.
    let plain = !name.contains("::") && !name.replace("[...]", "").contains('[');
    plain && GO_STD.contains(&root)
}

fn in_path(c: char) -> bool {
    in_name(c) || matches!(c, ':' | '/' | '.' | '-')
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '~' | '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_stay_and_names_go() {
        let h = Hider::new();
        let w = |text: &str| h.word(text);
        for (name, hidden) in [
            ("app::db::load", format!("{}::{}::{}", w("app"), w("db"), w("load"))),
            (
                "<app::Db as core::ops::Drop>::drop",
                format!("<{}::{} as core::ops::Drop>::{}", w("app"), w("Db"), w("drop")),
            ),
            ("app::main::{closure#0}", format!("{}::main::{{closure#0}}", w("app"))),
            ("std::thread::sleep", "std::thread::sleep".to_owned()),
            ("net/http.(*Server).Serve", "net/http.(*Server).Serve".to_owned()),
            ("sync/atomic.(*Pointer[...]).Load", "sync/atomic.(*Pointer[...]).Load".to_owned()),
            (
                "sync.OnceValue[main.secret].func1",
                format!("{}.{}[main.{}].func1", w("sync"), w("OnceValue"), w("secret")),
            ),
            ("main.main.func1.2", "main.main.func1.2".to_owned()),
            (
                "github.com/me/app.(*T).Do",
                format!("{}.{}/{}/{}.(*{}).{}", w("github"), w("com"), w("me"), w("app"), w("T"), w("Do")),
            ),
            ("malloc", w("malloc")),
            ("worker one", format!("{} {}", w("worker"), w("one"))),
            ("", String::new()),
        ] {
            assert_eq!(h.function(name), hidden, "{name}");
        }
        assert_eq!(w("a").len(), 8);
        assert!(w("a") != w("b") && w("a") == w("a") && w("a").starts_with(|c: char| c.is_ascii_lowercase()));
        assert_ne!(Hider::new().word("a"), w("a"), "every run has a key of its own");
        let long = "abc::".repeat(200);
        assert_eq!(h.function(&long), w(&long));
    }

    #[test]
    fn all_words_of_the_tracer_are_public() {
        let ours = TEXTS.iter().copied().chain(BlockReason::ALL.map(BlockReason::as_str));
        for word in ours.chain(["sync.RWMutex.RLock", "GC minor collection", "GC (idle)", "forever"]) {
            assert!(Hider::is_public_word(word), "{word}");
        }
        assert!(!Hider::is_public_word("my lock"));
    }

    #[test]
    fn files_keep_their_endings() {
        let h = Hider::new();
        assert_eq!(h.file("/home/me/app/src/main.rs", false), format!("{}.rs", h.word("/home/me/app/src/main.rs")));
        assert_eq!(h.file("/usr/local/go/src/runtime/proc.go", true), "proc.go");
        assert_eq!(h.file("/home/me/secret", false), h.word("/home/me/secret"));
        assert_eq!(h.file("", false), "");
    }
}
