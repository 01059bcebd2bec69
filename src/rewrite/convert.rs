//! Another version of the format.
//!
//! The versions from 1.23 on have the same events. They differ in the batch with the clock, which has a snapshot of the
//! wall clock from 1.25 on, and in the end of a generation, which has a mark of its own from 1.26 on.

use super::generation::Generations;
use super::sink::Sink;
use super::{Error, Report, clock};
use crate::format::Version;
use std::io::{Read, Write};

/// Writes a trace in another version of the format. `tick` is called with the number of bytes read, now and then.
///
/// The time of the wall is kept: where the new version has no place for it, in private data, as this crate's tracer has it.
/// Where the old version does not tell it, it is told as 1970. Objects of Go's experiment `AllocFree` are copied as they
/// are; Go's `-d=wire` refuses them in a trace with the header of an older Go than its own.
///
/// # Errors
/// [`Error::Cannot`] for [`Version::Go122`], which lacks events that the others have; else as the [module](super) says.
pub fn convert(input: impl Read, output: impl Write, to: Version, tick: &mut dyn FnMut(u64)) -> Result<Report, Error> {
    let mut generations = Generations::new(input).map_err(Error::Read)?;
    if to == Version::Go122 && generations.version() != to {
        return Err(Error::Cannot("Go 1.22 cannot read events that later versions have".to_owned()));
    }
    let mut sink = Sink::new(output, to)?;
    let mut read = 0;
    loop {
        match generations.next() {
            Ok(Some(mut g)) => {
                read += 1;
                if generations.version() != to {
                    clock::convert(&mut g, to);
                }
                sink.write(&g)?;
                tick(generations.bytes_read());
            }
            Ok(None) if read == 0 && !to.has_end_of_generation() => {
                let text = format!("the trace is empty, and one of Go 1.{} must not be", to.minor());
                return Err(Error::Cannot(text));
            }
            Ok(None) => return sink.finish(read),
            Err(e) => return Err(sink.damaged(read, e)),
        }
    }
}
