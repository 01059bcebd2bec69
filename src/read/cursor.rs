//! A thread's place in its batches of a generation, and the decoding of its next event.
//!
//! This is the innermost loop of reading. An event is decoded from a window of fixed length, which is checked once; the
//! buffer has padding behind it, so the window may reach beyond the batch, and whether the event did is checked afterwards.
//! An integer of one byte costs a comparison; a longer one is gathered from eight bytes at once, without a loop.

use super::ThreadId;
use super::clock::Clock;
use super::error::{Fault, fault};
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

/// What [`Cursor::advance`] found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoded {
    /// An event.
    Event,
    /// The end of the thread's batches.
    End,
    /// Something that is no event: see [`Cursor::fault`].
    Bad,
}

/// A thread's next event and where the one after it stands.
pub(super) struct Cursor {
    /// The next event: its time before it is forced to rise (0 before the first of a batch), kind and arguments.
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
    batch_time: i64,
    next: u32,
}

impl Cursor {
    /// A cursor before a thread's first event.
    pub(super) fn new(thread: ThreadId, slot: u32, first: u32) -> Cursor {
        let kind = Kind::EventBatch;
        Cursor { time: 0, kind, args: [0; MAX_ARGS], at: 0, thread, slot, pos: 0, end: 0, batch_time: 0, next: first }
    }

    /// Decodes the next event.
    #[inline(always)]
    pub(super) fn advance(&mut self, data: &[u8], batches: &[TimedBatch], clock: Clock) -> Decoded {
        if self.pos == self.end && !self.next_batch(batches, clock) {
            return Decoded::End;
        }
        // The first of its batch counts from the batch's time. As in Go, so does one after an event at the time 0.
        let last = if self.time == 0 { self.batch_time } else { self.time };
        self.at = self.pos;
        // The padding behind the data makes sure that there is a window.
        let Some(window) = data.get(self.pos..).and_then(|d| d.first_chunk::<WINDOW>()) else { return Decoded::Bad };
        let shape = SHAPES[window[0] as usize];
        let mut ints = Ints::new(window);
        let dt = ints.next();
        // A match instead of a loop: one jump, and each integer's length has a prediction of its own.
        match shape.args {
            0 => {}
            1 => self.args[0] = ints.next(),
            2 => {
                self.args[0] = ints.next();
                self.args[1] = ints.next();
            }
            3 => {
                self.args[0] = ints.next();
                self.args[1] = ints.next();
                self.args[2] = ints.next();
            }
            4 => {
                self.args[0] = ints.next();
                self.args[1] = ints.next();
                self.args[2] = ints.next();
                ints.load();
                self.args[3] = ints.next();
            }
            _ => return Decoded::Bad,
        }
        self.kind = shape.kind;
        // A number that is too large has moved the position far beyond any end.
        let pos = self.pos + ints.i;
        if pos > self.end {
            return Decoded::Bad;
        }
        self.pos = pos;
        self.time = clock.ns(dt).wrapping_add(last);
        Decoded::Event
    }

    /// What is wrong with an event that was [`Decoded::Bad`].
    #[cold]
    pub(super) fn fault(&self, data: &[u8]) -> Box<Fault> {
        let bytes = data.get(self.at..self.end).unwrap_or_default();
        let Some((&number, mut rest)) = bytes.split_first() else {
            return fault!(Event, "the batch ends inside an event");
        };
        let Some(kind) = Kind::from_wire(number) else {
            return fault!(Event, "event kind {number}: not known");
        };
        let spec = kind.spec();
        if !spec.timed {
            return fault!(Event, "{} among timed events: expected an event with a time", spec.name);
        }
        for arg in spec.args {
            match varint::read(rest) {
                Some((_, n)) => rest = &rest[n..],
                None if rest.len() < varint::MAX_BYTES => {
                    return fault!(Event, "{}: the batch ends inside the event, at {arg}", spec.name);
                }
                None => return fault!(Event, "{}: {arg} is too large for 64 bits", spec.name),
            }
        }
        fault!(Event, "{}: it cannot be decoded", spec.name)
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
            self.time = 0;
            self.next = b.next;
        }
        true
    }
}

/// Where an integer that is too large moves the position: beyond the end of any batch, but far from an overflow.
const TOO_LARGE: usize = 1 << 32;

/// The integers of one event.
struct Ints<'a> {
    bytes: &'a [u8; WINDOW],
    /// The position behind the integers that were taken.
    i: usize,
    /// The bytes from there on. Eight are loaded at a time, enough for four integers of one or two bytes, which most are:
    /// a shift is quicker than a load.
    word: u64,
}

impl<'a> Ints<'a> {
    /// The integers behind the kind.
    #[inline(always)]
    fn new(bytes: &'a [u8; WINDOW]) -> Ints<'a> {
        let mut ints = Ints { bytes, i: 1, word: 0 };
        ints.load();
        ints
    }

    /// Loads eight bytes from the position on. Due before the fifth integer in a row.
    #[inline(always)]
    fn load(&mut self) {
        // An event has at most `MAX_EVENT_BYTES`, so the mask changes nothing; it tells the compiler that eight bytes are
        // there. Only behind an integer that is too large it does, and then the value does not matter.
        let at = self.i & 63;
        let mut eight = [0; 8];
        eight.copy_from_slice(&self.bytes[at..at + 8]);
        self.word = u64::from_le_bytes(eight);
    }

    /// The next integer.
    #[inline(always)]
    fn next(&mut self) -> u64 {
        let v = self.word;
        if v & 0x80 == 0 {
            self.word = v >> 8;
            self.i += 1;
            return v & 0x7f;
        }
        if v & 0x8000 == 0 {
            self.word = v >> 16;
            self.i += 2;
            return (v & 0x7f) | (v >> 1 & 0x3f80);
        }
        self.load();
        let v = self.word;
        let value = if v & 0x80_0000 == 0 {
            self.i += 3;
            (v & 0x7f) | (v >> 1 & 0x3f80) | (v >> 2 & 0x1f_c000)
        } else {
            let (value, i) = long_varint(self.bytes, self.i, v);
            self.i = i;
            value
        };
        self.load();
        value
    }
}

/// An integer of four bytes and more; `v` has the first eight.
#[inline(never)]
fn long_varint(bytes: &[u8; WINDOW], i: usize, v: u64) -> (u64, usize) {
    // The lowest clear top bit ends the integer.
    let stops = !v & 0x8080_8080_8080_8080;
    if stops != 0 {
        let bits = stops.trailing_zeros() + 1;
        let v = v & (u64::MAX >> (64 - bits));
        // Three steps close the gaps that the top bits leave: 8 times 7 bits, 4 times 14, 2 times 28, 56.
        let v = (v & 0x007f_007f_007f_007f) | ((v & 0x7f00_7f00_7f00_7f00) >> 1);
        let v = (v & 0x0000_3fff_0000_3fff) | ((v & 0x3fff_0000_3fff_0000) >> 2);
        let v = (v & 0x0000_0000_0fff_ffff) | ((v & 0x0fff_ffff_0000_0000) >> 4);
        return (v, i + (bits / 8) as usize);
    }
    match varint::read(&bytes[i & 63..]) {
        Some((v, n)) => (v, i + n),
        None => (0, TOO_LARGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) {
        let mut window = [0xffu8; WINDOW];
        window[1..1 + bytes.len()].copy_from_slice(bytes);
        let mut ints = Ints::new(&window);
        let v = ints.next();
        match varint::read(&window[1..]) {
            Some((twin, n)) => assert_eq!((v, ints.i), (twin, 1 + n), "{bytes:x?}"),
            None => assert!(ints.i >= TOO_LARGE, "{bytes:x?}"),
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

    #[test]
    fn integers_of_all_lengths_follow_each_other() {
        // Four in a row from one load, in all combinations of lengths from 1 to 5 bytes.
        for combination in 0..5u32.pow(4) {
            let lengths = [0, 1, 2, 3].map(|k| combination / 5u32.pow(k) % 5);
            let values = lengths.map(|n| (1u64 << (7 * n)) | (u64::from(combination) % (1 << (7 * n))));
            let mut window = [0xffu8; WINDOW];
            let mut end = 1;
            for v in values {
                end += varint::write(&mut window[end..], v);
            }
            let mut ints = Ints::new(&window);
            assert_eq!(values.map(|_| ints.next()), values, "{lengths:?}");
            assert_eq!(ints.i, end, "{lengths:?}");
        }
    }
}
