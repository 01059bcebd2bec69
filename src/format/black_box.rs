//! The black box: a file that a traced process maps and shares, so that what was in its buffers outlives it.
//!
//! A trace's file gets whole generations. What belongs to the open one is in buffers, and in the tables that events refer to: all of
//! that is in the black box, in the form that follows, at each moment. A process that ends on its own removes it; of one that was
//! killed `exectrace recover` makes the last generations from it.
//!
//! ```text
//! 0                    words, see `word`
//! JOURNAL_AT           entries, see `entry`: stacks, names, modules; only ever appended to
//! SLABS_AT             buffers of STRIDE_BYTES: a batch's payload, and its `tail`
//! ```
//!
//! All integers are in the byte order of the machine, which is the reader's.

/// The first word: what it is, and which form of it.
pub const MAGIC: u64 = u64::from_le_bytes(*b"exetrbx1");
/// Where the journal begins, in bytes.
pub const JOURNAL_AT: usize = 64 << 10;
/// The most bytes of the journal. The file has holes: it takes what is used.
pub const JOURNAL_BYTES: usize = 128 << 20;
/// Where the buffers begin, in bytes.
pub const SLABS_AT: usize = JOURNAL_AT + JOURNAL_BYTES;
/// The distance of buffers, in bytes.
pub const STRIDE_BYTES: usize = 32 << 10;
/// How much of a buffer is its tail, in bytes.
pub const TAIL_BYTES: usize = 64;

/// Words of 64 bits at the beginning, by index.
pub mod word {
    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: usize = 0;
    /// Process id.
    pub const PID: usize = 1;
    /// The bytes of the journal that are taken. May be beyond its end: then entries were lost.
    pub const JOURNAL_USED: usize = 2;
    /// The bytes of buffers.
    pub const SLABS_BYTES: usize = 3;
    /// The last generation that has been written to the trace's file.
    pub const WRITTEN: usize = 4;
    /// The bytes that the trace's file had then.
    pub const WRITTEN_BYTES: usize = 5;
    /// The version of the format: its minor number.
    pub const VERSION: usize = 6;
    /// How many bytes of the trace came before those of the file that is written now, less its header: 0 unless there was another.
    pub const FILE_BASE: usize = 7;
    /// The generation of each parity, and its clock: see the four below. Eight words each.
    pub const GENERATIONS: [usize; 2] = [16, 24];
    /// Among those: its number, written last.
    pub const NUMBER: usize = 0;
    /// Its begin on the trace's clock, in nanoseconds.
    pub const OPENED_NS: usize = 1;
    /// The same moment on `CLOCK_MONOTONIC`.
    pub const MONO_NS: usize = 2;
    /// The same in nanoseconds since 1970.
    pub const WALL_NS: usize = 3;
    /// How many words there are.
    pub const COUNT: usize = 32;
}

/// What stands behind a buffer's payload, in bytes from there.
pub mod tail {
    /// 32 bits, see [`content`](super::content). 0 while the buffer belongs to no batch.
    pub const CONTENT: usize = 0;
    /// 32 bits.
    pub const GENERATION: usize = 4;
    /// 32 bits: the thread.
    pub const TID: usize = 8;
    /// 32 bits: the bytes of the payload so far.
    pub const LEN: usize = 12;
    /// 64 bits: the time that the first event counts from, in nanoseconds.
    pub const BASE_NS: usize = 16;
}

/// What a buffer has.
pub mod content {
    /// Timed events.
    pub const EVENTS: u32 = 1;
    /// A string table.
    pub const STRINGS: u32 = 2;
    /// Private data.
    pub const PRIVATE: u32 = 3;
    /// Whole batches of several threads.
    pub const BATCHES: u32 = 4;
}

/// Entries of the journal: a word `kind << 56 | bytes << 32 | id`, written last, and the payload, filled up to whole words.
pub mod entry {
    /// A stack of the stack table: the number, and the program counters as words. Counters that no code has stand for system calls.
    pub const STACK: u8 = 1;
    /// A name of the string table: the number and the text.
    pub const NAME: u8 = 2;
    /// A thread's name: the goroutine's number and the text. The last one holds.
    pub const THREAD: u8 = 3;
    /// A system call: the program counter that stands for it and its name.
    pub const SYSCALL: u8 = 4;
    /// A module: three words start, end, file offset; one with the length of the build id; the build id in hexadecimal digits and the path.
    pub const MODULE: u8 = 5;

    /// The first word of an entry.
    #[must_use]
    pub const fn head(kind: u8, bytes: usize, id: u32) -> u64 {
        (kind as u64) << 56 | (bytes as u64) << 32 | id as u64
    }

    /// Its parts: kind, bytes of the payload, number.
    #[must_use]
    pub const fn parts(head: u64) -> (u8, usize, u32) {
        ((head >> 56) as u8, (head >> 32 & 0xff_ffff) as usize, head as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_taken_apart_as_they_were_put_together() {
        for (kind, bytes, id) in [(entry::STACK, 1032, 1), (entry::MODULE, 0xff_ffff, u32::MAX), (entry::NAME, 0, 0)] {
            assert_eq!(entry::parts(entry::head(kind, bytes, id)), (kind, bytes, id));
        }
    }

    #[test]
    fn nothing_overlaps() {
        const { assert!(word::COUNT * 8 <= JOURNAL_AT && word::GENERATIONS[1] + 8 <= word::COUNT) };
        const { assert!(JOURNAL_AT.is_multiple_of(64 << 10) && SLABS_AT.is_multiple_of(64 << 10)) };
        const { assert!(tail::BASE_NS + 8 <= TAIL_BYTES) };
    }
}
