//! Recorded allocations: what [`format::private::allocations`](crate::format::private::allocations) describes, decoded record
//! by record.
//!
//! A batch is one thread's, in the order in which things happened to it. To put those of several threads in order is the
//! caller's: times are good enough for that, see [`AllocationKind`].

use super::error::{Error, Faulty, fault};
use super::table::Fields;
use super::{GoId, StackId, StringId, TaskId, ThreadId, Time};
use crate::format::private::allocations as wire;
use crate::format::varint::{self, unzigzag};

/// A batch of allocations and frees of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocations<'a> {
    /// The thread, as a goroutine.
    pub goroutine: GoId,
    /// 0 if every operation was recorded; else the mean number of bytes between two samples.
    pub interval_bytes: u64,
    generation: u64,
    thread: ThreadId,
    begin: Time,
    data: &'a [u8],
}

/// What happened to a block. Addresses are the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationKind {
    /// It was allocated; the time is just after.
    Alloc {
        /// Where it is.
        address: u64,
        /// Its size in bytes, as asked for.
        size: u64,
        /// Its alignment in bytes, as asked for.
        align: u64,
    },
    /// It is about to be freed; the time is just before.
    Free {
        /// Where it is.
        address: u64,
    },
    /// It was given another size, and maybe another place. The time is just after, so that the old place may have been given to
    /// another thread before.
    Realloc {
        /// Where it was.
        old: u64,
        /// Where it is.
        new: u64,
        /// Its new size in bytes; in a sample, 0 if it is no longer in it.
        size: u64,
        /// Its alignment in bytes.
        align: u64,
    },
    /// The program mapped memory (`mmap`), a megabyte or more; the time is just after. That is no block of the heap's, but the
    /// allocator may have done it.
    Map {
        /// Where it is.
        address: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// So much is about to be unmapped, which may be part of a mapping, or several; the time is just before.
    Unmap {
        /// Where it begins.
        address: u64,
        /// Its size in bytes.
        size: u64,
    },
}

impl AllocationKind {
    /// Where the block is, or was before it was moved.
    #[must_use]
    #[inline]
    pub fn address(&self) -> u64 {
        match *self {
            AllocationKind::Alloc { address, .. }
            | AllocationKind::Free { address }
            | AllocationKind::Map { address, .. }
            | AllocationKind::Unmap { address, .. } => address,
            AllocationKind::Realloc { old, .. } => old,
        }
    }
}

/// What a thread was at: its innermost region and scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllocationContext {
    /// The task of the region; 0 if none.
    pub task: TaskId,
    /// The name of the region; none if none is open.
    pub region: StringId,
    /// The label of the scope; none if none is open.
    pub label: StringId,
}

/// A recorded operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// When.
    pub time: Time,
    /// What.
    pub kind: AllocationKind,
    /// With which stack; none if it was not taken.
    pub stack: StackId,
    /// In the middle of what.
    pub context: AllocationContext,
}

impl<'a> Allocations<'a> {
    /// Begins to decode the payload of a private section.
    pub(super) fn new(d: &mut Fields<'a>, generation: u64, thread: ThreadId, begin: Time) -> Faulty<Allocations<'a>> {
        let goroutine = GoId(d.number("the goroutine of a batch of allocations")?);
        let interval_bytes = d.number("the interval of a batch of allocations")?;
        Ok(Allocations { goroutine, interval_bytes, generation, thread, begin, data: d.rest })
    }

    /// The records, in the order in which things happened to the thread. After one that cannot be decoded comes no other.
    #[must_use]
    pub fn records(&self) -> AllocationRecords<'a> {
        AllocationRecords {
            rest: Fields { rest: self.data },
            generation: self.generation,
            thread: self.thread,
            last: self.begin,
            last_address: 0,
            last_stack: [StackId(0); 4],
            context: AllocationContext { task: TaskId(0), region: StringId(0), label: StringId(0) },
        }
    }
}

/// The records of a batch, decoded one by one.
pub struct AllocationRecords<'a> {
    rest: Fields<'a>,
    generation: u64,
    thread: ThreadId,
    last: Time,
    last_address: u64,
    last_stack: [StackId; 4],
    context: AllocationContext,
}

impl Iterator for AllocationRecords<'_> {
    type Item = Result<Allocation, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.decode() {
            Ok(record) => record.map(Ok),
            Err(f) => {
                self.rest.rest = &[];
                Some(Err(f.at(Some(self.generation), self.thread.some(), None)))
            }
        }
    }
}

impl AllocationRecords<'_> {
    #[inline(always)]
    fn number(&mut self, what: &str) -> Faulty<u64> {
        match varint::read_wide(self.rest.rest) {
            Some((v, n)) => {
                self.rest.rest = &self.rest.rest[n..];
                Ok(v)
            }
            None => self.rest.number(what),
        }
    }

    #[inline]
    fn decode(&mut self) -> Faulty<Option<Allocation>> {
        let head = loop {
            let Some(head) = self.rest.byte() else { return Ok(None) };
            if head & wire::KIND_MASK != wire::CONTEXT || head >> wire::ALIGN_SHIFT != 0 {
                break head;
            }
            let task = TaskId(self.number("a task")?);
            let region = StringId(self.number("a region's name")?);
            let label = StringId(self.number("a label")?);
            self.context = AllocationContext { task, region, label };
        };
        let kind = head & wire::KIND_MASK;
        let dt = self.number("an allocation's time")?;
        self.last = self.last.plus(i64::try_from(dt).unwrap_or(i64::MAX));
        let address = self.address()?;
        let kind = match kind {
            wire::FREE => AllocationKind::Free { address },
            wire::ALLOC => {
                let (size, align) = self.size(head)?;
                AllocationKind::Alloc { address, size, align }
            }
            wire::CONTEXT => {
                let size = self.number("a mapping's size")?;
                match head >> wire::ALIGN_SHIFT {
                    wire::MAP => AllocationKind::Map { address, size },
                    wire::UNMAP => AllocationKind::Unmap { address, size },
                    other => return Err(fault!(Table, "an unknown kind of record: {other}")),
                }
            }
            _ => {
                let new = self.address()?;
                let (size, align) = self.size(head)?;
                AllocationKind::Realloc { old: address, new, size, align }
            }
        };
        let last = usize::from(head & wire::KIND_MASK);
        if head & wire::SAME_STACK == 0 {
            let stack = self.number("an allocation's stack")?;
            // Told by half, as all stacks that a tracer takes have even numbers.
            self.last_stack[last] = StackId(stack.wrapping_mul(2));
        }
        Ok(Some(Allocation { time: self.last, kind, stack: self.last_stack[last], context: self.context }))
    }

    #[inline]
    fn address(&mut self) -> Faulty<u64> {
        let moved = unzigzag(self.number("a block's address")?);
        self.last_address = self.last_address.wrapping_add(moved as u64);
        Ok(self.last_address.rotate_left(wire::ADDRESS_ROTATION))
    }

    #[inline]
    fn size(&mut self, head: u8) -> Faulty<(u64, u64)> {
        let size = self.number("a block's size")?;
        let log2 = match head >> wire::ALIGN_SHIFT {
            wire::ALIGN_FOLLOWS => self.number("a block's alignment")?,
            log2 => log2.into(),
        };
        match u32::try_from(log2).ok().and_then(|n| 1u64.checked_shl(n)) {
            Some(align) => Ok((size, align)),
            None => Err(fault!(Table, "alignment 2^{log2}: expected one of 64 bits")),
        }
    }
}
