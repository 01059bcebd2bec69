//! Memory follows the largest generation, not the file, and never a length that is merely claimed. All allocations of this
//! process are counted.
#![cfg(feature = "read")]

use exectrace::format::{Kind, Version, varint};
use exectrace::read::Reader;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to `System`, with the same arguments; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract, and all memory comes from `System`.
        unsafe { System.dealloc(p, layout) }
    }
}

fn count(size: usize) {
    let now = NOW.fetch_add(size, Relaxed) + size;
    PEAK.fetch_max(now, Relaxed);
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests count the same bytes, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The most memory in use at a time while `f` runs, beyond what was in use before.
fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = f();
    (result, PEAK.load(Relaxed) - before)
}

fn number(out: &mut Vec<u8>, v: u64) {
    let mut b = [0; varint::MAX_BYTES];
    let n = varint::write(&mut b, v);
    out.extend_from_slice(&b[..n]);
}

fn batch(out: &mut Vec<u8>, generation: u64, thread: u64, time: u64, data: &[u8]) {
    out.push(Kind::EventBatch as u8);
    [generation, thread, time, data.len() as u64].into_iter().for_each(|v| number(out, v));
    out.extend_from_slice(data);
}

fn event(out: &mut Vec<u8>, kind: Kind, args: &[u64]) {
    out.push(kind as u8);
    args.iter().for_each(|&a| number(out, a));
}

/// One generation: a thread that logs, with `strings` different texts.
fn generation(number: u64, events: u64, strings: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut data = Vec::new();
    event(&mut data, Kind::ProcStatus, &[1, 0, 1]);
    event(&mut data, Kind::GoStatus, &[1, 1, 7, 2]);
    let begin = number * 1_000_000_000;
    for i in 0..events {
        if data.len() > 60_000 {
            batch(&mut out, number, 7, begin + i * 100, &data);
            data.clear();
        }
        event(&mut data, Kind::UserLog, &[100, 0, 1 + i % strings, 1 + (i * 7) % strings, 0]);
    }
    batch(&mut out, number, 7, begin + events * 100, &data);
    let mut table = vec![Kind::Strings as u8];
    for id in 1..=strings {
        event(&mut table, Kind::String, &[id]);
        let text = format!("generation {number}, text {id}");
        self::number(&mut table, text.len() as u64);
        table.extend_from_slice(text.as_bytes());
    }
    batch(&mut out, number, u64::MAX, begin, &table);
    let mut sync = vec![Kind::Sync as u8];
    event(&mut sync, Kind::Frequency, &[1_000_000_000]);
    event(&mut sync, Kind::ClockSnapshot, &[0, 1, 1, 1]);
    batch(&mut out, number, u64::MAX, begin, &sync);
    out.push(Kind::EndOfGeneration as u8);
    out
}

/// A trace that never lies in memory as a whole.
struct Endless {
    next: u64,
    last: u64,
    rest: std::io::Cursor<Vec<u8>>,
}

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.rest.position() as usize == self.rest.get_ref().len() && self.next <= self.last {
            self.rest = std::io::Cursor::new(generation(self.next, 40_000, 500));
            self.next += 1;
        }
        // In odd pieces, as a network gives them.
        let n = buf.len().min(10_007);
        self.rest.read(&mut buf[..n])
    }
}

fn trace(generations: u64) -> impl Read {
    let header = std::io::Cursor::new(Version::Go126.header().to_vec());
    Endless { next: 1, last: generations, rest: header }
}

fn events(mut reader: Reader<'_>) -> u64 {
    let mut n = 0;
    while let Some(block) = reader.next_block().expect("a valid trace") {
        n += block.events().len() as u64;
    }
    n
}

#[test]
fn memory_is_bounded_by_a_generation() {
    let _turn = TURN.lock();
    let one = generation(1, 40_000, 500).len();
    for (what, read) in [
        ("one thread", (|n| events(Reader::new(trace(n)).expect("a header"))) as fn(u64) -> u64),
        ("threads", |n| events(Reader::threaded(trace(n)).expect("a header"))),
    ] {
        let (few, of_few) = peak(|| read(5));
        let (many, of_many) = peak(|| read(40));
        assert_eq!((few, many), (5 * 40_003 + 1, 40 * 40_003 + 1), "{what}");
        assert!(of_many < 12 * one + (8 << 20), "{what}: {of_many} bytes for generations of {one}");
        assert!(of_many < 2 * of_few, "{what}: {of_few} bytes for 5 generations, {of_many} for 40");
    }
}

/// Names that change in each generation, of tasks that end and of some that never do, do not pile up.
#[test]
fn names_do_not_pile_up() {
    let _turn = TURN.lock();
    let tasks = |generations: u64| {
        let mut out = Version::Go126.header().to_vec();
        for g in 1..=generations {
            let mut data = Vec::new();
            event(&mut data, Kind::ProcStatus, &[1, 0, 1]);
            event(&mut data, Kind::GoStatus, &[1, 1, 7, 2]);
            for i in 1..=1000 {
                event(&mut data, Kind::UserTaskBegin, &[1, i, 0, i, 0]);
                event(&mut data, Kind::UserTaskEnd, &[1, i, 0]);
            }
            batch(&mut out, g, 7, g * 1_000_000, &data);
            // The rest of a generation, with as many texts of its own.
            let rest = generation(g, 0, 1000);
            out.extend_from_slice(&rest_without_events(&rest));
        }
        out
    };
    let (few, many) = (tasks(40), tasks(400));
    let read = |bytes: &[u8]| peak(|| events(Reader::new(bytes).expect("a header"))).1;
    let (of_few, of_many) = (read(&few), read(&many));
    assert!(of_many < 2 * of_few, "{of_few} bytes for 40 generations, {of_many} for 400");
}

/// A generation without its first batch.
fn rest_without_events(generation: &[u8]) -> Vec<u8> {
    let mut rest = &generation[1..];
    let mut size = 0;
    for _ in 0..4 {
        let (v, n) = varint::read(rest).expect("a number");
        rest = &rest[n..];
        size = v as usize;
    }
    rest[size..].to_vec()
}

/// Small inputs that claim much.
#[test]
fn claims_take_no_memory() {
    let _turn = TURN.lock();
    let mut claims: Vec<(&str, Vec<u8>)> = Vec::new();
    let with = |data: &[u8]| {
        let mut out = Version::Go122.header().to_vec();
        batch(&mut out, 1, 1, 1, data);
        batch(&mut out, 1, u64::MAX, 0, &[Kind::Frequency as u8, 1]);
        out
    };
    let mut data = Vec::new();
    event(&mut data, Kind::ProcStatus, &[1, u64::MAX - 1, 1]);
    event(&mut data, Kind::GoStatus, &[1, 1 << 40, 7, 2]);
    event(&mut data, Kind::GoCreate, &[1, (1 << 32) - 1, 0, 0]);
    claims.push(("large ids", with(&data)));
    let mut out = with(&data);
    let mut table = vec![Kind::Strings as u8];
    for id in [u64::MAX, 1 << 40, 1 << 31, 1 << 24] {
        event(&mut table, Kind::String, &[id, 0]);
    }
    batch(&mut out, 1, u64::MAX, 0, &table);
    claims.push(("large string ids", out));
    let mut out = Version::Go122.header().to_vec();
    out.push(Kind::EventBatch as u8);
    [1, 1, 1, 65_536].into_iter().for_each(|v| number(&mut out, v));
    claims.push(("a batch without its bytes", out));
    let mut out = Version::Go122.header().to_vec();
    out.push(Kind::Stack as u8);
    [1, u64::MAX >> 1].into_iter().for_each(|v| number(&mut out, v));
    claims.push(("a stack without its frames", out));
    for (what, bytes) in claims {
        let ((), used) = peak(|| {
            let mut reader = Reader::new(&bytes[..]).expect("a header");
            while let Ok(Some(_)) = reader.next_event() {}
            let mut wire = exectrace::read::wire::WireReader::new(&bytes[..]).expect("a header");
            while let Ok(Some(_)) = wire.next_event() {}
        });
        assert!(used < 4 << 20, "{what}: {used} bytes for {}", bytes.len());
    }
}
