//! The kernel's list of the process's mappings, read without libc: no allocation, no lock, so that it may be asked for in a signal
//! handler and inside of an allocator.

use core::ops::Range;

use super::raw::syscall6;

/// The mapping that an address is in. `None` if there is none, or the kernel does not tell.
///
/// The kernel writes a line for each mapping up to that one: some 0.1 µs each.
pub(crate) fn containing(address: usize) -> Option<Range<usize>> {
    let path = c"/proc/self/maps";
    let open = [libc::AT_FDCWD as usize, path.as_ptr().expose_provenance(), libc::O_CLOEXEC as usize, 0, 0, 0];
    // SAFETY: `path` is a C string; the descriptor is closed below.
    let fd = unsafe { syscall6(libc::SYS_openat, open) };
    if fd < 0 {
        return None;
    }
    let mut search = Search::new(address);
    let mut bytes = [0u8; 2048];
    let found = loop {
        let read = [fd as usize, bytes.as_mut_ptr().expose_provenance(), bytes.len(), 0, 0, 0];
        // SAFETY: the kernel writes at most that many bytes there.
        let n = unsafe { syscall6(libc::SYS_read, read) };
        if n == -(libc::EINTR as isize) {
            continue;
        }
        if n <= 0 {
            break None;
        }
        if let Some(found) = bytes[..n as usize].iter().find_map(|&b| search.next(b)) {
            break Some(found);
        }
    };
    // SAFETY: the descriptor is ours, and is not used again.
    unsafe { syscall6(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
    found
}

/// Lines of `start-end rights ...` in hexadecimal, byte by byte.
struct Search {
    address: usize,
    start: usize,
    number: usize,
    field: Field,
}

enum Field {
    Start,
    End,
    Rest,
}

impl Search {
    fn new(address: usize) -> Search {
        Search { address, start: 0, number: 0, field: Field::Start }
    }

    fn next(&mut self, byte: u8) -> Option<Range<usize>> {
        match (byte, &self.field) {
            (b'\n', _) => {
                self.field = Field::Start;
                self.number = 0;
            }
            (_, Field::Rest) => {}
            (b'-', Field::Start) => {
                self.start = self.number;
                self.field = Field::End;
                self.number = 0;
            }
            (b' ', Field::End) => {
                self.field = Field::Rest;
                let mapping = self.start..self.number;
                return mapping.contains(&self.address).then_some(mapping);
            }
            _ => self.number = self.number << 4 | (byte as char).to_digit(16).unwrap_or(0) as usize,
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, address: usize) -> Option<Range<usize>> {
        let mut search = Search::new(address);
        text.bytes().find_map(|b| search.next(b))
    }

    #[test]
    fn lines_are_understood() {
        let text = "1000-2000 r--p 00000000 fe:00 12345-6  /a b-c\n7ffff0000000-7ffff0021000 rw-p 00000000 00:00 0 \n\
                    ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n";
        assert_eq!(found(text, 0x1fff), Some(0x1000..0x2000));
        assert_eq!(found(text, 0x2000), None);
        assert_eq!(found(text, 0x7fff_f000_1234), Some(0x7fff_f000_0000..0x7fff_f002_1000));
        assert_eq!(found(text, 0xffff_ffff_ff60_0000), Some(0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_mapped_is_found() {
        let local = 0u8;
        let mapping = containing((&raw const local).addr()).expect("a stack");
        assert!(mapping.len() >= 4096);
        assert_eq!(containing(0), None);
    }
}
