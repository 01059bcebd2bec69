//! The small types that an event is made of: a moment, and the ids of threads, processors, goroutines and tasks.
//!
//! They stand below everything else in `read`. Each id is the number that the trace holds, neither checked nor renumbered.

use std::fmt;

/// A moment on the clock of the trace, in nanoseconds.
///
/// Only differences mean something, unless the generation has a clock snapshot
/// ([`Sync::clock`](super::Sync::clock)) that ties the clock to the wall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// Nanoseconds from `earlier` to `self`; negative if `self` is the earlier one, saturating at the ends of `i64`.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Time) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `ns` nanoseconds later, saturating.
    #[must_use]
    #[inline]
    pub const fn plus(self, ns: i64) -> Time {
        Time(self.0.saturating_add(ns))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The number that stands for "none".
            pub const NONE: Self = Self(u64::MAX);

            /// Whether this is [`NONE`](Self::NONE).
            #[must_use]
            #[inline]
            pub const fn is_none(self) -> bool {
                self.0 == u64::MAX
            }

            /// The id as an `Option`, for `if let` and `map`.
            #[must_use]
            #[inline]
            pub const fn some(self) -> Option<Self> {
                if self.is_none() { None } else { Some(self) }
            }
        }

        /// The number as Go prints it: signed, so that "none" is `-1`.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (self.0 as i64).fmt(f)
            }
        }
    };
}

id! {
    /// An operating-system thread, which Go calls an M.
    ThreadId
}
id! {
    /// A processor, which Go calls a P: the right to run.
    ProcId
}
id! {
    /// A goroutine; in a native program, a thread's own strand of work or an async task.
    GoId
}
id! {
    /// A user task.
    TaskId
}

impl TaskId {
    /// The task of regions and logs that stand in no task.
    pub const BACKGROUND: TaskId = TaskId(0);
}

/// A string of a generation's string table. `StringId(0)` is the empty string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StringId(pub u64);

/// A stack of a generation's stack table. `StackId(0)` is "no stack".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u64);

impl StackId {
    /// No stack.
    pub const NONE: StackId = StackId(0);

    /// Whether this is [`NONE`](Self::NONE).
    #[must_use]
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}
