//! Call stacks of the running thread: fast, without build flags, and harmless wherever a hook or a signal handler may stand.
//!
//! [`capture`] returns the program counters of the caller and of its callers, leaf first. Names, inlined frames and the
//! removal of the tracer's own frames are [`symbolize`](super::symbolize)'s, on the writer's thread.
//!
//! # How
//! Compilers describe in `.eh_frame`, for exceptions and panics, how to step from any instruction to the caller (the call
//! frame information, CFI). Reading it is slow, so the answer for each return address is kept, packed beside the address
//! in one 64-bit word of a global table: a warm step is one multiplication, one or two loads and two reads of the stack.
//!
//! ```text
//! capture -> arch (registers) -> walk -> cache (return address -> rule) -> next frame
//!                                          | miss
//!                                          v
//!                            find (module of the address) -> parse (its rule, by gimli)
//! ```
//!
//! # Invariants
//! 1. *Every load of the walk lies inside the stack bounds it was given, at or above the interrupted stack pointer less
//!    the red zone.* That memory is mapped, so no wrong rule, no overwritten stack and no foreign code can make it fault.
//! 2. *The CFA rises strictly.* So the walk ends, even on a corrupt stack.
//! 3. *Nothing allocates, locks, prints, panics or calls a function that may be hooked.* A signal can interrupt any of it, and
//!    it can run inside an allocator. The exceptions are [`init`] and [`StackBounds::of_current_thread`], which say so.
//! 4. *A table word is whole.* Address and rule are written by one store, so racing writers may lose an entry, never mix two.
//! 5. *A program counter in the result is a return address, or, for an interrupted frame, the exact address plus one.* So the
//!    instruction to look up is always the one at `pc - 1`.
//!
//! # Targets
//! CFI on Linux, x86_64 and aarch64 (the latter is written but was never run). Frame pointers on macOS, where the platform
//! demands them. Elsewhere the `backtrace` crate, which is slow and not for signal handlers: there
//! [`capture_context`] finds only the interrupted address. With a static or old libc that lacks `_dl_find_object` the modules
//! are those that [`init`] and [`invalidate`] saw; a library loaded since ends the stack.

pub mod bounds;
#[cfg_attr(
    all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)),
    path = "cfi/mod.rs"
)]
#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))),
    path = "fallback.rs"
)]
mod imp;

pub use bounds::StackBounds;

/// Gets the unwinder ready: looks up what it needs of the dynamic loader. To be called once, before the first capture and
/// outside of any hook (the loader may lock and allocate). Captures before it find one frame only.
pub fn init() {
    imp::refresh();
}

/// To be called after every `dlopen` and `dlclose`, outside of any hook: forgets all rules, since another module may now stand
/// at a remembered address.
///
/// A capture that runs meanwhile on another thread may still remember a rule of the old module. Its frames can then be
/// wrong; it cannot fault.
pub fn invalidate() {
    imp::refresh();
    imp::forget();
}

/// Writes the program counters of the calling thread's stack into `out`, leaf first, and returns how many.
///
/// The first is the return address of this very call, so it lies in the caller. At most `out.len()` are written;
/// when the stack pointer is outside of `bounds` (a fiber, an alternate signal stack) it is only that one.
#[inline(always)]
pub fn capture(out: &mut [usize], bounds: StackBounds) -> usize {
    // SAFETY: the pointer and the length are those of a slice that may be written.
    unsafe { imp::capture(out.as_mut_ptr(), out.len(), &bounds) }
}

/// The stacks that a thread took last. Zeroed memory is an empty one.
pub use imp::Memo;

/// As [`capture`], for a caller that numbers stacks: `number` is asked for the number of one that `memo` does not remember, and
/// 0 stands for none. `key` is whatever else the number depends on. `out` is only written when it is walked; its
/// first `before` entries are the caller's, and stand before the stack when it is given to `number`.
///
/// The memo belongs to the calling thread; the caller holds the re-entry guard.
#[inline(always)]
pub fn capture_numbered(
    memo: &mut Memo,
    key: u64,
    bounds: StackBounds,
    out: &mut [usize],
    before: usize,
    number: impl FnOnce(&[usize]) -> u32,
) -> u32 {
    memo.number(imp::here(), key, bounds, out, before, number)
}

/// As [`capture`], for the code that a signal interrupted: `context` is the handler's third argument.
///
/// The first program counter is the interrupted instruction's address plus one, see invariant 5.
///
/// # Safety
/// `context` must point to the `ucontext_t` that the system handed to a signal handler of this thread, which is still running.
pub unsafe fn capture_context(context: *const libc::c_void, out: &mut [usize], bounds: StackBounds) -> usize {
    // SAFETY: the caller's.
    let registers = unsafe { imp::interrupted(context) };
    imp::walk(registers, bounds, out, &mut ())
}
