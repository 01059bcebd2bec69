//! Memory straight from the operating system, for buffers, tables and the GC heap: it never shows up as the program's heap.
//!
//! Under Miri, which has no `mmap` with alignment, the pages come from `std::alloc` instead.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// The alignment and granularity of everything here. Larger than the page of every supported target, so that it is a constant.
pub(crate) const GRANULE_BYTES: usize = 64 << 10;

/// `bytes` rounded up to whole granules.
pub(crate) const fn round_up(bytes: usize) -> usize {
    bytes.div_ceil(GRANULE_BYTES) * GRANULE_BYTES
}

/// Maps `bytes` of zeroed memory at a multiple of `align`. Both must be multiples of [`GRANULE_BYTES`], `align` a power of two.
///
/// `None` when the system has no memory (or address space) to give. Pages are committed when first touched.
pub(crate) fn map(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    debug_assert!(bytes > 0 && bytes.is_multiple_of(GRANULE_BYTES), "size: {bytes}");
    debug_assert!(align.is_power_of_two() && align >= GRANULE_BYTES, "alignment: {align}");
    if REFUSE.get() > 0 && refuse() {
        return None;
    }
    let at = imp::map(bytes, align)?;
    MAPPED.fetch_add(bytes as u64, Ordering::Relaxed);
    Some(at)
}

/// Bytes that are mapped through here. Written by any thread.
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// How many bytes are mapped for the tracer's own use and for GC heaps, resident or not.
pub(crate) fn mapped_bytes() -> u64 {
    MAPPED.load(Ordering::Relaxed)
}

std::thread_local! {
    /// For tests: 0, or one more than the requests of this thread that are still granted.
    static REFUSE: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
}

#[cold]
fn refuse() -> bool {
    let left = REFUSE.get();
    REFUSE.set(left.max(2) - 1);
    left == 1
}

/// For tests: requests that `f` makes are granted.
pub(crate) fn not_refused<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(u32);
    impl Drop for Restore {
        fn drop(&mut self) {
            REFUSE.set(self.0);
        }
    }
    let _restore = Restore(REFUSE.replace(0));
    f()
}

/// For tests: this thread's requests are refused from now on, but for the first `grants`. `None` ends it.
pub(crate) fn refuse_after(grants: Option<u32>) {
    REFUSE.set(grants.map_or(0, |n| n.saturating_add(1)));
}

/// Gives a mapping back.
///
/// # Safety
/// `at` and `bytes` must be those of one [`map`] call, and nothing may use the memory any more.
pub(crate) unsafe fn unmap(at: NonNull<u8>, bytes: usize, align: usize) {
    MAPPED.fetch_sub(bytes as u64, Ordering::Relaxed);
    // SAFETY: the caller's.
    unsafe { imp::unmap(at, bytes, align) }
}

/// Maps the first `bytes` of a file, which becomes so long, shared with whoever else maps it: in place of the mapping of as many bytes
/// at `over`, if there is one. With `alone` children do not inherit the mapping. `None` if the system refuses any of it.
///
/// # Safety
/// A mapping at `over` is one of ours, and who still uses it minds neither what he finds nor that it is gone. With `alone`, no child
/// touches it.
pub(crate) unsafe fn map_file(file: i32, bytes: usize, over: Option<NonNull<u8>>, alone: bool) -> Option<NonNull<u8>> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        // A file beyond the limit is a signal, which the program would not expect.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let args = [0, libc::RLIMIT_FSIZE as usize, 0, (&raw mut limit).expose_provenance(), 0, 0];
        // SAFETY: the kernel writes a limit there.
        let known = unsafe { super::raw::syscall6(libc::SYS_prlimit64, args) };
        if known != 0 || limit.rlim_cur < bytes as libc::rlim_t {
            return None;
        }
        // SAFETY: no memory is involved.
        if unsafe { super::raw::syscall6(libc::SYS_ftruncate, [file as usize, bytes, 0, 0, 0, 0]) } != 0 {
            return None;
        }
        let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let fixed = if over.is_some() { libc::MAP_FIXED } else { 0 };
        let at = over.map_or(0, |at| at.as_ptr().expose_provenance());
        let args = [at, bytes, prot, (libc::MAP_SHARED | fixed) as usize, file as usize, 0];
        // SAFETY: a fresh mapping at an address of the kernel's choice, or in place of one that the caller gives up.
        let r = unsafe { super::raw::syscall6(libc::SYS_mmap, args) };
        if r < 0 {
            return None;
        }
        if alone {
            let args = [r as usize, bytes, libc::MADV_DONTFORK as usize, 0, 0, 0];
            // SAFETY: the mapping of above. If it fails, a child keeps the file's blocks for as long as it lives, and no more.
            unsafe { super::raw::syscall6(libc::SYS_madvise, args) };
        }
        NonNull::new(core::ptr::with_exposed_provenance_mut(r as usize))
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    {
        let _ = (file, bytes, over, alone);
        None
    }
}

/// Has a mapping of a file let go of the file. The addresses stay taken: what is written there afterwards is lost.
///
/// # Safety
/// As for [`map_file`]'s `over`.
pub(crate) unsafe fn unmap_file(at: NonNull<u8>, bytes: usize) {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let args = [at.as_ptr().expose_provenance(), bytes, prot, flags as usize, usize::MAX, 0];
        // SAFETY: the caller's. If it fails, the file's blocks stay taken until the process ends.
        unsafe { super::raw::syscall6(libc::SYS_mmap, args) };
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    {
        let _ = (at, bytes);
    }
}

/// Why memory of a file has not become one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The system does not know how (Linux before 5.14).
    Unknown,
    /// There is no room, on the disk or in memory.
    #[cfg_attr(
        not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))),
        allow(dead_code, reason = "only Linux is asked")
    )]
    NoRoom,
}

/// Has the system put memory behind `bytes` of a mapping (and blocks of the disk, if it is of a file), as a write would, but that a
/// full disk is an error and not a signal. Async-signal-safe.
pub(crate) fn populate(at: NonNull<u8>, bytes: usize) -> Result<(), Refused> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        let args = [at.as_ptr().expose_provenance(), bytes, libc::MADV_POPULATE_WRITE as usize, 0, 0, 0];
        loop {
            // SAFETY: it changes nothing of what is there.
            match unsafe { super::raw::syscall6(libc::SYS_madvise, args) } as i32 {
                0 => return Ok(()),
                e if e == -libc::EINTR || e == -libc::EAGAIN => {}
                e if e == -libc::EINVAL => return Err(Refused::Unknown),
                _ => return Err(Refused::NoRoom),
            }
        }
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    {
        let _ = (at, bytes);
        Err(Refused::Unknown)
    }
}

/// Device and inode of an open file: whether it is still the one that it was. Async-signal-safe.
pub(crate) fn file_identity(file: i32) -> Option<(u64, u64)> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        // SAFETY: all-zero is a valid stat.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        let args = [file as usize, (&raw mut stat).expose_provenance(), 0, 0, 0, 0];
        // SAFETY: the kernel writes a stat there.
        let r = unsafe { super::raw::syscall6(libc::SYS_fstat, args) };
        (r == 0).then_some((stat.st_dev, stat.st_ino))
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    {
        let _ = file;
        None
    }
}

/// Has the system keep room for `bytes` of a file from `offset` on, and makes the file so long. Async-signal-safe.
pub(crate) fn reserve_file(file: i32, offset: usize, bytes: usize) -> bool {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        // SAFETY: no memory is involved.
        unsafe { super::raw::syscall6(libc::SYS_fallocate, [file as usize, 0, offset, bytes, 0, 0]) == 0 }
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    {
        let _ = (file, offset, bytes);
        false
    }
}

#[cfg(all(unix, not(miri)))]
mod imp {
    use core::ptr::NonNull;

    pub(super) fn map(bytes: usize, align: usize) -> Option<NonNull<u8>> {
        // Over-reserve by the alignment, then cut the ends off: one system call for the common alignment-sized request more.
        let reserve = bytes.checked_add(align)?;
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no existing memory.
        let p = unsafe { mmap(reserve) }?;
        let start = p.as_ptr() as usize;
        let at = start.next_multiple_of(align);
        let (head, tail) = (at - start, start + reserve - (at + bytes));
        if head > 0 {
            // SAFETY: the first `head` bytes of the fresh mapping, which nobody has seen.
            unsafe { munmap(p, head) };
        }
        // SAFETY: `at` lies inside the mapping, since `head < align`.
        let at = unsafe { p.add(head) };
        if tail > 0 {
            // SAFETY: `at + bytes` lies inside the mapping.
            let end = unsafe { at.add(bytes) };
            // SAFETY: the last `tail` bytes of the fresh mapping, which nobody has seen.
            unsafe { munmap(end, tail) };
        }
        Some(at)
    }

    /// # Safety
    /// As for the public [`unmap`](super::unmap).
    pub(super) unsafe fn unmap(at: NonNull<u8>, bytes: usize, _align: usize) {
        // SAFETY: the caller's.
        unsafe { munmap(at, bytes) }
    }

    /// # Safety
    /// None beyond a size of whole pages: the mapping is fresh.
    unsafe fn mmap(bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's: a fresh anonymous mapping.
        NonNull::new(unsafe { raw::mmap(bytes) })
    }

    /// # Safety
    /// The range is whole pages of a mapping of ours that nobody uses any more.
    unsafe fn munmap(at: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's.
        unsafe { raw::munmap(at.as_ptr(), bytes) }
    }

    /// The three calls. On Linux they go around libc, whose symbols may be hooked and which sets `errno`.
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    mod raw {
        use crate::sys::raw::syscall6;

        /// # Safety
        /// None beyond a size of whole pages: the mapping is fresh.
        pub(super) unsafe fn mmap(bytes: usize) -> *mut u8 {
            let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
            let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as usize;
            // SAFETY: a fresh anonymous mapping.
            let r = unsafe { syscall6(libc::SYS_mmap, [0, bytes, prot, flags, usize::MAX, 0]) };
            if r < 0 { core::ptr::null_mut() } else { core::ptr::with_exposed_provenance_mut(r as usize) }
        }

        /// # Safety
        /// The range is whole pages of a mapping of ours that nobody uses any more.
        pub(super) unsafe fn munmap(at: *mut u8, bytes: usize) {
            // SAFETY: the caller's. It fails only for arguments that `map` never makes.
            unsafe { syscall6(libc::SYS_munmap, [at.expose_provenance(), bytes, 0, 0, 0, 0]) };
        }
    }

    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    mod raw {
        /// # Safety
        /// None beyond a size of whole pages: the mapping is fresh.
        pub(super) unsafe fn mmap(bytes: usize) -> *mut u8 {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a fresh anonymous mapping.
            let p =
                unsafe { libc::mmap(core::ptr::null_mut(), bytes, prot, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0) };
            if p == libc::MAP_FAILED { core::ptr::null_mut() } else { p.cast() }
        }

        /// # Safety
        /// The range is whole pages of a mapping of ours that nobody uses any more.
        pub(super) unsafe fn munmap(at: *mut u8, bytes: usize) {
            // SAFETY: the caller's.
            unsafe { libc::munmap(at.cast(), bytes) };
        }
    }
}

#[cfg(any(miri, not(unix)))]
mod imp {
    use core::ptr::NonNull;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    pub(super) fn map(bytes: usize, align: usize) -> Option<NonNull<u8>> {
        // Miri ends the run where a system would refuse.
        if cfg!(miri) && bytes > 1 << 34 {
            return None;
        }
        let layout = Layout::from_size_align(bytes, align).ok()?;
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { alloc_zeroed(layout) })
    }

    pub(super) unsafe fn unmap(at: NonNull<u8>, bytes: usize, align: usize) {
        if let Ok(layout) = Layout::from_size_align(bytes, align) {
            // SAFETY: the caller's: the memory is of `map` with the same size and alignment.
            unsafe { dealloc(at.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_aligned_zeroed_and_can_be_given_back() {
        for align in [GRANULE_BYTES, 4 << 20] {
            let bytes = 2 * GRANULE_BYTES;
            let p = map(bytes, align).expect("128 KiB");
            assert_eq!(p.as_ptr() as usize % align, 0);
            // SAFETY: the mapping is ours alone.
            let s = unsafe { core::slice::from_raw_parts_mut(p.as_ptr(), bytes) };
            assert!(s.iter().all(|&b| b == 0));
            s.fill(7);
            // SAFETY: the mapping of above, not used again.
            unsafe { unmap(p, bytes, align) };
        }
    }

    #[test]
    fn a_request_beyond_the_address_space_is_refused() {
        assert!(map(1 << 60, GRANULE_BYTES).is_none());
    }
}
