//! How a trace begins and ends, for who started it: errors and counts.

use std::fmt;
use std::io;

use crate::format::Version;

/// Why tracing could not begin.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A trace is on already, or has failed and was not stopped yet; or this is a child that was not made by `fork` but by a raw
    /// `clone`, of a process that traced.
    AlreadyOn,
    /// The tracer does not write this version of the format.
    Version(Version),
    /// A trace's own writer cannot start another.
    InSink,
    /// The system has no memory for the tracer's own needs.
    OutOfMemory,
    /// The process has used up the numbers of generations: after 8 years of one-second generations.
    Exhausted,
    /// The tracer's thread could not be made.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::AlreadyOn => write!(f, "tracing is already on: call stop first"),
            StartError::Version(v) => write!(f, "format version 1.{} cannot be written: use 1.23 or later", v.minor()),
            StartError::Exhausted => write!(f, "this process has no generation numbers left"),
            StartError::InSink => write!(f, "a trace's own writer cannot start another"),
            StartError::OutOfMemory => write!(f, "no memory for the tracer"),
            StartError::Thread(e) => write!(f, "the tracer's thread could not be made: {e}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Thread(e) => Some(e),
            _ => None,
        }
    }
}

/// Why a trace did not end well.
#[derive(Debug)]
#[non_exhaustive]
pub enum StopError {
    /// No trace is on.
    NotOn,
    /// The sink itself called `stop`, which would wait for it. Tracing goes on; a sink that has enough returns an error.
    InSink,
    /// Writing failed, and the trace ended there: the first error, and what had been written and lost.
    Sink {
        /// What the sink returned.
        error: io::Error,
        /// As for a trace that ended well.
        stats: Stats,
    },
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopError::NotOn => write!(f, "tracing is not on"),
            StopError::InSink => write!(f, "the trace's own writer cannot stop it"),
            StopError::Sink { error, stats } => {
                write!(f, "the trace could not be written beyond {} bytes: {error}", stats.bytes)
            }
        }
    }
}

impl std::error::Error for StopError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StopError::NotOn | StopError::InSink => None,
            StopError::Sink { error, .. } => Some(error),
        }
    }
}

/// What a trace came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes given to the sink.
    pub bytes: u64,
    /// Generations written.
    pub generations: u32,
    /// Events that were not recorded because no buffer was left, the sink being too slow for the bound on buffers; or for which
    /// another bound was reached: names of regions and tasks, and regions open on one thread.
    pub lost_events_full: u64,
    /// Events that came while another was being recorded on the same thread: in signal handlers.
    pub lost_events_reentrant: u64,
    /// CPU samples that came while an event was being recorded, or found no room.
    pub lost_samples: u64,
    /// Allocations, reallocations and frees that were not recorded though [`Tracer::allocations`](crate::Tracer::allocations) asks for them: no buffer was left, or
    /// they happened inside an event, or on a thread after its end.
    pub lost_allocations: u64,
    /// Stacks that found no room in the stack table: their events have none. Counted since the program began.
    pub stacks_lost: u64,
    /// Waits and wakes that found no room in the table of those who wait, or could not have its lock: the trace does not say who
    /// woke whom there. Counted since the program began.
    pub unmatched_waits: u64,
}

impl Stats {
    /// Events that were not recorded, all reasons together.
    #[must_use]
    pub fn lost_events(&self) -> u64 {
        self.lost_events_full + self.lost_events_reentrant
    }
}
