//! HTTP/1.1 to the byte, for engines whose servers answer in ways of their own: what no library would send has to be
//! written by hand. One request at a time is read from a connection and answered on it.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::conn::{linger_zero, peer_left};

/// Connections open at once; more are closed on arrival.
const CONNECTION_LIMIT: usize = 65_536;
/// Bytes of a head, whatever the engine would take.
const HEAD_LIMIT: usize = 1 << 20;

/// What an engine takes, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of the request line.
    pub(crate) request_line: usize,
    /// Of one header's line.
    pub(crate) field_line: usize,
    /// Of all headers together.
    pub(crate) fields: usize,
    pub(crate) body: usize,
}

/// A request as it came.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) is_http10: bool,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What came instead of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No request line of HTTP/1.
    Line,
    /// Its head is too large.
    Head,
    /// Its body is too large.
    Body,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Next,
    Close,
    Reset,
}

/// Answers requests.
pub(crate) trait Site: Send + Sync + 'static {
    /// Where a request came in.
    type Port: Copy + Send + 'static;
    /// What it takes.
    const LIMITS: Limits;

    /// Writes the answer.
    fn answer(
        &self,
        port: Self::Port,
        asked: Result<Asked, Fault>,
        stream: &mut TcpStream,
    ) -> impl Future<Output = io::Result<After>> + Send;
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// By its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Serves until aborted. All connections live in the task's set and end with it.
pub(crate) async fn accept<S: Site>(listener: TcpListener, site: Arc<S>, port: S::Port) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) if connections.len() < CONNECTION_LIMIT => {
                connections.spawn(connection(stream, Arc::clone(&site), port));
            }
            Ok(_) => {}
            // Out of descriptors or the like: the next attempt would fail at once, too.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// An error is the peer leaving.
async fn connection<S: Site>(mut stream: TcpStream, site: Arc<S>, port: S::Port) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut pending = Vec::new();
    while let Some(asked) = request(&mut stream, &mut pending, S::LIMITS).await? {
        match site.answer(port, asked, &mut stream).await? {
            After::Next => {}
            After::Close => return Ok(()),
            After::Reset => return linger_zero(&stream),
        }
    }
    Ok(())
}

/// The next request; none where the peer closed.
async fn request(
    stream: &mut TcpStream,
    pending: &mut Vec<u8>,
    limits: Limits,
) -> io::Result<Option<Result<Asked, Fault>>> {
    let end = loop {
        if let Some(end) = memchr::memmem::find(pending, b"\r\n\r\n") {
            break end + 4;
        }
        if pending.len() > HEAD_LIMIT {
            return Ok(Some(Err(Fault::Head)));
        }
        if stream.read_buf(pending).await? == 0 {
            return Ok(None);
        }
    };
    let rest = pending.split_off(end);
    let head = std::mem::replace(pending, rest);
    let mut asked = match head_of(&String::from_utf8_lossy(&head), limits) {
        Ok(asked) => asked,
        Err(fault) => return Ok(Some(Err(fault))),
    };
    if asked.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    Ok(match body(stream, pending, &asked, limits.body).await? {
        Some(Ok(bytes)) => {
            asked.body = bytes;
            Some(Ok(asked))
        }
        Some(Err(fault)) => Some(Err(fault)),
        None => None,
    })
}

fn head_of(head: &str, limits: Limits) -> Result<Asked, Fault> {
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap_or_default();
    if line.len() > limits.request_line {
        return Err(Fault::Head);
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = words[..] else { return Err(Fault::Line) };
    let fields = head.len() - line.len();
    let lines: Vec<&str> = lines.collect();
    if fields > limits.fields || lines.iter().any(|line| line.len() > limits.field_line) {
        return Err(Fault::Head);
    }
    let field = |line: &&str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Asked {
        method: method.to_owned(),
        target: target.to_owned(),
        is_http10: version == "HTTP/1.0",
        headers: lines.iter().filter_map(field).collect(),
        body: Vec::new(),
    })
}

async fn body(
    stream: &mut TcpStream,
    pending: &mut Vec<u8>,
    asked: &Asked,
    limit: usize,
) -> io::Result<Option<Result<Vec<u8>, Fault>>> {
    if asked.header("transfer-encoding").is_none() {
        let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if length > limit {
            return Ok(Some(Err(Fault::Body)));
        }
        return Ok(take(stream, pending, length).await?.map(Ok));
    }
    let mut whole = Vec::new();
    loop {
        let Some(line) = line(stream, pending).await? else { return Ok(None) };
        let Ok(size) = usize::from_str_radix(line.trim(), 16) else { return Ok(Some(Err(Fault::Line))) };
        if whole.len() + size > limit {
            return Ok(Some(Err(Fault::Body)));
        }
        let Some(mut piece) = take(stream, pending, size + 2).await? else { return Ok(None) };
        piece.truncate(size);
        whole.append(&mut piece);
        if size == 0 {
            return Ok(Some(Ok(whole)));
        }
    }
}

async fn line(stream: &mut TcpStream, pending: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = memchr::memmem::find(pending, b"\r\n") {
            let line = take(stream, pending, end + 2).await?;
            return Ok(line.map(|line| String::from_utf8_lossy(&line).into_owned()));
        }
        if pending.len() > HEAD_LIMIT || stream.read_buf(pending).await? == 0 {
            return Ok(None);
        }
    }
}

async fn take(stream: &mut TcpStream, pending: &mut Vec<u8>, length: usize) -> io::Result<Option<Vec<u8>>> {
    while pending.len() < length {
        if stream.read_buf(pending).await? == 0 {
            return Ok(None);
        }
    }
    let rest = pending.split_off(length);
    Ok(Some(std::mem::replace(pending, rest)))
}

/// A head; a field without a value is left out.
pub(crate) fn head(version: &str, status: (u16, &str), fields: &[(&str, Option<String>)]) -> String {
    let fields = fields.iter().filter_map(|(name, value)| Some(format!("{name}: {}\r\n", value.as_ref()?)));
    format!("{version} {} {}\r\n{}\r\n", status.0, status.1, fields.collect::<String>())
}

/// One chunk; an empty one is the end.
pub(crate) fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// Waits, unless the client closes, resets or half-closes meanwhile: then it is true.
pub(crate) async fn left_within(stream: &TcpStream, time: std::time::Duration) -> bool {
    tokio::time::timeout(time, peer_left(stream)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { request_line: 40, field_line: 20, fields: 60, body: 10 };

    #[test]
    fn heads_are_read_within_limits() {
        let asked = head_of("POST /a?x=1&y=2 HTTP/1.0\r\nHost: h\r\nConnection: Close\r\n\r\n", LIMITS).unwrap();
        assert_eq!((asked.method.as_str(), asked.path(), asked.is_http10), ("POST", "/a", true));
        assert_eq!((asked.query("y"), asked.query("z"), asked.header("host")), (Some("2"), None, Some("h")));
        assert!(asked.wants_close());
        for (head, fault) in [
            ("GET /\r\n\r\n".to_owned(), Fault::Line),
            ("PRI * HTTP/2.0\r\n\r\n".to_owned(), Fault::Line),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40)), Fault::Head),
            (format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(20)), Fault::Head),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "a: 12345678\r\n".repeat(5)), Fault::Head),
        ] {
            assert_eq!(head_of(&head, LIMITS).err(), Some(fault), "{head}");
        }
    }
}
