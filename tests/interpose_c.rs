//! C code under the hooks does what it does without them: cancellation, `longjmp`, the locks' answers, `fork`; and it
//! is seen.

mod interpose;

use std::ffi::{CString, c_char, c_int};

use interpose::{Guest, record};

exectrace::interpose!();

type Cancel = unsafe extern "C-unwind" fn(c_int, c_int, *const c_char) -> c_int;

fn main() {
    let guest = Guest::load();
    for on in [false, true] {
        if on {
            record(|| cancellation(&guest));
        } else {
            cancellation(&guest);
        }
    }
    recorded(&guest);
    guest.unload();
}

/// `pthread_cancel` ends a thread in every kind of wait, blocked or not, with its handlers and destructors run once.
fn cancellation(guest: &Guest) {
    let fifo = std::env::temp_dir().join(format!("exectrace-fifo-{}", std::process::id()));
    let path = CString::new(fifo.to_str().expect("a plain path")).expect("no zero in it");
    // SAFETY: a valid path.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    // SAFETY: as declared in guest.c.
    let kinds = unsafe { guest.get::<unsafe extern "C-unwind" fn() -> c_int>("guest_cancel_kinds")() };
    // SAFETY: as declared in guest.c.
    let cancel = unsafe { guest.get::<Cancel>("guest_cancel") };
    for kind in 0..kinds {
        for blocked in [1, 0] {
            // SAFETY: as declared in guest.c.
            let line = unsafe { cancel(kind, blocked, path.as_ptr()) };
            assert_eq!(line, 0, "kind {kind}, blocked {blocked}: see that line of guest.c");
        }
    }
    std::fs::remove_file(fifo).expect("the fifo");
    guest.run("guest_pending", 0, 0);
    guest.run("guest_exit", 0, 0);
    guest.run("guest_longjmp", 10, 0);
    guest.run("guest_lock_answers", 0, 0);
    guest.run("guest_fork", 0, 0);
    let file = CString::new(std::env::temp_dir().join(format!("exectrace-{}", std::process::id())).to_str().unwrap());
    // SAFETY: as declared in guest.c.
    let variadic = unsafe { guest.get::<unsafe extern "C-unwind" fn(*const c_char) -> c_int>("guest_variadic") };
    // SAFETY: a path to a file that is not there.
    assert_eq!(unsafe { variadic(file.unwrap().as_ptr()) }, 0);
}

fn recorded(guest: &Guest) {
    let ((), seen) = record(|| guest.run("guest_uncontended", 1000, 0));
    assert!(seen.nothing(), "{seen:?}");

    let ((), seen) = record(|| guest.run("guest_nested", 0, 0));
    assert_eq!((seen.syscall("fread"), seen.syscall("fclose"), seen.syscall("read")), (1, 1, 10), "{seen:?}");

    // SAFETY: as declared in guest.c.
    let fortified = unsafe { guest.get::<unsafe extern "C-unwind" fn(i64) -> c_int>("guest_fortified") };
    // SAFETY: as declared in guest.c.
    let (line, seen) = record(|| unsafe { fortified(4) });
    assert_eq!(line, 0);
    let expected = [("read", 1), ("poll", 1), ("ppoll", 1), ("recvfrom", 2), ("open", 1), ("pread64", 1), ("fread", 1)];
    for (name, count) in expected {
        assert_eq!(seen.syscall(name), count, "{name}: {seen:?}");
    }

    let path = std::env::temp_dir().join(format!("exectrace-lines-{}", std::process::id()));
    std::fs::write(&path, "a line of some length\n".repeat(10_000)).expect("a file");
    let c_path = CString::new(path.to_str().expect("a plain path")).expect("no zero in it");
    // SAFETY: as declared in guest.c.
    let lines = unsafe { guest.get::<unsafe extern "C-unwind" fn(*const c_char) -> i64>("guest_lines") };
    // SAFETY: a valid path.
    let (n, seen) = record(|| unsafe { lines(c_path.as_ptr()) });
    std::fs::remove_file(path).expect("the file");
    assert_eq!(n, 10_000);
    // 220 kB by buffers of 4 kB, of which some lines straddle two.
    assert!((1..=60).contains(&seen.syscall("fgets")), "{seen:?}");
}
