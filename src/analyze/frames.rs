//! Stacks for people: which frame is the program's own, what a system call is called, a stack in one line.
//!
//! A stack begins inside the runtime, the standard library and libc; the reader of a report wants the first line of his own.

use crate::read::{FrameKey, FrameText, IdHashMap, Interner, StackKey, StringKey};
use serde::{Deserialize, Serialize};

/// A frame in a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameInfo {
    /// The function.
    pub func: String,
    /// The source file; empty if not known.
    pub file: String,
    /// The line; 0 if not known.
    pub line: u64,
}

/// How far a frame is from the program's own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    /// The program's own.
    Own,
    /// A package that it uses.
    Package,
    /// The language's runtime and library, libc, or the tracer.
    Runtime,
}

/// Go's packages that belong to its runtime and library, as far as they block, allocate or call the system.
const GO_LIBRARY: &[&str] = &[
    "runtime.",
    "runtime/",
    "internal/",
    "syscall.",
    "sync.",
    "sync/",
    "time.",
    "net.",
    "net/",
    "os.",
    "os/",
    "io.",
    "io/",
    "bufio.",
    "context.",
    "fmt.",
    "reflect.",
    "iter.",
    "encoding/",
    "crypto/",
    "compress/",
    "log.",
    "log/",
    "testing.",
    "database/",
    "bytes.",
    "strings.",
    "sort.",
    "slices.",
    "maps.",
    "archive/",
    "hash/",
    "vendor/",
    "golang.org/x/sys/",
];

/// The beginnings of names of Rust's library and of what the compiler makes.
const RUST_LIBRARY: &[&str] =
    &["std::", "core::", "alloc::", "__rust", "rust_", "exectrace::", "exectrace_alloc_shim::"];

fn distance(func: &str, file: &str) -> Distance {
    let bare = func.trim_start_matches(['<', '&', '*']).trim_start_matches("dyn ");
    let of_file = |parts: &[&str]| parts.iter().any(|p| file.contains(p));
    let begins = |list: &[&str]| list.iter().any(|p| bare.starts_with(p));
    if file.is_empty() && !func.contains('.')
        || begins(RUST_LIBRARY)
        || of_file(&["/rustc/", "/library/std/src/", "/library/core/src/", "/library/alloc/src/", "/nptl/", "/csu/"])
        || of_file(&["/exectrace/src/", "/sysdeps/"])
        || (file.ends_with(".go") || file.ends_with(".s") || file.is_empty()) && begins(GO_LIBRARY)
        || tracer_file(file)
    {
        return Distance::Runtime;
    }
    if of_file(&["/.cargo/registry/", "/pkg/mod/", "/vendor/", "/.cargo/git/"]) {
        Distance::Package
    } else {
        Distance::Own
    }
}

/// Whether a frame is of the language's runtime or library, of libc or of the tracer, and says little about the program.
#[must_use]
pub fn is_runtime(func: &str, file: &str) -> bool {
    distance(func, file) == Distance::Runtime
}

/// Stacks by place: two stacks are of one place if their functions are the same, those of runtime and library apart, which differ
/// with the way that an operation took inside. Where there are no others they count.
pub struct Places<'a> {
    interner: &'a Interner,
    runtime: IdHashMap<bool>,
}

impl<'a> Places<'a> {
    /// For the stacks of an interner.
    #[must_use]
    pub fn new(interner: &'a Interner) -> Places<'a> {
        Places { interner, runtime: IdHashMap::default() }
    }

    /// The functions that make the place of a stack, leaf first.
    pub fn of(&mut self, stack: StackKey) -> Vec<StringKey> {
        let Places { interner, runtime } = self;
        let frames = interner.frames(stack);
        let mut is_runtime = |key: FrameKey| {
            let of = |f: FrameText| is_runtime(interner.text(f.func), interner.text(f.file));
            *runtime.entry(key.0.into()).or_insert_with(|| of(interner.frame(key)))
        };
        let own: Vec<StringKey> = frames.iter().filter(|&&f| !is_runtime(f)).map(|&f| interner.frame(f).func).collect();
        if own.is_empty() { frames.iter().map(|&f| interner.frame(f).func).collect() } else { own }
    }
}

/// A frame of the tracer itself, built from its own source tree.
fn tracer_file(file: &str) -> bool {
    let Some((_, rest)) = file.rsplit_once("/src/") else { return false };
    matches!(rest.split_once('/'), Some(("record" | "hook" | "sys", _))) && rest.ends_with(".rs")
}

/// The index of the frame that says most: the first of the program's own, else the first of a package that it uses. `None` if
/// there are only frames of runtime and library.
#[must_use]
pub fn telling_frame(interner: &Interner, stack: StackKey) -> Option<usize> {
    let frames = interner.frames(stack);
    let mut package = None;
    for (i, &f) in frames.iter().enumerate() {
        let f = interner.frame(f);
        match distance(interner.text(f.func), interner.text(f.file)) {
            Distance::Own => return Some(i),
            Distance::Package => package = package.or(Some(i)),
            Distance::Runtime => {}
        }
    }
    package
}

/// What stands for a stack of which nothing is known.
const NO_STACK: &str = "(no stack)";

/// A stack in one line, from the telling frame outwards: `get (pool.go:31) < worker (main.go:88)`. At most `most` frames. Of
/// a stack without a telling frame, the innermost and the outermost one. Frames without a name are left out.
#[must_use]
pub fn one_line(interner: &Interner, stack: StackKey, most: usize) -> String {
    let frames = interner.frames(stack);
    if frames.is_empty() {
        return NO_STACK.to_owned();
    }
    let mut out = String::new();
    let mut push = |f: FrameText| {
        if interner.text(f.func).is_empty() {
            return;
        }
        if !out.is_empty() {
            out.push_str(" < ");
        }
        out.push_str(&short_func(interner.text(f.func)));
        if f.line != 0 {
            out.push_str(&format!(" ({}:{})", base_name(interner.text(f.file)), f.line));
        }
    };
    match telling_frame(interner, stack) {
        Some(first) => {
            let frames = frames[first..].iter().map(|&f| interner.frame(f));
            // Outwards too, frames of the library say nothing.
            frames
                .filter(|f| distance(interner.text(f.func), interner.text(f.file)) != Distance::Runtime)
                .take(most)
                .for_each(push);
        }
        None => {
            push(interner.frame(frames[0]));
            if frames.len() > 1 {
                push(interner.frame(frames[frames.len() - 1]));
            }
        }
    }
    if out.is_empty() { NO_STACK.to_owned() } else { out }
}

/// The last part of a path.
#[must_use]
pub fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// A function's name without what makes it long: generic arguments, and the path of a Go package.
#[must_use]
pub fn short_func(func: &str) -> String {
    let mut out = String::new();
    let mut depth = 0usize;
    for (i, c) in func.char_indices() {
        match c {
            // A leading `<` is a Rust impl: `<Pool as Drop>::drop`. What is in it is the name.
            '<' if i > 0 && !out.is_empty() => {
                depth += 1;
                continue;
            }
            '>' if depth > 0 && !func[..i].ends_with('-') => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            out.push(c);
        }
    }
    let out = out.replace("::::", "::");
    // `github.com/a/b/pool.(*Pool).Get` is `pool.(*Pool).Get`; Rust paths have no slash.
    match out.rfind('/') {
        Some(slash) if !out.contains("::") => out[slash + 1..].to_owned(),
        _ => out,
    }
}

/// All frames of a stack, leaf first, for a report.
#[must_use]
pub fn infos(interner: &Interner, stack: StackKey) -> Vec<FrameInfo> {
    let info = |f: FrameText| FrameInfo {
        func: interner.text(f.func).to_owned(),
        file: interner.text(f.file).to_owned(),
        line: f.line,
    };
    interner.frames(stack).iter().map(|&f| info(interner.frame(f))).collect()
}

/// Frames through which Go makes a system call: the call's name is the function behind them.
const GO_DOORS: &[&str] = &[
    "syscall.Syscall",
    "syscall.Syscall6",
    "syscall.RawSyscall",
    "syscall.RawSyscall6",
    "syscall.rawSyscallNoError",
    "syscall.rawVforkSyscall",
    "syscall.runtime_entersyscall",
    "runtime.entersyscall",
    "runtime.cgocall",
    "runtime/internal/syscall.Syscall6",
    "internal/runtime/syscall.Syscall6",
    "golang.org/x/sys/unix.Syscall",
    "golang.org/x/sys/unix.Syscall6",
];

/// The name of the system call with this stack: the innermost function that is not a mere door to the kernel.
///
/// Native traces have the call's name as the leaf. In Go the leaf is `syscall.Syscall` or the like, and its caller,
/// `syscall.write`, is the name.
#[must_use]
pub fn call_name(interner: &Interner, stack: StackKey) -> StringKey {
    let funcs = || interner.frames(stack).iter().map(|&f| interner.frame(f).func);
    let is_door = |&f: &StringKey| {
        let f = interner.text(f);
        GO_DOORS.contains(&f) || f.starts_with("internal/runtime/syscall/linux.")
    };
    funcs().find(|f| !is_door(f)).or_else(|| funcs().next()).unwrap_or(StringKey(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_programs_own() {
        for (func, file, want) in [
            ("main.worker", "/home/u/app/main.go", Distance::Own),
            ("main.main", "", Distance::Own),
            ("runtime.chanrecv1", "/usr/lib/go/src/runtime/chan.go", Distance::Runtime),
            ("sync.(*Mutex).Lock", "/usr/lib/go/src/sync/mutex.go", Distance::Runtime),
            ("github.com/a/b.(*Pool).Get", "/home/u/go/pkg/mod/github.com/a/b@v1.0.0/pool.go", Distance::Package),
            ("app::cache::Cache::get", "/home/u/app/src/cache.rs", Distance::Own),
            ("network::poll", "/home/u/app/src/net.rs", Distance::Own),
            ("<std::sync::Mutex<T>>::lock", "/rustc/abc/library/std/src/sync/mutex.rs", Distance::Runtime),
            ("join<()>", "/rustc/abc/library/std/src/thread/join_handle.rs", Distance::Runtime),
            ("capture", "/home/u/exectrace/src/record/unwind/mod.rs", Distance::Runtime),
            ("write", "", Distance::Runtime),
            (
                "parking_lot::Mutex::lock",
                "/home/u/.cargo/registry/src/x/parking_lot-0.12/src/mutex.rs",
                Distance::Package,
            ),
        ] {
            assert_eq!(distance(func, file), want, "{func} {file}");
        }
    }

    #[test]
    fn names_without_their_ballast() {
        for (func, want) in [
            ("main.worker", "main.worker"),
            ("github.com/a/b/pool.(*Pool).Get", "pool.(*Pool).Get"),
            ("main.Map[...]", "main.Map[...]"),
            ("app::run::<u32, Vec<u8>>", "app::run::"),
            ("join<()>", "join"),
            ("<app::Pool as core::ops::Drop>::drop", "<app::Pool as core::ops::Drop>::drop"),
            ("app::map<fn(u32) -> u8>::go", "app::map::go"),
        ] {
            assert_eq!(short_func(func).trim_end_matches("::"), want.trim_end_matches("::"), "{func}");
        }
    }
}
