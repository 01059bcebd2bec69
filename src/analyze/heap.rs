//! The size of the heap over time: start, peak, end, and a curve of bounded length.
//!
//! The curve has a smallest and a largest value for each of at most [`BUCKETS`] stretches of time. How long a trace is shows
//! only at its end, so stretches double in length when they would become too many.

use crate::read::{Metric, Time};
use serde::{Deserialize, Serialize};

/// The most stretches of time in a curve. It is halved when full.
const BUCKETS: usize = 128;
/// The length of a stretch at first, in nanoseconds.
const FIRST_NS: i64 = 1 << 16;

/// The heap as a trace's events tell it.
#[derive(Clone, Debug, Default)]
pub struct HeapCurve {
    begin: Option<Time>,
    first: Option<u64>,
    last: u64,
    peak: u64,
    peak_at: Time,
    samples: u64,
    goal: Option<u64>,
    bucket_ns: i64,
    buckets: Vec<Option<(u64, u64)>>,
}

/// What the heap did. Sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heap {
    /// The first size told.
    pub start_bytes: u64,
    /// The largest.
    pub peak_bytes: u64,
    /// When it was reached, in nanoseconds since the trace began.
    pub peak_at_ns: u64,
    /// The last size told.
    pub end_bytes: u64,
    /// End minus start.
    pub growth_bytes: i64,
    /// The last goal told: where the next collection is due, or the limit of a native program.
    pub goal_bytes: Option<u64>,
    /// How many sizes were told.
    pub samples: u64,
    /// The smallest and largest size in stretches of equal length.
    pub curve: Vec<HeapStretch>,
}

/// A stretch of a heap's curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapStretch {
    /// Where it begins, in nanoseconds since the trace began.
    pub at_ns: u64,
    /// The smallest size in it, in bytes.
    pub min_bytes: u64,
    /// The largest.
    pub max_bytes: u64,
}

impl HeapCurve {
    /// The trace begins.
    pub fn begin(&mut self, at: Time) {
        self.begin.get_or_insert(at);
        self.bucket_ns = FIRST_NS;
    }

    /// Takes in a metric; others than the heap's are left alone.
    #[inline]
    pub fn metric(&mut self, at: Time, m: Metric) {
        match m {
            Metric::HeapAlloc(bytes) => self.size(at, bytes),
            Metric::HeapGoal(bytes) => self.goal = Some(bytes),
            Metric::Procs(_) => {}
        }
    }

    fn size(&mut self, at: Time, bytes: u64) {
        self.samples += 1;
        self.last = bytes;
        if self.first.is_none() || bytes > self.peak {
            self.peak = bytes;
            self.peak_at = at;
        }
        self.first.get_or_insert(bytes);
        let ns = at.since(*self.begin.get_or_insert(at)).max(0);
        while ns / self.bucket_ns >= BUCKETS as i64 {
            self.halve();
        }
        let i = (ns / self.bucket_ns) as usize;
        if i >= self.buckets.len() {
            self.buckets.resize(i + 1, None);
        }
        let b = &mut self.buckets[i];
        *b = Some(b.map_or((bytes, bytes), |(min, max)| (min.min(bytes), max.max(bytes))));
    }

    /// Makes one stretch of two.
    fn halve(&mut self) {
        let join =
            |pair: &[Option<(u64, u64)>]| pair.iter().flatten().copied().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        self.buckets = self.buckets.chunks(2).map(join).collect();
        self.bucket_ns *= 2;
    }

    /// What the heap did; `None` if no size was told.
    #[must_use]
    pub fn finish(&self) -> Option<Heap> {
        let start = self.first?;
        let begin = self.begin?;
        let stretch = |(i, b): (usize, &Option<(u64, u64)>)| {
            let (min_bytes, max_bytes) = (*b)?;
            Some(HeapStretch { at_ns: i as u64 * self.bucket_ns as u64, min_bytes, max_bytes })
        };
        Some(Heap {
            start_bytes: start,
            peak_bytes: self.peak,
            peak_at_ns: self.peak_at.since(begin).max(0) as u64,
            end_bytes: self.last,
            growth_bytes: self.last.wrapping_sub(start) as i64,
            goal_bytes: self.goal,
            samples: self.samples,
            curve: self.buckets.iter().enumerate().filter_map(stretch).collect(),
        })
    }
}

impl Heap {
    /// The smallest sizes in `parts` equal parts of the time from the first to the last stretch; a part without a sample takes
    /// over the one before. Empty if there are fewer stretches than parts.
    #[must_use]
    pub fn floor(&self, parts: usize) -> Vec<u64> {
        self.parts(parts, |s| s.min_bytes, u64::min)
    }

    /// The largest sizes in the same parts.
    #[must_use]
    pub fn ceiling(&self, parts: usize) -> Vec<u64> {
        self.parts(parts, |s| s.max_bytes, u64::max)
    }

    fn parts(&self, parts: usize, of: impl Fn(&HeapStretch) -> u64, join: impl Fn(u64, u64) -> u64) -> Vec<u64> {
        let (Some(first), Some(last)) = (self.curve.first(), self.curve.last()) else { return Vec::new() };
        if parts == 0 || self.curve.len() < parts {
            return Vec::new();
        }
        let span = last.at_ns - first.at_ns + 1;
        let mut out = vec![None; parts];
        for s in &self.curve {
            let i = ((s.at_ns - first.at_ns) as u128 * parts as u128 / span as u128) as usize;
            let o: &mut Option<u64> = &mut out[i.min(parts - 1)];
            *o = Some(o.map_or(of(s), |v| join(v, of(s))));
        }
        let mut before = of(first);
        out.into_iter()
            .map(|v| {
                before = v.unwrap_or(before);
                before
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_stay_few_and_lose_no_extreme() {
        let mut h = HeapCurve::default();
        h.begin(Time(5));
        let size = |i: i64| (i * 7919 % 10_007) as u64;
        for i in 0..100_000i64 {
            h.metric(Time(5 + i * 50_000), Metric::HeapAlloc(size(i)));
        }
        let heap = h.finish().unwrap();
        assert!(heap.curve.len() <= BUCKETS && heap.curve.len() > BUCKETS / 2 - 1, "{}", heap.curve.len());
        let peak = (0..100_000).max_by_key(|&i| (size(i), -i)).unwrap();
        assert_eq!((heap.peak_bytes, heap.peak_at_ns), (size(peak), peak as u64 * 50_000));
        assert_eq!(heap.curve.iter().map(|s| s.max_bytes).max(), Some(heap.peak_bytes));
        assert_eq!(heap.curve.iter().map(|s| s.min_bytes).min(), Some(0));
        assert_eq!((heap.start_bytes, heap.end_bytes), (0, size(99_999)));
    }

    #[test]
    fn a_falling_heap_has_negative_growth() {
        let mut h = HeapCurve::default();
        h.begin(Time(0));
        h.metric(Time(1), Metric::HeapAlloc(100));
        h.metric(Time(2), Metric::HeapGoal(400));
        h.metric(Time(3), Metric::HeapAlloc(40));
        let heap = h.finish().unwrap();
        assert_eq!((heap.growth_bytes, heap.goal_bytes, heap.samples), (-60, Some(400), 2));
        assert!(HeapCurve::default().finish().is_none());
    }
}
