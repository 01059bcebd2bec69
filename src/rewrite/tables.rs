//! The string and stack tables of a generation, taken apart.

use super::generation::{Batch, Generation};
use crate::format::{Kind, MAX_FRAMES, MAX_STRING_BYTES, varint};
use crate::read::batches::Content;
use crate::read::{Error, ErrorKind};

/// A string of a generation.
pub(super) struct Text<'a> {
    pub(super) id: u64,
    pub(super) bytes: &'a [u8],
}

/// A stack of a generation: each frame is program counter, function, file, line.
pub(super) struct Stack {
    pub(super) id: u64,
    pub(super) frames: Vec<[u64; 4]>,
}

/// The strings of a generation, in the order of the file. It ends at what is no string.
pub(super) fn strings(g: &Generation) -> impl Iterator<Item = Text<'_>> {
    g.with(Content::Strings).flat_map(|b| {
        let mut fields = Fields::of(b);
        std::iter::from_fn(move || {
            fields.byte(Kind::String)?;
            let (id, len) = (fields.number()?, fields.number()?);
            Some(Text { id, bytes: fields.take(len)? })
        })
    })
}

/// The stacks of a generation, in the order of the file. It ends at what is no stack.
pub(super) fn stacks(g: &Generation) -> impl Iterator<Item = Stack> {
    g.with(Content::Stacks).flat_map(|b| {
        let mut fields = Fields::of(b);
        std::iter::from_fn(move || {
            fields.byte(Kind::Stack)?;
            let (id, n) = (fields.number()?, fields.number()?);
            let mut frames = Vec::new();
            for _ in 0..n {
                frames.push([fields.number()?, fields.number()?, fields.number()?, fields.number()?]);
            }
            Some(Stack { id, frames })
        })
    })
}

/// Whether the walks above see all there is. Who writes a table anew must ask, or damage would be lost instead of told.
pub(super) fn checked(g: Option<Generation>) -> Result<Option<Generation>, Error> {
    for b in g.iter().flat_map(|g| &g.batches) {
        let mut fields = Fields::of(b);
        let whole = match b.content() {
            Content::Strings => fields.all(Kind::String, |f| {
                f.number()?;
                let len = f.number()?;
                f.take(len).filter(|t| t.len() <= MAX_STRING_BYTES).map(drop)
            }),
            Content::Stacks => fields.all(Kind::Stack, |f| {
                f.number()?;
                let n = f.number().filter(|&n| n <= MAX_FRAMES as u64)?;
                (0..4 * n).try_for_each(|_| f.number().map(drop))
            }),
            _ => true,
        };
        if !whole {
            let what = if b.content() == Content::Strings { "strings" } else { "stacks" };
            let text = format!("a batch of {what} that cannot be decoded");
            let (number, offset) = g.as_ref().map_or((0, 0), |g| (g.number, g.offset));
            let e = Error::of_generation(ErrorKind::Table, number, offset, &text);
            return Err(e.with_whole_bytes(offset));
        }
    }
    Ok(g)
}

/// The fields of a batch behind its first byte.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of(b: &'a Batch) -> Fields<'a> {
        Fields { rest: b.data.get(1..).unwrap_or_default() }
    }

    /// Whether there is nothing but records of this kind.
    fn all(&mut self, kind: Kind, mut record: impl FnMut(&mut Self) -> Option<()>) -> bool {
        while !self.rest.is_empty() {
            if self.byte(kind).and_then(|()| record(self)).is_none() {
                return false;
            }
        }
        true
    }

    fn byte(&mut self, kind: Kind) -> Option<()> {
        let (&b, rest) = self.rest.split_first()?;
        self.rest = rest;
        (b == kind as u8).then_some(())
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (v, n) = varint::read(self.rest)?;
        self.rest = &self.rest[n..];
        Some(v)
    }

    pub(super) fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }
}
