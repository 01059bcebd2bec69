//! The names that the tracer itself uses, interned before a trace begins so that hooks find their numbers without looking.

use core::sync::atomic::{AtomicU32, Ordering};

use super::string_table::{self, NameId};

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A fixed name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub(crate) enum Fixed { $($(#[$doc])* $name,)* }

        const TEXTS: &[&str] = &[$($text),*];
    };
}

// Where Go has a reason of the same sense, its word is used: its tools know it.
fixed! {
    Sync = "sync";
    CondWait = "sync.(*Cond).Wait";
    Select = "select";
    Network = "network";
    Sleep = "sleep";
    Join = "sync: join";
    Preempted = "preempted";
    SweepTermination = "GC sweep termination";
    MarkTermination = "GC mark termination";
    MinorCollection = "GC minor collection";
    /// Of regions, when there are more names than the table holds.
    OtherNames = "(more names)";
}

static IDS: [AtomicU32; TEXTS.len()] = [const { AtomicU32::new(0) }; TEXTS.len()];

/// Interns them. Before any generation opens.
pub(crate) fn prepare() {
    for (id, text) in IDS.iter().zip(TEXTS) {
        if id.load(Ordering::Relaxed) == 0 {
            id.store(string_table::intern(text).unwrap_or(0), Ordering::Relaxed);
        }
    }
}

impl Fixed {
    /// The number of the name. 0, which is the empty string, if the table was full before the first trace.
    pub(crate) fn id(self) -> NameId {
        IDS[self as usize].load(Ordering::Relaxed)
    }
}
