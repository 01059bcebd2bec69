//! The blocks of a program as a trace's recorded allocations tell of them: which are alive, and sums by site.
//!
//! A *site* is a stack, a thread with what it was at, and a class of sizes. All sums are kept by site, so that one pass gives them by
//! stack, by thread, by task, by anything. What each site held when the heap was largest needs no second pass: each rise to a new peak has a
//! number, and a site notes what it holds when it is first touched after one.
//!
//! The records of several threads are merged by time. That is the true order for any one address, but for the old place of
//! a block that was moved: it can belong to another thread before the move is told. Such a block is *displaced* until
//! then.

use super::dist::Dist;
use super::live_table::{Block, LiveTable};
use crate::read::{
    Allocation, AllocationContext, AllocationKind, AllocationRecords, Allocations, Error, Generation, GoId, IdHashMap,
    Interner, Private, StackKey, StringKey, Time,
};
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};

/// A block counts as temporary if the thread that allocated it frees it before having allocated so many others.
pub const TEMPORARY_ALLOCS: u64 = 8;
/// Blocks are counted in parts of this, since in a sample one stands for a fraction more than a whole number.
pub const PARTS: u64 = 1 << 10;

/// Bytes, and blocks in [`PARTS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// Parts of blocks.
    pub parts: u64,
}

impl Amount {
    /// Adds.
    #[inline]
    pub fn add(&mut self, of: Amount) {
        self.bytes = self.bytes.saturating_add(of.bytes);
        self.parts = self.parts.saturating_add(of.parts);
    }

    #[inline]
    fn sub(&mut self, of: Amount) {
        self.bytes = self.bytes.saturating_sub(of.bytes);
        self.parts = self.parts.saturating_sub(of.parts);
    }
}

/// Who allocates: a thread, and what it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    /// The thread.
    pub goroutine: GoId,
    /// The task of its innermost region; 0 if none.
    pub task: u64,
    /// That region's name.
    pub region: StringKey,
    /// The label of its innermost scope.
    pub label: StringKey,
}

/// What is known of a site.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Where it allocates.
    pub stack: StackKey,
    /// Who does.
    pub who: Who,
    /// Blocks of up to 2 to this bytes, and of more than half of that.
    pub size_log2: u8,
    /// What it holds now.
    pub live: Amount,
    /// What it held at the peak numbered `peak`; of a later one, what it holds now.
    at_peak: Amount,
    peak: u64,
    /// What it held at the instant that was asked for.
    pub held: Amount,
    /// All that it ever allocated.
    pub total: Amount,
    /// Of that, what was freed soon.
    pub temporary: Amount,
}

/// What to take note of beside sums.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The instant whose holdings are to be kept; the end if none.
    pub at: Option<Time>,
    /// Leave out of those what was allocated before.
    pub since: Option<Time>,
}

/// The blocks, and the sums.
pub struct Blocks {
    watch: Watch,
    taken: bool,
    live: LiveTable,
    displaced: IdHashMap<Vec<Block>>,
    sites: Vec<Site>,
    index: IdHashMap<u32>,
    who: Vec<Who>,
    who_index: HashMap<Who, u32>,
    /// How many blocks each goroutine has allocated.
    allocs: IdHashMap<u64>,
    now: Amount,
    peaks: u64,
    /// The most that was alive.
    pub peak: Amount,
    /// When.
    pub peak_at: Time,
    /// How long blocks lived that were freed. In a sample each counts once.
    pub lifetimes: Dist,
    /// The same, by the logarithm of the time: what lived shorter than 2 to this nanoseconds, and not shorter than half of that.
    pub lifetimes_log2: [Amount; 65],
    /// How many operations were recorded.
    pub records: u64,
    /// Frees of blocks that were not seen to be allocated: before the trace, or by what was lost.
    pub unknown_frees: u64,
    /// The mean number of bytes between samples, 0 if all is recorded; none if nothing is.
    pub interval: Option<u64>,
}

/// How many records are looked at before the first of them is taken in: so many misses of the cache are had at once.
const AHEAD: usize = 128;

/// A thread's records of a generation.
struct Cursor<'a> {
    batches: std::vec::IntoIter<Allocations<'a>>,
    records: AllocationRecords<'a>,
    next: Option<Allocation>,
    thread: Thread,
}

/// What is known of a thread while its records of a generation are taken in.
struct Thread {
    goroutine: GoId,
    /// The number that stands for the context of the last record.
    context: Option<(AllocationContext, u32)>,
    allocs: u64,
}

impl Cursor<'_> {
    fn advance(&mut self) -> Result<(), Error> {
        loop {
            if let Some(record) = self.records.next() {
                self.next = Some(record?);
                return Ok(());
            }
            match self.batches.next() {
                Some(batch) => self.records = batch.records(),
                None => {
                    self.next = None;
                    return Ok(());
                }
            }
        }
    }
}

impl Default for Blocks {
    fn default() -> Blocks {
        Blocks::new(Watch::default())
    }
}

impl Blocks {
    /// Nothing yet.
    #[must_use]
    pub fn new(watch: Watch) -> Blocks {
        Blocks {
            watch,
            taken: false,
            live: LiveTable::default(),
            displaced: IdHashMap::default(),
            sites: Vec::new(),
            index: IdHashMap::default(),
            who: Vec::new(),
            who_index: HashMap::new(),
            allocs: IdHashMap::default(),
            now: Amount::default(),
            peaks: 0,
            peak: Amount::default(),
            peak_at: Time::default(),
            lifetimes: Dist::default(),
            lifetimes_log2: [Amount::default(); 65],
            records: 0,
            unknown_frees: 0,
            interval: None,
        }
    }

    /// Takes in what was recorded in a generation. To be called once for each, in their order.
    ///
    /// # Errors
    /// If something recorded cannot be decoded: what comes after it in its batch is missing then.
    pub fn generation(&mut self, generation: &Generation, interner: &mut Interner) -> Result<(), Error> {
        let mut threads: Vec<(GoId, Vec<Allocations<'_>>)> = Vec::new();
        let mut index = IdHashMap::default();
        let mut result = Ok(());
        for section in generation.sections() {
            match section {
                Ok(section) => {
                    let Private::Allocations(batch) = section.content else { continue };
                    let i = *index.entry(batch.goroutine.0).or_insert(threads.len());
                    if i == threads.len() {
                        threads.push((batch.goroutine, Vec::new()));
                    }
                    threads[i].1.push(batch);
                }
                Err(e) => result = Err(e),
            }
        }
        let mut cursors = Vec::with_capacity(threads.len());
        let mut order = BinaryHeap::new();
        for (goroutine, batches) in threads {
            let mut batches = batches.into_iter();
            let Some(first) = batches.next() else { continue };
            self.interval.get_or_insert(first.interval_bytes);
            let allocs = self.allocs.get(&goroutine.0).copied().unwrap_or(0);
            let thread = Thread { goroutine, context: None, allocs };
            let mut cursor = Cursor { batches, records: first.records(), next: None, thread };
            result = result.and(cursor.advance());
            if let Some(next) = cursor.next {
                order.push(Reverse((next.time, cursors.len())));
            }
            cursors.push(cursor);
        }
        let mut ahead: Vec<(Allocation, usize)> = Vec::with_capacity(AHEAD);
        loop {
            ahead.clear();
            while ahead.len() < AHEAD
                && let Some(mut first) = order.peek_mut()
            {
                let i = first.0.1;
                let cursor = &mut cursors[i];
                ahead.extend(cursor.next.map(|record| (record, i)));
                result = result.and(cursor.advance());
                match cursor.next {
                    Some(next) => first.0.0 = next.time,
                    None => drop(PeekMut::pop(first)),
                }
            }
            if ahead.is_empty() {
                break;
            }
            let touched = ahead.iter().fold(0, |sum, (r, _)| sum ^ self.live.touch(r.kind.address()));
            std::hint::black_box(touched);
            for &(record, i) in &ahead {
                self.record(record, &mut cursors[i].thread, generation, interner);
            }
        }
        for c in &cursors {
            self.allocs.insert(c.thread.goroutine.0, c.thread.allocs);
        }
        result
    }

    #[inline]
    fn record(&mut self, r: Allocation, thread: &mut Thread, generation: &Generation, interner: &mut Interner) {
        if !self.taken && self.watch.at.is_some_and(|at| r.time > at) {
            self.take();
        }
        self.records += 1;
        match r.kind {
            // Not of the heap.
            AllocationKind::Map { .. } | AllocationKind::Unmap { .. } => self.records -= 1,
            AllocationKind::Alloc { address, size, .. } => {
                self.allocated(address, size, &r, thread, generation, interner);
                self.rose(r.time);
            }
            AllocationKind::Free { address } => match self.live.remove(address) {
                Some(block) => {
                    let temporary = u64::from((thread.allocs as u32).wrapping_sub(block.serial)) <= TEMPORARY_ALLOCS
                        && self.sites[block.site as usize].who.goroutine == thread.goroutine;
                    self.freed(&block, r.time, temporary);
                }
                None => self.unknown(address, r.time),
            },
            AllocationKind::Realloc { old, new, size, .. } => {
                let displaced = self.displaced.get_mut(&old).and_then(Vec::pop);
                match displaced.or_else(|| self.live.remove(old)) {
                    Some(block) => self.freed(&block, r.time, false),
                    None => self.unknown_frees += 1,
                }
                if size > 0 {
                    self.allocated(new, size, &r, thread, generation, interner);
                }
                self.rose(r.time);
            }
        }
    }

    /// A free of a block that is not there: one that another thread's displaces, or one from before the trace.
    #[cold]
    fn unknown(&mut self, address: u64, time: Time) {
        match self.displaced.get_mut(&address).and_then(Vec::pop) {
            Some(block) => self.freed(&block, time, false),
            None => self.unknown_frees += 1,
        }
    }

    #[inline]
    fn allocated(
        &mut self,
        address: u64,
        size: u64,
        r: &Allocation,
        thread: &mut Thread,
        generation: &Generation,
        interner: &mut Interner,
    ) {
        let who = match thread.context {
            Some((context, who)) if context == r.context => who,
            _ => {
                let who = self.who(thread.goroutine, r.context, generation, interner);
                thread.context = Some((r.context, who));
                who
            }
        };
        let stack = interner.stack(generation, r.stack);
        let site = self.site(stack, who, size);
        let amount = self.weight(size);
        thread.allocs += 1;
        let block = Block { time: r.time, size, site, serial: thread.allocs as u32 };
        if let Some(other) = self.live.insert(address, block) {
            self.displaced.entry(address).or_default().push(other);
        }
        self.now.add(amount);
        let s = self.touch(site);
        s.live.add(amount);
        s.total.add(amount);
    }

    #[inline]
    fn freed(&mut self, block: &Block, time: Time, temporary: bool) {
        let amount = self.weight(block.size);
        self.now.sub(amount);
        let lived = time.since(block.time).max(0) as u64;
        self.lifetimes.add(lived);
        self.lifetimes_log2[(64 - lived.leading_zeros()) as usize].add(amount);
        let s = self.touch(block.site);
        s.live.sub(amount);
        if temporary {
            s.temporary.add(amount);
        }
    }

    /// What a block stands for.
    #[inline(always)]
    fn weight(&self, size: u64) -> Amount {
        weight(size, self.interval.unwrap_or(0))
    }

    /// A site that is about to change.
    #[inline]
    fn touch(&mut self, site: u32) -> &mut Site {
        let s = &mut self.sites[site as usize];
        if s.peak != self.peaks {
            (s.peak, s.at_peak) = (self.peaks, s.live);
        }
        s
    }

    #[inline]
    fn rose(&mut self, time: Time) {
        if self.now.bytes > self.peak.bytes {
            self.peak = self.now;
            self.peak_at = time;
            self.peaks += 1;
        }
    }

    #[inline]
    fn site(&mut self, stack: StackKey, who: u32, size: u64) -> u32 {
        let size_log2 = (64 - size.saturating_sub(1).leading_zeros()) as u8;
        // 24 bits for who is in the middle of what, 7 for the class of sizes, 33 for the stack.
        let key = u64::from(stack.0) << 31 | u64::from(who) << 7 | u64::from(size_log2);
        let (sites, all) = (&mut self.sites, &self.who);
        *self.index.entry(key).or_insert_with(|| {
            sites.push(Site {
                stack,
                who: all[who as usize],
                size_log2,
                live: Amount::default(),
                at_peak: Amount::default(),
                peak: 0,
                held: Amount::default(),
                total: Amount::default(),
                temporary: Amount::default(),
            });
            sites.len() as u32 - 1
        })
    }

    #[cold]
    fn who(&mut self, goroutine: GoId, c: AllocationContext, generation: &Generation, interner: &mut Interner) -> u32 {
        let (region, label) = (interner.string(generation, c.region), interner.string(generation, c.label));
        let mut who = Who { goroutine, task: c.task.0, region, label };
        // A program may make tasks without end. What comes after so many is told without them.
        if self.who.len() >= 1 << 23 {
            (who.task, who.region, who.label) = (0, StringKey(0), StringKey(0));
        }
        let all = &mut self.who;
        *self.who_index.entry(who).or_insert_with(|| {
            all.push(who);
            all.len() as u32 - 1
        })
    }

    /// The instant is here: notes what each site holds.
    fn take(&mut self) {
        self.taken = true;
        let since = self.watch.since;
        for s in &mut self.sites {
            s.held = if since.is_some() { Amount::default() } else { s.live };
        }
        let Some(since) = since else { return };
        let interval = self.interval.unwrap_or(0);
        for block in self.live.blocks().chain(self.displaced.values().flatten()).filter(|b| b.time >= since) {
            self.sites[block.site as usize].held.add(weight(block.size, interval));
        }
    }

    /// The trace is over.
    pub fn finish(&mut self) {
        if !self.taken {
            self.take();
        }
        let peaks = self.peaks;
        for s in &mut self.sites {
            // Not touched since the last peak: as it was then, it is now.
            if s.peak != peaks {
                (s.peak, s.at_peak) = (peaks, s.live);
            }
        }
    }

    /// What was seen, by site. [`finish`](Self::finish) has to be called first.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }
}

impl Site {
    /// What it held when the heap was largest.
    #[must_use]
    pub fn at_peak(&self) -> Amount {
        self.at_peak
    }
}

/// What a recorded block stands for: itself, or as many as make up for those of its size that were not taken into the sample.
pub(super) fn weight(size: u64, interval: u64) -> Amount {
    if interval == 0 {
        return Amount { bytes: size, parts: PARTS };
    }
    let taken = -(-(size as f64) / interval as f64).exp_m1();
    Amount { bytes: (size as f64 / taken).round() as u64, parts: (PARTS as f64 / taken).round() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stands_for_what_it_should() {
        assert_eq!(weight(100, 0), Amount { bytes: 100, parts: PARTS });
        // Much smaller than the interval: each stands for the interval, and half its own size.
        assert_eq!(weight(64, 1 << 20).bytes, (1 << 20) + 32);
        // Much larger: nearly itself.
        assert_eq!(weight(64 << 20, 1 << 20), Amount { bytes: 64 << 20, parts: PARTS });
        // As large: one in 1 - 1/e.
        assert_eq!(weight(1 << 20, 1 << 20).bytes, (f64::from(1 << 20) / (1.0 - (-1.0f64).exp())).round() as u64);
    }
}
