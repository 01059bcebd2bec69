//! What the preload library needs of the tracer beyond what every program may use. Not an interface: it changes without notice.
//!
//! The library stands under programs that know nothing of it. So it asks the system directly, where a function of libc would
//! land on its own hooks, and has the hooks keep its file open.

use core::sync::atomic::Ordering;

use super::interpose::descriptor;
use crate::record::ending::{StartError, Stats, StopError};
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

/// [`Tracer::start`](crate::Tracer::start), also from a thread of the library's [own](spawn).
///
/// # Errors
/// As there.
pub fn start(tracer: crate::Tracer, sink: impl std::io::Write + Send + 'static) -> Result<(), StartError> {
    tracer.start_inside(Box::new(sink))
}

/// [`stop`](crate::stop), also from a thread of the library's own.
///
/// # Errors
/// As there.
pub fn stop() -> Result<Stats, StopError> {
    tracer::stop_inside()
}

/// [`flush`](crate::flush), also from a thread of the library's own.
pub fn flush() {
    tracer::flush_inside();
}

/// Tells the black box that the trace goes on in another file, which lacks the first `base` bytes of it (less its own header).
pub fn continues_elsewhere(base: u64) {
    black_box::continues_elsewhere(base);
}

/// Whether the black box that is open needs its file's descriptor as long as it is.
#[must_use]
pub fn box_needs_file() -> bool {
    black_box::needs_file()
}

/// Gives the calling thread a table of descriptors of its own, with nothing in it but `keep`, if that is one. False if the system
/// cannot do that (Linux before 5.9): then the table is still the process's, and nothing in it was closed.
///
/// What such a thread opens no other thread can see, close, or have its number taken by.
#[must_use]
pub fn own_descriptors(keep: Option<i32>) -> bool {
    let (unshare, all) = (libc::CLOSE_RANGE_UNSHARE as usize, u32::MAX as usize);
    let close = |first: usize, last: usize, flags: usize| {
        // SAFETY: no memory is involved, and with the first call the table becomes the calling thread's own.
        unsafe { raw::syscall6(libc::SYS_close_range, [first, last, flags, 0, 0, 0]) == 0 }
    };
    match keep.map(|fd| fd as usize) {
        None => close(0, all, unshare),
        // There is no range before the first one; an empty one behind everything unshares all the same.
        Some(0) => close(all, all, unshare) && close(1, all, 0),
        Some(fd) => close(0, fd - 1, unshare) && close(fd + 1, all, 0),
    }
}

/// Runs `f` on a thread of the library's own, which records nothing of itself and runs with all signals blocked. False if there is none
/// to be had.
pub fn spawn(name: &'static core::ffi::CStr, f: fn()) -> bool {
    struct Given(&'static core::ffi::CStr, fn());
    extern "C" fn main(arg: *mut core::ffi::c_void) -> *mut core::ffi::c_void {
        // SAFETY: made below from a box, for this thread alone.
        let given = unsafe { Box::from_raw(arg.cast::<Given>()) };
        os::set_own_name(given.0);
        // No trace is to show it.
        if let Some(t) = thread::current_or_attach() {
            t.busy.store(busy::TRACER, Ordering::Relaxed);
        }
        if let Some(_internal) = thread::Internal::enter() {
            // A panic would be a bug of the library's; it ends this thread and not the program.
            let _ = std::panic::catch_unwind(|| (given.1)());
        }
        core::ptr::null_mut()
    }
    let arg = Box::into_raw(Box::new(Given(name, f)));
    let _internal = thread::Internal::enter();
    // SAFETY: `main` may run on any thread, takes the box, and catches panics.
    match unsafe { os::OwnThread::spawn(main, arg.cast()) } {
        Ok(_) => true,
        Err(_) => {
            // SAFETY: there is no thread: the box is ours again.
            drop(unsafe { Box::from_raw(arg) });
            false
        }
    }
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

/// Nothing is kept under this number any more.
pub fn forget_kept(fd: i32) {
    descriptor::forget_kept(fd);
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
