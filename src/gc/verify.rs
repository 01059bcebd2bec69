//! `verify`: checks the invariants of a whole heap, by itself and without trusting the marker. For tests, after each
//! step if they like.

use super::OutOfMemory;
use super::chunk::{BLOCK_BYTES, BLOCKS, Block, CHUNK_BYTES, Kind, QUEUED_NOT, TABLE_BLOCKS};
use super::heap::{Heap, LOG, Phase};
use super::page_vec::PageVec;
use super::pool;
use super::raw::{RawVisitor, UNTYPED};
use core::fmt;
use core::ptr::{self, NonNull};

/// Something about the heap that must not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    what: &'static str,
    address: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:#x}", self.what, self.address)
    }
}

impl std::error::Error for Violation {}

impl From<OutOfMemory> for Violation {
    fn from(_: OutOfMemory) -> Self {
        Violation { what: "no memory to verify with", address: 0 }
    }
}

fn check(holds: bool, what: &'static str, address: usize) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { what, address }) }
}

impl Heap {
    pub(super) fn verify(&self) -> Result<(), Violation> {
        // The tables of this very check are not what a test means that refuses memory.
        crate::sys::pages::not_refused(|| {
            self.verify_chunks()?;
            self.verify_blocks()?;
            self.verify_lists()?;
            self.verify_reachable()
        })
    }

    pub(super) fn check_under_stress(&self) {
        if self.config.stress
            && let Err(violation) = self.verify()
        {
            panic!("the heap is broken: {violation}");
        }
    }

    /// The pool and the table entries agree on which blocks are in use.
    fn verify_chunks(&self) -> Result<(), Violation> {
        let pool = self.pool.borrow();
        let (mut used, mut mapped) = (0, 0);
        for &chunk in pool.chunks() {
            let at = chunk.as_ptr().addr().get();
            check(at % CHUNK_BYTES == 0, "chunk not aligned", at)?;
            mapped += chunk.header().bytes.get();
            if chunk.is_huge() {
                let header = chunk.block(TABLE_BLOCKS).header();
                used += header.run.get() as usize;
                check(pool::free(chunk) == 0 && header.kind.get() == Kind::Large, "huge chunk without its object", at)?;
                continue;
            }
            let mut rest = 0;
            for number in TABLE_BLOCKS..BLOCKS {
                let block = chunk.block(number);
                let is_free = pool::free(chunk) >> number & 1 == 1;
                let kind = block.header().kind.get();
                check(is_free == (kind == Kind::Free), "block both free and in use", block.addr())?;
                check((rest > 0) == (kind == Kind::Rest), "run of blocks broken", block.addr())?;
                if rest > 0 {
                    rest -= 1;
                } else if !is_free {
                    rest = block.header().run.get() as usize - 1;
                }
                used += usize::from(!is_free);
            }
            check(rest == 0, "run of blocks over the chunk's end", at)?;
        }
        check(used == pool.blocks_used(), "blocks in use miscounted", used)?;
        check(mapped == pool.bytes_mapped(), "mapped bytes miscounted", mapped)
    }

    /// Table entries fit their types, and the bits fit together.
    fn verify_blocks(&self) -> Result<(), Violation> {
        let mut result = Ok(());
        let mut marked = 0;
        self.for_each_block(|block| {
            if result.is_ok() {
                result = self.verify_block(block, &mut marked);
            }
        });
        result?;
        if self.phase.get() == Phase::Idle {
            let marker = self.marker.borrow();
            check(marker.is_idle() || self.barrier.get() == LOG, "marker has work between cycles", 0)?;
            if self.marks_valid.get() {
                let expected = self.sizes.base.get() + marker.bytes_marked();
                check(marked == expected, "marked bytes miscounted", marked)?;
            }
        }
        Ok(())
    }

    fn verify_block(&self, block: Block, marked: &mut usize) -> Result<(), Violation> {
        let (at, header, info) = (block.addr(), block.header(), block.info());
        let index = header.type_index.get() as usize;
        let slot_info = self.with_types(|t| t.get(index).map(|t| t.info));
        check(slot_info.is_some_and(|i| ptr::eq(i, info)), "block of a type that the heap does not know", at)?;
        let slot_bytes = header.slot_bytes.get();
        check(info.is_large() || slot_bytes == info.slot_bytes, "slot size is not the type's", at)?;
        check(header.slots.get() == info.slots, "slot count is not the type's", at)?;
        check((header.kind.get() == Kind::Large) == info.is_large(), "kind of block is not the type's", at)?;
        let run = if info.is_large() { slot_bytes.div_ceil(BLOCK_BYTES) } else { 1 };
        check(header.run.get() as usize == run, "length of run is not the type's", at)?;
        if self.phase.get() == Phase::Idle && self.barrier.get() != LOG {
            check(block.hot().queued.get() == QUEUED_NOT, "block queued between cycles", at)?;
        }
        if block.hot().epoch.get() != self.epoch.get() {
            return Ok(());
        }
        *marked += block.marks() * slot_bytes;
        let last = info.slots as usize - 1;
        for (i, g) in block.groups().enumerate() {
            let (mark, scan) = (g.mark.get(), g.scan.get());
            check(scan & !mark == 0, "scanned without a mark", at)?;
            let beyond = if i == last / 64 { !0u64 << (last % 64) << 1 } else { 0 };
            check((mark | g.alloc.get()) & beyond == 0, "bits beyond the last slot", at)?;
            if info.drop.is_some() {
                check(mark & !g.alloc.get() == 0, "marked without having been allocated", at)?;
            }
            if info.needs_visit
                && self.phase.get() == Phase::Idle
                && self.marks_valid.get()
                && self.marker.borrow().is_idle()
            {
                check(scan == mark, "marked without having been scanned", at)?;
            }
        }
        Ok(())
    }

    /// Each block is in the list that it belongs to, and in no other.
    fn verify_lists(&self) -> Result<(), Violation> {
        let mut seen = AddressSet::new();
        let mut unswept = 0;
        self.with_types(|types| {
            for (index, t) in types.iter().enumerate() {
                let lists = t.avail.iter().chain(t.used.iter()).map(|b| (b, false));
                let lists = lists.chain(t.unswept.iter().map(|b| (b, true)));
                for (block, is_unswept) in lists.chain(t.block.get().map(|b| (b, false))) {
                    let header = block.header();
                    check(seen.insert(block.addr())?, "block in two lists", block.addr())?;
                    check(header.type_index.get() as usize == index, "block in another type's list", block.addr())?;
                    check(header.unswept.get() == is_unswept, "block in the wrong list", block.addr())?;
                    check(
                        is_unswept || block.hot().epoch.get() == self.epoch.get(),
                        "block to allocate from without valid marks",
                        block.addr(),
                    )?;
                    unswept += usize::from(is_unswept);
                }
            }
            Ok::<_, Violation>(())
        })?;
        check(unswept == self.unswept.get(), "unswept blocks miscounted", unswept)
    }

    /// Everything that the program can reach is an object, of the type that the reference says, and marked if a cycle
    /// has just ended.
    fn verify_reachable(&self) -> Result<(), Violation> {
        let mut open = PageVec::new();
        let mut result = Ok(());
        self.for_each_open_run(|p, end| {
            if result.is_ok() {
                result = open.push((p.addr().get(), end)).map_err(Violation::from);
            }
        });
        let mut seen = AddressSet::new();
        let mut todo = PageVec::new();
        let mut remembered = true;
        let mut see = |todo: &mut PageVec<NonNull<u8>>, object: NonNull<u8>, name: &'static str| {
            let mut one = || {
                self.verify_object(object, name)?;
                let at = object.addr().get();
                let is_open = open.as_slice().iter().any(|(from, to)| (*from..*to).contains(&at));
                check(!is_open, "reference to memory that is not handed out", at)?;
                if seen.insert(at)? {
                    todo.push(object)?;
                }
                Ok(())
            };
            if result.is_ok() {
                result = one();
            }
        };
        if let Some((object, info)) = self.root.get() {
            see(&mut todo, object, info.type_name());
        }
        self.roots.for_each(|object, info| see(&mut todo, object, info.type_name()));
        self.visit_raw_roots(&mut RawVisitor::sink(&mut |_, object, name| see(&mut todo, object, name())));
        while let Some(object) = todo.pop() {
            // SAFETY: `verify_object` found the object's block in this heap's chunks.
            let info = unsafe { super::chunk::block_of(object) }.info();
            // SAFETY: the block holds objects of that type (invariant 3), and `verify_object` found that this slot is
            // in use.
            unsafe { (info.edges)(object, &mut |_, to, name| see(&mut todo, to, name())) };
            // SAFETY: as above.
            unsafe { (info.edges)(object, &mut |_, to, _| remembered = remembered && self.is_remembered(object, to)) };
            if !remembered {
                let what = "old object refers to a young one and is not remembered";
                return Err(Violation { what, address: object.addr().get() });
            }
        }
        result
    }

    /// Between collections of the young: an old object that refers to a young one is known to have been written to.
    fn is_remembered(&self, from: NonNull<u8>, to: NonNull<u8>) -> bool {
        if self.barrier.get() != LOG || self.young.unknown.get() {
            return true;
        }
        let bits = |p: NonNull<u8>| {
            // SAFETY: both were found to be objects of this heap.
            let block = unsafe { super::chunk::block_of(p) };
            let index = block.index_of(p);
            let group = block.group(index / 64);
            let bit = |word: u64| word >> (index % 64) & 1 == 1;
            (block.is_marked(index, self.epoch.get()), bit(group.dirty.get()), bit(group.scan.get()))
        };
        let (old, dirty, scanned) = bits(from);
        // One that is marked and not scanned was shown to the marker, which has it in its queue.
        !old || dirty || !scanned || bits(to).0
    }

    fn verify_object(&self, object: NonNull<u8>, name: &'static str) -> Result<(), Violation> {
        let at = object.addr().get();
        let chunk_at = at & !(CHUNK_BYTES - 1);
        let pool = self.pool.borrow();
        let chunk = pool.chunks().iter().find(|c| c.as_ptr().addr().get() == chunk_at).copied();
        let Some(chunk) = chunk else { return Err(Violation { what: "reference out of the heap", address: at }) };
        let number = (at - chunk_at) / BLOCK_BYTES;
        check(number >= TABLE_BLOCKS, "reference into a table", at)?;
        let block = chunk.block(number);
        check(matches!(block.header().kind.get(), Kind::Small | Kind::Large), "reference into a free block", at)?;
        let known = block.info();
        let is_known = if name == UNTYPED { known.raw.is_some() } else { known.type_name() == name };
        check(is_known, "object of another type", at)?;
        let offset = at - block.addr();
        let slot_bytes = block.header().slot_bytes.get();
        let index = offset / slot_bytes;
        check(offset.is_multiple_of(slot_bytes) && index < known.slots as usize, "reference into an object", at)?;
        if known.drop.is_some() {
            let alloc = block.group(index / 64).alloc.get();
            check(alloc >> (index % 64) & 1 == 1, "reference to an object that was dropped", at)?;
        }
        if self.phase.get() == Phase::Idle && self.marks_valid.get() && self.sizes.allocated.get() == 0 {
            check(block.is_marked(index, self.epoch.get()), "reachable object not marked", at)?;
        }
        Ok(())
    }
}

/// A set of addresses: open addressing on pages.
struct AddressSet {
    places: PageVec<usize>,
    len: usize,
}

impl AddressSet {
    fn new() -> Self {
        AddressSet { places: PageVec::new(), len: 0 }
    }

    /// Whether the address is new.
    fn insert(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        if (self.len + 1) * 2 > self.places.as_slice().len() {
            let mut larger = PageVec::new();
            for _ in 0..(self.places.as_slice().len() * 2).max(1024) {
                larger.push(0)?;
            }
            for &a in self.places.as_slice().iter().filter(|a| **a != 0) {
                let at = Self::place(larger.as_slice(), a);
                larger.as_mut_slice()[at] = a;
            }
            self.places = larger;
        }
        let at = Self::place(self.places.as_slice(), address);
        let is_new = self.places.as_slice()[at] == 0;
        self.places.as_mut_slice()[at] = address;
        self.len += usize::from(is_new);
        Ok(is_new)
    }

    fn place(places: &[usize], address: usize) -> usize {
        let mut at = (address >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        loop {
            at &= places.len() - 1;
            if places[at] == 0 || places[at] == address {
                return at;
            }
            at += 1;
        }
    }
}
