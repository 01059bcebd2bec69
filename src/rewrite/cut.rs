//! A part of a trace.

use super::clock::Clock;
use super::generation::{Batch, Generation, Generations};
use super::sink::Sink;
use super::{Error, Report};
use crate::format::EXPERIMENT_ALLOC_FREE;
use std::io::{Read, Write};

/// A span of time, in nanoseconds since the trace began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Where it begins; `None` is the beginning of the trace.
    pub from_ns: Option<u64>,
    /// Where it ends; `None` is the end of the trace.
    pub to_ns: Option<u64>,
}

/// Writes the generations that have anything of a window of time in them. `tick` is called with the number of bytes read, now
/// and then.
///
/// Go begins a generation each second, and so does this crate's tracer unless told otherwise: the part is longer than the
/// window by up to that much on either side. It reads no further than the window.
///
/// # Errors
/// [`Error::Cannot`] if the window begins after the trace has ended; else as the [module](super) says.
pub fn cut(input: impl Read, output: impl Write, window: Window, tick: &mut dyn FnMut(u64)) -> Result<Report, Error> {
    let mut generations = Generations::new(input).map_err(Error::Read)?;
    let mut sink = Sink::new(output, generations.version())?;
    let (mut read, mut written) = (0, 0);
    let (mut origin_ns, mut last_ns) = (None, 0);
    // Where a generation ends is where the next begins, so each is kept until that is known.
    let mut waiting: Option<Generation> = None;
    let mut info: Option<Batch> = None;
    let mut damage = None;
    loop {
        let next = match generations.next() {
            Ok(next) => next,
            Err(e) => {
                damage = Some(e);
                None
            }
        };
        tick(generations.bytes_read());
        let begin_ns = next.as_ref().and_then(|g| Some(Clock::of(g)?.ns(g.begin())));
        let origin = *origin_ns.get_or_insert(begin_ns.unwrap_or(0));
        let at_ns = begin_ns.map(|ns| ns.saturating_sub(origin));
        if let Some(mut g) = waiting.take() {
            // The last one ends with its last event, wherever that is.
            let end_ns = at_ns.unwrap_or_else(|| last_event_ns(&g).saturating_sub(origin));
            last_ns = end_ns;
            if window.from_ns.is_none_or(|from| from <= end_ns) {
                if written == 0 {
                    g.batches.extend(
                        info.take().filter(|_| !g.batches.iter().any(is_info)).map(|b| Batch { time: g.begin(), ..b }),
                    );
                }
                sink.write(&g)?;
                written += 1;
            }
        }
        let Some(g) = next else { break };
        read += 1;
        // A generation without a clock is damage that the reader tells of.
        if window.to_ns.is_some_and(|to| at_ns.is_some_and(|at| at > to)) {
            break;
        }
        if info.is_none() {
            info = g.batches.iter().find(|b| is_info(b)).cloned();
        }
        waiting = Some(g);
    }
    if written == 0 && read > 0 && damage.is_none() {
        let seconds = last_ns as f64 / 1e9;
        return Err(Error::Cannot(format!(
            "the window begins after the end of the trace, which is {seconds:.3} s long"
        )));
    }
    match damage {
        Some(e) => Err(sink.damaged(read, e)),
        None => sink.finish(read),
    }
}

/// Whether a batch tells how to read the experiment's events. Go writes it once, in the first generation.
fn is_info(b: &Batch) -> bool {
    b.experiment == Some(EXPERIMENT_ALLOC_FREE) && b.data.first() == Some(&1)
}

/// The time of a generation's last event.
fn last_event_ns(g: &Generation) -> u64 {
    let end = |b: &Batch| b.events().fold(b.time, |at, (_, args)| at.saturating_add(args[0]));
    let last = g.batches.iter().map(end).max().unwrap_or(0);
    Clock::of(g).map_or(0, |c| c.ns(last))
}
