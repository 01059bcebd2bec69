//! Who waits on which address, so that a waker can be told whom it wakes.
//!
//! A thread that is about to wait enters itself under the address of the futex (or of the C lock, or under the handle
//! of the thread it joins); a waker takes as many entries as it will wake, oldest first, and tells the tracer of each
//! before it really wakes them. The kernel wakes in the same order, for threads of one priority.
//!
//! Being wrong here costs a name in the trace, never the program's progress, and the code is made so:
//! 1. Nothing allocates: the nodes are a fixed array. When they are used up a wait goes unattributed, and is counted.
//! 2. A shard's lock is spun on for a bounded time. Who cannot get it goes without: unattributed, and counted. So a
//!    signal handler that interrupted the holder on its own thread cannot hang, nor can a child forked while another
//!    thread held it.
//! 3. A waiter leaves without the lock: it marks its node gone, and the next one to hold the lock frees it. A node is
//!    marked, taken and freed by a compare-exchange on a word with a serial number, so nobody touches a node that has
//!    changed hands.
//! 4. A waiter that never returns (cancelled, or jumped out of) leaves its node behind until someone wakes the address.
//!    Its token names one wait of one thread, and the tracer ignores a token of a wait that is over.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

use crate::hook;
use crate::hook::thread::{self, Waiter};
use crate::record::tracer::UNMATCHED;
use crate::sys::raw::syscall6;

/// Waiters at one time. More threads than this in one process are rare, and then the rest go unattributed.
const NODES: usize = 8192;
/// A power of two. Distinct addresses that are waited on at one time share a lock and a list with few others.
const SHARDS: usize = 256;
/// Attempts at a shard's lock before giving way to the holder, which then most likely lost its processor, and how often
/// to give way. The lock is held for tens of nanoseconds, so this is some microseconds of spinning at most.
const SPINS: u32 = 100;
const YIELDS: u32 = 8;
/// Waiters handed to the tracer for one holding of the lock.
const BATCH: usize = 32;

/// The one table of this process.
pub(super) static WAITERS: Waiters<Waiter> = Waiters::new();

/// The calling thread is about to wait on `address`, for a reason other than a raw futex.
#[inline]
pub(super) fn enter(address: usize, bits: u32) -> Ticket {
    if hook::on() { WAITERS.push(address, bits, thread::waiter()) } else { Ticket::NONE }
}

/// Tells the tracer of up to `count` waits on `address` with a bit of `mask` that the calling thread is about to end.
#[inline]
pub(super) fn wake(address: usize, mask: u32, count: u32) {
    WAITERS.take(address, mask, count, thread::wake);
}

/// Calls the real function as a wait on an address, where its waker will look for it.
macro_rules! as_wait_on {
    ($reason:ident, $address:expr, $bits:expr, $($call:tt)*) => {{
        let ticket = $crate::hook::interpose::waiters::enter($address, $bits);
        $crate::hook::interpose::waiters::as_entered_wait!($reason, ticket, $($call)*)
    }};
}
pub(super) use as_wait_on;

/// Calls the real function as a wait that is in the table.
macro_rules! as_entered_wait {
    ($reason:ident, $ticket:ident, $($call:tt)*) => {{
        $crate::hook::thread::block($crate::hook::thread::Reason::$reason);
        let result = $crate::hook::interpose::real::call!($($call)*);
        $crate::hook::interpose::waiters::WAITERS.retract($ticket);
        $crate::hook::thread::unblock();
        result
    }};
}
pub(super) use as_entered_wait;

/// Which bits match: for `FUTEX_WAIT_BITSET`, and for telling readers from writers.
pub(super) const ANY: u32 = u32::MAX;

/// A node's word is its serial number shifted up by these bits, and the state in them.
const STATE_BITS: u32 = 2;
const FREE: u64 = 0;
const WAITING: u64 = 1;
const GONE: u64 = 2;

/// A place in a shard's list. All zero when new, so that the whole table is untouched zero pages until used.
struct Node<W> {
    /// Serial number and state. FREE to WAITING by its owner under the lock; WAITING to GONE by the waiter, to FREE
    /// (serial + 1) by a waker under the lock; GONE to FREE by whoever holds the lock.
    word: AtomicU64,
    /// Number of the next node of the list it is in, a shard's or the free one's; 0 ends it.
    next: AtomicU32,
    bits: AtomicU32,
    address: AtomicUsize,
    /// Written before the node is linked, read under the lock of the list that it is linked in.
    waiter: UnsafeCell<MaybeUninit<W>>,
}

/// One list of nodes, oldest first. Apart from `lock` and reads of `linked`, touched under the lock only.
#[repr(align(64))]
struct Shard {
    lock: AtomicU32,
    /// Nodes in the list, gone ones included. Read without the lock by wakers, to see that there is nothing to do.
    linked: AtomicU32,
    head: AtomicU32,
    tail: AtomicU32,
    /// Sweep when `linked` reaches this.
    sweep_at: AtomicU32,
}

/// A wait in the table; plain data, so that a wait may be left by cancellation or `longjmp`.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    /// 0 for a wait that found no place.
    node: u32,
    word: u64,
}

/// The table; `W` is what a waker is given, plain data.
pub(super) struct Waiters<W> {
    shards: [Shard; SHARDS],
    /// Node number `n` is at `n - 1`.
    nodes: [Node<W>; NODES],
    /// Top of the stack of free nodes in the low half, a count of its changes in the high half.
    free: AtomicU64,
    /// Nodes that were in use at least once.
    fresh: AtomicU32,
    /// Waits without a place, and wakers and waiters that could not get a lock.
    missed: AtomicU64,
}

// SAFETY: the `UnsafeCell` of a node is written by the only holder of the free node and read under the lock of its
// list.
unsafe impl<W: Copy + Send> Sync for Waiters<W> {}

impl Ticket {
    /// A wait that is not in the table.
    pub(super) const NONE: Ticket = Ticket { node: 0, word: 0 };
}

impl<W: Copy> Waiters<W> {
    pub(super) const fn new() -> Self {
        Waiters {
            shards: [const { Shard::new() }; SHARDS],
            nodes: [const { Node::new() }; NODES],
            free: AtomicU64::new(0),
            fresh: AtomicU32::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// Enters a wait on `address`. The caller looks at the futex word once more afterwards: the entry is visible to
    /// every waker whose change of the word that look does not see.
    pub(super) fn push(&self, address: usize, bits: u32, waiter: W) -> Ticket {
        let Some((number, node)) = self.take_free() else { return self.miss(Ticket::NONE) };
        node.bits.store(bits, Relaxed);
        node.address.store(address, Relaxed);
        // SAFETY: the node is not linked anywhere: only this thread knows of it.
        unsafe { *node.waiter.get() = MaybeUninit::new(waiter) };
        let word = node.word.load(Relaxed) | WAITING;
        let shard = self.shard(address);
        if !shard.lock() {
            self.give_free(number, node);
            return self.miss(Ticket::NONE);
        }
        if shard.linked.load(Relaxed) >= shard.sweep_at.load(Relaxed) {
            self.unlink(shard, |_| Unlink::No);
            // So that sweeping costs a constant for each entry, whatever stays.
            shard.sweep_at.store(2 * shard.linked.load(Relaxed) + 8, Relaxed);
        }
        node.word.store(word, Release);
        self.append(shard, number, node);
        // SeqCst, with the waker's change of the futex word: one of the two sees the other's.
        shard.linked.fetch_add(1, SeqCst);
        shard.unlock();
        Ticket { node: number, word }
    }

    /// Takes the entry back, if no waker has. To be called when the wait is over, whatever ended it.
    pub(super) fn retract(&self, ticket: Ticket) -> bool {
        let Some(node) = self.node(ticket.node) else { return false };
        let gone = ticket.word & !WAITING | GONE;
        // Release, with the Acquire of whoever frees the node.
        node.word.compare_exchange(ticket.word, gone, Release, Relaxed).is_ok()
    }

    /// Hands `wake` up to `count` of those who wait on `address` with a bit of `mask`, oldest first, and forgets them.
    #[inline]
    pub(super) fn take(&self, address: usize, mask: u32, count: u32, wake: impl FnMut(W)) {
        if self.maybe(address) {
            self.take_some(address, mask, count, wake);
        }
    }

    #[cold]
    fn take_some(&self, address: usize, mask: u32, mut count: u32, mut wake: impl FnMut(W)) {
        let shard = self.shard(address);
        while count > 0 {
            let mut batch = [MaybeUninit::<W>::uninit(); BATCH];
            let want = BATCH.min(count as usize);
            let mut got = 0;
            if !shard.lock() {
                return self.miss(());
            }
            self.unlink(shard, |node| {
                if got == want || !node.waits_on(address, mask) {
                    return Unlink::No;
                }
                match node.claim() {
                    Some(waiter) => {
                        if let Some(place) = batch.get_mut(got) {
                            *place = waiter;
                        }
                        got += 1;
                        Unlink::Free
                    }
                    None => Unlink::No,
                }
            });
            shard.unlock();
            for waiter in batch.iter().take(got) {
                // SAFETY: the first `got` were written, with the waiters of entered nodes.
                wake(unsafe { waiter.assume_init() });
            }
            if got < want {
                return;
            }
            count -= got as u32;
        }
    }

    /// Whether anything may wait on `address`: cheap, and right when it says no.
    #[inline]
    pub(super) fn maybe(&self, address: usize) -> bool {
        self.shard(address).linked.load(Relaxed) != 0
    }

    /// How many wait on `address` with a bit of `mask`; none when the lock is not to be had.
    pub(super) fn count(&self, address: usize, mask: u32) -> u32 {
        let shard = self.shard(address);
        let mut count = 0;
        if self.maybe(address) && shard.lock() {
            self.unlink(shard, |node| {
                count += u32::from(node.waits_on(address, mask));
                Unlink::No
            });
            shard.unlock();
        }
        count
    }

    /// Moves up to `count` waits from one address to another, behind those that are there.
    pub(super) fn requeue(&self, from: usize, to: usize, mut count: u32) {
        let (source, target) = (self.shard(from), self.shard(to));
        if from == to || count == 0 || source.linked.load(Relaxed) == 0 {
            return;
        }
        if !source.lock() {
            return self.miss(());
        }
        let moved = self.unlink(source, |node| {
            if count == 0 || !node.waits_on(from, ANY) {
                return Unlink::No;
            }
            count -= 1;
            node.address.store(to, Relaxed);
            Unlink::Move
        });
        source.unlock();
        if moved.count == 0 {
            return;
        }
        if !target.lock() {
            self.free_list(moved.first);
            return self.miss(());
        }
        match self.node(target.tail.load(Relaxed)) {
            Some(tail) => tail.next.store(moved.first, Relaxed),
            None => target.head.store(moved.first, Relaxed),
        }
        target.tail.store(moved.last, Relaxed);
        target.linked.fetch_add(moved.count, SeqCst);
        target.unlock();
    }

    /// Forgets everything. For the child of a fork, whose one thread waits on nothing: the locks' holders and the
    /// waiters are in the parent.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            shard.linked.store(0, Relaxed);
            shard.head.store(0, Relaxed);
            shard.tail.store(0, Relaxed);
            shard.lock.store(0, Release);
        }
        for node in &self.nodes[..self.fresh.load(Relaxed).min(NODES as u32) as usize] {
            node.word.store(node.freed(), Relaxed);
        }
        self.free.store(0, Relaxed);
        self.fresh.store(0, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    #[cold]
    fn miss<T>(&self, result: T) -> T {
        self.missed.fetch_add(1, Relaxed);
        UNMATCHED.fetch_add(1, Relaxed);
        result
    }

    fn shard(&self, address: usize) -> &Shard {
        // Futexes are 4-byte aligned and often a cache line or an allocation apart: take the high bits of a product.
        let hash = (address as u64 >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SHARDS.trailing_zeros());
        // The modulus is a no-op that shows the compiler the bound.
        &self.shards[hash as usize % SHARDS]
    }

    fn node(&self, number: u32) -> Option<&Node<W>> {
        self.nodes.get((number as usize).wrapping_sub(1))
    }

    fn take_free(&self) -> Option<(u32, &Node<W>)> {
        let mut top = self.free.load(Acquire);
        while let Some(node) = self.node(top as u32) {
            let changes = (top >> 32).wrapping_add(1) << 32;
            let next = changes | u64::from(node.next.load(Relaxed));
            // Acquire, with the Release of `give_free`. The count of changes makes a `next` that was read too late fail
            // here.
            match self.free.compare_exchange_weak(top, next, Acquire, Acquire) {
                Ok(_) => return Some((top as u32, node)),
                Err(now) => top = now,
            }
        }
        if self.fresh.load(Relaxed) >= NODES as u32 {
            return None;
        }
        let number = self.fresh.fetch_add(1, Relaxed) + 1;
        Some((number, self.node(number)?))
    }

    /// `node` is FREE and in no list.
    fn give_free(&self, number: u32, node: &Node<W>) {
        let mut top = self.free.load(Relaxed);
        loop {
            node.next.store(top as u32, Relaxed);
            let changes = (top >> 32).wrapping_add(1) << 32;
            // Release, with the Acquire of `take_free`.
            match self.free.compare_exchange_weak(top, changes | u64::from(number), Release, Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Frees a list that is linked nowhere. Its waiters, if still waiting, find their tickets void.
    fn free_list(&self, mut number: u32) {
        while let Some(node) = self.node(number) {
            let next = node.next.load(Relaxed);
            node.word.store(node.freed(), Release);
            self.give_free(number, node);
            number = next;
        }
    }

    /// Under the lock.
    fn append(&self, shard: &Shard, number: u32, node: &Node<W>) {
        node.next.store(0, Relaxed);
        match self.node(shard.tail.load(Relaxed)) {
            Some(tail) => tail.next.store(number, Relaxed),
            None => shard.head.store(number, Relaxed),
        }
        shard.tail.store(number, Relaxed);
    }

    /// Walks the list, frees what is gone, and unlinks what `choose` says. Under the lock.
    ///
    /// Returns the nodes to be moved as a list of their own: their owners may still mark them gone, but nobody else
    /// finds them.
    fn unlink(&self, shard: &Shard, mut choose: impl FnMut(&Node<W>) -> Unlink) -> Chain {
        let (mut before, mut number) = (0, shard.head.load(Relaxed));
        let mut moved = Chain { first: 0, last: 0, count: 0 };
        let mut removed = 0;
        while let Some(node) = self.node(number) {
            let next = node.next.load(Relaxed);
            // Acquire, with the Release of `retract`: what the waiter did before it left comes before the node's next
            // use.
            let what = if node.word.load(Acquire) & GONE != 0 {
                node.word.store(node.freed(), Relaxed);
                Unlink::Free
            } else {
                choose(node)
            };
            if let Unlink::No = what {
                (before, number) = (number, next);
                continue;
            }
            removed += 1;
            match self.node(before) {
                Some(b) => b.next.store(next, Relaxed),
                None => shard.head.store(next, Relaxed),
            }
            if next == 0 {
                shard.tail.store(before, Relaxed);
            }
            if let Unlink::Move = what {
                node.next.store(0, Relaxed);
                match self.node(moved.last) {
                    Some(l) => l.next.store(number, Relaxed),
                    None => moved.first = number,
                }
                moved.last = number;
                moved.count += 1;
            } else {
                self.give_free(number, node);
            }
            number = next;
        }
        if removed > 0 {
            shard.linked.fetch_sub(removed, Relaxed);
        }
        moved
    }
}

/// What to do with a node of a shard's list.
#[derive(Clone, Copy)]
enum Unlink {
    No,
    /// The node's word says FREE already.
    Free,
    Move,
}

/// Nodes linked to each other and to nothing else.
struct Chain {
    first: u32,
    last: u32,
    count: u32,
}

impl<W: Copy> Node<W> {
    const fn new() -> Self {
        Node {
            word: AtomicU64::new(FREE),
            next: AtomicU32::new(0),
            bits: AtomicU32::new(0),
            address: AtomicUsize::new(0),
            waiter: UnsafeCell::new(MaybeUninit::zeroed()),
        }
    }

    fn waits_on(&self, address: usize, mask: u32) -> bool {
        self.address.load(Relaxed) == address && self.bits.load(Relaxed) & mask != 0
    }

    /// The word of this node's next life.
    fn freed(&self) -> u64 {
        ((self.word.load(Relaxed) >> STATE_BITS) + 1) << STATE_BITS | FREE
    }

    /// Its waiter, if that has not left; the node is FREE then. Under the lock.
    fn claim(&self) -> Option<MaybeUninit<W>> {
        let word = self.word.load(Relaxed);
        if word & WAITING == 0 {
            return None;
        }
        // SAFETY: written before the node was linked, and not again before it is freed, which only the lock's holder
        // does.
        let waiter = unsafe { *self.waiter.get() };
        // AcqRel: a waiter that finds its ticket void thereby knows that a waker spoke for it.
        self.word.compare_exchange(word, self.freed(), AcqRel, Relaxed).ok().map(|_| waiter)
    }
}

impl Shard {
    const fn new() -> Self {
        Shard {
            lock: AtomicU32::new(0),
            linked: AtomicU32::new(0),
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            sweep_at: AtomicU32::new(0),
        }
    }

    /// Takes the lock, or gives up after a bounded time.
    fn lock(&self) -> bool {
        for _ in 0..YIELDS {
            for _ in 0..SPINS {
                // Acquire, with the Release of `unlock`.
                if self.lock.load(Relaxed) == 0 && self.lock.compare_exchange_weak(0, 1, Acquire, Relaxed).is_ok() {
                    return true;
                }
                core::hint::spin_loop();
            }
            // SAFETY: no arguments, no memory.
            unsafe { syscall6(libc::SYS_sched_yield, [0; 6]) };
        }
        false
    }

    fn unlock(&self) {
        self.lock.store(0, Release);
    }
}

#[cfg(test)]
mod tests;
