//! For authors of language runtimes: a virtual machine's objects on the package's heap, and another collector that reports its cycles.
//! Both show in one trace, with their pauses and sizes.
//!
//! ```sh
//! cargo run --release --example embed_gc
//! go tool trace embed_gc.trace
//! ```

use exectrace::gc::{Arena, Collect, Config, Gc, GcCell, Mutation, Rootable};
use exectrace::hooks::gc::{GcHeap, Stw};
use std::error::Error;
use std::fs::File;
use std::thread;

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

exectrace::interpose!();

fn main() -> Result<(), Box<dyn Error>> {
    let path = "embed_gc.trace";
    exectrace::start(File::create(path).map_err(|e| format!("{path}: {e}"))?)?;
    let ours = thread::Builder::new().name("mark-sweep".into()).spawn(on_our_heap)?;
    let other = thread::Builder::new().name("semi-space".into()).spawn(on_another_heap)?;
    let heap = ours.join().expect("the heap's own checks hold");
    let (cycles, sum) = other.join().expect("the heap's own checks hold");
    let stats = exectrace::stop()?;

    println!(
        "mark-sweep: {} cycles, {} pauses of {:.0} us at most, {} assists; {} bytes live, goal {}",
        heap.cycles,
        heap.stw.count,
        heap.stw.ns_max as f64 / 1e3,
        heap.assists.count,
        heap.bytes_live,
        heap.bytes_goal
    );
    println!("semi-space: {cycles} cycles, the list's sum is {sum}");
    println!("{path}: {} bytes, {} events lost", stats.bytes, stats.lost_events());
    println!("the pauses and their share: go tool trace {path}, then \"Minimum mutator utilization\"");
    Ok(())
}

// ---- The package's heap ----------------------------------------------------------------------------------------------

/// A value of the little machine: what its objects refer to, `derive(Collect)` finds.
#[derive(Clone, Copy, Collect)]
enum Value<'gc> {
    Nil,
    Number(i64),
    Cons(Gc<'gc, Cons<'gc>>),
}

#[derive(Collect)]
struct Cons<'gc> {
    head: Value<'gc>,
    /// Changed after the object was made, so it stands in a cell, whose write barrier the collector needs.
    tail: GcCell<'gc, Value<'gc>>,
}

/// What the machine holds on to: the root, from which all that lives is found.
#[derive(Collect)]
struct Machine<'gc> {
    registers: [GcCell<'gc, Value<'gc>>; 4],
}

type MachineRoot = Rootable!['gc => Machine<'gc>];

fn on_our_heap() -> exectrace::gc::HeapStats {
    let config = Config::new().heap_bytes_min(1 << 20).gc_percent(Some(100));
    let mut arena =
        Arena::<MachineRoot>::new(config, |_| Machine { registers: std::array::from_fn(|_| GcCell::new(Value::Nil)) });
    for step in 0..4_000 {
        // An instruction of the machine: objects are made, registers change.
        arena.mutate(|mc, machine| {
            let list = build(mc, step, 500);
            machine.registers[(step % 4) as usize].set(mc, list);
        });
        // Between two instructions a cycle may begin.
        arena.safepoint();
    }
    let sums = arena.mutate(|_, machine| machine.registers.each_ref().map(|r| sum(r.get())));
    assert_eq!(sums, [3996, 3997, 3998, 3999].map(|step| 500 * step + 499 * 500 / 2));
    arena.stats()
}

/// A list of numbers from `first`, built at its end.
fn build<'gc>(mc: &Mutation<'gc>, first: i64, n: i64) -> Value<'gc> {
    let cons = |i| mc.alloc(Cons { head: Value::Number(first + i), tail: GcCell::new(Value::Nil) });
    let begin = cons(0);
    let mut end = begin;
    for i in 1..n {
        let next = cons(i);
        end.tail.set(mc, Value::Cons(next));
        end = next;
    }
    Value::Cons(begin)
}

fn sum(mut list: Value<'_>) -> i64 {
    let mut sum = 0;
    while let Value::Cons(cons) = list {
        if let Value::Number(n) = cons.head {
            sum += n;
        }
        list = cons.tail.get();
    }
    sum
}

// ---- Another collector -----------------------------------------------------------------------------------------------

/// A copying collector in its simplest form: cells of two words in one of two spaces. What it tells the tracer is in `collect`.
struct SemiSpace {
    from: Vec<[u32; 2]>,
    to: Vec<[u32; 2]>,
    capacity: usize,
    /// The root: a cell's index plus one, or 0.
    root: u32,
    cycles: u32,
    trace: GcHeap,
}

const CELL_BYTES: usize = size_of::<[u32; 2]>();

impl SemiSpace {
    fn new(capacity: usize) -> SemiSpace {
        let trace = GcHeap::new();
        trace.set_goal((capacity * CELL_BYTES) as u64);
        let spaces = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        SemiSpace { from: spaces.0, to: spaces.1, capacity, root: 0, cycles: 0, trace }
    }

    /// A new cell, in front of the list.
    fn push(&mut self, value: u32) {
        if self.from.len() == self.capacity {
            self.collect();
        }
        assert!(self.from.len() < self.capacity, "the live cells fill a space");
        self.from.push([value, self.root]);
        self.root = self.from.len() as u32;
        if self.from.len().is_multiple_of(4096) {
            // Now and then, not each time: a point of the curve costs some ten nanoseconds.
            self.trace.set_live((self.from.len() * CELL_BYTES) as u64);
        }
    }

    /// Copies what can be reached into the other space.
    fn collect(&mut self) {
        self.trace.cycle_begin();
        self.trace.stw_begin(Stw::MarkTermination);
        self.to.clear();
        let mut at = self.root;
        while at != 0 {
            let [value, next] = self.from[at as usize - 1];
            let next_copied = if next == 0 { 0 } else { self.to.len() as u32 + 2 };
            self.to.push([value, next_copied]);
            at = next;
        }
        self.root = u32::from(!self.to.is_empty());
        std::mem::swap(&mut self.from, &mut self.to);
        self.cycles += 1;
        self.trace.stw_end();
        self.trace.set_live((self.from.len() * CELL_BYTES) as u64);
        self.trace.cycle_end();
    }
}

fn on_another_heap() -> (u32, u64) {
    let mut heap = SemiSpace::new(1 << 16);
    for i in 0..2_000_000u32 {
        // The list is dropped each 10,000 cells.
        if i.is_multiple_of(10_000) {
            heap.root = 0;
        }
        heap.push(i);
    }
    let (mut sum, mut at) = (0, heap.root);
    while at != 0 {
        let [value, next] = heap.from[at as usize - 1];
        (sum, at) = (sum + u64::from(value), next);
    }
    assert_eq!(sum, (1_990_000..2_000_000u64).sum());
    (heap.cycles, sum)
}
