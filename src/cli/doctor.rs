//! `exectrace doctor`: what of recording works on this machine, and how to mend what does not.

use crate::outcome::{Failure, Outcome};
use crate::record;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;

/// What of recording works here, and how to mend what does not
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace doctor                    this machine
  exectrace doctor -- ./server        and whether this program can be recorded

Exit code 1 if recording does not work.")]
pub struct Args {
    /// A program to look at
    #[arg(last = true, value_name = "CMD")]
    program: Vec<OsString>,
}

/// What was found of one thing.
struct Finding {
    what: &'static str,
    /// Whether it is as it should be; `None` where recording is the same without it.
    good: Option<bool>,
    text: String,
}

pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let mut all = vec![preload(), clock(), memory_limit(), pressure(), names(), space()];
    if let Some(name) = args.program.first() {
        all.push(program(name));
    }
    let mut text = String::new();
    for Finding { what, good, text: found } in &all {
        let mark = match good {
            Some(true) => "ok",
            Some(false) => "NO",
            None => "--",
        };
        text.push_str(&format!("{mark:3} {what:16} {found}\n"));
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::writing)?;
    let broken = all.iter().any(|f| f.good == Some(false));
    Ok(if broken { Outcome::Violated } else { Outcome::Done })
}

/// Records this very command, which does next to nothing.
fn preload() -> Finding {
    let what = "preload";
    let finding = |good, text: String| Finding { what, good: Some(good), text };
    let library = match record::library::path(None, false) {
        Ok(library) => library,
        Err(Failure::Usage(why, hint)) => return finding(false, format!("{why}; {hint}")),
        Err(_) => return finding(false, "no library".to_owned()),
    };
    let dir = std::env::temp_dir().join(format!("exectrace-doctor-{}", std::process::id()));
    let out = dir.join("trace");
    let ran = fs::create_dir(&dir).and_then(|()| {
        let exe = std::env::current_exe()?;
        std::process::Command::new(exe)
            .arg("--version")
            .env("LD_PRELOAD", &library)
            .env("EXECTRACE_OUT", &out)
            .env_remove("EXECTRACE_STARTED")
            .env_remove("EXECTRACE_PARENT")
            .output()
    });
    let recorded = fs::metadata(&out).map_or(0, |m| m.len());
    // A directory that cannot be removed is litter among the temporary files.
    let _ = fs::remove_dir_all(&dir);
    match ran {
        Ok(run) if run.status.success() && recorded > 16 => finding(true, library.display().to_string()),
        Ok(run) => {
            let said = String::from_utf8_lossy(&run.stderr).trim().to_owned();
            let hint = "is its directory mounted noexec? set XDG_CACHE_HOME to another";
            finding(false, format!("a program under {} is not recorded: {said}; {hint}", library.display()))
        }
        Err(e) => finding(false, format!("cannot be tried in {}: {e}", dir.display())),
    }
}

fn clock() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let text = match &*source {
        "tsc" | "arch_sys_counter" => format!("{source}: an event costs about 15 ns"),
        "" => "not known".to_owned(),
        other => format!("{other}: an event may cost some 20 ns more than with the processor's counter"),
    };
    Finding { what: "clock", good: None, text }
}

fn memory_limit() -> Finding {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let dir = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let limit = fs::read_to_string(dir.join("memory.max")).map(|t| t.trim().to_owned());
    let text = match limit.as_deref() {
        Ok("max") => "this control group has none: --on cgroup=... never fires here; --on rss=... does".to_owned(),
        Ok(bytes) => format!("{bytes} bytes: --on cgroup=90% works"),
        Err(_) => "no memory controller of version 2 here: use --on rss=... and growth=...".to_owned(),
    };
    Finding { what: "memory limit", good: None, text }
}

fn pressure() -> Finding {
    let there = fs::read_to_string("/proc/pressure/memory").is_ok_and(|text| text.starts_with("some "));
    let text =
        if there { "there: --on psi=... works" } else { "not there: --on psi=... never fires (boot with psi=1)" };
    Finding { what: "pressure (PSI)", good: None, text: text.to_owned() }
}

fn names() -> Finding {
    let there = Path::new("/usr/lib/debug/.build-id").is_dir();
    let text = match there {
        true => "debug information of the system's libraries is installed",
        false => {
            "no debug information of the system's libraries: their frames have exported names only (libc6-dbg and its like)"
        }
    };
    Finding { what: "names", good: None, text: text.to_owned() }
}

fn space() -> Finding {
    let here = std::env::current_dir().unwrap_or_default();
    let probe = here.join(format!(".exectrace-doctor-{}", std::process::id()));
    let written = fs::write(&probe, b"x");
    // As above.
    let _ = fs::remove_file(&probe);
    match written {
        Ok(()) => Finding { what: "output", good: Some(true), text: format!("{} can be written", here.display()) },
        Err(e) => {
            let text = format!("{} cannot be written ({e}): name a file elsewhere with -o", here.display());
            Finding { what: "output", good: Some(false), text }
        }
    }
}

fn program(name: &OsString) -> Finding {
    match record::program::check(name) {
        Ok(()) => {
            let text = format!("{} is loaded dynamically and can be recorded", Path::new(name).display());
            Finding { what: "program", good: Some(true), text }
        }
        Err(Failure::Usage(why, hint)) => {
            let hint = if hint.is_empty() { hint } else { format!("; {hint}") };
            Finding { what: "program", good: Some(false), text: format!("{why}{hint}") }
        }
        Err(_) => Finding { what: "program", good: Some(false), text: "cannot be looked at".to_owned() },
    }
}
