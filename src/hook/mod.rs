//! The door for event sources, one file a source.

#[doc(hidden)]
pub mod standin;
pub(crate) mod syscall;
pub(crate) mod thread;

/// The C symbols that a program gets by [`interpose!`](crate::interpose), and what they do.
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
))]
#[doc(hidden)]
pub mod interpose;
mod symbols;

use core::sync::atomic::Ordering::Relaxed;

/// Whether tracing is on: one relaxed load.
#[inline(always)]
pub(crate) fn on() -> bool {
    standin::ON.load(Relaxed)
}

/// A library was unloaded: what is cached about its code is void.
pub(crate) fn unloaded() {
    standin::UNLOADED.fetch_add(1, Relaxed);
}
