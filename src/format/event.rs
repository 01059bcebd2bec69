//! The table of events: number on the wire, name, arguments, since when.
//!
//! One table serves both halves: the writer takes the numbers from [`Kind`], the reader takes names and argument counts
//! from [`Kind::spec`]. Argument names and their suffixes (`_value`, `_string`, `_seq`) are Go's own, because the text
//! form of a trace prints them.

use super::Version;

/// What is known of one kind of event.
#[derive(Debug)]
pub struct Spec {
    /// The name that Go prints.
    pub name: &'static str,
    /// The names of the arguments; a timed event's first is `dt`, the time since the event before it.
    pub args: &'static [&'static str],
    /// Whether the event stands in a batch of timed events, so that its first argument is `dt`.
    pub timed: bool,
    /// The first version of the format that has it.
    pub since: Version,
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $since:ident, $timed:literal, [$($arg:literal),*];)*) => {
        /// An event, by its number on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $id,)*
        }

        impl Kind {
            /// All kinds, by rising number.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),*];

            /// The kind with this number.
            #[must_use]
            #[inline]
            pub const fn from_wire(v: u8) -> Option<Kind> {
                match v {
                    $($id => Some(Kind::$name),)*
                    _ => None,
                }
            }

            /// What is known of this kind.
            #[must_use]
            #[inline]
            pub const fn spec(self) -> &'static Spec {
                match self {
                    $(Kind::$name => &Spec {
                        name: stringify!($name),
                        args: &[$($arg),*],
                        timed: $timed,
                        since: Version::$since,
                    },)*
                }
            }
        }
    };
}

events! {
    /// A batch of the events of one thread in one generation.
    EventBatch = 1, Go122, false, ["gen", "m", "time", "size"];
    /// First byte of a stack table.
    Stacks = 2, Go122, false, [];
    /// One stack: its frames follow, leaf first, each `pc func file line`.
    Stack = 3, Go122, false, ["id", "nframes"];
    /// First byte of a string table.
    Strings = 4, Go122, false, [];
    /// One string: its length and its bytes follow.
    String = 5, Go122, false, ["id"];
    /// First byte of a batch of CPU samples.
    CPUSamples = 6, Go122, false, [];
    /// One CPU sample.
    CPUSample = 7, Go122, false, ["time", "m", "p", "g", "stack"];
    /// Clock units per second.
    Frequency = 8, Go122, false, ["freq"];
    /// The number of processors.
    ProcsChange = 9, Go122, true, ["dt", "procs_value", "stack"];
    /// The thread takes a processor.
    ProcStart = 10, Go122, true, ["dt", "p", "p_seq"];
    /// The thread gives its processor up.
    ProcStop = 11, Go122, true, ["dt"];
    /// A processor is taken from a thread that is in a system call.
    ProcSteal = 12, Go122, true, ["dt", "p", "p_seq", "m"];
    /// A processor's state at its first use in a generation.
    ProcStatus = 13, Go122, true, ["dt", "p", "pstatus"];
    /// A goroutine is created, runnable.
    GoCreate = 14, Go122, true, ["dt", "new_g", "new_stack", "stack"];
    /// A goroutine appears inside a system call.
    GoCreateSyscall = 15, Go122, true, ["dt", "new_g"];
    /// A goroutine begins to run.
    GoStart = 16, Go122, true, ["dt", "g", "g_seq"];
    /// The running goroutine ends.
    GoDestroy = 17, Go122, true, ["dt"];
    /// The goroutine ends inside a system call.
    GoDestroySyscall = 18, Go122, true, ["dt"];
    /// The running goroutine yields, still runnable.
    GoStop = 19, Go122, true, ["dt", "reason_string", "stack"];
    /// The running goroutine begins to wait.
    GoBlock = 20, Go122, true, ["dt", "reason_string", "stack"];
    /// A waiting goroutine becomes runnable.
    GoUnblock = 21, Go122, true, ["dt", "g", "g_seq", "stack"];
    /// The running goroutine enters a system call.
    GoSyscallBegin = 22, Go122, true, ["dt", "p_seq", "stack"];
    /// It leaves the call and still has its processor.
    GoSyscallEnd = 23, Go122, true, ["dt"];
    /// It leaves the call without a processor.
    GoSyscallEndBlocked = 24, Go122, true, ["dt"];
    /// A goroutine's state at the start of a generation.
    GoStatus = 25, Go122, true, ["dt", "g", "m", "gstatus"];
    /// The world is being stopped.
    STWBegin = 26, Go122, true, ["dt", "kind_string", "stack"];
    /// The world runs again.
    STWEnd = 27, Go122, true, ["dt"];
    /// A collection is under way at the start of the generation.
    GCActive = 28, Go122, true, ["dt", "gc_seq"];
    /// A collection begins.
    GCBegin = 29, Go122, true, ["dt", "gc_seq", "stack"];
    /// A collection's marking has ended.
    GCEnd = 30, Go122, true, ["dt", "gc_seq"];
    /// A sweep is under way on a processor at the start of the generation.
    GCSweepActive = 31, Go122, true, ["dt", "p"];
    /// A sweep begins on the processor.
    GCSweepBegin = 32, Go122, true, ["dt", "stack"];
    /// A sweep ends: bytes swept and bytes reclaimed.
    GCSweepEnd = 33, Go122, true, ["dt", "swept_value", "reclaimed_value"];
    /// A mark assist is under way at the start of the generation.
    GCMarkAssistActive = 34, Go122, true, ["dt", "g"];
    /// The goroutine begins to assist the marker.
    GCMarkAssistBegin = 35, Go122, true, ["dt", "stack"];
    /// It stops assisting.
    GCMarkAssistEnd = 36, Go122, true, ["dt"];
    /// Live heap bytes.
    HeapAlloc = 37, Go122, true, ["dt", "heapalloc_value"];
    /// The heap size in bytes at which the next collection is due.
    HeapGoal = 38, Go122, true, ["dt", "heapgoal_value"];
    /// A label of the running goroutine.
    GoLabel = 39, Go122, true, ["dt", "label_string"];
    /// A task begins.
    UserTaskBegin = 40, Go122, true, ["dt", "task", "parent_task", "name_string", "stack"];
    /// A task ends.
    UserTaskEnd = 41, Go122, true, ["dt", "task", "stack"];
    /// A region begins.
    UserRegionBegin = 42, Go122, true, ["dt", "task", "name_string", "stack"];
    /// A region ends.
    UserRegionEnd = 43, Go122, true, ["dt", "task", "name_string", "stack"];
    /// A log message.
    UserLog = 44, Go122, true, ["dt", "task", "key_string", "value_string", "stack"];
    /// The running goroutine blocks and hands its processor to another.
    GoSwitch = 45, Go123, true, ["dt", "g", "g_seq"];
    /// The running goroutine ends and hands its processor to another.
    GoSwitchDestroy = 46, Go123, true, ["dt", "g", "g_seq"];
    /// A goroutine is created, waiting.
    GoCreateBlocked = 47, Go123, true, ["dt", "new_g", "new_stack", "stack"];
    /// A goroutine's state, with a stack.
    GoStatusStack = 48, Go123, true, ["dt", "g", "m", "gstatus", "stack"];
    /// A batch of data of an experiment.
    ExperimentalBatch = 49, Go123, false, ["exp", "gen", "m", "time"];
    /// First byte of a batch with the clock.
    Sync = 50, Go125, false, [];
    /// One moment on the trace clock, the monotonic clock and the wall clock.
    ClockSnapshot = 51, Go125, true, ["dt", "mono", "sec", "nsec"];
    /// A bare byte: the generation is complete.
    EndOfGeneration = 52, Go126, false, [];
    /// A span of pages that exists.
    Span = 128, Go123, true, ["dt", "id", "npages_value", "kindclass"];
    /// A span of pages is allocated.
    SpanAlloc = 129, Go123, true, ["dt", "id", "npages_value", "kindclass"];
    /// A span is freed.
    SpanFree = 130, Go123, true, ["dt", "id"];
    /// An object that exists.
    HeapObject = 131, Go123, true, ["dt", "id", "type"];
    /// An object is allocated.
    HeapObjectAlloc = 132, Go123, true, ["dt", "id", "type"];
    /// An object is freed.
    HeapObjectFree = 133, Go123, true, ["dt", "id"];
    /// A goroutine stack that exists.
    GoroutineStack = 134, Go123, true, ["dt", "id", "order"];
    /// A goroutine stack is allocated.
    GoroutineStackAlloc = 135, Go123, true, ["dt", "id", "order"];
    /// A goroutine stack is freed.
    GoroutineStackFree = 136, Go123, true, ["dt", "id"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_kinds_agree() {
        for &k in Kind::ALL {
            assert_eq!(Kind::from_wire(k as u8), Some(k));
            let spec = k.spec();
            assert_eq!(spec.timed, spec.args.first() == Some(&"dt"), "{}", spec.name);
            assert!(spec.args.len() <= 6, "{}", spec.name);
        }
        assert_eq!(Kind::from_wire(0), None);
        assert_eq!(Kind::from_wire(53), None);
        assert_eq!(Kind::GoUnblock.spec().args, ["dt", "g", "g_seq", "stack"]);
    }
}
