//! A small language: numbers, strings, lists, closures and loops. Its objects live on the package's garbage-collected heap.
//!
//! ```text
//! let squares = []
//! fn each(list, f) { for x in list { f(x) } }
//! each([1, 2, 3], fn(x) { push(squares, x * x) })
//! print("squares: " + squares)
//! ```

pub mod compiler;
mod lexer;
pub mod machine;
mod value;

pub use machine::{Host, Machine};
