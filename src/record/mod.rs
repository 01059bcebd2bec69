//! The recording half.

pub(crate) mod syscall_name;
