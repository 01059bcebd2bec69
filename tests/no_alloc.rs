//! No hook calls the program's allocator: counted, for each, while generations change every millisecond.

mod guest;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, RwLock};
use std::time::Duration;

use exectrace::hooks::gc::{GcHeap, Stw};
use exectrace::hooks::thread::{self as waits, Reason, Waiter};
use exectrace::hooks::{SyscallName, syscall};
use exectrace::{Allocations, Region, Task, Tracer};

/// Counts the calls of each thread.
struct Counting;

thread_local! { static CALLS: Cell<u64> = const { Cell::new(0) }; }

fn count() {
    CALLS.with(|c| c.set(c.get() + 1));
}

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOC: exectrace::Alloc<Counting> = exectrace::Alloc::with(Counting);

exectrace::interpose!();

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

/// Runs `f` some hundred times, in several generations, and counts what it allocates.
#[track_caller]
fn none(what: &str, mut f: impl FnMut()) {
    for round in 0..4 {
        let before = calls();
        (0..50).for_each(|_| f());
        let made = calls() - before;
        assert_eq!(made, 0, "{what} called the allocator {made} times in round {round}");
        // Not in the same generation.
        exectrace::flush();
    }
}

fn main() {
    assert!({
        let before = calls();
        drop(std::hint::black_box(vec![1u8; 10]));
        calls() - before == 2
    });
    // Before any trace, and a thread's first of all.
    off();
    let few = Allocations::Sampled { every_bytes: 100 };
    for (hz, which) in [(100, Allocations::None), (1000, Allocations::None), (1000, few), (100, Allocations::All)] {
        let sink = guest::Memory::new();
        let tracer = Tracer::new().generation_period(Duration::from_millis(1)).cpu_sample_hz(hz);
        let tracer = tracer.allocations(which).back_pressure(Duration::from_secs(10));
        tracer.start(sink.clone()).expect("start");
        annotations();
        allocations();
        collector();
        facade();
        files();
        sockets_and_polls();
        locks();
        memory_and_processes();
        threads();
        // The handler of CPU samples, as often as it likes.
        // SAFETY: a signal to oneself.
        none("SIGPROF", || assert_eq!(unsafe { libc::raise(libc::SIGPROF) }, 0));
        let stats = exectrace::stop().expect("stop");
        assert_eq!((stats.lost_events(), stats.lost_allocations), (0, 0));
        let seen = guest::check(&sink.bytes());
        assert!(seen.events > 20_000, "{seen:?}");
    }
    println!("no hook allocates");
}

fn off() {
    none("everything, off", || {
        exectrace::log!("a", "b {}", 1);
        drop(Region::new("r"));
        drop(Task::new("t"));
        waits::block(Reason::Sync);
        waits::unblock();
        assert!(!exectrace::is_enabled());
        let _ = exectrace::heap::stats();
    });
}

fn annotations() {
    let mut n = 0;
    none("log", || exectrace::log("category", "message"));
    none("log!", || {
        n += 1;
        exectrace::log!("category", "message {n} of {:?}", "many");
    });
    none("a log of a new category", || {
        n += 1;
        let mut name = *b"category 0000000000";
        name[9..].copy_from_slice(&(1_000_000_000 + n).to_string_on_stack());
        exectrace::log(std::str::from_utf8(&name).expect("text"), "m");
    });
    none("a long log", || exectrace::log("category", LONG));
    none("region", || drop(Region::new("region")));
    none("with_region", || exectrace::with_region("region", || ()));
    none("regions in the wrong order", || {
        let (a, b) = (Region::new("a"), Region::new("b"));
        drop(a);
        drop(b);
    });
    none("task", || {
        let task = Task::new("task");
        let part = task.subtask("part");
        drop(part.region("region"));
        task.log("category", "message");
    });
    none("heap::stats", || _ = exectrace::heap::stats());
}

/// The allocator's own hooks: no more calls than the program's.
fn allocations() {
    let layout = Layout::from_size_align(100, 32).expect("layout");
    for size in [1, 100, 10_000, 1 << 20] {
        let before = calls();
        for _ in 0..200 {
            exectrace::scope!("scope");
            // SAFETY: the block is freed with the layout that it has.
            unsafe {
                let at = std::hint::black_box(std::alloc::alloc(layout));
                // `Counting` has no `realloc` of its own: it allocates and frees.
                let at = std::hint::black_box(std::alloc::realloc(at, layout, size));
                std::alloc::dealloc(at, Layout::from_size_align_unchecked(size, 32));
            }
        }
        assert_eq!(calls() - before, 4 * 200, "hooks of blocks of {size} bytes called the allocator");
        exectrace::flush();
    }
    none("a scope of a new label", || {
        exectrace::scope!("another");
    });
}

const LONG: &str = match std::str::from_utf8(&[b'x'; 5000]) {
    Ok(s) => s,
    Err(_) => unreachable!(),
};

trait OnStack {
    fn to_string_on_stack(self) -> [u8; 10];
}

impl OnStack for u64 {
    fn to_string_on_stack(mut self) -> [u8; 10] {
        let mut text = [b'0'; 10];
        for t in text.iter_mut().rev() {
            *t += (self % 10) as u8;
            self /= 10;
        }
        text
    }
}

fn collector() {
    let heap = GcHeap::new();
    none("a collection", || {
        heap.set_goal(4 << 20);
        heap.cycle_begin();
        heap.stw_begin(Stw::SweepTermination);
        heap.stw_end();
        heap.assist_begin();
        heap.assist_end();
        heap.stw_begin(Stw::MarkTermination);
        heap.stw_end();
        heap.cycle_end();
        heap.sweep_begin();
        heap.sweep_end(1 << 20, 1 << 10);
        heap.set_live(1 << 20);
    });
    none("a heap that comes and goes", || {
        let heap = GcHeap::new();
        heap.set_live(1 << 20);
    });
}

fn facade() {
    none("block, unblock", || {
        for reason in [Reason::Sync, Reason::CondWait, Reason::Select, Reason::Network, Reason::Sleep, Reason::Join] {
            waits::block(reason);
            waits::wake(waits::waiter());
            waits::wake(Waiter::from_word(u64::MAX));
            waits::wake(Waiter::from_word(5));
            waits::unblock();
        }
    });
    none("create, create_failed, renamed", || {
        waits::create_failed(waits::create());
        waits::renamed();
    });
    none("a system call of one's own", || syscall::end(syscall::begin(SyscallName::from_raw(1))));
}

fn files() {
    let path = c"/proc/self/stat".as_ptr();
    let mut bytes = [0u8; 256];
    let to = bytes.as_mut_ptr();
    // SAFETY: descriptors that are opened and closed here, and a buffer of 256 bytes.
    none("files", || unsafe {
        let fd = libc::open(path, libc::O_RDONLY);
        assert!(fd >= 0);
        assert!(libc::read(fd, to.cast(), 100) > 0);
        assert!(libc::pread(fd, to.cast(), 100, 0) > 0);
        let mut status = zeroed();
        libc::fstat(fd, &mut status);
        libc::lseek(fd, 0, libc::SEEK_SET);
        libc::fsync(fd);
        libc::fcntl(fd, libc::F_GETFL);
        libc::ioctl(fd, libc::FIONREAD, &mut 0);
        libc::close(fd);
        let fd = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
        libc::write(fd, to.cast(), 100);
        libc::close(fd);
        libc::stat(path, &mut status);
        libc::lstat(path, &mut status);
        libc::access(path, libc::R_OK);
        libc::readlink(c"/proc/self/exe".as_ptr(), to.cast(), 256);
        libc::unlink(c"/no/such/file".as_ptr());
        libc::rename(c"/no/such/file".as_ptr(), c"/none".as_ptr());
        libc::mkdir(c"/no/such/dir".as_ptr(), 0);
    });
    // SAFETY: as above.
    none("streams", || unsafe {
        let f = libc::fopen(path, c"r".as_ptr());
        assert!(!f.is_null());
        libc::fread(to.cast(), 1, 10, f);
        libc::fgets(to.cast(), 20, f);
        libc::fclose(f);
    });
}

fn sockets_and_polls() {
    let mut bytes = [0u8; 16];
    let at: *mut c_void = bytes.as_mut_ptr().cast();
    // SAFETY: descriptors that are made and closed here, and a buffer of 16 bytes.
    none("sockets and polls", || unsafe {
        let mut pair = [0 as c_int; 2];
        assert_eq!(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()), 0);
        libc::send(pair[0], at, 4, 0);
        libc::recv(pair[1], at, 4, 0);
        libc::write(pair[1], at, 4);
        let mut one = libc::pollfd { fd: pair[0], events: libc::POLLIN, revents: 0 };
        libc::poll(&mut one, 1, 0);
        one.events = 0;
        libc::poll(&mut one, 1, 1);
        let epoll = libc::epoll_create1(0);
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, pair[0], &mut event);
        libc::epoll_wait(epoll, &mut event, 1, 1);
        libc::close(epoll);
        let mut set = zeroed();
        libc::FD_SET(pair[0], &mut set);
        libc::select(pair[0] + 1, &mut set, null_mut(), null_mut(), null_mut());
        libc::shutdown(pair[0], libc::SHUT_RDWR);
        libc::close(pair[0]);
        libc::close(pair[1]);
        let event = libc::eventfd(1, 0);
        libc::read(event, at, 8);
        libc::close(event);
        libc::sched_yield();
        libc::usleep(1);
        libc::nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: 1000 }, null_mut());
        libc::getrandom(at, 16, 0);
    });
}

fn locks() {
    let (lock, change, table) = (Mutex::new(0), Condvar::new(), RwLock::new(0));
    none("std locks", || {
        let l = lock.lock().expect("lock");
        drop(change.wait_timeout(l, Duration::from_micros(1)).expect("lock"));
        change.notify_all();
        *table.write().expect("lock") += 1;
        std::thread::park_timeout(Duration::from_micros(1));
    });
    let word = AtomicU32::new(1);
    let now = libc::timespec { tv_sec: 0, tv_nsec: 1000 };
    // SAFETY: a live futex word, and a live time.
    none("futex", || unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 1, &raw const now);
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
        libc::syscall(libc::SYS_getpid);
    });
    // SAFETY: locks of C, made and used here.
    none("C locks", || unsafe {
        let mut lock = libc::PTHREAD_MUTEX_INITIALIZER;
        let mut change = libc::PTHREAD_COND_INITIALIZER;
        libc::pthread_mutex_lock(&mut lock);
        libc::pthread_mutex_timedlock(&mut lock, &libc::timespec { tv_sec: 0, tv_nsec: 0 });
        libc::pthread_cond_timedwait(&mut change, &mut lock, &libc::timespec { tv_sec: 0, tv_nsec: 0 });
        libc::pthread_cond_signal(&mut change);
        libc::pthread_cond_broadcast(&mut change);
        libc::pthread_mutex_unlock(&mut lock);
        let mut table = libc::PTHREAD_RWLOCK_INITIALIZER;
        libc::pthread_rwlock_rdlock(&mut table);
        libc::pthread_rwlock_unlock(&mut table);
        libc::pthread_rwlock_wrlock(&mut table);
        libc::pthread_rwlock_unlock(&mut table);
        let mut count = zeroed();
        libc::sem_init(&mut count, 0, 0);
        libc::sem_timedwait(&mut count, &libc::timespec { tv_sec: 0, tv_nsec: 0 });
        libc::sem_post(&mut count);
        libc::sem_wait(&mut count);
    });
}

fn memory_and_processes() {
    // SAFETY: a mapping that is made and given back here.
    none("memory", || unsafe {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let at = libc::mmap(null_mut(), 8192, access, flags, -1, 0);
        libc::madvise(at, 8192, libc::MADV_DONTNEED);
        libc::mprotect(at, 8192, libc::PROT_READ);
        libc::munmap(at, 8192);
    });
    // SAFETY: there is no child to wait for.
    none("waiting for nobody", || unsafe {
        libc::waitpid(-1, null_mut(), libc::WNOHANG);
    });
}

/// A thread's first events, its end, and all that its creator does.
fn threads() {
    static IN_THREADS: AtomicU32 = AtomicU32::new(0);
    extern "C" fn body(_: *mut c_void) -> *mut c_void {
        let before = calls();
        exectrace::log("thread", "hello");
        drop(Region::new("region"));
        std::mem::forget(Region::new("left open"));
        // SAFETY: names the calling thread.
        unsafe { libc::pthread_setname_np(libc::pthread_self(), c"silent".as_ptr()) };
        IN_THREADS.fetch_add((calls() - before) as u32, Ordering::Relaxed);
        null_mut()
    }
    // SAFETY: the thread is joined.
    none("threads", || unsafe {
        let mut t = zeroed();
        assert_eq!(libc::pthread_create(&mut t, null(), body, null_mut()), 0);
        libc::pthread_join(t, null_mut());
    });
    assert_eq!(IN_THREADS.load(Ordering::Relaxed), 0, "allocations in new threads");
}
