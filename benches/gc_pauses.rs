//! How long the heap holds a program up: every stop on a live heap of 200 MB, in each mode, as the program's thread sees
//! it.
//!
//! The program is an LRU-like churn: a table of lists, of which one is thrown away and built anew at a time, and pointers
//! between them are overwritten at random. A stop is a pause, an assist, a sweep or a minor collection, as the heap's
//! [`Observer`] is told of it; each is timed by the wall and by the thread's own time. What the wall has more is the
//! machine's: other programs, interrupts. The row `noise` is a thread that does nothing but look at the clock for as
//! long, and the gaps that it sees.
//!
//! `cargo bench --bench gc_pauses [-- MEGABYTES]`; with `EXECTRACE_RESULTS` the rows go to that file, too.

use exectrace::gc::{Arena, Config, CycleStats, Gc, GcArray, GcCell, Mode, Mutation, Observer, Rootable, StwKind};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Times of stops, in nanoseconds of the wall and of the thread.
#[derive(Default)]
struct Stops {
    open: RefCell<Vec<(Instant, u64)>>,
    wall: RefCell<Vec<u64>>,
    thread: RefCell<Vec<u64>>,
    cycles: Cell<u64>,
}

impl Stops {
    fn begin(&self) {
        self.open.borrow_mut().push((Instant::now(), thread_ns()));
    }

    fn end(&self) {
        let mut open = self.open.borrow_mut();
        let (wall, thread) = open.pop().expect("begun");
        // A sweep inside of a minor collection is part of it.
        if open.is_empty() {
            self.wall.borrow_mut().push(wall.elapsed().as_nanos() as u64);
            self.thread.borrow_mut().push(thread_ns() - thread);
        }
    }
}

impl Observer for Stops {
    fn stw_begin(&self, _: StwKind) {
        self.begin();
    }
    fn stw_end(&self, _: StwKind) {
        self.end();
    }
    fn assist_begin(&self) {
        self.begin();
    }
    fn assist_end(&self) {
        self.end();
    }
    fn sweep_begin(&self) {
        self.begin();
    }
    fn sweep_end(&self, _: usize, _: usize) {
        self.end();
    }
    fn minor_begin(&self) {
        self.begin();
    }
    fn minor_end(&self, _: usize, _: usize) {
        self.end();
    }
    fn cycle_end(&self, _: &CycleStats) {
        self.cycles.set(self.cycles.get() + 1);
    }
    /// Single blocks are not swept for the sake of being told.
    fn is_on(&self) -> bool {
        false
    }
}

/// The time that this thread ran, in nanoseconds.
fn thread_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time into `t`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

struct Node<'gc> {
    next: Option<Gc<'gc, Node<'gc>>>,
    other: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>,
    value: u64,
}
exectrace::collect_fields!(impl['gc] struct Node<'gc> { next, other, value });

type Slot<'gc> = GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>;
type Table = Rootable!['gc => GcArray<'gc, Slot<'gc>>];
/// Nodes in a list: 32 bytes each. Half of the live lists are in the table, the others are still referred to.
const LIST: u64 = 32;

fn list<'gc>(mc: &Mutation<'gc>, x: &mut u64) -> Option<Gc<'gc, Node<'gc>>> {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    (0..LIST).fold(None, |next, value| Some(mc.alloc(Node { next, other: GcCell::new(None), value })))
}

fn churn(config: Config, megabytes: u64, rounds: u64) -> (Stops, u64, Duration) {
    let lists = (megabytes << 20) / (LIST * 32) / 2;
    let mut x = 88_172_645_463_325_252;
    let mut arena = Arena::<Table, Stops>::try_with_observer(config, Stops::default(), |mc| {
        mc.alloc_array(lists as usize, |_| GcCell::new(None))
    })
    .expect("memory");
    for at in 0..lists as usize {
        arena.mutate(|mc, table| table[at].set(mc, list(mc, &mut x)));
        arena.safepoint();
    }
    // What was measured while the heap grew is not of that heap.
    arena.observer().wall.borrow_mut().clear();
    arena.observer().thread.borrow_mut().clear();
    let before = arena.observer().cycles.get();
    let begin = Instant::now();
    for _ in 0..rounds {
        arena.mutate(|mc, table| {
            let new = list(mc, &mut x);
            table[x as usize % table.len()].set(mc, new);
            // The objects of a random old list are written to, and refer to the new one.
            let old = table[(x >> 20) as usize % table.len()].get().expect("a list");
            assert_eq!(old.value, LIST - 1);
            let mut at = Some(old);
            while let Some(n) = at {
                n.other.set(mc, new);
                at = n.next;
            }
        });
        arena.safepoint();
    }
    let took = begin.elapsed();
    let stops = Stops::default();
    stops.wall.replace(arena.observer().wall.take());
    stops.thread.replace(arena.observer().thread.take());
    stops.cycles.set(arena.observer().cycles.get() - before);
    (stops, arena.stats().bytes_live as u64, took)
}

fn row(csv: &mut String, name: &str, cycles: u64, live: u64, times: &mut [u64]) {
    times.sort_unstable();
    let at = |p: f64| times.get((times.len() as f64 * p) as usize).or(times.last()).copied().unwrap_or(0) as f64 / 1e3;
    *csv += &format!(
        "{name},{cycles},{},{},{:.1},{:.1},{:.1},{:.1}\n",
        live >> 20,
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    println!(
        "{name:<24} {cycles:>4} {:>6} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
        live >> 20,
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let megabytes: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(200);
    println!("stops in us, live heap and cycles while measured");
    println!("mode, clock              cycl  MiB     stops       p50       p99     p99.9       max");
    let mut longest = Duration::ZERO;
    let mut csv = String::from("stops,cycles,live MiB,count,p50 us,p99 us,p99.9 us,max us\n");
    for (name, mode) in [
        ("incremental", Mode::Incremental),
        ("generational", Mode::Generational),
        ("stop-the-world", Mode::StopTheWorld),
    ] {
        let rounds = (megabytes << 20) / (LIST * 32) * 4;
        let (stops, live, took) = churn(Config::new().mode(mode), megabytes, rounds);
        longest = longest.max(took);
        row(&mut csv, &format!("{name} wall"), stops.cycles.get(), live, &mut stops.wall.borrow_mut());
        row(&mut csv, &format!("{name} thread"), stops.cycles.get(), live, &mut stops.thread.borrow_mut());
        assert!(stops.cycles.get() > 0, "there is nothing to measure");
        println!("{:<24} peak RSS so far {} MiB", "", peak_rss_kib() >> 10);
    }
    let (begin, mut last, mut gaps) = (Instant::now(), Instant::now(), Vec::new());
    while begin.elapsed() < longest {
        let now = Instant::now();
        let gap = (now - last).as_nanos() as u64;
        if gap > 1000 {
            gaps.push(gap);
        }
        last = now;
    }
    row(&mut csv, "noise: gaps over 1 us", 0, 0, &mut gaps);
    csv += &format!("peak RSS MiB,,,,,,,{}\n", peak_rss_kib() >> 10);
    if let Some(path) = std::env::var_os("EXECTRACE_RESULTS") {
        std::fs::write(path, csv).expect("the results can be written");
    }
}

/// The most memory that the process ever had, in KiB; 0 where that is not told.
fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}
