//! Threads that really wait, in every primitive that the table of block reasons knows: a signal takes the waiting thread's
//! stack, and the symbolizer must say from it what the thread waits for. To be run in dev and in release builds.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use exectrace::internals::symbolize::{BlockReason, Symbolizer};
use exectrace::internals::unwind::{self, StackBounds};

const LONG: Duration = Duration::from_secs(3600);
const FRAMES_MAX: usize = 128;

thread_local!(static BOUNDS: Cell<StackBounds> = const { Cell::new(StackBounds::NONE) });

/// Drops a result that says nothing here.
fn ignore<T>(_: T) {}

/// Where the handler puts a stack. `STATE` is 0 when free, 1 when asked for, 2 when there.
static STATE: AtomicUsize = AtomicUsize::new(0);
static PCS: [AtomicUsize; FRAMES_MAX] = [const { AtomicUsize::new(0) }; FRAMES_MAX];
static LEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handler(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let mut pcs = [0; FRAMES_MAX];
    // SAFETY: the context of this handler.
    let n = unsafe { unwind::capture_context(context, &mut pcs, BOUNDS.get()) };
    PCS.iter().zip(pcs).for_each(|(slot, pc)| slot.store(pc, Relaxed));
    LEN.store(n, Relaxed);
    STATE.store(2, Release);
}

/// Says which thread is to be sampled, and learns its stack's bounds.
fn here(tid: &AtomicI32) {
    BOUNDS.set(StackBounds::of_current_thread());
    // SAFETY: no arguments, no effect.
    tid.store(unsafe { libc::gettid() }, Release);
}

struct Sampler {
    symbolizer: Symbolizer,
    /// The place for the stack is one for all tests.
    _turn: MutexGuard<'static, ()>,
}

impl Sampler {
    fn new() -> Self {
        unwind::init();
        // SAFETY: a zeroed `sigaction` is valid; the handler has the type that the flags promise.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
        }
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(|failed| failed.into_inner());
        Sampler { symbolizer: Symbolizer::new(), _turn: turn }
    }

    /// The thread's stack now, leaf first.
    fn sample(&self, tid: i32) -> Vec<usize> {
        STATE.store(1, Release);
        // SAFETY: a signal that is handled.
        assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, libc::SIGUSR2) }, 0);
        while STATE.load(Acquire) != 2 {
            std::thread::yield_now();
        }
        PCS[..LEN.load(Relaxed)].iter().map(|pc| pc.load(Relaxed)).collect()
    }

    /// Samples until the thread waits as it should; says what was seen instead if that does not come to pass.
    fn expect(&mut self, name: &str, tid: &AtomicI32, expected: BlockReason) {
        let begin = Instant::now();
        let (mut frames, mut others) = (Vec::new(), Vec::new());
        loop {
            let id = tid.load(Acquire);
            if id != 0 {
                let pcs = self.sample(id);
                self.symbolizer.stack(&pcs, &mut frames);
                let reason = self.symbolizer.classify_block(&frames);
                if reason == expected {
                    return println!("{name}: {}", reason.as_str());
                }
                others.push(reason);
            }
            if begin.elapsed() > Duration::from_secs(20) {
                let names: Vec<_> = frames.iter().map(|frame| self.symbolizer.name(frame.func)).collect();
                others.dedup();
                panic!("{name}: not {expected:?}, but {others:?}, last with\n  {}", names.join("\n  "));
            }
            std::thread::yield_now();
        }
    }

    /// Runs `wait` on a thread of its own until it waits as expected; then `release` lets it go on.
    fn check(
        &mut self,
        name: &str,
        expected: BlockReason,
        wait: impl FnOnce() + Send + 'static,
        release: impl FnOnce(&std::thread::Thread),
    ) {
        let tid = Arc::new(AtomicI32::new(0));
        let theirs = Arc::clone(&tid);
        let thread = std::thread::spawn(move || {
            here(&theirs);
            wait();
        });
        self.expect(name, &tid, expected);
        release(thread.thread());
        thread.join().unwrap();
    }
}

use BlockReason::*;

#[test]
fn std_primitives() {
    use std::sync::{Barrier as StdBarrier, Condvar, LazyLock, OnceLock, RwLock};
    let mut s = Sampler::new();

    let lock = Arc::new(Mutex::new(()));
    let (guard, theirs) = (lock.lock().unwrap(), Arc::clone(&lock));
    s.check("Mutex::lock", Sync, move || ignore(theirs.lock()), |_| ignore(guard));

    let lock = Arc::new(RwLock::new(()));
    let (guard, theirs) = (lock.write().unwrap(), Arc::clone(&lock));
    s.check("RwLock::read", RwLockRead, move || ignore(theirs.read()), |_| ignore(guard));
    let (guard, theirs) = (lock.read().unwrap(), Arc::clone(&lock));
    s.check("RwLock::write", RwLockWrite, move || ignore(theirs.write()), |_| ignore(guard));

    for timeout in [false, true] {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = Arc::clone(&pair);
        let wait = move || {
            let guard = theirs.0.lock().unwrap();
            match timeout {
                false => ignore(theirs.1.wait_while(guard, |done| !*done)),
                true => ignore(theirs.1.wait_timeout_while(guard, LONG, |done| !*done)),
            }
        };
        s.check("Condvar::wait", CondWait, wait, |_| {
            *pair.0.lock().unwrap() = true;
            pair.1.notify_one();
        });
    }

    let barrier = Arc::new(StdBarrier::new(2));
    let theirs = Arc::clone(&barrier);
    s.check("Barrier::wait", Barrier, move || ignore(theirs.wait()), |_| ignore(barrier.wait()));

    let parks: [fn(); 2] = [std::thread::park, || std::thread::park_timeout(LONG)];
    for park in parks {
        let done = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&done);
        let wait = move || {
            while !theirs.load(Acquire) {
                park();
            }
        };
        s.check("park", Park, wait, |thread| {
            done.store(true, Release);
            thread.unpark();
        });
    }

    let (end, ended) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || ended.recv());
    s.check("JoinHandle::join", Join, move || ignore(thread.join()), |_| ignore(end));
    let (end, ended) = mpsc::channel::<()>();
    let scope = move || {
        std::thread::scope(|s| {
            s.spawn(move || ended.recv());
        })
    };
    s.check("thread::scope", Join, scope, |_| ignore(end));

    static ONCE: OnceLock<()> = OnceLock::new();
    static LAZY: LazyLock<()> = LazyLock::new(slow);
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    static FINISH: AtomicUsize = AtomicUsize::new(0);
    fn slow() {
        let turn = STARTED.fetch_add(1, AcqRel);
        while FINISH.load(Acquire) <= turn {
            std::thread::yield_now();
        }
    }
    let inits: [fn(); 2] = [|| *ONCE.get_or_init(slow), || *LAZY];
    for (turn, init) in inits.into_iter().enumerate() {
        let first = std::thread::spawn(init);
        while STARTED.load(Acquire) <= turn {
            std::thread::yield_now();
        }
        s.check("Once", Once, init, |_| FINISH.store(turn + 1, Release));
        first.join().unwrap();
    }

    let tid = Arc::new(AtomicI32::new(0));
    let theirs = Arc::clone(&tid);
    // Cannot be woken, so it is left behind.
    std::thread::spawn(move || {
        here(&theirs);
        std::thread::sleep(LONG);
    });
    s.expect("sleep", &tid, Sleep);
}

#[test]
fn std_channels() {
    let mut s = Sampler::new();
    let (tx, rx) = mpsc::channel::<u8>();
    s.check("mpsc recv", ChanReceive, move || ignore(rx.recv()), |_| ignore(tx));
    let (tx, rx) = mpsc::channel::<u8>();
    s.check("mpsc iter", ChanReceive, move || assert_eq!(rx.iter().count(), 0), |_| ignore(tx));
    for capacity in [0, 1] {
        let (tx, rx) = mpsc::sync_channel::<u8>(capacity);
        s.check("sync_channel recv", ChanReceive, move || ignore(rx.recv()), |_| ignore(tx));
        let (tx, rx) = mpsc::sync_channel::<u8>(capacity);
        s.check("sync_channel recv_timeout", ChanReceive, move || ignore(rx.recv_timeout(LONG)), |_| ignore(tx));
        let (tx, rx) = mpsc::sync_channel::<u8>(capacity);
        let send = move || while tx.send(1).is_ok() {};
        s.check("sync_channel send", ChanSend, send, |_| ignore(rx));
    }
}

#[test]
fn crossbeam() {
    use crossbeam_channel::{Select as Selector, after, bounded, select, unbounded};
    let mut s = Sampler::new();
    let (tx, rx) = unbounded::<u8>();
    s.check("crossbeam recv", ChanReceive, move || ignore(rx.recv()), |_| ignore(tx));
    let (tx, rx) = unbounded::<u8>();
    s.check("crossbeam iter", ChanReceive, move || assert_eq!(rx.iter().count(), 0), |_| ignore(tx));
    for capacity in [0, 1] {
        let (tx, rx) = bounded::<u8>(capacity);
        s.check("bounded recv", ChanReceive, move || ignore(rx.recv()), |_| ignore(tx));
        let (tx, rx) = bounded::<u8>(capacity);
        s.check("bounded recv_timeout", ChanReceive, move || ignore(rx.recv_timeout(LONG)), |_| ignore(tx));
        let (tx, rx) = bounded::<u8>(capacity);
        s.check("bounded send", ChanSend, move || while tx.send(1).is_ok() {}, |_| ignore(rx));

        let ((tx, rx), (tx2, rx2)) = (bounded::<u8>(capacity), unbounded::<u8>());
        let wait = move || {
            select! {
                recv(rx) -> _ => {}
                recv(rx2) -> _ => {}
            }
        };
        s.check("select!", Select, wait, |_| ignore((tx, tx2)));
        let ((tx, rx), (tx2, rx2)) = (bounded::<u8>(capacity), unbounded::<u8>());
        let wait = move || {
            let mut selector = Selector::new();
            selector.recv(&rx);
            selector.recv(&rx2);
            selector.ready();
        };
        s.check("Select::ready", Select, wait, |_| ignore((tx, tx2)));
    }
    let tid = Arc::new(AtomicI32::new(0));
    let theirs = Arc::clone(&tid);
    std::thread::spawn(move || {
        here(&theirs);
        after(LONG).recv()
    });
    s.expect("crossbeam after", &tid, ChanReceive);

    let parker = crossbeam_utils::sync::Parker::new();
    let unparker = parker.unparker().clone();
    s.check("Parker::park", Park, move || parker.park(), |_| unparker.unpark());
    let group = crossbeam_utils::sync::WaitGroup::new();
    let theirs = group.clone();
    s.check("WaitGroup::wait", Sync, move || theirs.wait(), |_| ignore(group));
    let (end, ended) = mpsc::channel::<()>();
    let scope = move || {
        crossbeam_utils::thread::scope(|s| {
            s.spawn(move |_| ended.recv().is_err());
        })
        .unwrap()
    };
    s.check("crossbeam scope", Join, scope, |_| ignore(end));
}

#[test]
fn parking_lots() {
    use parking_lot::{Condvar, FairMutex, Mutex, Once as LotOnce, ReentrantMutex, RwLock};
    let mut s = Sampler::new();
    let lock = Arc::new(Mutex::new(()));
    let (guard, theirs) = (lock.lock(), Arc::clone(&lock));
    s.check("parking_lot::Mutex", Sync, move || ignore(theirs.lock()), |_| ignore(guard));
    let lock = Arc::new(FairMutex::new(()));
    let (guard, theirs) = (lock.lock(), Arc::clone(&lock));
    s.check("parking_lot::FairMutex", Sync, move || ignore(theirs.lock()), |_| ignore(guard));
    let lock = Arc::new(ReentrantMutex::new(()));
    let (guard, theirs) = (lock.lock(), Arc::clone(&lock));
    s.check("parking_lot::ReentrantMutex", Sync, move || ignore(theirs.lock()), |_| ignore(guard));
    let lock = Arc::new(RwLock::new(()));
    let (guard, theirs) = (lock.write(), Arc::clone(&lock));
    s.check("parking_lot read", RwLockRead, move || ignore(theirs.read()), |_| ignore(guard));
    let (guard, theirs) = (lock.read(), Arc::clone(&lock));
    s.check("parking_lot write", RwLockWrite, move || ignore(theirs.write()), |_| ignore(guard));
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = Arc::clone(&pair);
    let wait = move || theirs.1.wait_while(&mut theirs.0.lock(), |done| !*done);
    s.check("parking_lot::Condvar", CondWait, wait, |_| {
        *pair.0.lock() = true;
        pair.1.notify_one();
    });

    static ONCE: LotOnce = LotOnce::new();
    let (started, finish) = (mpsc::channel(), mpsc::channel::<()>());
    let first = std::thread::spawn(move || {
        ONCE.call_once(|| {
            started.0.send(()).unwrap();
            let _ = finish.1.recv();
        })
    });
    started.1.recv().unwrap();
    s.check("parking_lot::Once", Once, || ONCE.call_once(|| ()), |_| ignore(finish.0));
    first.join().unwrap();
}

#[test]
fn tokio_runtime() {
    let mut s = Sampler::new();
    // Workers: one waits for I/O and time, the others on a condition variable; and a thread of the blocking pool.
    let tids: Arc<[AtomicI32; 4]> = Arc::default();
    let (theirs, next) = (Arc::clone(&tids), AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .thread_keep_alive(LONG)
        .on_thread_start(move || here(&theirs[next.fetch_add(1, Relaxed)]))
        .build()
        .unwrap();
    let blocking = runtime.spawn_blocking(|| ());
    runtime.block_on(blocking).unwrap();
    for tid in tids.iter() {
        s.expect("idle worker", tid, Executor);
    }
    runtime.shutdown_background();

    let (tx, mut rx) = tokio::sync::mpsc::channel::<u8>(1);
    s.check("tokio blocking_recv", ChanReceive, move || ignore(rx.blocking_recv()), |_| ignore(tx));
    let (tx, rx) = tokio::sync::mpsc::channel::<u8>(1);
    s.check("tokio blocking_send", ChanSend, move || while tx.blocking_send(1).is_ok() {}, |_| ignore(rx));
    let (tx, rx) = tokio::sync::oneshot::channel::<u8>();
    s.check("tokio oneshot", ChanReceive, move || ignore(rx.blocking_recv()), |_| ignore(tx));
    let lock = Arc::new(tokio::sync::Mutex::new(()));
    let (guard, theirs) = (lock.try_lock().unwrap(), Arc::clone(&lock));
    s.check("tokio blocking_lock", Sync, move || ignore(theirs.blocking_lock()), |_| ignore(guard));
    let lock = Arc::new(tokio::sync::RwLock::new(()));
    let (guard, theirs) = (lock.try_write().unwrap(), Arc::clone(&lock));
    s.check("tokio blocking_read", RwLockRead, move || ignore(theirs.blocking_read()), |_| ignore(guard));
    let (guard, theirs) = (lock.try_read().unwrap(), Arc::clone(&lock));
    s.check("tokio blocking_write", RwLockWrite, move || ignore(theirs.blocking_write()), |_| ignore(guard));

    let (tx, rx) = tokio::sync::oneshot::channel::<u8>();
    let block_on = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let _ = runtime.block_on(rx);
    };
    s.check("tokio block_on", Park, block_on, |_| ignore(tx));
}

/// C primitives, shared by address.
struct Shared<T>(UnsafeCell<T>);
// SAFETY: only ever used through libc's thread-safe functions.
unsafe impl<T> std::marker::Sync for Shared<T> {}
impl<T> Shared<T> {
    fn leak(value: T) -> &'static Self {
        Box::leak(Box::new(Shared(UnsafeCell::new(value))))
    }
    fn get(&self) -> *mut T {
        self.0.get()
    }
}

#[test]
fn libc_primitives() {
    let mut s = Sampler::new();
    // SAFETY: every primitive is initialised, lives for ever, and is used as its functions demand.
    unsafe {
        let mutex = Shared::leak(libc::PTHREAD_MUTEX_INITIALIZER);
        libc::pthread_mutex_lock(mutex.get());
        let wait = || {
            libc::pthread_mutex_lock(mutex.get());
            libc::pthread_mutex_unlock(mutex.get());
        };
        s.check("pthread_mutex_lock", Sync, wait, |_| ignore(libc::pthread_mutex_unlock(mutex.get())));

        let (condition, done) = (Shared::leak(libc::PTHREAD_COND_INITIALIZER), &AtomicBool::new(false));
        let done: &'static AtomicBool = std::mem::transmute(done);
        let wait = move || {
            libc::pthread_mutex_lock(mutex.get());
            while !done.load(Acquire) {
                libc::pthread_cond_wait(condition.get(), mutex.get());
            }
            libc::pthread_mutex_unlock(mutex.get());
        };
        s.check("pthread_cond_wait", CondWait, wait, |_| {
            libc::pthread_mutex_lock(mutex.get());
            done.store(true, Release);
            libc::pthread_cond_signal(condition.get());
            libc::pthread_mutex_unlock(mutex.get());
        });

        let rwlock = Shared::leak(libc::PTHREAD_RWLOCK_INITIALIZER);
        libc::pthread_rwlock_wrlock(rwlock.get());
        let wait = || {
            libc::pthread_rwlock_rdlock(rwlock.get());
            libc::pthread_rwlock_unlock(rwlock.get());
        };
        s.check("pthread_rwlock_rdlock", RwLockRead, wait, |_| ignore(libc::pthread_rwlock_unlock(rwlock.get())));
        libc::pthread_rwlock_rdlock(rwlock.get());
        let wait = || {
            libc::pthread_rwlock_wrlock(rwlock.get());
            libc::pthread_rwlock_unlock(rwlock.get());
        };
        s.check("pthread_rwlock_wrlock", RwLockWrite, wait, |_| ignore(libc::pthread_rwlock_unlock(rwlock.get())));

        let barrier = Shared::leak(std::mem::zeroed::<libc::pthread_barrier_t>());
        libc::pthread_barrier_init(barrier.get(), std::ptr::null(), 2);
        let wait = || ignore(libc::pthread_barrier_wait(barrier.get()));
        s.check("pthread_barrier_wait", Barrier, wait, |_| ignore(libc::pthread_barrier_wait(barrier.get())));

        let tid = Arc::new(AtomicI32::new(0));
        let theirs = Arc::clone(&tid);
        std::thread::spawn(move || {
            here(&theirs);
            libc::usleep(1 << 31);
        });
        s.expect("usleep", &tid, Sleep);
    }
}
