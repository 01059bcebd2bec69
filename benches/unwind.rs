//! What a stack costs: our unwinder beside its rivals, at several depths, and with the table behind it.
//!
//! `cargo bench --bench unwind`. Each figure is the median of [`ROUNDS`] rounds that go through all methods in turn, so
//! that a slow moment of the machine hits them all; the spread is shown. Every method's stack is checked against the others'.
//! With `EXECTRACE_RESULTS` set to a path the rows are also written there.

use std::ffi::c_void;
use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use exectrace::internals::stack_table::{DEFAULT_LIMIT_BYTES, StackTable};
use exectrace::internals::unwind::{self, StackBounds};

const ROUNDS: usize = 9;
/// Frames of our own capture; the rivals have one or two more of theirs at the leaf.
const DEPTHS: [usize; 3] = [15, 32, 64];
const FRAMES_MAX: usize = 128;

static TABLE: StackTable = StackTable::new(DEFAULT_LIMIT_BYTES);

/// Functions that differ, so that the stack's return addresses do too: `N` picks one of 64 instances.
trait Level {
    fn enter(&self, depth: usize, leaf: &mut dyn FnMut()) -> u64;
}
struct At<const N: u64>;
impl<const N: u64> Level for At<N> {
    #[inline(never)]
    fn enter(&self, depth: usize, leaf: &mut dyn FnMut()) -> u64 {
        let here = black_box([N; 3]);
        if depth == 0 {
            leaf();
            return N;
        }
        // Not a tail call: the sum needs this frame.
        LEVELS[(N as usize + depth) % LEVELS.len()].enter(depth - 1, leaf) + here[1]
    }
}
macro_rules! levels {
    ($($n:literal)*) => { static LEVELS: &[&(dyn Level + Sync)] = &[$(&At::<$n>),*]; };
}
levels!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40);

unsafe extern "C" {
    fn _Unwind_Backtrace(f: extern "C" fn(*mut c_void, *mut c_void) -> i32, data: *mut c_void) -> i32;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    fn backtrace(out: *mut *mut c_void, len: i32) -> i32;
}

struct Sink {
    pcs: [usize; FRAMES_MAX],
    n: usize,
}

extern "C" fn push(context: *mut c_void, sink: *mut c_void) -> i32 {
    // SAFETY: `libgcc` passes our `Sink`, which nobody else uses meanwhile.
    let sink = unsafe { &mut *sink.cast::<Sink>() };
    // SAFETY: the context is the one of this call.
    let pc = unsafe { _Unwind_GetIP(context) };
    if pc != 0 && sink.n < FRAMES_MAX {
        sink.pcs[sink.n] = pc;
        sink.n += 1;
    }
    0
}

/// A way to take a stack: fills the array and returns the number of frames.
type Method = (&'static str, fn(&mut [usize; FRAMES_MAX], StackBounds) -> usize);

const METHODS: &[Method] = &[
    ("exectrace", |out, bounds| unwind::capture(out, bounds)),
    ("exectrace + stack table", |out, bounds| {
        let n = unwind::capture(out, bounds);
        black_box(TABLE.insert(&out[..n]));
        n
    }),
    ("_Unwind_Backtrace", |out, _| {
        let mut sink = Sink { pcs: [0; FRAMES_MAX], n: 0 };
        // SAFETY: the callback keeps to its types.
        unsafe { _Unwind_Backtrace(push, (&raw mut sink).cast()) };
        *out = sink.pcs;
        sink.n
    }),
    ("glibc backtrace", |out, _| {
        // SAFETY: room for as many as it says.
        unsafe { backtrace(out.as_mut_ptr().cast(), FRAMES_MAX as i32) as usize }
    }),
    ("backtrace::trace", |out, _| {
        let mut n = 0;
        backtrace::trace(|frame| {
            // It reports the end of the stack as a frame at 0.
            if !frame.ip().is_null() {
                out[n] = frame.ip() as usize;
                n += 1;
            }
            n < FRAMES_MAX
        });
        n
    }),
];

fn main() {
    unwind::init();
    let bounds = StackBounds::of_current_thread();
    println!(
        "{:24} {:>6} {:>6} {:>9} {:>9} {:>9} {:>8} {:>7}",
        "method", "depth", "frames", "ns", "min", "max", "ns/frame", "ratio"
    );
    let mut csv = String::from("method,depth,frames,median ns,min,max\n");
    // Below `main`, and above the innermost level the leaf and the method.
    let base = unwind::capture(&mut [0; FRAMES_MAX], bounds) + 3;
    for depth in DEPTHS {
        let mut ns = vec![Vec::new(); METHODS.len()];
        let mut frames = vec![0; METHODS.len()];
        let mut roots = vec![Vec::new(); METHODS.len()];
        let mut leaf = || {
            for round in 0..=ROUNDS {
                for (i, (_, method)) in METHODS.iter().enumerate() {
                    let times = if i < 2 { 20_000 } else { 1_000 };
                    let mut out = [0; FRAMES_MAX];
                    let start = Instant::now();
                    for _ in 0..times {
                        frames[i] = black_box(method)(black_box(&mut out), bounds);
                    }
                    // The first round warms the caches up.
                    if round > 0 {
                        ns[i].push(start.elapsed().as_nanos() as f64 / times as f64);
                    }
                    let stack = &out[..frames[i]];
                    roots[i] = stack[stack.len() - (depth - 2)..].to_vec();
                }
            }
        };
        black_box(LEVELS[0].enter(depth - base, &mut leaf));
        assert!(frames[0] == depth && roots.iter().all(|root| *root == roots[0]), "the methods disagree: {roots:x?}");
        for (i, (name, _)) in METHODS.iter().enumerate() {
            ns[i].sort_by(f64::total_cmp);
            let median = ns[i][ROUNDS / 2];
            let ratio = median / ns[0][ROUNDS / 2];
            let _ = writeln!(csv, "{name},{depth},{},{median:.1},{:.1},{:.1}", frames[i], ns[i][0], ns[i][ROUNDS - 1]);
            println!(
                "{name:24} {depth:6} {:6} {median:9.1} {:9.1} {:9.1} {:8.1} {ratio:6.1}x",
                frames[i],
                ns[i][0],
                ns[i][ROUNDS - 1],
                median / frames[i] as f64,
            );
        }
    }
    if let Some(path) = std::env::var_os("EXECTRACE_RESULTS") {
        std::fs::write(path, csv).expect("the results can be written");
    }
}
