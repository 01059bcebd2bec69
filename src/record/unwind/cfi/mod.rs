//! The unwinder proper, for Linux: call frame information with a rule cache. The parent module tells the whole story.

#[cfg_attr(target_arch = "x86_64", path = "arch_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch_aarch64.rs")]
mod arch;
mod cache;
mod find;
mod memo;
mod parse;
mod rule;
mod walk;

pub(super) use arch::{capture, here, interrupted};
pub(super) use cache::forget;
pub(super) use find::refresh;
pub use memo::Memo;
pub(super) use walk::walk;

/// What a step needs of a suspended frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Registers {
    /// A return address, or an exact address plus one (invariant 5).
    pc: usize,
    sp: usize,
    /// The frame pointer, or whatever the code keeps in that register.
    fp: usize,
    /// The link register, where there is one and it may still hold the return address; else 0.
    lr: usize,
}
