//! What a program sees of its collector: a look at the clock after every few hundred steps, and each gap that is too long
//! to be the program's own work.
//!
//! So all collectors are measured alike, whatever they call a pause, and whoever does the work: the drop of a whole tree
//! is a stop as well. A gap's length is taken by the wall and by the thread's own time; the first has the machine's other
//! programs in it, the second has not.

use std::cell::{Cell, RefCell};

/// Gaps below this are the program's own work.
const STOP_NS: u64 = 20_000;

/// A gap: when it ended, since the beginning, and how long it was by the wall and of the thread's time, in nanoseconds.
#[derive(Clone, Copy)]
pub struct Stop {
    pub end: u64,
    pub wall: u64,
    pub cpu: u64,
}

thread_local! {
    static BEGIN: Cell<u64> = const { Cell::new(0) };
    static LAST: Cell<u64> = const { Cell::new(u64::MAX) };
    /// The wall's time and the thread's after the last stop.
    static SLOW: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    static STOPS: RefCell<Vec<Stop>> = const { RefCell::new(Vec::new()) };
}

pub fn clock(id: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    unsafe { libc::clock_gettime(id, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The time begins.
pub fn begin() {
    BEGIN.set(clock(libc::CLOCK_MONOTONIC));
    skip();
}

/// The program is at work.
#[inline]
pub fn tick() {
    let (now, last) = (clock(libc::CLOCK_MONOTONIC), LAST.get());
    if now.saturating_sub(last) >= STOP_NS { stop(last, now) } else { LAST.set(now) }
}

/// What was done until now does not count: the program has made its tables.
pub fn skip() {
    let now = clock(libc::CLOCK_MONOTONIC);
    LAST.set(now);
    SLOW.set((now, clock(libc::CLOCK_THREAD_CPUTIME_ID)));
}

/// Runs a program, and prints a line of its answer, CPU and wall time in nanoseconds and the peak of its memory in KiB; and a
/// line for each stop. The programs in Go and C print the same.
pub fn child(run: impl FnOnce() -> Option<u64>) {
    begin();
    let (cpu, wall) = (clock(libc::CLOCK_PROCESS_CPUTIME_ID), clock(libc::CLOCK_MONOTONIC));
    let Some(answer) = run() else { return };
    let cpu = clock(libc::CLOCK_PROCESS_CPUTIME_ID) - cpu;
    let wall = clock(libc::CLOCK_MONOTONIC) - wall;
    let status = std::fs::read_to_string("/proc/self/status").expect("the memory is told");
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("the peak is told");
    let mut out = format!("{answer} {cpu} {wall} {}\n", peak.trim().trim_end_matches(" kB"));
    for s in STOPS.take() {
        out += &format!("{} {} {}\n", s.end, s.wall, s.cpu);
    }
    print!("{out}");
}

/// Between stops the thread was running, but for what is shorter than one: so its own time in this gap is what it ran
/// since the last one, less the time until this gap began.
#[cold]
fn stop(last: u64, now: u64) {
    let cpu = clock(libc::CLOCK_THREAD_CPUTIME_ID);
    let (slow_wall, slow_cpu) = SLOW.get();
    let own = (cpu - slow_cpu).saturating_sub(last - slow_wall).min(now - last);
    STOPS.with_borrow_mut(|stops| stops.push(Stop { end: now - BEGIN.get(), wall: now - last, cpu: own }));
    let after = clock(libc::CLOCK_MONOTONIC);
    SLOW.set((after, cpu));
    LAST.set(after);
}
