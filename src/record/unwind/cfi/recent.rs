//! What a thread remembers of its last stack, so that the next one costs only the frames that differ.
//!
//! From one event to the next most of a thread's outer frames stay where they are. A frame's state (program counter, stack
//! pointer, frame pointer) and two words of the stack (the return address, and the saved frame pointer if there is one)
//! determine the caller's state. So as soon as a walk comes to a state of the last walk, the rest need not be walked: it
//! is enough to see that those words still say the same. These reads do not depend on each other, where steps do: about one
//! nanosecond a frame instead of five.

use core::ops::Range;

use super::super::StackBounds;
use super::Registers;
use super::arch;
use super::cache;
use super::rule::END;
use super::walk::{self, Stack, Step};

/// More frames than that are not remembered, nor taken.
const FRAMES_MAX: usize = 128;

/// The last stack of one thread, or nothing. All zeros are a valid value, and mean nothing.
#[derive(Debug)]
#[repr(C)]
pub struct Recent {
    /// Those of the last capture. Under others nothing is believed.
    bounds: StackBounds,
    epoch: usize,
    len: usize,
    /// Whether `frames[0]` has no caller.
    complete: bool,
    /// The outermost frame first, so that the ones that change are at the end.
    frames: [Frame; FRAMES_MAX],
    /// The frames that the running capture had to walk, leaf first.
    walked: [Frame; FRAMES_MAX],
}

/// The state of a frame, and how it followed from its callee's.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Frame {
    pc: usize,
    sp: usize,
    fp: usize,
    /// How far under `sp` the program counter was read; 0 if not there, or if that was not all.
    pc_below: u32,
    /// How far under `sp` the frame pointer was read; 0 if it is the callee's.
    fp_below: u32,
}

impl Frame {
    const NONE: Frame = Frame { pc: 0, sp: 0, fp: 0, pc_below: 0, fp_below: 0 };

    #[inline(always)]
    fn leaf(registers: Registers) -> Self {
        Frame { pc: registers.pc, sp: registers.sp, fp: registers.fp, ..Self::NONE }
    }

    /// The frame that a step from `callee` led to.
    #[inline(always)]
    fn caller(callee: &Frame, step: &Step) -> Self {
        let Registers { pc, sp, fp, .. } = step.to;
        // Only words above the callee's stack pointer: those are the caller's for as long as the callee runs, and inside the
        // bounds (invariant 1). `sp` is above both, so neither difference is 0 where the place is not.
        let below = |at: usize| u32::try_from(sp.wrapping_sub(at)).ok().filter(|_| at >= callee.sp);
        let fp_below = if step.fp_at == 0 { Some(0) } else { below(step.fp_at) };
        match (below(step.pc_at), fp_below) {
            (Some(pc_below), Some(fp_below)) => Frame { pc, sp, fp, pc_below, fp_below },
            _ => Frame { pc, sp, fp, pc_below: 0, fp_below: 0 },
        }
    }

    #[inline(always)]
    fn is(&self, other: &Frame) -> bool {
        self.pc == other.pc && self.sp == other.sp && self.fp == other.fp
    }

    #[inline(always)]
    fn registers(&self) -> Registers {
        Registers { pc: self.pc, sp: self.sp, fp: self.fp, lr: 0 }
    }

    /// Whether this frame still follows from its callee, which is as it was.
    ///
    /// # Safety
    /// The callee's stack pointer must be at or above the running thread's, on the stack of which the frame was recorded.
    #[inline(always)]
    unsafe fn follows(&self) -> bool {
        let word = |below: u32| {
            // SAFETY: `caller` has kept places between the callee's stack pointer and the stack's end only, aligned ones.
            unsafe { walk::load(self.sp - below as usize) }
        };
        self.pc_below != 0
            && arch::strip(word(self.pc_below)) == self.pc
            && (self.fp_below == 0 || word(self.fp_below) == self.fp)
    }
}

impl Recent {
    /// A thread that has no last stack.
    pub const fn new() -> Self {
        Recent {
            bounds: StackBounds::NONE,
            epoch: 0,
            len: 0,
            complete: false,
            frames: [Frame::NONE; FRAMES_MAX],
            walked: [Frame::NONE; FRAMES_MAX],
        }
    }

    /// As [`capture`](super::super::capture), for the one thread that this is of.
    #[inline(always)]
    pub(in super::super) fn capture(&mut self, out: &mut [usize], bounds: StackBounds) -> usize {
        if self.bounds != bounds {
            self.bounds = bounds;
            self.len = 0;
        }
        let len = out.len().min(FRAMES_MAX);
        // SAFETY: the pointer and the length are those of a slice that may be written.
        unsafe { arch::capture_recent(out.as_mut_ptr(), len, self) }
    }

    fn walk(&mut self, registers: Registers, out: &mut [usize]) -> usize {
        let Some(first) = out.first_mut() else { return 0 };
        *first = registers.pc;
        let Some(stack) = Stack::new(self.bounds, registers.sp) else { return 1 };
        let epoch = cache::epoch();
        if self.epoch != epoch {
            (self.epoch, self.len) = (epoch, 0);
        }
        let mut n = 1;
        let mut at = Frame::leaf(registers);
        // Until a frame is the one that it was.
        let (mut walked, mut known) = (0, self.len);
        let joined = loop {
            while known > 0 && self.frames[known - 1].sp < at.sp {
                known -= 1;
            }
            if known > 0 && self.frames[known - 1].is(&at) {
                break true;
            }
            self.walked[walked] = at;
            walked += 1;
            if n == out.len() {
                break false;
            }
            let Some(step) = walk::step(&stack, at.registers()) else { break false };
            at = Frame::caller(&at, &step);
            out[n] = at.pc;
            n += 1;
        };
        if !joined {
            self.complete = n < out.len() && cache::lookup(at.pc) == END;
            self.commit(0..0, walked, walked);
            return n;
        }
        // It may have come about in another way than it did: from a callee that saves other registers.
        self.frames[known - 1] = at;
        // While its callers follow.
        let kept = known;
        known -= 1;
        for caller in self.frames[..known].iter().rev() {
            // SAFETY: its callee's stack pointer is at or above that of the frame where the walks met, and so the thread's.
            if n == out.len() || !unsafe { caller.follows() } {
                break;
            }
            out[n] = caller.pc;
            n += 1;
            known -= 1;
        }
        if n == out.len() || (known == 0 && self.complete) {
            self.commit(0..kept, walked, walked);
            return n;
        }
        // And on from where they do not, or from where the last walk stopped.
        let inner = walked;
        at = self.frames[known];
        while n < out.len() {
            let Some(step) = walk::step(&stack, at.registers()) else { break };
            at = Frame::caller(&at, &step);
            self.walked[walked] = at;
            walked += 1;
            out[n] = at.pc;
            n += 1;
        }
        self.complete = n < out.len() && cache::lookup(at.pc) == END;
        self.commit(known..kept, inner, walked);
        n
    }

    /// Makes of the walked frames, and of the `kept` ones between those before and those from `inner` on, the last stack.
    #[inline(always)]
    fn commit(&mut self, kept: Range<usize>, inner: usize, walked: usize) {
        let mut kept = kept;
        let mut outer = inner..walked;
        let too_many = (walked + kept.len()).saturating_sub(FRAMES_MAX);
        if too_many > 0 {
            // The outermost go. (A walk is never longer than there is room, so the inner ones stay.)
            let of_outer = too_many.min(outer.len());
            outer.end -= of_outer;
            kept.start += too_many - of_outer;
            self.complete = false;
        }
        let (outer_len, kept_len) = (outer.len(), kept.len());
        if kept.start != outer_len && kept_len > 0 {
            self.frames.copy_within(kept, outer_len);
        }
        for (to, from) in self.frames[..outer_len].iter_mut().zip(self.walked[outer].iter().rev()) {
            *to = *from;
        }
        for (to, from) in self.frames[outer_len + kept_len..].iter_mut().zip(self.walked[..inner].iter().rev()) {
            *to = *from;
        }
        self.len = outer_len + kept_len + inner;
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}

/// The tail of `arch::capture_recent`: the caller's registers as arguments.
///
/// # Safety
/// `out` must be valid for `len` writes.
pub(super) unsafe extern "C" fn walk_raw(
    out: *mut usize,
    len: usize,
    recent: &mut Recent,
    pc: usize,
    sp: usize,
    fp: usize,
) -> usize {
    // SAFETY: the caller's.
    let out = unsafe { core::slice::from_raw_parts_mut(out, len) };
    recent.walk(Registers { pc: arch::strip(pc), sp, fp, lr: 0 }, out)
}
