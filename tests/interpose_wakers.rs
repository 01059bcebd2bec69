//! Who woke whom: waits on locks, channels and condition variables end by a thread that was seen to end them.
//!
//! Waits that hand something over are to be attributed to 999 in 1000. Under contention for a lock some are not: those
//! whose place an earlier waiter had, since the kernel wakes threads in the order in which it put them to sleep, and
//! that is not always the order in which they came.

mod interpose;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};

use interpose::{Guest, record};

exectrace::interpose!();

const THREADS: usize = 8;

/// Per mille of the waits that may end without a waker seen.
const HANDED_OVER: u64 = 1;
const CONTENDED: u64 = 10;
/// Inside a C library's lock it cannot be seen that the lock was free at the last moment, and the thread never slept.
const CONTENDED_IN_C: u64 = 50;
/// Which reader is the last to unlock is seen a little before it unlocks; two at once are both not the last.
const READERS: u64 = 100;

fn main() {
    let guest = Guest::load();
    let c = |name, rounds| move |g: &Guest| g.run(name, THREADS as i32, rounds);
    // The middle number is how many waits there must be for the share to mean something.
    attributed("std Condvar", HANDED_OVER, 1000, || condvar_pairs(2000));
    attributed("std Condvar, all", CONTENDED, 1000, || condvar(4000));
    attributed("std mpsc", HANDED_OVER, 1000, || rendezvous(4000));
    attributed("std Barrier", HANDED_OVER, 1000, || barrier(1000));
    attributed("std park", HANDED_OVER, 1000, || park(4000));
    attributed("std Mutex", CONTENDED, 20, || mutex(20_000));
    attributed("std RwLock", CONTENDED, 20, || rwlock(20_000));
    attributed("parking_lot", HANDED_OVER, 1000, || parking_lot_condvar(4000));
    attributed("parking_lot mutex", CONTENDED, 20, || parking_lot_mutex(20_000));
    attributed("crossbeam", HANDED_OVER, 1000, || crossbeam(4000));
    attributed("pthread_cond", HANDED_OVER, 1000, || c("guest_cond", 500)(&guest));
    attributed("pthread_barrier", HANDED_OVER, 1000, || c("guest_barrier", 500)(&guest));
    attributed("C11", HANDED_OVER, 1000, || c("guest_c11", 500)(&guest));
    attributed("sem", CONTENDED_IN_C, 100, || c("guest_sem", 4000)(&guest));
    attributed("pthread_mutex", CONTENDED_IN_C, 100, || c("guest_mutex", 4000)(&guest));
    attributed("recursive mutex", CONTENDED_IN_C, 100, || c("guest_recursive", 2000)(&guest));
    attributed("pthread_rwlock", READERS, 100, || c("guest_rwlock", 2000)(&guest));
    joins();
    names();
}

/// Runs `work` until the share is right, a few times: on a machine with other work the scheduler may be far from the
/// order of the calls once.
fn attributed(what: &str, per_mille: u64, at_least: u64, work: impl Fn()) {
    let mut all = Vec::new();
    for _ in 0..5 {
        let ((), seen) = record(&work);
        assert_eq!(seen.lost, 0, "{what}: {seen:?}");
        let waits = seen.woken + seen.alone;
        assert_eq!(waits, seen.waits.values().sum::<u64>(), "{what}: {seen:?}");
        assert!(waits >= at_least, "{what}: {seen:?}");
        if seen.alone * 1000 <= waits * per_mille {
            println!("{what:18} {waits:6} waits, {:3} not attributed", seen.alone);
            return;
        }
        all.push((waits, seen.alone));
    }
    panic!("{what}: more than {per_mille} in 1000 not attributed: {all:?}");
}

/// A thread that is joined while it lives wakes the one that joins it, when it ends.
fn joins() {
    const ROUNDS: u64 = 200;
    let ((), seen) = record(|| {
        for _ in 0..ROUNDS {
            let (tx, rx) = mpsc::channel();
            let thread = std::thread::spawn(move || {
                rx.recv().expect("the word");
                // Until the other waits.
                while !main_sleeps() {
                    std::thread::yield_now();
                }
            });
            tx.send(()).expect("the thread");
            thread.join().expect("the thread");
        }
    });
    assert_eq!(seen.waited("sync: join"), ROUNDS);
    assert!(seen.alone <= ROUNDS / 20, "{seen:?}");
}

/// It is the right thread: of several pairs that hand the turn back and forth, each wakes only its partner.
fn names() {
    const PAIRS: usize = 4;
    const ROUNDS: usize = 1000;
    let ((), seen) = record(|| {
        std::thread::scope(|s| {
            for pair in 0..PAIRS {
                let (to_pong, at_pong) = mpsc::sync_channel(1);
                let (to_ping, at_ping) = mpsc::sync_channel(1);
                let spawn = |name: &str| std::thread::Builder::new().name(format!("{name} {pair}"));
                let ping = move || {
                    for i in 0..ROUNDS {
                        to_pong.send(i).expect("the other");
                        assert_eq!(at_ping.recv(), Ok(i));
                    }
                };
                let pong = move || (0..ROUNDS).for_each(|_| to_ping.send(at_pong.recv().expect("a turn")).expect("it"));
                spawn("ping").spawn_scoped(s, ping).expect("a thread");
                spawn("pong").spawn_scoped(s, pong).expect("a thread");
            }
        });
    });
    for pair in 0..PAIRS {
        let wakes = |a: &str, b: &str| {
            let key = (format!("{a} {pair}"), format!("{b} {pair}"));
            seen.wakes.get(&key).copied().unwrap_or(0)
        };
        let both = wakes("ping", "pong") + wakes("pong", "ping");
        assert!(both >= ROUNDS as u64 / 2, "pair {pair}: {:?}", seen.wakes);
    }
    let is_partner = |a: &str, b: &str| a != b && a.get(5..).is_some_and(|pair| b.get(5..) == Some(pair));
    for ((waker, woken), n) in &seen.wakes {
        // The main thread waits for all of them.
        assert!(woken == "main" || is_partner(waker, woken), "{waker} woke {woken} {n} times");
    }
}

/// Whether the main thread sleeps in the kernel.
fn main_sleeps() -> bool {
    let pid = std::process::id();
    let stat = std::fs::read_to_string(format!("/proc/self/task/{pid}/stat")).expect("the main thread");
    stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"))
}

fn parking_lot_mutex(rounds: usize) {
    let m = parking_lot::Mutex::new(0);
    threads(THREADS, |_| {
        for i in 0..rounds {
            let mut guard = m.lock();
            *guard += 1;
            if i % 64 == 0 {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(m.into_inner(), THREADS * rounds);
}

fn threads(n: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|s| {
        for i in 0..n {
            let work = &work;
            s.spawn(move || work(i));
        }
    });
}

fn mutex(rounds: usize) {
    let m = Mutex::new(0);
    threads(THREADS, |_| {
        for i in 0..rounds {
            let mut guard = m.lock().expect("no panic");
            *guard += 1;
            if i % 64 == 0 {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(m.into_inner().expect("no panic"), THREADS * rounds);
}

fn rwlock(rounds: usize) {
    let m = RwLock::new(0);
    threads(THREADS, |_| {
        for i in 0..rounds {
            if i % 4 == 0 {
                *m.write().expect("no panic") += 1;
            } else {
                let guard = m.read().expect("no panic");
                if i % 64 == 1 {
                    std::thread::yield_now();
                }
                drop(guard);
            }
        }
    });
    assert_eq!(m.into_inner().expect("no panic"), THREADS * rounds / 4);
}

/// Pairs that hand the turn back and forth: little contention for the lock.
fn condvar_pairs(rounds: usize) {
    let pairs: Vec<_> = (0..THREADS / 2).map(|_| (Mutex::new(0), Condvar::new())).collect();
    threads(THREADS, |me| {
        let (turn, changed) = &pairs[me / 2];
        for _ in 0..rounds {
            let mut now = changed.wait_while(turn.lock().expect("no panic"), |t| *t % 2 != me % 2).expect("no panic");
            *now += 1;
            drop(now);
            changed.notify_one();
        }
    });
}

/// Threads take turns. All of them are woken each time, and then contend for the lock.
fn condvar(rounds: usize) {
    let (turn, changed) = (Mutex::new(0), Condvar::new());
    threads(THREADS, |me| {
        for _ in 0..rounds / THREADS {
            let mut now = changed.wait_while(turn.lock().expect("no panic"), |t| *t % THREADS != me).expect("no panic");
            *now += 1;
            drop(now);
            changed.notify_all();
        }
    });
}

fn parking_lot_condvar(rounds: usize) {
    let (turn, changed) = (parking_lot::Mutex::new(0), parking_lot::Condvar::new());
    threads(THREADS, |me| {
        for _ in 0..rounds / THREADS {
            let mut now = turn.lock();
            changed.wait_while(&mut now, |t| *t % THREADS != me);
            *now += 1;
            drop(now);
            changed.notify_all();
        }
    });
}

/// Pairs that hand a message back and forth without a buffer.
fn rendezvous(rounds: usize) {
    std::thread::scope(|s| {
        for _ in 0..THREADS / 2 {
            let (tx, rx) = mpsc::sync_channel(0);
            s.spawn(move || (0..rounds).for_each(|i| tx.send(i).expect("a receiver")));
            s.spawn(move || assert_eq!(rx.iter().count(), rounds));
        }
    });
}

fn crossbeam(rounds: usize) {
    std::thread::scope(|s| {
        for _ in 0..THREADS / 2 {
            let (tx, rx) = crossbeam_channel::bounded(0);
            s.spawn(move || (0..rounds).for_each(|i| tx.send(i).expect("a receiver")));
            s.spawn(move || assert_eq!(rx.iter().count(), rounds));
        }
    });
}

fn barrier(rounds: usize) {
    let (b, passed) = (Barrier::new(THREADS), AtomicUsize::new(0));
    threads(THREADS, |_| {
        for i in 0..rounds {
            passed.fetch_add(1, SeqCst);
            b.wait();
            assert!(passed.load(SeqCst) >= (i + 1) * THREADS);
            b.wait();
        }
    });
}

/// Pairs that unpark each other.
fn park(rounds: usize) {
    let turn = Arc::new(AtomicBool::new(false));
    let play = |mine: bool, turn: Arc<AtomicBool>, other: mpsc::Receiver<std::thread::Thread>| {
        let other = other.recv().expect("the other thread");
        for _ in 0..rounds {
            while turn.load(SeqCst) != mine {
                std::thread::park();
            }
            turn.store(!mine, SeqCst);
            other.unpark();
        }
    };
    std::thread::scope(|s| {
        let ((to_a, at_a), (to_b, at_b)) = (mpsc::channel(), mpsc::channel());
        let (play, t) = (&play, turn.clone());
        let a = s.spawn(move || play(false, t, at_a));
        let b = s.spawn(move || play(true, turn, at_b));
        to_a.send(b.thread().clone()).expect("a thread");
        to_b.send(a.thread().clone()).expect("a thread");
    });
}
