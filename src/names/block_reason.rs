//! What a blocked thread waits for, read off its stack: the hooks see only a futex, the frames above it know the lock.
//!
//! The rule: walk from the leaf outwards, as long as the frames belong to libraries that we know. The first one of the table
//! decides; a later one replaces the verdict only if its row says so. (A channel's `recv` is implemented by parking, so it
//! may replace "park". It must not replace "sync", a lock that the program's own code took somewhere inside.)

/// What a thread waits for. The discriminants are what the stack table remembers; 0 is "not known".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockReason {
    /// No frame of the stack is in the table. It waits by a futex all the same, so it counts as synchronization.
    Unknown,
    /// To receive from a channel.
    ChanReceive,
    /// To send to a full channel.
    ChanSend,
    /// For one of several channel operations.
    Select,
    /// For a mutex, a semaphore or the like.
    Sync,
    /// For a condition variable.
    CondWait,
    /// To write-lock a read-write lock.
    RwLockWrite,
    /// To read-lock a read-write lock.
    RwLockRead,
    /// For all others to arrive at a barrier.
    Barrier,
    /// For another thread to run an initialisation.
    Once,
    /// For the end of a thread.
    Join,
    /// To be unparked.
    Park,
    /// An executor's worker without work.
    Executor,
    /// For time to pass.
    Sleep,
}

use BlockReason::*;

impl BlockReason {
    /// All of them, by their discriminants.
    pub const ALL: [BlockReason; 14] = [
        Unknown,
        ChanReceive,
        ChanSend,
        Select,
        Sync,
        CondWait,
        RwLockWrite,
        RwLockRead,
        Barrier,
        Once,
        Join,
        Park,
        Executor,
        Sleep,
    ];

    /// The reason as traces spell it: Go's words where Go has one. Its "synchronization blocking profile" counts those
    /// with "chan", "sync" or "select" in them.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unknown => "sync: other",
            ChanReceive => "chan receive",
            ChanSend => "chan send",
            Select => "select",
            Sync => "sync",
            CondWait => "sync.(*Cond).Wait",
            RwLockWrite => "sync.RWMutex.Lock",
            RwLockRead => "sync.RWMutex.RLock",
            Barrier => "sync barrier",
            Once => "sync once",
            Join => "sync: join",
            Park => "sync: park",
            Executor => "executor",
            Sleep => "sleep",
        }
    }

    /// The inverse of `self as u8`; [`BlockReason::Unknown`] for other numbers.
    pub fn from_u8(reason: u8) -> Self {
        Self::ALL.get(reason as usize).copied().unwrap_or(Unknown)
    }
}

/// What a function says about waiting. Made once for each name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Code that we do not know: it ends the search.
    #[default]
    Foreign,
    /// A C function that we do not know. It may stand between the leaf and the first verdict: the insides of libc have no symbols.
    ForeignC,
    /// Part of a library that we know, without a verdict.
    Library,
    /// A row of the table.
    Rule(&'static Row),
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// What the function's path begins with.
    module: &'static str,
    /// What its last segment begins with; any of them.
    functions: &'static [&'static str],
    reason: BlockReason,
    /// The verdicts of inner frames that this one replaces.
    replaces: &'static [BlockReason],
}

const fn row(
    module: &'static str,
    functions: &'static [&'static str],
    reason: BlockReason,
    replaces: &'static [BlockReason],
) -> Row {
    Row { module, functions, reason, replaces }
}

/// What blocking channel operations are made of.
const CHANNEL: &[BlockReason] = &[Park, Sync, CondWait, Sleep];

/// The first row that fits a function counts. Modules, not types: of inlined functions the type may not be known.
static ROWS: &[Row] = &[
    // std: locks. "poison" came into the paths with Rust 1.86.
    row("std::sys::sync::mutex::", &["lock"], Sync, &[]),
    row("std::sync::mutex::", &["lock"], Sync, &[]),
    row("std::sync::poison::mutex::", &["lock"], Sync, &[]),
    row("std::sync::nonpoison::mutex::", &["lock"], Sync, &[]),
    row("std::sync::reentrant_lock::", &["lock"], Sync, &[]),
    row("std::sys::sync::rwlock::", &["read"], RwLockRead, &[]),
    row("std::sys::sync::rwlock::", &["write", "upgrade"], RwLockWrite, &[]),
    row("std::sync::rwlock::", &["read"], RwLockRead, &[Park]),
    row("std::sync::rwlock::", &["write"], RwLockWrite, &[Park]),
    row("std::sync::poison::rwlock::", &["read"], RwLockRead, &[Park]),
    row("std::sync::poison::rwlock::", &["write"], RwLockWrite, &[Park]),
    row("std::sys::sync::condvar::", &["wait"], CondWait, &[]),
    row("std::sync::condvar::", &["wait"], CondWait, &[]),
    row("std::sync::poison::condvar::", &["wait"], CondWait, &[]),
    row("std::sync::nonpoison::condvar::", &["wait"], CondWait, &[]),
    row("std::sync::barrier::", &["wait"], Barrier, &[CondWait, Sync]),
    row("std::sys::sync::once::", &["call", "wait"], Once, &[Park]),
    row("std::sync::once::", &["call", "wait"], Once, &[Park]),
    row("std::sync::poison::once::", &["call", "wait"], Once, &[Park]),
    // std: channels; a rendezvous has its own parking.
    row("std::sync::mpmc::", &["recv", "next"], ChanReceive, CHANNEL),
    row("std::sync::mpmc::", &["send"], ChanSend, CHANNEL),
    row("std::sync::mpsc::", &["recv", "next"], ChanReceive, CHANNEL),
    row("std::sync::mpsc::", &["send"], ChanSend, CHANNEL),
    // std: threads.
    row("std::sys::sync::thread_parking::", &["park"], Park, &[]),
    row("std::thread::", &["park"], Park, &[]),
    row("std::thread::", &["sleep"], Sleep, &[]),
    row("std::thread::scoped::", &["scope"], Join, &[Park]),
    row("std::thread::", &["join"], Join, &[]),
    row("std::sys::thread::", &["join"], Join, &[]),
    row("std::sys::pal::unix::thread::", &["join"], Join, &[]),
    // parking_lot.
    row("parking_lot::raw_mutex::", &["lock"], Sync, &[]),
    row("parking_lot::raw_fair_mutex::", &["lock"], Sync, &[]),
    row("parking_lot::raw_rwlock::", &["lock_shared"], RwLockRead, &[]),
    row("parking_lot::raw_rwlock::", &["lock_exclusive", "upgrade", "lock_upgradable"], RwLockWrite, &[]),
    row("parking_lot::raw_rwlock::", &["wait_for_readers"], RwLockWrite, &[]),
    row("parking_lot::condvar::", &["wait"], CondWait, &[]),
    row("parking_lot::once::", &["call"], Once, &[]),
    // crossbeam.
    row("crossbeam_channel::select::", &["run_", "select", "ready"], Select, CHANNEL),
    row("crossbeam_channel::", &["recv", "next"], ChanReceive, CHANNEL),
    row("crossbeam_channel::", &["send"], ChanSend, CHANNEL),
    row("crossbeam_utils::sync::parker::", &["park"], Park, &[CondWait, Sync]),
    row("crossbeam_utils::sync::wait_group::", &["wait"], Sync, &[CondWait]),
    row("crossbeam_utils::thread::", &["join"], Join, &[]),
    row("crossbeam_utils::thread::", &["scope"], Join, &[CondWait, Sync]),
    // tokio: workers and the blocking pool wait for work; whoever calls the blocking forms waits for what they say.
    row("tokio::runtime::scheduler::multi_thread::", &["park"], Executor, &[CondWait, Sync, Park]),
    row("tokio::runtime::blocking::pool::", &["run"], Executor, &[CondWait]),
    row("tokio::runtime::park::", &["park"], Park, &[CondWait, Sync]),
    row("tokio::sync::mpsc::", &["blocking_recv"], ChanReceive, CHANNEL),
    row("tokio::sync::mpsc::", &["blocking_send"], ChanSend, CHANNEL),
    row("tokio::sync::oneshot::", &["blocking_recv"], ChanReceive, CHANNEL),
    row("tokio::sync::broadcast::", &["blocking_recv"], ChanReceive, CHANNEL),
    row("tokio::sync::mutex::", &["blocking_lock"], Sync, &[Park]),
    row("tokio::sync::rwlock::", &["blocking_read"], RwLockRead, &[Park]),
    row("tokio::sync::rwlock::", &["blocking_write"], RwLockWrite, &[Park]),
    // libc. C symbols are compared whole.
    row("", &["pthread_mutex_lock", "pthread_mutex_timedlock", "pthread_mutex_clocklock", "mtx_lock"], Sync, &[]),
    row("", &["sem_wait", "sem_timedwait", "sem_clockwait", "new_sem_wait_slow64"], Sync, &[]),
    row("", &["pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait", "cnd_wait"], CondWait, &[]),
    row("", &["pthread_rwlock_rdlock", "pthread_rwlock_timedrdlock", "pthread_rwlock_clockrdlock"], RwLockRead, &[]),
    row("", &["pthread_rwlock_wrlock", "pthread_rwlock_timedwrlock", "pthread_rwlock_clockwrlock"], RwLockWrite, &[]),
    row("", &["pthread_barrier_wait"], Barrier, &[]),
    row("", &["pthread_once"], Once, &[]),
    row("", &["pthread_join", "pthread_timedjoin_np", "pthread_clockjoin_ex", "thrd_join"], Join, &[]),
    row("", &["sleep", "usleep", "nanosleep", "clock_nanosleep", "thrd_sleep"], Sleep, &[]),
];

/// Crates that stand between the program and the kernel.
const LIBRARIES: &[&str] = &[
    "std",
    "core",
    "alloc",
    "parking_lot",
    "parking_lot_core",
    "lock_api",
    "crossbeam_channel",
    "crossbeam_utils",
    "tokio",
];

/// What the function with this [path](super::function_path::of) says.
pub(crate) fn waits(path: &str) -> Waits {
    let Some((_, last)) = path.rsplit_once("::") else {
        let row = ROWS.iter().find(|row| row.module.is_empty() && row.functions.contains(&path));
        return row.map_or(Waits::ForeignC, Waits::Rule);
    };
    let fits = |row: &&Row| {
        !row.module.is_empty()
            && path.starts_with(row.module)
            && row.functions.iter().any(|function| last.starts_with(function))
    };
    if let Some(row) = ROWS.iter().find(fits) {
        return Waits::Rule(row);
    }
    let library = path.split("::").next().is_some_and(|name| LIBRARIES.contains(&name));
    // The hooks stand at the leaf.
    if library || super::internal::role(path) != super::internal::Role::Shown { Waits::Library } else { Waits::Foreign }
}

/// The verdict on a stack, from what its functions say, leaf first.
pub(crate) fn classify(frames: impl Iterator<Item = Waits>) -> BlockReason {
    let mut verdict = Unknown;
    for waits in frames {
        match waits {
            Waits::Rule(row) if verdict == Unknown || row.replaces.contains(&verdict) => verdict = row.reason,
            Waits::Rule(_) | Waits::Library => {}
            Waits::ForeignC if verdict == Unknown => {}
            Waits::ForeignC | Waits::Foreign => break,
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::function_path;

    fn check(stack: &str, reason: BlockReason) {
        let frames = stack.split_whitespace().map(|name| waits(&function_path::of(name)));
        assert_eq!(classify(frames), reason, "{stack}");
    }

    const FUTEX: &str = "exectrace::hook::syscall::futex syscall std::sys::pal::unix::futex::futex_wait ";
    const PARK: &str = "std::sys::sync::thread_parking::futex::Parker::park std::thread::park ";

    #[test]
    fn the_program_ends_the_search() {
        check(&format!("{FUTEX}{PARK} user::f std::sync::mpmc::list::Channel<T>::recv"), Park);
        check(&format!("{FUTEX}{PARK} user::f std::thread::scoped::scope"), Park);
        check(&format!("{FUTEX} user::f std::sync::poison::mutex::Mutex<T>::lock"), Unknown);
        check("", Unknown);
        check("main", Unknown);
    }

    #[test]
    fn an_outer_frame_replaces_only_what_it_is_made_of() {
        check(&format!("{FUTEX}{PARK} std::sync::mpmc::list::Channel<T>::recv user::f"), ChanReceive);
        check(&format!("{FUTEX}{PARK} std::thread::scoped::scope user::f"), Join);
        // Without debug information the user's closure is not seen; its lock is no join.
        let lock = "std::sys::sync::mutex::futex::Mutex::lock_contended ";
        check(&format!("{FUTEX}{lock} std::thread::scoped::scope user::f"), Sync);
        check(&format!("{FUTEX}{lock} std::sync::poison::once::Once::call_once user::f"), Sync);
    }

    #[test]
    fn c_code_hides_nothing_inside_and_everything_outside() {
        check("libc.so.6+0x1234 futex_wait pthread_cond_wait@@GLIBC_2.3.2 queue_pop user::f", CondWait);
        check("syscall unknown ___pthread_mutex_lock", Sync);
        check("pthread_cond_wait queue_pop std::sync::barrier::Barrier::wait", CondWait);
        check("clock_nanosleep std::thread::sleep crossbeam_channel::flavors::tick::Channel::recv", ChanReceive);
    }

    #[test]
    fn reasons_survive_as_numbers_and_have_distinct_names() {
        for (i, reason) in BlockReason::ALL.into_iter().enumerate() {
            assert_eq!((reason as usize, BlockReason::from_u8(i as u8)), (i, reason));
            assert!(BlockReason::ALL[..i].iter().all(|other| other.as_str() != reason.as_str()));
        }
        assert_eq!(BlockReason::from_u8(200), Unknown);
    }

    #[test]
    fn no_row_is_hidden_by_an_earlier_one() {
        for (i, row) in ROWS.iter().enumerate() {
            for function in row.functions {
                let path = if row.module.is_empty() {
                    function.to_string()
                } else {
                    format!("{}::{function}", row.module.trim_end_matches(':'))
                };
                let Waits::Rule(found) = waits(&path) else { panic!("{path} is found nowhere") };
                assert!(std::ptr::eq(found, &ROWS[i]), "{path}: {found:?} before {row:?}");
            }
        }
    }
}
