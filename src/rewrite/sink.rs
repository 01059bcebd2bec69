//! Writes generations as a trace, and reads back what it writes.

use super::generation::{Generation, put};
use super::{Error, Report};
use crate::format::{Kind, Version};
use crate::read::{self, Reader};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Writes generations.
pub(super) struct Sink<W> {
    out: W,
    version: Version,
    /// The number of the last generation.
    last: Option<u64>,
    buf: Vec<u8>,
    report: Report,
    proof: Proof,
}

impl<W: Write> Sink<W> {
    /// Writes the header.
    pub(super) fn new(out: W, version: Version) -> Result<Sink<W>, Error> {
        let proof = Proof::start().map_err(Error::Write)?;
        let mut s = Sink { out, version, last: None, buf: Vec::new(), report: Report::default(), proof };
        s.buf.extend_from_slice(&version.header());
        s.send()?;
        Ok(s)
    }

    /// Writes a generation, whose clock is of this version. Before 1.26 numbers must follow each other without a gap; a
    /// generation that does not gets the next number.
    pub(super) fn write(&mut self, g: &Generation) -> Result<(), Error> {
        let number = match self.last {
            Some(last) if !self.version.has_end_of_generation() => last.wrapping_add(1),
            _ => g.number,
        };
        self.last = Some(number);
        for b in &g.batches {
            match b.experiment {
                None => self.buf.push(Kind::EventBatch as u8),
                Some(e) => self.buf.extend_from_slice(&[Kind::ExperimentalBatch as u8, e]),
            }
            for v in [number, b.thread.0, b.time, b.data.len() as u64] {
                put(&mut self.buf, v);
            }
            self.buf.extend_from_slice(&b.data);
        }
        if self.version.has_end_of_generation() {
            self.buf.push(Kind::EndOfGeneration as u8);
        }
        self.report.generations_written += 1;
        self.send()
    }

    fn send(&mut self) -> Result<(), Error> {
        self.out.write_all(&self.buf).map_err(Error::Write)?;
        self.report.bytes_written += self.buf.len() as u64;
        self.proof.take(std::mem::take(&mut self.buf));
        Ok(())
    }

    /// Ends the trace: all is written and is valid.
    pub(super) fn finish(mut self, generations_read: u64) -> Result<Report, Error> {
        self.out.flush().map_err(Error::Write)?;
        self.report.generations_read = generations_read;
        self.proof.finish().map_err(Error::Invalid)?;
        Ok(self.report)
    }

    /// Ends the trace where the input is damaged: what there is must be valid, if there is anything.
    pub(super) fn damaged(self, generations_read: u64, damage: read::Error) -> Error {
        let none = self.report.generations_written == 0;
        match self.finish(generations_read) {
            Err(e) if !none => e,
            _ => Error::Read(damage),
        }
    }
}

/// Reads a trace on a thread of its own while it is written.
struct Proof {
    bytes: Option<SyncSender<Vec<u8>>>,
    reader: Option<JoinHandle<Result<(), read::Error>>>,
}

impl Proof {
    fn start() -> io::Result<Proof> {
        // One generation is read while the next is made.
        let (send, receive) = sync_channel(1);
        let reader = std::thread::Builder::new().name("proof".into()).spawn(move || {
            let mut reader = Reader::new(Pieces { pieces: receive, piece: Vec::new(), pos: 0 })?;
            while reader.next_block()?.is_some() {}
            Ok(())
        })?;
        Ok(Proof { bytes: Some(send), reader: Some(reader) })
    }

    fn take(&mut self, piece: Vec<u8>) {
        if let Some(bytes) = &self.bytes {
            // A reader that has found an error reads no more; it tells at the end.
            let _ = bytes.send(piece);
        }
    }

    fn finish(&mut self) -> Result<(), read::Error> {
        self.bytes = None;
        match self.reader.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            // The reader does not panic; if it did, that must not pass for a proof.
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

/// The pieces as one stream.
struct Pieces {
    pieces: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    pos: usize,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.pos == self.piece.len() {
            match self.pieces.recv() {
                Ok(piece) => (self.piece, self.pos) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = buf.len().min(self.piece.len() - self.pos);
        buf[..n].copy_from_slice(&self.piece[self.pos..self.pos + n]);
        self.pos += n;
        Ok(n)
    }
}
