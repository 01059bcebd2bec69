//! Numbers for people: durations, sizes, shares, counts.
//!
//! Each has its unit beside it and three or four digits that mean something. Machine-readable output never comes from here.

use std::fmt;

/// How many nanoseconds a unit of time has: `ns`, `us`, `ms`, `s`, `m` or `h`. Whoever reads times from people reads these.
#[must_use]
pub fn ns_of_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

/// A duration in nanoseconds, shown in the unit that fits it: `1.234 s`, `56.7 ms`, `890 us`, `12 ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ns(pub u64);

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0 as f64;
        let (v, unit) = match self.0 {
            0..1_000 => return f.pad(&format!("{} ns", self.0)),
            1_000..1_000_000 => (ns / 1e3, "us"),
            1_000_000..1_000_000_000 => (ns / 1e6, "ms"),
            _ => (ns / 1e9, "s"),
        };
        f.pad(&format!("{} {unit}", Digits(v)))
    }
}

/// A number of bytes: `17 B`, `1.50 KiB`, `64.0 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut v = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while v >= 1023.5 && unit + 1 < UNITS.len() {
            v /= 1024.0;
            unit += 1;
        }
        f.pad(&format!("{} {}", Digits(v), UNITS[unit]))
    }
}

/// A share of 1 in per cent: `12.3 %`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1} %", self.0 * 100.0))
    }
}

/// A count with its thousands apart: `45 123 456`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut s = String::with_capacity(digits.len() * 4 / 3 + 1);
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                s.push(' ');
            }
            s.push(c);
        }
        f.pad(&s)
    }
}

/// Three digits and a point where they need one; all of them before the point.
struct Digits(f64);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            v if v < 9.995 => write!(f, "{:.2}", self.0),
            v if v < 99.95 => write!(f, "{:.1}", self.0),
            _ => write!(f, "{:.0}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_three_digits_and_a_unit() {
        for (ns, want) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (56_780, "56.8 us"),
            (1_234_567, "1.23 ms"),
            (99_990_000, "100 ms"),
            (1_500_000_000, "1.50 s"),
            (123_456_000_000, "123 s"),
        ] {
            assert_eq!(Ns(ns).to_string(), want);
        }
        assert_eq!(format!("[{:>9}]", Ns(5)), "[     5 ns]");
    }

    #[test]
    fn sizes_shares_and_counts() {
        for (b, want) in [(1023, "1023 B"), (1536, "1.50 KiB"), (1_048_575, "1.00 MiB"), (64 << 20, "64.0 MiB")] {
            assert_eq!(Bytes(b).to_string(), want);
        }
        assert_eq!(Percent(0.1234).to_string(), "12.3 %");
        for (n, want) in [(7, "7"), (999, "999"), (1000, "1 000"), (45_123_456, "45 123 456")] {
            assert_eq!(Count(n).to_string(), want);
        }
    }
}
