//! The names of threads that ended in a generation, for the closer: their entries may belong to others by then.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sys::thread::NAME_BYTES;

/// How many can be kept in one generation. Further threads keep their entry until the generation is closed.
const MAX: usize = 8 << 10;

/// Reset by the closer when the generation has quiesced.
static COUNT: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
/// Goroutine and name. Written in a section of the parity by whoever got the place, read by the closer.
static ENTRY: [[[AtomicU64; 3]; MAX]; 2] = [const { [const { [const { AtomicU64::new(0) }; 3] }; MAX] }; 2];

/// Leaves a name. Call inside a section of that parity. Returns false if there is no room.
pub(crate) fn write(parity: usize, goid: u64, name: [u8; NAME_BYTES]) -> bool {
    if COUNT[parity].load(Ordering::Relaxed) as usize >= MAX {
        return false;
    }
    let i = COUNT[parity].fetch_add(1, Ordering::Relaxed) as usize;
    let Some(entry) = ENTRY[parity].get(i) else { return false };
    entry[0].store(goid, Ordering::Relaxed);
    for (word, bytes) in entry[1..].iter().zip(name.as_chunks::<8>().0) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
    true
}

/// Forgets all: in the child of a `fork`, by its only thread.
pub(crate) fn forget(parity: usize) {
    COUNT[parity].store(0, Ordering::Relaxed);
}

/// Tells of each and forgets them. The closer's, when the generation has quiesced.
pub(crate) fn drain(parity: usize, mut each: impl FnMut(u64, [u8; NAME_BYTES])) {
    let n = (COUNT[parity].load(Ordering::Relaxed) as usize).min(MAX);
    for entry in &ENTRY[parity][..n] {
        let mut name = [0u8; NAME_BYTES];
        for (word, bytes) in entry[1..].iter().zip(name.as_chunks_mut::<8>().0) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        each(entry[0].load(Ordering::Relaxed), name);
    }
    COUNT[parity].store(0, Ordering::Relaxed);
}
