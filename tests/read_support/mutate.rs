//! Damage by a seed: the same seed, the same damage on each run.
//!
//! Half of it is dealt to the bytes, which mostly breaks the framing. The other half is dealt to single events, whose batch
//! is then put together again with its new length: so the rules of the ordering are reached too.

use super::data_file;
use super::text::{self, push};
use exectrace::format::{Kind, varint};

/// A generator of numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A damaged copy of a trace, and what was done to it.
pub fn mutate(trace: &[u8], seed: u64) -> (Vec<u8>, String) {
    let mut r = Random(seed);
    let mut done = Vec::new();
    let mut out = trace.to_vec();
    for _ in 0..1 + r.below(3) {
        if out.len() <= 16 {
            break;
        }
        match r.below(2) {
            0 => done.push(in_bytes(&mut out, &mut r)),
            _ => match Batches::of(&out) {
                Some(mut b) => {
                    done.push(b.damage(&mut r));
                    out = b.into_bytes();
                }
                None => done.push(in_bytes(&mut out, &mut r)),
            },
        }
    }
    (out, done.join("; "))
}

fn in_bytes(out: &mut Vec<u8>, r: &mut Random) -> String {
    // Rarely the header too.
    let at = if r.below(50) == 0 { r.below(out.len()) } else { 16 + r.below(out.len() - 16) };
    match r.below(7) {
        0 => {
            out[at] ^= 1 << r.below(8);
            format!("bit at {at}")
        }
        1 => {
            out[at] = [0, 1, 0x7f, 0x80, 0xff, 49, 52][r.below(7)];
            format!("byte {} at {at}", out[at])
        }
        2 => {
            out.insert(at, r.next() as u8);
            format!("insert at {at}")
        }
        3 => {
            out.remove(at);
            format!("remove at {at}")
        }
        4 => {
            out.truncate(at);
            format!("cut at {at}")
        }
        5 => {
            let end = (at + r.below(40)).min(out.len());
            let piece = out[at..end].to_vec();
            out.splice(at..at, piece);
            format!("double {at}..{end}")
        }
        _ => {
            let end = (at + r.below(40)).min(out.len());
            out.drain(at..end);
            format!("drop {at}..{end}")
        }
    }
}

/// A trace taken apart.
struct Batches {
    header: Vec<u8>,
    list: Vec<Batch>,
}

/// A batch: an end of a generation, an experimental batch or a table (kept as bytes), or timed events.
#[derive(Clone)]
struct Batch {
    kind: u8,
    experiment: u8,
    /// Generation, thread, time.
    fields: [u64; 3],
    body: Body,
}

#[derive(Clone)]
enum Body {
    None,
    Bytes(Vec<u8>),
    Events(Vec<(u8, Vec<u64>)>),
}

impl Batches {
    /// Takes a trace apart, if its framing is whole.
    fn of(trace: &[u8]) -> Option<Batches> {
        let mut list = Vec::new();
        let mut rest = trace.get(16..)?;
        while let Some((&kind, r)) = rest.split_first() {
            rest = r;
            if kind == Kind::EndOfGeneration as u8 {
                list.push(Batch { kind, experiment: 0, fields: [0; 3], body: Body::None });
                continue;
            }
            let mut experiment = 0;
            if kind == Kind::ExperimentalBatch as u8 {
                experiment = *rest.first()?;
                rest = &rest[1..];
            } else if kind != Kind::EventBatch as u8 {
                return None;
            }
            let fields = [number(&mut rest)?, number(&mut rest)?, number(&mut rest)?];
            let size = number(&mut rest)?;
            let (data, r) = rest.split_at_checked(usize::try_from(size).ok()?)?;
            rest = r;
            let body = if experiment == 0 { events(data).map(Body::Events) } else { None };
            list.push(Batch { kind, experiment, fields, body: body.unwrap_or_else(|| Body::Bytes(data.to_vec())) });
        }
        Some(Batches { header: trace[..16].to_vec(), list })
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut out = self.header;
        for b in self.list {
            out.push(b.kind);
            if b.kind == Kind::ExperimentalBatch as u8 {
                out.push(b.experiment);
            }
            let mut data = Vec::new();
            match b.body {
                Body::None => continue,
                Body::Bytes(bytes) => data = bytes,
                Body::Events(events) => {
                    for (kind, args) in events {
                        data.push(kind);
                        args.iter().for_each(|&a| push(&mut data, a, 0));
                    }
                }
            }
            b.fields.iter().for_each(|&f| push(&mut out, f, 0));
            push(&mut out, data.len() as u64, 0);
            out.extend(data);
        }
        out
    }

    fn damage(&mut self, r: &mut Random) -> String {
        if self.list.is_empty() {
            return String::from("nothing");
        }
        let i = r.below(self.list.len());
        let j = r.below(self.list.len());
        match r.below(12) {
            0 => {
                self.list.swap(i, j);
                format!("swap batches {i} {j}")
            }
            1 => {
                self.list.remove(i);
                format!("drop batch {i}")
            }
            2 => {
                let b = self.list[i].clone();
                self.list.insert(j, b);
                format!("copy batch {i} to {j}")
            }
            3 => {
                let k = r.below(3);
                self.list[i].fields[k] = other(self.list[i].fields[k], r);
                format!("batch {i} field {k}")
            }
            _ => self.damage_event(r),
        }
    }

    fn damage_event(&mut self, r: &mut Random) -> String {
        let timed: Vec<usize> =
            (0..self.list.len()).filter(|&i| matches!(&self.list[i].body, Body::Events(e) if !e.is_empty())).collect();
        if timed.is_empty() {
            return String::from("nothing");
        }
        let b = timed[r.below(timed.len())];
        let Body::Events(events) = &mut self.list[b].body else { return String::from("nothing") };
        let i = r.below(events.len());
        let j = r.below(events.len());
        match r.below(8) {
            0 => {
                events.swap(i, j);
                format!("swap events {i} {j} of batch {b}")
            }
            1 => {
                events.remove(i);
                format!("drop event {i} of batch {b}")
            }
            2 => {
                let e = events[i].clone();
                events.insert(j, e);
                format!("copy event {i} to {j} of batch {b}")
            }
            3 => {
                // Another kind with as many arguments, so that the rest still decodes.
                let n = events[i].1.len();
                let same: Vec<u8> =
                    Kind::ALL.iter().filter(|k| k.spec().timed && k.spec().args.len() == n).map(|&k| k as u8).collect();
                events[i].0 = same[r.below(same.len())];
                format!("event {i} of batch {b} becomes kind {}", events[i].0)
            }
            _ => {
                let k = r.below(events[i].1.len());
                let old = events[i].1[k];
                events[i].1[k] = other(old, r);
                format!("event {i} of batch {b}: argument {k} from {old} to {}", events[i].1[k])
            }
        }
    }
}

/// Another number, mostly one that is near.
fn other(v: u64, r: &mut Random) -> u64 {
    match r.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => r.next(),
        3 => r.next() % 8,
        4 => v ^ (1 << r.below(12)),
        5 => v.wrapping_sub(1),
        _ => v.wrapping_add(1),
    }
}

fn events(data: &[u8]) -> Option<Vec<(u8, Vec<u64>)>> {
    let mut rest = data;
    let mut out = Vec::new();
    while let Some((&kind, r)) = rest.split_first() {
        rest = r;
        let spec = Kind::from_wire(kind).filter(|k| k.spec().timed)?.spec();
        let args: Option<Vec<u64>> = spec.args.iter().map(|_| number(&mut rest)).collect();
        out.push((kind, args?));
    }
    Some(out)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (v, n) = varint::read(rest)?;
    *rest = &rest[n..];
    Some(v)
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v}: expected a number")))
}

/// The traces that are damaged: small ones of each version, and texts of ours.
pub fn bases() -> Vec<(String, Vec<u8>)> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(data_file("")).expect("data").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        match path.extension().and_then(|e| e.to_str()) {
            Some("trace") => bases.push((name, std::fs::read(&path).expect("a trace"))),
            Some("test") => {
                let text = std::fs::read_to_string(&path).expect("a text");
                bases.push((name, text::parse_test(&text).wire));
            }
            _ => {}
        }
    }
    bases.sort();
    assert!(bases.len() >= 5, "{} traces", bases.len());
    bases
}
