//! What std does is seen, each function by its name and each wait by its reason; and every symbol of the macro is the
//! program's own.

mod interpose;

use std::ffi::{CStr, CString};
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use interpose::{Seen, record};

exectrace::interpose!();

macro_rules! strings {
    ($($name:ident)*) => { &[$(stringify!($name)),*] };
}
const SYMBOLS: &[&str] = exectrace::__interpose_names!(strings);

fn main() {
    every_symbol_is_ours();
    files();
    network();
    network_waits_only_when_it_waits();
    threads();
    processes();
    nothing();
}

/// Expects these counts, and no other name.
fn check(what: &str, seen: &Seen, syscalls: &[(&str, u64)], waits: &[(&str, u64)]) {
    let got: Vec<_> = seen.syscalls.iter().map(|(n, &c)| (n.as_str(), c)).collect();
    assert_eq!(got, syscalls, "{what}: system calls");
    let got: Vec<_> = seen.waits.iter().map(|(n, &c)| (n.as_str(), c)).collect();
    assert_eq!(got, waits, "{what}: waits");
}

/// The file of the object that a symbol's first definition is in.
fn definer(name: &str) -> Option<String> {
    let name = CString::new(name).expect("no zero in it");
    // SAFETY: a lookup by name.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if at.is_null() {
        return None;
    }
    // SAFETY: all zero is a value of it.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: an address and room for the answer.
    assert_ne!(unsafe { libc::dladdr(at, &mut info) }, 0);
    // SAFETY: the name of a loaded object.
    Some(unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned())
}

/// So that shared libraries' calls land here too.
fn every_symbol_is_ours() {
    let own = definer("main").or_else(|| definer(SYMBOLS[0])).expect("our own name");
    assert!(own.contains("interpose_std"), "{own}");
    for name in SYMBOLS {
        assert_eq!(definer(name).as_deref(), Some(own.as_str()), "{name}");
    }
}

fn files() {
    let dir = std::env::temp_dir().join(format!("exectrace-std-{}", std::process::id()));
    let path = dir.join("file");
    let ((), seen) = record(|| {
        std::fs::create_dir(&dir).expect("a directory");
        let mut f = std::fs::File::create(&path).expect("a file");
        f.write_all(b"hello").expect("to write");
        f.sync_all().expect("to sync");
        f.sync_data().expect("to sync");
        f.set_len(100).expect("to cut");
        drop(f);
        let mut f = std::fs::File::open(&path).expect("the file");
        f.seek(std::io::SeekFrom::End(0)).expect("to seek");
        let mut buffer = [0; 8];
        assert_eq!(f.read(&mut buffer).expect("to read"), 0);
        f.metadata().expect("to look");
        drop(f);
        std::fs::rename(&path, dir.join("other")).expect("to rename");
        std::fs::hard_link(dir.join("other"), &path).expect("to link");
        assert_eq!(std::fs::read_dir(&dir).expect("to list").count(), 2);
        std::fs::remove_file(&path).expect("to remove");
        std::fs::remove_file(dir.join("other")).expect("to remove");
        std::fs::remove_dir(&dir).expect("to remove");
    });
    let expected = [
        ("close", 2),
        ("closedir", 1),
        ("fdatasync", 1),
        ("fsync", 1),
        ("ftruncate", 1),
        ("linkat", 1),
        ("mkdir", 1),
        ("open", 2),
        ("opendir", 1),
        ("read", 1),
        ("rename", 1),
        ("rmdir", 1),
        ("statx", 1),
        ("unlink", 2),
        ("write", 1),
    ];
    check("files", &seen, &expected, &[]);
}

fn network() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (ready, go) = mpsc::channel();
    let server = std::thread::spawn(move || {
        go.recv().expect("the word");
        let (mut connection, _) = listener.accept().expect("a client");
        let mut buffer = [0; 4];
        connection.read_exact(&mut buffer).expect("a request");
        connection.write_all(&buffer).expect("to answer");
        // Until the client has gone.
        assert_eq!(connection.read(&mut buffer).expect("the end"), 0);
    });
    let ((), seen) = record(|| {
        ready.send(()).expect("the server");
        let mut client = TcpStream::connect(address).expect("the server");
        client.write_all(b"ping").expect("to ask");
        let mut buffer = [0; 4];
        client.read_exact(&mut buffer).expect("an answer");
        drop(client);
        server.join().expect("the server");
    });
    // Which of them had to wait is not known, only that each call was seen once, one way or the other; and that
    // connecting waits.
    let network = seen.waited("network");
    let calls: u64 = ["accept4", "recvfrom", "sendto"].map(|n| seen.syscall(n)).iter().sum();
    assert_eq!(network + calls, 1 + 1 + 2 + 3, "{seen:?}");
    assert_eq!((seen.syscall("socket"), seen.syscall("connect"), seen.syscall("sendto")), (1, 0, 2), "{seen:?}");
    assert_eq!(seen.syscall("close"), 3, "{seen:?}");
}

fn network_waits_only_when_it_waits() {
    let (mut a, mut b) = UnixStream::pair().expect("sockets");
    let mut buffer = [0; 1];
    // Something is there: a call like another.
    let ((), seen) = record(|| {
        b.write_all(b"x").expect("to send");
        a.read_exact(&mut buffer).expect("to receive");
    });
    check("ready", &seen, &[("recvfrom", 1), ("sendto", 1)], &[]);
    // Nothing is there, and it may not wait.
    a.set_nonblocking(true).expect("to set");
    let (r, seen) = record(|| a.read(&mut buffer).map_err(|e| e.kind()));
    assert_eq!(r, Err(std::io::ErrorKind::WouldBlock));
    check("not blocking", &seen, &[("recvfrom", 1)], &[]);
    // Nothing is there, and it waits, here for its time to run out.
    a.set_nonblocking(false).expect("to set");
    a.set_read_timeout(Some(Duration::from_millis(1))).expect("to set");
    let (r, seen) = record(|| a.read(&mut buffer).map_err(|e| e.kind()));
    assert_eq!(r, Err(std::io::ErrorKind::WouldBlock));
    check("blocking", &seen, &[], &[("network", 1)]);
    // No room is left: sending waits too.
    b.set_write_timeout(Some(Duration::from_millis(1))).expect("to set");
    let (r, seen) = record(|| b.write(&vec![0; 8 << 20]).and_then(|_| b.write(&[0; 1])).map_err(|e| e.kind()));
    assert_eq!(r, Err(std::io::ErrorKind::WouldBlock));
    check("full", &seen, &[("sendto", 1)], &[("network", 1)]);
    // Datagrams.
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let to = udp.local_addr().expect("an address");
    udp.set_read_timeout(Some(Duration::from_millis(1))).expect("to set");
    let ((), seen) = record(|| {
        udp.connect(to).expect("ourselves");
        udp.send(b"x").expect("to send");
        udp.recv(&mut buffer).expect("to receive");
        udp.recv(&mut buffer).expect_err("nothing more");
    });
    check("udp", &seen, &[("connect", 1), ("recvfrom", 1), ("sendto", 1)], &[("network", 1)]);
}

fn threads() {
    let ((), seen) = record(|| {
        let (tx, rx) = mpsc::channel();
        let thread = std::thread::Builder::new().name("named".into()).spawn(move || rx.recv()).expect("a thread");
        std::thread::sleep(Duration::from_millis(1));
        tx.send(()).expect("the thread");
        thread.join().expect("the thread").expect("the word");
    });
    assert_eq!((seen.created, seen.waited("sleep")), (1, 1), "{seen:?}");
    assert!(seen.waited("sync: join") <= 1, "{seen:?}");
    assert_eq!(seen.syscall("futex"), 0, "{seen:?}");
}

fn processes() {
    let (output, seen) = record(|| Command::new("echo").arg("hello").output().expect("echo"));
    assert_eq!(output.stdout, b"hello\n");
    assert!(seen.syscall("wait4") + seen.syscall("waitid") >= 1, "{seen:?}");
    assert!(seen.syscall("poll") + seen.waited("network") >= 1 && seen.syscall("read") >= 2, "{seen:?}");
}

/// An empty trace is empty: what the tracer does for itself is not the program's.
fn nothing() {
    let ((), seen) = record(|| ());
    assert!(seen.nothing(), "{seen:?}");
}
