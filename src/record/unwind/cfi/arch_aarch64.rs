//! What is particular to aarch64: registers, the link register, signed return addresses, and where the kernel saves them.
//!
//! Written after the ABI and the kernel's headers; it was never run.

use core::mem::offset_of;

use super::super::StackBounds;
use super::Registers;
use super::rule::Rule;
use super::walk::{Stack, walk_raw};

/// DWARF register numbers, "DWARF for the Arm 64-bit Architecture", table 4.1.
pub(super) const STACK_POINTER: u16 = 31;
pub(super) const FRAME_POINTER: u16 = 29;
pub(super) const RETURN_ADDRESS: u16 = 30;
/// The Linux ABI has no red zone: memory under the stack pointer is the kernel's.
pub(super) const RED_ZONE_BYTES: usize = 0;
/// Whether a call leaves the return address in a register.
pub(super) const HAS_LINK_REGISTER: bool = true;
/// Makes gimli accept the instruction that says "the return address is signed from here on".
pub(super) const VENDOR: gimli::Vendor = gimli::Vendor::AArch64;

/// The registers stand this far into the signal frame, behind the `siginfo_t` (`struct rt_sigframe` of the kernel).
const SIGINFO_BYTES: usize = 128;

/// Walks the caller's stack. The link register is this call's return address, so the first program counter lies in the
/// caller, whatever is inlined where; the caller has saved its own.
///
/// # Safety
/// `out` must be valid for `len` writes.
#[unsafe(naked)]
pub(in super::super) unsafe extern "C" fn capture(out: *mut usize, len: usize, bounds: &StackBounds) -> usize {
    core::arch::naked_asm!(
        "mov x3, x30",
        "mov x4, sp",
        "mov x5, x29",
        "b {walk}",
        walk = sym walk_raw,
    )
}

/// The caller's registers, as they are after this call.
#[inline(always)]
pub(in super::super) fn here() -> Registers {
    let mut r = Registers { pc: 0, sp: 0, fp: 0, lr: 0 };
    // SAFETY: `r` may be written.
    unsafe { here_raw(&mut r) };
    Registers { pc: strip(r.pc), ..r }
}

/// # Safety
/// `to` must be valid for a write.
#[unsafe(naked)]
unsafe extern "C" fn here_raw(to: &mut Registers) {
    core::arch::naked_asm!(
        "str x30, [x0, {pc}]",
        "mov x1, sp",
        "str x1, [x0, {sp}]",
        "str x29, [x0, {fp}]",
        "ret",
        pc = const offset_of!(Registers, pc),
        sp = const offset_of!(Registers, sp),
        fp = const offset_of!(Registers, fp),
    )
}

/// The registers of the code that a signal interrupted.
///
/// # Safety
/// `context` must point to the `ucontext_t` of a signal handler that is still running.
pub(in super::super) unsafe fn interrupted(context: *const libc::c_void) -> Registers {
    let at = |offset: usize| {
        // SAFETY: the offset is that of a word of the `ucontext_t` that the caller vouches for.
        unsafe { context.byte_add(offset).cast::<usize>().read() }
    };
    Registers { pc: at(PC) + 1, sp: at(SP), fp: at(register(29)), lr: strip(at(register(30))) }
}

const MCONTEXT: usize = offset_of!(libc::ucontext_t, uc_mcontext);
const PC: usize = MCONTEXT + offset_of!(libc::mcontext_t, pc);
const SP: usize = MCONTEXT + offset_of!(libc::mcontext_t, sp);

/// The offset of a saved general register in `ucontext_t`.
const fn register(n: usize) -> usize {
    MCONTEXT + offset_of!(libc::mcontext_t, regs) + n * 8
}

/// The interrupted registers below a signal frame.
pub(super) fn step_signal(stack: &Stack, sp: usize) -> Option<Registers> {
    let at = |offset: usize| stack.load(sp.wrapping_add(SIGINFO_BYTES + offset));
    Some(Registers { pc: at(PC)?.wrapping_add(1), sp: at(SP)?, fp: at(register(29))?, lr: strip(at(register(30))?) })
}

/// Removes the signature from a return address: user addresses have 48 bits unless a program asks for more.
#[inline(always)]
pub(super) fn strip(pc: usize) -> usize {
    pc & ((1 << 48) - 1)
}

/// No compiler or linker describes code of this architecture by expressions that matter here.
pub(super) fn expression_rule(_cfa: &[u8], _fp_expression: Option<&[u8]>, _address: usize) -> Option<Rule> {
    None
}
