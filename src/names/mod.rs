//! What names of functions and source files say: where a function is, whose it is, and why a thread waits in it.
//!
//! Pure functions over texts, for both halves: the tracer asks them when it names frames as it writes, and
//! `exectrace symbolize` when it names them afterwards; the two must come to the same. They allocate, so nothing here
//! may run inside a hook.
#![forbid(unsafe_code)]

pub mod block_reason;
pub(crate) mod fixed;
pub(crate) mod function_path;
pub(crate) mod internal;
pub(crate) mod source_path;

/// Whether a function's name says where the function is, rather than what it is called only.
pub(crate) fn has_path(name: &str) -> bool {
    name.starts_with('<') || name.split('<').next().is_some_and(|name| name.contains("::"))
}
