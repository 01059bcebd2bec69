//! The memory map. An allocator's calls come through here too, from inside the program's own `malloc`.

use core::ffi::{c_int, c_uint};

use libc::off_t;

use super::real::{Ptr, hooks};

hooks! {
    plain {
        fn mmap(at: Ptr, len: usize, access: c_int, flags: c_int, fd: c_int, offset: off_t) -> Ptr
            = mmap, else sys(libc::SYS_mmap);
        fn mmap64(at: Ptr, len: usize, access: c_int, flags: c_int, fd: c_int, offset: off_t) -> Ptr
            = mmap, else sys(libc::SYS_mmap);
        fn munmap(at: Ptr, len: usize) -> c_int = munmap, else sys(libc::SYS_munmap);
        // Variadic in C.
        fn mremap(at: Ptr, len: usize, new_len: usize, flags: c_int, to: Ptr) -> Ptr
            = mremap, else sys(libc::SYS_mremap);
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
    own {}
}
