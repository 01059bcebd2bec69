//! What the tests of the command share: running it, and what it answers.
#![allow(dead_code)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs the command with this on its standard input.
pub fn run(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_exectrace"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start exectrace");
    let mut pipe = child.stdin.take().expect("a pipe");
    std::thread::scope(|s| {
        // The command may leave before it has read everything.
        s.spawn(move || pipe.write_all(stdin));
        child.wait_with_output().expect("wait")
    })
}

/// Runs the command and expects this exit code; returns what it prints.
pub fn expect(code: i32, args: &[&str]) -> String {
    let out = run(args, b"");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {errors}");
    assert_eq!(errors.lines().count(), usize::from(code >= 2), "{args:?}: {errors}");
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// Runs the command and expects that it fails with this exit code; returns its one line of error.
pub fn refusal(code: i32, args: &[&str]) -> String {
    let out = run(args, b"");
    assert_eq!(out.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    error_line(&out)
}

/// The one line on standard error.
pub fn error_line(out: &Output) -> String {
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "one line on standard error: {text}");
    assert!(text.starts_with("exectrace: "), "{text}");
    text.trim().to_owned()
}

/// The bytes of what it prints.
pub fn stdout(args: &[&str]) -> Vec<u8> {
    let out = run(args, b"");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}
