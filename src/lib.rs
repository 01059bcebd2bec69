//! An execution tracer for native programs: Go's `runtime/trace` and `go tool trace` for Rust, C and C++.
//!
//! One tracer inside the program records changes of the heap's size, GC cycles, threads and what they wait for, who wakes them, system
//! calls, CPU samples, and the program's own tasks, regions and logs, with nanosecond time stamps and stacks. It writes them in
//! **the real Go execution-trace format**, so that `go tool trace` opens the trace of a native program. The other half of the
//! crate reads such traces, and those of Go programs.
//!
//! # Quick start
//!
//! ```
//! #[global_allocator]
//! static ALLOC: exectrace::Alloc = exectrace::Alloc::new(); // the heap; over mimalloc, or `Alloc::with(any allocator)`
//! exectrace::interpose!(); // threads, locks, waits, system calls
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     # let path = std::env::temp_dir().join(format!("exectrace-doc-{}.trace", std::process::id()));
//!     # let trace_out = path.clone();
//!     exectrace::start(std::fs::File::create(trace_out)?)?;
//!     let words: Vec<String> = exectrace::with_region("collect", || (0..1000).map(|i| i.to_string()).collect());
//!     let sum = std::thread::spawn(move || words.iter().map(String::len).sum::<usize>()).join();
//!     exectrace::log!("demo", "{sum:?} letters");
//!     let stats = exectrace::stop()?;
//!     println!("{} bytes, {} events lost", stats.bytes, stats.lost_events());
//!     # std::fs::remove_file(path)?;
//!     Ok(())
//! }
//! ```
//!
//! Then `go tool trace trace.out` (Go 1.23 or later), or `exectrace summary trace.out`.
//!
//! Both lines at the top are optional and independent. Without the first there is no heap curve; without the second there are no waits
//! and system calls, and threads appear with their first event. [`interpose!`] belongs into the crate of the program, not of a library: it
//! hooks functions of the C library in that one binary.
//!
//! A library that wants to be visible in the traces of programs needs neither: [`Task`], [`Region`], [`log!`](crate::log!) and [`hooks`] cost a
//! load and a branch while no trace is on.
//!
//! Whole programs: `examples/quickstart` (everything at once), `drop_in` (the allocator alone), `memory_pressure` (a cache under a
//! limit), `heap_questions` (who holds the heap), `embed_gc` (a virtual machine on [`gc`], and another collector).
//!
//! # The contract
//!
//! It is that of Go's `runtime/trace`: [`start`] fails if a trace is on; [`stop`] returns only when all of the trace has been
//! written. What is beyond it: `stop` hands back the first error of the sink and what was lost, and [`Tracer`] has the options.
//!
//! The tracer is a guest. Hooks do not allocate through the program's allocator, wait, print, panic or change `errno`; memory is
//! bounded; a sink that is slow or fails costs events, which are counted, and nothing else. A child made by `fork` is not traced.
//!
//! # How native programs map to Go's terms
//!
//! | in the trace | is |
//! |---|---|
//! | goroutine | a thread, by its name; its number is never used twice |
//! | proc | the same thread's right to run: one for each thread, stopped while it waits |
//! | `GOMAXPROCS` | the number of threads so far, plus one for the tracer |
//! | heap | the live bytes of the native heap ([`heap`]) plus those of GC heaps ([`gc`], [`hooks::gc`]) |
//! | heap goal | with a GC heap: the size at which its next collection is due, on the same scale; else the memory limit |
//! | MMU | what GC leaves to the threads, as a share of all procs |
//!
//! What the parts of the heap are, each by itself, stands in series of our own in the trace, which Go's tools skip and
//! `exectrace summary` shows. Stacks are from the leaf to the function with which a thread begins; what the standard library has outside
//! of that is left out.
//!
//! # Map of the crate
//!
//! [`hooks`] is the door for event sources of your own: other collectors, other primitives to wait on. [`gc`] is a mark-sweep heap to embed in
//! a language runtime. [`format`](mod@format) is the trace format as data. [`read`] turns traces into events, [`analyze`]
//! into answers, and [`rewrite`] into other traces.
//!
//! # Platforms
//!
//! Linux on x86-64 with glibc is supported in full. aarch64 Linux is written for and untested. On other Unix systems, on musl, and
//! with a static C library the crate builds without [`interpose!`], CPU samples and fast unwinding.

#[cfg(feature = "read")]
pub mod analyze;
#[cfg(feature = "read")]
pub mod export;
pub mod format;
#[cfg(not(loom))]
pub mod gc;
#[cfg(not(loom))]
mod hook;
mod names;
#[cfg(feature = "read")]
pub mod read;
mod record;
#[cfg(feature = "read")]
pub mod rewrite;
mod sys;

#[cfg(not(loom))]
pub use door::*;

/// What the program uses.
#[cfg(not(loom))]
mod door {
    pub use crate::hook::heap;
    #[cfg(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(target_feature = "crt-static"),
        not(miri)
    ))]
    #[doc(hidden)]
    pub use crate::hook::interpose as __interpose;
    #[cfg(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(target_feature = "crt-static"),
        not(miri)
    ))]
    #[doc(hidden)]
    pub use crate::hook::preload as __preload;
    pub use crate::hook::scope::Scope;
    #[doc(hidden)]
    pub use crate::hook::user::log_fmt as __log_fmt;
    pub use crate::hook::user::{Region, Task, log, with_region};
    pub use crate::record::allocations::Allocations;
    pub use crate::record::ending::{StartError, Stats, StopError};
    pub use crate::record::flight::{Fired, Flight, FlightRecorder, Snapshot, Trigger};
    pub use crate::record::tracer::{Symbolize, Tracer};

    use crate::record;

    /// The door for event sources of your own.
    pub mod hooks {
        pub use crate::hook::{gc, syscall, thread};
        pub use crate::record::syscall_name::SyscallName;
    }

    /// The inner allocator of [`Alloc`] unless another is named.
    #[cfg(feature = "mimalloc")]
    pub type DefaultAlloc = exectrace_alloc_shim::MiMalloc;
    /// The inner allocator of [`Alloc`] unless another is named.
    #[cfg(not(feature = "mimalloc"))]
    pub type DefaultAlloc = std::alloc::System;

    /// The global allocator that makes the heap visible, around any other.
    ///
    /// ```
    /// use std::alloc::System;
    ///
    /// #[global_allocator]
    /// static ALLOC: exectrace::Alloc<System> = exectrace::Alloc::with(System);
    /// # fn main() { assert!(exectrace::heap::stats().live_bytes > 0) }
    /// ```
    pub type Alloc<A = DefaultAlloc> = exectrace_alloc_shim::Shim<A, crate::hook::heap::HeapObserver>;

    /// Begins to trace into `sink`, with the defaults of [`Tracer`].
    ///
    /// The sink is anything that can be written to and sent to another thread: a file, a socket, a buffer behind a lock.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// exectrace::start(std::io::sink())?;
    /// assert!(exectrace::start(std::io::sink()).is_err(), "one trace at a time");
    /// exectrace::stop()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Tracer::start`].
    pub fn start(sink: impl std::io::Write + Send + 'static) -> Result<(), StartError> {
        Tracer::new().start(sink)
    }

    /// Ends the trace. Returns when all of it has been written and the sink has been dropped.
    ///
    /// ```
    /// use std::io::{self, Write};
    ///
    /// /// A disk that is full.
    /// struct Full;
    ///
    /// impl Write for Full {
    ///     fn write(&mut self, _: &[u8]) -> io::Result<usize> {
    ///         Err(io::ErrorKind::StorageFull.into())
    ///     }
    ///     fn flush(&mut self) -> io::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), exectrace::StartError> {
    /// exectrace::start(Full)?;
    /// // The program goes on as ever.
    /// match exectrace::stop() {
    ///     Err(exectrace::StopError::Sink { error, .. }) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StopError::NotOn`] if no trace is on; [`StopError::Sink`] with the first error of the sink, if it failed.
    pub fn stop() -> Result<Stats, StopError> {
        record::tracer::stop()
    }

    /// Whether a trace is on. One relaxed load; false also after the sink has failed.
    ///
    /// For what is worth computing only then; [`log!`](crate::log!) asks by itself.
    ///
    /// ```
    /// # fn queue_length() -> usize { 0 }
    /// if exectrace::is_enabled() {
    ///     exectrace::log("queue", &queue_length().to_string());
    /// }
    /// ```
    #[inline(always)]
    #[must_use]
    pub fn is_enabled() -> bool {
        record::is_enabled()
    }

    /// Closes the open generation and waits until it has been written: all events up to this call are then in the sink. Does nothing
    /// when tracing is off.
    ///
    /// For a program that is about to be killed, or that wants to look at its own trace while it goes on:
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// # use std::io::{self, Write};
    /// # #[derive(Clone, Default)]
    /// # struct Shared(Arc<Mutex<Vec<u8>>>);
    /// # impl Write for Shared {
    /// #     fn write(&mut self, b: &[u8]) -> io::Result<usize> { self.0.lock().unwrap().write(b) }
    /// #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = Shared::default(); // a `Vec<u8>` behind a lock, which implements `Write`
    /// exectrace::start(buffer.clone())?;
    /// exectrace::log("state", "about to do something dangerous");
    /// exectrace::flush();
    /// let bytes = buffer.0.lock().unwrap().clone();
    /// assert!(bytes.windows(9).any(|w| w == b"dangerous"));
    /// exectrace::stop()?;
    /// # Ok(()) }
    /// ```
    pub fn flush() {
        record::tracer::flush();
    }

    /// Parts of the engine room for the package's own tests and benches. Not an interface: it changes without notice.
    #[doc(hidden)]
    pub mod internals {
        pub use crate::record::{modules, stack_table, symbolize, unwind};
    }
}
