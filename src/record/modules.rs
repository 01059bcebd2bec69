//! What code is mapped into this process: the executable, its libraries, and which builds of them.
//!
//! With this a trace can carry bare program counters and be symbolized later, elsewhere; and a program counter without a
//! symbol still gets a name. For the tracer's own thread: it allocates, and takes the loader's lock.

use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// An executable segment of a mapped ELF file. Empty on systems without `dl_iterate_phdr`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The address of the segment's first byte.
    pub start: usize,
    /// The address behind its last byte.
    pub end: usize,
    /// The segment's place in the file, in bytes.
    pub file_offset: u64,
    /// The difference between addresses here and in the file's symbol tables.
    pub load_bias: usize,
    /// The file, as the loader named it; `[vdso]` for the kernel's.
    pub path: String,
    /// The linker's GNU build id, or empty.
    pub build_id: Vec<u8>,
}

impl Module {
    /// The file's name without its directories.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// What [`modules`] last found, for the child of a fork. Null before.
static LAST: AtomicPtr<Vec<Module>> = AtomicPtr::new(core::ptr::null_mut());
/// Whether this process is the child of one that was tracing.
static INHERITED: AtomicBool = AtomicBool::new(false);

/// All modules with code, by address.
///
/// In the child of a process that was tracing they are those that the parent saw last: its tracer's thread may have held the loader's
/// lock when it forked, which then nobody gives back.
pub fn modules() -> Vec<Module> {
    if is_inherited() {
        let last = LAST.load(Ordering::Acquire);
        // SAFETY: null, or a list that was published whole. In such a process nobody publishes another, so nobody frees this one.
        return unsafe { last.as_ref() }.cloned().unwrap_or_default();
    }
    let mut modules = imp::modules();
    modules.sort_by_key(|module| module.start);
    let before = LAST.swap(Box::into_raw(Box::new(modules.clone())), Ordering::AcqRel);
    if !before.is_null() {
        // SAFETY: made from a box above, and taken out by this thread alone. Only children read it, and they have a copy.
        drop(unsafe { Box::from_raw(before) });
    }
    modules
}

/// This is the child of a process that was tracing.
pub(crate) fn inherit() {
    INHERITED.store(true, Ordering::Release);
}

/// Whether this is the child of a process that was tracing when it forked.
pub(crate) fn is_inherited() -> bool {
    INHERITED.load(Ordering::Acquire)
}

/// The module that `address` lies in; `modules` as [`modules`] returned them.
pub fn find(modules: &[Module], address: usize) -> Option<&Module> {
    let behind = modules.partition_point(|module| module.start <= address);
    modules[..behind].last().filter(|module| address < module.end)
}

/// The build id among the notes of a note segment. `align` is the segment's alignment, which the notes keep.
#[cfg(any(test, target_os = "linux"))]
fn build_id(mut notes: &[u8], align: usize) -> Option<&[u8]> {
    /// `NT_GNU_BUILD_ID` of `elf.h`.
    const GNU_BUILD_ID: u32 = 3;
    let align = if align == 8 { 8 } else { 4 };
    loop {
        let (header, rest) = notes.split_first_chunk::<12>()?;
        let word = |i: usize| u32::from_ne_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let (name_bytes, description_bytes, kind) = (word(0) as usize, word(4) as usize, word(8));
        // The header is 12 bytes, so with an alignment of 8 the padding counts from the note's beginning.
        let description_at = (12 + name_bytes).next_multiple_of(align).checked_sub(12)?;
        let description = rest.get(description_at..)?.get(..description_bytes)?;
        if kind == GNU_BUILD_ID && rest.get(..name_bytes)? == b"GNU\0" {
            return Some(description);
        }
        notes = notes.get((12 + description_at + description_bytes).next_multiple_of(align)..)?;
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod imp {
    use core::ffi::{CStr, c_int, c_void};

    use super::{Module, build_id};

    pub(super) fn modules() -> Vec<Module> {
        let mut modules: Vec<Module> = Vec::new();
        // SAFETY: the callback keeps to its types, and gets the vector that it expects.
        unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut modules).cast()) };
        // The loader does not name the executable. Asked for out here, where its lock is not held.
        if modules.iter().any(|module| module.path.is_empty()) {
            let path =
                std::env::current_exe().map_or_else(|_| "[exe]".into(), |path| path.to_string_lossy().into_owned());
            modules.iter_mut().filter(|module| module.path.is_empty()).for_each(|module| module.path.clone_from(&path));
        }
        modules
    }

    /// # Safety
    /// For the loader to call: `info` describes an object that stays loaded during the call, and `modules` is the vector that
    /// the caller of `dl_iterate_phdr` passed.
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _size: usize, modules: *mut c_void) -> c_int {
        // SAFETY: the vector of `modules`, which waits for this call.
        let modules = unsafe { &mut *modules.cast::<Vec<Module>>() };
        // SAFETY: the loader hands a valid description.
        let info = unsafe { &*info };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: `dlpi_phdr` points to `dlpi_phnum` program headers of a module that is mapped during the call.
        let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) };
        let load_bias = info.dlpi_addr as usize;
        let at = |vaddr: u64| load_bias.wrapping_add(vaddr as usize);
        let path = match info.dlpi_name.is_null() {
            true => String::new(),
            // SAFETY: a terminated string of the loader.
            false => unsafe { CStr::from_ptr(info.dlpi_name) }.to_string_lossy().into_owned(),
        };
        let path = if path.starts_with("linux-vdso") { "[vdso]".into() } else { path };
        let build_id = headers.iter().filter(|h| h.p_type == libc::PT_NOTE).find_map(|h| {
            // SAFETY: the loader mapped the segment, which is as long as its header says, and keeps it during the call.
            let notes = unsafe {
                core::slice::from_raw_parts(core::ptr::with_exposed_provenance(at(h.p_vaddr)), h.p_memsz as usize)
            };
            build_id(notes, h.p_align as usize).map(<[u8]>::to_vec)
        });
        for h in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0) {
            modules.push(Module {
                start: at(h.p_vaddr),
                end: at(h.p_vaddr + h.p_memsz),
                file_offset: h.p_offset,
                load_bias,
                path: path.clone(),
                build_id: build_id.clone().unwrap_or_default(),
            });
        }
        0
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod imp {
    pub(super) fn modules() -> Vec<super::Module> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn the_program_and_its_libc_are_there() {
        let modules = modules();
        assert!(modules.windows(2).all(|m| m[0].end <= m[1].start));
        let here = find(&modules, the_program_and_its_libc_are_there as fn() as usize).expect("this program");
        assert_eq!(here.path, std::env::current_exe().unwrap().to_str().unwrap());
        let qsort = find(&modules, libc::qsort as *const () as usize).expect("libc");
        assert!(qsort.name().contains("libc") || qsort.path == here.path, "{qsort:?}");
        let on_the_stack = &modules as *const _ as usize;
        assert_eq!(find(&modules, on_the_stack), None);
        assert_eq!(find(&modules, 0), None);
        assert_eq!(find(&[], 1), None);
        // The file has the very bytes that are mapped.
        let file = std::fs::read(&here.path).unwrap();
        // SAFETY: code of this program.
        let mapped = unsafe { core::slice::from_raw_parts(here.start as *const u8, 64) };
        assert_eq!(&file[here.file_offset as usize..][..64], mapped);
    }

    #[test]
    fn the_build_id_is_found_among_other_notes() {
        fn note(kind: u32, name: &[u8], description: &[u8], align: usize) -> Vec<u8> {
            let mut note: Vec<u8> =
                [name.len() as u32, description.len() as u32, kind].iter().flat_map(|n| n.to_ne_bytes()).collect();
            note.extend(name);
            note.resize(note.len().next_multiple_of(align), 0);
            note.extend(description);
            note.resize(note.len().next_multiple_of(align), 0);
            note
        }
        for align in [4, 8] {
            let id = note(3, b"GNU\0", &[7; 20], align);
            let notes = [note(5, b"GNU\0", &[1; 16], align), note(3, b"Go\0\0", b"x", align), id.clone()].concat();
            assert_eq!(build_id(&notes, align), Some(&[7; 20][..]));
            assert_eq!(build_id(&id, align), Some(&[7; 20][..]));
            for cut in 0..id.len() - align {
                assert_eq!(build_id(&id[..cut], align), None, "cut to {cut}");
            }
        }
        assert_eq!(build_id(&[0xff; 64], 4), None);
        assert_eq!(build_id(&[], 4), None);
    }
}
