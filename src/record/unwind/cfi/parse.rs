//! The rule at an address, read from its module's call frame information: the slow path of the cache (1 to 3 us).
//!
//! Needs about 4 KiB of stack and nothing else: gimli gets storage of a fixed, small size.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, NativeEndian, Pointer, Register, RegisterRule,
    UnwindContext, UnwindContextStorage, UnwindExpression, UnwindSection, UnwindTableRow,
};

use super::arch;
use super::find::{self, Module};
use super::rule::{Base, Rule};

type Reader = EndianSlice<'static, NativeEndian>;

/// Storage for gimli on the stack. Rows of real code have at most 7 registers on x86_64 and 20 on aarch64, and remember
/// their state at most once within another; code that needs more ends the stack.
struct Fixed;

impl UnwindContextStorage<usize> for Fixed {
    type Rules = [(Register, RegisterRule<usize>); 24];
    type Stack = [UnwindTableRow<usize, Self>; 3];
}

/// How to step out of the frame that executes the instruction at `address`.
pub(super) fn rule_at(address: usize) -> Rule {
    find::module_of(address).and_then(|module| rule_in(module, address)).unwrap_or(Rule::End)
}

fn rule_in(module: Module, address: usize) -> Option<Rule> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(module.eh_frame_hdr as u64).set_text(module.start as u64);
    let hdr = EhFrameHdr::new(bytes(module.eh_frame_hdr, module.end)?, NativeEndian);
    let hdr = hdr.parse(&bases, size_of::<usize>() as u8).ok()?;
    let Pointer::Direct(eh_frame_at) = hdr.eh_frame_ptr() else { return None };
    let mut eh_frame = EhFrame::new(bytes(eh_frame_at as usize, module.end)?, NativeEndian);
    eh_frame.set_vendor(arch::VENDOR);
    let bases = bases.set_eh_frame(eh_frame_at);
    let fde = hdr.table()?.fde_for_address(&eh_frame, &bases, address as u64, EhFrame::cie_from_offset).ok()?;
    if fde.is_signal_trampoline() {
        return Some(Rule::Signal);
    }
    let mut context = UnwindContext::<usize, Fixed>::new_in();
    let row = fde.unwind_info_for_address(&eh_frame, &bases, &mut context, address as u64).ok()?;
    rule_of(row, &eh_frame, address)
}

/// The memory of a mapped module from `start` on, which only as much of is read as the format's own lengths say.
fn bytes(start: usize, end: usize) -> Option<&'static [u8]> {
    let len = end.checked_sub(start)?;
    // SAFETY: the range lies in a module that stays mapped while one of its functions is on the stack of this thread.
    // (An address that the walk took from a broken stack may be of any module; see `invalidate`.)
    Some(unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(start), len) })
}

fn rule_of(row: &UnwindTableRow<usize, Fixed>, eh_frame: &EhFrame<Reader>, address: usize) -> Option<Rule> {
    let fp_rule = row.register(Register(arch::FRAME_POINTER));
    let ra = match row.register(Register(arch::RETURN_ADDRESS)) {
        Some(RegisterRule::Offset(offset)) => i32::try_from(offset).ok().filter(|&offset| offset != 0)?,
        // No rule: not moved. That makes sense only where calls leave the return address in a register.
        None | Some(RegisterRule::SameValue) if arch::HAS_LINK_REGISTER => 0,
        // "Undefined" is how the first function of a thread says that it is the last frame.
        _ => return None,
    };
    let expression = |e: &UnwindExpression<usize>| e.get(eh_frame).ok().map(|e| e.0.slice());
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let base = match register.0 {
                arch::STACK_POINTER => Base::StackPointer,
                arch::FRAME_POINTER => Base::FramePointer,
                _ => return None,
            };
            let fp = match fp_rule {
                None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => 0,
                Some(RegisterRule::Offset(offset)) => i32::try_from(offset).ok().filter(|&offset| offset != 0)?,
                _ => return None,
            };
            Some(Rule::Frame { base, cfa_offset: i32::try_from(*offset).ok()?, fp, ra })
        }
        CfaRule::Expression(cfa) => {
            let fp = match fp_rule {
                None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => None,
                Some(RegisterRule::Expression(fp)) => Some(expression(&fp)?),
                _ => return None,
            };
            arch::expression_rule(expression(cfa)?, fp, address).filter(|_| ra == -(size_of::<usize>() as i32))
        }
    }
}
