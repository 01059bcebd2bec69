//! The preload library: where it is, so that the loader of another program can open it.
//!
//! It is part of the executable (see `build.rs`) and is written to a file of the user's cache, under a name that is its
//! contents' hash: once for each build of the command. A file that is there already is compared, never trusted.

use crate::outcome::Failure;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The library of this build of the command; none in builds that have it elsewhere.
#[cfg(embedded_preload)]
const LIBRARY: Option<&[u8]> = Some(include_bytes!(env!("EXECTRACE_PRELOAD_BUILT")));
#[cfg(not(embedded_preload))]
const LIBRARY: Option<&[u8]> = None;

/// The same with mimalloc inside; none where that could not be built.
#[cfg(embedded_preload_mimalloc)]
const WITH_MIMALLOC: Option<&[u8]> = Some(include_bytes!(env!("EXECTRACE_PRELOAD_MIMALLOC_BUILT")));
#[cfg(not(embedded_preload_mimalloc))]
const WITH_MIMALLOC: Option<&[u8]> = None;

/// Its file's name where it stands by itself.
const NAME: &str = "libexectrace_preload.so";

/// A path of the library: the one that was asked for, or a file of this very build's.
/// `mimalloc` says which of the two.
pub fn path(asked: Option<&Path>, mimalloc: bool) -> Result<PathBuf, Failure> {
    if let Some(asked) = asked {
        let absolute = std::path::absolute(asked).unwrap_or_else(|_| asked.to_owned());
        if !absolute.is_file() {
            return Err(Failure::usage(format_args!("no preload library at {}", asked.display()), ""));
        }
        return Ok(absolute);
    }
    if let Some(library) = LIBRARY {
        let asked = if mimalloc { WITH_MIMALLOC } else { Some(library) };
        return installed(asked.ok_or_else(|| {
            let hint =
                "build exectrace where there is a C compiler; without --mimalloc the program keeps its allocator";
            Failure::usage("this build of exectrace has no preload library with mimalloc", hint)
        })?);
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(NAME)));
    beside.filter(|path| path.is_file()).ok_or_else(|| {
        let hint = "`cargo build -p exectrace-preload`, or a release build of exectrace, which has it inside";
        Failure::usage("this build of exectrace has no preload library", hint)
    })
}

fn installed(bytes: &[u8]) -> Result<PathBuf, Failure> {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let name = format!("preload-{:016x}.so", hasher.finish());
    let mut errors = Vec::new();
    for dir in directories() {
        match install(&dir, &name, bytes) {
            Ok(path) => return Ok(path),
            Err(e) => errors.push(format!("{}: {e}", dir.display())),
        }
    }
    let what = format!("the preload library cannot be written: {}", errors.join("; "));
    Err(Failure::usage(what, "set XDG_CACHE_HOME or TMPDIR to a directory that can be written"))
}

/// Where a library may stand: the user's cache, else a directory of their own among the temporary ones.
fn directories() -> Vec<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let user = rustix::process::getuid().as_raw();
    let shared = std::env::temp_dir().join(format!("exectrace-{user}"));
    cache.map(|dir| dir.join("exectrace")).into_iter().chain([shared]).collect()
}

fn install(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(dir)?);
    if owner != rustix::process::getuid().as_raw() {
        return Err(io::Error::other("belongs to another user"));
    }
    let path = dir.join(name);
    if fs::read(&path).is_ok_and(|there| there == bytes) {
        return Ok(path);
    }
    let part = dir.join(format!("{name}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&part)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    drop(file);
    // By its final name it is there whole or not at all, whoever records at the same time.
    fs::rename(&part, &path)?;
    Ok(path)
}
