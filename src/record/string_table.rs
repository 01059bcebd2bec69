//! Names that come up again and again (reasons, region and task names, log categories), each kept once for the whole process.
//!
//! Looking a name up takes no lock; adding one takes a short [`Lock`]. Ids are stable, so that hooks can keep them, and each
//! generation writes only those used in it. The table is bounded: when it is full, the name of a task or a log's category goes into
//! its generation's tables as a [one-off](super::batch) string instead, and new regions share one name.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::format::MAX_STRING_BYTES;
use crate::sys::lock::Lock;
use crate::sys::pages;

/// How many names there can be. A program has tens; the bound is for those that make names up.
pub(crate) const NAMES_MAX: usize = 8 << 10;
/// Open addressing at a load of at most one half.
const SLOTS: usize = NAMES_MAX * 2;
/// Memory for the bytes of the names.
const BYTES_MAX: usize = 1 << 20;

/// The number of a name, from 1.
pub(crate) type NameId = u32;

/// Written by the holder of `INSERT`; the Release store of a slot publishes the entry behind it.
static SLOT: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
static ENTRY: [Entry; NAMES_MAX] =
    [const { Entry { at: AtomicPtr::new(core::ptr::null_mut()), len: AtomicU64::new(0) } }; NAMES_MAX];
static USED: [[AtomicU64; NAMES_MAX / 64]; 2] = [const { [const { AtomicU64::new(0) }; NAMES_MAX / 64] }; 2];
static INSERT: Lock<Arena> = Lock::new(Arena { at: None, used: 0, names: 0 });

struct Entry {
    at: AtomicPtr<u8>,
    len: AtomicU64,
}

struct Arena {
    at: Option<NonNull<u8>>,
    used: usize,
    names: u32,
}

// SAFETY: the pointer is to memory that belongs to the arena alone.
unsafe impl Send for Arena {}

/// A hash of a short text: 64 bits, about a nanosecond for 8 bytes.
///
/// Multiply and fold, as in wyhash (public domain, W. Yi).
pub(crate) fn hash(text: &[u8]) -> u64 {
    const K: [u64; 2] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];
    let mut h = text.len() as u64 ^ K[0];
    let (chunks, rest) = text.as_chunks::<8>();
    for &c in chunks {
        h = fold(h ^ u64::from_le_bytes(c), K[1]);
    }
    // The rest without a loop, by reads that overlap.
    let last = match (text.last_chunk::<8>(), text.first_chunk::<4>(), text.last_chunk::<4>(), rest) {
        (_, _, _, []) => 0,
        (Some(&last), ..) => u64::from_le_bytes(last),
        (None, Some(&a), Some(&b), _) => u64::from(u32::from_le_bytes(a)) | u64::from(u32::from_le_bytes(b)) << 32,
        (_, _, _, &[a, .., b]) => u64::from(a) | u64::from(rest[rest.len() / 2]) << 8 | u64::from(b) << 16,
        (_, _, _, &[a]) => u64::from(a),
    };
    fold(h ^ last, K[0])
}

fn fold(a: u64, b: u64) -> u64 {
    let p = u128::from(a) * u128::from(b);
    p as u64 ^ (p >> 64) as u64
}

/// The number of `name` (cut to the format's limit), added if it is new. `None` when the table is full.
pub(crate) fn intern(name: &str) -> Option<NameId> {
    let name = cut(name).as_bytes();
    let h = hash(name);
    match find(name, h) {
        Ok(id) => Some(id),
        Err(_) => insert(name, h),
    }
}

/// `text` cut at a character's border to what a string table may hold.
pub(crate) fn cut(text: &str) -> &str {
    if text.len() <= MAX_STRING_BYTES {
        return text;
    }
    let mut end = MAX_STRING_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A slot holds the upper 32 bits of the hash and the id.
fn find(name: &[u8], h: u64) -> Result<NameId, usize> {
    let mut i = h as usize % SLOTS;
    loop {
        // Acquire pairs with the Release in `insert`.
        let s = SLOT[i].load(Ordering::Acquire);
        if s == 0 {
            return Err(i);
        }
        let id = s as u32;
        if s >> 32 == h >> 32 && bytes(id) == name {
            return Ok(id);
        }
        i = (i + 1) % SLOTS;
    }
}

#[cold]
fn insert(name: &[u8], h: u64) -> Option<NameId> {
    let mut arena = INSERT.lock();
    let slot = match find(name, h) {
        Ok(id) => return Some(id),
        Err(slot) => slot,
    };
    if arena.names as usize + 1 >= NAMES_MAX || arena.used + name.len() > BYTES_MAX {
        return None;
    }
    let base = match arena.at {
        Some(at) => at,
        None => {
            let at = pages::map(BYTES_MAX, pages::GRANULE_BYTES)?;
            arena.at = Some(at);
            at
        }
    };
    // SAFETY: `used + name.len()` is within the arena's BYTES_MAX bytes.
    let at = unsafe { base.add(arena.used) };
    // SAFETY: as above; the source is another object than our own mapping.
    unsafe { at.as_ptr().copy_from_nonoverlapping(name.as_ptr(), name.len()) };
    arena.used += name.len();
    arena.names += 1;
    let id = arena.names;
    let entry = &ENTRY[id as usize];
    entry.len.store(name.len() as u64, Ordering::Relaxed);
    entry.at.store(at.as_ptr(), Ordering::Relaxed);
    super::black_box::name(id, name);
    SLOT[slot].store(h >> 32 << 32 | u64::from(id), Ordering::Release);
    Some(id)
}

/// How many names there are.
pub(crate) fn count() -> u32 {
    INSERT.lock().names
}

/// The bytes of a name. The id must have come from [`intern`].
pub(crate) fn bytes(id: NameId) -> &'static [u8] {
    let entry = &ENTRY[id as usize];
    let at = entry.at.load(Ordering::Relaxed);
    if at.is_null() {
        return &[];
    }
    // SAFETY: the entry was published with its pointer and length, which never change, and the arena is never unmapped.
    unsafe { core::slice::from_raw_parts(at, entry.len.load(Ordering::Relaxed) as usize) }
}

/// Notes that generation parity `parity` refers to the name.
#[inline]
pub(crate) fn mark_used(id: NameId, parity: usize) {
    let (word, bit) = (&USED[parity][id as usize / 64], 1u64 << (id % 64));
    if word.load(Ordering::Relaxed) & bit == 0 {
        word.fetch_or(bit, Ordering::Relaxed);
    }
}

/// Tells of each name used in a generation, and forgets it. The closer's, when the generation has quiesced.
pub(crate) fn drain_used(parity: usize, mut each: impl FnMut(NameId)) {
    for (i, word) in USED[parity].iter().enumerate() {
        if word.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let mut bits = word.swap(0, Ordering::Relaxed);
        while bits != 0 {
            each(i as u32 * 64 + bits.trailing_zeros());
            bits &= bits - 1;
        }
    }
}

/// In the child of a `fork`: see [`Lock::reset`].
///
/// # Safety
/// The calling thread is the only one. The lock is only held inside hooks, and a thread that forks is in none; another
/// thread's half-done insertion is invisible, because the slot is stored last, and costs at most its bytes.
pub(crate) unsafe fn after_fork() {
    // SAFETY: the caller's.
    unsafe { INSERT.reset() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_from_all_threads() {
        let ids: Vec<Vec<u32>> = std::thread::scope(|s| {
            let hs: Vec<_> = (0..4)
                .map(|_| s.spawn(|| (0..500).map(|i| intern(&format!("name {i}")).expect("room")).collect::<Vec<_>>()))
                .collect();
            hs.into_iter().map(|h| h.join().expect("join")).collect()
        });
        assert!(ids.windows(2).all(|w| w[0] == w[1]));
        for (i, &id) in ids[0].iter().enumerate() {
            assert_eq!(bytes(id), format!("name {i}").as_bytes());
        }
        let id = ids[0][7];
        mark_used(id, 1);
        mark_used(id, 1);
        let mut used = Vec::new();
        drain_used(1, |id| used.push(id));
        assert!(used.contains(&id));
        drain_used(1, |other| assert_ne!(other, id));
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let long = "é".repeat(600);
        assert_eq!(cut(&long).len(), 1024);
        assert_eq!(cut(&format!("a{long}")).len(), 1023);
        assert_eq!(intern(&long), intern(cut(&long)));
    }
}
