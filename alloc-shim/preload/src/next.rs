//! The allocator behind this library: the program's own, wherever that is, or mimalloc if that is asked for.
//!
//! Its functions are looked up when the first of them is called, which is long before `main`. The lookup may itself allocate
//! (in older C libraries): what is asked for meanwhile comes from a small static area, and is never given back.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_void};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering::*};

#[cfg(feature = "mimalloc")]
use crate::mimalloc;

type Ptr = *mut c_void;

/// One function of the next allocator. Null until it is known, and for one that it does not have.
struct Next {
    at: AtomicPtr<c_void>,
    name: &'static CStr,
}

macro_rules! next {
    ($($(#[$doc:meta])* $slot:ident $name:literal fn $f:ident($($a:ident: $t:ty),*) -> $r:ty, else $missing:expr;)*) => {
        $( static $slot: Next = Next { at: AtomicPtr::new(core::ptr::null_mut()), name: $name }; )*

        fn all() -> impl Iterator<Item = &'static Next> {
            [$(&$slot),*].into_iter()
        }

        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As for the function of the C library.
            #[inline(always)]
            pub(crate) unsafe fn $f($($a: $t),*) -> $r {
                let mut at = $slot.at.load(Relaxed);
                if at.is_null() {
                    if !find() {
                        // Asked from inside of the lookup itself.
                        return $missing;
                    }
                    at = $slot.at.load(Relaxed);
                    if at.is_null() {
                        return $missing;
                    }
                }
                // SAFETY: it is the function of that name, and so of that type.
                let f = unsafe { core::mem::transmute::<Ptr, unsafe extern "C" fn($($t),*) -> $r>(at) };
                // SAFETY: the caller's.
                unsafe { f($($a),*) }
            }
        )*
    };
}

next! {
    /// `malloc`.
    MALLOC c"malloc" fn malloc(size: usize) -> Ptr, else early(size, 16);
    /// `calloc`.
    CALLOC c"calloc" fn calloc(n: usize, size: usize) -> Ptr, else n.checked_mul(size).map_or(core::ptr::null_mut(), |b| early(b, 16));
    /// `realloc`, of a block that is not [`is_early`].
    REALLOC c"realloc" fn realloc(at: Ptr, size: usize) -> Ptr, else { let _ = at; early(size, 16) };
    /// `free`, of a block that is not [`is_early`].
    FREE c"free" fn free(at: Ptr) -> (), else { let _ = at; };
    /// `posix_memalign`.
    POSIX_MEMALIGN c"posix_memalign" fn posix_memalign(to: *mut Ptr, align: usize, size: usize) -> c_int, else {
        let _ = (to, align, size);
        libc::ENOMEM
    };
    /// `aligned_alloc`.
    ALIGNED_ALLOC c"aligned_alloc" fn aligned_alloc(align: usize, size: usize) -> Ptr, else early(size, align);
    /// `memalign`.
    MEMALIGN c"memalign" fn memalign(align: usize, size: usize) -> Ptr, else early(size, align);
    /// `valloc`.
    VALLOC c"valloc" fn valloc(size: usize) -> Ptr, else early(size, 4096);
    /// `pvalloc`.
    PVALLOC c"pvalloc" fn pvalloc(size: usize) -> Ptr, else early(size.next_multiple_of(4096), 4096);
    /// `malloc_usable_size`, of a block that is not [`is_early`].
    USABLE c"malloc_usable_size" fn usable(at: Ptr) -> usize, else { let _ = at; 0 };
}

const UNKNOWN: u8 = 0;
const SEARCHING: u8 = 1;
const KNOWN: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Looks all functions up. False if that is under way, on this thread or, in a moment when there hardly are any, on another.
#[cold]
#[inline(never)]
fn find() -> bool {
    match STATE.compare_exchange(UNKNOWN, SEARCHING, Acquire, Acquire) {
        Ok(_) => {}
        Err(state) => return state == KNOWN,
    }
    for next in all() {
        // SAFETY: a terminated name; the search begins behind the object that this code is in.
        next.at.store(unsafe { libc::dlsym(libc::RTLD_NEXT, next.name.as_ptr()) }, Relaxed);
    }
    STATE.store(KNOWN, Release);
    true
}

/// What a lookup takes is a few hundred bytes.
const EARLY_BYTES: usize = 64 << 10;

#[repr(align(4096))]
struct Early(UnsafeCell<[u8; EARLY_BYTES]>);

// SAFETY: parts of it are handed out, each once; the area itself is never touched.
unsafe impl Sync for Early {}

static EARLY: Early = Early(UnsafeCell::new([0; EARLY_BYTES]));
static EARLY_USED: AtomicUsize = AtomicUsize::new(0);

/// Zeroed memory before there is an allocator. Null when there is no more.
fn early(size: usize, align: usize) -> Ptr {
    let align = align.clamp(16, 4096).next_power_of_two();
    let taken = EARLY_USED.fetch_update(Relaxed, Relaxed, |used| {
        let end = used.next_multiple_of(align).checked_add(size)?;
        (end <= EARLY_BYTES).then_some(end)
    });
    let Ok(used) = taken else { return core::ptr::null_mut() };
    EARLY.0.get().cast::<u8>().wrapping_add(used.next_multiple_of(align)).cast()
}

/// Whether a block was handed out before there was an allocator.
#[inline(always)]
pub(crate) fn is_early(at: Ptr) -> bool {
    at.addr().wrapping_sub(EARLY.0.get().addr()) < EARLY_BYTES
}

/// How many bytes from an early block on can be read.
pub(crate) fn early_bytes(at: Ptr) -> usize {
    EARLY_BYTES - at.addr().wrapping_sub(EARLY.0.get().addr()).min(EARLY_BYTES)
}

/// Puts mimalloc in the place of the program's allocator, for all that is allocated from here on.
///
/// Blocks that are there go back to where they came from. So the functions that take a block come first.
#[cfg(feature = "mimalloc")]
pub(crate) fn swap() {
    find();
    let to = |next: &Next, f: *const ()| next.at.store(f.cast_mut().cast(), Release);
    mimalloc::prepare([&FREE, &REALLOC, &USABLE].map(|next| next.at.load(Relaxed)));
    to(&FREE, mimalloc::free as *const ());
    to(&REALLOC, mimalloc::realloc as *const ());
    to(&USABLE, mimalloc::usable as *const ());
    to(&MALLOC, mimalloc::malloc as *const ());
    to(&CALLOC, mimalloc::calloc as *const ());
    to(&POSIX_MEMALIGN, mimalloc::posix_memalign as *const ());
    to(&ALIGNED_ALLOC, mimalloc::aligned_alloc as *const ());
    to(&MEMALIGN, mimalloc::memalign as *const ());
    to(&VALLOC, mimalloc::valloc as *const ());
    to(&PVALLOC, mimalloc::pvalloc as *const ());
}

/// Whether the allocator tells the size of its blocks. Without that there is no heap to be recorded.
pub(crate) fn tells_sizes() -> bool {
    find();
    !USABLE.at.load(Relaxed).is_null()
}
