//! An execution tracer for native programs in the Go execution-trace format.

pub mod format;
#[cfg(not(loom))]
mod frontdoor;
#[cfg(not(loom))]
mod hook;
mod record;
mod sys;

#[cfg(not(loom))]
pub use frontdoor::*;
