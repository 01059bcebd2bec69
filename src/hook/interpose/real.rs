//! The libc functions behind the hooks: where they are, and what stands in for one that this libc does not have.
//!
//! A hook reaches the real function through a [`Real`], which starts out pointing at a stub that looks the function up
//! and then calls it. So a call costs one load and an indirect jump, with no test for "known yet?", and works at any
//! moment: in an early constructor, before `main`, in a signal handler. The program's start-up looks all of them up
//! (`super::init`), so that the lookup, which takes the loader's lock, does not happen later.
//!
//! A thread that is cancelled, or calls `pthread_exit`, is unwound by force from inside the real function through the
//! hook. Rust lets that pass where it sees an unwinding call in a function that may unwind, with nothing to drop. Hence
//! all hooks are `C-unwind`, make the real call in their own body and not in a helper with the Rust ABI, and see
//! [`c_fn`] for `panic = "abort"`.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::marker::PhantomData;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicI32, AtomicPtr};

use crate::sys::raw::syscall6;

/// One libc function of type `F`, a function pointer.
pub(super) struct Real<F> {
    /// The function, or the stub that finds it. Only ever replaced by the function, by whoever found it first or again.
    at: AtomicPtr<()>,
    name: &'static CStr,
    /// What to call where libc has no such function.
    missing: *const (),
    of: PhantomData<fn() -> F>,
}

// SAFETY: `missing` points at code and is never written.
unsafe impl<F> Sync for Real<F> {}

impl<F: Copy> Real<F> {
    /// # Safety
    /// `first` and `missing` must be functions of type `F`, and `name` the name of a libc function of that type.
    pub(super) const unsafe fn new(name: &'static CStr, first: *mut (), missing: *const ()) -> Self {
        assert!(size_of::<F>() == size_of::<*const ()>());
        Real { at: AtomicPtr::new(first), name, missing, of: PhantomData }
    }

    /// The function to call. No ordering is needed: code is never written, only its address.
    #[inline(always)]
    pub(super) fn get(&self) -> F {
        let at: *const () = self.at.load(Relaxed);
        // SAFETY: `F` is a function pointer, and `at` a function of that type, by `new` and `resolve`.
        unsafe { core::mem::transmute_copy(&at) }
    }

    /// Looks the function up, keeps it and returns it. Leaves `errno` alone.
    #[cold]
    pub(super) fn resolve(&self) -> F {
        let found = match lookup(self.name) {
            Found::At(at) => {
                self.at.store(at, Relaxed);
                at
            }
            Found::Nowhere => {
                self.at.store(self.missing.cast_mut(), Relaxed);
                self.missing.cast_mut()
            }
            // Not kept: the lookup that is under way will find the real one.
            Found::Busy => self.missing.cast_mut(),
        };
        let found: *const () = found;
        // SAFETY: as in `get`.
        unsafe { core::mem::transmute_copy(&found) }
    }
}

/// The type of a libc function, or of one that libc calls.
#[cfg(panic = "unwind")]
macro_rules! c_fn {
    (fn($($t:ty),*) -> $r:ty) => { unsafe extern "C-unwind" fn($($t),*) -> $r };
}

/// The type of a libc function, or of one that libc calls.
///
/// Under `panic = "abort"` Rust ends the process wherever an unwinding call unwinds. A call that does not say it can is
/// left without a landing pad, and its function without a personality, so that the unwinder goes by, as it does in C.
#[cfg(not(panic = "unwind"))]
macro_rules! c_fn {
    (fn($($t:ty),*) -> $r:ty) => { unsafe extern "C" fn($($t),*) -> $r };
}
pub(super) use c_fn;

enum Found {
    At(*mut ()),
    Nowhere,
    /// This thread is inside a lookup already, which called a hooked function: an allocator's `mmap`, say.
    Busy,
}

/// The thread that is inside the loader on our behalf; zero for none. With two at once one goes unnoticed, which is
/// as bad as not having the guard: it is for loaders that allocate while looking up, which are old and rare.
static RESOLVER: AtomicI32 = AtomicI32::new(0);

/// Functions that exist more than once. `dlsym` has given the oldest one in some glibc releases, and the old condition
/// variables have another layout, as the old `realpath` takes no null pointer for the answer. Base versions of aarch64 are newer than all of these, and there the plain lookup is
/// right.
const VERSIONED: &[(&CStr, &CStr)] = &[
    (c"pthread_cond_wait", c"GLIBC_2.3.2"),
    (c"pthread_cond_timedwait", c"GLIBC_2.3.2"),
    (c"pthread_cond_signal", c"GLIBC_2.3.2"),
    (c"pthread_cond_broadcast", c"GLIBC_2.3.2"),
    (c"posix_spawn", c"GLIBC_2.15"),
    (c"posix_spawnp", c"GLIBC_2.15"),
    (c"realpath", c"GLIBC_2.3"),
];

fn lookup(name: &CStr) -> Found {
    // SAFETY: no arguments, no memory.
    let me = unsafe { syscall6(libc::SYS_gettid, [0; 6]) } as i32;
    if RESOLVER.load(Relaxed) == me {
        return Found::Busy;
    }
    RESOLVER.store(me, Relaxed);
    let saved = errno();
    let mut at = core::ptr::null_mut();
    let version = VERSIONED.iter().find(|(n, _)| *n == name);
    if let Some((_, version)) = version.filter(|_| cfg!(target_arch = "x86_64")) {
        // SAFETY: both are C strings; the lookup starts behind the object that this code is in.
        at = unsafe { libc::dlvsym(libc::RTLD_NEXT, name.as_ptr(), version.as_ptr()) };
    }
    if at.is_null() {
        // SAFETY: as above.
        at = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    }
    set_errno(saved);
    RESOLVER.store(0, Relaxed);
    if at.is_null() { Found::Nowhere } else { Found::At(at.cast()) }
}

#[inline]
pub(super) fn errno() -> c_int {
    // SAFETY: the address is valid for the calling thread.
    unsafe { *libc::__errno_location() }
}

#[inline]
pub(super) fn set_errno(code: c_int) {
    // SAFETY: the address is valid for the calling thread.
    unsafe { *libc::__errno_location() = code }
}

/// What a function that is not there returns, besides setting `errno` to `ENOSYS`.
pub(super) trait Failure {
    const FAILED: Self;
}

impl Failure for c_int {
    const FAILED: Self = -1;
}
impl Failure for isize {
    const FAILED: Self = -1;
}
impl Failure for i64 {
    const FAILED: Self = -1;
}
/// Counts of objects done, of `fread` and its like: none.
impl Failure for usize {
    const FAILED: Self = 0;
}
/// The rest of `sleep`'s time: none was slept, but how much was asked is not known here.
impl Failure for u32 {
    const FAILED: Self = 0;
}
impl Failure for () {
    const FAILED: Self = ();
}
impl<T> Failure for *mut T {
    const FAILED: Self = core::ptr::null_mut();
}

pub(super) fn fail<R: Failure>() -> R {
    set_errno(libc::ENOSYS);
    R::FAILED
}

/// Makes a system call in place of the libc function that would, with libc's way of reporting failure.
///
/// # Safety
/// As for the call itself.
pub(super) unsafe fn raw<const N: usize>(number: libc::c_long, args: [usize; N]) -> isize {
    let mut six = [0; 6];
    for (to, from) in six.iter_mut().zip(args) {
        *to = from;
    }
    // SAFETY: the caller's.
    let r = unsafe { syscall6(number, six) };
    if (-4095..0).contains(&r) {
        set_errno(-r as c_int);
        return -1;
    }
    r
}

/// Declares the real functions of a family in a module `real`, and writes those hooks that do nothing but record a
/// system call.
///
/// `plain { fn f(..) -> R = name; }` makes the hook and `real::f`; `own { fn f(..) -> R; }` makes `real::f` alone. `,
/// else sys(N)` and `, else code` say what stands in where libc lacks the function: system call `N`, or `ENOSYS` as the
/// result (the way of the pthread functions). Without it, `ENOSYS` in `errno` and the usual result of a failure.
macro_rules! hooks {
    (
        plain { $(
            fn $p:ident($($pa:ident: $pt:ty),* $(,)?) -> $pr:ty = $pn:ident $(, else $pk:ident $(($pc:expr))?)?;
        )* }
        own { $( fn $o:ident($($oa:ident: $ot:ty),* $(,)?) -> $or:ty $(, else $ok:ident $(($oc:expr))?)?; )* }
    ) => {
        pub(super) mod real {
            #![allow(non_upper_case_globals)]
            #[allow(unused_imports)]
            use super::*;
            $( $crate::hook::interpose::real::real_fn!{$p [$($pa: $pt),*] $pr [$($pk $(($pc))?)?]} )*
            $( $crate::hook::interpose::real::real_fn!{$o [$($oa: $ot),*] $or [$($ok $(($oc))?)?]} )*

            /// Looks all of the family up.
            pub(in crate::hook::interpose) fn resolve() {
                $( $p.resolve(); )*
                $( $o.resolve(); )*
            }
        }
        $crate::hook::interpose::real::recorded! {
            $( fn $p($($pa: $pt),*) -> $pr { $crate::hook::interpose::real::as_syscall!($pn, real::$p($($pa),*)) } )*
        }
    };
}
pub(super) use hooks;

/// Hooks that call the real function and nothing else while tracing is off.
///
/// What they do while it is on is a function of its own, so that the other path is a load, a branch and a jump, without
/// a frame.
macro_rules! recorded {
    ($( fn $name:ident($($a:ident: $t:ty),* $(,)?) -> $r:ty $on:block )*) => { $(
        #[doc = concat!("`", stringify!($name), "`.\n\n# Safety\nAs for the real function.")]
        pub unsafe extern "C-unwind" fn $name($($a: $t),*) -> $r {
            /// # Safety
            /// As for the hook.
            #[inline(never)]
            unsafe extern "C-unwind" fn on($($a: $t),*) -> $r $on
            if !$crate::hook::on() {
                return $crate::hook::interpose::real::call!(real::$name($($a),*));
            }
            // SAFETY: the caller's promise to the hook.
            unsafe { on($($a),*) }
        }
    )* };
}
pub(super) use recorded;

/// One `Real`, with its stub and its stand-in.
macro_rules! real_fn {
    ($name:ident [$($a:ident: $t:ty),*] $r:ty [$($how:tt)*]) => {
        pub(in crate::hook::interpose) static $name: $crate::hook::interpose::real::Real<
            $crate::hook::interpose::real::c_fn!(fn($($t),*) -> $r),
        > = {
            /// # Safety
            /// As for the real function.
            unsafe extern "C-unwind" fn first($($a: $t),*) -> $r {
                let found = $name.resolve();
                // SAFETY: the caller's promise to the hook is the promise to the function.
                unsafe { found($($a),*) }
            }
            /// # Safety
            /// As for the real function.
            unsafe extern "C-unwind" fn missing($($a: $t),*) -> $r {
                $crate::hook::interpose::real::missing!([$($a),*] $r; $($how)*)
            }
            const NAME: &core::ffi::CStr =
                match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("a name has no zero in it"),
                };
            // SAFETY: the stubs have the type, and the declaration is libc's.
            unsafe { $crate::hook::interpose::real::Real::new(NAME, first as *mut (), missing as *const ()) }
        };
    };
}
pub(super) use real_fn;

macro_rules! missing {
    ([$($a:ident),*] $r:ty;) => {{
        let _ = ($($a,)*);
        $crate::hook::interpose::real::fail::<$r>()
    }};
    ([$($a:ident),*] $r:ty; code) => {{
        let _ = ($($a,)*);
        libc::ENOSYS
    }};
    // `syscall` itself.
    ([$number:ident, $($a:ident),*] $r:ty; raw) => {{
        // SAFETY: the caller's promise to `syscall`.
        (unsafe { $crate::hook::interpose::real::raw($number, [$($a),*]) }) as $r
    }};
    ([$($a:ident),*] $r:ty; sys($number:expr)) => {{
        // SAFETY: the caller's promise to the libc function, which makes this very call.
        (unsafe { $crate::hook::interpose::real::raw($number, [$($a as usize),*]) }) as $r
    }};
}
pub(super) use missing;

/// Calls the real function.
macro_rules! call {
    (real::$f:ident($($a:expr),* $(,)?)) => {{
        let f = real::$f.get();
        // SAFETY: the caller's promise to the hook is the promise to the real function.
        unsafe { f($($a),*) }
    }};
}
pub(super) use call;

/// Calls the real function as a system call of that name. The value is the call's, whenever tracing is turned on or off.
macro_rules! as_syscall {
    ($name:ident, real::$f:ident($($a:expr),* $(,)?)) => {{
        let f = real::$f.get();
        let entry = if $crate::hook::on() {
            Some($crate::hook::syscall::begin($crate::record::syscall_name::SyscallName::$name))
        } else {
            None
        };
        // SAFETY: the caller's promise to the hook is the promise to the real function.
        let result = unsafe { f($($a),*) };
        if let Some(entry) = entry {
            $crate::hook::syscall::end(entry);
        }
        result
    }};
}
pub(super) use as_syscall;

/// Calls the real function as a wait for that reason, whether tracing is on or off.
macro_rules! as_wait {
    ($reason:ident, real::$f:ident($($a:expr),* $(,)?)) => {{
        let f = real::$f.get();
        $crate::hook::thread::block($crate::hook::thread::Reason::$reason);
        // SAFETY: the caller's promise to the hook is the promise to the real function.
        let result = unsafe { f($($a),*) };
        $crate::hook::thread::unblock();
        result
    }};
}
pub(super) use as_wait;

/// The type of `const char *` and `void *` arguments, which the hooks never look behind.
pub(super) type Str = *const c_char;
pub(super) type Ptr = *mut c_void;
