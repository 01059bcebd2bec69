//! Random programs that allocate by plan, and what `analyze::heap` says of them.
//!
//! Four threads go through rounds: in each they grow what they hold, then shrink it, hand blocks to each other to free or to keep, and
//! churn. What is held by which label in the middle of each round, what all of it comes to, what is freed soon and what is left
//! at the end is reckoned by the threads themselves. With all allocations recorded every figure has to be equal; in a sample each has
//! to be off by no more than the sampling's error allows, and all of them together by as much as it says.

mod guest;

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::hint::black_box;
use std::sync::{Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use exectrace::analyze::{HeapAt, HeapBy, HeapOptions, HeapReport, HeapSums, heap};
use exectrace::read::Reader;
use exectrace::{Allocations, Tracer};

use guest::{Memory, Random};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

const THREADS: usize = 4;
const ROUNDS: usize = 8;
const LABELS: [&str; 5] = ["plan cache", "plan index", "plan rows", "plan text", "plan scratch"];
const REGIONS: [&str; THREADS] = ["plan w0", "plan w1", "plan w2", "plan w3"];

/// A block of the plan.
struct Block {
    at: *mut u8,
    size: usize,
    label: usize,
    /// The thread that made it, and how many it had made by then.
    by: usize,
    serial: u64,
}

// SAFETY: memory with one owner.
unsafe impl Send for Block {}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("layout")
}

/// What a thread reckons, by label.
#[derive(Clone, Copy, Default)]
struct Account {
    bytes: u64,
    blocks: u64,
    temporary_bytes: u64,
    temporary_blocks: u64,
    /// The variance of an estimate of `bytes` from a sample.
    variance: f64,
    leaked_bytes: u64,
    leaked_blocks: u64,
    leaked_variance: f64,
}

/// The variance that a block brings to the estimate of a sum of bytes: it is taken with chance `p`, and then counts for `size / p`.
fn variance(size: usize, interval: u64) -> f64 {
    let taken = -(-(size as f64) / interval as f64).exp_m1();
    (size as f64).powi(2) * (1.0 - taken) / taken
}

struct Worker {
    id: usize,
    random: Random,
    interval: u64,
    made: u64,
    held: Vec<Block>,
    account: [Account; LABELS.len()],
}

impl Worker {
    fn make(&mut self) -> Block {
        let label = self.random.below(LABELS.len() as u64) as usize;
        // Sizes of all orders.
        let order = 1 + self.random.below(14);
        let size = 1 + self.random.below(1 << order) as usize;
        let region = exectrace::Region::new(REGIONS[self.id]);
        let at = {
            exectrace::scope!(LABELS[label]);
            // SAFETY: the size is not 0.
            unsafe { alloc(layout(size)) }
        };
        drop(region);
        self.made += 1;
        self.count(label, size);
        Block { at: black_box(at), size, label, by: self.id, serial: self.made }
    }

    fn count(&mut self, label: usize, size: usize) {
        let a = &mut self.account[label];
        a.bytes += size as u64;
        a.blocks += 1;
        a.variance += variance(size, self.interval);
    }

    /// Makes it larger: a free and an allocation by who does it, under the label that is on then.
    fn grow(&mut self, b: &mut Block) {
        let size = b.size + 1 + self.random.below(500) as usize;
        let region = exectrace::Region::new(REGIONS[self.id]);
        {
            exectrace::scope!(LABELS[b.label]);
            // SAFETY: the block has this layout.
            b.at = unsafe { realloc(b.at, layout(b.size), size) };
        }
        drop(region);
        self.made += 1;
        (b.size, b.by, b.serial) = (size, self.id, self.made);
        self.count(b.label, size);
    }

    fn free(&mut self, b: Block) {
        if b.by == self.id && self.made - b.serial <= 8 {
            let a = &mut self.account[b.label];
            a.temporary_bytes += b.size as u64;
            a.temporary_blocks += 1;
        }
        // SAFETY: the block has this layout.
        unsafe { dealloc(b.at, layout(b.size)) };
    }

    fn hold(&self) -> [(u64, u64); LABELS.len()] {
        let mut sums = [(0, 0); LABELS.len()];
        for b in &self.held {
            sums[b.label].0 += b.size as u64;
            sums[b.label].1 += 1;
        }
        sums
    }

    fn leak(&mut self) {
        for b in std::mem::take(&mut self.held) {
            let a = &mut self.account[b.label];
            a.leaked_bytes += b.size as u64;
            a.leaked_blocks += 1;
            a.leaked_variance += variance(b.size, self.interval);
        }
    }
}

type Hold = [(u64, u64); LABELS.len()];

/// What the threads reckon together.
struct Plan {
    account: [Account; LABELS.len()],
    by_thread: [(u64, u64); THREADS],
    /// What is held in the middle of the round in which most is.
    peak: Hold,
}

/// Runs the program. `interval` is that of the sample, if there is one.
fn program(seed: u64, interval: u64) -> Plan {
    let barrier = Barrier::new(THREADS);
    let rounds: [Mutex<Hold>; ROUNDS] = Default::default();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<Block>()).unzip();
    let workers: Vec<Worker> = thread::scope(|s| {
        let threads: Vec<_> = receivers
            .into_iter()
            .enumerate()
            .map(|(id, from)| {
                let (barrier, rounds, to) = (&barrier, &rounds, senders[(id + 1) % THREADS].clone());
                s.spawn(move || {
                    let random = Random(seed * 1000 + id as u64 * 7 + 1);
                    let held = Vec::with_capacity(20_000);
                    let mut w = Worker { id, random, interval, made: 0, held, account: Default::default() };
                    (0..ROUNDS).for_each(|round| go(&mut w, round, barrier, &rounds[round], &to, &from));
                    w.leak();
                    w
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("join")).collect()
    });
    let mut account = [Account::default(); LABELS.len()];
    for (sum, label) in account.iter_mut().zip(0..) {
        for a in workers.iter().map(|w| w.account[label]) {
            sum.bytes += a.bytes;
            sum.blocks += a.blocks;
            sum.temporary_bytes += a.temporary_bytes;
            sum.temporary_blocks += a.temporary_blocks;
            sum.variance += a.variance;
            sum.leaked_bytes += a.leaked_bytes;
            sum.leaked_blocks += a.leaked_blocks;
            sum.leaked_variance += a.leaked_variance;
        }
    }
    let of = |w: &Worker| w.account.iter().map(|a| (a.bytes, a.blocks)).fold((0, 0), |s, a| (s.0 + a.0, s.1 + a.1));
    let by_thread = std::array::from_fn(|i| of(&workers[i]));
    let held: Vec<Hold> = rounds.into_iter().map(|r| r.into_inner().expect("whole")).collect();
    let peak = held.into_iter().max_by_key(|h| h.iter().map(|l| l.0).sum::<u64>()).expect("rounds");
    Plan { account, by_thread, peak }
}

fn go(
    w: &mut Worker,
    round: usize,
    barrier: &Barrier,
    at_most: &Mutex<Hold>,
    to: &mpsc::Sender<Block>,
    from: &mpsc::Receiver<Block>,
) {
    // It grows. Most in a round in the middle.
    let more = if round == ROUNDS / 2 { 900 } else { 100 + w.random.below(200) };
    for _ in 0..more {
        let mut b = w.make();
        if w.random.chance(5) {
            w.grow(&mut b);
        }
        w.held.push(b);
    }
    // Between here and the next nobody allocates: that is where the round's most is held.
    barrier.wait();
    {
        let mut sums = at_most.lock().expect("whole");
        for (sum, own) in sums.iter_mut().zip(w.hold()) {
            sum.0 += own.0;
            sum.1 += own.1;
        }
    }
    barrier.wait();
    // It shrinks: first what was made last, some of it soon after.
    for _ in 0..more * 3 / 4 {
        let i = if w.random.chance(3) { w.held.len() - 1 } else { w.random.below(w.held.len() as u64) as usize };
        let b = w.held.swap_remove(i);
        w.free(b);
    }
    barrier.wait();
    // From hand to hand.
    for _ in 0..20 {
        let b = w.held.swap_remove(0);
        to.send(b).expect("send");
    }
    barrier.wait();
    for i in 0..20 {
        let b = from.recv().expect("twenty for each");
        if i % 3 == 0 { w.held.push(b) } else { w.free(b) }
    }
    // And what comes and goes.
    for _ in 0..200 {
        let b = w.make();
        w.free(b);
    }
    barrier.wait();
}

fn traced(which: Allocations, seed: u64, interval: u64) -> (Plan, Vec<u8>) {
    let sink = Memory::with_capacity(32 << 20);
    let tracer = Tracer::new().allocations(which).cpu_sample_hz(0).generation_period(Duration::from_millis(7));
    tracer.start(sink.clone()).expect("start");
    let plan = program(seed, interval);
    exectrace::flush();
    let stats = exectrace::stop().expect("stop");
    assert_eq!((stats.lost_allocations, stats.lost_events()), (0, 0), "seed {seed}");
    (plan, sink.bytes())
}

fn report(trace: &[u8], options: HeapOptions) -> HeapReport {
    let r = heap(&mut Reader::new(trace).expect("a trace"), &options);
    assert_eq!((&r.damage, r.lost), (&None, 0));
    r
}

fn sums(r: &HeapReport, name: &str) -> HeapSums {
    r.entries.iter().find(|e| e.name == name).map_or_else(HeapSums::default, |e| e.sums)
}

fn exact(seed: u64) {
    let (plan, trace) = traced(Allocations::All, seed, 1);
    let by_label = report(&trace, HeapOptions { by: HeapBy::Label, at: HeapAt::Peak, ..HeapOptions::default() });
    for (label, (a, peak)) in LABELS.iter().zip(plan.account.iter().zip(plan.peak)) {
        let s = sums(&by_label, label);
        let what = format!("seed {seed}, {label}");
        assert_eq!((s.total_bytes, s.total_blocks), (a.bytes, a.blocks), "{what}: in total");
        assert_eq!((s.leaked_bytes, s.leaked_blocks), (a.leaked_bytes, a.leaked_blocks), "{what}: leaked");
        assert_eq!((s.peak_bytes, s.peak_blocks), peak, "{what}: at the peak");
        assert_eq!((s.held_bytes, s.held_blocks), peak, "{what}: held at the peak");
        assert_eq!(
            (s.temporary_bytes, s.temporary_blocks),
            (a.temporary_bytes, a.temporary_blocks),
            "{what}: temporary"
        );
    }
    let by_region = report(&trace, HeapOptions { by: HeapBy::Region, ..HeapOptions::default() });
    for (region, planned) in REGIONS.iter().zip(plan.by_thread) {
        let s = sums(&by_region, region);
        assert_eq!((s.total_bytes, s.total_blocks), planned, "seed {seed}, {region}");
    }
}

/// By how many standard errors each figure is off.
fn sampled(seed: u64, interval: u64) -> Vec<f64> {
    let (plan, trace) = traced(Allocations::Sampled { every_bytes: interval }, seed, interval);
    let r = report(&trace, HeapOptions { by: HeapBy::Label, ..HeapOptions::default() });
    let mut off = Vec::new();
    for (label, a) in LABELS.iter().zip(plan.account) {
        let s = sums(&r, label);
        for (got, planned, variance) in
            [(s.total_bytes, a.bytes, a.variance), (s.leaked_bytes, a.leaked_bytes, a.leaked_variance)]
        {
            off.push((got as f64 - planned as f64) / variance.sqrt().max(1.0));
        }
    }
    off
}

fn main() {
    for seed in 1..=12 {
        exact(seed);
    }
    let off: Vec<f64> = (1..=30).flat_map(|seed| sampled(seed, 2048)).collect();
    let worst = off.iter().map(|z| z.abs()).fold(0.0, f64::max);
    assert!(worst < 5.0, "{worst:.1} standard errors off");
    // Neither biased nor better or worse than it says: of n figures the mean has an error of 1/sqrt(n), their square of sqrt(2/n).
    let n = off.len() as f64;
    let (mean, square) = (off.iter().sum::<f64>() / n, off.iter().map(|z| z * z).sum::<f64>() / n);
    assert!(mean.abs() < 4.5 / n.sqrt(), "biased by {mean:.3} standard errors");
    assert!((square - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "the error is {square:.2} of what it says");
    println!("heap_plan: ok; {n} estimates, worst {worst:.1}, mean {mean:.3}, square {square:.2}");
}
