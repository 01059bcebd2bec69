//! Writes protocol buffers: the few shapes that the formats here need, without a compiler of descriptions.
//!
//! Field numbers and types are those of the formats' `.proto` files; whoever calls must give the right ones. Fields with the
//! default value are left out, as proto3 has it.

use crate::format::varint;

/// A message under construction.
#[derive(Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn varint(&mut self, v: u64) {
        let mut buf = [0; varint::MAX_BYTES];
        let n = varint::write(&mut buf, v);
        self.bytes.extend_from_slice(&buf[..n]);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    /// A number, of any type but the `sint` and `fixed` ones.
    pub(super) fn number(&mut self, field: u32, v: u64) {
        if v != 0 {
            self.key(field, 0);
            self.varint(v);
        }
    }

    /// Bytes, a text, or an inner message.
    pub(super) fn bytes(&mut self, field: u32, v: &[u8]) {
        self.key(field, 2);
        self.varint(v.len() as u64);
        self.bytes.extend_from_slice(v);
    }

    /// An inner message.
    pub(super) fn message(&mut self, field: u32, inner: &Message) {
        self.bytes(field, &inner.bytes);
    }

    /// Repeated numbers, packed.
    pub(super) fn packed(&mut self, field: u32, values: impl IntoIterator<Item = u64>) {
        let mut inner = Message::default();
        values.into_iter().for_each(|v| inner.varint(v));
        if !inner.bytes.is_empty() {
            self.message(field, &inner);
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's specification.
    #[test]
    fn as_the_specification_has_it() {
        let mut m = Message::default();
        m.number(1, 150);
        m.bytes(2, b"testing");
        m.packed(4, [3, 270, 86942]);
        m.number(5, 0);
        m.packed(6, []);
        assert_eq!(
            m.into_bytes(),
            [b"\x08\x96\x01\x12\x07testing".as_slice(), b"\x22\x06\x03\x8e\x02\x9e\xa7\x05"].concat()
        );
    }
}
