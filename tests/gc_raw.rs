//! The layer without types: a runtime with objects of its own layout, checked against a model after each round.
//!
//! Objects are records of a few references and an identity, arrays of any length, and leaves that are dropped. The model
//! is a table of identities; what can be reached in it must be there and unharmed, what cannot must go, and a table of
//! weak references must lose exactly what goes.

use exectrace::gc::raw::{Hooks, Kind, Liveness, RawHeap, RawVisitor, SizedKind};
use exectrace::gc::{Config, Mode};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ptr::{self, NonNull};
use std::time::Duration;

const FIELDS: usize = 3;

/// What every object begins with.
#[repr(C)]
struct Head {
    id: u64,
    /// References in the object.
    len: u64,
}

static RECORD: Kind = Kind::fixed("record", 16 + 8 * FIELDS, Some(visit), None);
static ARRAY: SizedKind = SizedKind::new("array", Some(visit), None);
static LEAF: Kind = Kind::fixed("leaf", 24, None, Some(drop_leaf));

thread_local! {
    static DROPPED: Cell<usize> = const { Cell::new(0) };
}

/// # Safety
/// A dead leaf of the heap.
unsafe fn drop_leaf(object: NonNull<u8>) {
    // SAFETY: a leaf, which begins with a head.
    let head = unsafe { object.cast::<Head>().as_ref() };
    assert_eq!(head.len, 0);
    DROPPED.set(DROPPED.get() + 1);
}

/// The references of a record or an array stand behind its head.
///
/// # Safety
/// An object of this file that lives for `'a`.
unsafe fn fields<'a>(object: NonNull<u8>) -> &'a [Cell<*mut u8>] {
    // SAFETY: an object of this file, which begins with a head.
    let len = unsafe { object.cast::<Head>().as_ref() }.len as usize;
    // SAFETY: as many references stand behind it.
    unsafe { std::slice::from_raw_parts(object.add(16).cast().as_ptr(), len) }
}

/// # Safety
/// A record or an array of the heap.
unsafe fn visit(object: NonNull<u8>, visitor: &mut RawVisitor<'_>) {
    // SAFETY: a record or an array.
    for field in unsafe { fields(object) } {
        // SAFETY: null or an object of the heap.
        unsafe { visitor.edge_or_null(field.get()) };
    }
}

/// The runtime's own tables.
#[derive(Default)]
struct Tables {
    stack: RefCell<Vec<*mut u8>>,
    weak: RefCell<HashMap<u64, *mut u8>>,
}

/// # Safety
/// `data` is a `Tables`.
unsafe fn roots(data: *mut (), visitor: &mut RawVisitor<'_>) {
    // SAFETY: the hooks' data is the tables.
    let tables = unsafe { &*data.cast::<Tables>() };
    for object in tables.stack.borrow().iter() {
        // SAFETY: null or an object of the heap.
        unsafe { visitor.edge_or_null(*object) };
    }
}

/// # Safety
/// `data` is a `Tables`.
unsafe fn marked(data: *mut (), alive: &Liveness<'_>) {
    // SAFETY: the hooks' data is the tables.
    let tables = unsafe { &*data.cast::<Tables>() };
    tables.weak.borrow_mut().retain(|_, object| {
        // SAFETY: what is in the table was alive until now.
        unsafe { alive.is_alive(NonNull::new(*object).expect("not null")) }
    });
}

struct Random(u64);
impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// A heap and its model.
struct Machine {
    heap: RawHeap<()>,
    tables: Box<Tables>,
    /// The references of each object, by identity.
    model: HashMap<u64, Vec<Option<u64>>>,
    addresses: HashMap<u64, NonNull<u8>>,
    stack: Vec<Option<u64>>,
    leaves: usize,
    next: u64,
}

impl Machine {
    fn new(config: Config) -> Self {
        let tables = Box::<Tables>::default();
        *tables.stack.borrow_mut() = vec![ptr::null_mut(); 8];
        let hooks = Hooks { data: ptr::from_ref(&*tables).cast_mut().cast(), roots, marked: Some(marked) };
        // SAFETY: the tables are dropped after the heap.
        let heap = unsafe { RawHeap::with_observer(config, (), hooks) }.expect("memory");
        let (model, addresses) = (HashMap::new(), HashMap::new());
        Machine { heap, tables, model, addresses, stack: vec![None; 8], leaves: 0, next: 1 }
    }

    fn alloc(&mut self, random: &mut Random) -> u64 {
        let id = self.next;
        self.next += 1;
        let (object, len) = match random.below(20) {
            0..10 => (self.heap.alloc(&RECORD), FIELDS),
            10..15 => {
                self.leaves += 1;
                (self.heap.alloc(&LEAF), 0)
            }
            15..19 => {
                let len = random.below(40);
                (self.heap.alloc_sized(&ARRAY, 16 + 8 * len), len)
            }
            // With blocks of its own.
            _ => {
                let len = 1500 + random.below(6000);
                (self.heap.alloc_sized(&ARRAY, 16 + 8 * len), len)
            }
        };
        let object = object.expect("memory");
        // SAFETY: fresh memory with room for the head.
        unsafe { object.cast::<Head>().write(Head { id, len: len as u64 }) };
        for i in 0..len {
            // SAFETY: and for so many references behind it.
            unsafe { object.add(16).cast::<*mut u8>().add(i).write(ptr::null_mut()) };
        }
        self.model.insert(id, vec![None; len]);
        self.addresses.insert(id, object);
        self.tables.weak.borrow_mut().insert(id, object.as_ptr());
        id
    }

    fn address(&self, id: Option<u64>) -> *mut u8 {
        id.map_or(ptr::null_mut(), |id| self.addresses[&id].as_ptr())
    }

    /// Goes some steps from a place on the stack.
    fn walk(&self, random: &mut Random) -> Option<u64> {
        let mut at = self.stack[random.below(8)]?;
        for _ in 0..random.below(6) {
            let fields = &self.model[&at];
            if fields.is_empty() {
                break;
            }
            at = fields[random.below(fields.len())].unwrap_or(at);
        }
        Some(at)
    }

    fn write(&mut self, from: u64, index: usize, to: Option<u64>) {
        // SAFETY: an object that can be reached.
        let slot = &unsafe { fields(self.addresses[&from]) }[index];
        let new = self.address(to);
        // SAFETY: what stands there, and what will.
        unsafe { self.heap.before_write(slot.as_ptr().cast(), NonNull::new(slot.get()), NonNull::new(new)) };
        slot.set(new);
        self.model.get_mut(&from).expect("known")[index] = to;
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(10) {
            0..4 => {
                let new = self.alloc(random);
                if let Some(from) = self.walk(random)
                    && !self.model[&from].is_empty()
                {
                    let index = random.below(self.model[&from].len());
                    self.write(from, index, Some(new));
                } else {
                    self.set_stack(random.below(8), Some(new));
                }
            }
            4..7 => {
                let to = self.walk(random);
                if let Some(from) = self.walk(random)
                    && !self.model[&from].is_empty()
                {
                    let index = random.below(self.model[&from].len());
                    self.write(from, index, to);
                }
            }
            7 => {
                let to = self.walk(random);
                self.set_stack(random.below(8), to);
            }
            8 if random.below(10) == 0 => self.set_stack(random.below(8), None),
            _ => {}
        }
    }

    fn set_stack(&mut self, at: usize, to: Option<u64>) {
        self.stack[at] = to;
        self.tables.stack.borrow_mut()[at] = self.address(to);
    }

    /// Forgets what cannot be reached, and checks all that can.
    fn check(&mut self) {
        let mut seen: HashSet<u64> = HashSet::new();
        let mut todo: Vec<u64> = self.stack.iter().copied().flatten().collect();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            // SAFETY: it can be reached, so it must be there.
            let (head, fields) = unsafe { (self.addresses[&id].cast::<Head>().as_ref(), fields(self.addresses[&id])) };
            let expected = &self.model[&id];
            assert_eq!((head.id, fields.len()), (id, expected.len()));
            for (field, to) in fields.iter().zip(expected) {
                assert_eq!(field.get(), self.address(*to), "a field of {id}");
                todo.extend(to);
            }
        }
        self.model.retain(|id, _| seen.contains(id));
        self.addresses.retain(|id, _| seen.contains(id));
    }
}

fn run(config: Config, seed: u64, rounds: usize) {
    DROPPED.set(0);
    let mut machine = Machine::new(config);
    let mut random = Random(seed | 1);
    for round in 0..rounds {
        for _ in 0..200 {
            machine.step(&mut random);
        }
        machine.check();
        // SAFETY: what is used can be reached from the stack.
        unsafe { machine.heap.safepoint() };
        if round % 50 == 0 {
            // SAFETY: as above.
            unsafe { machine.heap.verify() }.expect("a valid heap");
        }
    }
    // SAFETY: as above.
    unsafe { machine.heap.collect() };
    machine.check();
    let weak: HashSet<u64> = machine.tables.weak.borrow().keys().copied().collect();
    assert_eq!(weak, machine.model.keys().copied().collect(), "weak references to what is alive, and no others");
    machine.tables.stack.borrow_mut().fill(ptr::null_mut());
    machine.stack.fill(None);
    // SAFETY: nothing is used.
    unsafe { machine.heap.collect() };
    assert!(machine.tables.weak.borrow().is_empty());
    assert_eq!(DROPPED.get(), machine.leaves, "each leaf is dropped once");
    let stats = machine.heap.stats();
    assert!(stats.bytes_live < 200, "{stats:?}");
}

#[test]
fn objects_of_an_own_layout_live_as_long_as_they_can_be_reached() {
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        for seed in 1..4 {
            let config = Config::new().mode(mode).heap_bytes_min(1 << 18).max_pause(Duration::ZERO).poison(true);
            run(config, seed * 0x9E37_79B9_7F4A_7C15, 1000);
        }
    }
}

#[test]
fn also_with_a_collection_at_every_safepoint() {
    run(Config::new().mode(Mode::Generational).stress(true).poison(true), 7, 100);
    run(Config::new().mode(Mode::Incremental).stress(true).poison(true), 8, 100);
}

#[test]
fn kinds_are_told_by_name_and_sizes_are_bounded() {
    let machine = Machine::new(Config::new());
    machine.heap.alloc(&RECORD).expect("memory");
    let mut machine = machine;
    // It was not written; nor can it be reached, and records are not dropped.
    let mut names = Vec::new();
    machine.heap.arena().for_each_type(|t| names.push(t.name));
    assert!(names.contains(&"record"), "{names:?}");
    assert!(machine.heap.alloc_sized(&ARRAY, usize::MAX).is_err());
    assert!(machine.heap.alloc_sized(&ARRAY, isize::MAX as usize).is_err());
}
