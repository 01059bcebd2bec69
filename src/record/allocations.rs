//! Recording of allocations: from the allocator's hook to records in the thread's private batch.
//!
//! Two modes. *All*: each allocation, reallocation and free. *Sampled*: blocks by chance, each byte with the same, and the
//! frees of those. The encoding is [`format::private::allocations`](crate::format::private::allocations); the batches are
//! private ones, so that Go's tools skip them.
//!
//! While a mode is on, the thresholds that an allocation compares itself with anyway are such that each one comes here
//! ([`arm`]): so that with no mode on there is nothing to ask. A record is written in a [section](super::section) like an
//! event, and refers to stacks and strings of its generation.
//!
//! It must not allocate, and waits only if the program's author has said how long ([`Tracer::back_pressure`](super::tracer::Tracer::back_pressure)).

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use super::QUANTUM;
use super::buffer::Content;
use super::section::{NoSection, Section, TRACE, string_id};
use super::stacks;
use super::thread::{self, Entered, Thread, bump, busy};
use super::{gauges, sampled};
use crate::format::private::{PRIVATE, Section as Private, allocations as wire};
use crate::format::varint::{self, put, put_wide, zigzag};
use crate::sys::event::Event;
use crate::sys::{barrier, clock};

/// Which allocations are recorded, each with its stack, thread, size, alignment and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allocations {
    /// None. The heap's curve does not need them.
    #[default]
    None,
    /// A sample: of a block of `n` bytes the chance is `1 - exp(-n / every_bytes)`, and so about one sample is taken for so many
    /// bytes. The frees of what is in the sample are all recorded. Cheap enough to be left on.
    Sampled {
        /// Bytes to one sample on average; 1 at the least.
        every_bytes: u64,
    },
    /// Each one, and each reallocation and free.
    All,
}

impl Allocations {
    /// A sample for every 512 KiB: what production profilers take, and what costs no more than the counting.
    pub const SAMPLED: Allocations = Allocations::Sampled { every_bytes: 512 << 10 };
}

/// How allocations are recorded: the part of a tracer's options that is about them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) which: Allocations,
    pub(crate) free_stacks: bool,
    pub(crate) wait: Duration,
}

impl Options {
    pub(crate) const DEFAULT: Options = Options { which: Allocations::None, free_stacks: true, wait: Duration::ZERO };
}

const OFF: u32 = 0;
const SAMPLED: u32 = 1;
const ALL: u32 = 2;
const MODE_MASK: u32 = 3;

/// The mode that is on, in the low two bits; above them how many times one was begun, so that each time is another word. Written
/// at start, when the first generation is open, and at stop.
static MODE: AtomicU32 = AtomicU32::new(OFF);
/// Mean bytes between samples. Written at start, before the mode.
static INTERVAL: AtomicU64 = AtomicU64::new(0);
/// Whether frees are recorded with their stacks. Written at start, before the mode.
static FREE_STACKS: AtomicBool = AtomicBool::new(false);
/// The longest to wait for a buffer, in nanoseconds. Written at start, before the mode.
static WAIT_NS: AtomicU64 = AtomicU64::new(0);
/// What was not recorded on threads that the tracer does not know. Written by any thread.
static LOST_ELSEWHERE: AtomicU64 = AtomicU64::new(0);
/// Never rung: who waits for it sleeps.
static NEVER: Event = Event::new();

/// How long to sleep between two looks for a buffer.
const NAP: Duration = Duration::from_micros(50);
/// The longest record and a context before it: two heads, an alignment, and nine integers. No integer ends further from the end than it
/// may be long, so each may be written as one of the greatest length.
const RECORD_BYTES: usize = 3 + 9 * varint::MAX_BYTES;

/// What a thread's encoding goes on from. All-zero is right for no batch.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// By parity of the generation. That of a generation that is over belongs to nobody: a new batch begins anew.
    encoders: [Encoder; 2],
    /// A wait for a buffer was in vain: there is no other until one was had.
    gave_up: bool,
}

#[derive(Debug)]
struct Encoder {
    /// The goroutine that the batch says it is from.
    goid: u64,
    last_ns: u64,
    last_address: u64,
    /// By kind of record.
    last_stack: [u32; 4],
    context: Context,
}

/// What the thread is at: task, name of the region, label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Context {
    task: u64,
    region: u32,
    label: u32,
}

/// What happened to a block.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Alloc {
        at: u64,
        size: u64,
        align: u64,
    },
    Free {
        at: u64,
    },
    /// A size of 0 is a block that is not in the sample.
    Realloc {
        old: u64,
        new: u64,
        size: u64,
        align: u64,
    },
    /// A mapping, not a block.
    Map {
        at: u64,
        size: u64,
    },
    Unmap {
        at: u64,
        size: u64,
    },
}

/// A trace has begun, and its first generation is open.
pub(crate) fn begin(options: &Options) {
    let (mode, interval) = match options.which {
        Allocations::None => return,
        Allocations::Sampled { every_bytes } => (SAMPLED, every_bytes.max(1)),
        Allocations::All => (ALL, 0),
    };
    sampled::clear();
    INTERVAL.store(interval, Ordering::Relaxed);
    FREE_STACKS.store(options.free_stacks, Ordering::Relaxed);
    WAIT_NS.store(u64::try_from(options.wait.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    for t in thread::all() {
        t.sample_at.store(0, Ordering::Relaxed);
    }
    // Release pairs with the Acquire in `mode_word`.
    MODE.store((MODE.load(Ordering::Relaxed) | MODE_MASK).wrapping_add(1) | mode, Ordering::Release);
    // A thread that is arming itself by the old mode either has written by now, or sees the new one and does it again.
    barrier::heavy();
    for t in thread::all().filter(|t| !t.internal.load(Ordering::Relaxed)) {
        for each in [&t.heap.attend_allocated, &t.heap.attend_freed, &t.heap.attend_freed_unsampled] {
            each.store(0, Ordering::Relaxed);
        }
    }
}

/// The trace is over, or this is the child of a `fork`. Threads notice at their next allocation.
pub(crate) fn end() {
    MODE.store(MODE.load(Ordering::Relaxed) & !MODE_MASK, Ordering::Release);
}

/// What was lost on threads that are not known.
pub(crate) fn lost_elsewhere() -> u64 {
    LOST_ELSEWHERE.load(Ordering::Relaxed)
}

/// Acquire pairs with the Release in `begin`: who sees a mode sees its options.
#[inline(always)]
fn mode_word() -> u32 {
    MODE.load(Ordering::Acquire)
}

#[inline(always)]
fn mode() -> u32 {
    mode_word() & MODE_MASK
}

/// Sets what a thread's allocations compare themselves with: what the heap's curve wants, or such that those that are wanted come here. The
/// thread's own.
///
/// In a sample that are the allocation with which the next sampled byte is allocated, and the frees that the sample's filter lets through.
#[inline]
pub(crate) fn arm(t: &Thread) {
    let h = &t.heap;
    loop {
        let word = mode_word();
        let (allocated, freed) =
            (h.allocated_bytes.load(Ordering::Relaxed) as i64, h.freed_bytes.load(Ordering::Relaxed) as i64);
        let above = h.publish_above.load(Ordering::Relaxed);
        let watched = h.is_watched.load(Ordering::Relaxed).then(|| h.watched.load(Ordering::Relaxed));
        let above = watched.map_or(above, |watched| above.min(watched));
        let below = h.publish_below.load(Ordering::Relaxed);
        // The difference can be beyond the threshold only when so much was allocated, or freed. Whatever the other does meanwhile, that
        // is then or later.
        let above = freed.saturating_add(above).saturating_add(1).max(0) as u64;
        let below = allocated.saturating_sub(below).saturating_add(1).max(0) as u64;
        let (allocated, freed, unsampled) = match word & MODE_MASK {
            OFF => (above, below, below),
            SAMPLED => (above.min(t.sample_at.load(Ordering::Relaxed)), 0, below),
            _ => (0, 0, 0),
        };
        h.attend_allocated.store(allocated, Ordering::Relaxed);
        h.attend_freed.store(freed, Ordering::Relaxed);
        h.attend_freed_unsampled.store(unsampled, Ordering::Relaxed);
        barrier::light();
        if mode_word() == word {
            return;
        }
    }
}

/// Adds what the thread's net allocation has moved by to the process-wide figure, and sets when that is due again. The thread's own.
/// Returns the figure.
pub(crate) fn publish(t: &Thread) -> i64 {
    let h = &t.heap;
    let net = h.net();
    let quantum = QUANTUM.load(Ordering::Relaxed) as i64;
    h.publish_above.store(net.saturating_add(quantum), Ordering::Relaxed);
    h.publish_below.store(net.saturating_sub(quantum), Ordering::Relaxed);
    arm(t);
    let unpublished = net.wrapping_sub(h.published_bytes.load(Ordering::Relaxed));
    h.published_bytes.store(net, Ordering::Relaxed);
    gauges::add_native(unpublished)
}

/// Notes the thread's size if it is the largest of a watch.
#[inline(always)]
pub(crate) fn watch(t: &Thread, net: i64) {
    let h = &t.heap;
    if h.is_watched.load(Ordering::Relaxed) && net > h.watched.load(Ordering::Relaxed) {
        h.watched.store(net, Ordering::Relaxed);
        arm(t);
    }
}

/// Whether each operation of the thread comes here, as it is to be while all are recorded.
#[inline(always)]
pub(crate) fn is_armed_for_all(t: &Thread) -> bool {
    mode() == ALL && t.heap.attend_freed_unsampled.load(Ordering::Relaxed) == 0
}

/// A block was allocated.
#[inline]
pub(crate) fn allocated(t: &'static Thread, at: usize, size: usize, align: usize) {
    let (at, size, align) = (at as u64, size as u64, align as u64);
    match mode() {
        OFF => {}
        ALL => record(t, Operation::Alloc { at, size, align }),
        _ => {
            if drawn(t, size, size) {
                sample(t, at, Operation::Alloc { at, size, align });
            }
        }
    }
}

/// A block is about to be freed.
#[inline]
pub(crate) fn freeing(t: &'static Thread, at: usize) {
    let at = at as u64;
    match mode() {
        OFF => {}
        ALL => record(t, Operation::Free { at }),
        _ => {
            if sampled::may_have(at) && sampled::remove(at) {
                record(t, Operation::Free { at });
            }
        }
    }
}

/// A block was given another size, and the thread's counters have moved by the difference to `old_size`.
#[inline]
pub(crate) fn resized(t: &'static Thread, (old, old_size): (usize, usize), (new, size): (usize, usize), align: usize) {
    let counted = size.saturating_sub(old_size) as u64;
    let (old, new, size, align) = (old as u64, new as u64, size as u64, align as u64);
    match mode() {
        OFF => {}
        ALL => record(t, Operation::Realloc { old, new, size, align }),
        _ => {
            let was = sampled::may_have(old) && sampled::remove(old);
            match (was, drawn(t, size, counted)) {
                (false, false) => {}
                (false, true) => sample(t, new, Operation::Alloc { at: new, size, align }),
                (true, false) => record(t, Operation::Realloc { old, new, size: 0, align }),
                (true, true) => sample(t, new, Operation::Realloc { old, new, size, align }),
            }
        }
    }
}

/// The program has mapped memory, so much of it that it is recorded beside allocations.
#[cfg_attr(
    not(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64"))),
    expect(dead_code, reason = "no hooks")
)]
#[cold]
pub(crate) fn mapped(at: usize, size: usize) {
    mapping(Operation::Map { at: at as u64, size: size as u64 });
}

/// It is about to unmap so much.
#[cfg_attr(
    not(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64"))),
    expect(dead_code, reason = "no hooks")
)]
#[cold]
pub(crate) fn unmapping(at: usize, size: usize) {
    mapping(Operation::Unmap { at: at as u64, size: size as u64 });
}

fn mapping(operation: Operation) {
    if mode() == OFF {
        return;
    }
    if let Some(t) = thread::current_or_attach() {
        record(t, operation);
    }
}

/// Something happened on a thread that the tracer does not know.
pub(crate) fn elsewhere() {
    if mode() == ALL {
        LOST_ELSEWHERE.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a block of that size is to be in the sample, of which `counted` bytes are in the thread's counter of allocated bytes. The
/// distance to the next sample is drawn from an exponential distribution, which has no memory: it does not matter what went
/// before, so each block has the chance that its size gives it.
#[inline(always)]
fn drawn(t: &Thread, size: u64, counted: u64) -> bool {
    let allocated = t.heap.allocated_bytes.load(Ordering::Relaxed);
    let mut at = t.sample_at.load(Ordering::Relaxed);
    if at == 0 {
        at = (allocated - counted).saturating_add(draw(t));
    }
    // What the counter does not count brings the next sample nearer.
    at = at.saturating_sub(size - counted).max(1);
    let drawn = allocated >= at;
    t.sample_at.store(if drawn { allocated.saturating_add(draw(t)) } else { at }, Ordering::Relaxed);
    arm(t);
    drawn
}

#[cold]
fn draw(t: &Thread) -> u64 {
    let mut x = t.random.load(Ordering::Relaxed);
    if x == 0 {
        x = clock::ticks() ^ (t.goid.load(Ordering::Relaxed) << 32) | 1;
    }
    // Source: G. Marsaglia, "Xorshift RNGs", with the multiplication of S. Vigna's xorshift64*.
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    t.random.store(x, Ordering::Relaxed);
    let bits = x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    // In (0, 1], so that the logarithm is finite.
    let u = (bits + 1) as f64 / (1u64 << 53) as f64;
    let mean = INTERVAL.load(Ordering::Relaxed) as f64;
    (-u.ln() * mean).ceil().clamp(1.0, i64::MAX as f64 / 4.0) as u64
}

/// Takes a block into the sample, if it can be recorded.
#[cold]
#[inline(never)]
fn sample(t: &'static Thread, at: u64, operation: Operation) {
    if !sampled::insert(at) {
        bump(&t.lost_allocations, 1);
        // The end of the block that it was is not to be lost, too.
        if let Operation::Realloc { old, new, align, .. } = operation {
            record(t, Operation::Realloc { old, new, size: 0, align });
        }
        return;
    }
    if !try_record(t, operation) {
        sampled::remove(at);
    }
}

fn record(t: &'static Thread, operation: Operation) {
    try_record(t, operation);
}

/// Writes a record. False if it was lost, which is counted, or if the trace is over.
fn try_record(t: &'static Thread, operation: Operation) -> bool {
    let Some(entered) = Entered::quietly_on(t) else {
        // What the tracer itself does is none of the program's; an allocation inside a hook is.
        if t.busy.load(Ordering::Relaxed) == busy::HOOK {
            bump(&t.lost_allocations, 1);
        }
        return false;
    };
    let with_stack = match operation {
        Operation::Free { .. } => FREE_STACKS.load(Ordering::Relaxed),
        Operation::Unmap { .. } => false,
        _ => true,
    };
    let stack = if with_stack { stacks::capture_often(&entered) } else { 0 };
    match write(&entered, operation, stack) {
        Ok(()) => true,
        Err(NoSection::Off) => false,
        Err(NoSection::NoBuffer) => write_later(&entered, operation, stack),
    }
}

/// There was no buffer: waits for one, if that is wanted. Outside of any section, so that generations can end meanwhile.
#[cold]
#[inline(never)]
fn write_later(entered: &Entered, operation: Operation, stack: u32) -> bool {
    let wait_ns = WAIT_NS.load(Ordering::Relaxed);
    // SAFETY: the owner, under the re-entry guard, with no other reference to it.
    let gave_up = unsafe { entered.thread.recorder.get() }.gave_up;
    let begin = clock::monotonic_ns();
    while wait_ns > 0 && !gave_up && clock::monotonic_ns() - begin < wait_ns {
        NEVER.wait(NAP);
        match write(entered, operation, stack) {
            Ok(()) => return true,
            Err(NoSection::Off) => return false,
            Err(NoSection::NoBuffer) => {}
        }
    }
    // SAFETY: as above.
    unsafe { entered.thread.recorder.get() }.gave_up = true;
    bump(&entered.thread.lost_allocations, 1);
    false
}

#[inline(always)]
fn write(entered: &Entered, operation: Operation, stack: u32) -> Result<(), NoSection> {
    let t = entered.thread;
    let mut s = entered.try_section()?;
    // SAFETY: the owner, under the re-entry guard, with no other reference to it.
    let recorder = unsafe { t.recorder.get() };
    let goid = t.goid.load(Ordering::Relaxed);
    if recorder.encoders[s.parity()].goid != goid || s.allocations().space(RECORD_BYTES).is_none() {
        begin_batch(&mut s, recorder)?;
    }
    let encoder = &mut recorder.encoders[s.parity()];
    let now = s.now().max(encoder.last_ns);
    let context = context(t);
    let names = if context == encoder.context {
        None
    } else {
        encoder.context = context;
        Some(names(&s, context))
    };
    if encoder.is_new(operation, stack) {
        stacks::mark_used(stack, s.parity());
    }
    let Some(begin) = s.allocations().space(RECORD_BYTES) else { return Err(NoSection::NoBuffer) };
    let mut p = begin;
    if let Some(names) = names {
        // SAFETY: there is room for a context and a record.
        p = unsafe { put_context(p, names) };
    }
    // SAFETY: as above.
    p = unsafe { encoder.put(p, operation, stack, now) };
    // SAFETY: so many bytes were written from there on.
    unsafe { s.allocations().wrote(p as usize - begin as usize) };
    Ok(())
}

#[inline(always)]
fn context(t: &Thread) -> Context {
    // SAFETY: the owner, under the re-entry guard; nothing here keeps the reference.
    let (task, region) = unsafe { t.regions.get() }.innermost(TRACE.load(Ordering::Relaxed));
    Context { task, region, label: t.label.load(Ordering::Relaxed) }
}

/// A context in its wire form, its strings noted as used.
#[cold]
fn names(s: &Section<'_>, c: Context) -> [u64; 3] {
    let name = |id: u32| if id == 0 { 0 } else { s.name(id) };
    debug_assert_eq!(string_id::name(0), 0, "a name's number of 0 is that of the empty string");
    [c.task, name(c.region), name(c.label)]
}

/// # Safety
/// There is room for [`RECORD_BYTES`] at `p`.
#[cold]
unsafe fn put_context(p: *mut u8, names: [u64; 3]) -> *mut u8 {
    // SAFETY: the caller's.
    let mut p = unsafe { put(p, u64::from(wire::CONTEXT)) };
    for v in names {
        // SAFETY: the caller's.
        p = unsafe { put(p, v) };
    }
    p
}

impl Operation {
    #[inline(always)]
    fn kind(self) -> u8 {
        match self {
            Operation::Alloc { .. } => wire::ALLOC,
            Operation::Free { .. } => wire::FREE,
            Operation::Realloc { .. } => wire::REALLOC,
            Operation::Map { .. } | Operation::Unmap { .. } => wire::CONTEXT,
        }
    }
}

impl Encoder {
    /// Whether the stack has to be told. One that has not was told in this batch, and so is noted as used in its generation.
    #[inline(always)]
    fn is_new(&self, operation: Operation, stack: u32) -> bool {
        self.last_stack[usize::from(operation.kind())] != stack
    }

    /// Writes a record.
    ///
    /// # Safety
    /// There is room for [`RECORD_BYTES`] at `p`, less a context.
    #[inline(always)]
    unsafe fn put(&mut self, p: *mut u8, operation: Operation, stack: u32, now: u64) -> *mut u8 {
        let kind = operation.kind();
        let align = match operation {
            Operation::Alloc { align, .. } | Operation::Realloc { align, .. } => align,
            Operation::Free { .. } => 1,
            // As a logarithm, it stands where the alignment's does.
            Operation::Map { .. } => 1 << wire::MAP,
            Operation::Unmap { .. } => 1 << wire::UNMAP,
        };
        let same = !self.is_new(operation, stack) || matches!(operation, Operation::Unmap { .. });
        if !same {
            self.last_stack[usize::from(kind)] = stack;
        }
        let align = align.trailing_zeros() as u8;
        let head_align = align.min(wire::ALIGN_FOLLOWS);
        let head = kind | if same { wire::SAME_STACK } else { 0 } | head_align << wire::ALIGN_SHIFT;
        // SAFETY: the caller's, here and below.
        unsafe { p.write(head) };
        // SAFETY: as above.
        let mut p = unsafe { put_wide(p.add(1), now - self.last_ns) };
        self.last_ns = now;
        let size = match operation {
            Operation::Alloc { at, size, .. } | Operation::Map { at, size } | Operation::Unmap { at, size } => {
                // SAFETY: as above.
                p = unsafe { self.put_address(p, at) };
                Some(size)
            }
            Operation::Free { at } => {
                // SAFETY: as above.
                p = unsafe { self.put_address(p, at) };
                None
            }
            Operation::Realloc { old, new, size, .. } => {
                // SAFETY: as above.
                p = unsafe { self.put_address(p, old) };
                // SAFETY: as above.
                p = unsafe { self.put_address(p, new) };
                Some(size)
            }
        };
        if let Some(size) = size {
            // SAFETY: as above.
            p = unsafe { put_wide(p, size) };
            if head_align == wire::ALIGN_FOLLOWS {
                // SAFETY: as above.
                p = unsafe { put(p, u64::from(align)) };
            }
        }
        if !same {
            // SAFETY: as above.
            p = unsafe { put_wide(p, u64::from(stack)) };
        }
        p
    }

    /// # Safety
    /// There is room for an integer at `p`.
    #[inline(always)]
    unsafe fn put_address(&mut self, p: *mut u8, at: u64) -> *mut u8 {
        let at = at.rotate_right(wire::ADDRESS_ROTATION);
        let moved = at.wrapping_sub(self.last_address) as i64;
        self.last_address = at;
        // SAFETY: the caller's.
        unsafe { put_wide(p, zigzag(moved)) }
    }
}

/// Exchanges the batch for an empty one, which may be in a later generation: the section goes along.
#[cold]
#[inline(never)]
fn begin_batch(s: &mut Section<'_>, recorder: &mut Recorder) -> Result<(), NoSection> {
    // So that the trace knows the goroutine by name.
    let now = s.now();
    if !s.ensure_running(now) {
        return Err(NoSection::NoBuffer);
    }
    let Some(pool) = s.pool() else { return Err(NoSection::NoBuffer) };
    let Some(fresh) = pool.take() else { return Err(NoSection::NoBuffer) };
    recorder.gave_up = false;
    let (generation, tid, now) = (s.generation, s.tid(), s.now());
    let goid = s.thread.goid.load(Ordering::Relaxed);
    let interval = if mode() == SAMPLED { INTERVAL.load(Ordering::Relaxed) } else { 0 };
    let batch = s.allocations();
    let full = batch.take_chunk(Content::Private, generation, tid);
    batch.begin(fresh, Content::Private, generation, tid, now);
    // SAFETY: the buffer is empty.
    unsafe {
        batch.bytes(&[PRIVATE, Private::Allocations as u8]);
        batch.integer(goid);
        batch.integer(interval);
    }
    recorder.encoders[(generation & 1) as usize] =
        Encoder { goid, last_ns: batch.last_ns(), last_address: 0, last_stack: [0; 4], context: Context::default() };
    if let Some(full) = full {
        pool.send(full);
    }
    Ok(())
}
