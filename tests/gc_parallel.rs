//! Marking by several threads: it finds what one finds, and what goes wrong on one of them goes wrong in order.

use exectrace::gc::raw::{Hooks, Kind, RawHeap, RawVisitor};
use exectrace::gc::{
    Arena, Collect, Config, Ephemeron, Gc, GcCell, GcVec, GcWeak, Mode, Mutation, Rootable, Static, Visitor,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// xorshift64.
struct Random(u64);
impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// How much is done: all of it, a tenth of it with checks, next to nothing under Miri.
fn scale(n: usize) -> usize {
    match () {
        () if cfg!(miri) => n.div_ceil(400),
        () if cfg!(debug_assertions) => n.div_ceil(10),
        () => n,
    }
}

type Slot<'gc> = GcCell<'gc, Option<Any<'gc>>>;

#[derive(Clone, Copy)]
enum Any<'gc> {
    Pair(Gc<'gc, Pair<'gc>>),
    Owner(Gc<'gc, Owner<'gc>>),
    Leaf(Gc<'gc, [u64; 3]>),
    Long(Gc<'gc, GcVec<'gc, Option<Gc<'gc, Pair<'gc>>>>>),
    Weak(GcWeak<'gc, Pair<'gc>>),
    Pend(Ephemeron<'gc, Pair<'gc>, Slot<'gc>>),
}
exectrace::collect_fields!(impl['gc] enum Any<'gc> { Pair(x), Owner(x), Leaf(x), Long(x), Weak(x), Pend(x) });

struct Pair<'gc>([Slot<'gc>; 2]);
exectrace::collect_fields!(impl['gc] struct Pair<'gc>(slots));

struct Owner<'gc> {
    slots: Vec<Slot<'gc>>,
    dropped: Static<Dropped>,
}
exectrace::collect_fields!(impl['gc] struct Owner<'gc> { slots, dropped });

struct Dropped(Rc<Cell<usize>>);
impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

type World<'gc> = (GcVec<'gc, Any<'gc>>, GcVec<'gc, Gc<'gc, Pair<'gc>>>);
type WorldArena = Arena<Rootable!['gc => World<'gc>]>;

/// One more object of a random type, which refers to others of the table.
fn one_more<'gc>(mc: &Mutation<'gc>, world: &World<'gc>, random: &mut Random, dropped: &Rc<Cell<usize>>) -> Any<'gc> {
    let (all, pairs) = world;
    let any = |random: &mut Random| GcCell::new(all.get(random.below(all.len().max(1))));
    match random.below(20) {
        0..12 => {
            let pair = mc.alloc(Pair([any(random), any(random)]));
            pairs.push(mc, pair);
            Any::Pair(pair)
        }
        12..14 => {
            let slots = (0..random.below(6)).map(|_| any(random)).collect();
            Any::Owner(mc.alloc(Owner { slots, dropped: Static(Dropped(dropped.clone())) }))
        }
        14..16 => Any::Leaf(mc.alloc([random.0; 3])),
        16 => {
            let long = mc.alloc(GcVec::new());
            // Some beyond what is visited in one go, most short.
            for _ in 0..if random.below(50) == 0 { 5000 } else { random.below(20) } {
                long.push(mc, pairs.get(random.below(pairs.len().max(1))));
            }
            Any::Long(long)
        }
        17 if !pairs.is_empty() => Any::Weak(GcWeak::new(mc, pairs.get(random.below(pairs.len())).unwrap())),
        _ if !pairs.is_empty() => {
            let key = pairs.get(random.below(pairs.len())).unwrap();
            Any::Pend(Ephemeron::new(mc, key, any(random)))
        }
        _ => Any::Leaf(mc.alloc([0; 3])),
    }
}

/// Objects and bytes of each type, objects dropped, and weak references and ephemerons that lead somewhere.
type State = (BTreeMap<String, (usize, usize)>, usize, usize);

/// Makes a world, and lets it change and decay over some cycles. After each, all that can be told about it: how many objects
/// of each type are alive, how many were dropped, how many weak references and ephemerons still lead somewhere.
fn history(config: Config) -> Vec<State> {
    let dropped = Rc::new(Cell::new(0));
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut arena = WorldArena::new(config.poison(true), |_| (GcVec::new(), GcVec::new()));
    let mut told = Vec::new();
    let size = scale(40_000);
    for _ in 0..8 {
        for _ in 0..size / 500 {
            arena.mutate(|mc, world| {
                for _ in 0..1000 {
                    let object = one_more(mc, world, &mut random, &dropped);
                    world.0.push(mc, object);
                }
            });
        }
        arena.mutate(|mc, (all, pairs)| {
            // A third stays in the table; what it refers to stays for that.
            for _ in 0..all.len() / 3 * 2 {
                all.swap_remove(mc, random.below(all.len()));
            }
            while pairs.pop(mc).is_some() {}
            for any in all.iter() {
                if let Any::Pair(pair) = any
                    && random.below(3) == 0
                {
                    pairs.push(mc, pair);
                    pair.0[0].set(mc, Some(all.get(random.below(all.len())).unwrap()));
                }
            }
        });
        arena.collect();
        arena.verify().unwrap();
        let mut types = BTreeMap::<String, (usize, usize)>::new();
        arena.for_each_type(|t| {
            let sum = types.entry(t.name.to_owned()).or_default();
            *sum = (sum.0 + t.objects_marked, sum.1 + t.bytes_marked);
        });
        let leads = arena.mutate(|mc, (all, _)| {
            let mut leads = 0;
            for any in all.iter() {
                leads += usize::from(match any {
                    Any::Weak(weak) => weak.upgrade(mc).is_some(),
                    Any::Pend(pend) => pend.key(mc).is_some(),
                    _ => false,
                });
            }
            leads
        });
        told.push((types, dropped.get(), leads));
    }
    drop(arena);
    told
}

#[test]
fn several_threads_find_what_one_finds() {
    let alone = history(Config::new().mode(Mode::StopTheWorld));
    assert!(alone.iter().all(|(types, dropped, leads)| types.len() > 6 && *dropped > 0 && *leads > 0), "{alone:?}");
    for threads in [2, 3, 4, 16] {
        let config = Config::new().mode(Mode::StopTheWorld).mark_threads(threads).mark_alone_bytes(0);
        assert!(history(config) == alone, "{threads} threads");
    }
    for mode in [Mode::Incremental, Mode::Generational] {
        // `collect` marks all anew, whatever happened before.
        assert!(history(Config::new().mode(mode).mark_threads(2)) == alone, "{mode:?}");
    }
}

struct Node<'gc> {
    next: Option<Gc<'gc, Node<'gc>>>,
}
exectrace::collect_fields!(impl['gc] struct Node<'gc> { next });

#[test]
fn deep_lists_and_wide_arrays_need_no_stack() {
    type List<'gc> = GcVec<'gc, Option<Gc<'gc, Node<'gc>>>>;
    let config = Config::new().mode(Mode::StopTheWorld).mark_threads(4).mark_alone_bytes(0);
    let mut arena = Arena::<Rootable!['gc => List<'gc>]>::new(config, |_| GcVec::new());
    let (lists, nodes) = (4, scale(1_000_000));
    arena.mutate(|mc, heads| {
        for _ in 0..lists {
            heads.push(mc, None);
        }
        for _ in 0..nodes {
            // The lists grow side by side, so that blocks have nodes of all of them.
            for i in 0..lists {
                heads.set(mc, i, Some(mc.alloc(Node { next: heads.get(i).unwrap() })));
            }
        }
        for _ in 0..nodes {
            heads.push(mc, Some(mc.alloc(Node { next: None })));
        }
    });
    arena.collect();
    arena.verify().unwrap();
    let count = |arena: &Arena<Rootable!['gc => List<'gc>]>| {
        let mut n = 0;
        arena.for_each_type(|t| {
            n += if t.name.contains("Node") && !t.name.contains('[') && t.object_bytes == 16 {
                t.objects_marked
            } else {
                0
            }
        });
        n
    };
    assert!(count(&arena) >= (lists + 1) * nodes);
    arena.mutate(|mc, heads| heads.truncate(mc, 1));
    arena.collect();
    arena.verify().unwrap();
    assert!(count(&arena) >= nodes && count(&arena) < nodes + 10);
}

/// A value whose `visit` panics if it is told to, on the heap's thread or on any but that.
struct Brittle<'gc> {
    next: GcCell<'gc, Option<Gc<'gc, Brittle<'gc>>>>,
    more: [GcCell<'gc, Option<Gc<'gc, Brittle<'gc>>>>; 2],
}

static PANIC_AT_HOME: AtomicBool = AtomicBool::new(false);
static PANIC_ELSEWHERE: AtomicBool = AtomicBool::new(false);
std::thread_local!(static IS_HOME: Cell<bool> = const { Cell::new(false) });

// SAFETY: all references are shown; nothing is written to.
unsafe impl Collect for Brittle<'_> {
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        let flag = if IS_HOME.get() { &PANIC_AT_HOME } else { &PANIC_ELSEWHERE };
        assert!(!flag.load(Ordering::Relaxed), "brittle");
        self.next.visit(visitor);
        self.more.visit(visitor);
    }
}

#[test]
fn a_panic_on_any_thread_ends_the_cycle_on_all() {
    IS_HOME.set(true);
    type List<'gc> = GcCell<'gc, Option<Gc<'gc, Brittle<'gc>>>>;
    let config = Config::new().mode(Mode::StopTheWorld).mark_threads(3).mark_alone_bytes(0);
    let mut arena = Arena::<Rootable!['gc => List<'gc>]>::new(config.poison(true), |_| GcCell::new(None));
    let n = scale(300_000);
    let mut random = Random(7);
    arena.mutate(|mc, root| {
        let mut all: Vec<Gc<Brittle>> = Vec::new();
        for i in 0..n {
            let any = || GcCell::new(None);
            let node = mc.alloc(Brittle { next: GcCell::new(root.get()), more: [any(), any()] });
            if i > 0 {
                node.more[0].set(mc, Some(all[random.below(i)]));
                node.more[1].set(mc, Some(all[random.below(i)]));
            }
            all.push(node);
            root.set(mc, Some(node));
        }
    });
    let count = |arena: &mut Arena<Rootable!['gc => List<'gc>]>| {
        arena.mutate(|_, root| std::iter::successors(root.get(), |n| n.next.get()).count())
    };
    arena.collect();
    let mut abandoned = 0;
    for round in 0..if cfg!(miri) { 2 } else { 20 } {
        let flag = if round % 2 == 0 { &PANIC_ELSEWHERE } else { &PANIC_AT_HOME };
        flag.store(true, Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| arena.collect()));
        flag.store(false, Ordering::Relaxed);
        // The others may have come too late to meet one; at home there is always one.
        if let Err(panic) = result {
            assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("brittle")));
            abandoned += 1;
        }
        assert_eq!(arena.stats().cycles_abandoned, abandoned);
        arena.verify().unwrap();
        assert_eq!(count(&mut arena), n);
        arena.collect();
        arena.verify().unwrap();
        assert_eq!(count(&mut arena), n);
    }
    assert!(abandoned >= if cfg!(miri) { 1 } else { 10 });
}

/// A reference and a number.
#[repr(C)]
struct Cons(*mut Cons, *mut Cons, u64);

/// # Safety
/// A cons of the heap.
unsafe fn visit_cons(object: NonNull<u8>, visitor: &mut RawVisitor<'_>) {
    // SAFETY: the heap asks about conses only.
    let cons = unsafe { object.cast::<Cons>().as_ref() };
    // SAFETY: null or a cons of this heap.
    unsafe { visitor.edge_or_null(cons.0.cast()) };
    // SAFETY: as above.
    unsafe { visitor.edge_or_null(cons.1.cast()) };
}
static CONS: Kind = Kind::fixed("cons", size_of::<Cons>(), Some(visit_cons), None);

/// # Safety
/// `roots` is a vector of conses of the heap.
unsafe fn visit_roots(roots: *mut (), visitor: &mut RawVisitor<'_>) {
    // SAFETY: the hooks were made with such a vector, which outlives the heap.
    for cons in unsafe { &*roots.cast::<Vec<*mut Cons>>() } {
        // SAFETY: null or a cons of this heap.
        unsafe { visitor.edge_or_null(cons.cast()) };
    }
}

#[test]
fn the_layer_without_types_marks_with_several_threads() {
    let mut roots: Vec<*mut Cons> = vec![std::ptr::null_mut()];
    let hooks = Hooks { data: (&raw mut roots).cast(), roots: visit_roots, marked: None };
    let config = Config::new().mode(Mode::StopTheWorld).mark_threads(2).mark_alone_bytes(0).poison(true);
    // SAFETY: the roots outlive the heap.
    let mut heap = unsafe { RawHeap::new(config, hooks) }.unwrap();
    fn tree(heap: &RawHeap, depth: u64) -> *mut Cons {
        if depth == 0 {
            return std::ptr::null_mut();
        }
        let (left, right) = (tree(heap, depth - 1), tree(heap, depth - 1));
        let cons = heap.alloc(&CONS).unwrap().cast::<Cons>();
        // SAFETY: fresh memory for a cons.
        unsafe { cons.write(Cons(left, right, depth)) };
        cons.as_ptr()
    }
    fn check(cons: *mut Cons, depth: u64) {
        if depth == 0 {
            return assert!(cons.is_null());
        }
        // SAFETY: a cons that the roots hold.
        let Cons(left, right, at) = unsafe { cons.read() };
        assert_eq!(at, depth);
        check(left, depth - 1);
        check(right, depth - 1);
    }
    let depth = if cfg!(miri) { 7 } else { 16 };
    for _ in 0..5 {
        roots[0] = tree(&heap, depth);
        tree(&heap, depth);
        // SAFETY: all that is used is in the roots.
        unsafe { heap.collect() };
        check(roots[0], depth);
        // SAFETY: as above.
        unsafe { heap.verify() }.unwrap();
        assert_eq!(heap.stats().bytes_live, ((1 << depth) - 1) * size_of::<Cons>() + 16);
    }
}

#[test]
#[cfg(all(unix, not(miri)))]
fn a_child_of_fork_marks_alone_or_with_threads_of_its_own() {
    let config = Config::new().mode(Mode::StopTheWorld).mark_threads(2).mark_alone_bytes(0);
    type List<'gc> = GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>;
    let mut arena = Arena::<Rootable!['gc => List<'gc>]>::new(config, |_| GcCell::new(None));
    arena.mutate(|mc, list| {
        for _ in 0..10_000 {
            list.set(mc, Some(mc.alloc(Node { next: list.get() })));
        }
    });
    arena.collect();
    let live = arena.stats().bytes_live;
    // SAFETY: the child uses the heap, which is of this thread alone, and ends.
    match unsafe { libc::fork() } {
        0 => {
            arena.collect();
            arena.collect();
            let right = arena.stats().bytes_live == live;
            drop(arena);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if right { 7 } else { 1 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child of above.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
        }
    }
    arena.collect();
    assert_eq!(arena.stats().bytes_live, live);
}
