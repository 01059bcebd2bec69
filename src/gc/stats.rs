//! Numbers about a heap: what a program may ask for at any time.

/// Durations of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Durations {
    /// How many there were.
    pub count: u64,
    /// Their sum in nanoseconds.
    pub ns_sum: u64,
    /// The longest in nanoseconds.
    pub ns_max: u64,
}

impl Durations {
    pub(super) fn add(&mut self, ns: u64) {
        self.count += 1;
        self.ns_sum += ns;
        self.ns_max = self.ns_max.max(ns);
    }
}

/// The state of a heap in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct HeapStats {
    /// Size of the heap in bytes: what the last cycle found alive, and all allocated since. Memory handed to a type in
    /// advance counts as allocated.
    pub bytes_live: usize,
    /// Memory outside of the heap that the embedder has reported, in bytes.
    pub bytes_external: usize,
    /// The size that the heap and the external memory may reach together before the next cycle ends.
    pub bytes_goal: usize,
    /// Memory mapped from the system for objects and their tables, in bytes.
    pub bytes_mapped: usize,
    /// Bytes allocated since the heap was made.
    pub bytes_allocated: u64,
    /// Cycles that ended, the abandoned ones included.
    pub cycles: u64,
    /// Cycles that ended early because the embedder's code panicked.
    pub cycles_abandoned: u64,
    /// Whether what the last cycle found alive, with the external memory, fills 7/8 of what the memory limit leaves.
    pub is_near_limit: bool,
    /// Whether a cycle is marking at this moment.
    pub is_marking: bool,
    /// Blocks whose dead objects were not dropped yet.
    pub blocks_unswept: usize,
    /// Stop-the-world phases.
    pub stw: Durations,
    /// Mark assists and steps.
    pub assists: Durations,
    /// Sweeps: of single blocks, and the sorting of all blocks after each cycle.
    pub sweeps: Durations,
    /// Collections of the young objects alone.
    pub minors: Durations,
}

/// One type on the heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TypeStats {
    /// The type's name as Rust spells it.
    pub name: &'static str,
    /// Size of an object, as it takes space; 0 for objects that are large or of many sizes.
    pub object_bytes: usize,
    /// Blocks of 32 KiB that hold the type.
    pub blocks: usize,
    /// Objects that are marked: between cycles those that the last cycle found alive.
    pub objects_marked: usize,
    /// Their size.
    pub bytes_marked: usize,
}
