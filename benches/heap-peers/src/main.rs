//! Runs each tool and its own baseline in turns, in processes of their own, and prints ratios.
//!
//! `cargo build --release && target/release/heap-peers [WORKLOAD]`; `EXECTRACE_RESULTS` names a file for the figures as CSV. heaptrack
//! and valgrind are left out where they are not installed.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

struct Tool {
    name: &'static str,
    /// A program of this package, and the mode that it is given.
    program: (&'static str, &'static str),
    baseline: (&'static str, &'static str),
    env: &'static [(&'static str, &'static str)],
    /// What runs the program, if something does.
    runner: &'static [&'static str],
    rounds: usize,
}

const PLAIN: Tool = Tool { name: "", program: ("", ""), baseline: ("bare", ""), env: &[], runner: &[], rounds: 7 };

const TOOLS: &[Tool] = &[
    Tool { name: "exectrace off", program: ("ours", "off"), ..PLAIN },
    Tool { name: "exectrace curve", program: ("ours", "curve"), ..PLAIN },
    Tool { name: "exectrace sampled 512 KiB", program: ("ours", "sampled"), ..PLAIN },
    Tool { name: "exectrace all", program: ("ours", "all"), ..PLAIN },
    Tool { name: "dial9 off", program: ("dial9", "off"), ..PLAIN },
    Tool { name: "dial9 sampled 512 KiB, live set", program: ("dial9", "on"), ..PLAIN },
    Tool {
        name: "jemalloc profiling 512 KiB",
        program: ("jemalloc", ""),
        baseline: ("jemalloc", ""),
        env: &[("_RJEM_MALLOC_CONF", "prof:true,lg_prof_sample:19")],
        ..PLAIN
    },
    Tool { name: "Tracy, no stacks", program: ("tracy", ""), rounds: 3, ..PLAIN },
    Tool { name: "dhat-rs off", program: ("dhat", ""), baseline: ("system", ""), ..PLAIN },
    Tool { name: "dhat-rs", program: ("dhat", "on"), baseline: ("system", ""), rounds: 1, ..PLAIN },
    Tool {
        name: "heaptrack",
        program: ("system", ""),
        baseline: ("system", ""),
        runner: &["heaptrack", "--output"],
        rounds: 3,
        ..PLAIN
    },
    Tool {
        name: "valgrind dhat",
        program: ("system", ""),
        baseline: ("system", ""),
        runner: &["valgrind", "--tool=dhat", "--log-file=/dev/null", "--dhat-out-file=/dev/null"],
        rounds: 1,
        ..PLAIN
    },
];

/// Work CPU seconds; CPU seconds of the whole with children; the largest size of any process of it, in bytes.
fn measure(
    runner: &[&str],
    env: &[(&str, &str)],
    (program, mode): (&str, &str),
    work: &str,
) -> Option<(f64, f64, u64)> {
    let path = std::env::current_exe().ok()?.with_file_name(program);
    let out = std::env::temp_dir().join(format!("heap-peers-{}", std::process::id()));
    let mut command = match runner {
        [] => Command::new(&path),
        [tool, args @ ..] => {
            let mut c = Command::new(tool);
            c.args(args);
            if *tool == "heaptrack" {
                c.arg(&out);
            }
            c.arg(&path);
            c
        }
    };
    let before = usage();
    let output = command.args([work, mode]).envs(env.iter().copied()).output().ok()?;
    let after = usage();
    for extension in ["", "gz", "zst"] {
        let _ = std::fs::remove_file(out.with_extension(extension));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let took = text.lines().find_map(|l| l.trim().parse::<f64>().ok());
    if took.is_none() {
        eprintln!("{program} {mode}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Some((took?, after.0 - before.0, after.1))
}

/// CPU seconds of all children that have ended, and the largest size of any.
fn usage() -> (f64, u64) {
    // SAFETY: all-zero is a valid rusage.
    let mut u: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `u` may be written to.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut u) };
    let s = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (s(u.ru_utime) + s(u.ru_stime), u.ru_maxrss as u64 * 1024)
}

fn median(mut v: Vec<f64>) -> (f64, f64, f64) {
    v.sort_by(f64::total_cmp);
    (v[v.len() / 2], v[0], v[v.len() - 1])
}

fn main() {
    let only = std::env::args().nth(1);
    let mut csv = String::from("work,tool,ratio,min,max,ratio with all threads and helpers,rounds\n");
    for work in ["churn", "json", "growth"].into_iter().filter(|w| only.as_ref().is_none_or(|o| o == w)) {
        for tool in TOOLS {
            let (mut ratios, mut wholes) = (Vec::new(), Vec::new());
            for _ in 0..tool.rounds {
                let Some(base) = measure(&[], &[], tool.baseline, work) else { break };
                let Some(with) = measure(tool.runner, tool.env, tool.program, work) else { break };
                ratios.push(with.0 / base.0);
                wholes.push(with.1 / base.1);
            }
            if ratios.is_empty() {
                println!("{work:<8} {:<34} not run", tool.name);
                continue;
            }
            let ((m, min, max), whole) = (median(ratios), median(wholes).0);
            println!(
                "{work:<8} {:<34} {m:>7.2}x ({min:.2}-{max:.2})  with all threads and helpers {whole:>7.2}x",
                tool.name
            );
            let _ = writeln!(csv, "{work},{},{m:.3},{min:.3},{max:.3},{whole:.3},{}", tool.name, tool.rounds);
        }
    }
    if let Some(path) = std::env::var_os("EXECTRACE_RESULTS") {
        std::fs::write(PathBuf::from(path), csv).expect("the results can be written");
    }
}
