//! Stacks where there is no unwinder of our own: frame pointers on Apple systems, whose ABI keeps them; else the `backtrace` crate.
//!
//! Compiled for those targets only, and never run on them by us.

use super::StackBounds;

/// A suspended frame. `pc` 0 means that nothing is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    pc: usize,
    sp: usize,
    fp: usize,
}

pub(super) fn refresh() {}

/// Nothing is remembered here: each stack is walked.
#[derive(Debug, Default)]
pub struct Memo(());

impl Memo {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Memo {
        Memo(())
    }

    #[inline(always)]
    pub(super) fn number(
        &mut self,
        _registers: Registers,
        _key: u64,
        bounds: StackBounds,
        out: &mut [usize],
        before: usize,
        number: impl FnOnce(&[usize]) -> u32,
    ) -> u32 {
        let Some(stack) = out.get_mut(before..) else { return 0 };
        // SAFETY: the pointer and the length are those of a slice that may be written.
        let n = unsafe { capture(stack.as_mut_ptr(), stack.len(), &bounds) };
        number(&out[..before + n])
    }
}

/// A capture reads the registers itself.
#[inline(always)]
pub(super) fn here() -> Registers {
    Registers { pc: 0, sp: 0, fp: 0 }
}

pub(super) fn forget() {}

/// # Safety
/// `out` must be valid for `len` writes.
#[cfg(target_vendor = "apple")]
#[inline(never)]
pub(super) unsafe fn capture(out: *mut usize, len: usize, bounds: &StackBounds) -> usize {
    let fp: usize;
    // SAFETY: reads a register.
    unsafe {
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("mov {}, rbp", out(reg) fp, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: the caller's.
    let out = unsafe { core::slice::from_raw_parts_mut(out, len) };
    // This function has a frame of its own, whose caller is the first that is wanted.
    follow(fp, fp, *bounds, out)
}

/// Writes the return addresses of the frame records from `fp` on: each is the caller's record and a return address.
#[cfg(target_vendor = "apple")]
fn follow(mut fp: usize, sp: usize, bounds: StackBounds, out: &mut [usize]) -> usize {
    let mut floor = sp.max(bounds.lo());
    for (n, slot) in out.iter_mut().enumerate() {
        let inside = fp >= floor && fp.is_multiple_of(8) && fp < bounds.hi() && bounds.hi() - fp >= 16;
        if !inside || sp < bounds.lo() {
            return n;
        }
        let record = core::ptr::with_exposed_provenance::<usize>(fp);
        // SAFETY: both words lie inside the bounds, whose memory is mapped from the stack pointer up.
        let (next, pc) = unsafe { (record.read_volatile(), record.add(1).read_volatile()) };
        // Signed return addresses (arm64e) have their signature in the bits that no user address has.
        let pc = pc & ((1 << 47) - 1);
        if pc == 0 {
            return n;
        }
        *slot = pc;
        // Strictly rising, so the loop ends on a corrupt stack too.
        floor = fp + 16;
        fp = next;
    }
    out.len()
}

#[cfg(target_vendor = "apple")]
pub(super) fn walk(registers: Registers, bounds: StackBounds, out: &mut [usize], _words: &mut ()) -> usize {
    let Some((first, rest)) = out.split_first_mut() else { return 0 };
    *first = registers.pc;
    // Between a function's first two instructions its caller is missed: frame pointers cannot do better.
    1 + follow(registers.fp, registers.sp, bounds, rest)
}

/// # Safety
/// `context` must point to the `ucontext_t` of a signal handler that is still running.
#[cfg(target_vendor = "apple")]
pub(super) unsafe fn interrupted(context: *const libc::c_void) -> Registers {
    // `struct __darwin_ucontext`: the pointer to the machine context is at byte 48. That begins with 16 bytes about the
    // exception; then come the registers (`struct __darwin_arm_thread_state64`, `struct __darwin_x86_thread_state64`).
    const MCONTEXT: usize = 48;
    #[cfg(target_arch = "aarch64")]
    const FP_SP_PC: [usize; 3] = [16 + 29 * 8, 16 + 31 * 8, 16 + 32 * 8];
    #[cfg(target_arch = "x86_64")]
    const FP_SP_PC: [usize; 3] = [16 + 6 * 8, 16 + 7 * 8, 16 + 16 * 8];
    // SAFETY: the caller's; the offsets are those of the system's headers.
    let [fp, sp, pc] = unsafe {
        let registers = context.byte_add(MCONTEXT).cast::<*const libc::c_void>().read();
        FP_SP_PC.map(|offset| registers.byte_add(offset).cast::<usize>().read())
    };
    Registers { pc: pc + 1, sp, fp }
}

/// # Safety
/// `out` must be valid for `len` writes.
#[cfg(not(target_vendor = "apple"))]
#[inline(never)]
pub(super) unsafe fn capture(out: *mut usize, len: usize, _bounds: &StackBounds) -> usize {
    // SAFETY: the caller's.
    let out = unsafe { core::slice::from_raw_parts_mut(out, len) };
    let mut n = 0;
    let each = |frame: &backtrace::Frame| {
        if let Some(slot) = out.get_mut(n) {
            *slot = frame.ip().addr();
            n += 1;
        }
        n < len
    };
    // SAFETY: without the crate's lock, which a hook must not take: on these targets the system's unwinder underneath is
    // itself fit for several threads. The leading frames of the crate and of this file are for the symbolizer to remove.
    unsafe { backtrace::trace_unsynchronized(each) };
    n
}

/// The layout of this target's context is not known here, so nothing is.
///
/// # Safety
/// None needed; the other targets' functions of this name have conditions.
#[cfg(not(target_vendor = "apple"))]
pub(super) unsafe fn interrupted(_context: *const libc::c_void) -> Registers {
    Registers { pc: 0, sp: 0, fp: 0 }
}

#[cfg(not(target_vendor = "apple"))]
pub(super) fn walk(registers: Registers, _bounds: StackBounds, out: &mut [usize], _words: &mut ()) -> usize {
    let Registers { pc, sp: _, fp: _ } = registers;
    match out.first_mut() {
        Some(first) if pc != 0 => {
            *first = pc;
            1
        }
        _ => 0,
    }
}
