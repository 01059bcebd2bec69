//! Return address to rule, for the whole process: a fixed two-way cache and the table of the rules that do not fit into it.
//!
//! Both lie in zeroed static memory, which costs nothing until the first capture touches it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::parse;
use super::rule::{self, END, ESCAPE, Packed, Rule};

/// 512 KiB. A program's warm call sites are a few thousand; at 20,000 distinct addresses a few per cent still miss.
const SLOTS_LOG2: u32 = 16;
/// Programs were seen to need 1 to 29 of them.
const ESCAPES: usize = 4096;
/// An address and a packed rule share a word, so the address has 48 bits.
const ADDRESS_BITS: u32 = 64 - Packed::BITS;

/// Aligned so that both ways of a set share a cache line.
#[repr(align(64))]
struct Slots([AtomicU64; 1 << SLOTS_LOG2]);

/// `return address << 16 | packed rule`, 0 when empty. Any thread writes any word at any time (invariant 4).
static SLOTS: Slots = Slots([const { AtomicU64::new(0) }; 1 << SLOTS_LOG2]);
/// Full rules, insert-only; 0 when free. Index 0 stays free: it is what `END` means.
static FULL: [AtomicU64; ESCAPES] = [const { AtomicU64::new(0) }; ESCAPES];

/// The rule for the frame that `pc` is the return address of.
#[inline(always)]
pub(super) fn lookup(pc: usize) -> Packed {
    let set = set_of(pc);
    for way in 0..2 {
        let word = SLOTS.0[set + way].load(Relaxed);
        if word >> Packed::BITS == pc as u64 {
            return word as Packed;
        }
    }
    miss(pc, set)
}

/// The first slot of the address's set: its low bits, which tell call sites apart, and the bits that tell pages apart.
///
/// As good as a multiplication on the call sites of real binaries, and two cycles shorter in the chain that a walk waits for.
#[inline(always)]
fn set_of(pc: usize) -> usize {
    let sets = (1 << (SLOTS_LOG2 - 1)) - 1;
    ((pc ^ pc >> (SLOTS_LOG2 - 1)) & sets) * 2
}

#[cold]
#[inline(never)]
fn miss(pc: usize, set: usize) -> Packed {
    if pc as u64 >> ADDRESS_BITS != 0 {
        return END;
    }
    let packed = pack(parse::rule_at(pc - 1));
    let word = (pc as u64) << Packed::BITS | packed as u64;
    // The newer entry goes first; the one that stood there becomes the older.
    let first = SLOTS.0[set].load(Relaxed);
    if first != 0 {
        SLOTS.0[set + 1].store(first, Relaxed);
    }
    SLOTS.0[set].store(word, Relaxed);
    packed
}

fn pack(rule: Rule) -> Packed {
    if let Some(packed) = rule::pack_small(rule) {
        return packed;
    }
    let Some(word) = rule::pack_full(rule) else { return END };
    for (i, slot) in FULL.iter().enumerate().skip(1) {
        // The word is the whole message, so no ordering is needed.
        match slot.compare_exchange(0, word, Relaxed, Relaxed) {
            Ok(_) => return ESCAPE | i as Packed,
            Err(there) if there == word => return ESCAPE | i as Packed,
            Err(_) => {}
        }
    }
    END
}

/// The rule behind a packed rule that has the escape bit.
#[cold]
pub(super) fn escaped(packed: Packed) -> Rule {
    rule::unpack_full(FULL[(packed & !ESCAPE) as usize % ESCAPES].load(Relaxed))
}

/// How often the rules were forgotten: what was found by rules of another version is void.
static VERSION: AtomicU32 = AtomicU32::new(0);

#[inline(always)]
pub(super) fn version() -> u32 {
    VERSION.load(Relaxed)
}

/// Forgets every address. Full rules stay: they do not depend on where code lies.
pub(in super::super) fn forget() {
    VERSION.fetch_add(1, Relaxed);
    for slot in &SLOTS.0 {
        // Not to touch, and so commit, pages that were never used.
        if slot.load(Relaxed) != 0 {
            slot.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::unwind::imp::rule::Base;

    #[test]
    fn escapes_are_shared_and_come_back_whole() {
        let rules = [
            Rule::Signal,
            Rule::Realigned { offset: -8 },
            Rule::Frame { base: Base::StackPointer, cfa_offset: 1 << 20, fp: -16, ra: -8 },
        ];
        let packed = rules.map(pack);
        for (rule, packed) in rules.into_iter().zip(packed) {
            assert!(packed & ESCAPE != 0 && packed != END);
            assert_eq!(escaped(packed), rule);
            assert_eq!(pack(rule), packed);
        }
        assert_eq!(pack(Rule::End), END);
        assert_eq!(escaped(END), Rule::End);
    }
}
