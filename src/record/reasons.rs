//! The names that the tracer itself uses, interned before a trace begins so that hooks find their numbers without looking.

use core::sync::atomic::{AtomicU32, Ordering};

use super::string_table::{self, NameId};
pub(crate) use crate::names::fixed::Fixed;
use crate::names::fixed::TEXTS;

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
