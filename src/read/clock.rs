//! A generation's clock: from units of the wire to nanoseconds.

/// How long a unit of the trace's clock is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Nanoseconds per unit.
    ns: f64,
    /// The same as an integer, if it is a small one; else 0.
    whole: u64,
}

/// With a unit of at most this many nanoseconds ...
const MAX_WHOLE: u64 = 1 << 10;
/// ... and below this many units the product fits the 53 bits of a float, so that integers and floats give the same.
const MAX_UNITS: u64 = 1 << 42;

impl Clock {
    /// The clock with this many units per second.
    pub(super) fn new(units_per_second: u64) -> Clock {
        // The formula and its rounding are Go's; a frequency of 0 gives infinity, and all times are then the smallest.
        let ns = 1.0 / (units_per_second as f64 / 1e9);
        let whole = if ns.fract() == 0.0 && ns <= MAX_WHOLE as f64 { ns as u64 } else { 0 };
        Clock { ns, whole }
    }

    /// `units` in nanoseconds, rounded towards zero. What does not fit becomes the smallest `i64`, as on amd64 in Go.
    #[inline]
    pub(super) fn ns(self, units: u64) -> i64 {
        if self.whole != 0 && units < MAX_UNITS { (units * self.whole) as i64 } else { self.slow_ns(units) }
    }

    fn slow_ns(self, units: u64) -> i64 {
        let ns = units as f64 * self.ns;
        // 2^63 is the first float that does not fit.
        if ns < 9_223_372_036_854_775_808.0 { ns as i64 } else { i64::MIN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_agree() {
        for freq in [1_000_000_000, 15_625_000, 1_000_000, 976_562] {
            let c = Clock::new(freq);
            for units in [0, 1, 2, 1000, 1 << 20, (1 << 42) - 1, 1 << 42, 1 << 50] {
                assert_eq!(c.ns(units), c.slow_ns(units), "{freq} {units}");
            }
        }
        assert_eq!(Clock::new(15_625_000).ns(10), 640);
    }

    #[test]
    fn what_does_not_fit_is_the_smallest_time() {
        assert_eq!(Clock::new(0).ns(0), i64::MIN);
        assert_eq!(Clock::new(0).ns(1), i64::MIN);
        assert_eq!(Clock::new(1).ns(1 << 62), i64::MIN);
        assert_eq!(Clock::new(1_000_000_000).ns(u64::MAX), i64::MIN);
        assert_eq!(Clock::new(1_000_000_000).ns(1 << 62), 1 << 62);
    }
}
