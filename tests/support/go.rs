//! The Go toolchains to judge with.
//!
//! They are named by `EXECTRACE_GO` (paths of `go` binaries, separated like `PATH`), else they stand where `.ci/install-go`
//! puts them: `target/go/<version>/bin/go`. Without one a test can't judge: [`Toolchain::all`] says so, and in CI it fails.
//! Everything that Go writes (build cache, home) stays under `target/go`.

use super::process;
use exectrace::format::Version;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// The versions that CI judges with, newest first: the newest that is out, and the oldest that opens each header.
pub const VERSIONS: [&str; 3] = ["1.27.3", "1.25.5", "1.23.9"];

/// The files that make the judge out of the tool, and their contents, so that a change makes a new program.
const JUDGE_SOURCES: [(&str, &str); 5] = [
    ("facts.go", include_str!("../go/judge/facts.go")),
    ("reader_go1_23.go", include_str!("../go/judge/reader_go1_23.go")),
    ("reader_go1_25.go", include_str!("../go/judge/reader_go1_25.go")),
    ("serve.go", include_str!("../go/judge/serve.go")),
    ("stages.go", include_str!("../go/judge/stages.go")),
];

/// One installed Go.
pub struct Toolchain {
    /// Its version, as `1.27.3`.
    pub version: String,
    /// The second number of the version.
    pub minor: u32,
    goroot: PathBuf,
    tools: Mutex<BTreeMap<String, PathBuf>>,
    judge: OnceLock<PathBuf>,
}

impl Toolchain {
    /// All toolchains there are, newest first.
    ///
    /// # Panics
    /// In CI, if one of [`VERSIONS`] is missing; anywhere, if `EXECTRACE_GO` names something that is no `go`.
    pub fn all() -> &'static [Toolchain] {
        static ALL: OnceLock<Vec<Toolchain>> = OnceLock::new();
        ALL.get_or_init(|| {
            let mut all: Vec<Toolchain> = candidates().iter().map(|go| Toolchain::at(go)).collect();
            all.sort_by_key(|t| std::cmp::Reverse(numbers(&t.version)));
            all.dedup_by(|a, b| a.version == b.version);
            let missing: Vec<_> = VERSIONS.iter().filter(|v| !all.iter().any(|t| t.version == **v)).collect();
            assert!(
                missing.is_empty() || !super::in_ci(),
                "no Go {missing:?} to judge with: run .ci/install-go, or name them in EXECTRACE_GO"
            );
            all
        })
    }

    fn at(go: &Path) -> Toolchain {
        let out = process::run(isolated(&mut Command::new(go)).args(["env", "GOVERSION", "GOROOT"]));
        assert!(out.success, "{} is no go: {}", go.display(), out.words());
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let mut lines = text.lines();
        let (Some(version), Some(goroot)) = (lines.next().and_then(|v| v.strip_prefix("go")), lines.next()) else {
            panic!("{} env says {text:?}", go.display());
        };
        Toolchain {
            version: version.to_owned(),
            minor: numbers(version).get(1).copied().unwrap_or(0),
            goroot: goroot.into(),
            tools: Mutex::default(),
            judge: OnceLock::new(),
        }
    }

    /// Whether the tools of this version read traces with that header.
    pub fn opens(&self, header: Version) -> bool {
        header.minor() <= self.minor
    }

    /// A `go` command: nothing from the network, nothing from the user's settings.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.goroot.join("bin/go"));
        isolated(&mut command).env("GOROOT", &self.goroot);
        command
    }

    /// Where this Go keeps its own source tree.
    pub fn goroot(&self) -> &Path {
        &self.goroot
    }

    /// The program behind `go tool NAME`. From Go 1.25 on, the first call builds it.
    ///
    /// # Panics
    /// If Go can't make it.
    pub fn tool(&self, name: &str) -> PathBuf {
        let mut tools = self.tools.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(path) = tools.get(name) {
            return path.clone();
        }
        let out = process::run(self.command().args(["tool", "-n", name]));
        assert!(out.success, "go {} tool {name}: {}", self.version, out.words());
        let path = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
        tools.insert(name.to_owned(), path.clone());
        path
    }

    /// A command that runs `go tool NAME`, without the wait for `go` itself to find it each time.
    pub fn tool_command(&self, name: &str) -> Command {
        let mut command = Command::new(self.tool(name));
        isolated(&mut command).env("GOROOT", &self.goroot);
        command
    }

    /// The tool with our hook in it (see `tests/go/judge/serve.go`), built once for each version and change of the hook.
    ///
    /// # Panics
    /// If it can't be built.
    pub fn judge_program(&self) -> &Path {
        self.judge.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            JUDGE_SOURCES.hash(&mut hasher);
            let program = home().join(format!("judge-{}-{:016x}", self.version, hasher.finish()));
            if program.exists() {
                return program;
            }
            let scratch = super::Scratch::new("judge");
            let target = self.goroot.join("src/cmd/trace");
            let replace: BTreeMap<_, _> = JUDGE_SOURCES
                .iter()
                .map(|(name, text)| (target.join(format!("exectrace_{name}")), scratch.write(name, text.as_bytes())))
                .collect();
            let overlay = serde_json::to_vec(&BTreeMap::from([("Replace", replace)])).expect("paths are UTF-8");
            let overlay = scratch.write("overlay.json", &overlay);
            let built = scratch.path("judge-program");
            let out = process::run(
                self.command()
                    .current_dir(&self.goroot)
                    .arg("build")
                    .arg("-overlay")
                    .arg(overlay)
                    .arg("-o")
                    .arg(&built)
                    .arg("cmd/trace"),
            );
            assert!(out.success, "the judge of Go {} can't be built: {}", self.version, out.words());
            // A rename, so that another test program that builds the same at the same time does no harm.
            std::fs::rename(&built, &program).expect("target/go and the scratch directory are on one file system");
            program
        })
    }
}

/// The toolchains' common directory, made if need be.
pub fn home() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/go");
    std::fs::create_dir_all(dir.join("home")).expect("target/go can be made");
    dir
}

fn candidates() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("EXECTRACE_GO") {
        return std::env::split_paths(&named).filter(|p| !p.as_os_str().is_empty()).collect();
    }
    let Ok(entries) = std::fs::read_dir(home()) else { return Vec::new() };
    entries.flatten().map(|e| e.path().join("bin/go")).filter(|go| go.is_file()).collect()
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|n| n.parse().unwrap_or(0)).collect()
}

/// Cuts a command off from the network and from the user's and the machine's Go settings.
fn isolated(command: &mut Command) -> &mut Command {
    let home = home();
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("GO") || n == "DISPLAY" || n == "WAYLAND_DISPLAY") {
            command.env_remove(name);
        }
    }
    command
        .env("GOENV", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOTELEMETRY", "off")
        .env("GOCACHE", home.join("cache"))
        .env("GOPATH", home.join("path"))
        .env("HOME", home.join("home"))
        .env("PPROF_TMPDIR", home.join("home"))
        // The tool opens a browser when it serves.
        .env("BROWSER", "true")
}
