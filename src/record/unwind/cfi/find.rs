//! Which module an address lies in, and where that module's index of call frame information is.
//!
//! glibc 2.35 answers without a lock (`_dl_find_object`, made for unwinders and async-signal-safe). Elsewhere a snapshot of the
//! modules is searched, which [`refresh`] takes.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};

/// A mapped ELF module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The address of `.eh_frame_hdr`.
    pub(super) eh_frame_hdr: usize,
}

/// `_dl_find_object`, or 0. Written by [`refresh`] only, always with the same value.
static DL_FIND_OBJECT: AtomicUsize = AtomicUsize::new(0);

/// glibc's `struct dl_find_object` on the 64-bit targets that carry no data base (`DLFO_STRUCT_HAS_EH_DBASE` 0).
#[repr(C)]
struct DlFindObject {
    flags: u64,
    map_start: usize,
    map_end: usize,
    link_map: *mut c_void,
    eh_frame: usize,
    reserved: [u64; 7],
}

/// The module that `address` lies in, if it has call frame information.
pub(super) fn module_of(address: usize) -> Option<Module> {
    match DL_FIND_OBJECT.load(Relaxed) {
        0 => snapshot::module_of(address),
        f => by_loader(f, address),
    }
}

fn by_loader(dl_find_object: usize, address: usize) -> Option<Module> {
    // SAFETY: `refresh` stored the address of the function of this name, which glibc declares with this type.
    let f = unsafe {
        core::mem::transmute::<*const c_void, extern "C" fn(usize, *mut DlFindObject) -> c_int>(
            core::ptr::with_exposed_provenance(dl_find_object),
        )
    };
    let mut found = DlFindObject {
        flags: 0,
        map_start: 0,
        map_end: 0,
        link_map: core::ptr::null_mut(),
        eh_frame: 0,
        reserved: [0; 7],
    };
    (f(address, &mut found) == 0 && found.eh_frame != 0).then_some(Module {
        start: found.map_start,
        end: found.map_end,
        eh_frame_hdr: found.eh_frame,
    })
}

/// Looks the loader's function up, or else takes a new snapshot of the modules. Takes the loader's lock.
pub(in super::super) fn refresh() {
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    if DL_FIND_OBJECT.load(Relaxed) == 0 {
        // SAFETY: a valid symbol name. No match is not an error here.
        let f = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
        DL_FIND_OBJECT.store(f.expose_provenance(), Relaxed);
    }
    if DL_FIND_OBJECT.load(Relaxed) == 0 {
        snapshot::take();
    }
}

/// The modules as they were at the last [`refresh`]: a table that signal handlers may read while it is being replaced.
mod snapshot {
    use super::*;

    const MODULES_MAX: usize = 1024;

    struct Entry {
        start: AtomicUsize,
        end: AtomicUsize,
        eh_frame_hdr: AtomicUsize,
    }

    /// Written only by the holder of `TAKING`, between the two steps of `VERSION`.
    static ENTRIES: [Entry; MODULES_MAX] =
        [const { Entry { start: AtomicUsize::new(0), end: AtomicUsize::new(0), eh_frame_hdr: AtomicUsize::new(0) } };
            MODULES_MAX];
    static LEN: AtomicUsize = AtomicUsize::new(0);
    /// Odd while the table is being written.
    static VERSION: AtomicU32 = AtomicU32::new(0);
    static TAKING: AtomicBool = AtomicBool::new(false);
    static WANTED: AtomicU32 = AtomicU32::new(0);

    /// Takes a snapshot. Does not wait for another thread that is taking one: that one then takes one more.
    pub(super) fn take() {
        WANTED.fetch_add(1, AcqRel);
        while !TAKING.swap(true, Acquire) {
            let wanted = WANTED.load(Acquire);
            VERSION.fetch_add(1, AcqRel);
            // Pairs with the reader's fence: who sees an entry of this pass sees the odd version too.
            fence(Release);
            LEN.store(0, Relaxed);
            // SAFETY: the callback keeps to the types of the call and does not unwind.
            unsafe { libc::dl_iterate_phdr(Some(add), core::ptr::null_mut()) };
            VERSION.fetch_add(1, Release);
            TAKING.store(false, Release);
            if WANTED.load(Acquire) == wanted {
                break;
            }
        }
    }

    /// # Safety
    /// For the loader to call: `info` describes an object that stays loaded during the call.
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
        // SAFETY: the loader hands a valid description.
        let info = unsafe { &*info };
        let n = LEN.load(Relaxed);
        let (Some(entry), false) = (ENTRIES.get(n), info.dlpi_phdr.is_null()) else { return 0 };
        // SAFETY: `dlpi_phdr` points to `dlpi_phnum` program headers of a module that is mapped during the call.
        let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) };
        let (mut start, mut end, mut hdr) = (usize::MAX, 0, 0);
        for h in headers {
            let at = (info.dlpi_addr as usize).wrapping_add(h.p_vaddr as usize);
            match h.p_type {
                libc::PT_LOAD => (start, end) = (start.min(at), end.max(at.wrapping_add(h.p_memsz as usize))),
                libc::PT_GNU_EH_FRAME => hdr = at,
                _ => {}
            }
        }
        if hdr != 0 && start < end {
            entry.start.store(start, Relaxed);
            entry.end.store(end, Relaxed);
            entry.eh_frame_hdr.store(hdr, Relaxed);
            LEN.store(n + 1, Relaxed);
        }
        0
    }

    pub(super) fn module_of(address: usize) -> Option<Module> {
        let version = VERSION.load(Acquire);
        let entries = ENTRIES.get(..LEN.load(Relaxed))?;
        let found = entries.iter().map(|e| Module {
            start: e.start.load(Relaxed),
            end: e.end.load(Relaxed),
            eh_frame_hdr: e.eh_frame_hdr.load(Relaxed),
        });
        let found = found.into_iter().find(|m| (m.start..m.end).contains(&address));
        // Pairs with the writer's fence.
        fence(Acquire);
        found.filter(|_| version & 1 == 0 && VERSION.load(Relaxed) == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshot_agrees_with_the_loader() {
        snapshot::take();
        refresh();
        let addresses = [
            the_snapshot_agrees_with_the_loader as fn() as usize,
            libc::qsort as *const () as usize,
            libc::dl_iterate_phdr as *const () as usize,
        ];
        for address in addresses {
            let found = snapshot::module_of(address).expect("a module of this process");
            assert!((found.start..found.end).contains(&address));
            assert!((found.start..found.end).contains(&found.eh_frame_hdr));
            if let f @ 1.. = DL_FIND_OBJECT.load(Relaxed) {
                let by_loader = by_loader(f, address).expect("the same");
                assert_eq!(by_loader.eh_frame_hdr, found.eh_frame_hdr);
            }
        }
        let on_the_stack = &addresses as *const _ as usize;
        assert_eq!(snapshot::module_of(on_the_stack), None);
        assert_eq!(module_of(on_the_stack), None);
        assert_eq!(module_of(0), None);
    }
}
