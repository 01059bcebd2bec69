//! The walk: from frame to frame, in the invariants' order of checks.

use super::super::StackBounds;
use super::Registers;
use super::arch::{self, RED_ZONE_BYTES};
use super::cache;
use super::rule::{self, Base, Rule};

/// The part of the stack that may be read: every load goes through [`Stack::load`] or is shown to lie inside.
pub(super) struct Stack {
    floor: usize,
    hi: usize,
}

impl Stack {
    /// `None` when the stack pointer is not on the stack.
    #[inline(always)]
    pub(super) fn new(bounds: StackBounds, sp: usize) -> Option<Self> {
        let on_it = bounds.lo() <= sp && sp < bounds.hi() && sp.is_multiple_of(8);
        on_it.then(|| Stack { floor: bounds.lo().max(sp.saturating_sub(RED_ZONE_BYTES)), hi: bounds.hi() })
    }

    /// The word at `at`, if that is a word of the stack.
    #[inline(always)]
    pub(super) fn load(&self, at: usize) -> Option<usize> {
        // `hi` is at least 8 above an aligned address below it, since no bounds end within a word.
        let inside = at >= self.floor && at < self.hi && at.is_multiple_of(8);
        // SAFETY: invariant 1: `floor..hi` is mapped, as whoever made the bounds vouched for.
        inside.then(|| unsafe { load(at) })
    }
}

/// # Safety
/// `at` must be the aligned address of a mapped word.
#[inline(always)]
pub(super) unsafe fn load(at: usize) -> usize {
    // Volatile: these are other functions' locals, about which the compiler must not reason.
    // SAFETY: the caller's.
    unsafe { core::ptr::with_exposed_provenance::<usize>(at).read_volatile() }
}

/// The tail of `arch::capture`: the caller's registers as arguments.
///
/// # Safety
/// `out` must be valid for `len` writes.
pub(super) unsafe extern "C" fn walk_raw(
    out: *mut usize,
    len: usize,
    bounds: &StackBounds,
    pc: usize,
    sp: usize,
    fp: usize,
) -> usize {
    // SAFETY: the caller's.
    let out = unsafe { core::slice::from_raw_parts_mut(out, len) };
    walk(Registers { pc: arch::strip(pc), sp, fp, lr: 0 }, *bounds, out)
}

/// Writes the program counters of the frame in `registers` and of its callers, leaf first; returns how many.
#[inline(always)]
pub(in super::super) fn walk(registers: Registers, bounds: StackBounds, out: &mut [usize]) -> usize {
    let len = out.len();
    let mut slots = out.iter_mut();
    let Some(first) = slots.next() else { return 0 };
    *first = registers.pc;
    let Some(stack) = Stack::new(bounds, registers.sp) else { return 1 };
    // One by one, so that the compiler keeps them in registers.
    let Registers { mut pc, mut sp, mut fp, mut lr } = registers;
    while slots.len() > 0 {
        let Some(step) = step(&stack, Registers { pc, sp, fp, lr }) else { break };
        (pc, sp, fp, lr) = (step.to.pc, step.to.sp, step.to.fp, step.to.lr);
        if let Some(slot) = slots.next() {
            *slot = pc;
        }
    }
    len - slots.len()
}

/// A step to the caller's frame.
pub(super) struct Step {
    pub(super) to: Registers,
    /// Where `to.pc` was read; 0 if more than that word and the next decided about the step.
    pub(super) pc_at: usize,
    /// Where `to.fp` was read; 0 if it is the callee's.
    pub(super) fp_at: usize,
}

/// The step from a frame to its caller, if there is one.
#[inline(always)]
pub(super) fn step(stack: &Stack, at: Registers) -> Option<Step> {
    let packed = cache::lookup(at.pc);
    if packed & rule::ESCAPE != 0 {
        let Step { to, pc_at, fp_at } = step_escaped(stack, packed, at.pc, at.sp, at.fp, at.lr)?;
        // A constant on x86_64, which spares the walk a register.
        let lr = if arch::HAS_LINK_REGISTER { to.lr } else { 0 };
        return Some(Step { to: Registers { pc: to.pc, sp: to.sp, fp: to.fp, lr }, pc_at, fp_at });
    }
    let (base, offset, fp_slot, ra_slot) = rule::unpack_small(packed);
    let cfa = if base == Base::FramePointer { at.fp } else { at.sp }.wrapping_add(offset);
    // Invariant 2. A leaf that saved nothing has not moved the stack pointer either; its return address is in `lr`.
    let rises = cfa > at.sp || (ra_slot == 0 && cfa == at.sp);
    if !rises || cfa > stack.hi || !cfa.is_multiple_of(8) {
        return None;
    }
    let (fp, fp_at) = match fp_slot {
        0 => (at.fp, 0),
        _ => (stack.load(cfa - fp_slot)?, cfa - fp_slot),
    };
    let (pc, pc_at) = match ra_slot {
        0 => (at.lr, 0),
        // SAFETY: invariant 1: `floor <= sp <= cfa - 8 < hi`, since both are aligned and `cfa` is above `sp`.
        8 => (unsafe { load(cfa - 8) }, cfa - 8),
        _ => (stack.load(cfa - ra_slot)?, cfa - ra_slot),
    };
    let pc = arch::strip(pc);
    (pc != 0).then_some(Step { to: Registers { pc, sp: cfa, fp, lr: 0 }, pc_at, fp_at })
}

/// One step by a rule that has no small form. The registers come one by one, so that the hot loop need not store them.
#[cold]
#[inline(never)]
fn step_escaped(stack: &Stack, packed: rule::Packed, pc: usize, sp: usize, fp: usize, lr: usize) -> Option<Step> {
    let at = Registers { pc, sp, fp, lr };
    let step = match cache::escaped(packed) {
        Rule::End => return None,
        Rule::Frame { base, cfa_offset, fp, ra } => {
            let from = if base == Base::FramePointer { at.fp } else { at.sp };
            let cfa = from.wrapping_add_signed(cfa_offset as isize);
            let at_slot = |slot: i32| if slot == 0 { 0 } else { cfa.wrapping_add_signed(slot as isize) };
            let (pc_at, fp_at) = (at_slot(ra), at_slot(fp));
            let pc = if pc_at == 0 { at.lr } else { stack.load(pc_at)? };
            let fp = if fp_at == 0 { at.fp } else { stack.load(fp_at)? };
            Step { to: Registers { pc, sp: cfa, fp, lr: 0 }, pc_at, fp_at }
        }
        Rule::Realigned { offset } => {
            let cfa = stack.load(at.fp.wrapping_add_signed(offset as isize))?;
            let (pc, fp) = (stack.load(cfa.wrapping_sub(8))?, stack.load(at.fp)?);
            Step { to: Registers { pc, sp: cfa, fp, lr: 0 }, pc_at: 0, fp_at: 0 }
        }
        Rule::Signal => Step { to: arch::step_signal(stack, at.sp)?, pc_at: 0, fp_at: 0 },
    };
    let to = Registers { pc: arch::strip(step.to.pc), ..step.to };
    // Invariant 2, and 1 for the steps to come.
    let rises = to.sp > at.sp && to.sp <= stack.hi && to.sp.is_multiple_of(8);
    (rises && to.pc != 0).then_some(Step { to, ..step })
}
