//! Programs over the whole of the heap's API, told by bytes, each step of which is done on a slow and obvious model as well.
//!
//! The model has numbers instead of references. What the heap hands out must carry the number that the model expects; what
//! dies, and what weak references, ephemerons and finalizers make of it, is compared exactly when the program asks for
//! a full collection. Shared by the seeded test and the fuzz target.

use exectrace::gc::{
    Arena, ById, Config, Ephemeron, Finalizers, Gc, GcCell, GcMap, GcString, GcVec, GcWeak, Mode, Mutation, Root,
    Rootable, Static, WeakMap,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

type Id = u64;
type Ref<'gc> = Gc<'gc, Thing<'gc>>;

/// Every object of the program. The kind decides which of its parts is used.
struct Thing<'gc> {
    id: Id,
    name: Option<GcString<'gc>>,
    pair: [GcCell<'gc, Option<Ref<'gc>>>; 2],
    vec: GcVec<'gc, Ref<'gc>>,
    map: GcMap<'gc, ById<Ref<'gc>>, Ref<'gc>>,
    weak_map: WeakMap<'gc, Thing<'gc>, Ref<'gc>>,
    weak: GcCell<'gc, Option<GcWeak<'gc, Thing<'gc>>>>,
    ephemeron: GcCell<'gc, Option<Ephemeron<'gc, Thing<'gc>, Ref<'gc>>>>,
    guard: Static<Option<Guard>>,
    /// Makes some of the objects large ones.
    ballast: Option<Gc<'gc, [u64; 1100]>>,
}
exectrace::collect_fields!(impl['gc] struct Thing<'gc> {
    id, name, pair, vec, map, weak_map, weak, ephemeron, guard, ballast
});

/// Counts its drops.
struct Guard(Rc<Cell<u64>>);
impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// The model's object.
#[derive(Default)]
struct Twin {
    pair: [Option<Id>; 2],
    vec: Vec<Id>,
    map: BTreeMap<Id, Id>,
    weak_map: BTreeMap<Id, Id>,
    weak: Option<Id>,
    /// The target may have died and come back as something to be finalized, or with such a thing.
    weak_lost: bool,
    ephemeron: Option<(Id, Id)>,
    has_guard: bool,
}

const GLOBALS: usize = 12;
type Globals = Rootable!['gc => [GcCell<'gc, Option<Ref<'gc>>>; GLOBALS]];
type ThingRoot = Rootable!['gc => Thing<'gc>];

/// The bytes that tell what to do.
struct Source<'a>(&'a [u8]);
impl Source<'_> {
    fn below(&mut self, n: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first as usize % n.max(1)
    }
}

#[derive(Default)]
struct Model {
    things: BTreeMap<Id, Twin>,
    globals: [Option<Id>; GLOBALS],
    handles: Vec<Id>,
    watched: BTreeMap<Id, u32>,
    guards: u64,
}

impl Model {
    /// What can be reached, with the values of ephemerons whose keys can be.
    fn reachable(&self, held: impl IntoIterator<Item = Id>) -> BTreeSet<Id> {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<Id> = self.globals.iter().flatten().chain(&self.handles).copied().chain(held).collect();
        loop {
            while let Some(id) = todo.pop() {
                if seen.insert(id) {
                    let t = &self.things[&id];
                    todo.extend(t.pair.iter().flatten().chain(&t.vec));
                    todo.extend(t.map.iter().flat_map(|(k, v)| [k, v]));
                }
            }
            for id in &seen {
                let t = &self.things[id];
                let pairs = t.weak_map.iter().map(|(k, v)| (*k, *v)).chain(t.ephemeron);
                todo.extend(pairs.filter(|(k, v)| seen.contains(k) && !seen.contains(v)).map(|(_, v)| v));
            }
            if todo.is_empty() {
                return seen;
            }
        }
    }
}

struct Program {
    arena: Arena<Globals>,
    model: Model,
    handles: Vec<Root<ThingRoot>>,
    finalizers: Finalizers<ThingRoot>,
    next_id: Id,
    dropped: Rc<Cell<u64>>,
    refused: u64,
}

/// Runs a program, and returns how many requests for memory were refused.
pub fn run(config: Config, data: &[u8]) -> u64 {
    run_with_memory(config, data, None)
}

/// As [`run`], where of the requests for memory after the heap was made only the first `grants` are granted, until the
/// program says otherwise.
pub fn run_with_memory(config: Config, data: &[u8], grants: Option<u32>) -> u64 {
    let mut source = Source(data);
    let mut arena = Arena::<Globals>::new(config, |_| std::array::from_fn(|_| GcCell::new(None)));
    let finalizers = arena.mutate(|mc, _| mc.finalizers());
    let dropped = Rc::default();
    exectrace::gc::refuse_memory_after(grants);
    let mut p =
        Program { arena, model: Model::default(), handles: Vec::new(), finalizers, next_id: 1, dropped, refused: 0 };
    while !source.0.is_empty() {
        match source.below(32) {
            0 => p.arena.collect(),
            1 => drop(p.arena.step(source.below(256) * 64)),
            2 => p.exactly(),
            3 => p.arena.verify().expect("the heap is in order"),
            4 => p.arena.set_gc_percent(if source.below(8) == 0 { None } else { Some(10 + source.below(256) as u32) }),
            5 => p.arena.mutate(|mc, _| mc.adjust_external(if mc.stats().bytes_external > 0 { -4096 } else { 4096 })),
            6 => exectrace::gc::refuse_memory_after(Some(source.below(4) as u32)),
            7 => exectrace::gc::refuse_memory_after(None),
            _ => p.mutate(&mut source),
        }
        p.arena.safepoint();
    }
    exectrace::gc::refuse_memory_after(None);
    p.exactly();
    let Program { arena, model, dropped, .. } = p;
    drop((p.handles, p.finalizers, arena));
    assert_eq!(dropped.get(), model.guards);
    p.refused
}

/// A configuration told by bytes.
#[allow(dead_code)] // The seeded test says what it wants.
pub fn config(data: &[u8]) -> Config {
    let mut s = Source(data);
    let mode = [Mode::StopTheWorld, Mode::Incremental, Mode::Generational][s.below(3)];
    let config = Config::new().mode(mode).poison(true).stress(s.below(4) == 0).heap_bytes_min(1 << (14 + s.below(8)));
    let config = if s.below(2) == 0 { config.max_pause(Duration::ZERO) } else { config };
    if s.below(4) == 0 { config.heap_bytes_max(8 << 20) } else { config }
}

impl Program {
    fn mutate(&mut self, source: &mut Source<'_>) {
        let Program { arena, model, handles, finalizers, next_id, dropped, refused } = self;
        arena.mutate(|mc, globals| {
            let mut held: Vec<Ref> = Vec::new();
            for _ in 0..source.below(64) {
                let op = source.below(24);
                let pick = |held: &Vec<Ref<'_>>, s: &mut Source<'_>| (!held.is_empty()).then(|| s.below(held.len()));
                let (a, b) = (pick(&held, source).map(|i| held[i]), pick(&held, source).map(|i| held[i]));
                let ok = match (op, a, b) {
                    (0..=4, _, _) => match make(mc, *next_id, source.below(16), dropped) {
                        Ok(thing) => {
                            let has_guard = thing.guard.is_some();
                            model.guards += u64::from(has_guard);
                            model.things.insert(*next_id, Twin { has_guard, ..Twin::default() });
                            *next_id += 1;
                            held.push(thing);
                            Ok(())
                        }
                        Err(e) => Err(e),
                    },
                    (5 | 6, _, _) => {
                        let at = source.below(GLOBALS);
                        globals[at].set(mc, a);
                        model.globals[at] = a.map(|t| t.id);
                        Ok(())
                    }
                    (7 | 8, _, _) => {
                        let at = source.below(GLOBALS);
                        assert_eq!(globals[at].get().map(|t| t.id), model.globals[at]);
                        held.extend(globals[at].get());
                        Ok(())
                    }
                    (9, _, _) => {
                        if let Some(i) = (!handles.is_empty()).then(|| source.below(handles.len())) {
                            let thing = handles[i].get(mc);
                            assert_eq!(thing.id, model.handles[i]);
                            held.push(thing);
                            if source.below(2) == 0 {
                                handles.swap_remove(i);
                                model.handles.swap_remove(i);
                            }
                        }
                        Ok(())
                    }
                    (10, _, _) => {
                        // All that wait, before any of them is used.
                        let dead: Vec<Ref> = std::iter::from_fn(|| finalizers.next(mc)).collect();
                        let alive = model.reachable(held.iter().map(|t| t.id));
                        for t in &dead {
                            assert!(!alive.contains(&t.id), "{} is alive", t.id);
                            let times = model.watched.get_mut(&t.id).expect("watched");
                            *times = times.checked_sub(1).expect("told of as often as watched");
                        }
                        if !dead.is_empty() {
                            for t in model.things.values_mut() {
                                t.weak_lost |= t.weak.is_some_and(|id| !alive.contains(&id));
                            }
                        }
                        held.extend(dead);
                        Ok(())
                    }
                    (op, Some(a), b) => act(mc, model, &mut held, handles, finalizers, source, (op, a, b.unwrap_or(a))),
                    _ => Ok(()),
                };
                *refused += u64::from(ok.is_err());
                if held.len() > 40 {
                    held.drain(..20);
                }
            }
        });
    }

    /// Collects until nothing more comes of it, and compares all there is.
    fn exactly(&mut self) {
        let Program { arena, model, finalizers, handles, .. } = self;
        loop {
            arena.collect();
            let told: Vec<Id> =
                arena.mutate(|mc, _| std::iter::from_fn(|| finalizers.next(mc).map(|t| t.id)).collect());
            for id in &told {
                *model.watched.get_mut(id).expect("watched") -= 1;
            }
            if told.is_empty() {
                break;
            }
        }
        arena.verify().expect("the heap is in order");
        let alive = model.reachable([]);
        model.watched.retain(|_, times| *times > 0);
        assert!(model.watched.keys().all(|id| alive.contains(id)), "a dead object that was not told of");
        model.things.retain(|id, _| alive.contains(id));
        for t in model.things.values_mut() {
            t.weak = t.weak.filter(|id| alive.contains(id));
            t.ephemeron = t.ephemeron.filter(|(k, _)| alive.contains(k));
            t.weak_map.retain(|k, _| alive.contains(k));
        }
        arena.mutate(|mc, globals| {
            let mut seen = BTreeSet::new();
            let mut todo: Vec<Ref> = globals.iter().filter_map(GcCell::get).collect();
            todo.extend(handles.iter().map(|h| h.get(mc)));
            while let Some(t) = todo.pop() {
                if seen.insert(t.id) {
                    compare(mc, &model.things[&t.id], t, &mut todo);
                }
            }
            assert_eq!(seen, alive);
        });
        let mut things = 0;
        arena.for_each_type(|t| {
            things += if t.name.split('<').next().is_some_and(|n| n.ends_with("Thing")) { t.objects_marked } else { 0 }
        });
        assert_eq!(things, alive.len(), "objects that nobody can reach");
        let guards = model.things.values().filter(|t| t.has_guard).count() as u64;
        assert_eq!(model.guards - self.dropped.get(), guards);
    }
}

fn make<'gc>(
    mc: &Mutation<'gc>,
    id: Id,
    kind: usize,
    dropped: &Rc<Cell<u64>>,
) -> Result<Ref<'gc>, exectrace::gc::OutOfMemory> {
    let ballast = if kind == 0 { Some(mc.try_alloc([id; 1100])?) } else { None };
    let name = if kind < 4 { Some(GcString::try_new(mc, &format!("thing {id}"))?) } else { None };
    let thing = Thing {
        id,
        name,
        pair: [GcCell::new(None), GcCell::new(None)],
        vec: GcVec::new(),
        map: GcMap::new(),
        weak_map: WeakMap::new(),
        weak: GcCell::new(None),
        ephemeron: GcCell::new(None),
        guard: Static((kind % 4 == 1).then(|| Guard(dropped.clone()))),
        ballast,
    };
    let had_guard = thing.guard.is_some();
    mc.try_alloc(thing).inspect_err(|_| {
        // The value was dropped with the request.
        if had_guard {
            dropped.set(dropped.get() - 1);
        }
    })
}

/// One step between objects that the program holds.
fn act<'gc>(
    mc: &Mutation<'gc>,
    model: &mut Model,
    held: &mut Vec<Ref<'gc>>,
    handles: &mut Vec<Root<ThingRoot>>,
    finalizers: &Finalizers<ThingRoot>,
    source: &mut Source<'_>,
    (op, a, b): (usize, Ref<'gc>, Ref<'gc>),
) -> Result<(), exectrace::gc::OutOfMemory> {
    let ids: Vec<Id> = held.iter().map(|t| t.id).collect();
    let alive = |model: &Model| model.reachable(ids.iter().copied());
    match op {
        11 | 12 => {
            let (i, to) = (source.below(2), (source.below(4) > 0).then_some(b));
            a.pair[i].set(mc, to);
            model.things.get_mut(&a.id).unwrap().pair[i] = to.map(|t| t.id);
        }
        13 => {
            let i = source.below(2);
            assert_eq!(a.pair[i].get().map(|t| t.id), model.things[&a.id].pair[i]);
            held.extend(a.pair[i].get());
        }
        14 => {
            a.vec.try_push(mc, b)?;
            model.things.get_mut(&a.id).unwrap().vec.push(b.id);
        }
        15 => {
            let twin = &mut model.things.get_mut(&a.id).unwrap().vec;
            let len = twin.len();
            assert_eq!(a.vec.len(), len);
            match source.below(6) {
                0 => assert_eq!(a.vec.pop(mc).map(|t| t.id), twin.pop()),
                1 => {
                    let to = source.below(len + 1);
                    a.vec.truncate(mc, to);
                    twin.truncate(to);
                }
                2 if len > 0 => {
                    let i = source.below(len);
                    assert_eq!(a.vec.swap_remove(mc, i).map(|t| t.id), Some(twin.swap_remove(i)));
                }
                3 if len > 0 => {
                    let i = source.below(len);
                    assert_eq!(a.vec.remove(mc, i).map(|t| t.id), Some(twin.remove(i)));
                }
                4 if len > 0 => {
                    let i = source.below(len);
                    assert!(a.vec.set(mc, i, b));
                    twin[i] = b.id;
                }
                _ => held.extend(a.vec.iter().take(4)),
            }
        }
        16 => {
            let old = a.map.try_insert(mc, ById(b), a)?;
            assert_eq!(old.map(|t| t.id), model.things.get_mut(&a.id).unwrap().map.insert(b.id, a.id));
        }
        17 => {
            let twin = &mut model.things.get_mut(&a.id).unwrap().map;
            let found = if source.below(2) == 0 { a.map.remove(mc, &ById(b)) } else { a.map.get(&ById(b)) };
            assert_eq!(found.map(|t| t.id), twin.get(&b.id).copied());
            if !a.map.contains_key(&ById(b)) {
                twin.remove(&b.id);
            }
            assert_eq!(a.map.len(), twin.len());
        }
        18 => {
            let value = held[source.below(held.len())];
            a.weak_map.try_insert(mc, b, value)?;
            model.things.get_mut(&a.id).unwrap().weak_map.insert(b.id, value.id);
        }
        19 => {
            let known = model.things[&a.id].weak_map.get(&b.id).copied();
            assert_eq!(a.weak_map.get(mc, b).map(|t| t.id), known);
            held.extend(a.weak_map.get(mc, b).copied());
            if source.below(4) == 0 {
                assert_eq!(a.weak_map.remove(mc, b), known.is_some());
                model.things.get_mut(&a.id).unwrap().weak_map.remove(&b.id);
            }
        }
        20 => {
            if source.below(2) == 0 {
                a.weak.set(mc, Some(GcWeak::try_new(mc, b)?));
                let twin = model.things.get_mut(&a.id).unwrap();
                (twin.weak, twin.weak_lost) = (Some(b.id), false);
            } else if let Some(weak) = a.weak.get() {
                let known = model.things[&a.id].weak;
                match weak.upgrade(mc) {
                    Some(t) => {
                        assert_eq!(Some(t.id), known);
                        held.push(t);
                    }
                    None if model.things[&a.id].weak_lost => model.things.get_mut(&a.id).unwrap().weak = None,
                    None => assert!(known.is_none_or(|id| !alive(model).contains(&id)), "a weak reference was lost"),
                }
            }
        }
        21 => {
            if source.below(2) == 0 {
                let value = held[source.below(held.len())];
                a.ephemeron.set(mc, Some(Ephemeron::try_new(mc, b, value)?));
                model.things.get_mut(&a.id).unwrap().ephemeron = Some((b.id, value.id));
            } else if let Some(pair) = a.ephemeron.get() {
                let known = model.things[&a.id].ephemeron;
                match (pair.key(mc), pair.value(mc)) {
                    (Some(k), Some(v)) => {
                        assert_eq!(Some((k.id, v.id)), known);
                        // A key that waits to be finalized is still there, which the model does not know of.
                        if alive(model).contains(&k.id) {
                            held.extend([k, *v]);
                        }
                    }
                    (None, None) => assert!(known.is_none_or(|(k, _)| !alive(model).contains(&k))),
                    _ => panic!("half an ephemeron"),
                }
            }
        }
        22 if handles.len() < 20 => {
            handles.push(mc.try_root(a)?);
            model.handles.push(a.id);
        }
        _ => {
            finalizers.try_watch(mc, a)?;
            *model.watched.entry(a.id).or_default() += 1;
        }
    }
    Ok(())
}

/// Everything that an object holds, and in `todo` what it refers to.
fn compare<'gc>(mc: &Mutation<'gc>, twin: &Twin, t: Ref<'gc>, todo: &mut Vec<Ref<'gc>>) {
    assert!(t.name.is_none_or(|n| *n == format!("thing {}", t.id)));
    assert!(t.ballast.is_none_or(|b| b.iter().all(|x| *x == t.id)));
    for (have, want) in t.pair.iter().zip(twin.pair) {
        assert_eq!(have.get().map(|t| t.id), want);
        todo.extend(have.get());
    }
    assert!(t.vec.iter().map(|t| t.id).eq(twin.vec.iter().copied()));
    todo.extend(t.vec.iter());
    let map: BTreeMap<Id, Id> = t.map.iter().map(|(k, v)| (k.0.id, v.id)).collect();
    assert_eq!(map, twin.map);
    todo.extend(t.map.iter().flat_map(|(k, v)| [k.0, v]));
    let weak_map: BTreeMap<Id, Id> = t.weak_map.iter(mc).map(|(k, v)| (k.id, v.id)).collect();
    assert_eq!(weak_map, twin.weak_map);
    todo.extend(t.weak_map.iter(mc).flat_map(|(k, v)| [k, *v]));
    let weak = t.weak.get().and_then(|w| w.upgrade(mc)).map(|t| t.id);
    assert!(weak == twin.weak || weak.is_none() && twin.weak_lost, "{weak:?} and not {:?}", twin.weak);
    let pair = t.ephemeron.get().and_then(|e| Some((e.key(mc)?, *e.value(mc)?)));
    assert_eq!(pair.map(|(k, v)| (k.id, v.id)), twin.ephemeron);
    todo.extend(pair.map(|(_, v)| v));
}
