//! Commands from outside while the program runs: start, stop, and what is going on.
//!
//! A thread of the library's own listens on a socket of the file system, whose path is in `EXECTRACE_CTL`. It has a table of descriptors
//! of its own, so that the program does not meet the socket, and it makes system calls directly, so that it meets no hook.
//!
//! A command is a line, and so is the answer, which is JSON: `{"ok":true,"state":"recording","process":71,...}` or
//! `{"ok":false,"error":"..."}`. One connection is served at a time; one that sends nothing is given up after a second.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::{Duration, Instant};

use exectrace::__preload as guest;

use crate::session;

/// The longest path that an address of a socket has room for, with its final zero.
const ADDRESS_PATH_BYTES: usize = 108;
/// How long a client may take for its line, and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much is read at once, and the longest line of a command, which may have a path.
const PART_BYTES: usize = 256;
const LINE_BYTES_MAX: usize = 8 << 10;

/// Where to listen. Set before the thread is made; another one in the child of a fork. A path that is there stays there.
static PATH: AtomicPtr<PathBuf> = AtomicPtr::new(core::ptr::null_mut());

fn path() -> Option<&'static Path> {
    // SAFETY: null, or a path that was left there for good.
    unsafe { PATH.load(Ordering::Acquire).as_ref() }.map(PathBuf::as_path)
}
/// What has become of that: 0 nothing yet, 1 it listens, else an error number, negative.
static READY: AtomicI32 = AtomicI32::new(0);

/// Listens on `path`. `Err` says why that cannot be.
pub(crate) fn begin(path: PathBuf) -> Result<(), String> {
    READY.store(0, Ordering::Relaxed);
    PATH.store(Box::into_raw(Box::new(path.clone())), Ordering::Release);
    let wrong = |why: String| Err(format!("cannot listen on {}: {why}", path.display()));
    if path.as_os_str().as_bytes().contains(&0) || path.file_name().is_none() {
        return wrong("not a path".to_owned());
    }
    if !guest::spawn(c"exectrace-ctl", serve) {
        return wrong("no thread to be had".to_owned());
    }
    for _ in 0..READY_LOOKS {
        match READY.load(Ordering::Acquire) {
            0 => pause(),
            1 => return Ok(()),
            e if -e == libc::EADDRINUSE => return wrong("somebody listens there, or it is no socket".to_owned()),
            e => return wrong(std::io::Error::from_raw_os_error(-e).to_string()),
        }
    }
    Ok(())
}

/// Some seconds, if the machine is busy.
const READY_LOOKS: u32 = 100_000;

fn pause() {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 50_000 };
    // SAFETY: the kernel reads a time there.
    unsafe { guest::system(libc::SYS_nanosleep, [(&raw const time).expose_provenance(), 0, 0, 0, 0, 0]) };
}

/// The thread.
fn serve() {
    let Some(path) = path() else { return };
    // Where that cannot be had, the socket has a high number in the program's table.
    let own = guest::own_descriptors(None);
    let socket = match listen(path, own) {
        Ok(socket) => socket,
        Err(e) => return READY.store(-e.abs(), Ordering::Release),
    };
    READY.store(1, Ordering::Release);
    loop {
        let flags = (libc::SOCK_CLOEXEC) as usize;
        // SAFETY: no address is asked for.
        let client = unsafe { guest::system(libc::SYS_accept4, [socket as usize, 0, 0, flags, 0, 0]) } as i32;
        match -client {
            libc::EINTR | libc::ECONNABORTED => continue,
            // The program went around libc and closed it, where it is in the program's table.
            libc::EBADF | libc::ENOTSOCK | libc::EINVAL => return,
            e if e > 0 => pause(),
            _ => {
                let client = if own { client } else { crate::sink::lift(client).unwrap_or(client) };
                answer(client);
                crate::sink::close(client);
            }
        }
    }
}

fn answer(client: i32) {
    wait_at_most(client, libc::SO_SNDTIMEO, PATIENCE);
    let Some(line) = line(client) else { return };
    let mut text = match line.split(|&b| b == b' ').next().unwrap_or_default() {
        b"start" => session::control_start(),
        b"stop" => session::control_stop(),
        // Whoever asks makes the snapshot, of what is in the file then.
        b"snapshot" => session::control_flush(),
        b"status" => session::control_status(),
        _ => Err("unknown command".to_owned()),
    }
    .unwrap_or_else(|why| format!("{{\"ok\":false,\"error\":{}}}", quoted(OsStr::new(&why))));
    text.push('\n');
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let args = [client as usize, rest.as_ptr().expose_provenance(), rest.len(), libc::MSG_NOSIGNAL as usize, 0, 0];
        // SAFETY: the kernel reads so many bytes from there.
        let n = unsafe { guest::system(libc::SYS_sendto, args) };
        if n <= 0 && n != -(libc::EINTR as isize) {
            return;
        }
        rest = rest.get(n.max(0) as usize..).unwrap_or_default();
    }
}

/// Sets a time limit for one call.
fn wait_at_most(client: i32, option: i32, time: Duration) {
    // 0 would be no limit.
    let micros = time.subsec_micros().max(1);
    let time = libc::timeval { tv_sec: time.as_secs() as libc::time_t, tv_usec: micros as libc::suseconds_t };
    let (at, bytes) = ((&raw const time).expose_provenance(), size_of::<libc::timeval>());
    let args = [client as usize, libc::SOL_SOCKET as usize, option as usize, at, bytes, 0];
    // SAFETY: the kernel reads a time there.
    unsafe { guest::system(libc::SYS_setsockopt, args) };
}

/// A client's line, without its end. `None` if none comes in time, be it that it comes letter by letter.
fn line(client: i32) -> Option<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let mut line = Vec::new();
    let mut bytes = [0u8; PART_BYTES];
    loop {
        let left = end.checked_duration_since(Instant::now())?;
        wait_at_most(client, libc::SO_RCVTIMEO, left);
        let at = bytes.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel writes at most so many bytes there.
        let n = unsafe { guest::system(libc::SYS_read, [client as usize, at, PART_BYTES, 0, 0, 0]) };
        if n <= 0 {
            return None;
        }
        line.extend_from_slice(&bytes[..n as usize]);
        if let Some(end) = line.iter().position(|&b| b == b'\n') {
            line.truncate(end);
            return Some(line);
        }
        if line.len() > LINE_BYTES_MAX {
            return None;
        }
    }
}

/// A socket that listens, and that only its user can connect to. `Err` is an error number.
///
/// Its directory is opened first: a path of any length is then a short one. The table of descriptors is this thread's.
fn listen(path: &Path, own: bool) -> Result<i32, i32> {
    let number = |r: isize| if r < 0 { Err(r as i32) } else { Ok(r as i32) };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = CString::new(dir.as_os_str().as_bytes()).map_err(|_| libc::EINVAL)?;
    let flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as usize;
    let at = dir.as_ptr().expose_provenance();
    // SAFETY: a terminated path.
    let dir = number(unsafe { guest::system(libc::SYS_openat, [libc::AT_FDCWD as usize, at, flags, 0, 0, 0]) })?;
    let name = path.file_name().unwrap_or_default().as_bytes();
    let short = [format!("/proc/thread-self/fd/{dir}/").as_bytes(), name].concat();
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if short.len() >= ADDRESS_PATH_BYTES {
        return Err(libc::ENAMETOOLONG);
    }
    for (to, from) in address.sun_path.iter_mut().zip(&short) {
        *to = *from as libc::c_char;
    }
    let kind = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as usize;
    let make = || {
        // SAFETY: no memory is involved.
        let socket = number(unsafe { guest::system(libc::SYS_socket, [libc::AF_UNIX as usize, kind, 0, 0, 0, 0]) })?;
        // The file's mode is the socket's, less what the umask takes.
        // SAFETY: no memory is involved.
        unsafe { guest::system(libc::SYS_fchmod, [socket as usize, 0o600, 0, 0, 0, 0]) };
        Ok::<i32, i32>(socket)
    };
    let place = [(&raw const address).expose_provenance(), size_of::<libc::sockaddr_un>()];
    let call = |number, socket: i32| {
        // SAFETY: the kernel reads an address there.
        unsafe { guest::system(number, [socket as usize, place[0], place[1], 0, 0, 0]) as i32 }
    };
    let socket = make()?;
    let mut bound = call(libc::SYS_bind, socket);
    if bound == -libc::EADDRINUSE {
        let file = CString::new(name).map_err(|_| libc::EINVAL)?;
        let at = file.as_ptr().expose_provenance();
        // What nobody listens on was left by a process that was killed.
        let probe = make()?;
        let refused = call(libc::SYS_connect, probe) == -libc::ECONNREFUSED;
        crate::sink::close(probe);
        // So is what cannot be listened on: a file of somebody's.
        if refused && is_socket(dir, at) {
            // SAFETY: a terminated path.
            unsafe { guest::system(libc::SYS_unlinkat, [dir as usize, at, 0, 0, 0, 0]) };
            bound = call(libc::SYS_bind, socket);
        }
    }
    crate::sink::close(dir);
    if bound < 0 {
        crate::sink::close(socket);
        return Err(bound);
    }
    // SAFETY: no memory is involved.
    number(unsafe { guest::system(libc::SYS_listen, [socket as usize, 16, 0, 0, 0, 0]) })?;
    Ok(if own { socket } else { crate::sink::lift(socket).unwrap_or(socket) })
}

/// Whether a name in a directory is that of a socket, and not of a link to one. `name` is the address of a terminated path.
fn is_socket(dir: i32, name: usize) -> bool {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    let args = [dir as usize, name, (&raw mut stat).expose_provenance(), libc::AT_SYMLINK_NOFOLLOW as usize, 0, 0];
    // SAFETY: a terminated path, and the kernel writes a stat there.
    let known = unsafe { guest::system(libc::SYS_newfstatat, args) } == 0;
    known && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// Removes the socket: at the process's end.
pub(crate) fn end() {
    let Some(path) = path().filter(|_| READY.load(Ordering::Acquire) == 1) else { return };
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return };
    let at = path.as_ptr().expose_provenance();
    // SAFETY: a terminated path.
    unsafe { guest::system(libc::SYS_unlinkat, [libc::AT_FDCWD as usize, at, 0, 0, 0, 0]) };
}

/// A text of JSON.
pub(crate) fn quoted(text: &OsStr) -> String {
    let mut out = String::from("\"");
    for c in text.to_string_lossy().chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
