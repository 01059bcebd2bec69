//! The walk: from frame to frame, in the invariants' order of checks.

use super::super::StackBounds;
use super::Registers;
use super::arch::{self, RED_ZONE_BYTES};
use super::cache;
use super::rule::{self, Base, Rule};

/// Who wants to know which words of the stack a walk has read. What it finds depends on them and on the registers alone.
pub(in super::super) trait Words {
    /// The word at `at` was read and is `value`.
    fn read(&mut self, at: usize, value: usize);

    /// The word at `at` was read and is the frame pointer's `value` from now on. Most code keeps something else in that register: it matters
    /// only when it is [used](Words::use_fp).
    fn restore_fp(&mut self, at: usize, value: usize);

    /// The frame pointer was used.
    fn use_fp(&mut self);

    /// Words were read that are not told of.
    fn give_up(&mut self);
}

/// Nobody.
impl Words for () {
    #[inline(always)]
    fn read(&mut self, _at: usize, _value: usize) {}

    #[inline(always)]
    fn restore_fp(&mut self, _at: usize, _value: usize) {}

    #[inline(always)]
    fn use_fp(&mut self) {}

    fn give_up(&mut self) {}
}

/// The part of the stack that may be read: every load goes through [`Stack::load`] or is shown to lie inside.
pub(super) struct Stack {
    floor: usize,
    hi: usize,
}

impl Stack {
    /// `None` when the stack pointer is not on the stack.
    #[inline(always)]
    fn new(bounds: StackBounds, sp: usize) -> Option<Self> {
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
    walk(Registers { pc: arch::strip(pc), sp, fp, lr: 0 }, *bounds, out, &mut ())
}

/// Writes the program counters of the frame in `registers` and of its callers, leaf first; returns how many.
#[inline(always)]
pub(in super::super) fn walk(
    registers: Registers,
    bounds: StackBounds,
    out: &mut [usize],
    words: &mut impl Words,
) -> usize {
    let len = out.len();
    let mut slots = out.iter_mut();
    let Registers { mut pc, mut sp, mut fp, mut lr } = registers;
    let Some(first) = slots.next() else { return 0 };
    *first = pc;
    let Some(stack) = Stack::new(bounds, sp) else { return 1 };
    while slots.len() > 0 {
        let packed = cache::lookup(pc);
        if packed & rule::ESCAPE != 0 {
            let Some(next) = step_escaped(&stack, packed, Registers { pc, sp, fp, lr }, words) else { break };
            (pc, sp, fp) = (next.pc, next.sp, next.fp);
            // A constant on x86_64, which spares the loop a register.
            lr = if arch::HAS_LINK_REGISTER { next.lr } else { 0 };
        } else {
            let (base, offset, fp_slot, ra_slot) = rule::unpack_small(packed);
            if base == Base::FramePointer {
                words.use_fp();
            }
            let cfa = if base == Base::FramePointer { fp } else { sp }.wrapping_add(offset);
            // Invariant 2. A leaf that saved nothing has not moved the stack pointer either; its return address is in `lr`.
            let rises = cfa > sp || (ra_slot == 0 && cfa == sp);
            if !rises || cfa > stack.hi || !cfa.is_multiple_of(8) {
                break;
            }
            if fp_slot != 0 {
                let Some(saved) = stack.load(cfa - fp_slot) else { break };
                words.restore_fp(cfa - fp_slot, saved);
                fp = saved;
            }
            pc = match ra_slot {
                0 => lr,
                8 => {
                    // SAFETY: invariant 1: `floor <= sp <= cfa - 8 < hi`, since both are aligned and `cfa` is above `sp`.
                    let saved = unsafe { load(cfa - 8) };
                    words.read(cfa - 8, saved);
                    saved
                }
                _ => match stack.load(cfa - ra_slot) {
                    Some(saved) => {
                        words.read(cfa - ra_slot, saved);
                        saved
                    }
                    None => break,
                },
            };
            sp = cfa;
            lr = 0;
        }
        pc = arch::strip(pc);
        if pc == 0 {
            break;
        }
        if let Some(slot) = slots.next() {
            *slot = pc;
        }
    }
    len - slots.len()
}

/// One step by a rule that has no small form.
#[cold]
#[inline(never)]
fn step_escaped(stack: &Stack, packed: rule::Packed, at: Registers, words: &mut impl Words) -> Option<Registers> {
    let next = match cache::escaped(packed) {
        Rule::End => return None,
        Rule::Frame { base, cfa_offset, fp, ra } => {
            if base == Base::FramePointer {
                words.use_fp();
            }
            let from = if base == Base::FramePointer { at.fp } else { at.sp };
            let cfa = from.wrapping_add_signed(cfa_offset as isize);
            let saved = |slot: i32| {
                let address = cfa.wrapping_add_signed(slot as isize);
                stack.load(address).map(|value| (address, value))
            };
            let pc = match ra {
                0 => at.lr,
                _ => {
                    let (address, pc) = saved(ra)?;
                    words.read(address, pc);
                    pc
                }
            };
            let fp = match fp {
                0 => at.fp,
                _ => {
                    let (address, fp) = saved(fp)?;
                    words.restore_fp(address, fp);
                    fp
                }
            };
            Registers { pc, sp: cfa, fp, lr: 0 }
        }
        Rule::Realigned { offset } => {
            words.use_fp();
            let cfa_at = at.fp.wrapping_add_signed(offset as isize);
            let cfa = stack.load(cfa_at)?;
            words.read(cfa_at, cfa);
            let pc_at = cfa.wrapping_sub(8);
            let pc = stack.load(pc_at)?;
            words.read(pc_at, pc);
            let fp = stack.load(at.fp)?;
            words.restore_fp(at.fp, fp);
            Registers { pc, sp: cfa, fp, lr: 0 }
        }
        Rule::Signal => {
            words.give_up();
            arch::step_signal(stack, at.sp)?
        }
    };
    // Invariant 2, and 1 for the steps to come.
    (next.sp > at.sp && next.sp <= stack.hi && next.sp.is_multiple_of(8)).then_some(next)
}
