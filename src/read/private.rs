//! Data of ours in a trace: what [`format::private`](crate::format::private) describes, decoded.
//!
//! Go's tools skip it. It stands in batches of an experiment, so a generation gives it whole, before its events.

use super::error::{Error, Faulty, fault};
use super::table::Fields;
use super::{Allocations, ExperimentalBatch, Generation, ThreadId, Time};
use crate::format::EXPERIMENT_ALLOC_FREE;
use crate::format::private::{PRIVATE, Section as Kind};
use crate::format::varint::unzigzag;

/// A private section and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// The thread that wrote it.
    pub thread: ThreadId,
    /// The time of its batch.
    pub time: Time,
    /// What is in it.
    pub content: Private<'a>,
}

/// What is in a private section.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Private<'a> {
    /// What wrote the trace and how: key and value, see [`meta`](crate::format::private::meta).
    Meta(Vec<(&'a str, &'a str)>),
    /// Samples of series.
    Series(Vec<Series<'a>>),
    /// Files mapped with code.
    Modules(Vec<Module<'a>>),
    /// Allocations and frees of a thread.
    Allocations(Allocations<'a>),
    /// A section that this version does not know: its number and its bytes.
    Unknown(u8, &'a [u8]),
}

/// Samples of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series<'a> {
    /// Its name, which ends in the unit.
    pub name: &'a str,
    /// Its samples, by time.
    pub samples: Vec<(Time, i64)>,
}

/// A file mapped with code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// The first address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// The offset in the file of the first address.
    pub file_offset: u64,
    /// The build id in hexadecimal digits; empty if it has none.
    pub build_id: &'a str,
    /// The file's path.
    pub path: &'a str,
}

impl Generation {
    /// The private sections of the generation, in the order of the file. A section that cannot be decoded is an error; the
    /// others are still given.
    pub fn sections(&self) -> impl Iterator<Item = Result<Section<'_>, Error>> {
        self.experimental_batches()
            .filter(|b| b.experiment == EXPERIMENT_ALLOC_FREE && b.data.first() == Some(&PRIVATE))
            .map(|b| {
                let content = decode(&b, self.number).map_err(|f| f.at(Some(self.number), b.thread.some(), None))?;
                Ok(Section { thread: b.thread, time: b.time, content })
            })
    }
}

fn decode<'a>(batch: &ExperimentalBatch<'a>, generation: u64) -> Faulty<Private<'a>> {
    let mut d = Fields::after_first_byte(batch.data);
    let Some(number) = d.byte() else { return Err(fault!(Table, "an empty private section")) };
    match Kind::from_wire(number) {
        Some(Kind::Meta) => {
            let mut pairs = Vec::new();
            while !d.rest.is_empty() {
                pairs.push((text(&mut d)?, text(&mut d)?));
            }
            Ok(Private::Meta(pairs))
        }
        Some(Kind::Series) => {
            let mut all = Vec::new();
            while !d.rest.is_empty() {
                all.push(series(&mut d, batch.time)?);
            }
            Ok(Private::Series(all))
        }
        Some(Kind::Modules) => {
            let mut all = Vec::new();
            while !d.rest.is_empty() {
                let start = d.number("a module's start")?;
                let end = d.number("a module's end")?;
                let file_offset = d.number("a module's offset")?;
                all.push(Module { start, end, file_offset, build_id: text(&mut d)?, path: text(&mut d)? });
            }
            Ok(Private::Modules(all))
        }
        Some(Kind::Allocations) => {
            Ok(Private::Allocations(Allocations::new(&mut d, generation, batch.thread, batch.time)?))
        }
        None => Ok(Private::Unknown(number, d.rest)),
    }
}

fn series<'a>(d: &mut Fields<'a>, begin: Time) -> Faulty<Series<'a>> {
    let name = text(d)?;
    let n = d.number("a series' number of samples")?;
    let mut samples = Vec::new();
    let (mut time, mut value) = (begin, 0i64);
    for _ in 0..n {
        let dt = d.number("a sample's time")?;
        time = time.plus(i64::try_from(dt).unwrap_or(i64::MAX));
        value = value.wrapping_add(unzigzag(d.number("a sample's value")?));
        samples.push((time, value));
    }
    Ok(Series { name, samples })
}

fn text<'a>(d: &mut Fields<'a>) -> Faulty<&'a str> {
    let len = d.number("a text's length")?;
    let left = d.rest.len();
    let Some(bytes) = usize::try_from(len).ok().and_then(|n| d.take(n)) else {
        return Err(fault!(Table, "a text of {len} bytes: {left} are left"));
    };
    std::str::from_utf8(bytes).map_err(|e| fault!(Table, "a text that is not UTF-8: {e}"))
}
