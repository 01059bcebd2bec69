//! The tracer's engine room.

pub mod modules;
pub mod stack_table;
pub mod symbolize;
pub mod unwind;
