//! The clock of a generation, in the form of any version.

use super::generation::{Batch, Generation, put_text};
use crate::format::private::{PRIVATE, Section, meta};
use crate::format::{EXPERIMENT_ALLOC_FREE, Kind, Version, bytes, varint};
use crate::read::batches::Content;

/// A generation's clock.
pub(super) struct Clock {
    /// Units in a second.
    pub(super) frequency: u64,
    snapshot: Option<Snapshot>,
}

/// One moment on three clocks.
#[derive(Clone, Copy)]
struct Snapshot {
    /// In units since the batch's time.
    after: u64,
    mono_ns: u64,
    sec: u64,
    nsec: u64,
}

impl Clock {
    /// The clock of a generation of this version, if it has one.
    pub(super) fn of(g: &Generation) -> Option<Clock> {
        g.with(Content::Clock).find_map(|b| Clock::parse(&b.data))
    }

    fn parse(data: &[u8]) -> Option<Clock> {
        let mut rest = data;
        if rest.first() == Some(&(Kind::Sync as u8)) {
            rest = &rest[1..];
        }
        let (mut frequency, mut snapshot, mut after) = (None, None, 0u64);
        while let Some((&kind, mut fields)) = rest.split_first() {
            let mut number = || {
                let (v, n) = varint::read(fields)?;
                fields = &fields[n..];
                Some(v)
            };
            if kind == Kind::Frequency as u8 {
                frequency = Some(number()?);
            } else if kind == Kind::ClockSnapshot as u8 {
                after = after.wrapping_add(number()?);
                snapshot = Some(Snapshot { after, mono_ns: number()?, sec: number()?, nsec: number()? });
            } else {
                return None;
            }
            rest = fields;
        }
        Some(Clock { frequency: frequency?, snapshot })
    }

    /// A time in nanoseconds, rounded down.
    pub(super) fn ns(&self, units: u64) -> u64 {
        scale(units, 1_000_000_000, self.frequency)
    }
}

/// `v * times / by` without overflow on the way.
fn scale(v: u64, times: u64, by: u64) -> u64 {
    (u128::from(v) * u128::from(times) / u128::from(by.max(1))).min(u64::MAX.into()) as u64
}

/// Brings the clock of a generation into the form of a version. What the old form does not have stands in private data,
/// where this crate's tracer writes it too.
pub(super) fn convert(g: &mut Generation, to: Version) {
    let Some(i) = g.batches.iter().position(|b| b.content() == Content::Clock) else { return };
    let batch = &g.batches[i];
    let Some(clock) = Clock::parse(&batch.data) else { return };
    let mut moment = [0; 4];
    let mut kept = None;
    if to.has_clock_snapshot() {
        let s = clock.snapshot.or_else(|| private_snapshot(g, &clock, batch.time)).unwrap_or(Snapshot {
            // The wall clock is not known; zero is a time that nobody takes for one.
            after: 0,
            mono_ns: clock.ns(batch.time),
            sec: 0,
            nsec: 0,
        });
        moment = [s.after, s.mono_ns, s.sec, s.nsec];
    } else {
        let known = to >= Version::Go123 && private_snapshot(g, &clock, batch.time).is_none();
        kept = clock.snapshot.filter(|s| known && s.sec != 0).map(|s| meta_batch(&clock, batch, &s));
    }
    g.batches[i].data = bytes::clock(to, clock.frequency, moment);
    g.batches.extend(kept);
}

/// The same moment as private data.
fn meta_batch(clock: &Clock, batch: &Batch, s: &Snapshot) -> Batch {
    let mut data = vec![PRIVATE, Section::Meta as u8];
    let wall_ns = u128::from(s.sec) * 1_000_000_000 + u128::from(s.nsec);
    for (key, value) in [
        (meta::TRACE_NS, u128::from(clock.ns(batch.time.wrapping_add(s.after)))),
        (meta::MONO_NS, s.mono_ns.into()),
        (meta::WALL_NS, wall_ns),
    ] {
        put_text(&mut data, key.as_bytes());
        put_text(&mut data, value.to_string().as_bytes());
    }
    Batch { experiment: Some(EXPERIMENT_ALLOC_FREE), thread: batch.thread, time: batch.time, data }
}

/// The moment that private data tell, as a snapshot in a batch of this time.
fn private_snapshot(g: &Generation, clock: &Clock, batch_time: u64) -> Option<Snapshot> {
    let all = g.batches.iter().flat_map(|b| meta_pairs(b)).collect::<Vec<_>>();
    let number = |key: &str| all.iter().find(|(k, _)| *k == key.as_bytes()).and_then(|(_, v)| text(v)?.parse().ok());
    let (trace_ns, mono_ns, wall_ns): (u64, u64, u64) =
        (number(meta::TRACE_NS)?, number(meta::MONO_NS)?, number(meta::WALL_NS)?);
    // A snapshot cannot lie before its batch; one that would is moved, on all clocks.
    let at = scale(trace_ns, clock.frequency, 1_000_000_000);
    let after = at.saturating_sub(batch_time);
    let moved_ns = clock.ns(batch_time.saturating_sub(at));
    let wall_ns = wall_ns.saturating_add(moved_ns);
    let (sec, nsec) = (wall_ns / 1_000_000_000, wall_ns % 1_000_000_000);
    Some(Snapshot { after, mono_ns: mono_ns.saturating_add(moved_ns), sec, nsec })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Keys and values of a private batch of this kind; none of another batch.
pub(super) fn meta_pairs(b: &Batch) -> Vec<(&[u8], &[u8])> {
    let mut pairs = Vec::new();
    if b.experiment != Some(EXPERIMENT_ALLOC_FREE) || !b.data.starts_with(&[PRIVATE, Section::Meta as u8]) {
        return pairs;
    }
    let mut rest = &b.data[2..];
    let mut text = || {
        let (len, n) = varint::read(rest)?;
        let (text, after) = rest[n..].split_at_checked(usize::try_from(len).ok()?)?;
        rest = after;
        Some(text)
    };
    while let (Some(key), Some(value)) = (text(), text()) {
        pairs.push((key, value));
    }
    pairs
}
