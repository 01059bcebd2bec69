//! What the preload library needs of the tracer beyond what every program may use. Not an interface: it changes without notice.
//!
//! The library stands under programs that know nothing of it. So it asks the system directly, where a function of libc would
//! land on its own hooks, and has the hooks keep its file open.

use core::sync::atomic::Ordering;

use super::interpose::descriptor;
use crate::record::thread::{self, busy};
use crate::record::{black_box, tracer};
use crate::sys::{pages, raw, thread as os};

pub use super::heap::HeapObserver;

/// Makes system call `number`, around libc and its hooks; negative (`-errno`) on failure. Leaves `errno` alone.
///
/// # Safety
/// As for the call itself.
pub unsafe fn system(number: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: the caller's.
    unsafe { raw::syscall6(number, args) }
}

/// The alignment of what [`map`] returns, and the unit of its sizes.
pub const GRANULE_BYTES: usize = pages::GRANULE_BYTES;

/// Zeroed memory from the system; `bytes` is rounded up to [`GRANULE_BYTES`]. Null if there is none to be had.
#[must_use]
pub fn map(bytes: usize) -> *mut u8 {
    let Some(bytes) = bytes.checked_next_multiple_of(GRANULE_BYTES) else { return core::ptr::null_mut() };
    pages::map(bytes.max(GRANULE_BYTES), GRANULE_BYTES).map_or(core::ptr::null_mut(), core::ptr::NonNull::as_ptr)
}

/// Gives back what [`map`] returned for `bytes`.
///
/// # Safety
/// `at` and `bytes` are those of one call of [`map`], and nothing uses the memory any more.
pub unsafe fn unmap(at: *mut u8, bytes: usize) {
    if let Some(at) = core::ptr::NonNull::new(at) {
        // SAFETY: the caller's.
        unsafe { pages::unmap(at, bytes.next_multiple_of(GRANULE_BYTES).max(GRANULE_BYTES), GRANULE_BYTES) };
    }
}

/// The process that the kernel says this is: in a child of `vfork` not the one whose memory it runs on.
#[must_use]
pub fn process_id() -> u32 {
    os::process_id()
}

/// Whether the calling thread is inside of a hook: then this is a signal handler, and to wait for the tracer would be to wait for itself.
#[must_use]
pub fn is_inside() -> bool {
    thread::current().is_some_and(|t| t.busy.load(Ordering::Relaxed) != busy::NO)
}

/// Makes the tracer new, as it makes itself in the child of a `fork`: for children that libc does not tell of.
///
/// # Safety
/// The calling thread is the only one of a process that has a copy of its parent's memory.
pub unsafe fn in_child() {
    tracer::in_child();
}

/// Tells the black box that the trace goes on in another file, which lacks the first `base` bytes of it (less its own header).
pub fn continues_elsewhere(base: u64) {
    black_box::continues_elsewhere(base);
}

/// A descriptor of the library's that the hooks keep open: the program may close all that it has, and others.
#[derive(Debug)]
pub struct Kept(usize);

impl Kept {
    /// Keeps `fd`. `None` if too many are kept.
    #[must_use]
    pub fn new(fd: i32) -> Option<Kept> {
        descriptor::keep(fd).map(Kept)
    }

    /// The descriptor; another one than at first, if the program took its number.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        descriptor::kept(self.0)
    }

    /// Keeps another one in its place.
    pub fn replace(&self, fd: i32) {
        descriptor::set_kept(self.0, fd);
    }
}

/// In the child of a `fork`: closes what is kept there, which is its parent's.
pub fn close_kept() {
    for fd in descriptor::take_kept() {
        // SAFETY: no memory is involved; the library's code that had the descriptor does not run in this process.
        unsafe { raw::syscall6(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        descriptor::set_kept(self.0, descriptor::NONE);
    }
}
