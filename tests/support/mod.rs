//! What the integration tests share. Each test program takes it in with `mod support;`.
//!
//! The heart of it is the [`judge`]: Go's own tools, which say whether a trace is one and what it says. Around it stand a
//! [`window`] cutter and a small [`synth`]etic writer whose traces may be wrong on purpose. Nothing here may know what a
//! valid trace is: that is for Go's reader to say.

// Each test program uses its own part of this.
#![allow(dead_code)]

pub mod batch;
pub mod broken;
pub mod facts;
pub mod go;
pub mod good;
pub mod http;
pub mod judge;
pub mod page;
pub mod pprof;
pub mod process;
pub mod synth;
pub mod timeline;
pub mod web;
pub mod window;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether this is a run that must not skip anything.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false" && v != "0")
}

/// A directory for the files of one test. It is made empty, and removed when the test has passed; after a failure it
/// stays, for a look at the traces in it.
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// A directory whose name begins with `name`.
    pub fn new(name: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        std::fs::create_dir_all(&dir).expect("the scratch directory can be made");
        Scratch { dir }
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, data).expect("the scratch file can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A directory that can't be removed is left; the next `cargo clean` takes it.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
