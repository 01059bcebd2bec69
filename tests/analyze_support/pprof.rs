//! Reads pprof files, compressed or not: as much as the comparison needs.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

/// A frame: function, file, line, address.
pub type Frame = (String, String, i64, u64);

#[derive(Debug, Default)]
pub struct Profile {
    /// Kind and unit of each value.
    pub types: Vec<(String, String)>,
    /// By stack, leaf first: the values, added up over labels.
    pub samples: BTreeMap<Vec<Frame>, Vec<i64>>,
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

pub fn decode(file: &[u8]) -> Profile {
    let mut plain = Vec::new();
    if file.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(file).read_to_end(&mut plain).expect("gzip");
    } else {
        plain.extend_from_slice(file);
    }
    let (mut strings, mut types, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    let (mut functions, mut locations) = (HashMap::new(), HashMap::new());
    for (number, field) in fields(&plain) {
        let Field::Bytes(b) = field else { continue };
        match number {
            1 => types.push((numbers(b, 1)[0], numbers(b, 2)[0])),
            2 => samples.push((numbers(b, 1), numbers(b, 2))),
            4 => {
                let line = fields(b).find_map(|(n, f)| if let (4, Field::Bytes(l)) = (n, f) { Some(l) } else { None });
                let line = line.expect("a line");
                let first = |v: Vec<u64>| v.first().copied().unwrap_or(0);
                locations
                    .insert(numbers(b, 1)[0], (first(numbers(b, 3)), numbers(line, 1)[0], first(numbers(line, 2))));
            }
            5 => {
                let first = |v: Vec<u64>| v.first().copied().unwrap_or(0);
                functions.insert(numbers(b, 1)[0], (first(numbers(b, 2)), first(numbers(b, 4))));
            }
            6 => strings.push(String::from_utf8(b.to_vec()).expect("UTF-8")),
            _ => {}
        }
    }
    let text = |id: u64| strings[id as usize].clone();
    let mut out = Profile { types: types.into_iter().map(|(k, u)| (text(k), text(u))).collect(), ..Profile::default() };
    for (stack, values) in samples {
        let frame = |id: &u64| {
            let (address, function, line) = locations[id];
            let (name, file) = functions[&function];
            (text(name), text(file), line as i64, address)
        };
        // Go takes a frame with nothing in it for no frame when it joins stacks.
        let nothing = (String::new(), String::new(), 0, 0);
        let stack: Vec<Frame> = stack.iter().map(frame).filter(|f| *f != nothing).collect();
        let sums = out.samples.entry(stack).or_insert_with(|| vec![0; values.len()]);
        for (sum, v) in sums.iter_mut().zip(values) {
            *sum += v as i64;
        }
    }
    out
}

fn varint(data: &mut &[u8]) -> u64 {
    let mut v = 0;
    let mut shift = 0;
    loop {
        let (&b, rest) = data.split_first().expect("a number");
        *data = rest;
        v |= u64::from(b & 0x7f) << shift;
        shift += 7;
        if b < 0x80 {
            return v;
        }
    }
}

fn fields(mut data: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let key = varint(&mut data);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut data)),
            2 => {
                let len = varint(&mut data) as usize;
                let (bytes, rest) = data.split_at(len);
                data = rest;
                Field::Bytes(bytes)
            }
            other => panic!("wire type {other}"),
        };
        Some((key >> 3, field))
    })
}

/// All numbers of a field, packed or not.
fn numbers(message: &[u8], field: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for (number, f) in fields(message) {
        match f {
            Field::Number(v) if number == field => all.push(v),
            Field::Bytes(mut b) if number == field => {
                while !b.is_empty() {
                    all.push(varint(&mut b));
                }
            }
            _ => {}
        }
    }
    all
}
