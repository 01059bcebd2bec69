//! The threads that still have events in a generation, by the time of their next event.
//!
//! A binary heap, and not a loser tree or anything faster for many threads: of two threads whose next events have the same
//! time Go's heap puts forward the one that its shape happens to hold higher, and the order of events, down to acceptance,
//! hangs on that. So this heap makes the same moves as Go's. What it spares is their cost: an entry holds the time itself,
//! so that a comparison touches no cursor, and the most common case, a thread that stays first, is two comparisons.

use super::gosort;

/// One thread's place in the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The time of the thread's next event, before it is forced to rise.
    pub(super) time: i64,
    /// Which cursor.
    pub(super) cursor: u32,
}

/// A min-heap by time.
#[derive(Default)]
pub(super) struct Frontier {
    heap: Vec<Entry>,
}

impl Frontier {
    pub(super) fn clear(&mut self) {
        self.heap.clear();
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    #[inline]
    pub(super) fn first(&self) -> Option<Entry> {
        self.heap.first().copied()
    }

    /// The time up to which the first thread stays first: that of the earliest other one.
    #[inline]
    pub(super) fn second_time(&self) -> i64 {
        // The second is one of the root's children.
        let time = |i: usize| self.heap.get(i).map_or(i64::MAX, |e| e.time);
        time(1).min(time(2))
    }

    #[inline]
    pub(super) fn get(&self, i: usize) -> Option<Entry> {
        self.heap.get(i).copied()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.heap
    }

    pub(super) fn insert(&mut self, e: Entry) {
        self.heap.push(e);
        self.sift_up(self.heap.len() - 1);
    }

    /// The first thread goes on at `time`.
    #[inline]
    pub(super) fn update_first(&mut self, time: i64) {
        if let Some(e) = self.heap.first_mut() {
            e.time = time;
            self.sift_down(0);
        }
    }

    /// The thread at `i` goes on at `time`.
    pub(super) fn update(&mut self, i: usize, time: i64) {
        self.heap[i].time = time;
        if self.sift_up(i) == i {
            self.sift_down(i);
        }
    }

    /// The thread at `i` has no more events. It is carried to the root past everything on its way; then the last takes its
    /// place.
    pub(super) fn remove(&mut self, mut i: usize) {
        while i > 0 {
            let parent = (i - 1) / 2;
            self.heap.swap(i, parent);
            i = parent;
        }
        self.heap.swap_remove(0);
        self.sift_down(0);
    }

    /// Puts the whole heap in order (a sorted heap is a heap), so that the threads can be tried one after the other.
    pub(super) fn sort(&mut self) {
        gosort::sort_by_key(&mut self.heap, |e| e.time);
    }

    fn sift_up(&mut self, mut i: usize) -> usize {
        while i > 0 {
            let parent = (i - 1) / 2;
            if self.heap[parent].time <= self.heap[i].time {
                break;
            }
            self.heap.swap(i, parent);
            i = parent;
        }
        i
    }

    /// Moves `i` down, to the left child where both children are equally early.
    #[inline]
    fn sift_down(&mut self, mut i: usize) {
        let heap = self.heap.as_mut_slice();
        let Some(&e) = heap.get(i) else { return };
        loop {
            let left = 2 * i + 1;
            let Some(l) = heap.get(left) else { break };
            // Which child is earlier is anybody's guess, so it is computed and not branched on.
            let right = heap.get(left + 1).map_or(i64::MAX, |r| r.time);
            let child = left + usize::from(right < l.time);
            let Some(&c) = heap.get(child) else { break };
            if c.time >= e.time {
                break;
            }
            heap[i] = c;
            i = child;
        }
        heap[i] = e;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(f: &Frontier) -> Vec<(i64, u32)> {
        f.entries().iter().map(|e| (e.time, e.cursor)).collect()
    }

    fn heap(times: &[i64]) -> Frontier {
        let mut f = Frontier::default();
        for (i, &time) in times.iter().enumerate() {
            f.insert(Entry { time, cursor: i as u32 });
        }
        f
    }

    #[test]
    fn equal_times_keep_their_place() {
        let mut f = heap(&[5, 5, 5]);
        assert_eq!(order(&f), [(5, 0), (5, 1), (5, 2)]);
        // Equal to its children: stays first. Later than both, which are equal: the left one rises.
        f.update_first(5);
        assert_eq!(order(&f), [(5, 0), (5, 1), (5, 2)]);
        f.update_first(6);
        assert_eq!(order(&f), [(5, 1), (6, 0), (5, 2)]);
    }

    #[test]
    fn a_removed_thread_leaves_by_the_root() {
        let mut f = heap(&[1, 3, 2, 7, 4]);
        assert_eq!(order(&f), [(1, 0), (3, 1), (2, 2), (7, 3), (4, 4)]);
        f.remove(3);
        assert_eq!(order(&f), [(1, 0), (3, 1), (2, 2), (4, 4)]);
    }

    #[test]
    fn is_always_a_heap() {
        let mut f = heap(&(0..50).map(|i| (i * 37) % 17).collect::<Vec<_>>());
        for step in 0..200i64 {
            let i = (step as usize * 31) % f.len();
            match step % 5 {
                0 if f.len() > 10 => f.remove(i),
                1 => f.sort(),
                _ => f.update(i, (step * 7919) % 23),
            }
            for i in 1..f.len() {
                assert!(f.entries()[(i - 1) / 2].time <= f.entries()[i].time, "step {step}");
            }
        }
    }
}
