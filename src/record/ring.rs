//! A bounded queue of small records from many threads (and their signal handlers) to the closer.
//!
//! Each place has a turn: `2 * round` when it is to be written, `2 * round + 1` when it is to be read. Source: D. Vyukov's
//! bounded MPMC queue, with one reader.

use core::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Ring<const PLACES: usize, const WORDS: usize> {
    /// The next place to write, claimed by compare-and-swap.
    head: AtomicU64,
    /// The next place to read. The closer's.
    tail: AtomicU64,
    places: [Place<WORDS>; PLACES],
}

#[derive(Debug)]
struct Place<const WORDS: usize> {
    turn: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const PLACES: usize, const WORDS: usize> Ring<PLACES, WORDS> {
    pub(crate) const fn new() -> Self {
        Ring {
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            places: [const { Place { turn: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; WORDS] } }; PLACES],
        }
    }

    /// Appends a record; false if there is no room. Neither waits nor allocates.
    pub(crate) fn push(&self, record: [u64; WORDS]) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let place = &self.places[head as usize % PLACES];
            let turn = 2 * (head / PLACES as u64);
            // Acquire pairs with the reader's Release: the place is free again.
            if place.turn.load(Ordering::Acquire) != turn {
                let now = self.head.load(Ordering::Relaxed);
                if now == head {
                    return false;
                }
                head = now;
                continue;
            }
            match self.head.compare_exchange(head, head + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Err(now) => head = now,
                Ok(_) => {
                    for (word, v) in place.words.iter().zip(record) {
                        word.store(v, Ordering::Relaxed);
                    }
                    // Release pairs with the Acquire in `pop_if`.
                    place.turn.store(turn + 1, Ordering::Release);
                    return true;
                }
            }
        }
    }

    /// Empties it, whatever state it is in. Only while nobody else uses it: in the child of a `fork`, where a place that another
    /// thread had claimed would never be filled.
    pub(crate) fn reset(&self) {
        if self.head.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        self.tail.store(0, Ordering::Relaxed);
        for place in &self.places {
            place.turn.store(0, Ordering::Relaxed);
        }
    }

    /// Takes the oldest record out if `wanted` says so. For one thread at a time.
    pub(crate) fn pop_if(&self, wanted: impl FnOnce(&[u64; WORDS]) -> bool) -> Option<[u64; WORDS]> {
        let tail = self.tail.load(Ordering::Relaxed);
        let place = &self.places[tail as usize % PLACES];
        let turn = 2 * (tail / PLACES as u64) + 1;
        if place.turn.load(Ordering::Acquire) != turn {
            return None;
        }
        let record = core::array::from_fn(|i| place.words[i].load(Ordering::Relaxed));
        if !wanted(&record) {
            return None;
        }
        place.turn.store(turn + 1, Ordering::Release);
        self.tail.store(tail + 1, Ordering::Relaxed);
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_pushed_comes_out_once_in_each_thread_s_order() {
        static RING: Ring<64, 2> = Ring::new();
        const EACH: u64 = 20_000;
        std::thread::scope(|s| {
            for who in 0..3 {
                s.spawn(move || {
                    for i in 0..EACH {
                        while !RING.push([who, i]) {
                            std::hint::spin_loop();
                        }
                    }
                });
            }
            let mut next = [0; 3];
            while next.iter().any(|&n| n < EACH) {
                if let Some([who, i]) = RING.pop_if(|_| true) {
                    assert_eq!(i, next[who as usize]);
                    next[who as usize] += 1;
                }
            }
        });
        assert_eq!(RING.pop_if(|_| true), None);
    }

    #[test]
    fn a_full_ring_refuses_and_an_unwanted_record_stays() {
        let ring: Ring<4, 1> = Ring::new();
        assert!((0..4).all(|i| ring.push([i])));
        assert!(!ring.push([9]));
        assert_eq!(ring.pop_if(|r| r[0] != 0), None);
        assert_eq!(ring.pop_if(|r| r[0] == 0), Some([0]));
        assert!(ring.push([4]));
    }
}
