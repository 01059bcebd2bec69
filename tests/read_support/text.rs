//! Traces in the text form of Go's `internal/trace/raw`: a line for each event of the wire.
//!
//! ```text
//! Trace Go1.22
//! EventBatch gen=1 m=0 time=0 size=auto
//! ProcStatus dt=1 p=0 pstatus=1
//! String id=1
//!     data="my task"
//! ```
//!
//! Of our own is `size=auto`: the length of what follows, up to the next batch. A number may be given with padding, as
//! `5:3`, which is 5 in three bytes.

use exectrace::format::{Kind, varint};

/// A file of Go's or of ours: what is expected, and the trace.
pub struct TestFile {
    /// The line under `-- expect --`.
    pub expect: String,
    /// The bytes of the trace.
    pub wire: Vec<u8>,
}

/// Parses a test file: an archive of the files `expect` and `trace`, or a trace that is expected to be valid.
pub fn parse_test(text: &str) -> TestFile {
    if text.starts_with("Trace ") {
        return TestFile { expect: String::from("SUCCESS"), wire: to_wire(text) };
    }
    let (_, rest) = text.split_once("-- expect --\n").expect("a file `expect`");
    let (expect, trace) = rest.split_once("-- trace --\n").expect("a file `trace`");
    TestFile { expect: expect.trim().to_owned(), wire: to_wire(trace) }
}

/// A trace's text as bytes.
pub fn to_wire(text: &str) -> Vec<u8> {
    let mut lines = text.lines().map(|l| l.split('#').next().unwrap_or_default()).filter(|l| !l.trim().is_empty());
    let header = lines.next().expect("a header");
    let minor = header.trim().strip_prefix("Trace Go1.").expect("a header `Trace Go1.NN`");
    let mut out = format!("go 1.{minor} trace\0\0\0").into_bytes();
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        if name == "Bytes" {
            // Raw bytes, for what is no event: `Bytes 01 ff`.
            out.extend(words.map(|w| u8::from_str_radix(w, 16).expect("a byte in hexadecimal digits")));
            continue;
        }
        let kind = *Kind::ALL.iter().find(|k| k.spec().name == name).unwrap_or_else(|| panic!("no event {name}"));
        out.push(kind as u8);
        let mut n = 0;
        for (word, arg) in words.zip(kind.spec().args) {
            let (key, value) = word.split_once('=').expect("name=value");
            assert_eq!(key, *arg, "in {line}");
            n += 1;
            if value == "auto" {
                let mut body = Vec::new();
                while let Some(next) = lines.next_if(|l| !is_batch(l)) {
                    let text = format!("Trace Go1.{minor}\n{next}\n");
                    let more = std::iter::from_fn(|| lines.next_if(|l| l.starts_with(char::is_whitespace)));
                    let text = more.fold(text, |t, l| t + l + "\n");
                    body.extend_from_slice(&to_wire(&text)[16..]);
                }
                push(&mut out, body.len() as u64, 0);
                out.extend(body);
            } else {
                let (value, width) = value.split_once(':').unwrap_or((value, "0"));
                push(&mut out, value.parse().expect("a number"), width.parse().expect("a width"));
            }
        }
        assert_eq!(n, kind.spec().args.len(), "arguments of {line}");
        if kind == Kind::Stack {
            while let Some(frame) = lines.next_if(|l| l.trim_start().starts_with("pc=")) {
                for word in frame.split_whitespace() {
                    push(&mut out, word.split_once('=').expect("name=value").1.parse().expect("a number"), 0);
                }
            }
        }
        if matches!(kind, Kind::String | Kind::ExperimentalBatch) {
            let data = lines
                .next_if(|l| l.trim_start().starts_with("data="))
                .map_or(Vec::new(), |l| unquote(l.trim_start().strip_prefix("data=").unwrap_or_default().trim()));
            push(&mut out, data.len() as u64, 0);
            out.extend(data);
        }
    }
    out
}

fn is_batch(line: &str) -> bool {
    ["EventBatch", "ExperimentalBatch", "EndOfGeneration", "Bytes"].iter().any(|b| line.starts_with(b))
}

/// Appends an integer, padded to a width if that is longer.
pub fn push(out: &mut Vec<u8>, v: u64, width: usize) {
    let mut b = [0; varint::MAX_BYTES];
    let n = varint::write(&mut b, v);
    out.extend_from_slice(&b[..n]);
    if width > n {
        if let Some(last) = out.last_mut() {
            *last |= 0x80;
        }
        out.resize(out.len() + width - n - 1, 0x80);
        out.push(0);
    }
}

/// The bytes of a string literal of Go.
pub fn unquote(text: &str) -> Vec<u8> {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).expect("a text in quotes");
    let mut out = Vec::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push_char(&mut out, c);
            continue;
        }
        let escape = chars.next().expect("something behind a backslash");
        let mut code = |first: Option<char>, n: usize, radix: u32| {
            let digits: String = first.into_iter().chain(chars.by_ref().take(n)).collect();
            u32::from_str_radix(&digits, radix).expect("digits")
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            'x' => out.push(code(None, 2, 16) as u8),
            'u' => push_char(&mut out, char::from_u32(code(None, 4, 16)).expect("a character")),
            'U' => push_char(&mut out, char::from_u32(code(None, 8, 16)).expect("a character")),
            '0'..='7' => out.push(code(Some(escape), 2, 8) as u8),
            c => push_char(&mut out, c),
        }
    }
    out
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
