//! Puts the preload library into the `exectrace` command, so that `exectrace record` is one file, however it was installed.
//!
//! The library is another package of this workspace, which depends on this one: cargo cannot build it for us, so it is built here, by
//! a cargo of its own in a directory of its own. Only for optimized builds of the command: a debug build looks for the library
//! beside the executable (`cargo build -p exectrace-preload`), and who checks or lints waits for nothing. Where it cannot be
//! built the command is complete but for `record`, which then says so. `EXECTRACE_EMBED_PRELOAD=0` leaves it out.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What the library is made of, besides its own directory.
const SOURCES: [&str; 11] = [
    "Cargo.toml",
    "alloc-shim/Cargo.toml",
    "alloc-shim/preload",
    "alloc-shim/src",
    "src/format",
    "src/gc",
    "src/hook",
    "src/lib.rs",
    "src/names",
    "src/record",
    "src/sys",
];

fn main() {
    println!("cargo:rustc-check-cfg=cfg(embedded_preload)");
    println!("cargo:rustc-check-cfg=cfg(embedded_preload_mimalloc)");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=EXECTRACE_EMBED_PRELOAD");
    // Also ends the recursion: the library's own build of this package has no command.
    if !is_wanted() {
        return;
    }
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    match build(None) {
        Ok(library) => {
            println!("cargo:rustc-cfg=embedded_preload");
            println!("cargo:rustc-env=EXECTRACE_PRELOAD_BUILT={}", library.display());
        }
        Err(why) => {
            return println!("cargo:warning=`exectrace record` will need its library from elsewhere: {why}");
        }
    }
    // It differs in one crate: the others are built once. That one needs a C compiler, without which the rest is complete.
    match build(Some("mimalloc")) {
        Ok(library) => {
            println!("cargo:rustc-cfg=embedded_preload_mimalloc");
            println!("cargo:rustc-env=EXECTRACE_PRELOAD_MIMALLOC_BUILT={}", library.display());
        }
        Err(why) => println!("cargo:warning=`exectrace record --mimalloc` will not work: {why}"),
    }
}

fn is_wanted() -> bool {
    let is = |name: &str, values: &[&str]| env::var(name).is_ok_and(|v| values.contains(&v.as_str()));
    env::var_os("CARGO_FEATURE_CLI").is_some()
        && is("PROFILE", &["release"])
        && is("CARGO_CFG_TARGET_OS", &["linux"])
        && is("CARGO_CFG_TARGET_ENV", &["gnu"])
        && is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"])
        && !is("EXECTRACE_EMBED_PRELOAD", &["0"])
}

/// Builds the library with a feature of its package, or without.
fn build(feature: Option<&str>) -> Result<PathBuf, String> {
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("{name} is not set"));
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let manifest = root.join("alloc-shim/preload/Cargo.toml");
    if !manifest.is_file() {
        return Err("the library's package is not here".to_owned());
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target_dir = out.join("preload");
    let target = variable("TARGET")?;
    let mut cargo = Command::new(variable("CARGO")?);
    // What cargo tells this script is not meant for another cargo; wrappers, flags and the job server are.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let features = text.starts_with("CARGO_FEATURE_") || text.starts_with("CARGO_CFG_");
        if features || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_PROFILE_") {
            cargo.env_remove(&name);
        }
    }
    // Names of functions stay: by them the stacks' inner frames are told from the program's. Lines of this library nobody needs.
    let settings = ["profile.release.debug=false", "profile.release.strip=\"debuginfo\""];
    let status = cargo
        .current_dir(&root)
        .args(["build", "--release", "--quiet", "--package", "exectrace-preload", "--target"])
        .arg(&target)
        .arg("--target-dir")
        .arg(&target_dir)
        .args(feature.iter().flat_map(|feature| ["--features", feature]))
        .args(settings.iter().flat_map(|setting| ["--config", setting]))
        .status()
        .map_err(|e| format!("cargo does not run: {e}"))?;
    let library = target_dir.join(target).join("release/libexectrace_preload.so");
    if !status.success() || !library.is_file() {
        return Err(format!("its build failed ({status})"));
    }
    // The next one has the same name.
    let kept = out.join(format!("preload-{}.so", feature.unwrap_or("own")));
    fs::copy(&library, &kept).map_err(|e| format!("{}: {e}", kept.display()))?;
    Ok(kept)
}
