//! What a program has written of its trace since the last look: read as it grows, for conditions that are about events.

use super::spool;
use exectrace::format::header::HEADER_BYTES;
use exectrace::format::spans::{ALLOCATION_FAILURE, Spans};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// How much is read at once.
const PART_BYTES: u64 = 1 << 20;

/// Device and inode of a file, and when it was made, where the system says that: another file may have the inode of one that was removed.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(file: &File) -> Option<Identity> {
    file.metadata().ok().map(|m| (m.dev(), m.ino(), m.created().ok()))
}

/// How far a trace has been read.
pub struct Written {
    pub spans: Spans,
    file: Option<Identity>,
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
        let now = identity(&file);
        // A trace grows: what has become shorter is another one.
        let is_shorter = file.metadata().is_ok_and(|m| m.len() < self.offset);
        if now != self.file || is_shorter {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_became_shorter_is_read_from_its_beginning() {
        let path = std::env::temp_dir().join(format!("exectrace-events-{}", std::process::id()));
        let mut written = Written::default();
        // No batch: it is passed over.
        std::fs::write(&path, vec![0xff; 1000]).expect("a file");
        written.read(&path);
        assert_eq!(written.offset, 1000);
        // The same inode, emptied and written again.
        std::fs::write(&path, vec![0xff; 100]).expect("a file");
        written.read(&path);
        assert_eq!(written.offset, 100);
        std::fs::remove_file(&path).expect("the file");
    }
}
