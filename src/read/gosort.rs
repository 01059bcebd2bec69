//! The sort whose order of equal elements is that of Go's `slices.SortFunc`.
//!
//! Go's reader sorts the threads that wait by the time of their next event, and CPU samples by their time, with a sort that
//! is not stable. Times are often equal (Go's clock ticks in 64 ns), and which of two equals comes first decides the order
//! of events, and now and then whether a trace is accepted. So the same comparisons and exchanges must be made here: a
//! pattern-defeating quicksort (Orson Peters, arXiv 2106.05123), with Go's constants and its generator for breaking
//! patterns. Up to 12 elements it is an insertion sort.
//!
//! It must not be "improved": any change that still sorts breaks ties differently.

/// Up to this length insertion sort does it all.
const INSERTION_MAX: usize = 12;
/// From this length on the pivot is a median of medians.
const NINTHER_MIN: usize = 50;
/// Exchanges among the candidates for a pivot that tell of a falling order.
const MAX_SWAPS: usize = 4 * 3;

/// Sorts by a key.
pub(super) fn sort_by_key<T>(data: &mut [T], key: impl Fn(&T) -> i64) {
    let limit = usize::BITS - data.len().leading_zeros();
    let end = data.len();
    Sorter { data, less: |a: &T, b: &T| key(a) < key(b) }.quick(0, end, limit);
}

/// What the candidates for a pivot say about the order.
#[derive(PartialEq, Eq)]
enum Hint {
    Unknown,
    Rising,
    Falling,
}

struct Sorter<'a, T, F> {
    data: &'a mut [T],
    less: F,
}

impl<T, F: Fn(&T, &T) -> bool> Sorter<'_, T, F> {
    fn less(&self, a: usize, b: usize) -> bool {
        (self.less)(&self.data[a], &self.data[b])
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.data.swap(a, b);
    }

    fn insertion(&mut self, a: usize, b: usize) {
        for i in a + 1..b {
            let mut j = i;
            while j > a && self.less(j, j - 1) {
                self.swap(j, j - 1);
                j -= 1;
            }
        }
    }

    fn sift_down(&mut self, first: usize, mut root: usize, len: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= len {
                return;
            }
            if child + 1 < len && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.swap(first + root, first + child);
            root = child;
        }
    }

    fn heap(&mut self, a: usize, b: usize) {
        let len = b - a;
        for root in (0..=(len.max(1) - 1) / 2).rev() {
            self.sift_down(a, root, len);
        }
        for i in (0..len).rev() {
            self.swap(a, a + i);
            self.sift_down(a, 0, i);
        }
    }

    /// Sorts `a..b`. `limit` is how many bad pivots are forgiven before it falls back to a heap sort; recursion is into the
    /// smaller part only.
    fn quick(&mut self, mut a: usize, mut b: usize, mut limit: u32) {
        let mut balanced = true;
        let mut partitioned = true;
        loop {
            let len = b - a;
            if len <= INSERTION_MAX {
                return self.insertion(a, b);
            }
            if limit == 0 {
                return self.heap(a, b);
            }
            if !balanced {
                self.break_patterns(a, b);
                limit -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(a, b);
            if hint == Hint::Falling {
                self.data[a..b].reverse();
                pivot = (b - 1) - (pivot - a);
                hint = Hint::Rising;
            }
            if balanced && partitioned && hint == Hint::Rising && self.partly_insertion(a, b) {
                return;
            }
            // No element is below the one in front of `a`: if the pivot is not above it, everything equal to it is done.
            if a > 0 && !self.less(a - 1, pivot) {
                a = self.partition_equal(a, b, pivot);
                continue;
            }
            let (mid, already) = self.partition(a, b, pivot);
            partitioned = already;
            let (left, right) = (mid - a, b - mid);
            if left < right {
                balanced = left >= len / 8;
                self.quick(a, mid, limit);
                a = mid + 1;
            } else {
                balanced = right >= len / 8;
                self.quick(mid + 1, b, limit);
                b = mid;
            }
        }
    }

    /// Puts what is below the pivot in front of it; returns where the pivot stands and whether nothing had to move.
    fn partition(&mut self, a: usize, b: usize, pivot: usize) -> (usize, bool) {
        self.swap(a, pivot);
        let (mut i, mut j) = (a + 1, b - 1);
        let mut already = true;
        loop {
            while i <= j && self.less(i, a) {
                i += 1;
            }
            while i <= j && !self.less(j, a) {
                j -= 1;
            }
            if i > j {
                break;
            }
            already = false;
            self.swap(i, j);
            i += 1;
            j -= 1;
        }
        self.swap(j, a);
        (j, already)
    }

    /// Puts what equals the pivot in front of what is above it; nothing is below. Returns where the latter begins.
    fn partition_equal(&mut self, a: usize, b: usize, pivot: usize) -> usize {
        self.swap(a, pivot);
        let (mut i, mut j) = (a + 1, b - 1);
        loop {
            while i <= j && !self.less(a, i) {
                i += 1;
            }
            while i <= j && self.less(a, j) {
                j -= 1;
            }
            if i > j {
                return i;
            }
            self.swap(i, j);
            i += 1;
            j -= 1;
        }
    }

    /// Sorts what is nearly sorted, with at most five repairs; tells whether it is sorted now.
    fn partly_insertion(&mut self, a: usize, b: usize) -> bool {
        let mut i = a + 1;
        for _ in 0..5 {
            while i < b && !self.less(i, i - 1) {
                i += 1;
            }
            if i == b {
                return true;
            }
            if b - a < NINTHER_MIN {
                return false;
            }
            self.swap(i, i - 1);
            if i - a >= 2 {
                // Down to the very beginning of the slice and not only to `a`, which is what Go does.
                let mut j = i - 1;
                while j >= 1 && self.less(j, j - 1) {
                    self.swap(j, j - 1);
                    j -= 1;
                }
            }
            if b - i >= 2 {
                let mut j = i + 1;
                while j < b && self.less(j, j - 1) {
                    self.swap(j, j - 1);
                    j += 1;
                }
            }
        }
        false
    }

    /// Exchanges three elements in the middle with others, chosen by a generator that begins with the length.
    fn break_patterns(&mut self, a: usize, b: usize) {
        let len = b - a;
        if len < 8 {
            return;
        }
        let mut random = len as u64;
        let mask = (1u64 << (usize::BITS - len.leading_zeros())) - 1;
        let middle = a + len / 4 * 2;
        for i in middle - 1..=middle + 1 {
            // Marsaglia's xorshift, 64 bits, 13/7/17.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut other = (random & mask) as usize;
            if other >= len {
                other -= len;
            }
            self.swap(i, a + other);
        }
    }

    fn choose_pivot(&self, a: usize, b: usize) -> (usize, Hint) {
        let len = b - a;
        let mut swaps = 0;
        let (mut i, mut j, mut k) = (a + len / 4, a + len / 4 * 2, a + len / 4 * 3);
        if len >= 8 {
            if len >= NINTHER_MIN {
                i = self.median(i - 1, i, i + 1, &mut swaps);
                j = self.median(j - 1, j, j + 1, &mut swaps);
                k = self.median(k - 1, k, k + 1, &mut swaps);
            }
            j = self.median(i, j, k, &mut swaps);
        }
        let hint = match swaps {
            0 => Hint::Rising,
            MAX_SWAPS => Hint::Falling,
            _ => Hint::Unknown,
        };
        (j, hint)
    }

    fn median(&self, mut a: usize, mut b: usize, mut c: usize, swaps: &mut usize) -> usize {
        let mut order = |x: &mut usize, y: &mut usize| {
            if self.less(*y, *x) {
                *swaps += 1;
                std::mem::swap(x, y);
            }
        };
        order(&mut a, &mut b);
        order(&mut b, &mut c);
        order(&mut a, &mut b);
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A small generator, the same on each run.
    fn numbers(seed: u64, n: usize, below: u64) -> Vec<(i64, usize)> {
        let mut x = seed;
        (0..n)
            .map(|i| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (((x >> 33) % below) as i64, i)
            })
            .collect()
    }

    /// A hash (FNV-1a, by numbers instead of bytes) of where the elements came to stand.
    fn places(mut v: Vec<(i64, usize)>) -> u64 {
        sort_by_key(&mut v, |e| e.0);
        assert!(v.is_sorted_by_key(|e| e.0));
        v.iter().fold(14_695_981_039_346_656_037, |h, e| fnv(h, e.1 as u64))
    }

    fn fnv(hash: u64, v: u64) -> u64 {
        (hash ^ v).wrapping_mul(1_099_511_628_211)
    }

    /// The hashes were printed by a Go 1.27 program that makes the same lists and sorts them with `slices.SortFunc`.
    #[test]
    fn equal_elements_fall_where_they_fall_in_go() {
        let want = [
            (12, 0x620230c8299b418f),
            (13, 0xcebd47c259b41c8),
            (20, 0xba8a357f7dca3051),
            (49, 0x6608450b2c5f8a44),
            (50, 0x9ddb291c8fbd4af0),
            (51, 0xcdba66ba30ccc7b2),
            (100, 0xd3e1774950b0dd13),
            (200, 0x4c3145dbbfd2458),
            (1000, 0xf18f3035092f9809),
            (5000, 0x5b15f48caea55d6a),
        ];
        let mut all = 0;
        for (n, hash) in want {
            for below in [1, 2, 5, 100, 1 << 30] {
                for seed in 0..20 {
                    all = fnv(all, places(numbers(seed, n, below)));
                }
            }
            let half = n as i64 / 2;
            let shapes: [&dyn Fn(i64) -> i64; 7] = [
                &|i| i / 3,
                &|i| -(i / 3),
                &|i| (i * 7919) % 13,
                &|i| if i % 2 == 0 { i } else { n as i64 - i },
                &|i| if i % 50 == 0 { 0 } else { i / 2 },
                &|i| i ^ 5,
                &|i| if i < half { i } else { n as i64 - i },
            ];
            for shape in shapes {
                all = fnv(all, places((0..n).map(|i| (shape(i as i64), i)).collect()));
            }
            assert_eq!(all, hash, "{n} elements");
        }
    }

    /// An adversary (McIlroy, "A Killer Adversary for Quicksort") that makes each pivot a bad one, so that the patterns are
    /// broken and the heap sort takes over. Go's sort makes the same comparisons, so it falls into the same holes.
    #[test]
    fn bad_pivots_lead_where_they_lead_in_go() {
        let n = 3000;
        let gas = n as i64;
        let value: Vec<Cell<i64>> = vec![Cell::new(gas); n];
        let (solid, candidate) = (Cell::new(0), Cell::new(0));
        let mut places: Vec<usize> = (0..n).collect();
        let less = |&x: &usize, &y: &usize| {
            if value[x].get() == gas && value[y].get() == gas {
                value[if x == candidate.get() { x } else { y }].set(solid.get());
                solid.set(solid.get() + 1);
            }
            if value[x].get() == gas {
                candidate.set(x);
            } else if value[y].get() == gas {
                candidate.set(y);
            }
            value[x].get() < value[y].get()
        };
        let limit = usize::BITS - n.leading_zeros();
        Sorter { data: &mut places, less }.quick(0, n, limit);
        let mut hash = places.iter().fold(14_695_981_039_346_656_037, |h, &i| fnv(h, i as u64));
        // The same keys again, now with ties.
        let mut v: Vec<(i64, usize)> = value.iter().enumerate().map(|(i, k)| (k.get() / 3, i)).collect();
        sort_by_key(&mut v, |e| e.0);
        hash = v.iter().fold(hash, |h, e| fnv(h, e.1 as u64));
        assert_eq!(hash, 0xc593fff5b80652fb);
    }
}
