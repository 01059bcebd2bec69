//! The door for event sources: what the program, its allocator, its collectors and the interposed C functions call.
//!
//! One file a source. Each hook enters the re-entry guard, takes a stack if it wants one, opens a [section](crate::record),
//! and writes. Hooks return nothing: what cannot be recorded is counted. They do not allocate through the global allocator,
//! block, panic, print, or change `errno`.

pub mod gc;
pub mod heap;
/// The C functions that a program gets by [`interpose!`](crate::interpose), and what they do.
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
))]
#[doc(hidden)]
pub mod interpose;
mod measure;
/// For the preload library.
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
))]
#[doc(hidden)]
pub mod preload;
pub mod scope;
mod symbols;
pub mod syscall;
pub mod thread;
pub mod user;

/// Whether tracing is on: one relaxed load.
#[inline(always)]
pub(crate) fn on() -> bool {
    crate::record::is_enabled()
}

/// A library was unloaded: what is remembered of its code is void.
#[cfg_attr(
    not(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(target_feature = "crt-static"),
        not(miri)
    )),
    expect(dead_code, reason = "nobody tells")
)]
pub(crate) fn unloaded() {
    crate::record::unwind::invalidate();
}
