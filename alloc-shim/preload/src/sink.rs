//! The file that the trace goes to, open in a program that does not know of it.
//!
//! The tracer's thread has a table of descriptors of its own with this one file in it: in the program's table there is none of ours,
//! for the program to see, to close, or to take for its own.
//!
//! Linux before 5.9 does not give a thread its own table. There the descriptor has a high number, so that the program's own are what
//! they would be, and the hooks keep it open when the program closes everything. A program that goes around libc for that may still
//! close it: so before a generation is written the file is looked at, and opened again by its path if it is another.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use exectrace::__preload as guest;

/// Numbers from here on are out of the way of programs that count on low ones, and of their loops to 1024. The table of
/// descriptors that the kernel makes for it takes 32 KiB.
const HIGH: u64 = 4000;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Sink {
    path: CString,
    kept: Kept,
    /// Told of the first write, before which the descriptor is in the program's table.
    began: Arc<Began>,
    /// Device and inode.
    identity: (u64, u64),
    /// Whether this generation's file has been looked at.
    checked: bool,
    /// With a flight recorder: how large the file and the one before it may become together.
    max_bytes: Option<u64>,
    /// The bytes in the file, and in all.
    bytes: u64,
    bytes_total: u64,
    header: [u8; HEADER_BYTES],
}

/// The descriptor: in the program's table, with the hooks told of it, or in that of the tracer's thread.
#[derive(Debug)]
enum Kept {
    Shared(guest::Kept),
    Own(i32),
}

impl Kept {
    fn descriptor(&self) -> i32 {
        match self {
            Kept::Shared(kept) => kept.descriptor(),
            Kept::Own(fd) => *fd,
        }
    }

    fn replace(&mut self, fd: i32) {
        match self {
            Kept::Shared(kept) => kept.replace(fd),
            Kept::Own(own) => *own = fd,
        }
    }
}

/// What the first write has come to, for whoever starts the trace.
#[derive(Debug, Default)]
pub(crate) struct Began(AtomicU8);

const NOT_YET: u8 = 0;
const SHARED: u8 = 1;
const OWN: u8 = 2;

impl Began {
    /// Waits for the first write. Whether the descriptor is out of the program's table then.
    pub(crate) fn wait(&self) -> bool {
        let mut looks = 0u32;
        loop {
            match self.0.load(Ordering::Acquire) {
                // It comes with the start; the thread may have to wait for a processor.
                NOT_YET if looks < LOOKS_MAX => {
                    looks += 1;
                    let pause = libc::timespec { tv_sec: 0, tv_nsec: 20_000 };
                    let at = (&raw const pause).expose_provenance();
                    // SAFETY: the kernel reads a time there.
                    unsafe { guest::system(libc::SYS_nanosleep, [at, 0, 0, 0, 0, 0]) };
                }
                state => return state == OWN,
            }
        }
    }
}

/// Some seconds: then something is wrong, and the program goes on.
const LOOKS_MAX: u32 = 30_000;

/// A trace begins with a header of so many bytes.
const HEADER_BYTES: usize = 16;

impl Sink {
    /// Its path.
    pub(crate) fn path(&self) -> &CString {
        &self.path
    }

    /// The descriptor that it begins with.
    pub(crate) fn descriptor(&self) -> i32 {
        self.kept.descriptor()
    }

    /// The first write, to wait for.
    pub(crate) fn began(&self) -> Arc<Began> {
        self.began.clone()
    }

    /// Takes the descriptor out of the program's table, if that can be. On the tracer's thread, once.
    fn begin(&mut self) {
        let fd = self.kept.descriptor();
        let own = guest::own_descriptors(Some(fd));
        if own && let Kept::Shared(_) = self.kept {
            // What the hooks keep in the program's table is for whoever started to close.
            core::mem::forget(core::mem::replace(&mut self.kept, Kept::Own(fd)));
        }
        self.began.0.store(if own { OWN } else { SHARED }, Ordering::Release);
    }

    /// Makes the file. With `new` it must not be there yet.
    pub(crate) fn create(path: PathBuf, new: bool, max_bytes: Option<u64>) -> io::Result<Sink> {
        let path = CString::new(path.into_os_string().into_vec())?;
        let how = if new { libc::O_EXCL } else { libc::O_TRUNC };
        let fd = open(&path, libc::O_CREAT | how)?;
        let kept = Kept::Shared(guest::Kept::new(fd).ok_or_else(|| io::Error::other("too many files are kept"))?);
        let (identity, header) = (identity(fd)?, [0; HEADER_BYTES]);
        Ok(Sink {
            path,
            kept,
            began: Arc::default(),
            identity,
            checked: false,
            max_bytes,
            bytes: 0,
            bytes_total: 0,
            header,
        })
    }

    fn check(&mut self) -> io::Result<()> {
        if self.checked {
            return Ok(());
        }
        self.checked = true;
        if self.max_bytes.is_some_and(|max| self.bytes > max / 2) {
            return self.turn_over();
        }
        if identity(self.kept.descriptor()).is_ok_and(|now| now == self.identity) {
            return Ok(());
        }
        let fd = open(&self.path, 0)?;
        let now = identity(fd)?;
        if now != self.identity {
            close(fd);
            return Err(io::Error::other("the trace's file was closed by the program and is another one now"));
        }
        self.kept.replace(fd);
        Ok(())
    }
}

impl Sink {
    /// Puts the file aside, in place of the one that was put aside before, and begins another. Both are traces by themselves.
    fn turn_over(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_bytes();
        old.extend_from_slice(b".old");
        let old = CString::new(old)?;
        let (from, to) = (self.path.as_ptr().expose_provenance(), old.as_ptr().expose_provenance());
        let here = libc::AT_FDCWD as usize;
        // SAFETY: terminated paths.
        result(unsafe { guest::system(libc::SYS_renameat2, [here, from, here, to, 0, 0]) })?;
        let fd = open(&self.path, libc::O_CREAT | libc::O_TRUNC)?;
        let before = self.kept.descriptor();
        if identity(before).is_ok_and(|now| now == self.identity) {
            close(before);
        }
        self.identity = identity(fd)?;
        self.kept.replace(fd);
        guest::continues_elsewhere(self.bytes_total - HEADER_BYTES as u64);
        let at = self.header.as_ptr().expose_provenance();
        // SAFETY: the kernel reads so many bytes from there.
        let written = unsafe { guest::system(libc::SYS_write, [fd as usize, at, HEADER_BYTES, 0, 0, 0]) };
        self.bytes = result(written)? as u64;
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.began.0.load(Ordering::Relaxed) == NOT_YET {
            self.begin();
        }
        self.check()?;
        if self.bytes_total == 0 {
            let n = bytes.len().min(HEADER_BYTES);
            self.header[..n].copy_from_slice(&bytes[..n]);
        }
        let fd = self.kept.descriptor() as usize;
        // SAFETY: the kernel reads so many bytes from there.
        let n = result(unsafe {
            guest::system(libc::SYS_write, [fd, bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0, 0])
        })?;
        self.bytes += n as u64;
        self.bytes_total += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.checked = false;
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // In a table of its own thread's it went with that.
        let Kept::Shared(_) = self.kept else { return };
        let fd = self.kept.descriptor();
        if identity(fd).is_ok_and(|now| now == self.identity) {
            close(fd);
        }
    }
}

/// Opens the trace's file to append to.
fn open(path: &CString, flags: i32) -> io::Result<i32> {
    open_as(path, flags | libc::O_WRONLY | libc::O_APPEND)
}

fn open_as(path: &CString, flags: i32) -> io::Result<i32> {
    let flags = flags | libc::O_CLOEXEC;
    let at = path.as_ptr().expose_provenance();
    // SAFETY: a terminated path.
    let fd = unsafe { guest::system(libc::SYS_openat, [libc::AT_FDCWD as usize, at, flags as usize, 0o666, 0, 0]) };
    lift(result(fd)? as i32)
}

/// Gives a descriptor a high number.
pub(crate) fn lift(fd: i32) -> io::Result<i32> {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 0 };
    let (at, what) = ((&raw mut limit).expose_provenance(), libc::RLIMIT_NOFILE as usize);
    // SAFETY: the kernel writes a limit there. If it does not, the usual one stands.
    unsafe { guest::system(libc::SYS_prlimit64, [0, what, 0, at, 0, 0]) };
    let from = limit.rlim_cur.saturating_sub(32).min(HIGH) as usize;
    // SAFETY: no memory is involved.
    let high = unsafe { guest::system(libc::SYS_fcntl, [fd as usize, libc::F_DUPFD_CLOEXEC as usize, from, 0, 0, 0]) };
    // Where there is no high number, the low one must do.
    let Ok(high) = result(high) else { return Ok(fd) };
    close(fd);
    Ok(high as i32)
}

/// Closes a descriptor of this library's.
pub(crate) fn close(fd: i32) {
    // SAFETY: no memory is involved; the descriptor is the caller's.
    unsafe { guest::system(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Makes an empty file to be mapped. It is in the way of nobody, as the trace's is.
///
/// What is there under its name is removed, and not emptied: some process may have it mapped still, and would be ended by a signal where
/// its memory is no more.
pub(crate) fn create_box(path: &CString) -> io::Result<guest::Kept> {
    unlink(path);
    let fd = open_as(path, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR)?;
    guest::Kept::new(fd).ok_or_else(|| {
        close(fd);
        unlink(path);
        io::Error::other("too many files are kept")
    })
}

/// Removes a file, if it is there.
fn unlink(path: &CString) {
    let at = path.as_ptr().expose_provenance();
    // SAFETY: a terminated path.
    unsafe { guest::system(libc::SYS_unlinkat, [libc::AT_FDCWD as usize, at, 0, 0, 0, 0]) };
}

/// Removes a box, if the file under its name is it.
pub(crate) fn remove_box(path: &CString, own: (u64, u64)) {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    let (at, to) = (path.as_ptr().expose_provenance(), (&raw mut stat).expose_provenance());
    let args = [libc::AT_FDCWD as usize, at, to, libc::AT_SYMLINK_NOFOLLOW as usize, 0, 0];
    // SAFETY: a terminated path, and the kernel writes a stat there.
    if unsafe { guest::system(libc::SYS_newfstatat, args) } == 0 && (stat.st_dev, stat.st_ino) == own {
        unlink(path);
    }
}

/// Device and inode.
pub(crate) fn identity(fd: i32) -> io::Result<(u64, u64)> {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes a stat there.
    result(unsafe { guest::system(libc::SYS_fstat, [fd as usize, (&raw mut stat).expose_provenance(), 0, 0, 0, 0]) })?;
    Ok((stat.st_dev, stat.st_ino))
}

fn result(r: isize) -> io::Result<usize> {
    usize::try_from(r).map_err(|_| io::Error::from_raw_os_error(-r as i32))
}
