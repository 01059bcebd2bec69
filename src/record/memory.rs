//! Series of the process's memory, on the clock of the trace: what the program holds, what its allocator has committed, what is
//! resident and of what kind, the control group and its limits, stalls and page faults.
//!
//! The writer's thread takes them, at a bounded rate: some figures at each interval, the dear ones at most once a second, and never more
//! often than that they take a hundredth of the time. A value that has not changed is told once a generation.
//!
//! Nothing here runs in a hook.

use core::sync::atomic::{AtomicPtr, Ordering};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{gauges, thread};
use crate::format::private::series;
use crate::sys::memory::{Group, Mappings, Resident, faults};
use crate::sys::pages;

/// The least time between two samples of what is dear.
const DEAR_PERIOD: Duration = Duration::from_secs(1);
/// What is dear may take this part of the time.
const DEAR_PART: u32 = 100;

/// How many bytes the program's allocator has committed, if it can tell: a `fn() -> u64`, 0 for "not known". Set by the hook.
static COMMITTED: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// From now on `f` tells what the allocator has committed.
#[cfg(feature = "mimalloc")]
pub(crate) fn set_committed(f: fn() -> u64) {
    COMMITTED.store(f as *mut (), Ordering::Release);
}

fn committed() -> Option<u64> {
    let f = COMMITTED.load(Ordering::Acquire);
    if f.is_null() {
        return None;
    }
    // SAFETY: only `set_committed` stores here, and it stores functions of this type.
    let f: fn() -> u64 = unsafe { core::mem::transmute(f) };
    Some(f()).filter(|&bytes| bytes > 0)
}

/// A point of a series: its name, the time on the trace's clock, the value.
pub(crate) type Point = (&'static str, u64, u64);

/// Takes samples when they are due.
#[derive(Debug)]
pub(crate) struct Sampler {
    every: Duration,
    next: Instant,
    next_dear: Instant,
    group: Option<Group>,
    last: BTreeMap<&'static str, u64>,
    points: Vec<Point>,
}

impl Sampler {
    /// Takes a sample each time so much has passed; never, if that is nothing.
    pub(crate) fn new(every: Duration) -> Sampler {
        let now = Instant::now();
        let group = if every.is_zero() { None } else { Group::own() };
        Sampler { every, next: now, next_dear: now, group, last: BTreeMap::new(), points: Vec::new() }
    }

    /// When the next sample is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.every.is_zero()).then_some(self.next)
    }

    /// Takes a sample if one is due, or `last` and one was ever taken. `now_ns` is the time on the trace's clock.
    pub(crate) fn sample(&mut self, last: bool, now_ns: impl Fn() -> u64) {
        let begin = Instant::now();
        if self.every.is_zero() || (begin < self.next && !last) {
            return;
        }
        self.next = begin + self.every;
        let at = now_ns();
        self.cheap(at);
        if begin >= self.next_dear || last {
            let begin = Instant::now();
            self.dear(now_ns());
            self.next_dear = begin + DEAR_PERIOD.max(begin.elapsed() * DEAR_PART);
        }
    }

    fn cheap(&mut self, at: u64) {
        let mut put = |name, value| note(&mut self.last, &mut self.points, name, at, value);
        put(series::NATIVE_HEAP, gauges::native());
        if gauges::has_gc() {
            put(series::GC_HEAPS, gauges::gc_live());
        }
        if let Some(bytes) = committed() {
            put(series::COMMITTED, bytes);
        }
        put(series::TRACER_MAPPED, pages::mapped_bytes());
        put(series::TRACER_HEAP, tracer_heap());
        if let Some(r) = Resident::read() {
            put(series::RSS_ANONYMOUS, r.anonymous);
            put(series::RSS_FILES, r.files);
            put(series::RSS_SHARED, r.shared);
            put(series::SWAPPED, r.swapped);
        }
        let (minor, major) = faults();
        put(series::FAULTS_MINOR, minor);
        put(series::FAULTS_MAJOR, major);
        if let Some(group) = &self.group {
            group.sizes(|name, value| put(of(&series::GROUP_SIZES, name), value));
            group.events(|name, value| put(of(&series::GROUP_EVENTS, name), value));
        }
        if let Some((some, full)) = Group::pressure(self.group.as_ref()) {
            put(series::STALLED_SOME, some);
            put(series::STALLED_FULL, full);
        }
    }

    fn dear(&mut self, at: u64) {
        let stack = |t: &thread::Thread| (t.stack_low.load(Ordering::Relaxed), t.stack_high.load(Ordering::Relaxed));
        let alive = |t: &&thread::Thread| t.life.load(Ordering::Relaxed) == thread::life::ALIVE;
        let stacks: Vec<(u64, u64)> = thread::all().filter(alive).map(stack).filter(|s| s.1 != 0).collect();
        let mut put = |name, value| note(&mut self.last, &mut self.points, name, at, value);
        if let Some(m) = Mappings::read(&stacks) {
            for (name, value) in [
                (series::MAPPED_ANONYMOUS, m.anonymous),
                (series::MAPPED_FILES, m.files),
                (series::MAPPED_STACKS, m.stacks),
                (series::MAPPED_BRK, m.brk),
                (series::MAPPED_SHARED, m.shared),
                (series::PSS, m.proportional),
                (series::LAZILY_FREE, m.lazily_free),
                (series::HUGE, m.huge),
                (series::MAPPINGS, m.count),
            ] {
                put(name, value);
            }
        }
        if let Some(group) = &self.group {
            group.stat(|name, value| put(of(&series::GROUP_STAT, name), value));
        }
    }

    /// What was sampled since the last call. A generation is over: the next one's samples tell everything again.
    pub(crate) fn take(&mut self) -> Vec<Point> {
        self.last.clear();
        core::mem::take(&mut self.points)
    }
}

/// What the tracer's own threads have allocated through the program's allocator and not yet freed.
fn tracer_heap() -> u64 {
    let own = thread::all().filter(|t| t.internal.load(Ordering::Relaxed));
    own.map(|t| t.heap.net()).sum::<i64>().max(0) as u64
}

fn note(last: &mut BTreeMap<&'static str, u64>, points: &mut Vec<Point>, name: &'static str, at: u64, value: u64) {
    if last.insert(name, value) != Some(value) {
        points.push((name, at, value));
    }
}

/// The series of a figure of the control group.
fn of(series: &[(&'static str, &'static str)], name: &str) -> &'static str {
    series.iter().find(|(key, _)| *key == name).map_or("", |(_, series)| series)
}
