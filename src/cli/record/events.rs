//! What a program has written of its trace since the last look: read as it grows, for conditions that are about events.

use super::spool;
use exectrace::format::header::HEADER_BYTES;
use exectrace::format::spans::{ALLOCATION_FAILURE, Spans};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How much is read at once.
const PART_BYTES: u64 = 1 << 20;

/// How far a trace has been read.
pub struct Written {
    pub spans: Spans,
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
    offset: u64,
}

impl Default for Written {
    fn default() -> Written {
        Written { spans: Spans::new(Some(ALLOCATION_FAILURE)), file: None, offset: 0 }
    }
}

impl Written {
    /// Reads what has come since the last time. What cannot be read, or is no trace, is passed over: it is for others to complain.
    pub fn read(&mut self, path: &Path) {
        let Ok(file) = File::open(path) else { return };
        let identity = |file: &File| file.metadata().ok().map(|m| (m.dev(), m.ino()));
        let now = identity(&file);
        if now != self.file {
            // With a flight recorder the file was put aside and another one begun.
            if let Ok(old) = File::open(spool::with(path, ".old"))
                && self.file.is_some()
                && identity(&old) == self.file
            {
                self.rest(old);
            } else {
                self.spans = Written::default().spans;
            }
            (self.file, self.offset) = (now, HEADER_BYTES as u64);
        }
        self.rest(file);
    }

    fn rest(&mut self, mut file: File) {
        if file.seek(SeekFrom::Start(self.offset)).is_err() {
            return;
        }
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            if file.by_ref().take(PART_BYTES).read_to_end(&mut bytes).is_err() || bytes.len() == before {
                // The rest is the beginning of a batch, which is read again with the rest of it.
                return;
            }
            let Some(read) = self.spans.read(&bytes) else {
                self.offset += bytes.len() as u64;
                return;
            };
            bytes.drain(..read);
            self.offset += read as u64;
        }
    }
}
