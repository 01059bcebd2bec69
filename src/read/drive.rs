//! Who does the work: the caller's thread alone, or one or two threads of the reader's beside it.
//!
//! The work has two stages, bytes to generations and generations to blocks of events. [`Driver`] runs the second one and
//! gets generations from a [`Supply`]: from the first stage directly, or through a channel from a thread that runs it.
//! All channels are short, so that the memory in use stays a small number of generations and blocks; buffers go back
//! through channels of their own.

use super::merge::Merge;
use super::source::{Next, Source};
use super::{Block, Error};
use crate::format::Version;
use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

/// How many events make a block on one thread: 36 KiB of them, which stay in the nearest caches until they are looked at.
const BLOCK_EVENTS: usize = 512;
/// How many make one that goes to another thread: enough that the hand-over costs nothing beside it.
const SENT_BLOCK_EVENTS: usize = 8192;
/// How many blocks may wait for the caller.
const SENT_BLOCKS: usize = 4;

/// Where blocks come from.
pub(super) trait Blocks {
    /// Puts what comes next in `block`; leaves it empty at the end. An error comes after all events before it.
    fn next_block(&mut self, block: &mut Block) -> Result<(), Error>;
}

/// Where generations come from.
pub(super) trait Supply {
    fn next(&mut self) -> Next;

    /// Takes back a buffer.
    fn recycle(&mut self, buffer: Vec<u8>);
}

impl<R: Read> Supply for Source<R> {
    fn next(&mut self) -> Next {
        Source::next(self)
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        Source::recycle(self, buffer);
    }
}

/// Orders the generations that a supply gives.
pub(super) struct Driver<S> {
    supply: S,
    merge: Merge,
    state: State,
    /// Whether the input ends inside the generation at hand.
    cut: bool,
}

enum State {
    /// There is more.
    More,
    /// An error is to be told: the events before it were delivered.
    Failed(Error),
    /// Nothing comes any more.
    Done,
}

impl<S: Supply> Driver<S> {
    fn sized(supply: S, version: Version, block_events: usize) -> Driver<S> {
        Driver { supply, merge: Merge::new(version, block_events), state: State::More, cut: false }
    }

    /// For the caller's own thread.
    pub(super) fn new(supply: S, version: Version) -> Driver<S> {
        Driver::sized(supply, version, BLOCK_EVENTS)
    }

    fn more(&mut self, block: &mut Block) -> Result<State, Error> {
        let found = self.step(block);
        match found {
            // What is wrong with half a generation is that it is a half. The end that made it one comes next.
            Err(e) if self.cut => match self.supply.next() {
                Next::Broken(cut) => Err(cut.because_of(&e)),
                Next::Generation(_) | Next::End => Err(e),
            },
            found => found,
        }
    }

    fn step(&mut self, block: &mut Block) -> Result<State, Error> {
        if !self.merge.is_done() {
            self.merge.fill(block)?;
            return Ok(State::More);
        }
        self.cut = false;
        match self.supply.next() {
            Next::Generation(pending) => {
                self.cut = pending.cut;
                let buffer = self.merge.begin(*pending, block)?;
                self.supply.recycle(buffer);
                self.merge.fill(block)?;
                Ok(State::More)
            }
            Next::End => {
                self.merge.end(block);
                Ok(State::Done)
            }
            Next::Broken(e) => {
                self.merge.end(block);
                Err(e)
            }
        }
    }
}

impl<S: Supply> Blocks for Driver<S> {
    fn next_block(&mut self, block: &mut Block) -> Result<(), Error> {
        block.events.clear();
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => return Ok(()),
            State::Failed(e) => return Err(e),
            State::More => {}
        }
        match self.more(block) {
            Ok(state) => self.state = state,
            Err(e) if block.events().is_empty() => return Err(e),
            Err(e) => self.state = State::Failed(e),
        }
        Ok(())
    }
}

/// Generations from a thread that reads them.
pub(super) struct Piped {
    generations: Receiver<Next>,
    buffers: Sender<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

/// What to do where a thread has gone without an end or an error: if it has panicked, so do we. That is our own bug, and must not
/// look like the end of the trace.
fn join(thread: &mut Option<JoinHandle<()>>) {
    if let Some(Err(panic)) = thread.take().map(JoinHandle::join) {
        std::panic::resume_unwind(panic);
    }
}

impl Piped {
    /// Starts the thread. It reads one generation ahead, and leaves when the trace ends or the `Piped` is dropped.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start<R: Read + Send + 'static>(mut source: Source<R>) -> std::io::Result<Piped> {
        let (generations_in, generations) = sync_channel(0);
        let (buffers, buffers_out) = channel::<Vec<u8>>();
        let reads = thread::Builder::new().name("trace-read".into()).spawn(move || {
            loop {
                let next = source.next();
                let last = !matches!(next, Next::Generation(_));
                if generations_in.send(next).is_err() || last {
                    return;
                }
                buffers_out.try_iter().for_each(|b| source.recycle(b));
            }
        })?;
        Ok(Piped { generations, buffers, thread: Some(reads) })
    }
}

impl Supply for Piped {
    fn next(&mut self) -> Next {
        self.generations.recv().unwrap_or_else(|_| {
            join(&mut self.thread);
            Next::End
        })
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        // If the thread is gone it needs no buffer.
        let _ = self.buffers.send(buffer);
    }
}

/// Blocks from a thread that orders them.
pub(super) struct Threaded {
    blocks: Receiver<Result<Block, Error>>,
    empty: Sender<Block>,
    thread: Option<JoinHandle<()>>,
}

impl Threaded {
    /// Starts a thread that reads and one that orders. Both leave when the trace ends or the `Threaded` is dropped.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(super) fn start<R: Read + Send + 'static>(source: Source<R>, version: Version) -> std::io::Result<Threaded> {
        let generations = Piped::start(source)?;
        let (blocks_in, blocks) = sync_channel(SENT_BLOCKS);
        let (empty, empty_out) = channel();
        let driver = Driver::sized(generations, version, SENT_BLOCK_EVENTS);
        let orders = thread::Builder::new()
            .name("trace-order".into())
            .spawn(move || order(driver, version, &blocks_in, &empty_out))?;
        Ok(Threaded { blocks, empty, thread: Some(orders) })
    }
}

/// The loop of the thread that orders.
fn order(
    mut driver: Driver<Piped>,
    version: Version,
    blocks: &SyncSender<Result<Block, Error>>,
    empty: &Receiver<Block>,
) {
    loop {
        let mut block = empty.try_recv().unwrap_or_else(|_| Block::empty(version));
        let sent = match driver.next_block(&mut block) {
            Ok(()) => {
                let last = block.events().is_empty();
                blocks.send(Ok(block)).is_ok() && !last
            }
            Err(e) => {
                let _ = blocks.send(Err(e));
                false
            }
        };
        if !sent {
            return;
        }
    }
}

impl Blocks for Threaded {
    fn next_block(&mut self, block: &mut Block) -> Result<(), Error> {
        match self.blocks.recv() {
            Ok(Ok(next)) => {
                // If the thread is gone it needs no block.
                let _ = self.empty.send(std::mem::replace(block, next));
                Ok(())
            }
            Ok(Err(e)) => {
                block.events.clear();
                Err(e)
            }
            // The thread has left, after the end or an error if all is well.
            Err(_) => {
                join(&mut self.thread);
                block.events.clear();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Event, header::read_header};
    use std::path::Path;
    use std::sync::Arc;

    /// All events of a trace, by the short way or by the rules alone.
    fn events(mut trace: &[u8], rules_only: bool) -> (Vec<Event>, Option<String>) {
        let (version, header_bytes) = read_header(&mut trace).expect("a header");
        let source = Source::new(trace, version, header_bytes, Arc::default());
        let mut driver = Driver::new(source, version);
        driver.merge.rules_only(rules_only);
        let mut block = Block::empty(version);
        let mut all = Vec::new();
        loop {
            match driver.next_block(&mut block) {
                Ok(()) if block.events().is_empty() => return (all, None),
                Ok(()) => all.extend_from_slice(block.events()),
                Err(e) => return (all, Some(e.to_string())),
            }
        }
    }

    /// An input in which reading panics where it should end.
    struct Bomb(&'static [u8]);

    impl Read for Bomb {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            assert!(!self.0.is_empty(), "a bug of the input's");
            self.0.read(buf)
        }
    }

    #[test]
    fn a_thread_that_panics_is_no_end_of_the_trace() {
        let input = Bomb(b"go 1.26 trace\0\0\0");
        let version = Version::from_minor(26).expect("a version");
        let mut blocks = Threaded::start(Source::new(input, version, 0, Arc::default()), version).expect("threads");
        let mut block = Block::empty(version);
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| blocks.next_block(&mut block)));
        let panic = end.expect_err("the panic of the thread that reads");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug of the input's"));
    }

    #[test]
    fn the_short_way_does_what_the_rules_do() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let mut n = 0;
        for entry in std::fs::read_dir(dir).expect("data").flatten() {
            if entry.path().extension().is_none_or(|x| x != "trace") {
                continue;
            }
            let trace = std::fs::read(entry.path()).expect("a trace");
            let (by_short, error) = events(&trace, false);
            assert_eq!((by_short.len() > 40, &error), (true, &None), "{}", entry.path().display());
            assert_eq!((by_short, error), events(&trace, true), "{}", entry.path().display());
            // With a bit wrong at a place the two must stop at the same event.
            for at in (100..trace.len()).step_by(trace.len() / 60) {
                let mut bad = trace.clone();
                bad[at] ^= 1 << (at % 8);
                assert_eq!(events(&bad, false), events(&bad, true), "{}, bit of byte {at}", entry.path().display());
            }
            n += 1;
        }
        assert!(n >= 4, "{n} traces");
    }
}
