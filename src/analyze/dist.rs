//! A distribution of durations: count, sum, extremes and percentiles.
//!
//! Count, sum, smallest and largest are exact. Percentiles come from a histogram with two significant digits: they are off
//! by less than 1 %. Memory is bounded whatever comes: a few values are kept as they are, more go to the histogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// How many values are kept before a histogram (some 20 KiB) is worth its memory.
const FEW: usize = 48;
/// Significant decimal digits of the histogram.
const DIGITS: u8 = 2;

/// Values as they come in.
#[derive(Clone, Debug, Default)]
pub struct Dist {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Few(Vec<u64>),
    Many(Box<Histogram<u64>>),
}

impl Default for Values {
    fn default() -> Self {
        Values::Few(Vec::new())
    }
}

/// What a distribution says. All values are nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Durations {
    /// How many durations.
    pub count: u64,
    /// Their sum.
    pub total_ns: u64,
    /// The mean, rounded down.
    pub mean_ns: u64,
    /// The shortest.
    pub min_ns: u64,
    /// Half are at most this long. This and the other percentiles are off by less than 1 %.
    pub p50_ns: u64,
    /// 90 % are at most this long.
    pub p90_ns: u64,
    /// 99 % are at most this long.
    pub p99_ns: u64,
    /// 99.9 % are at most this long.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Dist {
    /// Adds a duration in nanoseconds.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        self.min = if self.count == 0 { ns } else { self.min.min(ns) };
        self.max = self.max.max(ns);
        self.count += 1;
        self.sum = self.sum.saturating_add(ns);
        match &mut self.values {
            Values::Many(h) => record(h, ns),
            Values::Few(v) if v.len() < FEW => v.push(ns),
            Values::Few(_) => self.spill(ns),
        }
    }

    #[cold]
    fn spill(&mut self, ns: u64) {
        let Values::Few(few) = std::mem::take(&mut self.values) else { return };
        // Two digits are within what the type allows, so that there is always a histogram.
        let Ok(mut h) = Histogram::new(DIGITS) else { return };
        for v in few.into_iter().chain([ns]) {
            record(&mut h, v);
        }
        self.values = Values::Many(Box::new(h));
    }

    /// How many values were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum in nanoseconds, saturating.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sum
    }

    /// The longest; 0 if there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that a share `q` (0 to 1) of all values does not exceed; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        let v = match &self.values {
            Values::Few(v) if v.is_empty() => return 0,
            Values::Few(v) => {
                let mut sorted = v.clone();
                sorted.sort_unstable();
                let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
                sorted[rank.min(sorted.len()) - 1]
            }
            Values::Many(h) => h.value_at_quantile(q),
        };
        v.clamp(self.min, self.max)
    }

    /// Adds all values of another distribution.
    pub fn merge(&mut self, other: &Dist) {
        if other.count == 0 {
            return;
        }
        match &other.values {
            Values::Few(v) => v.iter().for_each(|&ns| self.add(ns)),
            Values::Many(theirs) => {
                self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
                self.max = self.max.max(other.max);
                self.count += other.count;
                self.sum = self.sum.saturating_add(other.sum);
                let mut ours = theirs.clone();
                match std::mem::take(&mut self.values) {
                    Values::Few(v) => v.into_iter().for_each(|ns| record(&mut ours, ns)),
                    // Both resize themselves, so that adding cannot fail.
                    Values::Many(h) => drop(ours.add(*h)),
                }
                self.values = Values::Many(ours);
            }
        }
    }

    /// What it says.
    #[must_use]
    pub fn durations(&self) -> Durations {
        Durations {
            count: self.count,
            total_ns: self.sum,
            mean_ns: self.sum.checked_div(self.count).unwrap_or(0),
            min_ns: self.min,
            p50_ns: self.quantile(0.5),
            p90_ns: self.quantile(0.9),
            p99_ns: self.quantile(0.99),
            p999_ns: self.quantile(0.999),
            max_ns: self.max,
        }
    }
}

/// Puts a value in a histogram, which grows as needed.
#[inline]
fn record(h: &mut Histogram<u64>, ns: u64) {
    // It grows as needed; only beyond what can be addressed it could not, and then the value counts as the largest it holds.
    if h.record(ns).is_err() {
        h.saturating_record(ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The obvious way.
    fn exact(values: &mut [u64], q: f64) -> u64 {
        values.sort_unstable();
        values[((q * values.len() as f64).ceil().max(1.0) as usize).min(values.len()) - 1]
    }

    #[test]
    fn percentiles_are_within_one_percent_of_the_exact_ones() {
        for n in [1usize, 2, FEW - 1, FEW, FEW + 1, 1000, 20_000] {
            let mut seed = 0x9e37_79b9_7f4a_7c15u64;
            let mut values: Vec<u64> = (0..n)
                .map(|i| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(i as u64 | 1);
                    seed >> 20 >> (seed & 31)
                })
                .collect();
            let mut d = Dist::default();
            values.iter().for_each(|&v| d.add(v));
            assert_eq!(d.count(), n as u64);
            assert_eq!(d.total(), values.iter().sum::<u64>());
            assert_eq!(d.quantile(1.0), exact(&mut values, 1.0), "the largest is exact");
            assert_eq!(d.durations().min_ns, values[0], "the smallest is exact");
            for q in [0.0, 0.5, 0.9, 0.99, 0.999] {
                let (got, want) = (d.quantile(q) as f64, exact(&mut values, q) as f64);
                assert!((got - want).abs() <= want * 0.01 + 1.0, "n {n} q {q}: {got} for {want}");
            }
        }
    }

    #[test]
    fn merging_is_adding_all() {
        for (a, b) in [(0, 0), (0, 5), (5, 0), (10, 10), (10, 500), (500, 10), (500, 700)] {
            let value = |i: u64| i * i * 37 + 11;
            let (mut left, mut right, mut all) = (Dist::default(), Dist::default(), Dist::default());
            (0..a).for_each(|i| left.add(value(i)));
            (a..a + b).for_each(|i| right.add(value(i)));
            (0..a + b).for_each(|i| all.add(value(i)));
            left.merge(&right);
            let (got, want) = (left.durations(), all.durations());
            assert_eq!(
                (got.count, got.total_ns, got.min_ns, got.max_ns),
                (want.count, want.total_ns, want.min_ns, want.max_ns)
            );
            assert!(got.p50_ns.abs_diff(want.p50_ns) <= want.p50_ns / 100 + 1, "{a} {b}");
        }
    }

    #[test]
    fn nothing_is_all_zero() {
        assert_eq!(Dist::default().durations(), Durations::default());
    }

    #[test]
    fn the_longest_duration_there_is() {
        let mut d = Dist::default();
        (0..100).for_each(|_| d.add(i64::MAX as u64));
        assert_eq!(d.quantile(0.5), i64::MAX as u64);
    }
}
