//! The tracer's engine room.

pub mod stack_table;
pub mod unwind;
