//! An execution tracer for native programs in the Go execution-trace format.

#![cfg_attr(not(test), allow(dead_code))]

pub mod format;
pub mod gc;
mod sys;
