//! An execution tracer for native programs in the Go execution-trace format.

#![cfg_attr(not(test), allow(dead_code))]

pub mod format;
mod record;
mod sys;

/// Parts of the engine room for the package's own tests and benches. Not an interface: it changes without notice.
#[doc(hidden)]
pub mod internals {
    pub use crate::record::{modules, stack_table, symbolize, unwind};
}
