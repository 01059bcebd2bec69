//! Go toolchains, for tests that compare with Go. Where there is none, such tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A Go toolchain.
#[derive(Clone, Debug)]
pub struct Go {
    pub bin: PathBuf,
    /// The minor version: 27 for Go 1.27.
    pub minor: u32,
    pub root: PathBuf,
}

/// How Go judges a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepts,
    /// With its words.
    Rejects(String),
    /// Its tool crashes while it prints: no verdict. With its words.
    Panics(String),
}

/// All toolchains: that of `EXECTRACE_GO`, and those of `target/go/<version>/bin/go`. Newest first.
pub fn all() -> &'static [Go] {
    static ALL: OnceLock<Vec<Go>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut bins = Vec::new();
        if let Some(list) = std::env::var_os("EXECTRACE_GO") {
            bins.extend(std::env::split_paths(&list));
        }
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/go");
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            bins.push(entry.path().join("bin/go"));
        }
        let mut all: Vec<Go> = bins.iter().filter(|b| b.exists()).filter_map(|b| Go::at(b)).collect();
        all.sort_by_key(|g| std::cmp::Reverse(g.minor));
        all.dedup_by_key(|g| g.minor);
        all
    })
}

/// The toolchain whose reader is the model: Go 1.27.
pub fn model() -> Option<&'static Go> {
    let go = all().iter().find(|g| g.minor == 27);
    if go.is_none() {
        eprintln!("skipped: no Go 1.27; name its `go` in EXECTRACE_GO");
    }
    go
}

impl Go {
    fn at(bin: &Path) -> Option<Go> {
        let out = command(bin).args(["env", "GOVERSION", "GOROOT"]).output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        let mut lines = text.lines();
        let minor = lines.next()?.strip_prefix("go1.")?.split('.').next()?.parse().ok()?;
        Some(Go { bin: bin.into(), minor, root: lines.next()?.into() })
    }

    pub fn command(&self) -> Command {
        command(&self.bin)
    }

    /// The directory with the trace reader's test data.
    pub fn testdata(&self) -> PathBuf {
        let new = self.root.join("src/internal/trace/testdata");
        if new.join("testprog").exists() { new } else { self.root.join("src/internal/trace/v2/testdata") }
    }

    /// `go tool trace -d=MODE FILE`.
    pub fn trace(&self, mode: &str, file: &Path) -> Output {
        static TOOL: OnceLock<PathBuf> = OnceLock::new();
        // `go tool` takes longer to find its tool than the tool takes to run.
        let tool = TOOL.get_or_init(|| {
            let out = self.command().args(["tool", "-n", "trace"]).output().expect("go tool -n trace");
            String::from_utf8(out.stdout).expect("a path").trim().into()
        });
        let out = Command::new(tool).env("TZ", "UTC").arg(format!("-d={mode}")).arg(file).output();
        out.unwrap_or_else(|e| panic!("cannot run {}: {e}", tool.display()))
    }

    /// What `go tool trace -d=parsed` prints, and its verdict.
    pub fn parse(&self, file: &Path) -> (Vec<u8>, Verdict) {
        let out = self.trace("parsed", file);
        let words = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        let verdict = match out.status.code() {
            Some(0) => Verdict::Accepts,
            Some(1) => Verdict::Rejects(words),
            _ => Verdict::Panics(words),
        };
        (out.stdout, verdict)
    }
}

fn command(bin: &Path) -> Command {
    let mut c = Command::new(bin);
    c.env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "auto")
        .current_dir(std::env::temp_dir());
    c
}
