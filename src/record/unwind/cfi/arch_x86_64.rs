//! What is particular to x86_64: registers, where the kernel saves them, and the expressions that stand for PLT stubs and
//! realigned frames.

use core::mem::offset_of;

use super::super::StackBounds;
use super::Registers;
use super::rule::{Base, Rule};
use super::walk::{Stack, walk_raw};

/// DWARF register numbers, System V ABI for AMD64, figure 3.36.
pub(super) const STACK_POINTER: u16 = 7;
pub(super) const FRAME_POINTER: u16 = 6;
pub(super) const RETURN_ADDRESS: u16 = 16;
/// Leaf functions may use this much memory under the stack pointer (the red zone of the same ABI).
pub(super) const RED_ZONE_BYTES: usize = 128;
/// Whether a call leaves the return address in a register.
pub(super) const HAS_LINK_REGISTER: bool = false;
pub(super) const VENDOR: gimli::Vendor = gimli::Vendor::Default;

/// Walks the caller's stack. It reads its own return address, and the stack and frame pointers as they are after it
/// returned, and goes on as [`walk_raw`]: so the first program counter lies in the caller, whatever is inlined where.
///
/// # Safety
/// `out` must be valid for `len` writes.
#[unsafe(naked)]
pub(in super::super) unsafe extern "C" fn capture(out: *mut usize, len: usize, bounds: &StackBounds) -> usize {
    core::arch::naked_asm!(
        "mov rcx, [rsp]",
        "lea r8, [rsp + 8]",
        "mov r9, rbp",
        "jmp {walk}",
        walk = sym walk_raw,
    )
}

/// The registers of the function that this is inlined into, here. In registers, not by way of memory: what is written in words and read
/// in pairs waits for the writes.
#[inline(always)]
pub(in super::super) fn here() -> Registers {
    let (pc, sp, fp): (usize, usize, usize);
    // SAFETY: reads registers. The address is that of the instruction behind, so the one before it is the first of these, where the
    // stack pointer is what it is at the second.
    unsafe {
        core::arch::asm!(
            "lea {pc}, [rip]",
            "mov {sp}, rsp",
            "mov {fp}, rbp",
            pc = out(reg) pc,
            sp = out(reg) sp,
            fp = out(reg) fp,
            options(nomem, nostack, preserves_flags)
        );
    }
    Registers { pc, sp, fp, lr: 0 }
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
    Registers { pc: at(context_word(REG_RIP)) + 1, sp: at(context_word(REG_RSP)), fp: at(context_word(REG_RBP)), lr: 0 }
}

/// The kernel's order of saved registers (`struct sigcontext`).
const REG_RBP: usize = 10;
const REG_RSP: usize = 15;
const REG_RIP: usize = 16;

/// The offset of a saved register in `ucontext_t`.
const fn context_word(register: usize) -> usize {
    offset_of!(libc::ucontext_t, uc_mcontext) + offset_of!(libc::mcontext_t, gregs) + register * 8
}

/// The interrupted registers below a signal frame. The handler returned to `__restore_rt`, so the stack pointer is at the context.
pub(super) fn step_signal(stack: &Stack, sp: usize) -> Option<Registers> {
    let at = |register| stack.load(sp.wrapping_add(context_word(register)));
    Some(Registers { pc: at(REG_RIP)?.wrapping_add(1), sp: at(REG_RSP)?, fp: at(REG_RBP)?, lr: 0 })
}

/// Return addresses are plain addresses here.
#[inline(always)]
pub(super) fn strip(pc: usize) -> usize {
    pc
}

/// The rule that a CFA expression stands for, at `address`. `fp_expression` is the one for the saved frame pointer, if any.
///
/// Linkers and GCC use two shapes; anything else (the lazy binder of the dynamic loader, hand-written code) is left alone.
pub(super) fn expression_rule(cfa: &[u8], fp_expression: Option<&[u8]>, address: usize) -> Option<Rule> {
    const BREG_FP: u8 = 0x70 + FRAME_POINTER as u8;
    const BREG_SP: u8 = 0x70 + STACK_POINTER as u8;
    const BREG_RA: u8 = 0x70 + RETURN_ADDRESS as u8;
    const DEREF: u8 = 0x06;
    const LIT0: u8 = 0x30;
    match (cfa, fp_expression) {
        // A PLT stub pushes a word in its last instructions: `sp + offset + ((pc & 15) >= limit) << 3`. Address decides.
        // breg7 offset, breg16 0, lit15, and, lit limit, ge, lit3, shl, plus
        (&[BREG_SP, offset @ 0..0x40, BREG_RA, 0, 0x3f, 0x1a, limit @ LIT0..0x40, 0x2a, 0x33, 0x24, 0x22], None) => {
            let pushed = address & 15 >= (limit - LIT0) as usize;
            let cfa_offset = offset as i32 + if pushed { 8 } else { 0 };
            Some(Rule::Frame { base: Base::StackPointer, cfa_offset, fp: 0, ra: -8 })
        }
        // breg6 offset, deref, and the frame pointer saved at breg6 0. The offset is a one-byte SLEB128.
        (&[BREG_FP, offset @ 0..0x80, DEREF], Some(&[BREG_FP, 0])) => {
            Some(Rule::Realigned { offset: ((offset << 1) as i8 >> 1) as i32 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plt_stubs_depend_on_the_address_and_realigned_frames_do_not() {
        let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        let frame = |cfa_offset| Some(Rule::Frame { base: Base::StackPointer, cfa_offset, fp: 0, ra: -8 });
        assert_eq!(expression_rule(&plt, None, 0x1000), frame(8));
        assert_eq!(expression_rule(&plt, None, 0x100a), frame(8));
        assert_eq!(expression_rule(&plt, None, 0x100b), frame(16));
        assert_eq!(expression_rule(&[0x76, 0x78, 6], Some(&[0x76, 0]), 0), Some(Rule::Realigned { offset: -8 }));
        assert_eq!(expression_rule(&[0x76, 0x78, 6], None, 0), None);
        assert_eq!(expression_rule(&[0x73, 8], None, 0), None);
        assert_eq!(expression_rule(&[], None, 0), None);
    }
}
