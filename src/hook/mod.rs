//! The door for event sources: what the program, its allocator, its collectors and the interposed C functions call.
//!
//! One file a source. Each hook enters the re-entry guard, takes a stack if it wants one, opens a [section](crate::record),
//! and writes. Hooks return nothing: what cannot be recorded is counted. They do not allocate through the global allocator,
//! block, panic, print, or change `errno`.

pub mod gc;
pub mod heap;
pub mod syscall;
pub mod thread;
pub mod user;

/// Whether tracing is on: one relaxed load.
#[inline(always)]
pub(crate) fn on() -> bool {
    crate::record::is_enabled()
}
