//! The tests of the C guest once more in a program that is built with `panic = "abort"`, fat LTO and no symbols: there
//! Rust ends the process where it sees an unwinding that it does not expect, and `pthread_cancel` unwinds.

use std::path::Path;
use std::process::Command;

/// Builds the crate again: half a minute. Continuous integration runs it.
#[test]
#[ignore = "builds the crate anew"]
fn the_guest_is_cancelled_under_panic_abort() {
    let root = env!("CARGO_MANIFEST_DIR");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abort");
    std::fs::create_dir_all(dir.join("src/interpose")).expect("a directory");
    let manifest = format!(
        r#"
[package]
name = "abort"
version = "0.0.0"
edition = "2024"
publish = false
[workspace]
[dependencies]
exectrace = {{ path = {root:?}, default-features = false, features = ["read"] }}
libc = "0.2"
[profile.dev]
panic = "abort"
[profile.release]
panic = "abort"
lto = "fat"
codegen-units = 1
strip = "symbols"
"#
    );
    std::fs::write(dir.join("Cargo.toml"), manifest).expect("a manifest");
    std::fs::copy(format!("{root}/Cargo.lock"), dir.join("Cargo.lock")).expect("the versions");
    std::fs::copy(format!("{root}/tests/interpose_c.rs"), dir.join("src/main.rs")).expect("the test");
    let support = std::fs::read_to_string(format!("{root}/tests/interpose/mod.rs")).expect("its support");
    // What Cargo tells the tests of a package and not its programs.
    let support = support.replace("env!(\"CARGO_MANIFEST_DIR\")", &format!("{root:?}"));
    let support = support.replace("env!(\"CARGO_TARGET_TMPDIR\")", &format!("{:?}", env!("CARGO_TARGET_TMPDIR")));
    std::fs::write(dir.join("src/interpose/mod.rs"), support).expect("its support");
    for profile in ["dev", "release"] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["run", "--offline", "--quiet", "--profile", profile, "--manifest-path"])
            .arg(dir.join("Cargo.toml"));
        // Its own place, whatever the outer build was told.
        cargo.env("CARGO_TARGET_DIR", dir.join("target")).env_remove("RUSTFLAGS");
        assert!(cargo.status().expect("cargo").success(), "profile {profile}");
    }
}
