//! Cuts a trace at its generations.
//!
//! A flight recorder hands out a header and the last few generations; so every run of generations of a good trace must be
//! a good trace. This module knows batches and nothing of what is in them.

use exectrace::format::{Kind, header::HEADER_BYTES, varint};
use std::ops::Range;

/// Where the generations of a trace stand.
pub struct Split {
    /// The bytes of each generation, in the file's order. Each begins where the one before ends.
    pub generations: Vec<Range<usize>>,
    /// Batches in the trace.
    pub batches: usize,
}

/// A run of generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The place of the first generation, from 0.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Their bytes.
    pub bytes: Range<usize>,
}

impl Split {
    /// Finds the generations of a trace.
    ///
    /// # Errors
    /// In words, if the bytes are no sequence of whole batches, or a generation's batches don't stand together.
    pub fn new(trace: &[u8]) -> Result<Split, String> {
        if trace.len() < HEADER_BYTES || !trace.starts_with(b"go 1.") {
            return Err("no header".into());
        }
        let mut generations: Vec<Range<usize>> = Vec::new();
        let mut current = None;
        let (mut at, mut batches) = (HEADER_BYTES, 0);
        while at < trace.len() {
            if trace[at] == Kind::EndOfGeneration as u8 {
                let Some(last) = generations.last_mut().filter(|_| current.is_some()) else {
                    return Err(format!("end of no generation at byte {at}"));
                };
                at += 1;
                last.end = at;
                current = None;
                continue;
            }
            let (generation, end) = batch(trace, at).ok_or_else(|| format!("no whole batch at byte {at}"))?;
            match current {
                Some(g) if g == generation => generations.last_mut().expect("one is open").end = end,
                Some(g) if generation < g => return Err(format!("generation {generation} after {g} at byte {at}")),
                _ => generations.push(at..end),
            }
            current = Some(generation);
            at = end;
            batches += 1;
        }
        Ok(Split { generations, batches })
    }

    /// Every window of 1 to `most` generations.
    pub fn windows(&self, most: usize) -> impl Iterator<Item = Window> + '_ {
        (1..=most).flat_map(move |count| {
            self.generations.windows(count).enumerate().map(move |(first, w)| Window {
                first,
                count,
                bytes: w[0].start..w[count - 1].end,
            })
        })
    }
}

/// Every window of 1 to 6 generations of `trace`, each a trace of its own.
///
/// # Panics
/// If the trace can't be split.
pub fn windows(trace: &[u8]) -> Vec<Vec<u8>> {
    let split = Split::new(trace).unwrap_or_else(|e| panic!("the trace can't be split: {e}"));
    split.windows(6).map(|w| [&trace[..HEADER_BYTES], &trace[w.bytes]].concat()).collect()
}

/// The generation of the batch at `at`, and where the batch ends.
fn batch(trace: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut p = match trace[at] {
        b if b == Kind::EventBatch as u8 => at + 1,
        // One byte for the experiment.
        b if b == Kind::ExperimentalBatch as u8 => at + 2,
        _ => return None,
    };
    let mut fields = [0; 4];
    for f in &mut fields {
        let (value, len) = varint::read(trace.get(p..)?)?;
        (*f, p) = (value, p + len);
    }
    let [generation, _thread, _time, size] = fields;
    let end = p.checked_add(usize::try_from(size).ok()?)?;
    (end <= trace.len()).then_some((generation, end))
}
