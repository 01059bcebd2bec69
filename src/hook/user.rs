//! The program's own annotations: tasks, regions and log messages, as in Go's `runtime/trace`.
//!
//! A *task* is a logical operation that may span threads; a *region* is a span of time on one thread, possibly part of a task; a
//! *log* message is a moment. With tracing off each costs a load and a branch.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::format::Kind;
use crate::record::reasons::Fixed;
use crate::record::region::Position;
use crate::record::stacks::{self, Leaf};
use crate::record::thread::{Entered, bump};
use crate::record::{is_enabled, string_table};

/// The task that everything belongs to that belongs to no other.
const BACKGROUND: u64 = 0;

static NEXT_TASK: AtomicU64 = AtomicU64::new(1);

/// A logical operation: a request, a job. It begins when it is made and ends when it is dropped, on whichever thread.
///
/// ```
/// let request = exectrace::Task::new("request");
/// request.log("path", "/index.html");
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         let _parsing = request.region("parse");
///         // ...
///     });
/// });
/// drop(request);
/// ```
#[derive(Debug)]
#[must_use = "a task ends when it is dropped"]
pub struct Task {
    id: u64,
}

impl Task {
    /// Begins a task.
    pub fn new(name: &str) -> Task {
        Task::begin(name, BACKGROUND)
    }

    /// Begins a task that is part of this one.
    pub fn subtask(&self, name: &str) -> Task {
        Task::begin(name, self.id)
    }

    fn begin(name: &str, parent: u64) -> Task {
        if !is_enabled() {
            return Task { id: BACKGROUND };
        }
        Task { id: begin_task(name, parent).unwrap_or(BACKGROUND) }
    }

    /// The task's number in the trace; 0 if tracing was off when it began.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Begins a region on the calling thread that is part of this task.
    pub fn region(&self, name: &str) -> Region {
        Region::begin(name, self.id)
    }

    /// Runs `f` inside a region that is part of this task.
    #[inline]
    pub fn with_region<R>(&self, name: &str, f: impl FnOnce() -> R) -> R {
        let _region = self.region(name);
        f()
    }

    /// Logs a message that belongs to this task; [`log!`](crate::log!) does it with a format.
    pub fn log(&self, category: &str, message: &str) {
        if is_enabled() {
            write_log(self.id, category, message);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.id != BACKGROUND && is_enabled() {
            end_task(self.id);
        }
    }
}

#[cold]
fn begin_task(name: &str, parent: u64) -> Option<u64> {
    let entered = Entered::new()?;
    let known = string_table::intern(name);
    let stack = stacks::capture(&entered, Leaf::None);
    let mut s = entered.section()?;
    let now = s.now();
    if !s.ensure_running(now) {
        return None;
    }
    let name = match known {
        Some(known) => Some(s.name(known)),
        // The table is full; this one event needs the name.
        None => s.text(name),
    };
    let Some(name) = name else {
        bump(&entered.thread.lost_full, 1);
        return None;
    };
    let id = NEXT_TASK.fetch_add(1, Ordering::Relaxed);
    let stack = s.stack(stack);
    s.emit(Kind::UserTaskBegin, now, [id, parent, name, stack]);
    Some(id)
}

#[cold]
fn end_task(id: u64) {
    let Some(entered) = Entered::new() else { return };
    let stack = stacks::capture(&entered, Leaf::None);
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    if s.ensure_running(now) {
        let stack = s.stack(stack);
        s.emit(Kind::UserTaskEnd, now, [id, stack]);
    }
}

/// A span of time on the thread that began it. It ends when it is dropped.
///
/// Regions of a thread nest. One that is dropped before those inside it ends them too; one that is dropped on another thread, or
/// never, ends with the region around it or with its thread.
///
/// ```
/// let reading = exectrace::Region::new("read");
/// // ...
/// drop(reading);
/// let _writing = exectrace::Region::new("write"); // to the end of the scope; `_` alone would drop it at once
/// ```
#[derive(Debug)]
#[must_use = "a region ends when it is dropped"]
pub struct Region {
    /// Where it stands on its thread, and that thread's goroutine.
    open: Option<(Position, u64)>,
}

impl Region {
    /// Begins a region.
    #[inline]
    pub fn new(name: &str) -> Region {
        Region::begin(name, BACKGROUND)
    }

    #[inline]
    fn begin(name: &str, task: u64) -> Region {
        Region { open: if is_enabled() { begin_region(name, task) } else { None } }
    }
}

impl Drop for Region {
    #[inline]
    fn drop(&mut self) {
        if let Some((at, goid)) = self.open
            && is_enabled()
        {
            end_region(at, goid);
        }
    }
}

fn begin_region(name: &str, task: u64) -> Option<(Position, u64)> {
    let entered = Entered::new()?;
    // The end of a region, maybe generations later, names it too: so it has a name that lasts.
    let name = string_table::intern(name).unwrap_or_else(|| Fixed::OtherNames.id());
    let stack = stacks::capture(&entered, Leaf::None);
    let mut s = entered.section()?;
    let now = s.now();
    if !s.ensure_running(now) {
        return None;
    }
    let stack = s.stack(stack);
    let at = s.region_begin(now, task, name, stack);
    if at.is_none() {
        bump(&entered.thread.lost_full, 1);
    }
    at.map(|at| (at, entered.thread.goid.load(Ordering::Relaxed)))
}

fn end_region(at: Position, goid: u64) {
    let Some(entered) = Entered::new() else { return };
    if entered.thread.goid.load(Ordering::Relaxed) != goid {
        return;
    }
    let stack = stacks::capture(&entered, Leaf::None);
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    if s.ensure_running(now) {
        let stack = s.stack(stack);
        s.region_end(now, at, stack);
    }
}

/// Runs `f` inside a region.
///
/// ```
/// let sum: u64 = exectrace::with_region("sum", || (1..=10).sum());
/// assert_eq!(sum, 55);
/// ```
#[inline]
pub fn with_region<R>(name: &str, f: impl FnOnce() -> R) -> R {
    let _region = Region::new(name);
    f()
}

/// Logs a message. Texts beyond 1024 bytes are cut. See [`log!`](crate::log!) for messages that have to be put together.
///
/// ```
/// exectrace::log("cache", "miss");
/// ```
#[inline]
pub fn log(category: &str, message: &str) {
    if is_enabled() {
        write_log(BACKGROUND, category, message);
    }
}

fn write_log(task: u64, category: &str, message: &str) {
    let Some(entered) = Entered::new() else { return };
    let category_id = string_table::intern(category);
    let stack = stacks::capture(&entered, Leaf::None);
    let Some(mut s) = entered.section() else { return };
    let now = s.now();
    if !s.ensure_running(now) {
        return;
    }
    let key = match category_id {
        Some(id) => Some(s.name(id)),
        None => s.text(category),
    };
    let (Some(key), Some(value)) = (key, s.text(message)) else {
        bump(&entered.thread.lost_full, 1);
        return;
    };
    let stack = s.stack(stack);
    s.emit(Kind::UserLog, now, [task, key, value, stack]);
}

/// The longest message of [`log_fmt`], in bytes: what the format can hold.
const MESSAGE_BYTES: usize = crate::format::MAX_STRING_BYTES;

/// What [`log!`](crate::log!) expands to: formats into a buffer on the stack, so that nothing is allocated.
#[doc(hidden)]
#[cold]
pub fn log_fmt(task: Option<&Task>, category: &str, message: fmt::Arguments<'_>) {
    struct Text {
        bytes: [u8; MESSAGE_BYTES],
        len: usize,
    }
    impl fmt::Write for Text {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            let room = MESSAGE_BYTES - self.len;
            let mut n = s.len().min(room);
            while !s.is_char_boundary(n) {
                n -= 1;
            }
            self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
            self.len += n;
            if n < s.len() { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut text = Text { bytes: [0; MESSAGE_BYTES], len: 0 };
    // An error means that the message is longer than fits: what fits is logged.
    let _ = fmt::write(&mut text, message);
    let task = task.map_or(BACKGROUND, |task| task.id);
    write_log(task, category, core::str::from_utf8(&text.bytes[..text.len]).unwrap_or(""));
}

/// Logs a formatted message: `log!("cache", "miss for {key}")`, or one that belongs to a task: `log!(task: &request, "cache", "miss for
/// {key}")`. Formats nothing while tracing is off, and allocates nothing.
#[macro_export]
macro_rules! log {
    (task: $task:expr, $category:expr, $($message:tt)+) => {
        if $crate::is_enabled() {
            $crate::__log_fmt(::core::option::Option::Some($task), $category, ::core::format_args!($($message)+));
        }
    };
    ($category:expr, $($message:tt)+) => {
        if $crate::is_enabled() {
            $crate::__log_fmt(::core::option::Option::None, $category, ::core::format_args!($($message)+));
        }
    };
}
