//! The collection cycle: from its beginning at a safepoint, over marking in one go or in steps, to its end.
//!
//! Only the beginning needs the roots, and so a safepoint, where no reference is held outside of the heap. Everything
//! after can happen inside of an allocation: what the program holds in its hands was reachable when the cycle began, or
//! is newer and counts as marked.

use super::collect::Collect;
use super::finalize::Found;
use super::heap::{Heap, LOG, Phase, SNAPSHOT};
use super::marker::Marker;
use super::observer::{CycleStats, Pressure, Reason, StwKind};
use super::raw::RawVisitor;
use super::stats::Durations;
use super::sweep::OnUnwind;
use super::type_info::TypeInfo;
use crate::sys::clock::monotonic_ns;
use core::cell::Cell;
use std::time::Duration;

/// Heaps below this are marked in one go until the first cycle has shown how fast marking goes.
const ONE_GO_BYTES: usize = 1 << 20;

/// Times and counts of cycles.
pub(super) struct Clock {
    stw: Cell<Durations>,
    assists: Cell<Durations>,
    sweeps: Cell<Durations>,
    minors: Cell<Durations>,
    pub(super) cycles_abandoned: Cell<u64>,
    /// When the last cycle ended, or the heap was made.
    last_end: Cell<u64>,
    /// A cycle was told to the observer, and does not mark yet.
    starting: Cell<bool>,
    /// The running cycle: when and why it began, and what the sums above were.
    begin: Cell<(u64, Reason, u64, u64)>,
    /// Marking speed of the last cycle, in nanoseconds for a MiB.
    ns_per_mib: Cell<Option<u64>>,
}

impl Clock {
    pub(super) fn new() -> Self {
        let now = monotonic_ns();
        Clock {
            stw: Cell::default(),
            assists: Cell::default(),
            sweeps: Cell::default(),
            minors: Cell::default(),
            cycles_abandoned: Cell::new(0),
            last_end: Cell::new(now),
            starting: Cell::new(false),
            begin: Cell::new((now, Reason::Explicit, 0, 0)),
            ns_per_mib: Cell::new(None),
        }
    }

    /// Marking speed of the last cycle, in nanoseconds for a MiB.
    pub(super) fn ns_per_mib(&self) -> Option<u64> {
        self.ns_per_mib.get()
    }

    pub(super) fn durations(&self) -> [Durations; 4] {
        [self.stw.get(), self.assists.get(), self.sweeps.get(), self.minors.get()]
    }
}

/// A range that is told to the observer and timed: ended when dropped, so on every path.
pub(super) struct Bracket<'a, E: FnMut()> {
    durations: &'a Cell<Durations>,
    begin: u64,
    end: E,
}

impl<E: FnMut()> Drop for Bracket<'_, E> {
    fn drop(&mut self) {
        let mut d = self.durations.get();
        d.add(since(self.begin));
        self.durations.set(d);
        (self.end)();
    }
}

impl<'a> Bracket<'a, fn()> {
    pub(super) fn sweep<R: FnMut() -> (usize, usize) + 'a>(
        heap: &'a Heap,
        mut result: R,
    ) -> Bracket<'a, impl FnMut() + 'a> {
        heap.observer().sweep_begin();
        Bracket {
            durations: &heap.clock.sweeps,
            begin: monotonic_ns(),
            end: move || {
                let (swept, reclaimed) = result();
                heap.observer().sweep_end(swept, reclaimed);
            },
        }
    }

    /// A collection of the young objects; `result` gives their size and what survived.
    pub(super) fn minor<R: FnMut() -> (usize, usize) + 'a>(
        heap: &'a Heap,
        mut result: R,
    ) -> Bracket<'a, impl FnMut() + 'a> {
        heap.observer().minor_begin();
        Bracket {
            durations: &heap.clock.minors,
            begin: monotonic_ns(),
            end: move || {
                let (young, survived) = result();
                heap.observer().minor_end(young, survived);
            },
        }
    }

    fn stw(heap: &'a Heap, kind: StwKind) -> Bracket<'a, impl FnMut() + 'a> {
        heap.observer().stw_begin(kind);
        Bracket { durations: &heap.clock.stw, begin: monotonic_ns(), end: move || heap.observer().stw_end(kind) }
    }

    fn assist(heap: &'a Heap) -> Bracket<'a, impl FnMut() + 'a> {
        heap.observer().assist_begin();
        Bracket { durations: &heap.clock.assists, begin: monotonic_ns(), end: || heap.observer().assist_end() }
    }
}

/// Nanoseconds since a time of the clock.
fn since(begin: u64) -> u64 {
    monotonic_ns().saturating_sub(begin)
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

impl Heap {
    /// What a safepoint does when it has been asked for. No reference into the heap may be held outside of it.
    #[cold]
    #[inline(never)]
    pub(super) fn safepoint_slow(&self) {
        if self.config.stress {
            // By turns in one go and in steps, and the young objects alone, so that all are seen.
            if self.phase.get() == Phase::Idle
                && self.barrier.get() == LOG
                && !self.young.turn.replace(!self.young.turn.get())
            {
                self.minor();
            } else if self.phase.get() == Phase::Mark {
                self.mark_to_the_end();
            } else {
                let stepwise = self.config.settings.incremental && self.cycle.get() % 2 == 1;
                self.run_cycle(Reason::Stress, !stepwise);
            }
            self.requested.set(true);
            return;
        }
        self.requested.set(false);
        if self.phase.get() == Phase::Idle && self.barrier.get() == LOG && self.is_minor_short() {
            self.minor();
            if self.paced_bytes() < self.pacer.get().trigger_after_minor() && !self.young.unknown.get() {
                return;
            }
        }
        if self.phase.get() == Phase::Idle {
            let estimate = self.heap_bytes();
            let one_go = match self.clock.ns_per_mib.get() {
                None => estimate <= ONE_GO_BYTES,
                Some(ns) => (estimate as u128 * u128::from(ns)) >> 20 <= self.config.max_pause.as_nanos(),
            };
            self.run_cycle(self.pacer.get().reason, one_go || !self.config.settings.incremental);
        }
    }

    /// Frees all that cannot be reached now, and drops what has to be dropped. No reference into the heap may be held
    /// outside of it.
    pub(super) fn collect(&self) {
        if self.phase.get() == Phase::Mark {
            self.mark_to_the_end();
        }
        self.run_cycle(Reason::Explicit, true);
        self.sweep_some(usize::MAX);
        self.requested.set(self.config.stress);
    }

    /// Begins a cycle, and with `one_go` finishes it.
    fn run_cycle(&self, reason: Reason, one_go: bool) {
        debug_assert_eq!(self.phase.get(), Phase::Idle);
        let before = (self.clock.stw.get().ns_sum, self.clock.assists.get().ns_sum);
        self.clock.begin.set((monotonic_ns(), reason, before.0, before.1));
        self.observer().cycle_begin(reason);
        self.cycle.set(self.cycle.get() + 1);
        self.sizes.at_start.set(self.heap_bytes());
        let mut pacer = self.pacer.get();
        pacer.cycle_begins(self.paced_bytes());
        self.pacer.set(pacer);
        self.or_abandon(|| {
            let _stw = Bracket::stw(self, StwKind::SweepTermination);
            self.clock.starting.set(true);
            self.sweep_some(usize::MAX);
            self.clock.starting.set(false);
            self.begin_mark(!one_go);
        });
        if one_go {
            self.mark_to_the_end();
        }
    }

    /// Makes all marks stale and marks the roots.
    fn begin_mark(&self, snapshot: bool) {
        self.retire_all();
        self.forget_lists();
        self.young.forget();
        self.age_nursery();
        self.roots.watch().borrow_mut().cycle_begins();
        let mut marker = self.marker.borrow_mut();
        if marker.begin() {
            // Blocks that were last marked 255 cycles ago would seem to be marked in this one.
            self.for_each_block(|b| b.hot().epoch.set(0));
        }
        self.epoch.set(marker.epoch());
        self.marks_valid.set(false);
        self.sizes.black.set(0);
        self.sizes.assisted.set(self.sizes.allocated.get());
        self.phase.set(Phase::Mark);
        self.barrier.set(if snapshot { SNAPSHOT } else { 0 });
        self.mark_roots(&mut marker);
    }

    pub(super) fn mark_roots(&self, marker: &mut Marker) {
        let mut mark = |object, info: &'static TypeInfo| {
            // SAFETY: roots are live objects of this heap and of that type (invariant 5).
            unsafe { (info.mark)(object, marker) }
        };
        if let Some((object, info)) = self.root.get() {
            mark(object, info);
        }
        self.roots.for_each(mark);
        self.visit_raw_roots(&mut RawVisitor::marker(marker));
    }

    /// Leaves no block to allocate from but new ones.
    fn forget_lists(&self) {
        self.with_types(|types| {
            for t in types {
                t.avail.clear();
                t.used.clear();
            }
        });
    }

    /// Marks all that is left to mark, while the program stands still, and ends the cycle.
    pub(super) fn mark_to_the_end(&self) {
        self.or_abandon(|| {
            let _stw = Bracket::stw(self, StwKind::MarkTermination);
            self.mark_all(usize::MAX, None);
            self.end_mark();
        });
        self.finish();
    }

    /// Marks until nothing is left (`true`), or as [`Marker::drain`] does for less: all that can be reached, and then
    /// what is to be finalized.
    pub(super) fn mark_all(&self, budget: usize, deadline: Option<u64>) -> bool {
        let in_one_go = budget == usize::MAX && deadline.is_none();
        loop {
            if in_one_go && self.config.mark_threads > 1 {
                self.drain_together();
            } else if !self.marker.borrow_mut().drain(budget, deadline) {
                return false;
            }
            match self.finalize(deadline.is_some() || budget != usize::MAX) {
                Found::Nothing => return true,
                Found::Some => {}
                Found::Unfinished => {
                    if deadline.is_none_or(|d| monotonic_ns() >= d) {
                        return false;
                    }
                }
            }
        }
    }

    /// Runs `f`, which calls the embedder's code, and abandons the cycle if a panic comes out of it: after the brackets
    /// that `f` opened are closed.
    pub(super) fn or_abandon<R>(&self, f: impl FnOnce() -> R) -> R {
        let abandon = OnUnwind(|| self.abandon());
        let result = f();
        core::mem::forget(abandon);
        result
    }

    /// Shows a value to the marker.
    #[cold]
    #[inline(never)]
    pub(super) fn show_to_marker<T: Collect>(&self, old: &T) {
        self.or_abandon(|| old.visit(&mut *self.marker.borrow_mut()));
    }

    /// What an allocation of `bytes` owes: marking while a cycle runs, else sweeping.
    pub(super) fn pay(&self, bytes: usize) {
        if self.phase.get() == Phase::Mark {
            self.assist(bytes);
        } else if self.unswept.get() > 0 {
            self.sweep_some(self.sweep_quota.get());
        }
    }

    fn assist(&self, bytes: usize) {
        let (pacer, sizes) = (self.pacer.get(), &self.sizes);
        let owed_for = sizes.allocated.get() - sizes.assisted.get() + bytes;
        sizes.assisted.set(sizes.allocated.get());
        let heap = self.paced_bytes();
        let marked = self.marker.borrow().bytes_marked();
        let estimate = sizes.at_start.get();
        match pacer.assist_ns(nanos(self.config.max_pause), heap) {
            None => self.mark_to_the_end(),
            Some(ns) => {
                let budget = pacer.assist_bytes(owed_for, heap, estimate, marked);
                self.step(budget, Some(monotonic_ns().saturating_add(ns)));
            }
        }
    }

    /// One step of marking, and the end of the cycle if it was the last. `true` if no cycle is marking any more.
    pub(super) fn step(&self, budget: usize, deadline: Option<u64>) -> bool {
        if self.phase.get() != Phase::Mark {
            return true;
        }
        let done = self.or_abandon(|| {
            let _assist = Bracket::assist(self);
            self.mark_all(budget, deadline)
        });
        if done {
            {
                let _stw = Bracket::stw(self, StwKind::MarkTermination);
                self.end_mark();
            }
            self.finish();
        }
        done
    }

    /// Nothing is left to mark: back to `Idle`.
    fn end_mark(&self) {
        self.retire_all();
        self.clear_weak();
        self.roots.watch().borrow_mut().all_old();
        let marked = self.marker.borrow().bytes_marked();
        let sizes = &self.sizes;
        let allocated = sizes.allocated.replace(0);
        sizes.base.set(marked + sizes.black.get());
        self.phase.set(Phase::Idle);
        self.barrier.set(if self.minors_pay() { LOG } else { 0 });
        self.marks_valid.set(true);
        sizes.allocated_before.set(sizes.allocated_before.get() + allocated as u64);
        sizes.allocated_last.set(allocated);
    }

    /// Works out the next goal.
    fn repace(&self, gc_ns: u64) {
        let since = since(self.clock.last_end.get()).saturating_sub(gc_ns).max(1);
        let rate = (self.sizes.allocated_last.get() as u128 * 1_000_000_000 / u128::from(since))
            .min(u128::from(u64::MAX)) as u64;
        let mut pacer = self.pacer.get();
        pacer.cycle_done(self.paced_bytes(), self.overhead_bytes(), gc_ns, rate);
        self.pacer.set(pacer);
    }

    /// After the program goes on: tells of the cycle, and sorts the blocks.
    fn finish(&self) {
        let (_, _, stw, assist) = self.clock.begin.get();
        let gc_ns = self.clock.stw.get().ns_sum - stw + self.clock.assists.get().ns_sum - assist;
        let marked = self.marker.borrow().bytes_marked();
        if marked >= super::chunk::BLOCK_BYTES {
            self.clock.ns_per_mib.set(Some(((u128::from(gc_ns) << 20) / marked as u128) as u64));
        }
        self.repace(gc_ns);
        self.tell_end(false);
        if self.is_near_limit() {
            self.observer().memory_pressure(Pressure::NearLimit);
        }
        self.marker.borrow_mut().take_bytes();
        self.size_nursery();
        {
            let freed = Cell::new(0);
            let _sweep = Bracket::sweep(self, || (freed.get(), freed.get()));
            freed.set(self.sort_blocks());
        }
        let pacer = self.pacer.get();
        let refills = (pacer.trigger.saturating_sub(self.paced_bytes()) / super::chunk::BLOCK_BYTES).max(1);
        self.sweep_quota.set(self.unswept.get().div_ceil(refills));
        self.pool.borrow_mut().release_idle(self.cycle.get());
    }

    fn tell_end(&self, abandoned: bool) {
        let (begin, reason, stw, assist) = self.clock.begin.get();
        let goal = self.pacer.get().goal;
        self.clock.last_end.set(monotonic_ns());
        self.observer().cycle_end(&CycleStats {
            number: self.cycle.get(),
            reason,
            abandoned,
            bytes_before: self.sizes.at_start.get(),
            bytes_marked: if abandoned { 0 } else { self.marker.borrow().bytes_marked() },
            bytes_live: self.heap_bytes(),
            bytes_external: self.sizes.external.get(),
            bytes_goal: goal,
            stw_ns: self.clock.stw.get().ns_sum - stw,
            assist_ns: self.clock.assists.get().ns_sum - assist,
            total_ns: since(begin),
        });
        self.observer().live(self.heap_bytes());
        self.tell_goal();
    }

    /// A panic came out of the embedder's `visit` or `drop` during a cycle. What was marked means nothing: until a
    /// later cycle has marked all, nothing is freed and only new blocks are allocated from.
    fn abandon(&self) {
        self.retire_all();
        self.forget_lists();
        self.young.forget();
        self.marker.borrow_mut().abandon();
        self.roots.watch().borrow_mut().cycle_abandoned();
        let in_cycle = self.phase.replace(Phase::Idle) == Phase::Mark || self.clock.starting.take();
        self.barrier.set(0);
        self.marks_valid.set(false);
        self.marker.borrow_mut().take_bytes();
        if !in_cycle {
            let sizes = &self.sizes;
            sizes.base.set(sizes.base.get() + sizes.allocated.get());
            sizes.allocated_before.set(sizes.allocated_before.get() + sizes.allocated.replace(0) as u64);
            self.requested.set(true);
            return;
        }
        self.clock.cycles_abandoned.set(self.clock.cycles_abandoned.get() + 1);
        let sizes = &self.sizes;
        let allocated = sizes.allocated.replace(0);
        sizes.allocated_before.set(sizes.allocated_before.get() + allocated as u64);
        sizes.base.set(sizes.base.get() + allocated);
        sizes.allocated_last.set(allocated);
        self.repace(0);
        self.tell_end(true);
    }

    /// The last resort of an allocation that found no memory: ends the cycle and sweeps everything, as far as there is
    /// something to end or sweep.
    pub(super) fn make_room(&self) -> bool {
        self.observer().memory_pressure(Pressure::NoMemory);
        let marking = self.phase.get() == Phase::Mark;
        if marking {
            self.mark_to_the_end();
        }
        let unswept = self.unswept.get() > 0;
        if unswept {
            self.sweep_some(usize::MAX);
        }
        marking || unswept
    }
}
