//! Atomics for the lock-free parts: `core`'s, or loom's under `--cfg loom`, where the model tests run every interleaving.
//!
//! Code whose ordering matters names its atomics through this module and nothing else.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
