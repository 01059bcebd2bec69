//! The state of one goroutine or processor in one atomic word.
//!
//! A word says what the events written so far say: whoever changes the state writes the event in the same
//! [section](super::section). It also carries what the closer of a generation must know about a thread that was silent.
//!
//! ```text
//!  63            36 35              9   8     7    4 3    0
//! | generation 28  | sequence 27      |prev| entry  | now  |
//! ```
//! `generation`: the last one in which the state was announced or changed. `sequence`: events counted in that generation.
//! `prev`: the word needs no status in the generation before (it had one, or did not exist). `entry`: the state
//! when the word entered `generation`. `now`: the state; bit 3 is set while a range (mark assist, sweep) is open.

use crate::format::{GoStatus, ProcStatus};
use crate::sys::sync::{AtomicU64, Ordering};

const SEQ_BITS: u32 = 27;
const SEQ_SHIFT: u32 = 9;
const GEN_SHIFT: u32 = SEQ_SHIFT + SEQ_BITS;
/// The largest generation number that a word can hold. Reached after 8 years of one-second generations.
pub(crate) const GEN_MAX: u32 = (1 << (64 - GEN_SHIFT)) - 1;
/// The largest number of events in one generation that one word can count.
const SEQ_MAX: u32 = (1 << SEQ_BITS) - 1;
/// Set in a state while a range is open on it.
const RANGE: u8 = 8;

/// The state "does not exist (any more)".
pub(crate) const GONE: u8 = 0;

/// A [`StateCell`]'s value, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) generation: u32,
    pub(crate) seq: u32,
    pub(crate) prev: bool,
    entry: u8,
    now: u8,
}

impl Word {
    /// A resource that comes into being in `generation`.
    pub(crate) const fn born(generation: u32, state: u8) -> Word {
        Word { generation, seq: 0, prev: true, entry: GONE, now: state }
    }

    /// A resource that exists from before `generation`, which opens a trace.
    pub(crate) const fn known_before(generation: u32, state: u8) -> Word {
        Word { generation: generation - 1, seq: 0, prev: true, entry: state, now: state }
    }

    const fn pack(self) -> u64 {
        ((self.generation as u64) << GEN_SHIFT)
            | ((self.seq as u64) << SEQ_SHIFT)
            | ((self.prev as u64) << 8)
            | ((self.entry as u64) << 4)
            | self.now as u64
    }

    const fn unpack(v: u64) -> Word {
        Word {
            generation: (v >> GEN_SHIFT) as u32,
            seq: (v >> SEQ_SHIFT) as u32 & SEQ_MAX,
            prev: v >> 8 & 1 == 1,
            entry: (v >> 4 & 15) as u8,
            now: (v & 15) as u8,
        }
    }

    /// The word as it enters a later generation: a status is due there, and counting begins anew.
    pub(crate) fn enter(self, generation: u32) -> Word {
        debug_assert!(self.generation < generation);
        Word { generation, seq: 0, prev: self.generation + 1 == generation, entry: self.now, now: self.now }
    }

    /// The state as a number of the wire; [`GONE`] is 0.
    pub(crate) const fn state(self) -> u8 {
        self.now & !RANGE
    }

    pub(crate) const fn range_open(self) -> bool {
        self.now & RANGE != 0
    }

    pub(crate) const fn with_range(self, open: bool) -> Word {
        Word { now: if open { self.now | RANGE } else { self.now & !RANGE }, ..self }
    }

    /// In another state of the same generation; an open range stays open.
    pub(crate) const fn with_state(self, state: u8) -> Word {
        Word { now: state | self.now & RANGE, ..self }
    }

    /// Gone; what the closer needs to know stays.
    pub(crate) const fn gone(self) -> Word {
        Word { now: GONE, ..self }
    }

    /// One event further. `None` when the counter is exhausted: the event must then not be written.
    pub(crate) const fn next(self) -> Option<Word> {
        if self.seq == SEQ_MAX { None } else { Some(Word { seq: self.seq + 1, ..self }) }
    }

    /// The state and range that a status event still has to tell in `generation`, which is being closed; `None` if it has
    /// been told or there is nothing to tell.
    pub(crate) fn missing_in(self, generation: u32) -> Option<(u8, bool)> {
        let state = match self.generation {
            g if g == generation => GONE,
            g if g < generation => self.now,
            _ if self.prev => GONE,
            _ => self.entry,
        };
        (state & !RANGE != GONE).then_some((state & !RANGE, state & RANGE != 0))
    }
}

/// A [`Word`] that threads share. Its owner changes it at will; others only as [`Section`](super::section::Section) tells.
#[derive(Debug)]
pub(crate) struct StateCell(AtomicU64);

impl StateCell {
    /// Outside of tests a cell is zeroed memory.
    #[cfg(loom)]
    pub(crate) fn new() -> StateCell {
        StateCell(AtomicU64::new(0))
    }

    /// Acquire pairs with the Release of [`set`](Self::set) and [`replace`](Self::replace): who sees a state also sees what was
    /// written before it.
    #[inline]
    pub(crate) fn get(&self) -> Word {
        Word::unpack(self.0.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn set(&self, w: Word) {
        self.0.store(w.pack(), Ordering::Release);
    }

    /// Changes `old` to `new` if nobody has changed it since.
    #[inline]
    pub(crate) fn replace(&self, old: Word, new: Word) -> bool {
        self.0.compare_exchange(old.pack(), new.pack(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A goroutine's state as a number.
pub(crate) const fn go(s: GoStatus) -> u8 {
    s as u8
}

/// A processor's state as a number.
pub(crate) const fn processor(s: ProcStatus) -> u8 {
    s as u8
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for w in [
            Word::born(1, go(GoStatus::Runnable)),
            Word { generation: GEN_MAX, seq: SEQ_MAX, prev: false, entry: 15, now: 15 },
            Word::born(77, 2).with_range(true),
        ] {
            assert_eq!(Word::unpack(w.pack()), w);
        }
    }

    #[test]
    fn the_closer_finds_what_was_not_told() {
        let waiting = go(GoStatus::Waiting);
        let w = Word::born(5, waiting);
        // It came into being in 5: nothing to tell there nor before.
        assert_eq!((w.missing_in(4), w.missing_in(5)), (None, None));
        // Silent in 6 and 7.
        assert_eq!((w.missing_in(6), w.missing_in(7)), (Some((waiting, false)), Some((waiting, false))));
        // Entered 8 after a silent 7: 7 is missing, told by the entry state even when the state has changed since.
        let e = w.enter(8).with_state(go(GoStatus::Runnable));
        assert_eq!((e.missing_in(7), e.missing_in(8)), (Some((waiting, false)), None));
        // Entered 6 straight from 5.
        assert_eq!(w.enter(6).missing_in(5), None);
        // Gone in 8: the silent 7 still has to be told, 9 not.
        assert_eq!((e.gone().missing_in(7), e.gone().missing_in(9)), (Some((waiting, false)), None));
        assert_eq!(w.with_range(true).missing_in(6), Some((waiting, true)));
    }

    #[test]
    fn an_exhausted_counter_stops() {
        let w = Word { seq: SEQ_MAX, ..Word::born(1, 2) };
        assert_eq!(w.next(), None);
        assert_eq!(Word::born(1, 2).next().map(|w| w.seq), Some(1));
    }
}
