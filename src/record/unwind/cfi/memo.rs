//! The stacks that a thread took lately, to be checked instead of walked again.
//!
//! A walk is a function of the registers it begins with and of the words of the stack that it reads, one after the other: where it reads
//! next depends on what it has read so far. So walks that begin with the same registers make a tree. A node is a word that is
//! read; its value tells which way the walk goes on. At the end of each way stands the number of the stack, which spares
//! looking it up. A way is found by one load and one comparison a frame, none of which waits for another, where a walk has a
//! chain of them: a frame costs about a nanosecond.
//!
//! ```text
//! root (pc, sp, key) ─► [at 0x50 = a] [at 0x80 = b] [number 7]     a run: the next word follows its predecessor
//!                            │ other
//!                            └──────► [at 0x50 = c] [at 0x90 = d] [number 9]
//! ```
//!
//! # Invariants
//! 1. *Nodes of one way that were read by the same walks stand in the same order as the walk read them.* So where a node's value is the
//!    stack's, the word of the node behind it is one that a walk would read now: it lies inside the bounds (the walk's own
//!    invariant 1), and may be loaded.
//! 2. *A run is linked when it is whole, with its number at the end.* So a walk that was given up leaves nothing behind.
//! 3. *All that a walk depends on is compared*: program counter, stack pointer and key in the root, bounds and version of the rules for
//!    the whole tree, each word, and the frame pointer of the registers where it was used.

use core::mem::size_of;
use core::ptr::NonNull;

use super::super::StackBounds;
use super::Registers;
use super::cache;
use super::walk::{Words, load, walk};
use crate::sys::pages::{self, GRANULE_BYTES};

/// How many beginnings a thread remembers, as a power of two.
const ROOTS_LOG2: u32 = 10;
const ROOTS: usize = 1 << ROOTS_LOG2;
/// The memory of a thread's memo. Mapped at its first stack; what is not used is not committed.
const BYTES: usize = 7 * GRANULE_BYTES;
/// How many words: some 2,000 stacks of a dozen frames. When they are used up, all is forgotten.
const NODES: usize = (BYTES - ROOTS * size_of::<Root>()) / size_of::<Node>();
/// The most ways from one word. Where there are more, the others are walked.
const WAYS_MAX: u32 = 32;

/// Zeroed memory is an empty one.
#[derive(Debug)]
pub struct Memo {
    /// [`ROOTS`] roots and [`NODES`] nodes. Null until the first stack.
    at: *mut u8,
    bounds: StackBounds,
    /// The [version](cache::version) of the rules.
    version: u32,
    /// Roots of another epoch are void.
    epoch: u32,
    /// Nodes in use, from 1: there is no node 0.
    used: usize,
    /// There was no memory to be had: not asked for again.
    refused: bool,
}

/// Where walks begin.
#[derive(Clone, Copy)]
#[repr(C)]
struct Root {
    pc: usize,
    sp: usize,
    /// What else the number depends on.
    key: u64,
    /// The first node.
    first: u32,
    epoch: u32,
}

/// A word that a walk has read, or the end of a way.
#[derive(Clone, Copy)]
#[repr(C)]
struct Node {
    /// The word's value; at the end the number.
    value: usize,
    /// How many bytes below the upper bound the word stands: a multiple of 8. Or [`NUMBER`], or [`REGISTER`].
    below: u32,
    /// The same word with another value, 0 for none.
    other: u32,
}

/// In place of a word: the way ends here.
const NUMBER: u32 = 1;
/// In place of a word: the frame pointer that the walk began with.
const REGISTER: u32 = 2;
const NO_WORD: u32 = 7;

impl Default for Memo {
    fn default() -> Memo {
        Memo::new()
    }
}

impl Memo {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Memo {
        Memo { at: core::ptr::null_mut(), bounds: StackBounds::NONE, version: 0, epoch: 0, used: 0, refused: false }
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
        if self.bounds == bounds && self.version == cache::version() && !self.at.is_null() {
            // SAFETY: the memory was mapped, and there are so many roots.
            let root = unsafe { *self.root(place(&registers)) };
            if root.pc == registers.pc && root.sp == registers.sp && root.key == key && root.epoch == self.epoch {
                // SAFETY: the root is of this epoch, and its walks began with this stack pointer on this stack.
                let id = unsafe { self.find(root.first, registers.fp) };
                if id != 0 {
                    return id;
                }
            }
        }
        self.walk(registers, key, bounds, out, before, number)
    }

    /// The number at the end of the way that the stack takes now; 0 if there is none.
    ///
    /// # Safety
    /// `first` must be the first node of a root of this epoch, and the stack pointer and the bounds those of its walks.
    #[inline(always)]
    unsafe fn find(&self, first: u32, fp: usize) -> u32 {
        let mut i = first as usize;
        loop {
            // SAFETY: runs end with a number, so the walk over them stays inside (invariant 2).
            let node = unsafe { *self.node(i) };
            let value = if node.below & NO_WORD == 0 {
                // SAFETY: invariant 1.
                unsafe { load(self.bounds.hi() - node.below as usize) }
            } else if node.below == NUMBER {
                return node.value as u32;
            } else {
                fp
            };
            if value == node.value {
                i += 1;
            } else if node.other != 0 {
                i = node.other as usize;
            } else {
                return 0;
            }
        }
    }

    /// Walks, and remembers.
    #[inline(never)]
    fn walk(
        &mut self,
        registers: Registers,
        key: u64,
        bounds: StackBounds,
        out: &mut [usize],
        before: usize,
        number: impl FnOnce(&[usize]) -> u32,
    ) -> u32 {
        // Before the walk: rules that are forgotten meanwhile make the whole tree old at once.
        let version = cache::version();
        if !self.ready() {
            let n = out.get_mut(before..).map_or(0, |out| walk(registers, bounds, out, &mut ()));
            return number(&out[..before + n]);
        }
        if self.bounds != bounds || self.version != version || self.used + out.len() * 2 + 2 > NODES {
            self.forget();
            (self.bounds, self.version) = (bounds, version);
        }
        // SAFETY: the memory is mapped, and there are so many roots.
        let root = unsafe { &mut *self.root(place(&registers)) };
        let known = (root.pc, root.sp, root.key, root.epoch) == (registers.pc, registers.sp, key, self.epoch);
        let at = if known { At::Known { node: root.first as usize, ways: 0 } } else { At::New };
        let mut tree = Tree {
            memo: self,
            register: registers.fp,
            fp: FramePointer::Register,
            at,
            link: 0,
            len: 0,
            given_up: false,
        };
        let n = out.get_mut(before..).map_or(0, |out| walk(registers, bounds, out, &mut tree));
        let (link, len) = (tree.link, tree.len);
        let remember = len > 0 && !tree.given_up;
        let id = number(&out[..before + n]);
        if !remember || id == 0 {
            // A stack of which nothing was read (off its bounds) is one frame: there is nothing to spare.
            return id;
        }
        // SAFETY: there was room for as many words as frames can have, and for the end.
        unsafe { self.node(self.used + len).write(Node { value: id as usize, below: NUMBER, other: 0 }) };
        let first = self.used as u32;
        self.used += len + 1;
        if link == 0 {
            *root = Root { pc: registers.pc, sp: registers.sp, key, first, epoch: self.epoch };
        } else {
            // SAFETY: the node that the way leaves is one in use.
            unsafe { (*self.node(link)).other = first };
        }
        id
    }

    /// Whether there is memory for it.
    fn ready(&mut self) -> bool {
        if self.at.is_null() && !self.refused {
            match pages::map(BYTES, GRANULE_BYTES) {
                Some(at) => self.at = at.as_ptr(),
                None => self.refused = true,
            }
            self.forget();
        }
        !self.at.is_null()
    }

    fn forget(&mut self) {
        self.used = 1;
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 && !self.at.is_null() {
            // Epochs have come round: what is as old as that is not to come back.
            // SAFETY: the mapped memory begins with the roots.
            unsafe { self.at.write_bytes(0, ROOTS * size_of::<Root>()) };
            self.epoch = 1;
        }
    }

    /// Where a root is, if the memory is mapped.
    #[inline(always)]
    fn root(&self, i: usize) -> *mut Root {
        self.at.cast::<Root>().wrapping_add(i)
    }

    /// Where a node is, likewise.
    #[inline(always)]
    fn node(&self, i: usize) -> *mut Node {
        self.at.wrapping_add(ROOTS * size_of::<Root>()).cast::<Node>().wrapping_add(i)
    }
}

impl Drop for Memo {
    fn drop(&mut self) {
        if let Some(at) = NonNull::new(self.at) {
            // SAFETY: mapped with these arguments, and nobody else has it.
            unsafe { pages::unmap(at, BYTES, GRANULE_BYTES) };
        }
    }
}

/// Fibonacci hashing of where the stack is taken.
#[inline(always)]
fn place(r: &Registers) -> usize {
    ((r.pc ^ r.sp << 16) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (64 - ROOTS_LOG2)
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

/// How a walk stands to the tree.
#[derive(Clone, Copy)]
enum At {
    /// It has come to this node, or to one of the others of its word, of which so many have been looked at.
    Known { node: usize, ways: u32 },
    /// It goes where no walk has gone.
    New,
}

/// Follows a walk down the tree, and writes the part that is new behind the nodes in use.
struct Tree<'a> {
    memo: &'a Memo,
    register: usize,
    fp: FramePointer,
    at: At,
    /// The node from which the new part branches off; 0 for the root.
    link: usize,
    /// The length of the new part.
    len: usize,
    given_up: bool,
}

impl Tree<'_> {
    #[inline(always)]
    fn word(&mut self, below: u32, value: usize) {
        while let At::Known { node: i, ways } = self.at {
            // SAFETY: a node in use: of the root, the other of one, or behind one that is not an end.
            let node = unsafe { *self.memo.node(i) };
            if node.below != below {
                // Rules have changed while it walked.
                self.given_up = true;
                return;
            }
            if node.value == value {
                self.at = At::Known { node: i + 1, ways: 0 };
                return;
            }
            if node.other != 0 {
                self.at = At::Known { node: node.other as usize, ways: ways + 1 };
            } else {
                self.given_up |= ways >= WAYS_MAX;
                self.link = i;
                self.at = At::New;
            }
        }
        let i = self.memo.used + self.len;
        if self.given_up || i + 1 >= NODES {
            self.given_up = true;
            return;
        }
        // SAFETY: a node inside the memory, behind those in use.
        unsafe { self.memo.node(i).write(Node { value, below, other: 0 }) };
        self.len += 1;
    }
}

impl Words for Tree<'_> {
    #[inline(always)]
    fn read(&mut self, at: usize, value: usize) {
        match u32::try_from(self.memo.bounds.hi() - at) {
            Ok(below) => self.word(below, value),
            Err(_) => self.given_up = true,
        }
    }

    #[inline(always)]
    fn restore_fp(&mut self, at: usize, value: usize) {
        self.fp = FramePointer::Word(at, value);
    }

    #[inline(always)]
    fn use_fp(&mut self) {
        match core::mem::replace(&mut self.fp, FramePointer::Told) {
            FramePointer::Register => self.word(REGISTER, self.register),
            FramePointer::Word(at, value) => self.read(at, value),
            FramePointer::Told => {}
        }
    }

    fn give_up(&mut self) {
        self.given_up = true;
    }
}
