//! Why the resident set is not the heap: its parts over time, and the biggest of them in plain words.
//!
//! The answer is made of the series of the process's memory that the tracer records
//! ([`memory_every`](crate::Tracer::memory_every)). The kernel knows pages, the allocator what it has committed, the program what it
//! holds; a part is the difference of two such figures, so each says what it is an estimate of.

use super::frames;
use super::units::{Bytes, Ns, Percent};
use super::{Damage, each_event};
use crate::format::private::series;
use crate::read::{AllocationKind, EventKind, EventRef, Generation, Interner, Private, Reader, StackKey, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The schema of [`WhyRss`] as JSON.
pub const WHY_RSS_SCHEMA: &str = "exectrace.why-rss/1";
/// The most instants that are kept: of two neighbours the larger stays.
const INSTANTS: usize = 2048;

/// What resident memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RssPart {
    /// Blocks of the native heap that the program holds, as far as they are resident.
    LiveHeap,
    /// What the allocator keeps though nobody holds it: free blocks, fragmentation, what it rounds up, and its own tables. Where the
    /// allocator does not tell what it has committed, also what the program maps by itself.
    AllocatorRetained,
    /// Blocks of GC heaps that are live.
    GcHeap,
    /// What the tracer has allocated and mapped, and GC heaps beyond what is live.
    Tracer,
    /// Pages of mapped files: the program's text and libraries among them.
    MappedFiles,
    /// Stacks of threads. As of the last look into `smaps`, like what was written to of mapped files.
    Stacks,
    /// Shared memory.
    Shared,
    /// Anonymous memory that is none of these: mapped by the program or its libraries, not through the allocator.
    Rest,
}

impl RssPart {
    /// All, in the order in which they are shown.
    pub const ALL: [RssPart; 8] = [
        RssPart::LiveHeap,
        RssPart::AllocatorRetained,
        RssPart::GcHeap,
        RssPart::Tracer,
        RssPart::MappedFiles,
        RssPart::Stacks,
        RssPart::Shared,
        RssPart::Rest,
    ];

    /// A name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RssPart::LiveHeap => "live heap",
            RssPart::AllocatorRetained => "allocator",
            RssPart::GcHeap => "GC heap",
            RssPart::Tracer => "tracer",
            RssPart::MappedFiles => "files",
            RssPart::Stacks => "stacks",
            RssPart::Shared => "shared",
            RssPart::Rest => "rest",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            RssPart::LiveHeap => "what the program holds on its heap",
            RssPart::AllocatorRetained => {
                "what the allocator keeps beyond the blocks that the program holds (free memory and fragmentation)"
            }
            RssPart::GcHeap => "live blocks of GC heaps",
            RssPart::Tracer => "the tracer's own memory and that of GC heaps",
            RssPart::MappedFiles => "pages of mapped files, which the system can take back",
            RssPart::Stacks => "the stacks of threads",
            RssPart::Shared => "shared memory",
            RssPart::Rest => "anonymous memory that was mapped by other means than the allocator",
        }
    }
}

/// The resident set at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RssInstant {
    /// Nanoseconds since the trace began.
    pub at_ns: u64,
    /// The resident set in bytes: the sum of all parts.
    pub rss_bytes: u64,
    /// See [`RssPart::LiveHeap`]; likewise the next ones.
    pub live_heap_bytes: u64,
    /// See [`RssPart::AllocatorRetained`].
    pub allocator_retained_bytes: u64,
    /// See [`RssPart::GcHeap`].
    pub gc_heap_bytes: u64,
    /// See [`RssPart::Tracer`].
    pub tracer_bytes: u64,
    /// See [`RssPart::MappedFiles`].
    pub mapped_files_bytes: u64,
    /// See [`RssPart::Stacks`].
    pub stacks_bytes: u64,
    /// See [`RssPart::Shared`].
    pub shared_bytes: u64,
    /// See [`RssPart::Rest`].
    pub rest_bytes: u64,
    /// What the program holds on its heap, resident or not: no part.
    pub heap_bytes: u64,
    /// What the allocator has committed, resident or not, if it tells: no part.
    pub committed_bytes: Option<u64>,
}

impl RssInstant {
    /// A part in bytes.
    #[must_use]
    pub fn part(&self, part: RssPart) -> u64 {
        match part {
            RssPart::LiveHeap => self.live_heap_bytes,
            RssPart::AllocatorRetained => self.allocator_retained_bytes,
            RssPart::GcHeap => self.gc_heap_bytes,
            RssPart::Tracer => self.tracer_bytes,
            RssPart::MappedFiles => self.mapped_files_bytes,
            RssPart::Stacks => self.stacks_bytes,
            RssPart::Shared => self.shared_bytes,
            RssPart::Rest => self.rest_bytes,
        }
    }

    /// The largest part.
    #[must_use]
    pub fn largest(&self) -> RssPart {
        RssPart::ALL.into_iter().max_by_key(|&p| (self.part(p), std::cmp::Reverse(p))).unwrap_or(RssPart::Rest)
    }
}

/// A place that has mapped memory, a megabyte or more at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MappedBy {
    /// Bytes mapped when the resident set was largest, touched or not.
    pub bytes: u64,
    /// In so many pieces.
    pub pieces: u64,
    /// The stack in one line.
    pub name: String,
}

/// Why the resident set is as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WhyRss {
    /// [`WHY_RSS_SCHEMA`].
    pub schema: String,
    /// The length of the trace.
    pub duration_ns: u64,
    /// The answer in sentences, the biggest cause first; empty if nothing was recorded.
    pub because: Vec<String>,
    /// When the resident set was largest.
    pub max: Option<RssInstant>,
    /// The first sample, and the last.
    pub first: Option<RssInstant>,
    /// See `first`.
    pub last: Option<RssInstant>,
    /// The part that has grown most from the first sample to the largest, and by how many bytes.
    pub grown: Option<(RssPart, u64)>,
    /// Large mappings of the program when the resident set was largest, by stack. Only where allocations were recorded.
    pub mapped_by: Vec<MappedBy>,
    /// Page faults during the trace that needed no reading, and those that did.
    pub minor_faults: u64,
    /// See `minor_faults`.
    pub major_faults: u64,
    /// For how long some tasks waited for memory during the trace, in microseconds.
    pub stalled_us: u64,
    /// The control group's limit, if it has one, and the largest size that was seen.
    pub group_max_bytes: Option<u64>,
    /// See `group_max_bytes`.
    pub group_peak_bytes: Option<u64>,
    /// How often the group met a limit during the trace.
    pub group_limit_events: u64,
    /// The samples, by time; at most about two thousand.
    pub instants: Vec<RssInstant>,
    /// What is missing if the trace could not be read to its end.
    pub damage: Option<Damage>,
}

/// Reads the rest of a trace and tells why the resident set is as it is.
#[must_use]
pub fn why_rss(reader: &mut Reader<'_>) -> WhyRss {
    why_rss_watched(reader, &mut || {})
}

/// Like [`why_rss`], and calls `tick` now and then, so that a program can show how far it is.
#[must_use]
pub fn why_rss_watched(reader: &mut Reader<'_>, tick: &mut dyn FnMut()) -> WhyRss {
    let mut c = Collect::default();
    let end = each_event(reader, tick, |ev| c.event(&ev));
    c.finish(end.err().map(|e| Damage::of(&e)))
}

/// What happened, in the order of time.
enum What {
    Value(&'static str, u64),
    Map { address: u64, size: u64, stack: StackKey },
    Unmap { address: u64, size: u64 },
}

/// Memory that was mapped: by its first address, the address behind the last, and by whom.
type Maps = BTreeMap<u64, (u64, StackKey)>;

#[derive(Default)]
struct Collect {
    begin: Option<Time>,
    end: Time,
    generation: Option<u64>,
    interner: Interner,
    first: HashMap<&'static str, u64>,
    now: HashMap<&'static str, u64>,
    /// The largest values of series.
    most: HashMap<&'static str, u64>,
    instants: Vec<RssInstant>,
    first_instant: Option<RssInstant>,
    last_instant: Option<RssInstant>,
    max: Option<RssInstant>,
    maps: Maps,
    maps_at_max: Maps,
    /// The size of the resident set when `maps_at_max` was noted.
    noted: u64,
}

/// The series that are of use here.
const WANTED: [&str; 18] = [
    series::NATIVE_HEAP,
    series::GC_HEAPS,
    series::COMMITTED,
    series::TRACER_MAPPED,
    series::TRACER_HEAP,
    series::RSS_ANONYMOUS,
    series::RSS_FILES,
    series::RSS_SHARED,
    series::FAULTS_MINOR,
    series::FAULTS_MAJOR,
    series::MAPPED_FILES,
    series::MAPPED_STACKS,
    series::STALLED_SOME,
    series::GROUP_SIZES[0].1,
    series::GROUP_SIZES[2].1,
    series::GROUP_EVENTS[0].1,
    series::GROUP_EVENTS[1].1,
    series::GROUP_EVENTS[3].1,
];

impl Collect {
    fn event(&mut self, ev: &EventRef<'_>) {
        self.end = ev.time;
        if ev.kind() != EventKind::Sync {
            return;
        }
        self.begin.get_or_insert(ev.time);
        let generation = ev.generation();
        // The trace's last `Sync` has a generation of its own, which is empty.
        if self.generation.replace(generation.bytes().start) != Some(generation.bytes().start) {
            self.take_in(generation);
        }
    }

    fn take_in(&mut self, g: &Generation) {
        let mut all: Vec<(Time, What)> = Vec::new();
        // A section that cannot be decoded is left out.
        for section in g.sections().flatten() {
            match section.content {
                Private::Series(of) => {
                    for s in of {
                        let Some(&name) = WANTED.iter().find(|w| **w == s.name) else { continue };
                        all.extend(s.samples.iter().map(|&(t, v)| (t, What::Value(name, v.max(0) as u64))));
                    }
                }
                Private::Allocations(batch) => {
                    for record in batch.records().map_while(Result::ok) {
                        match record.kind {
                            AllocationKind::Map { address, size } => {
                                let stack = self.interner.stack(g, record.stack);
                                all.push((record.time, What::Map { address, size, stack }));
                            }
                            AllocationKind::Unmap { address, size } => {
                                all.push((record.time, What::Unmap { address, size }));
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        // Stable: what one sample has told stays together.
        all.sort_by_key(|(time, _)| *time);
        for at in all.chunk_by(|a, b| a.0 == b.0) {
            for (_, what) in at {
                match *what {
                    What::Value(name, v) => {
                        self.first.entry(name).or_insert(v);
                        self.now.insert(name, v);
                        let most = self.most.entry(name).or_insert(v);
                        *most = v.max(*most);
                    }
                    What::Map { address, size, stack } => map(&mut self.maps, address, size, Some(stack)),
                    What::Unmap { address, size } => map(&mut self.maps, address, size, None),
                }
            }
            if at.iter().any(|(_, what)| matches!(what, What::Value(..))) {
                self.instant(at[0].0);
            }
        }
    }

    fn instant(&mut self, at: Time) {
        let Some(i) = split(&|name| self.now.get(name).copied(), at.since(self.begin.unwrap_or(at)).max(0) as u64)
        else {
            return;
        };
        self.first_instant.get_or_insert(i);
        self.last_instant = Some(i);
        if self.max.is_none_or(|max| i.rss_bytes > max.rss_bytes) {
            self.max = Some(i);
            // Not at each small rise.
            if i.rss_bytes > self.noted + self.noted / 64 {
                self.noted = i.rss_bytes;
                self.maps_at_max.clone_from(&self.maps);
            }
        }
        self.instants.push(i);
        if self.instants.len() >= INSTANTS {
            let larger = |pair: &[RssInstant]| pair.iter().copied().max_by_key(|i| i.rss_bytes);
            self.instants = self.instants.chunks(2).filter_map(larger).collect();
        }
    }

    fn finish(self, damage: Option<Damage>) -> WhyRss {
        let grew = |name: &str| {
            let of = |m: &HashMap<&'static str, u64>| m.get(name).copied().unwrap_or(0);
            of(&self.now).saturating_sub(of(&self.first))
        };
        let grown = self.max.zip(self.first_instant).and_then(|(max, first)| {
            let by = |p: RssPart| max.part(p).saturating_sub(first.part(p));
            RssPart::ALL.into_iter().map(|p| (p, by(p))).max_by_key(|&(_, by)| by).filter(|&(_, by)| by > 0)
        });
        let mut why = WhyRss {
            schema: WHY_RSS_SCHEMA.to_owned(),
            // The last sample comes after the last event.
            duration_ns: self
                .begin
                .map_or(0, |begin| self.end.since(begin).max(0) as u64)
                .max(self.last_instant.map_or(0, |i| i.at_ns)),
            because: Vec::new(),
            max: self.max,
            first: self.first_instant,
            last: self.last_instant,
            grown,
            mapped_by: mapped_by(&self.maps_at_max, &self.interner),
            minor_faults: grew(series::FAULTS_MINOR),
            major_faults: grew(series::FAULTS_MAJOR),
            stalled_us: grew(series::STALLED_SOME),
            group_max_bytes: self.now.get(series::GROUP_SIZES[2].1).copied(),
            group_peak_bytes: self.most.get(series::GROUP_SIZES[0].1).copied(),
            group_limit_events: [0, 1, 3].map(|i| grew(series::GROUP_EVENTS[i].1)).iter().sum(),
            instants: self.instants,
            damage,
        };
        why.because = because(&why);
        why
    }
}

/// Maps memory, or unmaps it: what was there is there no more.
fn map(maps: &mut Maps, address: u64, size: u64, by: Option<StackKey>) {
    let end = address.saturating_add(size);
    let overlapping: Vec<u64> =
        maps.range(..end).rev().take_while(|(_, (to, _))| *to > address).map(|(&from, _)| from).collect();
    for from in overlapping {
        let Some((to, stack)) = maps.remove(&from) else { continue };
        if from < address {
            maps.insert(from, (address, stack));
        }
        if to > end {
            maps.insert(end, (to, stack));
        }
    }
    if let Some(stack) = by.filter(|_| size > 0) {
        maps.insert(address, (end, stack));
    }
}

/// The parts of the resident set, from the series' values; `None` if its size was not told.
fn split(value: &dyn Fn(&str) -> Option<u64>, at_ns: u64) -> Option<RssInstant> {
    let of = |name| value(name).unwrap_or(0);
    let anonymous = value(series::RSS_ANONYMOUS)?;
    let (files, shared) = (of(series::RSS_FILES), of(series::RSS_SHARED));
    let stacks = of(series::MAPPED_STACKS).min(anonymous);
    // Pages of files that the program has written to count as anonymous, too.
    let written = of(series::MAPPED_FILES).saturating_sub(files).min(anonymous - stacks);
    let space = anonymous - stacks - written;
    let heap = of(series::NATIVE_HEAP);
    let live = heap.min(space);
    // Through the allocator, and past it.
    let through = of(series::TRACER_HEAP).min(space - live);
    let own = through + of(series::TRACER_MAPPED).min(space - live - through);
    let gc = of(series::GC_HEAPS).min(own - through);
    let committed = value(series::COMMITTED);
    let beyond = space - live - own;
    let retained = committed.map_or(beyond, |c| c.saturating_sub(live + through).min(beyond));
    Some(RssInstant {
        at_ns,
        rss_bytes: anonymous + files + shared,
        live_heap_bytes: live,
        allocator_retained_bytes: retained,
        gc_heap_bytes: gc,
        tracer_bytes: own - gc,
        mapped_files_bytes: files + written,
        stacks_bytes: stacks,
        shared_bytes: shared,
        rest_bytes: beyond - retained,
        heap_bytes: heap,
        committed_bytes: committed,
    })
}

fn mapped_by(maps: &Maps, interner: &Interner) -> Vec<MappedBy> {
    let mut by: HashMap<StackKey, MappedBy> = HashMap::new();
    for (from, (to, stack)) in maps {
        let m = by.entry(*stack).or_default();
        m.bytes += to - from;
        m.pieces += 1;
    }
    let name = |(stack, m): (StackKey, MappedBy)| MappedBy { name: frames::one_line(interner, stack, 4), ..m };
    let mut all: Vec<MappedBy> = by.into_iter().map(name).collect();
    all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    all
}

/// The answer in sentences.
fn because(w: &WhyRss) -> Vec<String> {
    let Some(max) = w.max else { return Vec::new() };
    let share = |bytes: u64| Percent(bytes as f64 / max.rss_bytes.max(1) as f64);
    let largest = max.largest();
    let bytes = max.part(largest);
    let mut all = vec![format!(
        "The resident set is largest at {}, {}; the biggest part of it is {}: {}, {}.",
        Ns(max.at_ns),
        Bytes(max.rss_bytes),
        largest.in_words(),
        Bytes(bytes),
        share(bytes)
    )];
    if let (Some((part, by)), Some(first)) = (w.grown, w.first) {
        let whole = max.rss_bytes.saturating_sub(first.rss_bytes);
        if part != largest || by < bytes {
            all.push(format!(
                "Since the first sample it had grown by {}; what grew most is {}: by {}.",
                Bytes(whole),
                part.in_words(),
                Bytes(by)
            ));
        }
    }
    // At the end as well as at the largest: what was freed and did not go back is seen only then.
    if let Some(last) = w.last.filter(|l| l.allocator_retained_bytes > l.live_heap_bytes && l.committed_bytes.is_some())
    {
        let retained = last.allocator_retained_bytes;
        if retained * 10 > last.rss_bytes {
            all.push(format!(
                "At the end the program holds {} on its heap, and the allocator keeps {} beyond it: freed blocks lie between live ones, \
                 or the allocator has not given free pages back yet.",
                Bytes(last.heap_bytes),
                Bytes(retained)
            ));
        }
    }
    if max.heap_bytes > max.live_heap_bytes {
        all.push(format!(
            "{} of the heap were allocated and are not resident: not touched yet, or swapped out.",
            Bytes(max.heap_bytes - max.live_heap_bytes)
        ));
    }
    if let (Some(limit), Some(peak)) = (w.group_max_bytes, w.group_peak_bytes) {
        all.push(format!(
            "The control group's limit is {}; it came to {} of it and met a limit {} times.",
            Bytes(limit),
            Percent(peak as f64 / limit.max(1) as f64),
            w.group_limit_events
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[(&str, u64)], parts: [u64; 8]) {
        let i = split(&|name| values.iter().find(|(n, _)| *n == name).map(|(_, v)| *v), 0).expect("an instant");
        assert_eq!(RssPart::ALL.map(|p| i.part(p)), parts, "{values:?}");
        assert_eq!(parts.iter().sum::<u64>(), i.rss_bytes, "{values:?}");
    }

    #[test]
    fn the_parts_are_the_whole() {
        let rss = [(series::RSS_ANONYMOUS, 1000), (series::RSS_FILES, 200), (series::RSS_SHARED, 30)];
        let with = |more: &[(&'static str, u64)]| [&rss[..], more].concat();
        // Nothing else is known: all that is anonymous may be the allocator's.
        check(&rss, [0, 1000, 0, 0, 200, 0, 30, 0]);
        let heap = (series::NATIVE_HEAP, 400);
        check(&with(&[heap]), [400, 600, 0, 0, 200, 0, 30, 0]);
        check(&with(&[heap, (series::COMMITTED, 700)]), [400, 300, 0, 0, 200, 0, 30, 300]);
        // Committed and not resident.
        check(&with(&[heap, (series::COMMITTED, 5000)]), [400, 600, 0, 0, 200, 0, 30, 0]);
        // Allocated and not resident.
        check(&with(&[(series::NATIVE_HEAP, 9999), (series::COMMITTED, 9999)]), [1000, 0, 0, 0, 200, 0, 30, 0]);
        let more = [
            (series::MAPPED_STACKS, 50),
            (series::MAPPED_FILES, 260),
            (series::TRACER_MAPPED, 100),
            (series::GC_HEAPS, 40),
            (series::COMMITTED, 500),
            heap,
        ];
        check(&with(&more), [400, 100, 40, 60, 260, 50, 30, 290]);
        // The tracer's own blocks are the allocator's, too.
        let own = [(series::TRACER_HEAP, 80), (series::TRACER_MAPPED, 100), (series::COMMITTED, 500), heap];
        check(&with(&own), [400, 20, 0, 180, 200, 0, 30, 400]);
        assert!(split(&|_| None, 0).is_none());
    }

    #[test]
    fn what_is_unmapped_is_gone_in_parts_too() {
        let mut maps = Maps::new();
        let of = |maps: &Maps| maps.iter().map(|(&a, &(b, s))| (a, b, s.0)).collect::<Vec<_>>();
        map(&mut maps, 100, 100, Some(StackKey(1)));
        map(&mut maps, 300, 100, Some(StackKey(2)));
        map(&mut maps, 150, 20, None);
        assert_eq!(of(&maps), [(100, 150, 1), (170, 200, 1), (300, 400, 2)]);
        map(&mut maps, 190, 150, Some(StackKey(3)));
        assert_eq!(of(&maps), [(100, 150, 1), (170, 190, 1), (190, 340, 3), (340, 400, 2)]);
        map(&mut maps, 0, 1000, None);
        assert!(maps.is_empty());
    }
}
