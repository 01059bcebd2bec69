//! As much of an HTTP client as a test needs: GET from a server on this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a server answered.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// All header lines, in lower case.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Fetches `target` (path and query). An answer that is cut short is an error: a handler that dies does that.
pub fn get(server: SocketAddr, target: &str, limit: Duration) -> Result<Response, String> {
    let say = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    let mut stream = TcpStream::connect_timeout(&server, limit).map_err(say("connect"))?;
    stream.set_read_timeout(Some(limit)).map_err(say("set timeout"))?;
    // HTTP/1.0: the server closes the connection at the end and doesn't cut the body into chunks.
    write!(stream, "GET {target} HTTP/1.0\r\nHost: {server}\r\n\r\n").map_err(say("send"))?;
    let mut data = Vec::new();
    stream.read_to_end(&mut data).map_err(say("receive"))?;
    parse(&data)
}

/// Takes an answer apart.
pub fn parse(data: &[u8]) -> Result<Response, String> {
    let head = data.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| {
        if data.is_empty() { "closed without an answer".to_owned() } else { "no end of the header".to_owned() }
    })?;
    let headers = String::from_utf8_lossy(&data[..head]).to_lowercase();
    let body = data[head + 4..].to_vec();
    let status = headers.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no status code")?;
    let length = headers.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    match length {
        Some(n) if n != body.len() => Err(format!("{} bytes of {n}", body.len())),
        _ => Ok(Response { status, headers, body }),
    }
}
