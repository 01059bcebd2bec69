//! A thread's place in its batches of a generation, and the decoding of its next event.
//!
//! This is the innermost loop of reading. An event is decoded from a window of fixed length, which is checked once; the
//! buffer has padding behind it, so the window may reach beyond the batch, and whether the event did is checked afterwards.
//! An integer of one byte costs a comparison; a longer one is gathered from eight bytes at once, without a loop.

use super::ThreadId;
use super::clock::Clock;
use super::error::{Faulty, fault};
use super::generation::{NO_BATCH, PADDING, TimedBatch};
use crate::format::{Kind, varint};

/// The most arguments that a timed event has behind `dt`.
pub(super) const MAX_ARGS: usize = 4;
/// The longest timed event: its kind, `dt` and the arguments.
const MAX_EVENT_BYTES: usize = 1 + (1 + MAX_ARGS) * varint::MAX_BYTES;
/// What a window must hold so that eight bytes may be read at the beginning of any of its integers.
const WINDOW: usize = 72;
const _: () = assert!(MAX_EVENT_BYTES + 8 <= WINDOW && WINDOW <= PADDING);

/// What the decoder must know of a kind.
#[derive(Clone, Copy)]
struct Shape {
    /// The number of arguments behind `dt`, or [`NOT_TIMED`].
    args: u8,
    kind: Kind,
}

const NOT_TIMED: u8 = u8::MAX;

/// The shapes of all 256 kinds, from the table of events.
static SHAPES: [Shape; 256] = {
    let mut shapes = [Shape { args: NOT_TIMED, kind: Kind::EventBatch }; 256];
    let mut i = 0;
    while i < 256 {
        if let Some(kind) = Kind::from_wire(i as u8) {
            let spec = kind.spec();
            if spec.timed {
                assert!(spec.args.len() <= 1 + MAX_ARGS);
                shapes[i] = Shape { args: spec.args.len() as u8 - 1, kind };
            }
        }
        i += 1;
    }
    shapes
};

/// A thread's next event and where the one after it stands.
pub(super) struct Cursor {
    /// The next event: its time before it is forced to rise, kind and arguments.
    pub(super) time: i64,
    pub(super) kind: Kind,
    pub(super) args: [u64; MAX_ARGS],
    /// Where in [`Pending::data`] that event begins.
    pub(super) at: usize,
    pub(super) thread: ThreadId,
    /// The slot of the thread's state in the ordering.
    pub(super) slot: u32,
    /// Where the event after it begins, and where the batch ends.
    pos: usize,
    end: usize,
    /// The time of the event before; 0 stands for "none yet in this batch".
    last: i64,
    batch_time: i64,
    next: u32,
}

impl Cursor {
    /// A cursor before a thread's first event.
    pub(super) fn new(thread: ThreadId, slot: u32, first: u32) -> Cursor {
        let kind = Kind::EventBatch;
        Cursor {
            time: 0,
            kind,
            args: [0; MAX_ARGS],
            at: 0,
            thread,
            slot,
            pos: 0,
            end: 0,
            last: 0,
            batch_time: 0,
            next: first,
        }
    }

    /// Decodes the next event; false if there is none.
    #[inline]
    pub(super) fn advance(&mut self, data: &[u8], batches: &[TimedBatch], clock: Clock) -> Faulty<bool> {
        if self.pos == self.end && !self.next_batch(batches, clock) {
            return Ok(false);
        }
        if self.last == 0 {
            // The first of its batch. As in Go, an event at the time 0 makes the next one count from the batch again.
            self.last = self.batch_time;
        }
        self.at = self.pos;
        let Some(window) = data.get(self.pos..).and_then(|d| d.first_chunk::<WINDOW>()) else {
            return Err(fault!(Event, "the buffer ends inside an event"));
        };
        let shape = SHAPES[window[0] as usize];
        let mut w = Window { bytes: window, pos: 1, bad: false };
        // A match instead of a loop: one jump, and each integer's length has a prediction of its own.
        let dt = match shape.args {
            0 => w.varint(),
            1 => {
                let dt = w.varint();
                self.args[0] = w.varint();
                dt
            }
            2 => {
                let dt = w.varint();
                self.args[0] = w.varint();
                self.args[1] = w.varint();
                dt
            }
            3 => {
                let dt = w.varint();
                self.args[0] = w.varint();
                self.args[1] = w.varint();
                self.args[2] = w.varint();
                dt
            }
            4 => {
                let dt = w.varint();
                self.args = [w.varint(), w.varint(), w.varint(), w.varint()];
                dt
            }
            _ => return Err(not_timed(window[0])),
        };
        self.kind = shape.kind;
        self.pos += w.pos;
        if w.bad || self.pos > self.end {
            return Err(cut(shape.kind, self.pos > self.end));
        }
        self.time = clock.ns(dt).wrapping_add(self.last);
        self.last = self.time;
        Ok(true)
    }

    #[cold]
    fn next_batch(&mut self, batches: &[TimedBatch], clock: Clock) -> bool {
        while self.pos == self.end {
            let Some(b) = batches.get(self.next as usize) else {
                debug_assert_eq!(self.next, NO_BATCH);
                return false;
            };
            self.pos = b.start;
            self.end = b.end;
            self.batch_time = clock.ns(b.time);
            self.last = 0;
            self.next = b.next;
        }
        true
    }
}

#[cold]
fn not_timed(kind: u8) -> Box<super::error::Fault> {
    match Kind::from_wire(kind) {
        Some(k) => fault!(Event, "{} among timed events: expected an event with a time", k.spec().name),
        None => fault!(Event, "event kind {kind}: not known"),
    }
}

#[cold]
fn cut(kind: Kind, end: bool) -> Box<super::error::Fault> {
    let name = kind.spec().name;
    if end {
        fault!(Event, "{name}: the batch ends inside the event")
    } else {
        fault!(Event, "{name}: a number is too large for 64 bits")
    }
}

/// The bytes of one event.
struct Window<'a> {
    bytes: &'a [u8; WINDOW],
    pos: usize,
    /// An integer did not fit.
    bad: bool,
}

impl Window<'_> {
    #[inline(always)]
    fn varint(&mut self) -> u64 {
        // At most `MAX_EVENT_BYTES` are passed over; the mask tells the compiler so.
        let i = self.pos & 63;
        let b = self.bytes[i];
        if b < 0x80 {
            self.pos = i + 1;
            return u64::from(b);
        }
        let mut eight = [0; 8];
        eight.copy_from_slice(&self.bytes[i..i + 8]);
        let v = u64::from_le_bytes(eight);
        // The lowest clear top bit ends the integer.
        let stops = !v & 0x8080_8080_8080_8080;
        if stops == 0 {
            return self.long_varint(i);
        }
        let bits = stops.trailing_zeros() + 1;
        self.pos = i + (bits / 8) as usize;
        let v = v & (u64::MAX >> (64 - bits));
        // Three steps close the gaps that the top bits leave: 8 times 7 bits, 4 times 14, 2 times 28, 56.
        let v = (v & 0x007f_007f_007f_007f) | ((v & 0x7f00_7f00_7f00_7f00) >> 1);
        let v = (v & 0x0000_3fff_0000_3fff) | ((v & 0x3fff_0000_3fff_0000) >> 2);
        (v & 0x0000_0000_0fff_ffff) | ((v & 0x0fff_ffff_0000_0000) >> 4)
    }

    /// Integers of nine and ten bytes, and those that are too long.
    #[cold]
    fn long_varint(&mut self, i: usize) -> u64 {
        match varint::read(&self.bytes[i..]) {
            Some((v, n)) => {
                self.pos = i + n;
                v
            }
            None => {
                self.bad = true;
                self.pos = i + 1;
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) {
        let mut window = [0xffu8; WINDOW];
        window[1..1 + bytes.len()].copy_from_slice(bytes);
        let mut w = Window { bytes: &window, pos: 1, bad: false };
        let v = w.varint();
        match varint::read(&window[1..]) {
            Some((twin, n)) => assert_eq!((v, w.pos, w.bad), (twin, 1 + n, false), "{bytes:x?}"),
            None => assert!(w.bad, "{bytes:x?}"),
        }
    }

    #[test]
    fn integers_are_read_as_the_plain_way_reads_them() {
        let mut b = [0; varint::MAX_BYTES];
        for shift in 0..64 {
            for v in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift, 0x0123_4567_89ab_cdef >> shift] {
                let n = varint::write(&mut b, v);
                check(&b[..n]);
            }
        }
        check(&[0x81, 0x80, 0x80, 0x00]);
        check(&[0x80; 10]);
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]);
        check(&[0xff; 12]);
    }
}
