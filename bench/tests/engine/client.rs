//! A plain HTTP client of one request per connection, which shows what came on the wire.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer, its body de-chunked.
#[derive(Debug)]
#[allow(dead_code, reason = "not every test reads every field")]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// Whether the framing came to its end.
    pub(crate) whole: bool,
    /// Time from the request to the first byte of the body.
    pub(crate) ttft: Duration,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Bytes of a request that closes the connection after its answer.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One request on a connection of its own.
pub(crate) async fn call(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let started = std::time::Instant::now();
    stream.write_all(&request(method, path, headers, body)).await.unwrap();
    let (mut bytes, mut ttft) = (Vec::new(), Duration::ZERO);
    while let Ok(1..) = stream.read_buf(&mut bytes).await {
        let body_begun = memchr::memmem::find(&bytes, b"\r\n\r\n").is_some_and(|at| bytes.len() > at + 4);
        if body_begun && ttft.is_zero() {
            ttft = started.elapsed();
        }
    }
    reply(&bytes, ttft)
}

fn reply(bytes: &[u8], ttft: Duration) -> Reply {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let mut reply = Reply { status, head: head.to_owned(), body: rest.to_owned(), whole: false, ttft };
    if chunked {
        (reply.body, reply.whole) = dechunk(rest);
    } else {
        reply.whole = reply.header("content-length").is_some_and(|length| length == rest.len().to_string());
    }
    reply
}

fn dechunk(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, after == "\r\n");
        }
        let Some(data) = after.get(..size) else { return (body + after, false) };
        body += data;
        rest = after.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}
