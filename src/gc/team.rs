//! Several threads that mark: who they are, how they share out the work, and when it is done.
//!
//! The heap's own thread is one of them, and works as if it were alone; the others, the helpers, are threads that were
//! made when they were first needed and sleep between times. Each has a queue of its own (`worker`). Only when one has
//! nothing left do the others give half of theirs into a common queue. Whoever comes to that in vain is *hungry*; when
//! all are, the work is done. A helper that has not yet woken by then is not waited for: its order is taken back.
//!
//! ```text
//!  helper:   IDLE --the heap orders--> CALLED --it wakes--> WORKING --all done--> IDLE
//!                                        +--all done before it woke--> IDLE
//! ```
//!
//! A panic of the embedder's code on any of the threads ends the work on all, and goes on in the heap's own thread, where
//! the cycle is abandoned.

use super::OutOfMemory;
use super::chunk::QUEUED_NOT;
use super::config::MARK_THREADS_MAX;
use super::heap::Heap;
use super::marker::{Marker, Queue};
use super::page_box::PageBox;
use super::worker::Worker;
use crate::sys::event::Event;
use crate::sys::lock::Lock;
use crate::sys::thread::{OwnThread, process_id, set_own_name};
use core::any::Any;
use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The most that a worker takes from the common queue at a time.
const TAKE_MAX: usize = 32;
/// How often a hungry worker looks before it sleeps: some 20 us, a few times what a wake-up costs.
const SPINS: u32 = if cfg!(miri) { 2 } else { 2000 };
/// A sleeper looks again after this time, whether it was woken or not.
const SLEEP: Duration = Duration::from_millis(1);
/// An idle helper does so far less often.
const LONG_SLEEP: Duration = Duration::from_secs(3600);

const IDLE: u32 = 0;
const CALLED: u32 = 1;
const WORKING: u32 = 2;
const LEAVE: u32 = 3;

type Panic = Box<dyn Any + Send>;

/// What a helper calls around its work; see [`Observer::around_mark_worker`](super::Observer::around_mark_worker).
pub(super) type Around = fn(&mut dyn FnMut());

/// The helpers of a heap.
pub(super) struct Team {
    // Before what they share, so that they are gone first.
    helpers: [Option<PageBox<Helper>>; MARK_THREADS_MAX - 1],
    shared: PageBox<Shared>,
    /// The process that the threads are of: a child of `fork` has none.
    process: u32,
}

/// What all workers of a heap look at.
struct Shared {
    exchange: Lock<Exchange>,
    /// Entries in the common queue, for those who wait. Written under the lock.
    available: AtomicUsize,
    /// Workers that have nothing to do.
    hungry: AtomicU32,
    /// All is done, or a panic has ended it. Set under the lock.
    over: AtomicBool,
    /// Wakes each of the workers, the heap's own thread first.
    bells: [Event; MARK_THREADS_MAX],
    /// How many of them are called.
    called: AtomicUsize,
    around: Cell<Option<Around>>,
}

// SAFETY: `around` is written by the heap's thread while no helper works, and read by helpers after they were called
// (Release and Acquire on their order).
unsafe impl Sync for Shared {}

struct Exchange {
    queue: Queue,
    /// Workers that are not hungry.
    working: u32,
    panic: Option<Panic>,
}

// SAFETY: queue entries are objects of the heap and their types, which workers may use (invariant 13).
unsafe impl Send for Exchange {}

struct Helper {
    /// `IDLE` and so on. The heap's thread sets `CALLED` (Release) and `LEAVE`, and takes back the first; the helper sets
    /// `WORKING` (Acquire) and `IDLE` (Release).
    order: AtomicU32,
    /// Counting from 1.
    number: usize,
    /// The helper's while it is working, else the heap's.
    marker: UnsafeCell<Marker>,
    /// The heap's.
    thread: Cell<Option<OwnThread>>,
    shared: NonNull<Shared>,
}

impl Team {
    pub(super) fn new() -> Result<Self, OutOfMemory> {
        let exchange = Exchange { queue: Queue::new(), working: 0, panic: None };
        let shared = PageBox::new(Shared {
            exchange: Lock::new(exchange),
            available: AtomicUsize::new(0),
            hungry: AtomicU32::new(0),
            over: AtomicBool::new(true),
            bells: [const { Event::new() }; MARK_THREADS_MAX],
            called: AtomicUsize::new(0),
            around: Cell::new(None),
        })?;
        Ok(Team { helpers: [const { None }; MARK_THREADS_MAX - 1], shared, process: process_id() })
    }

    /// Marks all that is left, together with up to `helpers` helpers. Returns a panic that came out of the embedder's code;
    /// then markers and blocks are in any state, but nobody works on them any more.
    ///
    /// # Safety
    /// The heap of `marker` is the calling thread's, and nobody uses it meanwhile.
    unsafe fn mark(&mut self, marker: &mut Marker, helpers: usize, around: Option<Around>) -> Result<(), Panic> {
        let mut called = 0;
        while called < helpers && self.hire(called, marker).is_ok() {
            called += 1;
        }
        if called == 0 || self.shared.exchange.lock().queue.reserve(marker.queue.capacity()).is_err() {
            marker.drain(usize::MAX, None);
            return Ok(());
        }
        let shared = &*self.shared;
        {
            let mut exchange = shared.exchange.lock();
            while let Some(entry) = marker.queue.pop() {
                exchange.queue.push(entry);
            }
            exchange.working = 1;
            shared.available.store(exchange.queue.len(), Ordering::Relaxed);
            shared.hungry.store(0, Ordering::Relaxed);
            shared.over.store(false, Ordering::Relaxed);
            shared.called.store(called, Ordering::Relaxed);
            shared.around.set(around);
        }
        let helpers = || self.helpers[..called].iter().flatten();
        for helper in helpers() {
            helper.order.store(CALLED, Ordering::Release);
        }
        shared.wake_others(0);
        // SAFETY: the caller's, for this thread; helpers have markers of their own.
        shared.work(unsafe { Worker::of(marker) }, 0);
        for helper in helpers() {
            // Acquire pairs with the Release of a helper that is done: what it wrote is seen.
            let taken_back = helper.order.compare_exchange(CALLED, IDLE, Ordering::Acquire, Ordering::Acquire);
            while taken_back.is_err() && helper.order.load(Ordering::Acquire) == WORKING {
                shared.bells[0].wait(SLEEP);
            }
        }
        let panic = shared.exchange.lock().panic.take();
        for helper in helpers() {
            // SAFETY: no helper is working.
            let other = unsafe { &mut *helper.marker.get() };
            if panic.is_some() { other.forget_all() } else { marker.take_over(other) }
        }
        match panic {
            None => Ok(()),
            Some(panic) => {
                shared.exchange.lock().queue.clear();
                marker.forget_all();
                Err(panic)
            }
        }
    }

    /// Sees to it that there is a helper with this number, ready to be called.
    fn hire(&mut self, number: usize, marker: &Marker) -> Result<(), OutOfMemory> {
        let process = process_id();
        if self.process != process {
            // The child of a fork: the threads stayed behind, whose memory is left alone.
            self.helpers.iter_mut().for_each(|h| core::mem::forget(h.take()));
            self.process = process;
        }
        let place = &mut self.helpers[number];
        if place.is_none() {
            let helper = PageBox::new(Helper {
                order: AtomicU32::new(IDLE),
                number: number + 1,
                marker: UnsafeCell::new(Marker::new()),
                thread: Cell::new(None),
                shared: NonNull::from(&*self.shared),
            })?;
            // SAFETY: `help` does not unwind, and the helper stays where it is until its thread has ended (`Team::drop`).
            let thread = unsafe { OwnThread::spawn(help, helper.as_ptr().cast()) }.map_err(|_| OutOfMemory)?;
            helper.thread.set(Some(thread));
            *place = Some(helper);
        }
        let helper = place.as_ref().ok_or(OutOfMemory)?;
        // SAFETY: no helper is working.
        unsafe { &mut *helper.marker.get() }.join_cycle(marker)
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        for helper in &mut self.helpers {
            let Some(helper) = helper.take() else { continue };
            if self.process != process_id() {
                core::mem::forget(helper);
                continue;
            }
            helper.order.store(LEAVE, Ordering::Release);
            self.shared.bells[helper.number].ring();
            if let Some(thread) = helper.thread.take() {
                thread.join();
            }
        }
    }
}

impl Shared {
    /// Wakes all workers but one.
    fn wake_others(&self, number: usize) {
        for (i, bell) in self.bells[..=self.called.load(Ordering::Relaxed)].iter().enumerate() {
            if i != number {
                bell.ring();
            }
        }
    }

    /// Works until all is done, or a panic has ended it. Does not unwind.
    fn work(&self, worker: &mut Worker, number: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            while self.take(worker, number) {
                while let Some(entry) = worker.marker().queue.pop() {
                    worker.scan(entry);
                    if self.hungry.load(Ordering::Relaxed) > 0 && worker.marker().queue.len() > 1 {
                        self.give(worker, number);
                    }
                    if self.over.load(Ordering::Relaxed) {
                        // It cannot be done, so somebody panicked.
                        return;
                    }
                }
            }
        }));
        if let Err(panic) = result {
            let mut exchange = self.exchange.lock();
            match exchange.panic {
                None => exchange.panic = Some(panic),
                // One is enough; and to drop it would run the program's code.
                Some(_) => core::mem::forget(panic),
            }
            self.over.store(true, Ordering::Relaxed);
            drop(exchange);
            self.wake_others(number);
        }
    }

    /// Gives half of a worker's queue to the others: the front, where blocks have waited longest for more to be marked in
    /// them.
    #[cold]
    fn give(&self, worker: &mut Worker, number: usize) {
        let queue = &mut worker.marker().queue;
        let mut exchange = self.exchange.lock();
        for _ in 0..queue.len() / 2 {
            if let Some(entry) = queue.pop() {
                exchange.queue.push(entry);
            }
        }
        self.available.store(exchange.queue.len(), Ordering::Relaxed);
        drop(exchange);
        self.wake_others(number);
    }

    /// Takes work from the common queue, or waits for it. `false` if there will be none.
    fn take(&self, worker: &mut Worker, number: usize) -> bool {
        let mut is_hungry = false;
        loop {
            let mut exchange = self.exchange.lock();
            if self.over.load(Ordering::Relaxed) {
                return false;
            }
            let len = exchange.queue.len();
            if len > 0 {
                for _ in 0..(len / 4).clamp(1, TAKE_MAX) {
                    if let Some(entry) = exchange.queue.pop() {
                        worker.marker().queue.push(entry);
                    }
                }
                self.available.store(exchange.queue.len(), Ordering::Relaxed);
                if is_hungry {
                    exchange.working += 1;
                    self.hungry.fetch_sub(1, Ordering::Relaxed);
                }
                return true;
            }
            if !is_hungry {
                is_hungry = true;
                exchange.working -= 1;
                self.hungry.fetch_add(1, Ordering::Relaxed);
                if exchange.working == 0 {
                    self.over.store(true, Ordering::Relaxed);
                    drop(exchange);
                    self.wake_others(number);
                    return false;
                }
            }
            drop(exchange);
            let is_news = || self.over.load(Ordering::Relaxed) || self.available.load(Ordering::Relaxed) > 0;
            let seen = (0..SPINS).any(|_| {
                core::hint::spin_loop();
                is_news()
            });
            if !seen {
                self.bells[number].wait(SLEEP);
            }
        }
    }

    /// A helper that has woken is one of the workers. `false` if it came too late.
    fn join(&self) -> bool {
        let mut exchange = self.exchange.lock();
        let over = self.over.load(Ordering::Relaxed);
        exchange.working += u32::from(!over);
        !over
    }
}

/// The life of a helper.
extern "C" fn help(helper: *mut c_void) -> *mut c_void {
    set_own_name(c"gc mark");
    // SAFETY: the helper stays where it is until this thread has ended.
    let helper = unsafe { &*helper.cast::<Helper>() };
    // SAFETY: as above.
    let shared = unsafe { helper.shared.as_ref() };
    loop {
        // Acquire pairs with the Release of the heap's thread: the heap is as that left it.
        let order = helper.order.compare_exchange(CALLED, WORKING, Ordering::Acquire, Ordering::Acquire);
        match order {
            Ok(_) => {
                // SAFETY: the helper's own while it is working.
                let marker = unsafe { &mut *helper.marker.get() };
                // SAFETY: the heap's thread has called, and uses the heap only as a worker until this one is done.
                let worker = unsafe { Worker::of(marker) };
                let mut work = || {
                    if shared.join() {
                        shared.work(worker, helper.number);
                    }
                };
                match shared.around.get() {
                    Some(around) => around(&mut work),
                    None => work(),
                }
                // Release pairs with the Acquire of the heap's thread.
                helper.order.store(IDLE, Ordering::Release);
                shared.bells[0].ring();
            }
            Err(LEAVE) => return core::ptr::null_mut(),
            Err(_) => {
                shared.bells[helper.number].wait(LONG_SLEEP);
            }
        }
    }
}

impl Heap {
    /// Marks all that is left to mark: by this thread alone while that is little, and then by all that the heap may have.
    pub(super) fn drain_together(&self) {
        loop {
            let mut marker = self.marker.borrow_mut();
            if marker.drain(self.config.mark_alone_bytes, None) {
                return;
            }
            let mut team = self.team.borrow_mut();
            if team.is_none() {
                *team = Team::new().ok();
            }
            let Some(team) = team.as_mut() else {
                marker.drain(usize::MAX, None);
                return;
            };
            let helpers = self.config.mark_threads - 1;
            // SAFETY: this is the heap's thread, which does nothing else until all have marked.
            let result = unsafe { team.mark(&mut marker, helpers, self.observer().around_mark_worker()) };
            if let Err(panic) = result {
                self.for_each_block(|block| block.hot().queued.set(QUEUED_NOT));
                drop(marker);
                resume_unwind(panic);
            }
        }
    }
}
