//! The table against an obvious twin, and under contention.

use super::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8};

/// The table is too large for a test's stack; zeroed memory is a new one, as it is in the program's image.
fn table() -> Box<Waiters<u32>> {
    // SAFETY: all its fields are integers, for which zero is a value, and a waiter's place that is not yet written.
    unsafe { Box::new_zeroed().assume_init() }
}

/// A small fixed generator (xorshift), so that a failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn take(table: &Waiters<u32>, address: usize, mask: u32, count: u32) -> Vec<u32> {
    let mut taken = Vec::new();
    table.take(address, mask, count, |w| taken.push(w));
    taken
}

#[test]
fn the_oldest_goes_first_and_only_those_asked_for() {
    let t = table();
    for i in 0..100 {
        t.push(0x1000, if i % 2 == 0 { 1 } else { 2 }, i);
        t.push(0x2000, ANY, 1000 + i);
    }
    assert_eq!(t.count(0x1000, 2), 50);
    assert_eq!(take(&t, 0x1000, ANY, 3), [0, 1, 2]);
    assert_eq!(take(&t, 0x1000, 2, 2), [3, 5]);
    // More than one batch.
    assert_eq!(take(&t, 0x2000, ANY, u32::MAX), (1000..1100).collect::<Vec<_>>());
    assert_eq!(take(&t, 0x2000, ANY, u32::MAX), []);
    assert_eq!(take(&t, 0x1000, 1, u32::MAX), (4..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(take(&t, 0x3000, ANY, 1), []);
}

#[test]
fn who_left_is_not_found_and_who_was_taken_cannot_leave() {
    let t = table();
    let (a, b) = (t.push(8, ANY, 1), t.push(8, ANY, 2));
    assert!(t.retract(a));
    assert!(!t.retract(a));
    assert_eq!(take(&t, 8, ANY, 5), [2]);
    assert!(!t.retract(b));
    // The same nodes again: the old tickets stay void.
    let (c, d) = (t.push(8, ANY, 3), t.push(8, ANY, 4));
    assert!(!t.retract(a) && !t.retract(b));
    assert!(t.retract(d));
    assert_eq!(take(&t, 8, ANY, 5), [3]);
    assert!(!t.retract(c));
    assert!(!t.retract(Ticket::NONE));
}

#[test]
fn a_full_table_counts_and_recovers() {
    let t = table();
    let tickets: Vec<_> = (0..NODES as u32).map(|i| t.push(i as usize * 4, ANY, i)).collect();
    assert_eq!(t.missed(), 0);
    assert!(!t.retract(t.push(4, ANY, 0)));
    assert_eq!(t.missed(), 1);
    assert!(tickets.iter().all(|&x| t.retract(x)));
    for i in 0..NODES {
        // Who left is freed by whoever comes by next: here by this.
        take(&t, i * 4, ANY, 1);
    }
    for i in 0..NODES {
        t.push(i * 4, ANY, 7);
    }
    assert_eq!(t.missed(), 1);
}

#[test]
fn those_who_leave_do_not_pile_up_behind_one_who_stays() {
    let t = table();
    let forever = t.push(16, ANY, 1);
    for i in 0..10 * NODES as u32 {
        // The same shard, and nobody ever wakes it: waits that time out.
        assert!(t.retract(t.push(16, ANY, i)));
    }
    assert_eq!(t.missed(), 0);
    assert!(t.fresh.load(Relaxed) < 100, "{} nodes for two waiters", t.fresh.load(Relaxed));
    assert!(t.retract(forever));
}

#[test]
fn the_child_of_a_fork_starts_empty_with_every_lock_free() {
    let t = table();
    let old = t.push(4, ANY, 1);
    for shard in &t.shards {
        assert!(shard.lock());
    }
    // Held, as by another thread at the time of the fork: given up, counted, not waited for.
    t.push(4, ANY, 2);
    assert_eq!(take(&t, 4, ANY, 1), []);
    assert_eq!(t.missed(), 2);
    t.clear();
    assert!(!t.retract(old));
    t.push(4, ANY, 3);
    assert_eq!(take(&t, 4, ANY, 9), [3]);
}

/// Random pushes, leavings, wakings and movings against lists that are searched from end to end.
#[test]
fn it_does_what_the_slow_twin_does() {
    for seed in 1..=8 {
        let (t, mut random) = (table(), Random(seed * 0x9e37_79b9));
        let mut twin: VecDeque<(usize, u32, u32, Ticket)> = VecDeque::new();
        for step in 0..20_000u32 {
            let address = random.below(6) as usize * 4 + 0x7000;
            match random.below(10) {
                0..5 if twin.len() < 500 => {
                    let bits = 1 << random.below(2);
                    twin.push_back((address, bits, step, t.push(address, bits, step)));
                }
                5..7 if !twin.is_empty() => {
                    let (.., ticket) = twin.remove(random.below(twin.len() as u64) as usize).expect("in range");
                    assert!(t.retract(ticket));
                }
                7 => {
                    let (to, count) = (random.below(6) as usize * 4 + 0x7000, random.below(4) as usize);
                    t.requeue(address, to, count as u32);
                    if to != address {
                        let (mut moved, mut rest) = (VecDeque::new(), VecDeque::new());
                        for w in twin {
                            let moves = w.0 == address && moved.len() < count;
                            if moves { moved.push_back((to, w.1, w.2, w.3)) } else { rest.push_back(w) }
                        }
                        rest.append(&mut moved);
                        twin = rest;
                    }
                }
                _ => {
                    let (mask, count) = (1 + random.below(3) as u32, random.below(40) as u32);
                    let mut expected = Vec::new();
                    twin.retain(|w| {
                        let taken = w.0 == address && w.1 & mask != 0 && expected.len() < count as usize;
                        if taken {
                            expected.push(w.2);
                        }
                        !taken
                    });
                    assert_eq!(take(&t, address, mask, count), expected, "seed {seed}, step {step}");
                }
            }
        }
        assert_eq!(t.missed(), 0);
    }
}

/// Every wait is taken once or retracted once, never both, whoever else is at it; and in the end all nodes are free.
#[test]
fn no_wait_is_lost_or_taken_twice() {
    const WAITS: u32 = 2_000;
    let t = table();
    let done = AtomicBool::new(false);
    let taken: Vec<AtomicU8> = (0..4 * WAITS).map(|_| AtomicU8::new(0)).collect();
    std::thread::scope(|s| {
        let waiters: Vec<_> = (0..4)
            .map(|thread| {
                let (t, taken) = (&t, &taken);
                s.spawn(move || {
                    let mut random = Random(thread as u64 + 1);
                    for i in 0..WAITS {
                        let id = thread * WAITS + i;
                        let address = random.below(3) as usize * 4 + 64;
                        let ticket = t.push(address, ANY, id);
                        if random.below(4) == 0 {
                            std::thread::yield_now();
                        }
                        if t.retract(ticket) {
                            // Not an increment: it must be zero, and stay so.
                            assert_eq!(taken[id as usize].fetch_or(2, Relaxed), 0);
                        }
                    }
                })
            })
            .collect();
        for thread in 0..2 {
            let (t, taken, done) = (&t, &taken, &done);
            s.spawn(move || {
                let mut random = Random(thread + 77);
                while !done.load(Relaxed) {
                    let address = random.below(3) as usize * 4 + 64;
                    if random.below(8) == 0 {
                        t.requeue(address, random.below(3) as usize * 4 + 64, 2);
                    }
                    t.take(address, ANY, 1 + random.below(3) as u32, |id| {
                        assert_eq!(taken[id as usize].fetch_or(1, Relaxed), 0);
                    });
                }
            });
        }
        for w in waiters {
            w.join().expect("a waiter");
        }
        done.store(true, Relaxed);
    });
    let both = taken.iter().filter(|x| x.load(Relaxed) == 3).count();
    assert_eq!(both, 0);
    for i in 0..3 {
        take(&t, i * 4 + 64, ANY, u32::MAX);
    }
    assert!(t.shards.iter().all(|s| s.linked.load(Relaxed) == 0 && s.head.load(Relaxed) == 0));
    let fresh = t.fresh.load(Relaxed).min(NODES as u32);
    let mut free = 0;
    while t.take_free().is_some() && t.fresh.load(Relaxed) == fresh {
        free += 1;
    }
    assert_eq!(free, fresh);
}
