//! What a hook costs: calls through the hooks with tracing off and on, against the same calls of the C library
//! directly, in one process and in turns.
//!
//! Prints the median of the rounds in nanoseconds a call, and the least and most. `cargo bench --bench hooks -- --csv`
//! prints lines for `benches/results`.

use std::ffi::{CString, c_int, c_void};
use std::hint::black_box;
use std::time::Instant;

exectrace::interpose!();

const ROUNDS: usize = 25;
/// A round's figure is the best of so many batches: what other programs on the machine take is not the hook's.
const BATCHES: usize = 20;

type Read = unsafe extern "C" fn(c_int, *mut c_void, usize) -> isize;
type Lock = unsafe extern "C" fn(*mut libc::pthread_mutex_t) -> c_int;
type Post = unsafe extern "C" fn(*mut libc::sem_t) -> c_int;
type Number = unsafe extern "C" fn(libc::c_long, usize, usize, usize, usize, usize) -> libc::c_long;

fn find<F: Copy>(handle: *mut c_void, name: &str) -> F {
    let c_name = CString::new(name).expect("no zero in it");
    // SAFETY: a lookup by name.
    let at = unsafe { libc::dlsym(handle, c_name.as_ptr()) };
    assert!(!at.is_null(), "{name}");
    assert_eq!(size_of::<F>(), size_of_val(&at));
    // SAFETY: every caller names the function's type.
    unsafe { std::mem::transmute_copy(&at) }
}

/// Nanoseconds a call.
fn time(calls: usize, mut call: impl FnMut()) -> f64 {
    let calls = calls / BATCHES;
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        start.elapsed().as_secs_f64() * 1e9 / calls as f64
    };
    (0..BATCHES).map(batch).fold(f64::INFINITY, f64::min)
}

fn report(csv: bool, what: &str, how: &str, rounds: &mut [f64]) {
    rounds.sort_unstable_by(f64::total_cmp);
    let (least, middle, most) = (rounds[0], rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
    if csv {
        println!("hooks,{what},{how},{middle:.2},{least:.2},{most:.2}");
    } else {
        println!("{what:28} {how:10} {middle:8.2} ns  ({least:.2} to {most:.2})");
    }
}

/// One call three ways, in turns.
fn compare<F: Copy>(csv: bool, what: &str, calls: usize, real: F, hook: F, call: impl Fn(F)) {
    let mut rounds = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rounds[0].push(time(calls, || call(black_box(real))));
        rounds[1].push(time(calls, || call(black_box(hook))));
        exectrace::Tracer::new().cpu_sample_hz(0).start(std::io::sink()).expect("no trace is on");
        rounds[2].push(time(calls, || call(black_box(hook))));
        exectrace::stop().expect("a trace");
    }
    for (how, rounds) in ["libc", "hook, off", "hook, on"].into_iter().zip(&mut rounds) {
        report(csv, what, how, rounds);
    }
}

fn main() {
    let csv = std::env::args().any(|a| a == "--csv");
    // SAFETY: it is loaded already.
    let real = unsafe { libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    let hook = libc::RTLD_DEFAULT;
    // SAFETY: a path.
    let zero = unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY) };
    assert!(zero >= 0);

    compare(csv, "read(/dev/zero, 8)", 100_000, find::<Read>(real, "read"), find::<Read>(hook, "read"), |f| {
        let mut buffer = [1u8; 8];
        // SAFETY: an open file and room for eight bytes.
        assert_eq!(unsafe { f(zero, buffer.as_mut_ptr().cast(), 8) }, 8);
        assert_eq!(buffer, [0; 8]);
    });

    let mutex = std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER);
    let pair = |handle| (find::<Lock>(handle, "pthread_mutex_lock"), find::<Lock>(handle, "pthread_mutex_unlock"));
    compare(csv, "mutex lock+unlock", 1_000_000, pair(real), pair(hook), |(lock, unlock)| {
        // SAFETY: a mutex of this thread's alone.
        assert_eq!(unsafe { lock(mutex.get()) + unlock(mutex.get()) }, 0);
    });

    let sem = keep_sem();
    let pair = |handle| (find::<Post>(handle, "sem_post"), find::<Post>(handle, "sem_wait"));
    compare(csv, "sem post+wait", 1_000_000, pair(real), pair(hook), |(post, wait)| {
        // SAFETY: a semaphore of this thread's alone, above zero at the wait.
        assert_eq!(unsafe { post(sem) + wait(sem) }, 0);
    });

    let word = std::sync::atomic::AtomicU32::new(0);
    compare(
        csv,
        "futex wake of nobody",
        100_000,
        find::<Number>(real, "syscall"),
        find::<Number>(hook, "syscall"),
        |f| {
            // SAFETY: a live word.
            let woken = unsafe { f(libc::SYS_futex, word.as_ptr() as usize, libc::FUTEX_WAKE as usize | 128, 1, 0, 0) };
            assert_eq!(woken, 0);
        },
    );
}

fn keep_sem() -> *mut libc::sem_t {
    // SAFETY: all zero is a value, and is initialized next.
    let sem: *mut libc::sem_t = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
    // SAFETY: room for a semaphore, for this process.
    assert_eq!(unsafe { libc::sem_init(sem, 0, 0) }, 0);
    sem
}
