//! The floor: the only room that calls the operating system.
//!
//! Everything in it is safe to use inside a hook: no function here allocates through the global allocator, takes a lock
//! that the program knows of, changes `errno`, or prints. The few exceptions say so.

pub(crate) mod barrier;
pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod event;
pub(crate) mod lock;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
pub(crate) mod maps;
pub(crate) mod memory;
pub(crate) mod own;
pub(crate) mod pages;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
pub(crate) mod raw;
pub(crate) mod slot;
pub(crate) mod sync;
pub(crate) mod thread;
pub(crate) mod timer;
