//! The text to index: where it is found on a machine with Rust, and its files in an order that is always the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const EXTENSIONS: [&str; 14] =
    ["c", "cc", "cpp", "go", "h", "html", "java", "js", "md", "py", "rs", "toml", "ts", "txt"];
/// Larger files are data.
const FILE_BYTES_MAX: u64 = 2_000_000;
/// A directory with less is not worth an index.
const CORPUS_BYTES_MIN: u64 = 1_000_000;

/// A directory, and what it is.
pub struct Corpus {
    pub dir: PathBuf,
    pub what: String,
}

/// The directory that the user named, or the best that there is.
pub fn choose(named: Option<PathBuf>) -> Result<Corpus, String> {
    if let Some(dir) = named {
        let bytes = size(&dir, 1).map_err(|e| format!("{}: {e}", dir.display()))?;
        if bytes == 0 {
            return Err(format!("{}: no text files (*.{})", dir.display(), EXTENSIONS.join(", *.")));
        }
        return Ok(Corpus { dir, what: "the directory given".into() });
    }
    let candidates = [
        (sysroot().map(|s| s.join("share/doc")), "the Rust toolchain's documentation"),
        (sysroot().map(|s| s.join("lib/rustlib/src")), "the Rust standard library's sources"),
        (cargo_home().map(|c| c.join("registry/src")), "the sources in cargo's registry"),
        (Some(env!("CARGO_MANIFEST_DIR").into()), "this package's own directory"),
    ];
    for (dir, what) in candidates {
        if let Some(dir) = dir
            && size(&dir, CORPUS_BYTES_MIN).is_ok_and(|bytes| bytes >= CORPUS_BYTES_MIN)
        {
            return Ok(Corpus { dir, what: what.into() });
        }
    }
    Err("found no directory with text to index: name one".into())
}

fn sysroot() -> Option<PathBuf> {
    let out = Command::new("rustc").args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
    Some(String::from_utf8(out.stdout).ok()?.trim_end().into())
}

fn cargo_home() -> Option<PathBuf> {
    let home = || std::env::home_dir().map(|h| h.join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// The bytes of text in a directory, counted up to `enough`.
fn size(dir: &Path, enough: u64) -> io::Result<u64> {
    fs::read_dir(dir)?;
    let mut sum = 0;
    walk(dir, |_, bytes| {
        sum += bytes;
        sum < enough
    });
    Ok(sum)
}

/// Calls `f` with the text files below `dir` and their sizes, sorted by name, until it says no. Links are not followed,
/// hidden directories, build directories and what cannot be read are left out.
pub fn walk(dir: &Path, mut f: impl FnMut(PathBuf, u64) -> bool) {
    // Sorted backwards, since the last is taken first.
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() || path == dir {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            let mut inside: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| !is_skipped(p)).collect();
            inside.sort_unstable_by(|a, b| b.cmp(a));
            todo.append(&mut inside);
        } else if meta.is_file() && is_text(&path) && (1..=FILE_BYTES_MAX).contains(&meta.len()) && !f(path, meta.len())
        {
            return;
        }
    }
}

fn is_skipped(path: &Path) -> bool {
    path.file_name().and_then(|n| n.to_str()).is_none_or(|n| n.starts_with('.') || n == "target")
}

fn is_text(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e))
}
