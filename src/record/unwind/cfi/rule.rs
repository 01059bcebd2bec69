//! How to step from one frame to its caller: the rule, and its packed forms.
//!
//! Almost every frame of real code is described by three small numbers, which fit into the 15 bits that the rule cache
//! has left beside a return address. The rest goes, whole, into the escape table. Everything here is a pure function.

/// Which register the canonical frame address (CFA: the stack pointer before the call) is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    StackPointer,
    FramePointer,
}

/// A step from a frame to its caller. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The caller cannot be found: the outermost frame, or code whose tables say nothing that we understand.
    End,
    /// `cfa = base + cfa_offset`; the caller's frame pointer stands at `cfa + fp`, its program counter at `cfa + ra`.
    ///
    /// `fp` 0 stands for "still in the register", `ra` 0 for "still in the link register": nothing is saved *at* the CFA.
    Frame { base: Base, cfa_offset: i32, fp: i32, ra: i32 },
    /// A frame that realigned its stack: `cfa = *(frame pointer + offset)`, and the caller's frame pointer stands at
    /// `*frame pointer`. The return address is just under the CFA. (GCC, for functions with over-aligned locals.)
    Realigned { offset: i32 },
    /// A signal frame: the interrupted registers stand in the `ucontext_t` that the kernel put on the stack.
    Signal,
}

/// The packed rule: with bit 15 clear a small frame, with bit 15 set an index into the escape table. `ESCAPE` alone is [`Rule::End`].
pub(super) type Packed = u16;
pub(super) const ESCAPE: Packed = 0x8000;
pub(super) const END: Packed = ESCAPE;

/// Bit 14 is the base. The other 14 bits are the architecture's; the CFA offset stands in place, so that one mask extracts it.
const FRAME_POINTER_BASED: Packed = 0x4000;

/// The small form of a rule, if it has one.
pub(super) fn pack_small(rule: Rule) -> Option<Packed> {
    let Rule::Frame { base, cfa_offset, fp, ra } = rule else { return None };
    let fields = small::pack(cfa_offset, fp, ra)?;
    Some(if base == Base::FramePointer { FRAME_POINTER_BASED | fields } else { fields })
}

/// The fields of a small packed rule: base, CFA offset, and how far under the CFA the frame pointer (0: in its register) and
/// the return address (0: in the link register) are saved.
#[inline(always)]
pub(super) fn unpack_small(rule: Packed) -> (Base, usize, usize, usize) {
    debug_assert!(rule & ESCAPE == 0);
    let base = if rule & FRAME_POINTER_BASED != 0 { Base::FramePointer } else { Base::StackPointer };
    let (offset, fp, ra) = small::unpack(rule as usize);
    (base, offset, fp, ra)
}

/// x86_64: the call instruction pushes the return address, so it is always the word under the CFA.
///
/// Bits 3..12 are the CFA offset, up to 4,088 bytes; bits 0..3 and 12..14 the frame pointer's slot, up to 31 words.
#[cfg(target_arch = "x86_64")]
mod small {
    const OFFSET: usize = 0x0ff8;

    pub(super) fn pack(cfa_offset: i32, fp: i32, ra: i32) -> Option<u16> {
        let (offset, slot) = (usize::try_from(cfa_offset).ok()?, usize::try_from(-fp).ok()?);
        let fits = offset != 0 && offset & !OFFSET == 0 && slot & !0xf8 == 0 && ra == -8;
        fits.then_some((offset | slot >> 3 & 7 | (slot >> 6) << 12) as u16)
    }

    #[inline(always)]
    pub(super) fn unpack(rule: usize) -> (usize, usize, usize) {
        (rule & OFFSET, (rule & 7) << 3 | (rule >> 12 & 3) << 6, 8)
    }
}

/// aarch64: a function that calls others saves frame pointer and link register as a pair; a leaf saves neither.
///
/// Bits 4..13 are the CFA offset, up to 8,176 bytes; bits 0..4 and 13 the pair's place, up to 31 pairs.
#[cfg(not(target_arch = "x86_64"))]
mod small {
    const OFFSET: usize = 0x1ff0;

    pub(super) fn pack(cfa_offset: i32, fp: i32, ra: i32) -> Option<u16> {
        let (offset, slot) = (usize::try_from(cfa_offset).ok()?, usize::try_from(-fp).ok()?);
        let pair = if slot == 0 { ra == 0 } else { ra == fp + 8 };
        let fits = offset & !OFFSET == 0 && slot & !0x1f0 == 0 && pair;
        fits.then_some((offset | slot >> 4 & 15 | (slot >> 8) << 13) as u16)
    }

    #[inline(always)]
    pub(super) fn unpack(rule: usize) -> (usize, usize, usize) {
        let fp = (rule & 15) << 4 | (rule >> 13 & 1) << 8;
        (rule & OFFSET, fp, fp.saturating_sub(8))
    }
}

/// The full form, for the escape table: never 0. `None` when an offset is out of its range, which ends the stack.
///
/// Bits 0..2 the kind, bit 2 the base, 20 bits the CFA offset, 20 bits each the two slots, all in words.
pub(super) fn pack_full(rule: Rule) -> Option<u64> {
    fn words(bytes: i32, shift: u32) -> Option<u64> {
        let words = bytes / 8;
        let fits = bytes % 8 == 0 && (-(1 << 19)..1 << 19).contains(&words);
        fits.then_some((words as u64 & 0xf_ffff) << shift)
    }
    Some(match rule {
        Rule::End => return None,
        Rule::Frame { base, cfa_offset, fp, ra } => {
            1 | ((base == Base::FramePointer) as u64) << 2 | words(cfa_offset, 3)? | words(fp, 23)? | words(ra, 43)?
        }
        Rule::Realigned { offset } => 2 | words(offset, 3)?,
        Rule::Signal => 3,
    })
}

/// The inverse of [`pack_full`].
pub(super) fn unpack_full(word: u64) -> Rule {
    // Shifting the field to the top and back down, arithmetically, extends its sign.
    let bytes = |shift: u32| ((word << (44 - shift)) as i64 >> 44) as i32 * 8;
    let base = if word & 4 != 0 { Base::FramePointer } else { Base::StackPointer };
    match word & 3 {
        1 => Rule::Frame { base, cfa_offset: bytes(3), fp: bytes(23), ra: bytes(43) },
        2 => Rule::Realigned { offset: bytes(3) },
        3 => Rule::Signal,
        _ => Rule::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a small packed rule says, as the general form.
    fn small(rule: Packed) -> Rule {
        let (base, cfa_offset, fp, ra) = unpack_small(rule);
        Rule::Frame { base, cfa_offset: cfa_offset as i32, fp: -(fp as i32), ra: -(ra as i32) }
    }

    #[test]
    fn every_packed_rule_unpacks_to_itself() {
        for base in [Base::StackPointer, Base::FramePointer] {
            for cfa_offset in (-16..8 * 600).step_by(8) {
                for fp in (-320..=8).step_by(8) {
                    for ra in [-16, -8, 0, fp + 8] {
                        let rule = Rule::Frame { base, cfa_offset, fp, ra };
                        if let Some(p) = pack_small(rule) {
                            assert!(p & ESCAPE == 0, "{rule:?} packs to an escape");
                            assert_eq!(small(p), rule);
                        }
                        assert_eq!(unpack_full(pack_full(rule).expect("in range")), rule);
                    }
                }
            }
        }
        for rule in [Rule::Signal, Rule::Realigned { offset: -8 }, Rule::Realigned { offset: 4096 }] {
            assert_eq!(pack_small(rule), None);
            assert_eq!(unpack_full(pack_full(rule).expect("in range")), rule);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn common_rules_are_small_and_strange_ones_are_not() {
        let frame = |cfa_offset, fp, ra| pack_small(Rule::Frame { base: Base::StackPointer, cfa_offset, fp, ra });
        assert!(frame(8, 0, -8).is_some());
        assert!(frame(8 * 511, -8 * 31, -8).is_some());
        for (cfa_offset, fp, ra) in
            [(0, 0, -8), (12, 0, -8), (8 * 512, 0, -8), (8, 8, -8), (8, -8 * 32, -8), (8, 0, -16)]
        {
            assert_eq!(frame(cfa_offset, fp, ra), None, "{cfa_offset} {fp} {ra}");
        }
    }

    #[test]
    fn rules_out_of_range_are_refused() {
        let frame = |cfa_offset| pack_full(Rule::Frame { base: Base::StackPointer, cfa_offset, fp: 0, ra: -8 });
        assert!(frame((1 << 22) - 8).is_some());
        assert!(frame(-(1 << 22)).is_some());
        for cfa_offset in [1 << 22, -(1 << 22) - 8, 4, i32::MIN + 4] {
            assert_eq!(frame(cfa_offset), None, "{cfa_offset}");
        }
        assert_eq!(pack_full(Rule::End), None);
    }
}
