//! An execution tracer for native programs in the Go execution-trace format.

#![cfg_attr(not(test), allow(dead_code))]

pub mod format;
#[cfg(feature = "read")]
pub mod read;
mod sys;
