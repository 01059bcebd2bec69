//! The stacks that a thread took last, to be checked instead of walked again.
//!
//! A walk is a function of the registers it begins with and of the words of the stack that it reads. So a stack taken at the same
//! place as an earlier one is the same if those words are: comparing them costs a third of a walk, and then the stack's number is known
//! too, which spares looking it up. A loop that allocates, locks or logs takes the same few stacks again and again.

use super::super::StackBounds;
use super::Registers;
use super::cache;
use super::walk::{Words, remembered, walk};

/// How many stacks a thread remembers, as a power of two.
const ENTRIES_LOG2: u32 = 4;
const ENTRIES: usize = 1 << ENTRIES_LOG2;
/// The most words of a remembered stack: some 60 frames. Deeper ones are walked each time.
const WORDS_MAX: usize = 96;

/// Zeroed memory is an empty one.
#[derive(Debug)]
pub struct Memo([Entry; ENTRIES]);

#[derive(Debug)]
struct Entry {
    registers: Registers,
    bounds: StackBounds,
    uses_register: bool,
    /// What else the number depends on.
    key: u64,
    /// The [version](cache::version) of the rules.
    version: u32,
    /// 0: nothing is remembered.
    id: u32,
    len: usize,
    words: [(usize, usize); WORDS_MAX],
}

/// Where the frame pointer of a walk comes from, while that is not among its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FramePointer {
    /// From the registers.
    Register,
    /// From this word, with its value.
    Word(usize, usize),
    /// Told already.
    Told,
}

/// Writes the words of a walk into an entry.
struct Recorder<'a> {
    fp: FramePointer,
    /// Whether the frame pointer of the registers matters.
    uses_register: bool,
    len: usize,
    words: &'a mut [(usize, usize); WORDS_MAX],
}

impl Words for Recorder<'_> {
    #[inline(always)]
    fn read(&mut self, at: usize, value: usize) {
        if let Some(word) = self.words.get_mut(self.len) {
            *word = (at, value);
        }
        self.len += 1;
    }

    #[inline(always)]
    fn restore_fp(&mut self, at: usize, value: usize) {
        self.fp = FramePointer::Word(at, value);
    }

    #[inline(always)]
    fn use_fp(&mut self) {
        match core::mem::replace(&mut self.fp, FramePointer::Told) {
            FramePointer::Register => self.uses_register = true,
            FramePointer::Word(at, value) => self.read(at, value),
            FramePointer::Told => {}
        }
    }

    fn give_up(&mut self) {
        self.len = WORDS_MAX + 1;
    }
}

impl Default for Memo {
    fn default() -> Memo {
        Memo::new()
    }
}

impl Memo {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Memo {
        Memo([const { Entry::EMPTY }; ENTRIES])
    }

    /// See [`capture_numbered`](super::super::capture_numbered).
    #[inline(always)]
    pub(in super::super) fn number(
        &mut self,
        registers: Registers,
        key: u64,
        bounds: StackBounds,
        out: &mut [usize],
        before: usize,
        number: impl FnOnce(&[usize]) -> u32,
    ) -> u32 {
        let entry = &mut self.0[place(&registers)];
        if entry.id != 0
            && entry.registers.pc == registers.pc
            && entry.registers.sp == registers.sp
            && (entry.registers.fp == registers.fp || !entry.uses_register)
            && entry.key == key
            && entry.version == cache::version()
            && entry.bounds == bounds
            // SAFETY: the words were read by a walk from this stack pointer on a stack of these bounds.
            && entry.words.get(..entry.len).is_some_and(|words| unsafe { remembered(words) })
        {
            return entry.id;
        }
        entry.number(registers, key, bounds, out, before, number)
    }
}

/// Fibonacci hashing of where the stack is taken.
#[inline(always)]
fn place(r: &Registers) -> usize {
    ((r.pc ^ r.sp << 16) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (64 - ENTRIES_LOG2)
}

impl Entry {
    const EMPTY: Entry = Entry {
        registers: Registers { pc: 0, sp: 0, fp: 0, lr: 0 },
        bounds: StackBounds::NONE,
        uses_register: false,
        key: 0,
        version: 0,
        id: 0,
        len: 0,
        words: [(0, 0); WORDS_MAX],
    };

    #[inline(never)]
    fn number(
        &mut self,
        registers: Registers,
        key: u64,
        bounds: StackBounds,
        out: &mut [usize],
        before: usize,
        number: impl FnOnce(&[usize]) -> u32,
    ) -> u32 {
        // Before the walk: rules that are forgotten meanwhile make the entry old at once.
        let version = cache::version();
        let mut recorder =
            Recorder { fp: FramePointer::Register, uses_register: false, len: 0, words: &mut self.words };
        let n = out.get_mut(before..).map_or(0, |out| walk(registers, bounds, out, &mut recorder));
        let len = recorder.len;
        self.uses_register = recorder.uses_register;
        let id = number(&out[..before + n]);
        (self.registers, self.bounds, self.key, self.version, self.len) = (registers, bounds, key, version, len);
        // A stack of which nothing was read (off its bounds) is one frame: there is nothing to spare.
        self.id = if (1..=WORDS_MAX).contains(&len) { id } else { 0 };
        id
    }
}
