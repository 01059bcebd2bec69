//! Seeded random programs on the heap, each step of which is done on a slow and obvious model as well.
//!
//! The model is a table of objects with numbers instead of references. Objects carry their number and a pattern made of
//! it, so that one that was freed too early, moved, or mixed up with another shows. What the heap keeps is compared
//! with what the model can reach.

use exectrace::gc::{Arena, Config, Gc, GcCell, GcRefCell, Mode, Root, Rootable, Static};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

/// xorshift64*: enough for a test, and the same everywhere.
struct Random(u64);
impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

#[derive(Clone, Copy)]
enum Any<'gc> {
    Pair(Gc<'gc, Pair<'gc>>),
    Array(Gc<'gc, Array<'gc>>),
    Leaf(Gc<'gc, Leaf>),
    Owner(Gc<'gc, Owner<'gc>>),
    Big(Gc<'gc, Big<'gc>>),
}
exectrace::collect_fields!(impl['gc] enum Any<'gc> { Pair(x), Array(x), Leaf(x), Owner(x), Big(x) });

type Slot<'gc> = GcCell<'gc, Option<Any<'gc>>>;

/// 16 bytes of references and 8 of payload: the common case.
struct Pair<'gc> {
    id: u64,
    slots: [Slot<'gc>; 2],
}
exectrace::collect_fields!(impl['gc] struct Pair<'gc> { id, slots });

/// References in memory outside of the heap.
struct Array<'gc> {
    id: u64,
    slots: GcRefCell<'gc, Vec<Option<Any<'gc>>>>,
}
exectrace::collect_fields!(impl['gc] struct Array<'gc> { id, slots });

/// Nothing to visit.
struct Leaf {
    id: u64,
    pattern: [u64; 5],
}
exectrace::collect_static!(Leaf);

/// A type with something to drop.
struct Owner<'gc> {
    id: u64,
    guard: Static<Guard>,
    // Cells in memory outside of the heap.
    slots: Vec<Slot<'gc>>,
}
exectrace::collect_fields!(impl['gc] struct Owner<'gc> { id, guard, slots });
struct Guard {
    dropped: Rc<Cell<u64>>,
    text: String,
}
impl Drop for Guard {
    fn drop(&mut self) {
        assert!(self.text.starts_with("owner "));
        self.dropped.set(self.dropped.get() + 1);
    }
}

/// A large object of its own.
struct Big<'gc> {
    id: u64,
    slots: [Slot<'gc>; 4],
    pattern: [u64; 1200],
}
exectrace::collect_fields!(impl['gc] struct Big<'gc> { id, slots, pattern });

impl<'gc> Any<'gc> {
    fn id(self) -> u64 {
        match self {
            Any::Pair(x) => x.id,
            Any::Array(x) => x.id,
            Any::Owner(x) => {
                assert_eq!(x.guard.text, format!("owner {}", x.id));
                x.id
            }
            Any::Leaf(x) => {
                assert!(x.pattern.iter().all(|p| *p == x.id));
                x.id
            }
            Any::Big(x) => {
                assert!(x.pattern.iter().all(|p| *p == x.id));
                x.id
            }
        }
    }

    fn len(self) -> usize {
        match self {
            Any::Pair(_) => 2,
            Any::Array(x) => x.slots.borrow().len(),
            Any::Leaf(_) => 0,
            Any::Owner(_) => 3,
            Any::Big(_) => 4,
        }
    }

    fn get(self, i: usize) -> Option<Any<'gc>> {
        match self {
            Any::Pair(x) => x.slots[i].get(),
            Any::Array(x) => x.slots.borrow()[i],
            Any::Leaf(_) => None,
            Any::Owner(x) => x.slots[i].get(),
            Any::Big(x) => x.slots[i].get(),
        }
    }

    fn set(self, mc: &exectrace::gc::Mutation<'gc>, i: usize, to: Option<Any<'gc>>) {
        match self {
            Any::Pair(x) => x.slots[i].set(mc, to),
            Any::Array(x) => x.slots.borrow_mut(mc)[i] = to,
            Any::Leaf(_) => {}
            Any::Owner(x) => x.slots[i].set(mc, to),
            Any::Big(x) => x.slots[i].set(mc, to),
        }
    }
}

const GLOBALS: usize = 24;
type Globals = Rootable!['gc => GcRefCell<'gc, Vec<Option<Any<'gc>>>>];
type Handle = Root<Rootable!['gc => Slot<'gc>]>;

/// The model: an object is the list of what it refers to, by number.
#[derive(Default)]
struct Model {
    objects: HashMap<u64, Vec<Option<u64>>>,
    globals: Vec<Option<u64>>,
    handles: Vec<Option<u64>>,
    owners: HashSet<u64>,
}

impl Model {
    fn reachable(&self) -> HashSet<u64> {
        let mut seen = HashSet::new();
        let mut todo: Vec<u64> = self.globals.iter().chain(&self.handles).flatten().copied().collect();
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                todo.extend(self.objects[&id].iter().flatten());
            }
        }
        seen
    }
}

struct Run {
    random: Random,
    arena: Arena<Globals>,
    model: Model,
    handles: Vec<Handle>,
    next_id: u64,
    dropped: Rc<Cell<u64>>,
    owners_made: u64,
}

impl Run {
    fn new(seed: u64, config: Config) -> Self {
        Run {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            arena: Arena::new(config, |_| GcRefCell::new(vec![None; GLOBALS])),
            model: Model { globals: vec![None; GLOBALS], ..Model::default() },
            handles: Vec::new(),
            next_id: 1,
            dropped: Rc::default(),
            owners_made: 0,
        }
    }

    /// A number of steps without a safepoint.
    fn mutate(&mut self, steps: usize) {
        let Run { random, arena, model, handles, next_id, dropped, owners_made } = self;
        arena.mutate(|mc, globals| {
            // What the program holds in its hands, also after it was unlinked.
            let mut held: Vec<Any> = Vec::new();
            for _ in 0..steps {
                match random.below(16) {
                    0..=5 => {
                        let id = *next_id;
                        *next_id += 1;
                        let kind = random.below(64);
                        let len = match kind {
                            0..40 => 2,
                            40..48 => 0,
                            48..56 => 3,
                            56..63 => random.below(20),
                            _ => 4,
                        };
                        let slots: Vec<Option<Any>> = (0..len)
                            .map(|_| (!held.is_empty() && random.below(3) > 0).then(|| held[random.below(held.len())]))
                            .collect();
                        model.objects.insert(id, slots.iter().map(|s| s.map(Any::id)).collect());
                        let slot = |i: usize| GcCell::new(slots[i]);
                        let object = match kind {
                            0..40 => Any::Pair(mc.alloc(Pair { id, slots: [slot(0), slot(1)] })),
                            40..48 => Any::Leaf(mc.alloc(Leaf { id, pattern: [id; 5] })),
                            48..56 => {
                                model.owners.insert(id);
                                *owners_made += 1;
                                let guard = Guard { dropped: dropped.clone(), text: format!("owner {id}") };
                                let slots = vec![slot(0), slot(1), slot(2)];
                                Any::Owner(mc.alloc(Owner { id, guard: Static(guard), slots }))
                            }
                            56..63 => Any::Array(mc.alloc(Array { id, slots: GcRefCell::new(slots.clone()) })),
                            _ => {
                                let slots = [slot(0), slot(1), slot(2), slot(3)];
                                Any::Big(mc.alloc(Big { id, slots, pattern: [id; 1200] }))
                            }
                        };
                        held.push(object);
                    }
                    6..=8 => {
                        let global = random.below(GLOBALS);
                        let to = (!held.is_empty()).then(|| held[random.below(held.len())]);
                        globals.borrow_mut(mc)[global] = to;
                        model.globals[global] = to.map(Any::id);
                    }
                    9..=11 => {
                        let global = random.below(GLOBALS);
                        let at = globals.borrow()[global];
                        assert_eq!(at.map(Any::id), model.globals[global]);
                        held.extend(at);
                    }
                    12..=13 if !held.is_empty() => {
                        let from = held[random.below(held.len())];
                        if from.len() > 0 {
                            let i = random.below(from.len());
                            let to = (random.below(4) > 0).then(|| held[random.below(held.len())]);
                            from.set(mc, i, to);
                            model.objects.get_mut(&from.id()).unwrap()[i] = to.map(Any::id);
                        }
                    }
                    14 if !held.is_empty() => {
                        let from = held[random.below(held.len())];
                        for i in 0..from.len() {
                            let to = from.get(i);
                            assert_eq!(to.map(Any::id), model.objects[&from.id()][i]);
                            held.extend(to);
                        }
                    }
                    _ => {
                        if random.below(2) == 0 && handles.len() < 40 {
                            let to = (!held.is_empty()).then(|| held[random.below(held.len())]);
                            handles.push(mc.root(mc.alloc(GcCell::new(to))));
                            model.handles.push(to.map(Any::id));
                        } else if !handles.is_empty() {
                            let i = random.below(handles.len());
                            let at = handles[i].get(mc).get();
                            assert_eq!(at.map(Any::id), model.handles[i]);
                            held.extend(at);
                            handles.swap_remove(i);
                            model.handles.swap_remove(i);
                        }
                    }
                }
                if held.len() > 64 {
                    held.drain(..32);
                }
            }
        });
    }

    /// Walks everything on both sides.
    fn compare(&mut self) {
        self.arena.verify().unwrap();
        let Run { arena, model, handles, .. } = self;
        let seen = arena.mutate(|mc, globals| {
            let mut seen = HashSet::new();
            let mut todo: Vec<Any> = globals.borrow().iter().flatten().copied().collect();
            todo.extend(handles.iter().filter_map(|h| h.get(mc).get()));
            while let Some(object) = todo.pop() {
                if seen.insert(object.id()) {
                    let expected = &model.objects[&object.id()];
                    assert_eq!(expected.len(), object.len());
                    for (i, to) in expected.iter().enumerate() {
                        assert_eq!(object.get(i).map(Any::id), *to);
                        todo.extend(object.get(i));
                    }
                }
            }
            seen
        });
        let reachable = model.reachable();
        assert_eq!(seen, reachable);
        model.objects.retain(|id, _| reachable.contains(id));
    }

    /// After a full collection the heap holds what the model can reach and nothing else.
    fn compare_exactly(&mut self) {
        self.arena.collect();
        self.compare();
        let owners = self.model.owners.iter().filter(|id| self.model.objects.contains_key(id)).count() as u64;
        assert_eq!(self.owners_made - self.dropped.get(), owners);
        let mut objects = 0;
        self.arena.for_each_type(|t| objects += t.objects_marked);
        // With the root and the handles' cells.
        assert_eq!(objects, self.model.objects.len() + 1 + self.handles.len());
    }
}

fn run(seed: u64, config: Config, rounds: usize, steps: usize, compare_each: usize) -> u64 {
    let mut run = Run::new(seed, config);
    for round in 0..rounds {
        run.mutate(steps);
        run.arena.safepoint();
        if run.random.below(8) == 0 {
            run.arena.step(run.random.below(100_000));
        }
        if round % compare_each == 0 {
            run.compare();
        }
        if run.random.below(200) == 0 {
            run.compare_exactly();
        }
    }
    run.compare_exactly();
    let (made, dropped, minors) = (run.owners_made, run.dropped.clone(), run.arena.stats().minors.count);
    drop(run);
    assert_eq!(dropped.get(), made);
    minors
}

fn scale(n: usize) -> usize {
    match () {
        () if cfg!(miri) => n.div_ceil(500),
        () if cfg!(debug_assertions) => n.div_ceil(10),
        () => n,
    }
}

fn tiny(mode: Mode) -> Config {
    Config::new().mode(mode).heap_bytes_min(1 << 18).poison(true)
}

#[test]
fn stop_the_world_agrees_with_the_model() {
    for seed in 1..=4 {
        run(seed, tiny(Mode::StopTheWorld), scale(4000), 200, 20);
    }
}

#[test]
fn incremental_agrees_with_the_model() {
    for seed in 1..=4 {
        // A pause target of nothing: steps as short as can be.
        run(seed + 100, tiny(Mode::Incremental).max_pause(Duration::ZERO), scale(4000), 200, 20);
    }
}

#[test]
fn generational_agrees_with_the_model() {
    let mut minors = 0;
    for seed in 1..=4 {
        minors += run(seed + 400, tiny(Mode::Generational).max_pause(Duration::ZERO), scale(4000), 200, 20);
    }
    assert!(minors > 10, "{minors}");
}

#[test]
fn several_markers_agree_with_the_model() {
    for (seed, threads) in [(1, 2), (2, 4)] {
        let config = |mode| tiny(mode).mark_threads(threads).mark_alone_bytes(0);
        run(seed + 500, config(Mode::StopTheWorld), scale(4000), 200, 20);
        // Steps that are soon overrun, so that cycles are finished in one go, with all kinds of work left over.
        run(seed + 510, config(Mode::Incremental).max_pause(Duration::ZERO), scale(4000), 200, 20);
        run(seed + 520, config(Mode::Generational).max_pause(Duration::ZERO), scale(4000), 200, 20);
        for mode in [Mode::Incremental, Mode::Generational] {
            run(seed + 530, config(mode).max_pause(Duration::ZERO).stress(true), scale(1000), 200, 10);
        }
    }
}

#[test]
fn stress_agrees_with_the_model() {
    // A cycle and a check of every invariant at every safepoint, and long mutations in which cycles end.
    for (seed, steps) in [(1, 20), (2, 200), (3, 2000)] {
        for mode in [Mode::Incremental, Mode::Generational] {
            let config = tiny(mode).max_pause(Duration::ZERO).stress(true);
            run(seed + 200, config, scale(200_000) / steps, steps, 10);
        }
    }
}

#[test]
fn a_heap_that_runs_out_of_memory_agrees_with_the_model() {
    let mut refused = 0;
    for seed in 1..=4 {
        let mut r = Run::new(seed + 300, tiny(Mode::Incremental).heap_bytes_max(4 << 20));
        for _ in 0..scale(400) {
            r.mutate(10);
            // Fills the heap with garbage up to the limit; `mutate` above must find room again after a collection.
            r.arena.mutate(|mc, _| {
                while let Ok(x) = mc.try_alloc([7_u64; 16]) {
                    assert_eq!(x[15], 7);
                }
                refused += 1;
            });
            r.compare();
            r.arena.collect();
            r.compare();
        }
        r.compare_exactly();
    }
    assert!(refused > 0);
}
