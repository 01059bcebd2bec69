//! Pieces of one run joined: what a flight recorder has dumped one after the other, what was cut.
//!
//! Only pieces of the same run can be joined: a Go trace has one collector and one numbering of goroutines, threads and
//! processors, so two processes cannot stand in one.

use super::clock::{self, Clock};
use super::generation::{Generation, Generations};
use super::sink::Sink;
use super::{Error, Report};
use crate::format::Version;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Where a generation is to be had.
struct Place {
    piece: usize,
    number: u64,
    begin_ns: u64,
    offset: u64,
    bytes: u64,
}

/// Joins pieces of a trace: each is a trace with some generations of the same run. They may overlap, and may come in any order.
/// The result has the newest version among theirs. `tick` is called with the number of bytes read, now and then; each piece
/// is read twice. Of a piece that is damaged the whole generations are taken.
///
/// # Errors
/// [`Error::Cannot`] if generations between two pieces are missing; [`Error::Invalid`] if they are not of one run; else as the
/// [module](super) says.
pub fn merge<R: Read + Seek>(pieces: &mut [R], output: impl Write, tick: &mut dyn FnMut(u64)) -> Result<Report, Error> {
    let mut places: Vec<Place> = Vec::new();
    let mut versions = Vec::new();
    let (mut bytes, mut damage) = (0, None);
    for (piece, input) in pieces.iter_mut().enumerate() {
        let mut generations = Generations::new(&mut *input).map_err(Error::Read)?;
        versions.push(generations.version());
        loop {
            let g = match generations.next() {
                Ok(Some(g)) => g,
                Ok(None) => break,
                // What is whole is taken.
                Err(e) => {
                    damage.get_or_insert(e);
                    break;
                }
            };
            let begin_ns = Clock::of(&g).map_or(0, |c| c.ns(g.begin()));
            places.push(Place { piece, number: g.number, begin_ns, offset: g.offset, bytes: g.bytes });
            tick(bytes + generations.bytes_read());
        }
        bytes += generations.bytes_read();
    }
    let Some(&version) = versions.iter().max() else {
        return Err(Error::Cannot("no pieces to merge".to_owned()));
    };
    if version > Version::Go122 && versions.contains(&Version::Go122) {
        return Err(Error::Cannot("a piece of Go 1.22 and one of a later Go are not of one run".to_owned()));
    }
    let read = places.len() as u64;
    // Of a generation that is in several pieces the longest form is taken.
    places.sort_by_key(|p| (p.number, std::cmp::Reverse(p.bytes)));
    for pair in places.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        if a.number == b.number && a.begin_ns != b.begin_ns {
            return Err(Error::Cannot(format!(
                "generation {} of piece {} is not that of piece {}: they are not of one run",
                a.number,
                a.piece + 1,
                b.piece + 1
            )));
        }
        if b.number - a.number > 1 {
            let (first, last) = (a.number + 1, b.number - 1);
            let (what, are) = if first == last {
                (format!("generation {first}"), "is")
            } else {
                (format!("generations {first} to {last}"), "are")
            };
            let (a, b) = (a.piece + 1, b.piece + 1);
            return Err(Error::Cannot(format!("{what} between piece {a} and piece {b} {are} missing")));
        }
    }
    places.dedup_by_key(|p| p.number);
    let mut sink = Sink::new(output, version)?;
    for p in &places {
        let mut g = fetch(&mut pieces[p.piece], versions[p.piece], p)?;
        if versions[p.piece] != version {
            clock::convert(&mut g, version);
        }
        sink.write(&g)?;
        bytes += p.bytes;
        tick(bytes);
    }
    match damage {
        Some(e) => Err(sink.damaged(read, e)),
        None => sink.finish(read),
    }
}

/// Reads one generation again.
fn fetch(input: &mut (impl Read + Seek), version: Version, p: &Place) -> Result<Generation, Error> {
    let failed = |e: io::Error| Error::Cannot(format!("cannot read piece {} again: {e}", p.piece + 1));
    input.seek(SeekFrom::Start(p.offset)).map_err(failed)?;
    let header = version.header();
    let again = header.as_slice().chain(input.take(p.bytes));
    let mut generations = Generations::new(again).map_err(Error::Read)?;
    let g = generations.next().map_err(Error::Read)?;
    g.ok_or_else(|| Error::Cannot(format!("piece {} has changed while it was read", p.piece + 1)))
}
