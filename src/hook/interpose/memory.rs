//! The memory map. An allocator's calls come through here too, from inside the program's own `malloc`.

use core::ffi::{c_int, c_uint};

use libc::off_t;

use super::real::{Ptr, as_syscall, hooks, recorded};
use crate::record::allocations;

/// Mappings from this size on are recorded, beside allocations.
const MAPPING_BYTES_MIN: usize = 1 << 20;

hooks! {
    plain {
        fn mprotect(at: Ptr, len: usize, access: c_int) -> c_int = mprotect, else sys(libc::SYS_mprotect);
        fn madvise(at: Ptr, len: usize, advice: c_int) -> c_int = madvise, else sys(libc::SYS_madvise);
        fn posix_madvise(at: Ptr, len: usize, advice: c_int) -> c_int = madvise, else code;
        fn msync(at: Ptr, len: usize, flags: c_int) -> c_int = msync;
        fn mincore(at: Ptr, len: usize, to: *mut u8) -> c_int = mincore;
        fn mlock(at: Ptr, len: usize) -> c_int = mlock;
        fn mlock2(at: Ptr, len: usize, flags: c_uint) -> c_int = mlock2, else sys(libc::SYS_mlock2);
        fn munlock(at: Ptr, len: usize) -> c_int = munlock;
        fn mlockall(flags: c_int) -> c_int = mlockall;
        fn munlockall() -> c_int = munlockall;
        fn brk(to: Ptr) -> c_int = brk;
        fn sbrk(by: isize) -> Ptr = brk;
        fn shmat(id: c_int, at: Ptr, flags: c_int) -> Ptr = shmat;
        fn shmdt(at: Ptr) -> c_int = shmdt;
    }
    own {
        fn mmap(at: Ptr, len: usize, access: c_int, flags: c_int, fd: c_int, offset: off_t) -> Ptr,
            else sys(libc::SYS_mmap);
        fn mmap64(at: Ptr, len: usize, access: c_int, flags: c_int, fd: c_int, offset: off_t) -> Ptr,
            else sys(libc::SYS_mmap);
        fn munmap(at: Ptr, len: usize) -> c_int, else sys(libc::SYS_munmap);
        // Variadic in C.
        fn mremap(at: Ptr, len: usize, new_len: usize, flags: c_int, to: Ptr) -> Ptr, else sys(libc::SYS_mremap);
    }
}

recorded! {
    fn mmap(at: Ptr, len: usize, access: c_int, flags: c_int, fd: c_int, offset: off_t) -> Ptr {
        tell_of_fixed(at, len, flags);
        mapped(as_syscall!(mmap, real::mmap(at, len, access, flags, fd, offset)), len)
    }

    fn mmap64(at: Ptr, len: usize, access: c_int, flags: c_int, fd: c_int, offset: off_t) -> Ptr {
        tell_of_fixed(at, len, flags);
        mapped(as_syscall!(mmap, real::mmap64(at, len, access, flags, fd, offset)), len)
    }

    fn munmap(at: Ptr, len: usize) -> c_int {
        unmapping(at, len);
        as_syscall!(munmap, real::munmap(at, len))
    }

    fn mremap(at: Ptr, len: usize, new_len: usize, flags: c_int, to: Ptr) -> Ptr {
        unmapping(at, len);
        mapped(as_syscall!(mremap, real::mremap(at, len, new_len, flags, to)), new_len)
    }
}

/// The program has mapped `len` bytes at `at`, if that is no failure.
#[inline(always)]
fn mapped(at: Ptr, len: usize) -> Ptr {
    if len >= MAPPING_BYTES_MIN && at.addr() != libc::MAP_FAILED.addr() {
        allocations::mapped(at.addr(), len);
    }
    at
}

#[inline(always)]
fn unmapping(at: Ptr, len: usize) {
    // Also of what is small: it may be a part of what was told of.
    if len > 0 {
        allocations::unmapping(at.addr(), len);
    }
}

/// What is mapped at a given place takes the place of what was there.
#[inline(always)]
fn tell_of_fixed(at: Ptr, len: usize, flags: c_int) {
    if flags & libc::MAP_FIXED != 0 {
        unmapping(at, len);
    }
}
