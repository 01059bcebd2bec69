//! What the tracer knows of each thread, and how threads come to be known and cease to be.
//!
//! A [`Thread`] is made at the thread's first allocation or first event, or by its creator before it runs. It lives in memory
//! that is never given back, so that a reference to it is valid for ever; when its thread has ended it is lent to another.
//! One thread-local pointer leads to it.
//!
//! ```text
//!  FREE --reserve (creator)--> RESERVED --adopt (new thread)--> ALIVE --at_exit--> ENDED --closer--> FREE
//!    \________________________attach (unannounced)______________/    \____________no closing under way___/
//! ```

use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::batch::Batch;
use super::black_box;
use super::gate::Gate;
use super::region::OpenRegions;
use super::state::StateCell;
use crate::sys::lock::{Held, Lock};
use crate::sys::{pages, slot, thread as os};

/// Threads per segment of the registry.
const SEGMENT_THREADS: usize = 64;
/// How many segments there can be: 65,536 threads at once. Further ones are not traced, and their events count as lost.
const SEGMENTS: usize = 1024;
/// Rounds of pthread destructors to let pass before a thread counts as ended, so that events of other destructors are
/// still its own. POSIX gives four (`PTHREAD_DESTRUCTOR_ITERATIONS`).
const EXIT_ROUNDS: u32 = 3;

/// Where a [`Thread`] is in its life: the diagram above.
pub(crate) mod life {
    pub(crate) const FREE: u8 = 0;
    pub(crate) const RESERVED: u8 = 1;
    pub(crate) const ALIVE: u8 = 2;
    pub(crate) const ENDED: u8 = 3;
}

/// Why the tracer may not be entered on a thread.
pub(crate) mod busy {
    /// It may.
    pub(crate) const NO: u8 = 0;
    /// A hook is running: a hook inside it (its own allocation, a signal handler) does nothing, and counts what it lost.
    pub(crate) const HOOK: u8 = 1;
    /// The thread works for the tracer: nothing it does is an event, so nothing is lost.
    pub(crate) const TRACER: u8 = 2;
    /// The thread is inside `fork`: what it would write, its child would write to the same buffers.
    pub(crate) const FORK: u8 = 3;
}

/// What a thread was last seen to do while no trace was on.
pub(crate) mod activity {
    pub(crate) const RUNNING: u8 = 0;
    pub(crate) const WAITING: u8 = 1;
    pub(crate) const SYSCALL: u8 = 2;
}

/// Heap counters of one thread. Written by the owner, with plain loads and stores; read by anyone.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct HeapCounters {
    /// Bytes ever allocated by this thread.
    pub(crate) allocated_bytes: AtomicU64,
    /// Bytes ever freed by it, also of what others allocated.
    pub(crate) freed_bytes: AtomicU64,
    pub(crate) allocs: AtomicU64,
    pub(crate) frees: AtomicU64,
    /// With how many bytes ever allocated an allocation is looked at more closely, and with how many ever freed a free: never later than
    /// when the curve is to be published or a sample to be taken, and maybe earlier. 0: each one is. Written by the owner, and by the
    /// starter of a trace.
    pub(crate) attend_allocated: AtomicU64,
    pub(crate) attend_freed: AtomicU64,
    /// The second of the two for frees of blocks that are not in the sample.
    pub(crate) attend_freed_unsampled: AtomicU64,
    /// Allocated minus freed bytes beyond which, or below which, the difference is published. Both 0 to begin with, so that the first
    /// one is.
    pub(crate) publish_above: AtomicI64,
    pub(crate) publish_below: AtomicI64,
    /// The part of the difference that has been added to the process-wide figure.
    pub(crate) published_bytes: AtomicI64,
    /// Blocks given another size.
    pub(crate) reallocs: AtomicU64,
    /// Whether the owner watches the largest difference, and that.
    pub(crate) is_watched: AtomicBool,
    pub(crate) watched: AtomicI64,
}

impl HeapCounters {
    /// Allocated minus freed: negative in a thread that frees what others allocated.
    #[inline(always)]
    pub(crate) fn net(&self) -> i64 {
        self.allocated_bytes.load(Ordering::Relaxed).wrapping_sub(self.freed_bytes.load(Ordering::Relaxed)) as i64
    }
}

/// A cell that only the owner of a [`Thread`] touches, or the closer when the owner can't.
#[derive(Debug)]
pub(crate) struct Owned<T>(UnsafeCell<T>);

impl<T> Owned<T> {
    /// # Safety
    /// The caller must be the thread that owns the cell, under the re-entry guard and with no other reference to the
    /// contents, or the closer of a generation that has quiesced, for a cell of that generation.
    #[expect(clippy::mut_from_ref, reason = "the protocol above gives out one reference at a time")]
    #[inline(always)]
    pub(crate) unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller's.
        unsafe { &mut *self.0.get() }
    }
}

/// One thread. Zeroed memory is a valid, free one.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Thread {
    pub(crate) heap: HeapCounters,
    /// See [`busy`]. Written by the owner, read by its signal handlers.
    pub(crate) busy: AtomicU8,
    /// See [`activity`]. Written by the owner, read when a trace starts.
    pub(crate) activity: AtomicU8,
    /// See [`life`]. Written under the registry's lock, or by the owner on its way out.
    pub(crate) life: AtomicU8,
    /// Whether heap counters here are the tracer's own and no part of the program's heap. Set once.
    pub(crate) internal: AtomicBool,
    /// Whether the thread is one of our own, and none of the program's. Written by whoever takes the entry out of the free list.
    ours: AtomicBool,
    pub(crate) gate: Gate,
    /// The state of the thread's goroutine. Written by the owner; by others as [`Section::wake`](super::section::Section::wake).
    pub(crate) go: StateCell,
    /// The state of the thread's processor. Written by the owner.
    pub(crate) processor: StateCell,
    /// The trace (its number) in which the goroutine was announced. Written by the owner or creator, and at start.
    pub(crate) go_trace: AtomicU32,
    /// The same for the processor.
    pub(crate) processor_trace: AtomicU32,
    /// The goroutine's number: never used twice. Written by whoever takes the thread out of the free list.
    pub(crate) goid: AtomicU64,
    /// How many waits are over, of this thread and of those that had the entry before: so that a waker knows whether the wait it
    /// means is still to be ended. Written by the owner, and by whoever takes the entry out of the free list.
    pub(crate) waits: AtomicU32,
    /// The kernel's thread id, 0 while there is none.
    pub(crate) tid: AtomicU32,
    /// Position in the registry. Set once.
    pub(crate) index: AtomicU32,
    next_free: AtomicU32,
    exit_round: AtomicU32,
    /// Thread name, 15 bytes and a zero, as two words. Written by the owner and, when it has not, by the closer.
    name: [AtomicU64; 2],
    /// When the closer last read the name from the system, trace clock. The closer's.
    pub(crate) name_read_ns: AtomicU64,
    /// String id (wire form) of the open stop-the-world's kind in each generation parity, 0 for none. Written by the owner
    /// in a section of that parity, reset by the closer.
    pub(crate) stw_open: [AtomicU64; 2],
    /// The same for the stop-the-world that is open across generations. The owner's.
    pub(crate) stw: AtomicU64,
    /// CPU sample timer, see [`Timer::to_word`](crate::sys::timer::Timer::to_word).
    pub(crate) timer: AtomicU32,
    /// Whether the thread ended without being able to say so. Written by the owner, with Release, before `life`; read by the
    /// closer.
    pub(crate) ended_silently: AtomicBool,
    /// Events that found no buffer, and events that came while a hook ran. Written by the owner.
    pub(crate) lost_full: AtomicU64,
    pub(crate) lost_reentrant: AtomicU64,
    /// Stack bounds, 0 until known. The owner's.
    pub(crate) stack_low: AtomicU64,
    pub(crate) stack_high: AtomicU64,
    /// One-off string ids left of the block that the thread took: next and end.
    pub(crate) one_off: [AtomicU64; 2],
    pub(crate) events: [Owned<Batch>; 2],
    pub(crate) strings: [Owned<Batch>; 2],
    pub(crate) allocations: [Owned<Batch>; 2],
    /// What the encoding and the sampling of allocations go on from.
    pub(crate) recorder: Owned<super::allocations::Recorder>,
    /// The label of the innermost scope, a number of the string table; 0 for none. The owner's.
    pub(crate) label: AtomicU32,
    /// How many bytes the thread will have allocated when it comes to the next sample, 0 if that is to be drawn; and the state of the random
    /// numbers. Written by the owner, and while no allocations are sampled by the starter of a trace.
    pub(crate) sample_at: AtomicU64,
    pub(crate) random: AtomicU64,
    /// Allocations and frees that could not be recorded. Written by the owner.
    pub(crate) lost_allocations: AtomicU64,
    pub(crate) regions: Owned<OpenRegions>,
    pub(crate) recent: Owned<super::section::RecentStrings>,
    pub(crate) scratch: Owned<super::stacks::Scratch>,
    pub(crate) memo: Owned<super::unwind::Memo>,
    pub(crate) memo_use: Owned<super::stacks::MemoUse>,
}

// SAFETY: atomics apart, the fields are `Owned`, whose access rules are those of its `get`.
unsafe impl Sync for Thread {}

struct Registry {
    /// Threads ever made.
    count: u32,
    /// Index plus one of the first free thread, 0 for none.
    free: u32,
}

static REGISTRY: Lock<Registry> = Lock::new(Registry { count: 0, free: 0 });
/// Published with Release by the holder of `REGISTRY`'s lock.
static SEGMENT: [AtomicPtr<Thread>; SEGMENTS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; SEGMENTS];
/// How many threads have been made. Published with Release after their segment.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// The next goroutine's number. 1 is the tracer's own.
static NEXT_GOID: AtomicU64 = AtomicU64::new(2);

const NEW: u8 = 0;
const ATTACHING: u8 = 1;
const ATTACHED: u8 = 2;
const DEAD: u8 = 3;

struct Local {
    thread: Cell<*const Thread>,
    phase: Cell<u8>,
}

/// The calling thread's [`Local`].
struct TheLocal;

static LOCAL: TheLocal = TheLocal;

impl TheLocal {
    #[inline(always)]
    fn with<R>(&self, f: impl FnOnce(&Local) -> R) -> R {
        const { assert!(NEW == 0) };
        // SAFETY: the slot has no other user, zeros are a null pointer and `NEW`, and the reference does not leave the thread.
        f(unsafe { &*slot::of_this_thread::<Local>() })
    }
}

/// The calling thread, if the tracer knows it.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Thread> {
    // SAFETY: the pointer is null or that of a registry entry, which lives for ever.
    LOCAL.with(|l| unsafe { l.thread.get().as_ref() })
}

/// Whether the calling thread works for the tracer: what it does is not the program's.
pub(crate) fn is_tracers() -> bool {
    current().is_some_and(|t| t.busy.load(Ordering::Relaxed) == busy::TRACER)
}

/// The calling thread, made known if it was not. `None` for a thread that has ended, or while it is being made known, or
/// when there are too many.
#[inline(always)]
pub(crate) fn current_or_attach() -> Option<&'static Thread> {
    match current() {
        Some(t) => Some(t),
        None => attach(),
    }
}

#[cold]
#[inline(never)]
fn attach() -> Option<&'static Thread> {
    LOCAL.with(|l| {
        if l.phase.get() != NEW {
            return None;
        }
        l.phase.set(ATTACHING);
        compiler_fence(Ordering::SeqCst);
        let t = take(life::ALIVE, os::is_own(os::id()));
        if let Some(t) = t {
            begin_life(l, t);
        }
        // Too many threads: try again at the next event, one may have ended.
        l.phase.set(if t.is_some() { ATTACHED } else { NEW });
        t
    })
}

fn begin_life(l: &Local, t: &'static Thread) {
    t.tid.store(os::id(), Ordering::Release);
    t.exit_round.store(0, Ordering::Relaxed);
    t.busy.store(busy::HOOK, Ordering::Relaxed);
    l.thread.set(t);
    if black_box::is_open() {
        t.set_name(os::own_name());
    }
    // glibc may allocate here, through malloc: with the pointer set and the guard held that is counted and nothing else.
    os::on_exit(at_exit, (&raw const *t).cast_mut().cast());
    compiler_fence(Ordering::SeqCst);
    t.busy.store(busy::NO, Ordering::Relaxed);
}

/// Makes the calling, new thread the one that its creator reserved. Returns false if it was known already, or the
/// entry is not reserved: someone else has come with the same birth.
pub(crate) fn adopt(t: &'static Thread) -> bool {
    LOCAL.with(|l| {
        if l.phase.get() != NEW || !unreserve(t, life::ALIVE) {
            return false;
        }
        l.phase.set(ATTACHING);
        compiler_fence(Ordering::SeqCst);
        begin_life(l, t);
        l.phase.set(ATTACHED);
        true
    })
}

/// Takes a reserved entry: one of those who try succeeds.
pub(crate) fn unreserve(t: &Thread, to: u8) -> bool {
    t.life.compare_exchange(life::RESERVED, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Reserves a thread for one that is about to be created.
pub(crate) fn reserve() -> Option<&'static Thread> {
    take(life::RESERVED, false)
}

/// Takes a free thread, or makes one: for a thread of our own, or of the program's.
fn take(to: u8, ours: bool) -> Option<&'static Thread> {
    let mut registry = REGISTRY.lock();
    let t = match registry.free.checked_sub(1) {
        Some(i) => {
            let t = by_index(i)?;
            registry.free = t.next_free.load(Ordering::Relaxed);
            t
        }
        None => {
            let i = registry.count;
            let t = make(i)?;
            registry.count = i + 1;
            COUNT.store(i + 1, Ordering::Release);
            t
        }
    };
    t.goid.store(NEXT_GOID.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    t.wait_is_over();
    t.ours.store(ours, Ordering::Relaxed);
    t.go_trace.store(0, Ordering::Relaxed);
    t.ended_silently.store(false, Ordering::Relaxed);
    t.stw.store(0, Ordering::Relaxed);
    t.label.store(0, Ordering::Relaxed);
    // The starter of a trace may have met the last owner's end, and have left a timer on a thread that is no more.
    super::samples::unwatch(t);
    t.activity.store(activity::RUNNING, Ordering::Relaxed);
    t.name_read_ns.store(0, Ordering::Relaxed);
    t.stack_high.store(0, Ordering::Relaxed);
    t.set_name([0; os::NAME_BYTES]);
    t.life.store(to, Ordering::Release);
    Some(t)
}

/// Thread number `i`, which is the next: in its segment, which is mapped if need be.
fn make(i: u32) -> Option<&'static Thread> {
    let segment = SEGMENT.get(i as usize / SEGMENT_THREADS)?;
    if segment.load(Ordering::Relaxed).is_null() {
        let bytes = pages::round_up(SEGMENT_THREADS * size_of::<Thread>());
        let at: NonNull<Thread> = pages::map(bytes, pages::GRANULE_BYTES)?.cast();
        segment.store(at.as_ptr(), Ordering::Release);
    }
    let t = by_index(i)?;
    t.index.store(i, Ordering::Relaxed);
    Some(t)
}

/// The thread at a position of the registry, if it was ever made (or is being made).
pub(crate) fn by_index(i: u32) -> Option<&'static Thread> {
    let base = SEGMENT.get(i as usize / SEGMENT_THREADS)?.load(Ordering::Acquire);
    if base.is_null() {
        return None;
    }
    // SAFETY: a segment has SEGMENT_THREADS threads.
    let at = unsafe { base.add(i as usize % SEGMENT_THREADS) };
    // SAFETY: segments are zeroed, which is a valid Thread, and are never unmapped.
    Some(unsafe { &*at })
}

/// The last generation in which any thread was in a section.
pub(crate) fn last_adopted() -> u32 {
    all().map(|t| t.gate.adopted()).max().unwrap_or(0)
}

/// Every thread ever made, also those that are free now.
pub(crate) fn all() -> impl Iterator<Item = &'static Thread> {
    (0..COUNT.load(Ordering::Acquire)).filter_map(by_index)
}

/// How many threads have been made: the largest processor number in use.
pub(crate) fn count() -> u32 {
    COUNT.load(Ordering::Acquire)
}

/// Gives an ended or never-run thread back for another. Nothing may be owed for it in a trace any more.
pub(crate) fn release(t: &'static Thread) {
    push_free(REGISTRY.lock(), t);
}

fn push_free(mut registry: Held<'_, Registry>, t: &'static Thread) {
    t.tid.store(0, Ordering::Relaxed);
    t.life.store(life::FREE, Ordering::Release);
    t.next_free.store(registry.free, Ordering::Relaxed);
    registry.free = t.index.load(Ordering::Relaxed) + 1;
}

/// The number of the trace that threads have been announced to, 0 when none is on. Written under the registry's lock.
static ANNOUNCED: AtomicU32 = AtomicU32::new(0);

/// A trace is about to begin: `announce` tells it of the threads that exist, while none comes or goes.
pub(crate) fn begin_trace(trace: u32, announce: impl FnOnce()) {
    let _held = REGISTRY.lock();
    announce();
    ANNOUNCED.store(trace, Ordering::Relaxed);
}

/// The trace is over.
pub(crate) fn end_trace() {
    let _held = REGISTRY.lock();
    ANNOUNCED.store(0, Ordering::Relaxed);
}

/// Whether no thread of the program's is known beside `t`, which ends, while one of our own goes on: those count with the C library,
/// which ends a process with its last thread.
fn is_last_but_own(t: &Thread) -> bool {
    let is_another = |other: &Thread| {
        !core::ptr::eq(other, t)
            && matches!(other.life.load(Ordering::Relaxed), life::ALIVE | life::RESERVED)
            && !other.internal.load(Ordering::Relaxed)
            && !other.ours.load(Ordering::Relaxed)
    };
    os::any_own() && !t.ours.load(Ordering::Relaxed) && !all().any(is_another)
}

/// The calling thread has ended, and has given its entry up. Makes that free if it is `free`; otherwise the closer does it later.
///
/// Returns whether it was the last of the program's: of threads that end together one sees that, since each is gone from the registry
/// before the next one looks.
fn let_go(t: &'static Thread, free: bool) -> bool {
    let registry = REGISTRY.lock();
    let is_last = is_last_but_own(t);
    let trace = ANNOUNCED.load(Ordering::Relaxed);
    let announced = trace != 0 && t.go_trace.load(Ordering::Relaxed) == trace;
    if announced && t.go.get().state() != super::state::GONE {
        // By a trace that began after the thread had looked for one to say goodbye to.
        t.ended_silently.store(true, Ordering::Release);
    } else if free {
        push_free(registry, t);
        return is_last;
    }
    t.life.store(life::ENDED, Ordering::Release);
    is_last
}

/// A function that another room wants called: the recorder knows no hooks, so they register.
#[derive(Debug)]
pub(crate) struct Notice(AtomicPtr<()>);

impl Notice {
    const fn none() -> Notice {
        Notice(AtomicPtr::new(core::ptr::null_mut()))
    }

    #[cfg_attr(
        not(all(
            target_os = "linux",
            target_env = "gnu",
            any(target_arch = "x86_64", target_arch = "aarch64"),
            not(target_feature = "crt-static"),
            not(miri)
        )),
        expect(dead_code, reason = "no hooks, no notices")
    )]
    pub(crate) fn set(&self, f: fn()) {
        self.0.store(f as *mut (), Ordering::Release);
    }

    pub(crate) fn call(&self) {
        let f = self.0.load(Ordering::Acquire);
        if !f.is_null() {
            // SAFETY: only `set` stores here, and it stores functions of this type.
            let f: fn() = unsafe { core::mem::transmute(f) };
            f();
        }
    }
}

/// Called by a thread that is about to end, before its last events.
pub(crate) static AT_END: Notice = Notice::none();
/// Called in the child of a `fork`, by its only thread.
pub(crate) static IN_CHILD: Notice = Notice::none();

/// A pthread destructor: arms itself again until the last round, then lets the thread go.
extern "C" fn at_exit(value: *mut c_void) {
    // SAFETY: the value is the registry entry that `begin_life` gave.
    let t: &'static Thread = unsafe { &*value.cast::<Thread>() };
    let round = t.exit_round.load(Ordering::Relaxed) + 1;
    t.exit_round.store(round, Ordering::Relaxed);
    if round < EXIT_ROUNDS && os::on_exit(at_exit, value) {
        return;
    }
    LOCAL.with(|l| {
        if l.thread.get() != t {
            return;
        }
        AT_END.call();
        let free = super::section::end(t);
        compiler_fence(Ordering::SeqCst);
        // Before the entry becomes another's: a signal handler that comes now must not find it.
        l.thread.set(core::ptr::null());
        l.phase.set(DEAD);
        compiler_fence(Ordering::SeqCst);
        if let_go(t, free) {
            end_process();
        }
    });
}

/// How often to look whether threads that have said goodbye are gone. Some that the tracer does not know may be there for ever.
const LOOKS: u32 = 100;

/// Ends the process, with status 0, as the C library does with its last thread: the calling one is the last, but for our own. Does
/// nothing if others run that the tracer does not know, or if that cannot be seen.
fn end_process() {
    for _ in 0..LOOKS {
        // One that is being made has no id yet: the next look knows it.
        if let Some(own) = os::own_ids() {
            let mut these = [0; os::OWN_MAX + 1];
            these[..os::OWN_MAX].copy_from_slice(&own);
            these[os::OWN_MAX] = os::id();
            match os::others_run(&these) {
                // SAFETY: the thread has nothing left to do, and the C library would call it in a moment if it were not for our own.
                Some(false) => unsafe { libc::exit(0) },
                Some(true) => {}
                None => return,
            }
        }
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
}

impl Thread {
    /// The number of the thread's processor: 0 is the tracer's own.
    pub(crate) fn processor_id(&self) -> u64 {
        u64::from(self.index.load(Ordering::Relaxed)) + 1
    }

    /// A wait is over, or the entry changes hands: whoever still means to end that wait is too late. The owner's.
    #[inline]
    pub(crate) fn wait_is_over(&self) {
        self.waits.store(self.waits.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn set_name(&self, name: [u8; os::NAME_BYTES]) {
        for (word, bytes) in self.name.iter().zip(name.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        if name[0] != 0 && black_box::is_open() {
            let end = name.iter().position(|&b| b == 0).unwrap_or(os::NAME_BYTES);
            black_box::thread_name(self.goid.load(Ordering::Relaxed), &name[..end]);
        }
    }

    /// Tells the black box the thread's name.
    pub(crate) fn journal_name(&self) {
        let tid = self.tid.load(Ordering::Relaxed);
        let name = if self.is_main() { *b"main\0\0\0\0\0\0\0\0\0\0\0\0" } else { os::name_of(tid) };
        self.set_name(name);
    }

    /// The name, all zero if it is not known. A name that is being changed may come out mixed.
    pub(crate) fn name(&self) -> [u8; os::NAME_BYTES] {
        let mut name = [0; os::NAME_BYTES];
        for (word, bytes) in self.name.iter().zip(name.as_chunks_mut::<8>().0) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        name
    }

    /// Whether this is the process's first thread.
    pub(crate) fn is_main(&self) -> bool {
        self.tid.load(Ordering::Relaxed) == os::process_id()
    }
}

/// Adds to a counter that only the calling thread writes; returns what it is then.
#[inline(always)]
pub(crate) fn bump(counter: &AtomicU64, by: u64) -> u64 {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(sum, Ordering::Relaxed);
    sum
}

/// The re-entry guard: the calling thread is inside the tracer while it lives.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) thread: &'static Thread,
}

impl Entered {
    /// Enters, or counts an event as lost if the thread is inside already.
    #[inline(always)]
    pub(crate) fn new() -> Option<Entered> {
        let thread = current_or_attach()?;
        Entered::on(thread)
    }

    #[inline(always)]
    pub(crate) fn on(thread: &'static Thread) -> Option<Entered> {
        match thread.busy.load(Ordering::Relaxed) {
            busy::NO => {}
            busy::HOOK => {
                bump(&thread.lost_reentrant, 1);
                return None;
            }
            _ => return None,
        }
        thread.busy.store(busy::HOOK, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        Some(Entered { thread })
    }

    /// Enters without counting: for what is no event.
    pub(crate) fn quietly() -> Option<Entered> {
        Entered::quietly_on(current_or_attach()?)
    }

    pub(crate) fn quietly_on(thread: &'static Thread) -> Option<Entered> {
        if thread.busy.load(Ordering::Relaxed) != busy::NO {
            return None;
        }
        Entered::on(thread)
    }
}

impl Drop for Entered {
    #[inline(always)]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.thread.busy.store(busy::NO, Ordering::Relaxed);
    }
}

/// While it lives, the calling thread works for the tracer: its events are none, and its allocations are the tracer's own.
///
/// It lends the thread another identity, so that what the tracer allocates and frees is counted apart to the byte.
#[derive(Debug)]
pub(crate) struct Internal {
    before: *const Thread,
    phase: u8,
    own: &'static Thread,
    /// It must be dropped where it was made.
    _here: core::marker::PhantomData<*const ()>,
}

impl Internal {
    pub(crate) fn enter() -> Option<Internal> {
        // Known first, so that its own exit notice is armed for its own entry.
        current_or_attach();
        let own = take_internal()?;
        own.busy.store(busy::TRACER, Ordering::Relaxed);
        LOCAL.with(|l| {
            let guard = Internal {
                before: l.thread.replace(own),
                phase: l.phase.replace(ATTACHED),
                own,
                _here: core::marker::PhantomData,
            };
            compiler_fence(Ordering::SeqCst);
            Some(guard)
        })
    }

    /// Runs `f` as the program's: its allocations count as the program's. No events are recorded.
    pub(crate) fn as_program<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Back(*const Thread, u8);
        impl Drop for Back {
            fn drop(&mut self) {
                if let Some(t) = current() {
                    t.busy.store(self.1, Ordering::Relaxed);
                }
                LOCAL.with(|l| l.thread.set(self.0));
            }
        }
        // SAFETY: `before` is null or a registry entry.
        let Some(t) = (unsafe { self.before.as_ref() }) else { return f() };
        let back = Back(self.own, t.busy.swap(busy::TRACER, Ordering::Relaxed));
        LOCAL.with(|l| l.thread.set(t));
        let r = f();
        drop(back);
        r
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        LOCAL.with(|l| {
            l.thread.set(self.before);
            l.phase.set(self.phase);
        });
        compiler_fence(Ordering::SeqCst);
        self.own.busy.store(busy::NO, Ordering::Relaxed);
        release_internal(self.own);
    }
}

/// An identity for the tracer itself: one that it used before, or a new one. Never one that was the program's, whose counters
/// are part of the program's heap.
fn take_internal() -> Option<&'static Thread> {
    {
        let mut spare = SPARE_INTERNAL.lock();
        if let Some(t) = spare.checked_sub(1).and_then(by_index) {
            *spare = t.next_free.load(Ordering::Relaxed);
            return Some(t);
        }
    }
    let mut registry = REGISTRY.lock();
    let i = registry.count;
    let t = make(i)?;
    t.internal.store(true, Ordering::Relaxed);
    registry.count = i + 1;
    COUNT.store(i + 1, Ordering::Release);
    Some(t)
}

fn release_internal(t: &'static Thread) {
    t.life.store(life::FREE, Ordering::Release);
    let mut spare = SPARE_INTERNAL.lock();
    t.next_free.store(*spare, Ordering::Relaxed);
    *spare = t.index.load(Ordering::Relaxed) + 1;
}

static SPARE_INTERNAL: Lock<u32> = Lock::new(0);

/// The calling thread is about to fork: nothing that it does is recorded, until [`forked`] or, in the child, [`after_fork`].
pub(crate) extern "C" fn forks() {
    if let Some(t) = current()
        && t.busy.load(Ordering::Relaxed) == busy::NO
    {
        t.busy.store(busy::FORK, Ordering::Relaxed);
    }
}

/// It has forked, and is the parent.
pub(crate) extern "C" fn forked() {
    current().into_iter().for_each(fork_is_over);
}

fn fork_is_over(t: &Thread) {
    if t.busy.load(Ordering::Relaxed) == busy::FORK {
        t.busy.store(busy::NO, Ordering::Relaxed);
    }
}

/// Makes the registry that of a child of `fork`: the calling thread is the only one left.
///
/// # Safety
/// To be called in the child only, by the forking thread.
pub(crate) unsafe fn after_fork() {
    // SAFETY: the lists are rebuilt below, whatever state they were in.
    unsafe { REGISTRY.reset() };
    // SAFETY: as above.
    unsafe { SPARE_INTERNAL.reset() };
    let me = current();
    let (mut registry, mut spare) = (REGISTRY.lock(), SPARE_INTERNAL.lock());
    registry.count = COUNT.load(Ordering::Relaxed);
    (registry.free, *spare) = (0, 0);
    ANNOUNCED.store(0, Ordering::Relaxed);
    os::forget_own();
    for t in all() {
        t.timer.store(0, Ordering::Relaxed);
        t.gate.close();
        for parity in 0..2 {
            // SAFETY: no other thread exists, and this one is in no section.
            let (events, strings) = unsafe { (t.events[parity].get(), t.strings[parity].get()) };
            events.forget();
            strings.forget();
            // SAFETY: as above.
            unsafe { t.allocations[parity].get() }.forget();
            t.stw_open[parity].store(0, Ordering::Relaxed);
        }
        if me.is_some_and(|m| core::ptr::eq(m, t)) {
            t.tid.store(os::id(), Ordering::Relaxed);
            t.ours.store(false, Ordering::Relaxed);
            fork_is_over(t);
            continue;
        }
        t.tid.store(0, Ordering::Relaxed);
        t.busy.store(busy::NO, Ordering::Relaxed);
        t.life.store(life::FREE, Ordering::Relaxed);
        let list = if t.internal.load(Ordering::Relaxed) { &mut *spare } else { &mut registry.free };
        t.next_free.store(*list, Ordering::Relaxed);
        *list = t.index.load(Ordering::Relaxed) + 1;
    }
}
