//! One request on a connection of its own, and all that can be seen of its answer.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);

/// An answer, its body de-chunked.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) reason: String,
    /// As they are written.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) end: End,
}

/// What became of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// It can take another request.
    #[default]
    Open,
    Closed,
    Reset,
}

/// Sends what a recording says was sent: `{method, path, headers, body}`.
pub(crate) async fn ask(addr: SocketAddr, request: &Value) -> Got {
    let body = match &request["body"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    let headers = request["headers"].as_object().into_iter().flatten();
    let headers: String = headers.map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap())).collect();
    let (method, path) = (request["method"].as_str().unwrap(), request["path"].as_str().unwrap());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: engine\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    timeout(DEADLINE, read(&mut stream, method == "HEAD")).await.expect("an answer in time")
}

async fn read(stream: &mut TcpStream, only_head: bool) -> Got {
    let (mut bytes, mut got) = (Vec::new(), Got::default());
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            got = parsed(head, got.end);
            let (body, whole) = framed(&got, rest, only_head);
            got.body = body;
            // Who says that it closes does so, one way or another.
            let closes = got.headers.iter().any(|(name, value)| name == "connection" && value == "close");
            if (whole && !closes) || got.end != End::Open {
                return got;
            }
        } else if got.end != End::Open {
            return got;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => got.end = End::Closed,
            Ok(_) => {}
            Err(_) => got.end = End::Reset,
        }
    }
}

fn parsed(head: &str, end: End) -> Got {
    let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = line.splitn(3, ' ').skip(1);
    let status = words.next().unwrap().parse().unwrap();
    let reason = words.next().unwrap_or_default().to_owned();
    let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = fields.split("\r\n").filter_map(field).collect();
    Got { status, reason, headers, body: String::new(), end }
}

/// The body so far, and whether that is all of it.
fn framed(got: &Got, mut rest: &str, only_head: bool) -> (String, bool) {
    let header =
        |name: &str| got.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    if let Some(length) = header("content-length") {
        return (rest.to_owned(), only_head || rest.len() >= length.parse().unwrap());
    }
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 || after.len() < size + 2 {
            return (body, size == 0);
        }
        body += &after[..size];
        rest = &after[size + 2..];
    }
    (body, false)
}
