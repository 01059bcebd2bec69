//! Who holds the heap: what is alive, was at the peak, churns and leaks, by stack, thread, size, task, region or label.
//!
//! The answer is made of recorded allocations ([`blocks`](super::blocks)). Of a sample it is an estimate, without bias; of all
//! allocations it is exact, but for what was allocated before the trace and what the tracer lost, both of which it tells.

use super::blocks::{Amount, Blocks, PARTS, Site, Watch};
use super::dist::Durations;
use super::frames::{self, FrameInfo};
use super::states::States;
use super::{Damage, each_event, wall_clock_ns};
use crate::format::private::meta;
use crate::read::{Error, EventKind, EventRef, IdHashMap, Interner, Private, Reader, StackKey, StringKey, Time};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The schema of [`HeapReport`] as JSON.
pub const HEAP_SCHEMA: &str = "exectrace.heap/1";

/// By what a heap is told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeapBy {
    /// By the stack that allocates.
    #[default]
    Stack,
    /// By the name of the thread that allocates.
    Thread,
    /// By the size of blocks, in powers of two.
    Size,
    /// By the name of the task of the innermost region.
    Task,
    /// By the name of the innermost region.
    Region,
    /// By the label of the innermost scope.
    Label,
}

/// The instant that a heap report is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeapAt {
    /// When the trace ends: what is held then has leaked, or is still of use.
    #[default]
    End,
    /// When the heap is largest.
    Peak,
    /// So many nanoseconds after the trace began.
    Ns(i64),
}

/// What a heap report is about. The default is what is alive at the end, by stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapOptions {
    /// By what to tell it apart.
    pub by: HeapBy,
    /// Which instant's holdings.
    pub at: HeapAt,
    /// Of those only what was allocated no earlier than so many nanoseconds after the trace began: what came and stayed. Not
    /// for the peak.
    pub since_ns: Option<i64>,
}

/// Who holds the heap. Sizes are bytes as asked for; what the allocator adds is not in them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeapReport {
    /// [`HEAP_SCHEMA`].
    pub schema: String,
    /// The length of the trace.
    pub duration_ns: u64,
    /// When the trace began, in nanoseconds since 1970, if it says so.
    pub begin_unix_ns: Option<i64>,
    /// Bytes between two samples on average; 0 if all allocations were recorded, none if none was.
    pub interval_bytes: Option<u64>,
    /// By what the entries are told apart.
    pub by: HeapBy,
    /// The instant of `held`.
    pub at: HeapAt,
    /// The sums of all entries.
    pub sum: HeapSums,
    /// The most that was alive.
    pub peak_bytes: u64,
    /// When, in nanoseconds since the trace began.
    pub peak_at_ns: u64,
    /// Operations recorded.
    pub records: u64,
    /// Operations that should have been and were not.
    pub lost: u64,
    /// Frees of blocks that were allocated before the trace (or by what was lost).
    pub unknown_frees: u64,
    /// How long blocks lived that were freed; in a sample, those in it.
    pub lifetimes: Durations,
    /// The same in powers of two: blocks that were freed by how long they had lived. Empty stretches at either end are left out.
    pub lifetime_buckets: Vec<HeapBucket>,
    /// All blocks that were allocated by their size, in powers of two, likewise.
    pub size_buckets: Vec<HeapBucket>,
    /// The largest holdings first.
    pub entries: Vec<HeapEntry>,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeapBucket {
    /// Up to this: of sizes, bytes; of lifetimes, nanoseconds, and less than it. The bar before ends where this one begins.
    pub to: u64,
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Bytes and blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeapSums {
    /// Held at the instant asked for.
    pub held_bytes: u64,
    /// See `held_bytes`.
    pub held_blocks: u64,
    /// Held when the heap was largest.
    pub peak_bytes: u64,
    /// See `peak_bytes`.
    pub peak_blocks: u64,
    /// Alive at the end: leaked, or still of use.
    pub leaked_bytes: u64,
    /// See `leaked_bytes`.
    pub leaked_blocks: u64,
    /// All that was allocated. A reallocation is a free and an allocation.
    pub total_bytes: u64,
    /// See `total_bytes`.
    pub total_blocks: u64,
    /// Of that, what the same thread freed after at most 8 further allocations. 0 in a sample, which cannot tell.
    pub temporary_bytes: u64,
    /// See `temporary_bytes`.
    pub temporary_blocks: u64,
}

/// What has one stack, or one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeapEntry {
    /// The sums.
    #[serde(flatten)]
    pub sums: HeapSums,
    /// The name, or the stack in one line.
    pub name: String,
    /// The stack, leaf first; empty where entries are not stacks.
    pub stack: Vec<FrameInfo>,
    /// The program counters of the frames, or numbers that stand for them.
    pub pcs: Vec<u64>,
}

/// Reads the rest of a trace and tells who holds the heap.
#[must_use]
pub fn heap(reader: &mut Reader<'_>, options: &HeapOptions) -> HeapReport {
    heap_watched(reader, options, &mut || {})
}

/// Like [`heap`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn heap_watched(reader: &mut Reader<'_>, options: &HeapOptions, tick: &mut dyn FnMut()) -> HeapReport {
    let mut c = Collect { options: *options, ..Collect::default() };
    let end = each_event(reader, tick, |ev| c.event(&ev));
    let first = c.error.take();
    c.finish(end.err().or(first).map(|e| Damage::of(&e)))
}

#[derive(Default)]
struct Collect {
    options: HeapOptions,
    interner: Interner,
    states: States,
    blocks: Blocks,
    begin: Option<Time>,
    begin_unix_ns: Option<i64>,
    end: Time,
    lost: u64,
    /// The generation whose records were taken in: where it begins.
    generation: Option<u64>,
    names: IdHashMap<StringKey>,
    tasks: IdHashMap<StringKey>,
    error: Option<Error>,
}

impl Collect {
    #[inline]
    fn event(&mut self, ev: &EventRef<'_>) {
        self.end = ev.time;
        if let Some(c) = self.states.update(ev, &mut self.interner) {
            let name = self.states.get(c.slot).name;
            if name != StringKey(0) {
                self.names.insert(c.id.0, name);
            }
            return;
        }
        match ev.kind() {
            EventKind::Sync => self.sync(ev),
            EventKind::TaskBegin => {
                let Some(t) = ev.task() else { return };
                self.tasks.insert(t.id.0, self.interner.string(ev.generation(), t.name));
            }
            _ => {}
        }
    }

    fn sync(&mut self, ev: &EventRef<'_>) {
        if self.begin.is_none() {
            self.begin = Some(ev.time);
            self.begin_unix_ns = wall_clock_ns(ev);
            let at = match self.options.at {
                HeapAt::Ns(ns) => Some(ev.time.plus(ns)),
                HeapAt::End | HeapAt::Peak => None,
            };
            self.blocks = Blocks::new(Watch { at, since: self.options.since_ns.map(|ns| ev.time.plus(ns)) });
        }
        let generation = ev.generation();
        // The trace's last `Sync` has a generation of its own, which is empty.
        if self.generation.replace(generation.bytes().start) == Some(generation.bytes().start) {
            return;
        }
        for section in generation.sections().flatten() {
            let Private::Meta(pairs) = section.content else { continue };
            let lost = pairs.iter().find(|(k, _)| *k == meta::LOST_ALLOCATIONS).and_then(|(_, v)| v.parse().ok());
            self.lost += lost.unwrap_or(0);
        }
        if let Err(e) = self.blocks.generation(generation, &mut self.interner) {
            self.error.get_or_insert(e);
        }
    }

    fn finish(mut self, damage: Option<Damage>) -> HeapReport {
        self.blocks.finish();
        let mut groups: HashMap<u64, HeapParts> = HashMap::new();
        let mut sum = HeapParts::default();
        let mut sizes = [Amount::default(); 65];
        for site in self.blocks.sites() {
            let held = if self.options.at == HeapAt::Peak { site.at_peak() } else { site.held };
            groups.entry(self.key(site)).or_default().add(site, held);
            sum.add(site, held);
            sizes[usize::from(site.size_log2)].add(site.total);
        }
        let sampled = self.blocks.interval.unwrap_or(0) > 0;
        let mut entries: Vec<HeapEntry> = groups.iter().map(|(&key, parts)| self.entry(key, parts, sampled)).collect();
        entries.sort_by(|a, b| {
            let size = |e: &HeapEntry| (e.sums.held_bytes, e.sums.total_bytes);
            size(b).cmp(&size(a)).then_with(|| (&a.name, &a.pcs).cmp(&(&b.name, &b.pcs)))
        });
        let begin = self.begin.unwrap_or(self.end);
        HeapReport {
            schema: HEAP_SCHEMA.to_owned(),
            duration_ns: self.end.since(begin).max(0) as u64,
            begin_unix_ns: self.begin_unix_ns,
            interval_bytes: self.blocks.interval,
            by: self.options.by,
            at: self.options.at,
            sum: sum.finish(sampled),
            peak_bytes: self.blocks.peak.bytes,
            peak_at_ns: if self.blocks.peak.bytes == 0 { 0 } else { self.blocks.peak_at.since(begin).max(0) as u64 },
            records: self.blocks.records,
            lost: self.lost,
            unknown_frees: self.blocks.unknown_frees,
            lifetimes: self.blocks.lifetimes.durations(),
            lifetime_buckets: buckets(&self.blocks.lifetimes_log2),
            size_buckets: buckets(&sizes),
            entries,
            damage,
        }
    }

    /// What a site belongs to.
    fn key(&self, s: &Site) -> u64 {
        let string = |key: Option<&StringKey>| key.map_or(0, |k| u64::from(k.0));
        match self.options.by {
            HeapBy::Stack => s.stack.0.into(),
            HeapBy::Thread => string(self.names.get(&s.who.goroutine.0)),
            HeapBy::Size => s.size_log2.into(),
            HeapBy::Task => string(self.tasks.get(&s.who.task)),
            HeapBy::Region => s.who.region.0.into(),
            HeapBy::Label => s.who.label.0.into(),
        }
    }

    fn entry(&self, key: u64, parts: &HeapParts, sampled: bool) -> HeapEntry {
        let mut e = HeapEntry { sums: parts.finish(sampled), ..HeapEntry::default() };
        match self.options.by {
            HeapBy::Stack => {
                let stack = StackKey(key as u32);
                e.name = frames::one_line(&self.interner, stack, 3);
                e.stack = frames::infos(&self.interner, stack);
                e.pcs = self.interner.frames(stack).iter().map(|&f| self.interner.frame(f).pc).collect();
            }
            HeapBy::Size => e.name = format!("<= {}", 1u128 << key),
            HeapBy::Thread | HeapBy::Task | HeapBy::Region | HeapBy::Label => {
                e.name = match self.interner.text(StringKey(key as u32)) {
                    "" => "(none)".to_owned(),
                    name => name.to_owned(),
                };
            }
        }
        e
    }
}

/// The bars by the logarithm, without those at the ends that have nothing.
fn buckets(all: &[Amount; 65]) -> Vec<HeapBucket> {
    let is_some = |a: &Amount| a.parts > 0;
    let (Some(first), Some(last)) = (all.iter().position(is_some), all.iter().rposition(is_some)) else {
        return Vec::new();
    };
    let bucket = |i: usize| HeapBucket {
        to: 1u64.checked_shl(i as u32).unwrap_or(u64::MAX),
        blocks: blocks(all[i]),
        bytes: all[i].bytes,
    };
    (first..=last).map(bucket).collect()
}

fn blocks(a: Amount) -> u64 {
    (a.parts + PARTS / 2) / PARTS
}

/// Sums in the making.
#[derive(Default)]
struct HeapParts {
    held: Amount,
    peak: Amount,
    leaked: Amount,
    total: Amount,
    temporary: Amount,
}

impl HeapParts {
    fn add(&mut self, s: &Site, held: Amount) {
        for (sum, of) in [
            (&mut self.held, held),
            (&mut self.peak, s.at_peak()),
            (&mut self.leaked, s.live),
            (&mut self.total, s.total),
            (&mut self.temporary, s.temporary),
        ] {
            sum.add(of);
        }
    }

    fn finish(&self, sampled: bool) -> HeapSums {
        let temporary = if sampled { Amount::default() } else { self.temporary };
        HeapSums {
            held_bytes: self.held.bytes,
            held_blocks: blocks(self.held),
            peak_bytes: self.peak.bytes,
            peak_blocks: blocks(self.peak),
            leaked_bytes: self.leaked.bytes,
            leaked_blocks: blocks(self.leaked),
            total_bytes: self.total.bytes,
            total_blocks: blocks(self.total),
            temporary_bytes: temporary.bytes,
            temporary_blocks: blocks(temporary),
        }
    }
}
