//! An execution tracer for native programs in the Go execution-trace format.

#[cfg(feature = "read")]
pub mod analyze;
pub mod format;
#[cfg(not(loom))]
mod frontdoor;
#[cfg(not(loom))]
pub mod gc;
#[cfg(not(loom))]
mod hook;
#[cfg(feature = "read")]
pub mod read;
mod record;
mod sys;

#[cfg(not(loom))]
pub use frontdoor::*;
