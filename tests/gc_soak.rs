//! A soak: a heap that runs for very long neither grows, nor wears out, nor forgets anything.
//!
//! A service that collects once in ten seconds, as a heap of that kind does at a low rate of allocation, has 8640 cycles in
//! 24 hours. Here only the time between the cycles is left out. Chunks come and go, and objects of many kinds, roots, weak
//! references, tables and finalizers are made and freed all the while. The short form, which CI runs, has two hours' worth
//! in each mode, in which the epochs of the blocks (255 of them) start over twice. A day takes some minutes:
//!
//! ```sh
//! EXECTRACE_SOAK_CYCLES=8640 cargo test --release --test gc_soak -- --nocapture
//! ```

use exectrace::gc::{
    Arena, Collect, Config, Gc, GcCell, GcMap, GcString, GcVec, GcWeak, Mode, Mutation, Root, Rootable,
};
use std::time::Duration;

/// Two hours, at one in ten seconds.
const CYCLES_SHORT: u64 = 720;
/// Sessions that live at a time, at most.
const SESSIONS: usize = 200;

/// A session of a service: of several kinds of objects, some of them in cycles, and of a size that differs.
#[derive(Collect)]
struct Session<'gc> {
    id: u64,
    name: GcString<'gc>,
    items: GcVec<'gc, Gc<'gc, Item<'gc>>>,
    by_name: GcMap<'gc, u64, Gc<'gc, Item<'gc>>>,
    peer: GcCell<'gc, Option<GcWeak<'gc, Session<'gc>>>>,
    log: Vec<u64>,
}

#[derive(Collect)]
struct Item<'gc> {
    session: Gc<'gc, GcCell<'gc, Option<Gc<'gc, Session<'gc>>>>>,
    value: GcCell<'gc, u64>,
}

#[derive(Collect)]
struct Service<'gc> {
    sessions: GcVec<'gc, Gc<'gc, Session<'gc>>>,
}

type ServiceRoot = Rootable!['gc => Service<'gc>];
type SessionRoot = Rootable!['gc => Session<'gc>];

struct Random(u64);
impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

fn open<'gc>(mc: &Mutation<'gc>, id: u64, random: &mut Random) -> Gc<'gc, Session<'gc>> {
    let to_session = mc.alloc(GcCell::new(None));
    let (items, by_name) = (GcVec::new(), GcMap::new());
    // Now and then one with arrays that have blocks of their own.
    let many = if random.below(500) == 0 { 20_000 } else { random.below(60) };
    for i in 0..many as u64 {
        let item = mc.alloc(Item { session: to_session, value: GcCell::new(id + i) });
        items.push(mc, item);
        if i % 8 == 0 {
            by_name.insert(mc, i, item);
        }
    }
    let name = mc.alloc_str(&format!("session {id}"));
    let log = vec![id; random.below(30)];
    let session = mc.alloc(Session { id, name, items, by_name, peer: GcCell::new(None), log });
    to_session.set(mc, Some(session));
    session
}

/// Everything that was put into a session is in it.
fn check<'gc>(mc: &Mutation<'gc>, session: &Session<'gc>) {
    assert_eq!(&*session.name, &format!("session {}", session.id));
    assert!(session.log.iter().all(|x| *x == session.id));
    for (i, item) in session.items.iter().enumerate() {
        assert_eq!(item.value.get(), session.id + i as u64);
        assert_eq!(item.session.get().map(|s| s.id), Some(session.id));
    }
    assert_eq!(session.by_name.len(), session.items.len().div_ceil(8));
    for (i, item) in session.by_name.iter() {
        assert_eq!(item.value.get(), session.id + i);
    }
    if let Some(peer) = session.peer.get().and_then(|peer| peer.upgrade(mc)) {
        assert_eq!(&*peer.name, &format!("session {}", peer.id));
    }
}

fn soak(mode: Mode) {
    let cycles = std::env::var("EXECTRACE_SOAK_CYCLES").ok().and_then(|c| c.parse().ok()).unwrap_or(CYCLES_SHORT);
    let config = Config::new().mode(mode).heap_bytes_min(1 << 20).max_pause(Duration::from_micros(50)).poison(true);
    let mut arena = Arena::<ServiceRoot>::new(config, |_| Service { sessions: GcVec::new() });
    let finalizers = arena.mutate(|mc, _| mc.finalizers::<SessionRoot>());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut held: Vec<Root<SessionRoot>> = Vec::new();
    let (mut opened, mut closed, mut begin_mapped, mut most_mapped) = (0_u64, 0_u64, 0, 0);
    loop {
        let stats = arena.stats();
        if stats.cycles >= cycles {
            break;
        }
        // What is mapped when half an hour is over must be enough for ever.
        if stats.cycles < CYCLES_SHORT / 4 {
            begin_mapped = begin_mapped.max(stats.bytes_mapped);
        }
        most_mapped = most_mapped.max(stats.bytes_mapped);
        arena.mutate(|mc, service| {
            opened += 1;
            let session = open(mc, opened * 1_000_000, &mut random);
            finalizers.watch(mc, session);
            if let Some(peer) = service.sessions.last() {
                session.peer.set(mc, Some(GcWeak::new(mc, peer)));
            }
            service.sessions.push(mc, session);
            while service.sessions.len() > SESSIONS - random.below(SESSIONS / 2) {
                service.sessions.swap_remove(mc, random.below(service.sessions.len()));
            }
            check(mc, &service.sessions.get(random.below(service.sessions.len())).expect("one"));
            if random.below(10) == 0 {
                held.push(mc.root::<SessionRoot>(session));
            }
            while held.len() > 20 {
                let root = held.swap_remove(random.below(held.len()));
                check(mc, &root.get(mc));
            }
            while let Some(session) = finalizers.next(mc) {
                check(mc, &session);
                closed += 1;
            }
        });
        arena.safepoint();
        if opened % 5000 == 0 {
            arena.verify().expect("a valid heap");
        }
    }
    let stats = arena.stats();
    println!("{mode:?}: {opened} sessions, {stats:?}, at most {most_mapped} bytes mapped");
    assert!(most_mapped <= begin_mapped + (8 << 20), "{begin_mapped} grew to {most_mapped}");
    held.clear();
    arena.mutate(|mc, service| service.sessions.truncate(mc, 0));
    for _ in 0..3 {
        arena.collect();
        arena.mutate(|mc, _| {
            while finalizers.next(mc).is_some() {
                closed += 1;
            }
        });
    }
    assert_eq!(closed, opened, "each session is finalized once");
    assert!(arena.stats().bytes_live < 100_000, "{:?}", arena.stats());
    arena.verify().expect("a valid heap");
}

#[test]
fn stops() {
    soak(Mode::StopTheWorld);
}

#[test]
fn steps() {
    soak(Mode::Incremental);
}

/// Full cycles are rare here, and minor collections many.
#[test]
fn generations() {
    soak(Mode::Generational);
}
