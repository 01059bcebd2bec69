//! Which frames at the leaf of a stack a user of the trace does not want to see.
//!
//! Go's traces end at the function that the user knows: `sync.(*Mutex).Lock`, not the futex below it. So here.

/// What a function is to someone who reads a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Part of the program, or of a library's surface.
    Shown,
    /// The tracer, or the glue between a program and its allocator.
    Internal,
    /// What a library does between its surface and the kernel. Hidden only behind hidden frames, that is, where the tracer
    /// stood in the kernel's place: a CPU sample taken inside it shows it.
    Plumbing,
    /// Known to users, and also used by libraries: plumbing if plumbing called it.
    Either,
}

/// Crates and modules, by their path's beginning.
const PREFIXES: &[(&str, Role)] = &[
    ("exectrace::", Role::Internal),
    ("exectrace_alloc_shim::", Role::Internal),
    // The unwinder of the portable fallback.
    ("backtrace::", Role::Internal),
    ("alloc::alloc::", Role::Internal),
    ("__rustc::", Role::Internal),
    // Where futexes are called from, and what stands between them and the types of `std::sync`.
    ("std::sys::pal::unix::futex::", Role::Plumbing),
    ("std::sys::pal::unix::sync::", Role::Plumbing),
    ("std::sys::sync::", Role::Plumbing),
    ("std::sync::mpmc::context::", Role::Plumbing),
    ("std::sync::mpmc::waker::", Role::Plumbing),
    ("std::thread::park", Role::Either),
    ("std::thread::functions::park", Role::Either),
    ("std::thread::thread::Thread::park", Role::Either),
    ("std::thread::thread::park", Role::Either),
    ("std::thread::Thread::park", Role::Either),
    ("crossbeam_channel::context::", Role::Plumbing),
    ("crossbeam_channel::waker::", Role::Plumbing),
    ("parking_lot_core::", Role::Plumbing),
];

/// C symbols, without leading underscores.
const SYMBOLS: &[(&[&str], Role)] = &[
    (&["rust_alloc", "rust_alloc_zeroed", "rust_realloc", "rust_dealloc"], Role::Internal),
    (&["rg_alloc", "rg_alloc_zeroed", "rg_realloc", "rg_dealloc", "rdl_alloc", "rdl_dealloc"], Role::Internal),
    (&["malloc", "calloc", "realloc", "reallocarray", "free", "cfree"], Role::Internal),
    (&["posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc"], Role::Internal),
    (&["syscall"], Role::Plumbing),
];

/// The functions of a global allocator.
const ALLOCATOR: [&str; 4] = ["__rust_alloc", "__rust_alloc_zeroed", "__rust_realloc", "__rust_dealloc"];

/// The role of the function with this [path](super::function_path::of).
pub(crate) fn role(path: &str) -> Role {
    // The tracer's own tests are a program like any other.
    if path.starts_with("exectrace::") && path.contains("::tests::") {
        return Role::Shown;
    }
    let by_prefix = PREFIXES.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, role)| *role);
    // What `#[global_allocator]` makes stands in the crate that has it.
    if path.rsplit_once("::").is_some_and(|(_, name)| ALLOCATOR.contains(&name)) {
        return Role::Internal;
    }
    let by_symbol = || SYMBOLS.iter().find(|(names, _)| names.contains(&path)).map(|(_, role)| *role);
    by_prefix.or_else(by_symbol).unwrap_or(Role::Shown)
}

/// What a function is to the outer end of a stack, where a thread begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Part of the program.
    Inside,
    /// What the standard library calls a thread's function through, on purpose in a frame of its own: its own stacks end here too.
    Mark,
    /// What may stand between the mark and the thread's function.
    Glue,
}

/// What the function with this [path](super::function_path::of) is to the outer end of a stack.
pub(crate) fn entry(path: &str) -> Entry {
    match path {
        "std::sys::backtrace::__rust_begin_short_backtrace" => Entry::Mark,
        "core::ops::function::FnOnce::call_once" => Entry::Glue,
        _ => Entry::Inside,
    }
}

/// How many frames, from the leaf, are the thread's function and what it called: all, if there is no mark or nothing inside of it.
pub(crate) fn within_entry(entries: impl DoubleEndedIterator<Item = Entry> + ExactSizeIterator + Clone) -> usize {
    let all = entries.len();
    let Some(mark) = entries.clone().rposition(|e| e == Entry::Mark) else { return all };
    let glue = entries.rev().skip(all - mark).take_while(|e| *e == Entry::Glue).count();
    if mark > glue { mark - glue } else { all }
}

/// How many leading frames are not to be shown.
pub(crate) fn leading(roles: impl Iterator<Item = Role>) -> usize {
    let (mut hidden, mut undecided) = (0, 0);
    for role in roles {
        match role {
            Role::Internal => {}
            Role::Plumbing if hidden > 0 => {}
            Role::Either if hidden > 0 => {
                undecided += 1;
                continue;
            }
            _ => break,
        }
        hidden += undecided + 1;
        undecided = 0;
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::function_path;

    /// Checks a stack, leaf first, of which the names behind `|` are to be shown.
    fn check(stack: &str) {
        let (hidden, shown) = stack.split_once('|').expect("a |");
        let names = |part: &str| part.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let all = [names(hidden), names(shown)].concat();
        let n = leading(all.iter().map(|name| role(&function_path::of(name))));
        assert_eq!(n, names(hidden).len(), "{stack}");
    }

    #[test]
    fn the_leaf_is_what_the_user_knows() {
        for stack in [
            "exectrace::record::unwind::capture exectrace::hook::heap::on_alloc exectrace_alloc_shim::Shim<A,O>::alloc \
             __rustc::__rust_alloc alloc::alloc::alloc <alloc::alloc::Global>::alloc_impl | \
             alloc::raw_vec::RawVecInner<A>::grow_amortized user::work main",
            "exectrace::hook::syscall::futex std::sys::pal::unix::futex::futex_wait \
             std::sys::sync::mutex::futex::Mutex::lock_contended | std::sync::poison::mutex::Mutex<T>::lock user::work",
            "exectrace::hook::syscall::enter | read std::sys::fd::unix::FileDesc::read user::work",
            "exectrace::hook::thread::park syscall parking_lot_core::thread_parker::imp::ThreadParker::park \
             parking_lot_core::parking_lot::park | parking_lot::raw_mutex::RawMutex::lock_slow user::work",
            "exectrace::hook::futex std::sys::pal::unix::futex::futex_wait std::sys::sync::thread_parking::futex::Parker::park | \
             std::thread::park user::work",
            "exectrace::hook::futex std::sys::pal::unix::futex::futex_wait std::sys::sync::thread_parking::futex::Parker::park \
             std::thread::park std::sync::mpmc::context::Context::wait_until | std::sync::mpmc::list::Channel<T>::recv user::work",
            "exectrace::x malloc | g_malloc",
            "exectrace::x exectrace_alloc_shim::told app::__rust_alloc alloc::alloc::alloc | app::work",
            // A CPU sample in a lock's spin loop.
            "| std::sys::sync::mutex::futex::Mutex::lock_contended std::sync::poison::mutex::Mutex<T>::lock user::work",
            "| user::exectrace::work exectrace::hook::x",
            "| exectrace::record::writer::tests::works exectrace::record::x",
            "| exectrace_user::main",
            "| syscall user::work",
            "|",
        ] {
            check(stack);
        }
    }
}
