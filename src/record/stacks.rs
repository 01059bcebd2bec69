//! The stacks of events: taken by hooks, kept once in the [stack table](super::stack_table).

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::section::GENERATION;
use super::stack_table::{DEFAULT_LIMIT_BYTES, StackId, StackTable};
use super::string_table::{self, NameId};
use super::syscall_name::SyscallName;
use super::thread::{Entered, Thread};
use super::unwind::{self, StackBounds};
use crate::format::MAX_FRAMES;

static TABLE: StackTable = StackTable::new(DEFAULT_LIMIT_BYTES);
/// The most frames to take, 0 for no stacks. Written at start.
static DEPTH: AtomicUsize = AtomicUsize::new(0);
/// Stacks that found no room in the table.
static LOST: AtomicU64 = AtomicU64::new(0);
/// The names behind the table's one-byte reasons, from 1. Appended to by the writer's thread.
static REASON: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

/// Room for the frames of one stack and a leaf that is not code.
pub(crate) type Scratch = [usize; MAX_FRAMES + 1];

/// What stands at the leaf of a stack.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaf {
    /// The code that called the hook.
    None,
    /// A system call, whose name is more than the address of its wrapper.
    Syscall(SyscallName),
}

/// Program counters below this stand for system calls: number plus one. No code lies there (`vm.mmap_min_addr`).
const SYSCALL_PCS: usize = 1 << 16;

/// Gets ready to take stacks of `depth` frames. May allocate: not for hooks.
pub(crate) fn prepare(depth: usize) {
    unwind::init();
    DEPTH.store(depth.min(MAX_FRAMES), Ordering::Relaxed);
}

/// Stacks that found no room since the program began.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The number of the calling thread's stack; 0 when tracing is off, or takes no stacks, or the table is full.
#[inline]
pub(crate) fn capture(entered: &Entered, leaf: Leaf) -> u32 {
    let depth = DEPTH.load(Ordering::Relaxed);
    if depth == 0 || !GENERATION.is_open() {
        return 0;
    }
    let bounds = known_bounds(entered.thread).unwrap_or_else(|| find_bounds(entered.thread));
    // SAFETY: the owner, under the re-entry guard.
    let (memo, scratch) = unsafe { (entered.thread.memo.get(), entered.thread.scratch.get()) };
    let (leaf, key) = match leaf {
        Leaf::None => (0, 0),
        Leaf::Syscall(name) => {
            scratch[0] = usize::from(name.id()) + 1;
            (1, scratch[0] as u64)
        }
    };
    unwind::capture_numbered(memo, key << 8 | depth as u64, bounds, &mut scratch[..leaf + depth], leaf, keep)
}

/// Whether remembering a thread's last stacks pays. All-zero is a beginning.
#[derive(Debug)]
pub(crate) struct MemoUse {
    /// Stacks in a row that were not remembered.
    misses: u32,
    /// How many stacks to walk without remembering them.
    plain: u32,
}

/// After so many misses in a row remembering is given up for a while.
const MISSES: u32 = 12;
/// For how many stacks.
const PLAIN: u32 = 120;

/// As [`capture`], for what happens all the time and at ever other places: where remembering does not pay, it is left alone for a
/// while. To remember a stack costs a third more than to walk it.
#[inline(always)]
pub(crate) fn capture_often(entered: &Entered) -> u32 {
    let depth = DEPTH.load(Ordering::Relaxed);
    if depth == 0 || !GENERATION.is_open() {
        return 0;
    }
    let t = entered.thread;
    let bounds = known_bounds(t).unwrap_or_else(|| find_bounds(t));
    // SAFETY: the owner, under the re-entry guard.
    let (memo, scratch, using) = unsafe { (t.memo.get(), t.scratch.get(), t.memo_use.get()) };
    if using.plain > 0 {
        using.plain -= 1;
        let n = unwind::capture(&mut scratch[..depth], bounds);
        return keep(&scratch[..n]);
    }
    let mut missed = false;
    let id = unwind::capture_numbered(memo, depth as u64, bounds, &mut scratch[..depth], 0, |pcs| {
        missed = true;
        keep(pcs)
    });
    using.misses = if missed { using.misses + 1 } else { 0 };
    if using.misses == MISSES {
        (using.misses, using.plain) = (MISSES - 2, PLAIN);
    }
    id
}

/// The number of the stack that a signal interrupted. Async-signal-safe.
pub(crate) fn capture_interrupted(entered: &Entered, context: *const c_void) -> u32 {
    let depth = DEPTH.load(Ordering::Relaxed);
    if depth == 0 {
        return 0;
    }
    let bounds = known_bounds(entered.thread).unwrap_or(StackBounds::NONE);
    // SAFETY: the owner, under the re-entry guard.
    let scratch = unsafe { entered.thread.scratch.get() };
    // SAFETY: the caller is a signal handler and passes its third argument on.
    let n = unsafe { unwind::capture_context(context, &mut scratch[..depth], bounds) };
    let pcs = &scratch[..n];
    // Where a sample falls is chance, so its stack is often new: in a process that runs for long samples would fill the table, and
    // events at new places be without stacks. So the half of it is kept for those.
    if TABLE.stack_bytes() < DEFAULT_LIMIT_BYTES / 2 {
        return keep(pcs);
    }
    TABLE.find(pcs).map_or(0, |id| id.get())
}

fn keep(pcs: &[usize]) -> u32 {
    match TABLE.insert(pcs) {
        Some(id) => id.get(),
        None => {
            if !pcs.is_empty() {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
            0
        }
    }
}

fn known_bounds(t: &Thread) -> Option<StackBounds> {
    let hi = t.stack_high.load(Ordering::Relaxed);
    // SAFETY: these are the bounds that `find_bounds` found for this thread's stack.
    (hi != 0).then(|| unsafe { StackBounds::new(t.stack_low.load(Ordering::Relaxed) as usize, hi as usize) })
}

#[cold]
fn find_bounds(t: &Thread) -> StackBounds {
    keep_bounds(t, StackBounds::of_current_thread_by_maps())
}

/// Learns where the stack of a thread lies that begins; the calling one. What it costs later is more, since that may be inside of an
/// allocator or in a signal handler.
pub(crate) fn know_bounds(t: &Thread) {
    if known_bounds(t).is_none() {
        keep_bounds(t, StackBounds::of_current_thread());
    }
}

fn keep_bounds(t: &Thread, bounds: StackBounds) -> StackBounds {
    t.stack_low.store(bounds.lo() as u64, Ordering::Relaxed);
    t.stack_high.store(bounds.hi() as u64, Ordering::Relaxed);
    bounds
}

/// The program counters of a stack, leaf first.
pub(crate) fn get(id: u32) -> &'static [usize] {
    StackId::new(id).map_or(&[], |id| TABLE.get(id))
}

/// How many numbers have been given to stacks.
pub(crate) fn count() -> u32 {
    TABLE.len() as u32
}

/// The system call that a program counter stands for, if it is one of those.
pub(crate) fn syscall_at(pc: usize) -> Option<SyscallName> {
    if pc == 0 || pc >= SYSCALL_PCS {
        return None;
    }
    SyscallName::from_id((pc - 1) as u16)
}

/// Notes that generation parity `parity` refers to the stack.
#[inline]
pub(crate) fn mark_used(id: u32, parity: usize) {
    if let Some(id) = StackId::new(id) {
        TABLE.mark_used(id, parity);
    }
}

/// Tells of each stack used in a generation, and forgets it. The closer's.
pub(crate) fn drain_used(parity: usize, mut each: impl FnMut(u32)) {
    TABLE.drain_used(parity, |id| each(id.get()));
}

/// Why threads block at a stack, if the writer has found out; 0 if not.
#[inline]
pub(crate) fn reason(id: u32) -> NameId {
    let code = StackId::new(id).map_or(0, |id| TABLE.reason(id));
    REASON[usize::from(code)].load(Ordering::Relaxed)
}

/// Notes why threads block at a stack. The writer's thread.
pub(crate) fn set_reason(id: u32, reason: &str) {
    let (Some(id), Some(name)) = (StackId::new(id), string_table::intern(reason)) else { return };
    for (code, known) in REASON.iter().enumerate().skip(1) {
        let at = known.load(Ordering::Relaxed);
        if at == 0 {
            known.store(name, Ordering::Relaxed);
        }
        if at == 0 || at == name {
            TABLE.set_reason(id, code as u8);
            return;
        }
    }
}
