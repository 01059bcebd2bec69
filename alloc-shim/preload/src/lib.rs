//! The recorder for programs that were not built with exectrace: a library for `LD_PRELOAD`.
//!
//! ```text
//! LD_PRELOAD=/path/to/libexectrace_preload.so EXECTRACE_OUT=app.trace app
//! ```
//!
//! It has the hooks of [`exectrace::interpose!`] and, in [`malloc`](mod@malloc), those of the C library's allocator, over the
//! allocator that the program has anyway. A constructor reads the environment ([`config`]) and starts the tracer ([`session`]); the
//! process's end stops it ([`process`]). Frames are raw: names are found afterwards, outside of the program, by `exectrace symbolize`.
//! `exectrace record` does all of that.
//!
//! It is a guest of the strictest sort. Its own memory comes from the system ([`arena`]), its file has a number that
//! programs do not meet ([`sink`]), and without `EXECTRACE_OUT` in the environment it does nothing.

mod arena;
mod config;
mod control;
mod malloc;
#[cfg(feature = "mimalloc")]
mod mimalloc;
mod next;
mod process;
mod session;
mod sink;

exectrace::interpose!();

/// Run by the loader before `main`, and before the constructors of the program's own libraries that do not depend on the order.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = session::begin;

/// Run by the loader at the end, after what the program has registered with `atexit`.
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = session::end;
