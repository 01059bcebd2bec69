//! What the command gives to a shell: completions, manual pages, help, and how it behaves at the end of a pipe.
#![cfg(feature = "cli")]

mod cli_support;
mod read_support;

use cli_support::{expect, refusal, run, stdout};
use read_support::{data_file, scratch};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// All subcommands, as the help lists them.
fn subcommands() -> Vec<String> {
    let help = expect(0, &["--help"]);
    let list = help.split("Commands:\n").nth(1).expect("a list").split("\n\n").next().expect("its end");
    let first = |l: &str| l.split_whitespace().next().map(str::to_owned);
    list.lines()
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .filter_map(first)
        .filter(|c| c != "help")
        .collect()
}

#[test]
fn every_subcommand_has_help_with_examples() {
    let all = subcommands();
    for known in ["summary", "check", "cut", "merge", "anonymize", "convert", "symbolize", "completions", "man"] {
        assert!(all.iter().any(|c| c == known), "{known} in {all:?}");
    }
    for sub in &all {
        let help = expect(0, &[sub, "--help"]);
        assert!(help.contains("Examples:\n  exectrace "), "{sub}: {help}");
        assert!(help.lines().all(|l| l.chars().count() <= 100), "{sub}: lines fit a terminal");
        assert!(!expect(0, &[sub, "-h"]).is_empty());
    }
}

#[test]
fn completions_know_subcommands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = expect(0, &["completions", shell]);
        for word in subcommands().iter().map(String::as_str).chain(["max-regress", "goroutine", "debug-dir"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(refusal(2, &["completions", "cmd"]).contains("possible values: bash"));
}

#[test]
fn bash_takes_its_completions() {
    let Ok(mut bash) = Command::new("bash").arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        return;
    };
    let mut script = expect(0, &["completions", "bash"]);
    script.push_str(
        "\nCOMP_WORDS=(exectrace sym); COMP_CWORD=1; _exectrace exectrace sym exectrace; echo \"${COMPREPLY[@]}\"\n",
    );
    bash.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("write");
    let out = bash.wait_with_output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "symbolize");
}

#[test]
fn there_is_a_manual_page_for_each_subcommand() {
    let page = expect(0, &["man"]);
    assert!(page.contains(".TH EXECTRACE 1") && page.contains(".SH NAME\nexectrace"), "{page}");
    let dir = scratch("cli-man");
    assert_eq!(expect(0, &["man", "--dir", &dir.display().to_string()]), "");
    for sub in subcommands() {
        let path = dir.join(format!("exectrace-{sub}.1"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(page.contains(&format!(".TH EXECTRACE-{} 1", sub.to_uppercase())), "{page}");
        assert!(page.contains(&format!("exectrace {sub}")) && page.contains("Examples:"), "{page}");
    }
    for (sub, usage) in [("gc-simulate", "exectrace gc simulate"), ("heap-why-rss", "exectrace heap why\\-rss")] {
        let page = std::fs::read_to_string(dir.join(format!("exectrace-{sub}.1"))).expect(sub);
        assert!(page.contains(&format!(".TH EXECTRACE-{} 1", sub.to_uppercase())), "{page}");
        assert!(page.contains(usage) && page.contains("Examples:"), "{page}");
    }
    assert!(refusal(2, &["man", "--dir", "/nonexistent"]).contains("is no directory"));
}

#[test]
fn mistakes_are_told_in_one_line_with_a_hint() {
    for (args, words, hint) in [
        (&["sumary"][..], "unrecognized subcommand 'sumary'", "hint: a similar subcommand exists: 'summary'"),
        (&["nonsense"], "unrecognized subcommand 'nonsense'", "hint: `exectrace --help`"),
        (&["print"], "were not provided: <FILE>", "hint: `exectrace print --help`"),
        (&["profile", "all", "x"], "[possible values: sync, network, ", "hint: `exectrace profile --help`"),
        (
            &["print", "--formatt", "go", "x"],
            "unexpected argument '--formatt'",
            "hint: a similar argument exists: '--format'",
        ),
        (&["convert", "x"], "--to <VERSION>", "hint: `exectrace convert --help`"),
        (&["cut", "/nonexistent"], "cannot open /nonexistent: No such file", "hint: `-` is standard input"),
    ] {
        let line = refusal(2, args);
        assert!(line.contains(words) && line.ends_with(hint), "{line}");
    }
    // Without anything to do it says what it can do.
    let out = run(&[], b"");
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("Commands:"));
}

#[test]
fn no_command_minds_a_closed_pipe() {
    let file = data_file("go127-iter-pull.trace");
    let file = file.to_str().expect("UTF-8");
    for args in [
        &["summary", file][..],
        &["goroutines", file],
        &["profile", "sched", file],
        &["print", "--format", "wire", file],
        &["diff", file, file],
        &["anonymize", file],
        &["cut", file],
        &["completions", "zsh"],
        &["man"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_exectrace"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        drop(child.stdout.take());
        let mut errors = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut errors).expect("read");
        assert!(child.wait().expect("wait").success() && errors.is_empty(), "{args:?}: {errors}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_exit_code_does_not_hang_on_standard_error() {
    let broken = scratch("cli-no-stderr").join("broken.trace");
    std::fs::write(&broken, "no trace").expect("write");
    let broken = broken.display().to_string();
    for (args, code) in [(["summary", "/nonexistent"], 2), (["summary", &broken], 3)] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let out = Command::new(env!("CARGO_BIN_EXE_exectrace")).args(args).stderr(full).output().expect("run");
        assert_eq!(out.status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn no_picture_takes_the_place_of_what_is_read() {
    let dir = scratch("cli-outputs");
    let file = dir.join("app.trace");
    std::fs::copy(data_file("go127-annotations.trace"), &file).expect("copy");
    let link = dir.join("link.trace");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&file, &link).expect("link");
    let before = std::fs::read(&file).expect("read");
    let other = data_file("go127-iter-pull.trace").display().to_string();
    let (file, link) = (file.display().to_string(), link.display().to_string());
    for out in [&file, &link] {
        for args in [
            &["mmu", "--svg", out, &file][..],
            &["profile", "sync", "--pprof", out, &file],
            &["check", "--junit", out, &file],
            &["check", "--junit", out, "--baseline", &file, &other],
            &["heap", "--flame", out, &file],
            &["heap", "--pprof", out, &file],
            &["heap", "why-rss", "--svg", out, &file],
            &["cut", "-o", out, &file],
        ] {
            let line = refusal(2, args);
            assert!(line.contains("is the trace to read") && line.contains("hint: "), "{line}");
            assert!(std::fs::read(&file).expect("read") == before, "{args:?}");
        }
    }
    // The same by way of standard input.
    let input = std::fs::File::open(&file).expect("open");
    let out = Command::new(env!("CARGO_BIN_EXE_exectrace")).args(["mmu", "--svg", &file, "-"]).stdin(input).output();
    assert_eq!(out.expect("run").status.code(), Some(2));
    assert!(std::fs::read(&file).expect("read") == before);
}

#[test]
fn standard_output_holds_one_document() {
    let file = data_file("go127-annotations.trace").display().to_string();
    for args in [
        &["mmu", "--svg", "-", "--json", &file][..],
        &["profile", "sync", "--pprof", "-", "--json", &file],
        &["check", "--junit", "-", "--json", &file],
        &["heap", "--flame", "-", "--json", &file],
        &["heap", "--flame", "-", "--pprof", "-", &file],
        &["heap", "--flame", "-", "--tree", "up", &file],
        &["heap", "why-rss", "--svg", "-", "--json", &file],
    ] {
        assert!(refusal(2, args).contains("write to standard output; hint: name a file"), "{args:?}");
    }
}

#[test]
fn what_is_no_terminal_gets_no_colours_and_no_progress() {
    let file = data_file("go127-annotations.trace").display().to_string();
    for args in [&["--help"][..], &["check", "--help"], &["summary", &file], &["check", "--max", "lost=0", &file]] {
        assert!(!stdout(args).contains(&0x1b), "{args:?}");
    }
    let out = run(&["frobnicate"], b"");
    assert!(!out.stderr.contains(&0x1b));
}

/// Runs the command with a terminal as its standard output; returns what appears there, and the exit code.
#[cfg(target_os = "linux")]
fn on_a_terminal(args: &[&str], no_color: Option<&str>) -> (String, Option<i32>) {
    use std::os::fd::{FromRawFd, OwnedFd};
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: two places for descriptors; name and settings may be absent.
    let made = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a descriptor that was just opened and that nobody else has.
    let ours = unsafe { OwnedFd::from_raw_fd(ours) };
    // SAFETY: the same.
    let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
    let mut command = Command::new(env!("CARGO_BIN_EXE_exectrace"));
    command.args(args).env("TERM", "xterm").env_remove("NO_COLOR").stdout(theirs).stderr(Stdio::null());
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    let mut child = command.spawn().expect("start");
    // The terminal ends when nobody holds its other side.
    drop(command);
    let mut shown = Vec::new();
    // At the end Linux gives an error in place of an end.
    let _ = std::fs::File::from(ours).read_to_end(&mut shown);
    let code = child.wait().expect("wait").code();
    (String::from_utf8(shown).expect("UTF-8"), code)
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_colours_unless_they_are_unwanted() {
    let file = data_file("go127-annotations.trace").display().to_string();
    let args = ["check", "--max", "lost=0", "--max", "duration=1us", &file];
    let (shown, code) = on_a_terminal(&args, None);
    assert_eq!(code, Some(1));
    assert!(
        shown.contains("\x1b[32mok  \x1b[0m  lost is 0") && shown.contains("\x1b[31mFAIL\x1b[0m  duration"),
        "{shown:?}"
    );
    assert_eq!(on_a_terminal(&args, Some("")).0, shown, "an empty value says nothing");
    for args in [
        &args[..],
        &["--help"],
        &["diff", &file, &data_file("go127-allocfree-annotations.trace").display().to_string()],
    ] {
        let (plain, _) = on_a_terminal(args, Some("1"));
        assert!(!plain.is_empty() && !plain.contains('\x1b'), "{args:?}: {plain:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_trace_is_not_thrown_at_a_terminal() {
    let file = data_file("go127-annotations.trace").display().to_string();
    assert_eq!(on_a_terminal(&["cut", &file], None), (String::new(), Some(2)));
    // Unless that is what was asked.
    let (shown, code) = on_a_terminal(&["cut", &file, "-o", "/dev/null"], None);
    assert!(shown.starts_with("/dev/null: 1 generation, "), "{shown:?}");
    assert_eq!(code, Some(0));
}
