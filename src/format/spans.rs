//! The longest waits of a stretch of a trace: regions, system calls, pauses of the world; and the messages of a category.
//!
//! It reads batches as they come, a generation at a time or in pieces, and keeps what is open on each thread. So it can stand behind a
//! recorder and say when something took too long. It is for traces of threads, as the tracer writes them, where a goroutine stays on its
//! thread: a region or a call is between its begin and its end there.
//!
//! What it does not understand it passes over: it judges nothing.

use std::collections::{HashMap, HashSet};

use super::{Kind, MAX_BATCH_BYTES, varint};

/// What took how long, in the order of [`Spans::longest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// A region of the program's own.
    Region,
    /// A system call.
    Syscall,
    /// A pause of the world, for a collector.
    Pause,
}

/// The category of the messages that tell of allocations that failed.
pub const ALLOCATION_FAILURE: &str = "allocation failure";

const SPANS: usize = 3;
/// Regions nest; deeper ones are taken as a part of those around them.
const DEPTH_MAX: usize = 64;
/// Threads that are known at once. Further ones are not looked at: they come and go.
const THREADS_MAX: usize = 1 << 16;
/// Categories of messages that wait for their names.
const CATEGORIES_MAX: usize = 1 << 12;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Spans {
    /// The category that is looked for.
    category: Option<String>,
    threads: HashMap<u64, Open>,
    longest: [u64; SPANS],
    messages: bool,
    generation: u64,
    /// Categories of this generation's messages, and the number of the wanted one.
    categories: HashSet<u64>,
    wanted: Option<u64>,
}

/// What is open on a thread: times of begin.
#[derive(Debug, Default)]
struct Open {
    regions: Vec<u64>,
    /// How many there are beyond the deepest of these.
    deeper: u64,
    syscall: Option<u64>,
    pause: Option<u64>,
}

impl Spans {
    /// Nothing is open. Messages of `category` are looked for, if it says one.
    #[must_use]
    pub fn new(category: Option<&str>) -> Spans {
        Spans { category: category.map(str::to_owned), ..Spans::default() }
    }

    /// Reads whole batches from the beginning of `bytes`, which are what comes next of a trace without its header. How many bytes
    /// that were; the rest is the beginning of a batch, and is to be given again when there is more of it. `None` if it is no trace.
    pub fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.batch(&bytes[at..]) {
                Ok(n) => at += n,
                Err(Stop::Cut) => break,
                Err(Stop::Wrong) => return None,
            }
        }
        Some(at)
    }

    /// The longest that has ended since this was last asked, in nanoseconds; 0 if none has. Those that are open count from when they end.
    #[must_use]
    pub fn longest(&mut self, what: Span) -> u64 {
        core::mem::take(&mut self.longest[what as usize])
    }

    /// Whether there was a message of the category since this was last asked.
    #[must_use]
    pub fn has_message(&mut self) -> bool {
        core::mem::take(&mut self.messages)
    }

    fn batch(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let mut rest = bytes;
        let first = byte(&mut rest)?;
        let experimental = first == Kind::ExperimentalBatch as u8;
        if first == Kind::EndOfGeneration as u8 {
            return Ok(1);
        }
        if experimental {
            byte(&mut rest)?;
        } else if first != Kind::EventBatch as u8 {
            return Err(Stop::Wrong);
        }
        let (generation, thread, time) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
        let size = usize::try_from(number(&mut rest)?).map_err(|_| Stop::Wrong)?;
        // The tables of private data may be larger than a batch of events.
        if size > MAX_BATCH_BYTES && !experimental {
            return Err(Stop::Wrong);
        }
        let data = rest.get(..size).ok_or(Stop::Cut)?;
        let read = bytes.len() - rest.len() + size;
        if generation != self.generation {
            self.generation = generation;
            self.categories.clear();
            self.wanted = None;
        }
        if !experimental {
            self.content(thread, time, data);
        }
        Ok(read)
    }

    fn content(&mut self, thread: u64, time: u64, data: &[u8]) {
        match data.first().copied().and_then(Kind::from_wire) {
            Some(Kind::Strings) if self.category.is_some() => {
                let _ = self.strings(&data[1..]);
            }
            Some(kind) if kind.spec().timed => {
                let _ = self.events(thread, time, data);
            }
            _ => {}
        }
    }

    fn strings(&mut self, mut rest: &[u8]) -> Result<(), Stop> {
        while !rest.is_empty() {
            byte(&mut rest)?;
            let (id, len) = (number(&mut rest)?, number(&mut rest)? as usize);
            let text = rest.get(..len).ok_or(Stop::Cut)?;
            rest = &rest[len..];
            if self.category.as_ref().is_some_and(|wanted| wanted.as_bytes() == text) {
                self.wanted = Some(id);
                self.messages |= self.categories.contains(&id);
            }
        }
        Ok(())
    }

    fn events(&mut self, thread: u64, mut time: u64, mut rest: &[u8]) -> Result<(), Stop> {
        if !self.threads.contains_key(&thread) && self.threads.len() >= THREADS_MAX {
            return Ok(());
        }
        let open = self.threads.entry(thread).or_default();
        let mut is_gone = false;
        let longest = &mut self.longest;
        let mut ended = |what: Span, begin: Option<u64>, end: u64| {
            let ns = begin.map_or(0, |begin| end.saturating_sub(begin));
            longest[what as usize] = longest[what as usize].max(ns);
        };
        while !rest.is_empty() {
            let kind = Kind::from_wire(byte(&mut rest)?).ok_or(Stop::Wrong)?;
            let mut args = [0; 6];
            for arg in args.iter_mut().take(kind.spec().args.len()) {
                *arg = number(&mut rest)?;
            }
            time = time.saturating_add(args[0]);
            match kind {
                Kind::UserRegionBegin if open.regions.len() < DEPTH_MAX => open.regions.push(time),
                Kind::UserRegionBegin => open.deeper += 1,
                Kind::UserRegionEnd if open.deeper > 0 => open.deeper -= 1,
                Kind::UserRegionEnd => ended(Span::Region, open.regions.pop(), time),
                Kind::GoSyscallBegin => open.syscall = Some(time),
                Kind::GoSyscallEnd | Kind::GoSyscallEndBlocked => ended(Span::Syscall, open.syscall.take(), time),
                Kind::STWBegin => open.pause = Some(time),
                Kind::STWEnd => ended(Span::Pause, open.pause.take(), time),
                Kind::UserLog if self.category.is_some() => {
                    self.messages |= self.wanted == Some(args[2]);
                    if self.categories.len() < CATEGORIES_MAX {
                        self.categories.insert(args[2]);
                    }
                }
                // The thread's number may be another's from here on. Nothing but the end of its processor comes behind that.
                Kind::GoDestroy | Kind::GoDestroySyscall => {
                    *open = Open::default();
                    is_gone = true;
                }
                Kind::ProcStop => {}
                _ => is_gone = false,
            }
        }
        if is_gone {
            self.threads.remove(&thread);
        }
        Ok(())
    }
}

enum Stop {
    /// There is more to come.
    Cut,
    Wrong,
}

fn byte(rest: &mut &[u8]) -> Result<u8, Stop> {
    let (&first, more) = rest.split_first().ok_or(Stop::Cut)?;
    *rest = more;
    Ok(first)
}

fn number(rest: &mut &[u8]) -> Result<u64, Stop> {
    match varint::read(rest) {
        Some((value, used)) => {
            *rest = &rest[used..];
            Ok(value)
        }
        None if rest.len() < varint::MAX_BYTES => Err(Stop::Cut),
        None => Err(Stop::Wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(to: &mut Vec<u8>, value: u64) {
        let mut bytes = [0; varint::MAX_BYTES];
        let n = varint::write(&mut bytes, value);
        to.extend_from_slice(&bytes[..n]);
    }

    fn batch(generation: u64, thread: u64, time: u64, data: &[u8]) -> Vec<u8> {
        let mut all = vec![Kind::EventBatch as u8];
        [generation, thread, time, data.len() as u64].into_iter().for_each(|v| put(&mut all, v));
        all.extend_from_slice(data);
        all
    }

    fn event(kind: Kind, args: &[u64]) -> Vec<u8> {
        assert_eq!(args.len(), kind.spec().args.len());
        let mut all = vec![kind as u8];
        args.iter().for_each(|&v| put(&mut all, v));
        all
    }

    #[test]
    fn the_longest_of_each_kind_is_found_also_across_generations_and_in_pieces() {
        let first = [
            event(Kind::UserRegionBegin, &[5, 0, 1, 0]),
            event(Kind::GoSyscallBegin, &[10, 1, 0]),
            event(Kind::GoSyscallEnd, &[700]),
            event(Kind::UserRegionBegin, &[0, 0, 1, 0]),
            event(Kind::UserRegionEnd, &[30, 0, 1, 0]),
            event(Kind::STWBegin, &[1, 1, 0]),
            event(Kind::STWEnd, &[44]),
        ];
        let second = [event(Kind::UserRegionEnd, &[0, 0, 1, 0]), event(Kind::GoSyscallEnd, &[9])];
        let trace = [batch(1, 7, 1000, &first.concat()), batch(2, 7, 9000, &second.concat())].concat();
        for step in [1, 3, 1000] {
            let mut spans = Spans::new(None);
            let (mut from, mut to) = (0, 0);
            while from < trace.len() {
                to = (to + step).min(trace.len());
                from += spans.read(&trace[from..to]).expect("a trace");
            }
            assert_eq!([Span::Region, Span::Syscall, Span::Pause].map(|s| spans.longest(s)), [9000 - 1005, 700, 44]);
            assert_eq!(spans.longest(Span::Region), 0, "asked once");
        }
        assert_eq!(Spans::new(None).read(&[99]), None);
    }

    #[test]
    fn messages_are_known_by_the_name_of_their_category_wherever_that_stands() {
        let log = |key| event(Kind::UserLog, &[1, 0, key, 9, 0]);
        let name = |id: u8| [&[Kind::Strings as u8, Kind::String as u8, id, 4][..], b"oops"].concat();
        for (bytes, found) in [
            ([batch(1, 7, 0, &log(3)), batch(1, 7, 0, &name(3))].concat(), true),
            ([batch(1, 7, 0, &name(3)), batch(1, 7, 0, &log(3))].concat(), true),
            ([batch(1, 7, 0, &log(4)), batch(1, 7, 0, &name(3))].concat(), false),
            // Numbers are of one generation.
            ([batch(1, 7, 0, &log(3)), batch(2, 7, 0, &name(3))].concat(), false),
        ] {
            let mut spans = Spans::new(Some("oops"));
            assert_eq!(spans.read(&bytes), Some(bytes.len()));
            assert_eq!(spans.has_message(), found);
            assert!(!spans.has_message());
        }
    }
}
