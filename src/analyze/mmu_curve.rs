//! The minimum mutator utilization as a curve over the length of the window.

use super::mmu::{Counting, Mmu, Work};
use super::states::States;
use super::{Damage, each_event};
use crate::read::{Interner, Reader, Time};
use serde::{Deserialize, Serialize};

/// The schema of [`MmuCurve`] as JSON.
pub const MMU_SCHEMA: &str = "exectrace.mmu/1";

/// The minimum mutator utilization by length of the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmuCurve {
    /// [`MMU_SCHEMA`].
    pub schema: String,
    /// The length of the trace. A longer window is as long as the trace.
    pub duration_ns: u64,
    /// The mean utilization, 0 to 1.
    pub mean: f64,
    /// One point for each window asked for, in that order. Empty if the trace never tells the number of processors.
    pub points: Vec<CurvePoint>,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CurvePoint {
    /// The length of the window.
    pub window_ns: u64,
    /// The smallest mean utilization of all such windows, 0 to 1.
    pub utilization: f64,
    /// When the worst one begins, in nanoseconds since the trace began.
    pub at_ns: u64,
}

/// Windows from `first_ns` to `last_ns` with about the same ratio from each to the next, `per_decade` of them from 1 to 10.
#[must_use]
pub fn mmu_windows(first_ns: u64, last_ns: u64, per_decade: u32) -> Vec<u64> {
    let first = first_ns.max(1) as f64;
    let steps = ((last_ns.max(1) as f64 / first).log10() * f64::from(per_decade)).round().max(0.0) as u32;
    let mut all: Vec<u64> =
        (0..=steps).map(|i| (first * 10f64.powf(f64::from(i) / f64::from(per_decade.max(1)))).round() as u64).collect();
    all.dedup();
    all
}

/// Reads the rest of a trace and finds the minimum mutator utilization for each window, in nanoseconds.
#[must_use]
pub fn mmu(reader: &mut Reader<'_>, windows_ns: &[u64], work: Work, counting: Counting) -> MmuCurve {
    mmu_watched(reader, windows_ns, work, counting, &mut || {})
}

/// Like [`mmu`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn mmu_watched(
    reader: &mut Reader<'_>,
    windows_ns: &[u64],
    work: Work,
    counting: Counting,
    tick: &mut dyn FnMut(),
) -> MmuCurve {
    let (mut states, mut interner) = (States::new(), Interner::new());
    let mut mmu = Mmu::new(windows_ns, work, counting);
    let (mut begin, mut end) = (None, Time(0));
    let done = each_event(reader, tick, |ev| {
        begin.get_or_insert(ev.time);
        end = ev.time;
        let change = states.update(&ev, &mut interner);
        mmu.update(&ev, change.as_ref());
    });
    let begin = begin.unwrap_or(end);
    let since = |t: Time| t.since(begin).max(0) as u64;
    let mean = mmu.mean();
    let points = mmu.finish();
    MmuCurve {
        schema: MMU_SCHEMA.to_owned(),
        duration_ns: since(end),
        mean,
        points: points
            .iter()
            .map(|m| CurvePoint { window_ns: m.window_ns, utilization: m.utilization, at_ns: since(m.at) })
            .collect(),
        damage: done.err().map(|e| Damage::of(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_by_ratio() {
        assert_eq!(mmu_windows(1000, 1_000_000, 1), [1000, 10_000, 100_000, 1_000_000]);
        assert_eq!(mmu_windows(1, 10, 3), [1, 2, 5, 10]);
        assert_eq!(mmu_windows(0, 0, 5), [1]);
    }
}
