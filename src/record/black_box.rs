//! The traced process's side of the [black box](crate::format::black_box): what a crash would take along is kept where it cannot.
//!
//! The buffers of the pool are mapped from the file itself, and a batch keeps its own tail true with each event: so there is
//! nothing to copy. Stacks and names are journaled where they enter their tables, which is rare. A buffer is not given back before
//! its generation is in the trace's file.
//!
//! Nothing here waits, and nothing depends on it: without a file, or when it cannot grow, the trace is the same, and only a crash
//! loses more. The file's blocks are reserved before they are touched, so that a full disk is an error and not a signal.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::{modules, stacks, string_table, thread};
use crate::format::black_box::{JOURNAL_AT, JOURNAL_BYTES, MAGIC, SLABS_AT, entry, word};
use crate::sys::own::OfProcess;
use crate::sys::pages::{self, Refused};
use crate::sys::thread as os;

/// The file's words; null while there is no box. Set at start, reset at stop; never unmapped, since a hook may be between its look
/// and its write. A child, which does not have the mapping, finds it null.
static AT: OfProcess<AtomicPtr<AtomicU64>> = OfProcess::new(AtomicPtr::new(core::ptr::null_mut()));
/// Addresses of boxes that are closed, and how many bytes there are. Two take turns, so that whoever is late writes to neither the
/// box that is open nor the one before it. Used by whoever starts and stops.
static SPARE: [(AtomicPtr<AtomicU64>, AtomicUsize); 2] =
    [const { (AtomicPtr::new(core::ptr::null_mut()), AtomicUsize::new(0)) }; 2];
/// Which of them the box has that is open, and its bytes.
static TURN: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
/// The file, where memory cannot be had without it: it is then reserved block by block. Else -1.
static FILE: AtomicI32 = AtomicI32::new(-1);
/// Its device and inode, by which it is known that the descriptor is still its own: the program may have closed it and have another
/// file under that number. Written at start.
static IDENTITY: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// The bytes of the journal that the system has reserved.
static RESERVED: AtomicU64 = AtomicU64::new(0);
/// How much of the journal is reserved at once.
const STEP: u64 = 256 << 10;
/// The system calls that have been named, one bit each.
static CALLS: [AtomicU64; CALLS_MAX / 64] = [const { AtomicU64::new(0) }; CALLS_MAX / 64];
const CALLS_MAX: usize = 4096;

/// The file's words, of which the first `JOURNAL_AT` bytes are reserved.
fn words() -> Option<&'static [AtomicU64]> {
    let at = NonNull::new(AT.load(Ordering::Acquire))?;
    // SAFETY: the mapping of `open`, which is so long and stays. Atomics, since hooks on all threads write there.
    Some(unsafe { core::slice::from_raw_parts(at.as_ptr(), SLABS_AT / 8) })
}

fn set(index: usize, value: u64) {
    if let Some(words) = words() {
        words[index].store(value, Ordering::Release);
    }
}

/// Whether there is one.
pub(crate) fn is_open() -> bool {
    !AT.load(Ordering::Relaxed).is_null()
}

/// Whether the box needs its file's descriptor as long as it is open.
#[allow(dead_code, reason = "the preload library asks, where there is one")]
pub(crate) fn needs_file() -> bool {
    FILE.load(Ordering::Relaxed) >= 0
}

/// Whether children find [`AT`] null of themselves.
static IS_OF_PROCESS: AtomicBool = AtomicBool::new(false);

/// See [`OfProcess`].
pub(crate) fn keep_from_children() {
    IS_OF_PROCESS.store(AT.keep_from_children(), Ordering::Relaxed);
}

/// Begins a box in `file`, an empty file that is open for reading and writing, with room for `slabs` bytes of buffers. False if that
/// cannot be. The file stays open until [`close`] if it [is needed](needs_file).
pub(crate) fn open(file: i32, slabs: usize, minor: u32) -> bool {
    let Some((device, inode)) = pages::file_identity(file) else { return false };
    // A pool has at least 1 MiB.
    let bytes = pages::round_up(SLABS_AT + slabs.max(1 << 20));
    let spare = &SPARE[TURN.fetch_add(1, Ordering::Relaxed) % 2];
    let over = NonNull::new(spare.0.load(Ordering::Relaxed)).filter(|_| spare.1.load(Ordering::Relaxed) == bytes);
    let alone = IS_OF_PROCESS.load(Ordering::Relaxed);
    // SAFETY: the mapping of the box before the last, which is closed; only who is late by a whole trace writes there. A child that
    // does not inherit it finds no box.
    let Some(at) = (unsafe { pages::map_file(file, bytes, over.map(NonNull::cast), alone) }) else { return false };
    spare.0.store(at.as_ptr().cast(), Ordering::Relaxed);
    spare.1.store(bytes, Ordering::Relaxed);
    BYTES.store(bytes, Ordering::Relaxed);
    IDENTITY[0].store(device, Ordering::Relaxed);
    IDENTITY[1].store(inode, Ordering::Relaxed);
    let first = JOURNAL_AT + STEP as usize;
    let needed = match pages::populate(at, first) {
        Ok(()) => -1,
        Err(Refused::Unknown) if pages::reserve_file(file, 0, first) => file,
        Err(_) => {
            // Nobody has seen it. The file's blocks are not to be held for a box that is none.
            // SAFETY: the mapping of above.
            unsafe { pages::unmap_file(at, bytes) };
            return false;
        }
    };
    FILE.store(needed, Ordering::Relaxed);
    RESERVED.store(STEP, Ordering::Relaxed);
    CALLS.iter().for_each(|c| c.store(0, Ordering::Relaxed));
    AT.store(at.as_ptr().cast(), Ordering::Release);
    set(word::VERSION, u64::from(minor));
    set(word::PID, u64::from(os::process_id()));
    for id in 1..=string_table::count() {
        name(id, string_table::bytes(id));
    }
    for id in 1..=stacks::count() {
        stack(id, stacks::get(id));
    }
    for t in thread::all().filter(|t| t.tid.load(Ordering::Relaxed) != 0) {
        t.journal_name();
    }
    for module in modules::modules() {
        journal_module(&module);
    }
    set(word::MAGIC, MAGIC);
    true
}

/// The trace is over: nobody uses its buffers.
pub(crate) fn close() {
    let at = AT.swap(core::ptr::null_mut(), Ordering::AcqRel);
    FILE.store(-1, Ordering::Relaxed);
    if let Some(at) = NonNull::new(at) {
        // SAFETY: the mapping of `open`. A hook that is late writes to where nobody looks.
        unsafe { pages::unmap_file(at.cast(), BYTES.load(Ordering::Relaxed)) };
    }
}

/// This is the child of a `fork`, whose parent's box it is. The addresses are free here.
pub(crate) fn leave() {
    AT.store(core::ptr::null_mut(), Ordering::Release);
    FILE.store(-1, Ordering::Relaxed);
    SPARE.iter().for_each(|(at, _)| at.store(core::ptr::null_mut(), Ordering::Relaxed));
}

/// Sees to it that `bytes` from `offset` on can be touched.
fn reserve_at(offset: usize, bytes: usize) -> bool {
    let Some(at) = NonNull::new(AT.load(Ordering::Acquire)) else { return false };
    let file = FILE.load(Ordering::Relaxed);
    if file < 0 {
        // SAFETY: inside of the mapping, by the bounds that the callers keep to.
        return pages::populate(unsafe { at.cast::<u8>().add(offset) }, bytes).is_ok();
    }
    let own = (IDENTITY[0].load(Ordering::Relaxed), IDENTITY[1].load(Ordering::Relaxed));
    pages::file_identity(file) == Some(own) && pages::reserve_file(file, offset, bytes)
}

/// Memory for buffers, part of the file: the `index`th piece of `bytes`. `None` if there is no box or no room.
pub(crate) fn slab(index: usize, bytes: usize) -> Option<NonNull<u8>> {
    let words = words()?;
    let offset = SLABS_AT + index * bytes;
    if offset + bytes > BYTES.load(Ordering::Relaxed) || !reserve_at(offset, bytes) {
        return None;
    }
    words[word::SLABS_BYTES].fetch_max(((index + 1) * bytes) as u64, Ordering::Relaxed);
    // SAFETY: inside of the mapping, as was seen above.
    Some(unsafe { NonNull::new(AT.load(Ordering::Acquire))?.cast::<u8>().add(offset) })
}

/// A generation is about to open: its clock. `ns` are a moment on the trace's, the monotonic and the wall clock.
pub(crate) fn opens(generation: u32, ns: [u64; 3]) {
    let at = word::GENERATIONS[(generation & 1) as usize];
    // It is of no generation while the rest is written.
    set(at + word::NUMBER, 0);
    set(at + word::OPENED_NS, ns[0]);
    set(at + word::MONO_NS, ns[1]);
    set(at + word::WALL_NS, ns[2]);
    set(at + word::NUMBER, u64::from(generation));
}

/// All up to this generation is in the trace's file, which has so many bytes.
pub(crate) fn written(generation: u32, bytes: u64) {
    set(word::WRITTEN_BYTES, bytes);
    set(word::WRITTEN, u64::from(generation));
}

/// From here on the trace is written to another file: `base` bytes of it are not in there.
#[allow(dead_code, reason = "the preload library tells, where there is one")]
pub(crate) fn continues_elsewhere(base: u64) {
    set(word::FILE_BASE, base);
}

/// A stack has its number.
#[cold]
pub(crate) fn stack(id: u32, pcs: &[usize]) {
    if !is_open() {
        return;
    }
    if let Some(&pc) = pcs.first()
        && let Some(call) = stacks::syscall_at(pc)
        && CALLS.get(pc / 64).is_some_and(|w| w.fetch_or(1 << (pc % 64), Ordering::Relaxed) & (1 << (pc % 64)) == 0)
    {
        append(entry::SYSCALL, pc as u32, &[], call.as_str().as_bytes());
    }
    append(entry::STACK, id, pcs, &[]);
}

/// A name has its number.
#[cold]
pub(crate) fn name(id: u32, text: &[u8]) {
    append(entry::NAME, id, &[], text);
}

/// A thread has a name.
pub(crate) fn thread_name(goid: u64, text: &[u8]) {
    append(entry::THREAD, goid as u32, &[], text);
}

fn journal_module(module: &modules::Module) {
    let id: String = module.build_id.iter().map(|b| format!("{b:02x}")).collect();
    let text = [id.as_bytes(), module.path.as_bytes()].concat();
    append(entry::MODULE, 0, &[module.start, module.end, module.file_offset as usize, id.len()], &text);
}

/// Appends an entry of words and then text. Neither allocates nor waits.
fn append(kind: u8, id: u32, numbers: &[usize], text: &[u8]) {
    let Some(words) = words() else { return };
    let bytes = numbers.len() * 8 + text.len();
    let taken = 1 + bytes.div_ceil(8);
    let from = words[word::JOURNAL_USED].fetch_add(taken as u64 * 8, Ordering::Relaxed);
    let to = from + taken as u64 * 8;
    if to > JOURNAL_BYTES as u64 || !reserve(to) {
        return;
    }
    let at = &words[(JOURNAL_AT + from as usize) / 8..][..taken];
    let text = text.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    });
    for (word, value) in at[1..].iter().zip(numbers.iter().map(|&n| n as u64).chain(text)) {
        word.store(value, Ordering::Relaxed);
    }
    // Release: whoever finds the head in the file finds the rest, also when this process ends between two instructions.
    at[0].store(entry::head(kind, bytes, id), Ordering::Release);
}

/// Sees to it that the first `bytes` of the journal can be touched.
fn reserve(bytes: u64) -> bool {
    let reserved = RESERVED.load(Ordering::Relaxed);
    if bytes <= reserved {
        return true;
    }
    let to = bytes.next_multiple_of(STEP).min(JOURNAL_BYTES as u64);
    let done = reserve_at(JOURNAL_AT + reserved as usize, (to - reserved) as usize);
    if done {
        RESERVED.fetch_max(to, Ordering::Relaxed);
    }
    done
}
