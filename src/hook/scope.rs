//! Labels for what is allocated: a scope in the program's own words, cheaper than a region and seen only in the heap's answers.

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use crate::record::{is_enabled, string_table, thread};

/// A scope with a label: see [`scope!`](crate::scope!). It ends when it is dropped.
#[derive(Debug)]
#[must_use = "a scope ends when it is dropped"]
pub struct Scope {
    /// The label of the scope around it.
    before: Option<u32>,
    /// A scope is its thread's.
    _here: PhantomData<*const ()>,
}

impl Scope {
    /// Begins a scope: what the calling thread allocates until its end bears the label, unless a scope inside has another.
    ///
    /// With tracing off it costs a load and a branch, and does nothing also if tracing starts before its end. `exectrace heap
    /// --by label` tells labels apart. Texts beyond 1024 bytes are cut; a program has room for some 8,000 names.
    #[inline]
    pub fn new(label: &str) -> Scope {
        Scope { before: if is_enabled() { enter(label) } else { None }, _here: PhantomData }
    }
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        if let (Some(before), Some(t)) = (self.before, thread::current()) {
            t.label.store(before, Ordering::Relaxed);
        }
    }
}

#[cold]
fn enter(label: &str) -> Option<u32> {
    // Interning takes a lock: not from inside a hook.
    let entered = thread::Entered::quietly()?;
    let label = string_table::intern(label)?;
    Some(entered.thread.label.swap(label, Ordering::Relaxed))
}

/// Labels what the thread allocates from here to the end of the block: `exectrace::scope!("cache");`.
///
/// ```
/// fn fill() -> Vec<u8> {
///     exectrace::scope!("cache");
///     vec![0; 4096] // counts as "cache" in `exectrace heap --by label`
/// }
/// # assert_eq!(fill().len(), 4096);
/// ```
#[macro_export]
macro_rules! scope {
    ($label:expr) => {
        let _exectrace_scope = $crate::Scope::new($label);
    };
}
