//! An execution tracer for native programs in the Go execution-trace format.

#![cfg_attr(not(test), allow(dead_code))]

pub mod format;
mod hook;
mod record;
mod sys;

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
))]
#[doc(hidden)]
pub use hook::interpose as __interpose;
#[doc(hidden)]
pub use hook::standin as __standin;
