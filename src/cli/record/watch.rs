//! Watches the program while it runs, and takes a snapshot of its trace when something goes wrong: before memory runs out, say.
//!
//! It looks from outside, a few times a second, at what the system says of the process and its control group, and at what the program
//! has written of its trace ([`events`](super::events)): nothing of that costs the program anything. A snapshot is of what the program
//! has written by then, which is everything up to the last generation.

use super::events::Written;
use super::spool::{self, Names, Raw, Spool};
use exectrace::format::spans::Span;
use exectrace::rewrite::Symbolizer;
use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);
/// Over how long the growth of the resident memory is taken.
const GROWTH_LOOKS: usize = 10;

/// When to take a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Resident memory above so many bytes.
    Rss(u64),
    /// Resident memory growing by so many bytes a second.
    Growth(u64),
    /// Memory of the control group above this share of its limit (`memory.high` or `memory.max`, the lower), in percent.
    Cgroup(f64),
    /// The control group's `memory.events` tell of a limit that was reached.
    CgroupEvents,
    /// Some task waited for memory for more than this share of the last ten seconds, in percent.
    Pressure(f64),
    /// This command got SIGUSR2.
    Signal,
    /// A region, a system call or a pause of the world took longer than so many nanoseconds.
    Took(Span, u64),
    /// An allocation failed.
    AllocationFailure,
}

/// Where standard error cannot be written there is nobody to tell.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

impl Condition {
    /// Parses `rss=512MiB`, `growth=50MiB/s`, `cgroup=90%`, `cgroup-events`, `psi=10%`, `signal`, `region=200ms`, `syscall=1s`,
    /// `gc-pause=10ms`, `alloc-failure`.
    pub fn parse(text: &str) -> Result<Condition, String> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let bytes =
            || bytes(value.strip_suffix("/s").unwrap_or(value)).ok_or(format!("{value:?} is no size such as 512MiB"));
        let percent = || {
            let number = value.strip_suffix('%').unwrap_or(value).parse::<f64>().ok();
            number.filter(|p| *p > 0.0).ok_or(format!("{value:?} is no share such as 90%"))
        };
        let took = |what| match duration_ns(value) {
            Some(ns) => Ok(Condition::Took(what, ns)),
            None => Err(format!("{value:?} is no time such as 100ms")),
        };
        match name {
            "region" => took(Span::Region),
            "syscall" => took(Span::Syscall),
            "gc-pause" => took(Span::Pause),
            "alloc-failure" if value.is_empty() => Ok(Condition::AllocationFailure),
            "rss" => bytes().map(Condition::Rss),
            "growth" => bytes().map(Condition::Growth),
            "cgroup" => percent().map(Condition::Cgroup),
            "psi" => percent().map(Condition::Pressure),
            "cgroup-events" if value.is_empty() => Ok(Condition::CgroupEvents),
            "signal" if value.is_empty() => Ok(Condition::Signal),
            _ => Err(
                "expected rss=SIZE, growth=SIZE/s, cgroup=PERCENT, cgroup-events, psi=PERCENT, signal, region=TIME, \
                      syscall=TIME, gc-pause=TIME or alloc-failure"
                    .to_owned(),
            ),
        }
    }

    /// Whether it is found in the events.
    fn is_of_events(&self) -> bool {
        matches!(self, Condition::Took(..) | Condition::AllocationFailure)
    }

    fn name(&self) -> &'static str {
        match self {
            Condition::Rss(_) => "rss",
            Condition::Growth(_) => "growth",
            Condition::Cgroup(_) => "cgroup",
            Condition::CgroupEvents => "cgroup-events",
            Condition::Pressure(_) => "psi",
            Condition::Signal => "signal",
            Condition::Took(Span::Region, _) => "region",
            Condition::Took(Span::Syscall, _) => "syscall",
            Condition::Took(Span::Pause, _) => "gc-pause",
            Condition::AllocationFailure => "alloc-failure",
        }
    }
}

/// A number of bytes with or without a unit.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok().filter(|&n| n > 0)?.checked_mul(unit)
}

/// A time with its unit: `250us`, `10ms`, `2s`.
fn duration_ns(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].trim() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok().filter(|&n| n > 0)?.checked_mul(unit)
}

/// What to do when.
pub struct Plan {
    pub conditions: Vec<Condition>,
    pub cooldown: Duration,
    /// How many snapshots are kept: those with the highest scores.
    pub keep: usize,
    /// A command that is run with each snapshot's path.
    pub then: Option<String>,
    pub output: PathBuf,
    pub names: Names,
    pub quiet: bool,
}

/// The watch on a process, until it ends.
pub struct Watch {
    plan: Plan,
    spool: Spool,
    process: u32,
    /// Somebody asked for a snapshot.
    asked: Arc<AtomicBool>,
    /// Resident bytes, the last looks'.
    rss: VecDeque<u64>,
    events: Option<u64>,
    /// What the program writes, where a condition is about that.
    written: Option<Written>,
    last: Option<Instant>,
    taken: Vec<(u64, PathBuf)>,
}

impl Watch {
    pub fn new(plan: Plan, spool: Spool, process: u32, asked: Arc<AtomicBool>) -> Watch {
        let (rss, taken) = (VecDeque::new(), Vec::new());
        let written = plan.conditions.iter().any(Condition::is_of_events).then(Written::default);
        Watch { plan, spool, process, asked, rss, events: None, written, last: None, taken }
    }

    /// Watches until `over`. Returns the snapshots that were kept, the worst first.
    pub fn run(mut self, over: &AtomicBool) -> Vec<PathBuf> {
        let mut symbolizer = self.plan.names.symbolizer();
        loop {
            // What the program wrote last is looked at, too, when it has ended: it may have ended of that.
            let is_over = over.load(Ordering::Acquire);
            if !is_over {
                std::thread::sleep(LOOK);
            }
            // Looked at each time, so that rates and counts are those of the time between two looks.
            let found = self.look();
            let asked = self.asked.swap(false, Ordering::AcqRel);
            let found = if asked { Some((Condition::Signal, 100)) } else { found };
            let cool = asked || self.last.is_none_or(|last| last.elapsed() >= self.plan.cooldown);
            if let Some((condition, score)) = found.filter(|_| cool) {
                self.take(&condition, score, &mut symbolizer);
            }
            if is_over {
                break;
            }
        }
        self.taken.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        self.taken.into_iter().map(|(_, path)| path).collect()
    }

    /// The worst of the conditions that hold, and its score: how much of the limit it is, in percent.
    fn look(&mut self) -> Option<(Condition, u64)> {
        let of_events = self.look_at_events();
        let of_process = self.look_at_process();
        of_events.into_iter().chain(of_process).max_by_key(|(_, score)| *score)
    }

    /// The worst that the program has written since the last look.
    fn look_at_events(&mut self) -> Option<(Condition, u64)> {
        let written = self.written.as_mut()?;
        let raws = self.spool.raws().unwrap_or_default();
        written.read(&raws.iter().rfind(|raw| raw.process == self.process)?.path);
        let longest = [Span::Region, Span::Syscall, Span::Pause].map(|what| written.spans.longest(what));
        let failed = written.spans.has_message();
        let score = |condition: &Condition| match *condition {
            Condition::Took(what, limit) => {
                let ns = longest[what as usize];
                (ns > limit).then(|| (u128::from(ns) * 100 / u128::from(limit)) as u64)
            }
            Condition::AllocationFailure => failed.then_some(100),
            _ => None,
        };
        let scored = self.plan.conditions.iter().filter_map(|c| Some((c.clone(), score(c)?)));
        scored.max_by_key(|(_, score)| *score)
    }

    /// The worst that the system says of it.
    fn look_at_process(&mut self) -> Option<(Condition, u64)> {
        let rss = resident(self.process)?;
        self.rss.push_back(rss);
        let before = if self.rss.len() > GROWTH_LOOKS { self.rss.pop_front() } else { None };
        let cgroup = Cgroup::of(self.process);
        let events = cgroup.as_ref().and_then(Cgroup::events);
        let more = events.zip(self.events).is_some_and(|(now, before)| now > before);
        self.events = events.or(self.events);
        let score = |condition: &Condition| -> Option<u64> {
            let share = match *condition {
                Condition::Rss(limit) => rss as f64 / limit as f64,
                Condition::Growth(limit) => rss.saturating_sub(before?) as f64 / limit as f64,
                Condition::Cgroup(percent) => cgroup.as_ref()?.share()? * 100.0 / percent,
                Condition::CgroupEvents => f64::from(u8::from(more)),
                Condition::Pressure(percent) => pressure(cgroup.as_ref())? / percent,
                Condition::Signal | Condition::Took(..) | Condition::AllocationFailure => 0.0,
            };
            (share >= 1.0).then_some((share * 100.0) as u64)
        };
        let scored = self.plan.conditions.iter().filter_map(|c| Some((c.clone(), score(c)?)));
        scored.max_by_key(|(_, score)| *score)
    }

    fn take(&mut self, condition: &Condition, score: u64, symbolizer: &mut Symbolizer) {
        let raws = self.spool.raws().unwrap_or_default();
        // The program that the process runs now.
        let Some(raw) = raws.iter().rfind(|raw| raw.process == self.process) else { return };
        let path = self.path(condition, score);
        let said = match snapshot(raw, &path, symbolizer) {
            Ok(true) => format!("exectrace: {} at {score} % of its limit: {}", condition.name(), path.display()),
            // Nothing is written yet: at the next look there may be something.
            Ok(false) => return,
            Err(e) => {
                self.last = Some(Instant::now());
                say(&format!("exectrace: {} at {score} % of its limit, and no snapshot: {e}", condition.name()));
                return;
            }
        };
        self.last = Some(Instant::now());
        if !self.plan.quiet {
            say(&said);
        }
        self.taken.push((score, path.clone()));
        if let Some(command) = &self.plan.then {
            // What it does and says is its user's affair.
            let _ = Command::new("sh").arg("-c").arg(format!("{command} \"$1\"")).arg("sh").arg(&path).status();
        }
        if self.taken.len() > self.plan.keep
            && let Some(least) = (0..self.taken.len()).min_by_key(|&i| self.taken[i].0)
        {
            let (_, path) = self.taken.remove(least);
            // It is one too many; that it could not be removed harms nobody.
            let _ = fs::remove_file(path);
        }
    }

    /// `app.snapshot-rss-104.trace`; with a number where that is taken.
    fn path(&self, condition: &Condition, score: u64) -> PathBuf {
        let stem = self.plan.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = |more: &str| {
            let name = format!("{stem}.snapshot-{}-{score:03}{more}.trace", condition.name());
            self.plan.output.with_file_name(name)
        };
        // Another run of the program may have left some.
        let numbered = (2..=u32::MAX).map(|n| name(&format!("-{n}")));
        std::iter::once(name("")).chain(numbered).find(|path| !path.exists()).unwrap_or_else(|| name(""))
    }
}

/// Makes a trace of what a process has written so far. False if that is nothing yet.
fn snapshot(raw: &Raw, path: &Path, symbolizer: &mut Symbolizer) -> Result<bool, exectrace::rewrite::Error> {
    Ok(spool::finish(raw, path, symbolizer, true)?.is_some())
}

fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// A control group of version 2.
struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    fn of(process: u32) -> Option<Cgroup> {
        let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        // Set where control groups are mounted elsewhere, and in tests.
        let root = std::env::var_os("EXECTRACE_CGROUP_ROOT").unwrap_or("/sys/fs/cgroup".into());
        Some(Cgroup { dir: Path::new(&root).join(path.trim_start_matches('/')) })
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    /// How much of its limit is used; `None` where there is none.
    fn share(&self) -> Option<f64> {
        let limit = [self.number("memory.high"), self.number("memory.max")].into_iter().flatten().min()?;
        Some(self.number("memory.current")? as f64 / limit.max(1) as f64)
    }

    /// How often a limit was reached.
    fn events(&self) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join("memory.events")).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(' '));
        Some(fields.filter(|(name, _)| *name != "low").filter_map(|(_, n)| n.parse::<u64>().ok()).sum())
    }
}

/// The share of the last ten seconds in which some task waited for memory, in percent: the control group's, else the machine's.
fn pressure(cgroup: Option<&Cgroup>) -> Option<f64> {
    let own = cgroup.and_then(|c| fs::read_to_string(c.dir.join("memory.pressure")).ok());
    let text = own.or_else(|| fs::read_to_string("/proc/pressure/memory").ok())?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|field| field.strip_prefix("avg10=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_written() {
        for (text, expected) in [
            ("rss=512MiB", Condition::Rss(512 << 20)),
            ("growth=5K/s", Condition::Growth(5 << 10)),
            ("growth=5", Condition::Growth(5)),
            ("cgroup=90%", Condition::Cgroup(90.0)),
            ("psi=0.5", Condition::Pressure(0.5)),
            ("cgroup-events", Condition::CgroupEvents),
            ("signal", Condition::Signal),
            ("region=200ms", Condition::Took(Span::Region, 200_000_000)),
            ("syscall=1s", Condition::Took(Span::Syscall, 1_000_000_000)),
            ("gc-pause=50us", Condition::Took(Span::Pause, 50_000)),
            ("alloc-failure", Condition::AllocationFailure),
        ] {
            assert_eq!(Condition::parse(text).as_ref(), Ok(&expected), "{text}");
        }
        for text in [
            "",
            "rss",
            "rss=",
            "rss=0",
            "rss=x",
            "cgroup=-1",
            "cgroup=x%",
            "signal=1",
            "other=1",
            "rss=99999999999GiB",
            "region=5",
            "region=0s",
        ] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
    }
}
