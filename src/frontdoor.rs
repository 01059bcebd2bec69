use crate::hook;
use crate::record;
pub use hook::heap;
pub use hook::user::{Region, Task, log, log_fmt as __log_fmt, with_region};
pub use record::tracer::{StartError, Stats, StopError, Symbolize, Tracer};
pub mod hooks {
    pub use crate::hook::{gc, syscall, thread};
    pub use crate::record::syscall_name::SyscallName;
}
pub fn is_enabled() -> bool {
    record::is_enabled()
}
pub fn start(sink: impl std::io::Write + Send + 'static) -> Result<(), StartError> {
    Tracer::new().start(sink)
}
pub fn stop() -> Result<Stats, StopError> {
    record::tracer::stop()
}
pub fn flush() {
    record::tracer::flush()
}
pub type Alloc<A = exectrace_alloc_shim::MiMalloc> = exectrace_alloc_shim::Shim<A, hook::heap::HeapObserver>;

/// Parts of the engine room for the package's own tests and benches. Not an interface: it changes without notice.
#[doc(hidden)]
pub mod internals {
    pub use crate::record::{stack_table, unwind};
}

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
))]
#[doc(hidden)]
pub use hook::interpose as __interpose;
