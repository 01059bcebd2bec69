//! What the tests of the answers share: Go's pages, and a reader of pprof files.

pub mod pprof;

use super::read_support::go::Go;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

/// `go tool trace` as it serves its pages for a trace. Ended when dropped.
pub struct GoPages {
    tool: Child,
    address: String,
}

impl Drop for GoPages {
    fn drop(&mut self) {
        let _ = self.tool.kill();
        let _ = self.tool.wait();
    }
}

impl GoPages {
    pub fn serve(go: &Go, trace: &Path) -> GoPages {
        let path = go.command().args(["tool", "-n", "trace"]).output().expect("go tool -n trace").stdout;
        let path = String::from_utf8(path).expect("a path");
        let mut tool = std::process::Command::new(path.trim())
            .arg("-http=127.0.0.1:0")
            .arg(trace)
            // It looks for a browser by these.
            .env("BROWSER", "true")
            .env_remove("DISPLAY")
            .env("PATH", "/nowhere")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("go tool trace");
        let mut lines = BufReader::new(tool.stderr.take().expect("stderr")).lines();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("{}: no address", trace.display())).expect("a line");
            if let Some((_, address)) = line.split_once("http://") {
                break address.trim().to_owned();
            }
        };
        // What it says later must have somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        GoPages { tool, address }
    }

    fn get(&self, path: &str) -> String {
        let mut s = TcpStream::connect(&self.address).expect("connect");
        write!(s, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).expect("ask");
        let mut answer = Vec::new();
        s.read_to_end(&mut answer).expect("answer");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        body.to_owned()
    }

    /// Window and minimum utilization.
    pub fn mmu(&self, flags: &str) -> Vec<(u64, f64)> {
        let body = self.get(&format!("/mmu?mode=plot&view=system&flags={}", flags.replace('|', "%7C")));
        let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let points = json["curve"].as_array().expect("a curve").iter();
        points.map(|p| (p[0].as_f64().expect("ns") as u64, p[1].as_f64().expect("utilization"))).collect()
    }

    /// By goroutine of a group: the parts of its time, by name, as text.
    pub fn goroutines(&self, group: &str) -> BTreeMap<u64, BTreeMap<String, String>> {
        let name: String = group.bytes().map(|b| format!("%{b:02X}")).collect();
        let body = self.get(&format!("/goroutine?name={name}"));
        let table = body.split("<table class=\"details\">").nth(1).expect("a table");
        let table = table.split("</table>").next().expect("its end");
        let heads: Vec<String> = cells(table, "th").skip(3).collect();
        table
            .split("<tr>")
            .skip(2)
            .map(|row| {
                let cells: Vec<String> = cells(row, "td").collect();
                let parts = heads.iter().cloned().zip(cells[3..].iter().cloned()).collect();
                (cells[0].parse().expect("an id"), parts)
            })
            .collect()
    }
}

/// The texts of the cells of a table or row, without marks.
fn cells<'a>(html: &'a str, tag: &'a str) -> impl Iterator<Item = String> + 'a {
    let end = format!("</{tag}>");
    html.split(&format!("<{tag}")[..])
        .skip(1)
        .map(move |cell| {
            let cell = cell.split(&end[..]).next().unwrap_or_default();
            let mut text = String::new();
            let mut in_mark = true;
            for c in cell.chars() {
                match c {
                    '<' => in_mark = true,
                    '>' => in_mark = false,
                    c if !in_mark => text.push(c),
                    _ => {}
                }
            }
            text.replace("&#43;", "+").replace("&amp;", "&").trim().to_owned()
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// A duration as Go prints it: `1h2m3.4s`, `5.6ms`, `0s`.
pub fn duration_ns(text: &str) -> u64 {
    let mut rest = text;
    let mut ns = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or_else(|| panic!("{text:?}"));
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let scale: u64 = match unit {
            "ns" => 1,
            "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => panic!("{text:?}"),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        ns += whole.parse::<u64>().expect("digits") * scale;
        if !part.is_empty() {
            ns += part.parse::<u64>().expect("digits") * scale / 10u64.pow(part.len() as u32);
        }
        rest = tail;
    }
    ns
}
