//! The string and stack tables of a generation, taken apart.

use super::generation::{Batch, Generation};
use crate::format::{Kind, varint};
use crate::read::batches::Content;

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

/// The fields of a batch behind its first byte.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of(b: &'a Batch) -> Fields<'a> {
        Fields { rest: b.data.get(1..).unwrap_or_default() }
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
