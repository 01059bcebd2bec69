//! System calls without libc: no `errno`, no cancellation point, and no symbol that a hook could stand behind.

/// Makes system call `nr`; the result is negative (`-errno`) on failure.
///
/// # Safety
/// As for the call itself.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[inline]
pub(crate) unsafe fn syscall6(nr: libc::c_long, a: [usize; 6]) -> isize {
    let r: isize;
    // SAFETY: the kernel's convention: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; rcx and r11 are overwritten.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") nr as isize => r,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    r
}

/// Makes system call `nr`; the result is negative (`-errno`) on failure.
///
/// # Safety
/// As for the call itself.
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[inline]
pub(crate) unsafe fn syscall6(nr: libc::c_long, a: [usize; 6]) -> isize {
    let r: isize;
    // SAFETY: the kernel's convention: number in x8, arguments in x0 to x5, result in x0.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") nr,
            inlateout("x0") a[0] as isize => r,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    r
}
