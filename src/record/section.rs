//! A section: the only way to write events.
//!
//! While a [`Section`] is open, one generation is open to its thread and stays so. A change of state and the event that tells it
//! lie in one section, so that the states are always what the events written so far say, also when events were lost: a
//! section that gets no buffer writes nothing and changes nothing.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::batch::{Mark, SECTION_BYTES};
use super::buffer::{Content, Pool};
use super::clock::CLOCK;
use super::gate::Generation;
use super::region::Position;
use super::stacks;
use super::state::{self, GONE, Word};
use super::string_table::{self, NameId};
use super::thread::{Entered, Thread, bump};
use crate::format::{GoStatus, Kind, NO_THREAD, ProcStatus};
use crate::sys::own::OfProcess;
use crate::sys::{barrier, clock};

mod last;
pub(crate) use last::{end, forget_reserved};

/// The generation that is open. Written by the closer, at start and at stop. A child finds that none is.
pub(crate) static GENERATION: OfProcess<Generation> = OfProcess::new(Generation::new());
/// The generation that is being closed, 0 if none. Written by the closer before it moves `GENERATION` on.
pub(crate) static CLOSING: AtomicU32 = AtomicU32::new(0);
/// The number of the trace. Written at start, before `GENERATION`; read inside sections.
pub(crate) static TRACE: AtomicU32 = AtomicU32::new(0);
/// The buffers of the trace. Written at start and, when every section has ended, at stop; read inside sections.
pub(crate) static POOL: AtomicPtr<Pool> = AtomicPtr::new(core::ptr::null_mut());
/// The next block of one-off string ids in each generation parity. Reset by the closer.
pub(crate) static ONE_OFF: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// How many one-off string ids a thread takes at once.
const ONE_OFF_BLOCK: u64 = 32;
/// CPU time between two samples of a thread in nanoseconds, 0 for none. Written at start.
pub(crate) static SAMPLE_PERIOD_NS: AtomicU64 = AtomicU64::new(0);

/// Ids of strings on the wire. The low two bits tell whose number the rest is, so that nobody has to ask anybody for ids.
pub(crate) mod string_id {
    /// A name of the [string table](crate::record::string_table).
    pub(crate) const fn name(id: u32) -> u64 {
        (id as u64) << 2
    }

    /// A string of the writer's: functions, files.
    pub(crate) const fn writer(n: u64) -> u64 {
        n << 2 | 1
    }

    /// Why threads block at this stack, if it is for the writer to find out.
    pub(crate) const fn reason_of_stack(stack: u32) -> u64 {
        (stack as u64) << 2 | 2
    }

    /// A string that one event of one generation refers to.
    pub(crate) const fn one_off(n: u64) -> u64 {
        n << 2 | 3
    }
}

/// Ids of stacks on the wire.
pub(crate) mod stack_id {
    /// A stack of the [stack table](crate::record::stacks); 0 is none.
    pub(crate) const fn captured(id: u32) -> u64 {
        (id as u64) << 1
    }

    /// The one-frame stack that names a goroutine. What it says is decided when its generation is closed: a thread is named
    /// after it is created.
    pub(crate) const fn name_of(goid: u64) -> u64 {
        goid << 1 | 1
    }
}

/// Strings that a thread wrote lately as one-off strings, so that a message in a loop is written once a generation.
#[derive(Debug)]
pub(crate) struct RecentStrings {
    generation: u32,
    slots: [(u64, u64); 32],
}

/// See the module's head. At most one is open on a thread.
#[derive(Debug)]
pub(crate) struct Section<'t> {
    pub(crate) thread: &'t Thread,
    pub(crate) generation: u32,
}

impl Entered {
    /// Opens a section, or `None`: tracing is off, or no buffer is left (then an event counts as lost).
    #[inline(always)]
    pub(crate) fn section(&self) -> Option<Section<'_>> {
        Section::open(self.thread)
    }

    /// The same for who counts what he loses, or tries again.
    #[inline(always)]
    pub(crate) fn try_section(&self) -> Result<Section<'_>, NoSection> {
        Section::try_open(self.thread)
    }
}

impl<'t> Section<'t> {
    #[inline(always)]
    fn open(thread: &'t Thread) -> Option<Section<'t>> {
        match Section::try_open(thread) {
            Ok(section) => Some(section),
            Err(NoSection::Off) => None,
            Err(NoSection::NoBuffer) => {
                bump(&thread.lost_full, 1);
                None
            }
        }
    }

    #[inline(always)]
    fn try_open(thread: &'t Thread) -> Result<Section<'t>, NoSection> {
        let generation = thread.gate.open(&GENERATION, barrier::light).ok_or(NoSection::Off)?;
        let mut s = Section { thread, generation };
        if thread.gate.adopted() == generation && s.batch().has_room(SECTION_BYTES) || s.open_slow() {
            return Ok(s);
        }
        Err(NoSection::NoBuffer)
    }

    #[cold]
    #[inline(never)]
    fn open_slow(&mut self) -> bool {
        if self.thread.gate.adopted() == self.generation {
            return self.refill();
        }
        self.adopt()
    }

    /// The thread's first section of a generation: a buffer, and the statuses that nobody else has written.
    fn adopt(&mut self) -> bool {
        let now = self.now();
        if !self.batch().has_room(SECTION_BYTES) && !self.refill() {
            return false;
        }
        self.thread.gate.adopt(self.generation);
        self.one_off_reset();
        let t = self.thread;
        let trace = TRACE.load(Ordering::Relaxed);
        let p = t.processor.get();
        if t.processor_trace.load(Ordering::Relaxed) == trace && p.generation < self.generation {
            t.processor.set(p.enter(self.generation));
            self.emit(Kind::ProcStatus, now, [t.processor_id(), u64::from(p.state())]);
            if p.range_open() {
                self.emit(Kind::GCSweepActive, now, [t.processor_id()]);
            }
        }
        if t.go_trace.load(Ordering::Relaxed) == trace {
            self.tell_go_status(t, now);
            let kind = t.stw.load(Ordering::Relaxed);
            if kind != 0 && t.go.get().state() == state::go(GoStatus::Running) {
                self.stw_begin(kind, now, 0);
            }
        }
        true
    }

    fn batch(&mut self) -> &mut super::batch::Batch {
        // SAFETY: this thread's batch of the section's generation, which the closer does not touch while the section is open;
        // the borrow of `self` keeps it the only one.
        unsafe { self.thread.events[self.parity()].get() }
    }

    fn strings(&mut self) -> &mut super::batch::Batch {
        // SAFETY: as for `batch`.
        unsafe { self.thread.strings[self.parity()].get() }
    }

    pub(crate) fn allocations(&mut self) -> &mut super::batch::Batch {
        // SAFETY: as for `batch`.
        unsafe { self.thread.allocations[self.parity()].get() }
    }

    #[inline(always)]
    pub(crate) fn parity(&self) -> usize {
        (self.generation & 1) as usize
    }

    pub(crate) fn pool(&self) -> Option<&'static Pool> {
        // SAFETY: null, or the pool of this trace, which is freed only when every section has ended.
        unsafe { POOL.load(Ordering::Acquire).as_ref() }
    }

    /// Exchanges the batch's buffer for an empty one. The full one goes to the writer.
    #[cold]
    #[inline(never)]
    pub(crate) fn refill(&mut self) -> bool {
        let now = self.now();
        let Some(pool) = self.pool() else { return false };
        let Some(fresh) = pool.take() else { return false };
        let (generation, tid) = (self.generation, self.tid());
        let batch = self.batch();
        let full = batch.take_chunk(Content::Events, generation, tid);
        batch.begin(fresh, Content::Events, generation, tid, now);
        if let Some(full) = full {
            pool.send(full);
        }
        true
    }

    /// Makes room in the middle of a section that writes more than [`SECTION_BYTES`].
    pub(crate) fn reserve(&mut self) -> bool {
        self.batch().has_room(SECTION_BYTES) || self.refill()
    }

    pub(crate) fn tid(&self) -> u32 {
        self.thread.tid.load(Ordering::Relaxed)
    }

    /// The trace clock, in nanoseconds.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        self.ns_of(clock::ticks())
    }

    /// The trace clock at `ticks`.
    #[inline(always)]
    pub(crate) fn ns_of(&self, ticks: u64) -> u64 {
        // SAFETY: the mapping of an open generation is not written to.
        unsafe { CLOCK.of(self.parity()) }.ns(ticks)
    }

    /// The time of the last event of this batch: nothing can be dated earlier.
    pub(crate) fn last_ns(&mut self) -> u64 {
        self.batch().last_ns()
    }

    /// Writes an event.
    #[inline(always)]
    pub(crate) fn emit<const N: usize>(&mut self, kind: Kind, at_ns: u64, args: [u64; N]) {
        // SAFETY: a section begins with room for SECTION_BYTES, and no section writes more without `reserve`.
        unsafe { self.batch().event(kind, at_ns, args) };
    }

    /// Brings what the trace says of this thread to "running", by whatever legal events that takes: its announcement, the end
    /// of a wait or of a system call whose own end was lost. Afterwards events may be written that need a running goroutine.
    /// Returns false if a counter is exhausted: then write nothing.
    #[inline(always)]
    pub(crate) fn ensure_running(&mut self, at_ns: u64) -> bool {
        let w = self.thread.go.get();
        if w.generation == self.generation && w.state() == state::go(GoStatus::Running) {
            return true;
        }
        self.make_running(at_ns)
    }

    #[cold]
    #[inline(never)]
    fn make_running(&mut self, at_ns: u64) -> bool {
        loop {
            match self.try_running(at_ns) {
                Tried::Running => return true,
                Tried::Exhausted => return false,
                // A waker has told of this thread in the next generation, which opened after this section did. The thread's own
                // part in it belongs there too (invariant 3).
                Tried::Later => {
                    if !self.renew() {
                        return false;
                    }
                }
            }
        }
    }

    /// Ends the section and begins another in its place, which may be of a later generation. False if there is none to be had.
    fn renew(&mut self) -> bool {
        self.thread.gate.close();
        match Section::open(self.thread) {
            // The one that takes this one's place must not be closed.
            Some(s) => self.generation = core::mem::ManuallyDrop::new(s).generation,
            None => return false,
        }
        true
    }

    fn try_running(&mut self, at_ns: u64) -> Tried {
        let t = self.thread;
        let trace = TRACE.load(Ordering::Relaxed);
        let announced = t.go_trace.load(Ordering::Relaxed) == trace;
        if announced {
            let w = t.go.get();
            if w.generation > self.generation {
                return Tried::Later;
            }
            if w.state() == state::go(GoStatus::Syscall) {
                self.syscall_end(at_ns, at_ns);
                return Tried::Running;
            }
        }
        let new_processor = t.processor_trace.load(Ordering::Relaxed) != trace;
        if new_processor {
            let idle = state::processor(ProcStatus::Idle);
            t.processor.set(Word::born(self.generation, idle));
            t.processor_trace.store(trace, Ordering::Relaxed);
            self.emit(Kind::ProcStatus, at_ns, [t.processor_id(), u64::from(idle)]);
        }
        if !self.processor_start(at_ns) {
            return Tried::Exhausted;
        }
        if !announced {
            let goid = t.goid.load(Ordering::Relaxed);
            self.emit(Kind::GoCreate, at_ns, [goid, stack_id::name_of(goid), 0]);
            t.go.set(Word::born(self.generation, state::go(GoStatus::Runnable)));
            t.go_trace.store(trace, Ordering::Relaxed);
            super::samples::watch(t);
        }
        // Nobody but its owner changes a word from then on.
        if self.unblock(t, at_ns, 0) == Unblocked::Later {
            return Tried::Later;
        }
        let w = t.go.get();
        if w.generation > self.generation {
            return Tried::Later;
        }
        if w.state() == state::go(GoStatus::Runnable) && !self.go_start(at_ns) {
            return Tried::Exhausted;
        }
        Tried::Running
    }

    /// Takes the thread's processor if it is idle.
    fn processor_start(&mut self, at_ns: u64) -> bool {
        let p = self.thread.processor.get();
        if p.state() != state::processor(ProcStatus::Idle) {
            return true;
        }
        let Some(p) = p.next() else { return false };
        self.emit(Kind::ProcStart, at_ns, [self.thread.processor_id(), u64::from(p.seq)]);
        self.thread.processor.set(p.with_state(state::processor(ProcStatus::Running)));
        true
    }

    /// Gives the processor up.
    fn processor_stop(&mut self, at_ns: u64) {
        self.emit(Kind::ProcStop, at_ns, []);
        let p = self.thread.processor.get();
        self.thread.processor.set(p.with_state(state::processor(ProcStatus::Idle)));
    }

    fn go_start(&mut self, at_ns: u64) -> bool {
        let Some(w) = self.thread.go.get().next() else { return false };
        self.thread.go.set(w.with_state(state::go(GoStatus::Running)));
        self.emit(Kind::GoStart, at_ns, [self.thread.goid.load(Ordering::Relaxed), u64::from(w.seq)]);
        true
    }

    /// Writes the status of a thread's goroutine in this generation if nobody has. Returns the state as it is then, or [`GONE`]
    /// if the goroutine is none of this trace.
    fn tell_go_status(&mut self, of: &Thread, at_ns: u64) -> u8 {
        loop {
            let w = of.go.get();
            if w.state() == GONE || w.generation >= self.generation {
                return w.state();
            }
            if of.go.replace(w, w.enter(self.generation)) {
                let on_thread = w.state() == state::go(GoStatus::Running) || w.state() == state::go(GoStatus::Syscall);
                let m = if on_thread { u64::from(of.tid.load(Ordering::Relaxed)) } else { NO_THREAD };
                let goid = of.goid.load(Ordering::Relaxed);
                let args = [goid, m, u64::from(w.state()), stack_id::name_of(goid)];
                self.emit(Kind::GoStatusStack, at_ns, args);
                if w.range_open() {
                    self.emit(Kind::GCMarkAssistActive, at_ns, [goid]);
                }
                return w.state();
            }
        }
    }

    /// Makes a waiting thread's goroutine runnable: the event that says who woke whom. Returns false if it does not wait (any
    /// more), or waits since a later generation than this section's: then end the section and try in a new one.
    fn unblock(&mut self, of: &Thread, at_ns: u64, stack: u64) -> Unblocked {
        loop {
            let w = of.go.get();
            if w.state() != state::go(GoStatus::Waiting) {
                return Unblocked::NotWaiting;
            }
            if w.generation > self.generation {
                return Unblocked::Later;
            }
            if w.generation < self.generation {
                self.tell_go_status(of, at_ns);
                continue;
            }
            let Some(next) = w.next() else { return Unblocked::NotWaiting };
            if of.go.replace(w, next.with_state(state::go(GoStatus::Runnable))) {
                // Read now, not before: the entry may have been given to another thread whose word came to look the same, and
                // then it is that one's state that has changed.
                let goid = of.goid.load(Ordering::Relaxed);
                self.emit(Kind::GoUnblock, at_ns, [goid, u64::from(next.seq), stack]);
                return Unblocked::Done;
            }
        }
    }

    /// The thread begins to wait. The last change of state in the section: from here on a waker may say that it is over.
    ///
    /// One that has stopped the world goes on running in the trace, as in Go's: it waits for the others to stop. (The end that
    /// the closer writes for a stop-the-world that outlasts its generation needs a goroutine that runs.)
    pub(crate) fn block(&mut self, at_ns: u64, reason: u64, stack: u64) -> Option<Blocked> {
        let t = self.thread;
        if t.stw.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let (before, processor_before) = (self.batch().mark(), t.processor.get());
        self.emit(Kind::GoBlock, at_ns, [reason, stack]);
        self.processor_stop(at_ns);
        let (after, running) = (self.batch().mark(), t.go.get());
        let waiting = running.with_state(state::go(GoStatus::Waiting));
        t.go.set(waiting);
        Some(Blocked { running, waiting, processor_before, processor: t.processor.get(), before, after })
    }

    /// The wait that `b` is the record of has not taken place: takes the record back, if nothing has come after it and no waker has
    /// told of its end. Returns whether it has been taken back.
    pub(crate) fn unblock_untold(&mut self, b: &Blocked) -> bool {
        let t = self.thread;
        if self.generation != b.waiting.generation || t.processor.get() != b.processor || self.batch().mark() != b.after
        {
            return false;
        }
        if !t.go.replace(b.waiting, b.running) {
            return false;
        }
        t.processor.set(b.processor_before);
        self.batch().rewind(b.before);
        true
    }

    /// The thread enters a system call.
    pub(crate) fn syscall_begin(&mut self, at_ns: u64, stack: u64) {
        let t = self.thread;
        let Some(p) = t.processor.get().next() else { return };
        self.emit(Kind::GoSyscallBegin, at_ns, [u64::from(p.seq), stack]);
        t.processor.set(p.with_state(state::processor(ProcStatus::Syscall)));
        t.go.set(t.go.get().with_state(state::go(GoStatus::Syscall)));
    }

    /// The thread has left a system call, if the trace has it in one. A call that went on after `handed_off_ns` shows as having lost
    /// its processor at that moment.
    pub(crate) fn syscall_end(&mut self, at_ns: u64, handed_off_ns: u64) {
        let t = self.thread;
        let w = t.go.get();
        if w.state() != state::go(GoStatus::Syscall) {
            return;
        }
        if at_ns <= handed_off_ns {
            self.emit(Kind::GoSyscallEnd, at_ns, []);
            t.processor.set(t.processor.get().with_state(state::processor(ProcStatus::Running)));
            t.go.set(w.with_state(state::go(GoStatus::Running)));
            return;
        }
        let handed_off_ns = handed_off_ns.max(self.last_ns());
        self.processor_stop(handed_off_ns);
        if !self.processor_start(at_ns) {
            return;
        }
        self.emit(Kind::GoSyscallEndBlocked, at_ns, []);
        t.go.set(w.with_state(state::go(GoStatus::Runnable)));
        self.go_start(at_ns);
    }

    /// The thread creates another, whose entry was reserved.
    pub(crate) fn create(&mut self, of: &Thread, at_ns: u64, stack: u64) {
        let goid = of.goid.load(Ordering::Relaxed);
        self.emit(Kind::GoCreate, at_ns, [goid, stack_id::name_of(goid), stack]);
        of.go.set(Word::born(self.generation, state::go(GoStatus::Runnable)));
        of.go_trace.store(TRACE.load(Ordering::Relaxed), Ordering::Release);
    }

    /// The thread that was to be created does not come to be: its goroutine runs in the place of its creator's, and ends.
    pub(crate) fn uncreate(&mut self, of: &Thread, at_ns: u64, reason: u64) {
        if self.tell_go_status(of, at_ns) != state::go(GoStatus::Runnable) {
            return;
        }
        let (Some(w), Some(mine)) = (of.go.get().next(), self.thread.go.get().next()) else { return };
        self.emit(Kind::GoStop, at_ns, [reason, 0]);
        self.emit(Kind::GoStart, at_ns, [of.goid.load(Ordering::Relaxed), u64::from(w.seq)]);
        self.emit(Kind::GoDestroy, at_ns, []);
        of.go.set(w.gone());
        self.emit(Kind::GoStart, at_ns, [self.thread.goid.load(Ordering::Relaxed), u64::from(mine.seq)]);
        self.thread.go.set(mine);
    }

    /// The world is being stopped by this thread. `kind` is a string id that is valid in every generation.
    pub(crate) fn stw_begin(&mut self, kind: u64, at_ns: u64, stack: u64) {
        let open = &self.thread.stw_open[self.parity()];
        if open.load(Ordering::Relaxed) != 0 {
            return;
        }
        self.emit(Kind::STWBegin, at_ns, [self.name(kind as u32), stack]);
        open.store(kind, Ordering::Relaxed);
        self.thread.stw.store(kind, Ordering::Relaxed);
    }

    /// It runs again.
    pub(crate) fn stw_end(&mut self, at_ns: u64) {
        self.thread.stw.store(0, Ordering::Relaxed);
        let open = &self.thread.stw_open[self.parity()];
        if open.load(Ordering::Relaxed) != 0 {
            self.emit(Kind::STWEnd, at_ns, []);
            open.store(0, Ordering::Relaxed);
        }
    }

    /// Opens or closes the range of the goroutine (mark assist). Returns false if it is so already.
    pub(crate) fn set_go_range(&mut self, open: bool) -> bool {
        let w = self.thread.go.get();
        if w.range_open() == open {
            return false;
        }
        self.thread.go.set(w.with_range(open));
        true
    }

    /// The same for the processor (sweep).
    pub(crate) fn set_processor_range(&mut self, open: bool) -> bool {
        let w = self.thread.processor.get();
        if w.range_open() == open {
            return false;
        }
        self.thread.processor.set(w.with_range(open));
        true
    }

    /// The wire id of a stack of the table, noted as used.
    #[inline(always)]
    pub(crate) fn stack(&self, id: u32) -> u64 {
        if id != 0 {
            stacks::mark_used(id, self.parity());
        }
        stack_id::captured(id)
    }

    /// The wire id of a name, noted as used.
    #[inline(always)]
    pub(crate) fn name(&self, id: NameId) -> u64 {
        string_table::mark_used(id, self.parity());
        string_id::name(id)
    }

    /// The wire id of any text, which is put into this generation's tables if it is not there yet. `None`: no buffer left.
    pub(crate) fn text(&mut self, text: &str) -> Option<u64> {
        let text = string_table::cut(text);
        if text.is_empty() {
            return Some(0);
        }
        let hash = string_table::hash(text.as_bytes());
        // SAFETY: the calling thread owns the cell and is inside a section, which no hook enters twice.
        let recent = unsafe { self.thread.recent.get() };
        if recent.generation != self.generation {
            recent.generation = self.generation;
            recent.slots = [(0, 0); 32];
        }
        let slot = &mut recent.slots[hash as usize % 32];
        if slot.0 == hash && slot.1 != 0 {
            return Some(slot.1);
        }
        let n = self.one_off()?;
        // The record: its kind, the id, the length, the text.
        let bytes = 1 + 10 + 10 + text.len();
        if !self.strings().has_room(bytes) {
            self.refill_strings()?;
        }
        let id = string_id::one_off(n);
        let strings = self.strings();
        // SAFETY: there is room for all of the record.
        unsafe {
            strings.integer(Kind::String as u64);
            strings.integer(id);
            strings.integer(text.len() as u64);
            strings.bytes(text.as_bytes());
        }
        *slot = (hash, id);
        Some(id)
    }

    fn refill_strings(&mut self) -> Option<()> {
        let pool = self.pool()?;
        let fresh = pool.take()?;
        let (now, generation, tid) = (self.now(), self.generation, self.tid());
        let strings = self.strings();
        let full = strings.take_chunk(Content::Strings, generation, tid);
        strings.begin(fresh, Content::Strings, generation, tid, now);
        // SAFETY: the buffer is empty.
        unsafe { strings.integer(Kind::Strings as u64) };
        if let Some(full) = full {
            pool.send(full);
        }
        Some(())
    }

    fn one_off_reset(&mut self) {
        let [next, end] = &self.thread.one_off;
        next.store(0, Ordering::Relaxed);
        end.store(0, Ordering::Relaxed);
    }

    fn one_off(&mut self) -> Option<u64> {
        let [next, end] = &self.thread.one_off;
        let mut n = next.load(Ordering::Relaxed);
        if n == end.load(Ordering::Relaxed) {
            n = ONE_OFF[self.parity()].fetch_add(ONE_OFF_BLOCK, Ordering::Relaxed);
            end.store(n + ONE_OFF_BLOCK, Ordering::Relaxed);
        }
        next.store(n + 1, Ordering::Relaxed);
        Some(n)
    }

    /// Begins a region. `None`: too many are open.
    pub(crate) fn region_begin(&mut self, at_ns: u64, task: u64, name: NameId, stack: u64) -> Option<Position> {
        let trace = TRACE.load(Ordering::Relaxed);
        // SAFETY: the calling thread owns the cell and is inside a section.
        let at = unsafe { self.thread.regions.get() }.push(trace, task, name)?;
        let name = self.name(name);
        self.emit(Kind::UserRegionBegin, at_ns, [task, name, stack]);
        Some(at)
    }

    /// Ends the region at `at` and those inside it. Does nothing if it is not open any more.
    pub(crate) fn region_end(&mut self, at_ns: u64, at: Position, stack: u64) {
        let trace = TRACE.load(Ordering::Relaxed);
        // SAFETY: as above; `regions_pop` takes the cell anew each time.
        if !unsafe { self.thread.regions.get() }.is_open(trace, at) {
            return;
        }
        self.regions_end(at_ns, at.depth(), stack);
    }

    fn regions_end(&mut self, at_ns: u64, down_to: u32, stack: u64) {
        // A region that cannot be written as ended stays open in the trace, which is legal.
        while self.reserve() {
            // SAFETY: the calling thread owns the cell and is inside a section.
            let Some(open) = unsafe { self.thread.regions.get() }.pop_down_to(down_to) else { return };
            let name = self.name(open.name);
            self.emit(Kind::UserRegionEnd, at_ns, [open.task, name, stack]);
        }
    }

    /// Hands the batch over: at the end of the thread.
    fn hand_over(&mut self) {
        let Some(pool) = self.pool() else { return };
        let (generation, tid) = (self.generation, self.tid());
        for content in [Content::Events, Content::Strings, Content::Private] {
            let batch = match content {
                Content::Events => self.batch(),
                Content::Strings => self.strings(),
                _ => self.allocations(),
            };
            let empty = batch.is_empty();
            match batch.take_chunk(content, generation, tid) {
                Some(chunk) if empty => pool.give_back(chunk.buffer),
                Some(chunk) => pool.bury(chunk),
                None => {}
            }
        }
    }
}

/// The record of a wait's begin. What the states were and are, and what was written, by which it can be told later whether
/// anything has happened since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocked {
    running: Word,
    waiting: Word,
    processor_before: Word,
    processor: Word,
    before: Mark,
    after: Mark,
}

/// Why there is no section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSection {
    /// Tracing is off.
    Off,
    /// No buffer is left.
    NoBuffer,
}

/// What came of an attempt to bring the thread to "running".
enum Tried {
    Running,
    /// A counter is used up.
    Exhausted,
    /// Its state is one of a later generation than the section.
    Later,
}

/// What came of an attempt to unblock a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unblocked {
    Done,
    NotWaiting,
    /// It waits since a generation that is not open in this section.
    Later,
}

/// The calling thread is about to end a wait of thread `of`, the one after `wait` others: records who woke whom.
pub(crate) fn wake(entered: &Entered, of: &Thread, wait: u32, stack: u32) {
    // Each round is a new section. A later generation is opened only by the closer, and one who is in the middle of saying that it
    // waits needs some tens of nanoseconds for it: after that many rounds something else is going on, such as a lost processor.
    for _ in 0..100 {
        let Some(mut s) = entered.section() else { return };
        let trace = TRACE.load(Ordering::Relaxed);
        if of.go_trace.load(Ordering::Acquire) != trace || of.waits.load(Ordering::Relaxed) != wait {
            return;
        }
        let now = s.now();
        if !s.ensure_running(now) {
            return;
        }
        let about_to_wait = of.gate.is_open();
        let stack = s.stack(stack);
        match s.unblock(of, now, stack) {
            Unblocked::Later => {}
            Unblocked::NotWaiting if about_to_wait => core::hint::spin_loop(),
            Unblocked::Done | Unblocked::NotWaiting => return,
        }
    }
}

impl Drop for Section<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.thread.gate.close();
    }
}
