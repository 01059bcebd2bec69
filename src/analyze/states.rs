//! Follows goroutines through their states: from events to spans of time.
//!
//! It stands between the reader and every analysis of time. An analysis hands each event to [`States::update`] and gets back
//! what changed, with the span of time that the goroutine spent in the state it leaves. At the end of the trace
//! [`States::open`] gives the spans that are still going on.
//!
//! Definitions are those of Go's `internal/trace` summary:
//! - Where a goroutine is first mentioned in the first generation it has been in that state since the generation began; the
//!   span has that time apart, as `lead_ns`, because Go's profiles leave it out and Go's sums take it in.
//! - A goroutine is named by the outermost frame of the first stack seen of it. That is its thread's name in a native trace.
//! - A system call runs without a processor from the moment at which its processor goes idle.
//!
//! It keeps what lives, nothing of what has ended: memory is bounded by the goroutines that exist at one time.

use crate::read::{
    EventKind, EventRef, GoId, GoState, IdHashMap, Interner, ProcId, ProcState, StackId, StackKey, StateTransition,
    StringId, StringKey, Time,
};

/// A goroutine's place in tables beside [`States`]. It is given anew after the goroutine's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A span of time that a goroutine spent in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// The state.
    pub state: GoState,
    /// The state before it.
    pub from: GoState,
    /// When the event came that told the state.
    pub begin: Time,
    /// When it was left; the end of the trace for a span that still goes on there.
    pub end: Time,
    /// How long before `begin` the goroutine was in this state already, in nanoseconds: back to the beginning of the trace.
    pub lead_ns: u64,
    /// Of a system call, the part during which it had no processor, in nanoseconds, `lead_ns` included.
    pub without_proc_ns: u64,
    /// Why it waits or was stopped; empty for other states.
    pub reason: StringKey,
    /// The stack of the event at `begin`. For a runnable goroutine that is the stack of whoever made it so.
    pub stack: StackKey,
    /// The goroutine on whose stack that event happened: whoever woke or made this one.
    pub by: GoId,
}

impl Span {
    /// From `begin` to `end`, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn ns(&self) -> u64 {
        self.end.since(self.begin).max(0) as u64
    }

    /// The same, with what lies before `begin`.
    #[must_use]
    #[inline]
    pub fn ns_with_lead(&self) -> u64 {
        self.ns() + self.lead_ns
    }
}

/// A change of a goroutine's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its place; valid until the next change if the goroutine ends by this one.
    pub slot: Slot,
    /// Which goroutine.
    pub id: GoId,
    /// The state it leaves; `NotExist` or `Undetermined` for one that was not known.
    pub from: GoState,
    /// The state it gets; `NotExist` for one that ends.
    pub to: GoState,
    /// The span that is over by this.
    pub span: Option<Span>,
}

/// A goroutine that exists.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Go {
    /// Which.
    pub id: GoId,
    /// Its state.
    pub state: GoState,
    /// The state before it.
    from: GoState,
    /// Since when it is in that state, as the events tell.
    pub since: Time,
    /// When it was made; the beginning of the trace for one that was there already.
    pub created: Time,
    /// Whether it was there when the trace began.
    pub from_before: bool,
    /// Its name; empty while no stack of it was seen.
    pub name: StringKey,
    /// How long it ran, in nanoseconds, up to `since`.
    pub running_ns: u64,
    lead_ns: u64,
    reason: StringKey,
    stack: StackKey,
    by: GoId,
    /// The processor with which its system call began.
    call_proc: ProcId,
    /// When that processor went away.
    call_without_proc: Option<Time>,
}

/// The goroutines of a trace, as far as it has been read.
pub struct States {
    gos: Vec<Go>,
    free: Vec<u32>,
    /// A slot whose goroutine has ended; it is free with the next change.
    ending: Option<Slot>,
    by_id: IdHashMap<u32>,
    /// Places by the lower bits of ids: a guess, to be checked against the goroutine that is there.
    recent: Vec<u32>,
    /// By processor: the goroutine whose system call has it.
    calls: IdHashMap<GoId>,
    generation_begin: Time,
    now: Time,
}

/// How many goroutines are found without hashing.
const RECENT: usize = 1024;

impl Default for States {
    fn default() -> Self {
        States::new()
    }
}

impl States {
    /// Nothing known.
    #[must_use]
    pub fn new() -> States {
        States {
            gos: Vec::new(),
            free: Vec::new(),
            ending: None,
            by_id: IdHashMap::default(),
            recent: vec![0; RECENT],
            calls: IdHashMap::default(),
            generation_begin: Time(0),
            now: Time(0),
        }
    }

    /// The place of a goroutine that exists.
    #[inline]
    fn find(&mut self, id: GoId) -> Option<u32> {
        let guess = &mut self.recent[id.0 as usize % RECENT];
        // One that has ended keeps its place, and its id there, until another one takes it.
        if self.gos.get(*guess as usize).is_none_or(|g| g.id != id || g.state == GoState::NotExist) {
            *guess = *self.by_id.get(&id.0)?;
        }
        Some(*guess)
    }

    /// Takes in an event. Events must come in order, all of them.
    #[inline(always)]
    pub fn update(&mut self, ev: &EventRef<'_>, interner: &mut Interner) -> Option<Change> {
        self.now = ev.time;
        match ev.kind() {
            EventKind::StateTransition => self.transition(ev, interner),
            EventKind::Sync => {
                self.generation_begin = ev.time;
                None
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn transition(&mut self, ev: &EventRef<'_>, interner: &mut Interner) -> Option<Change> {
        match ev.transition()? {
            StateTransition::Goroutine { id, from, to, reason, stack } => {
                if from == to {
                    // Told anew at the beginning of a generation. It may be the first stack to be seen.
                    if let Some(slot) = self.find(id) {
                        self.name(slot as usize, stack, ev, interner);
                    }
                    return None;
                }
                if let Some(slot) = self.ending.take() {
                    self.free.push(slot.0);
                }
                Some(self.change(ev, interner, id, from, to, reason, stack))
            }
            StateTransition::Proc { id, from, to } => {
                if from != to && to == ProcState::Idle {
                    self.proc_idle(id, ev.time);
                }
                None
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one transition")]
    #[inline(always)]
    fn change(
        &mut self,
        ev: &EventRef<'_>,
        interner: &mut Interner,
        id: GoId,
        from: GoState,
        to: GoState,
        reason: StringId,
        stack: StackId,
    ) -> Change {
        let (i, span) = match self.find(id) {
            Some(i) => (i as usize, Some(self.leave(i as usize, ev.time))),
            None => (self.insert(id, from, ev.time), None),
        };
        if self.gos[i].name == StringKey(0) {
            self.name(i, stack, ev, interner);
        }
        let slot = Slot(i as u32);
        if to == GoState::NotExist {
            self.by_id.remove(&id.0);
            self.ending = Some(slot);
            self.gos[i].state = to;
            return Change { slot, id, from, to, span };
        }
        let g = &mut self.gos[i];
        // The reader says whether it was undetermined; with that it was in the new state all the time.
        g.lead_ns = if from == GoState::Undetermined { ev.time.since(g.created).max(0) as u64 } else { 0 };
        // Where a generation begins, states are told anew.
        if from != to {
            g.from = from;
        }
        g.state = to;
        g.since = ev.time;
        g.reason = if reason.0 == 0 { StringKey(0) } else { interner.string(ev.generation(), reason) };
        g.stack = interner.stack(ev.generation(), ev.stack_id());
        g.by = ev.goroutine;
        if to == GoState::Syscall {
            g.call_proc = ev.proc;
            // A goroutine that is made in a call is that of a C thread which calls: it has work and no processor, until the
            // call ends. As in Go that is not a blocked call.
            let made_in_call = from == GoState::NotExist;
            g.call_without_proc = if ev.proc.is_none() && !made_in_call { Some(ev.time) } else { None };
            if !ev.proc.is_none() {
                self.calls.insert(ev.proc.0, id);
            }
        }
        Change { slot, id, from, to, span }
    }

    /// The span up to now of the state in which a goroutine is.
    #[inline(always)]
    fn span_at(&self, i: usize, end: Time) -> Span {
        let g = &self.gos[i];
        let without_proc_ns = if g.state == GoState::Syscall {
            g.call_without_proc.map_or(0, |t| end.since(t).max(0) as u64)
                + if g.call_proc.is_none() { g.lead_ns } else { 0 }
        } else {
            0
        };
        Span {
            state: g.state,
            from: g.from,
            begin: g.since,
            end,
            lead_ns: g.lead_ns,
            without_proc_ns,
            reason: g.reason,
            stack: g.stack,
            by: g.by,
        }
    }

    #[inline(always)]
    fn leave(&mut self, i: usize, at: Time) -> Span {
        let span = self.span_at(i, at);
        let g = &mut self.gos[i];
        if span.state == GoState::Running {
            g.running_ns += span.ns_with_lead();
        }
        if span.state == GoState::Syscall && !g.call_proc.is_none() && self.calls.get(&g.call_proc.0) == Some(&g.id) {
            self.calls.remove(&g.call_proc.0);
        }
        span
    }

    #[cold]
    fn insert(&mut self, id: GoId, from: GoState, now: Time) -> usize {
        let from_before = from == GoState::Undetermined;
        let go = Go {
            id,
            state: from,
            from,
            since: now,
            created: if from_before { self.generation_begin } else { now },
            from_before,
            name: StringKey(0),
            running_ns: 0,
            lead_ns: 0,
            reason: StringKey(0),
            stack: StackKey(0),
            by: GoId::NONE,
            call_proc: ProcId::NONE,
            call_without_proc: None,
        };
        let i = match self.free.pop() {
            Some(i) => {
                self.gos[i as usize] = go;
                i
            }
            None => {
                self.gos.push(go);
                self.gos.len() as u32 - 1
            }
        };
        self.by_id.insert(id.0, i);
        i as usize
    }

    #[inline]
    fn name(&mut self, i: usize, stack: StackId, ev: &EventRef<'_>, interner: &mut Interner) {
        if self.gos[i].name == StringKey(0) && !stack.is_none() {
            let key = interner.stack(ev.generation(), stack);
            if let Some(&root) = interner.frames(key).last() {
                self.gos[i].name = interner.frame(root).func;
            }
        }
    }

    fn proc_idle(&mut self, proc: ProcId, at: Time) {
        let Some(id) = self.calls.remove(&proc.0) else { return };
        let Some(&i) = self.by_id.get(&id.0) else { return };
        self.gos[i as usize].call_without_proc = Some(at);
    }

    /// The goroutine in a place. After its end it is still there until the next change.
    ///
    /// # Panics
    /// If the slot is not from this `States`.
    #[must_use]
    pub fn get(&self, slot: Slot) -> &Go {
        &self.gos[slot.0 as usize]
    }

    /// Where a goroutine is, if it exists.
    #[must_use]
    #[inline]
    pub fn slot(&self, id: GoId) -> Option<Slot> {
        self.by_id.get(&id.0).copied().map(Slot)
    }

    /// How many goroutines exist.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The span that a goroutine is in, up to the last event.
    ///
    /// # Panics
    /// If the slot is not from this `States`.
    #[must_use]
    pub fn current(&self, slot: Slot) -> Span {
        self.span_at(slot.0 as usize, self.now)
    }

    /// How long a goroutine has run up to now, in nanoseconds.
    #[must_use]
    pub fn running_ns(&self, slot: Slot) -> u64 {
        let g = self.get(slot);
        let open = if g.state == GoState::Running { self.span_at(slot.0 as usize, self.now).ns_with_lead() } else { 0 };
        g.running_ns + open
    }

    /// The goroutines that exist, with the spans that are still going on, up to the last event. By slot.
    pub fn open(&self) -> impl Iterator<Item = (Slot, &Go, Span)> {
        let ending = self.ending;
        let free: std::collections::HashSet<u32> = self.free.iter().copied().collect();
        (0..self.gos.len())
            .filter(move |&i| !free.contains(&(i as u32)) && ending != Some(Slot(i as u32)))
            .map(|i| (Slot(i as u32), &self.gos[i], self.span_at(i, self.now)))
    }
}
