//! A program that has the hooks linked in **and** runs under the preload library: one trace, its own, and no event twice.
//!
//! This test program is that program, run again as a child with a role.
#![cfg(all(feature = "cli", target_os = "linux", target_env = "gnu", not(debug_assertions)))]

mod cli_support;
mod record_support;
mod support;

use record_support::{accepted, calls, ended, exectrace, files, library};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::Scratch;

exectrace::interpose!();

const CALLS: u64 = 321;
/// Set in children: what they do.
const ROLE: &str = "EXECTRACE_TEST_CHILD";
const NAME: &str = "one_trace_with_each_event_once";

fn work() {
    for _ in 0..CALLS {
        // SAFETY: a terminated path.
        unsafe { libc::access(c"/linked".as_ptr(), libc::F_OK) };
    }
}

/// What the child does: traces itself to a file, or not.
fn child(role: &str) {
    if role == "untraced" {
        return work();
    }
    exectrace::start(std::fs::File::create(role).expect("a file")).expect("start");
    exectrace::with_region("linked", work);
    exectrace::stop().expect("stop");
}

#[test]
fn one_trace_with_each_event_once() {
    if let Ok(role) = std::env::var(ROLE) {
        return child(&role);
    }
    let scratch = Scratch::new("linked");
    let (own, recorded): (PathBuf, PathBuf) = (scratch.path("own.trace"), scratch.path("recorded.trace"));
    let itself = [NAME, "--exact", "--nocapture", "--test-threads=1"];
    let exe = std::env::current_exe().expect("this program");
    let run = |role: &str| {
        let mut command = exectrace();
        command.args(["record", "--heap", "exact", "-o"]).arg(&recorded).arg("--").arg(&exe).args(itself);
        let out = ended(command.env(ROLE, role).stdin(Stdio::null()));
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let said = run(own.to_str().expect("a plain path"));
    accepted(&own);
    assert_eq!(calls(&own, "access"), CALLS);
    assert!(said.contains("a program with exectrace's own hooks inside records itself"), "{said}");
    assert_eq!(files(scratch.path("")), ["own.trace"], "that is the only one");
    std::fs::remove_file(&own).expect("the trace");

    // One that does not trace itself is told how to.
    let said = run("untraced");
    assert!(said.contains("a program with exectrace's own hooks inside records itself"), "{said}");
    assert_eq!(files(scratch.path("")), [""; 0]);

    // The same with the library alone.
    let mut command = Command::new(&exe);
    command.args(itself).env("LD_PRELOAD", library()).env("EXECTRACE_OUT", &recorded);
    let out = ended(command.env(ROLE, &own).stdin(Stdio::null()));
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    accepted(&own);
    assert_eq!(calls(&own, "access"), CALLS);
    assert_eq!(files(scratch.path("")), ["own.trace"]);
}
