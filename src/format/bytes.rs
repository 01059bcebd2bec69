//! Pieces of batches as bytes, for whoever writes traces: the tracer's own thread, and the rewriting of traces. They allocate, so
//! hooks have their own ways.

use super::{Kind, Version, varint};

/// Appends an integer.
pub(crate) fn put(out: &mut Vec<u8>, v: u64) {
    let mut b = [0u8; varint::MAX_BYTES];
    let n = varint::write(&mut b, v);
    out.extend_from_slice(&b[..n]);
}

/// Appends a text: its length and its bytes.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// The payload of the batch that tells a generation's clock: its units per second and, where the version has it, one moment on three
/// clocks: units since the batch's time, the monotonic clock in nanoseconds, and the wall's seconds and nanoseconds.
pub(crate) fn clock(version: Version, frequency: u64, moment: [u64; 4]) -> Vec<u8> {
    let mut data = Vec::with_capacity(64);
    if version.has_clock_snapshot() {
        data.push(Kind::Sync as u8);
    }
    data.push(Kind::Frequency as u8);
    put(&mut data, frequency);
    if version.has_clock_snapshot() {
        data.push(Kind::ClockSnapshot as u8);
        moment.into_iter().for_each(|v| put(&mut data, v));
    }
    data
}
