//! Runs the program and stays out of its way: signals go on to it, and its end is ours.

use super::spool::Spool;
use super::watch::{Condition, Plan, Watch};
use rustix::process::{Pid, Signal, WaitOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How it ended.
pub struct Ended {
    /// The program's process.
    pub process: u32,
    /// The exit code, as a shell would have it.
    pub code: u8,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Snapshots that were taken, the worst first.
    pub snapshots: Vec<PathBuf>,
}

/// Those that somebody may send to this process and mean the program.
const FOR_THE_PROGRAM: [i32; 5] = [SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
/// A terminal sends these to all of its foreground, so to the program, too. Here they must not end the command, which has a trace to finish.
const FROM_THE_TERMINAL: [i32; 2] = [SIGINT, SIGQUIT];
/// How often to look for the end of processes that are not our children.
const LOOK: Duration = Duration::from_millis(20);

/// Whether a terminal may have sent a signal that this process was sent: a process manager sends them to one process.
fn is_at_a_terminal() -> bool {
    let foreground = std::fs::File::open("/dev/tty").and_then(|tty| Ok(rustix::termios::tcgetpgrp(tty)?));
    foreground.is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Runs the program and waits for its end; with `all` also for that of the processes that it has left behind. Tells `begun` its process.
pub fn to_its_end(
    command: &mut Command,
    all: bool,
    watch: Option<(Plan, Spool)>,
    begun: &dyn Fn(u32),
) -> io::Result<Ended> {
    if all {
        // What outlives its parent becomes our child, which can be waited for.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let mut child = command.spawn()?;
    let process = child.id();
    begun(process);
    // Only now, so that the program has the dispositions that this command was given.
    let mut signals = Signals::new(FOR_THE_PROGRAM.iter().chain(&FROM_THE_TERMINAL))?;
    let handle = signals.handle();
    let enough = Arc::new(AtomicBool::new(false));
    let seen = enough.clone();
    let asked = Arc::new(AtomicBool::new(false));
    let mut ask =
        watch.as_ref().filter(|(plan, _)| plan.conditions.contains(&Condition::Signal)).map(|_| asked.clone());
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let watcher = watch.map(|(plan, spool)| {
        let watch = Watch::new(plan, spool, process, asked);
        std::thread::spawn(move || watch.run(&is_over))
    });
    let forwarder = std::thread::spawn(move || {
        for signal in &mut signals {
            if let (SIGUSR2, Some(asked)) = (signal, &mut ask) {
                asked.store(true, Ordering::Release);
                continue;
            }
            seen.store(signal != SIGWINCH, Ordering::Relaxed);
            let to = Pid::from_raw(process as i32);
            if (FOR_THE_PROGRAM.contains(&signal) || !is_at_a_terminal())
                && let (Some(to), Some(signal)) = (to, Signal::from_named_raw(signal))
            {
                // It may be gone already.
                let _ = rustix::process::kill_process(to, signal);
            }
        }
    });
    let status = child.wait();
    over.store(true, Ordering::Release);
    // A snapshot that is being taken is finished; that it could panic is no concern of the program's exit code.
    let snapshots = watcher.and_then(|watcher| watcher.join().ok()).unwrap_or_default();
    if all {
        // A signal from here on is for this command: enough of those that go on and on.
        enough.store(false, Ordering::Relaxed);
        while !enough.load(Ordering::Relaxed) {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => std::thread::sleep(LOOK),
                Err(_) => break,
            }
        }
    }
    handle.close();
    // It ends with its signals; that it could panic is no concern of the program's exit code.
    let _ = forwarder.join();
    let status = status?;
    let signal = status.signal();
    let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
    Ok(Ended { process, code: code as u8, signal, snapshots })
}
