//! Answers in the formats of other tools.
//!
//! Each format is a file. They take what [`analyze`](crate::analyze) found and give bytes; nothing here reads a trace, and
//! there is no `unsafe`.
#![forbid(unsafe_code)]

pub mod flame;
pub mod pprof;

mod proto;
