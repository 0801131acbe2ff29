//! A client of raw bytes with a strict reader of answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Closed,
    /// By a reset.
    Reset,
    /// It did not, in time.
    Open,
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// Without chunk framing.
    pub(crate) body: Vec<u8>,
    /// Its framing says that it is complete.
    pub(crate) whole: bool,
    /// It is delimited by the end of the connection.
    pub(crate) until_close: bool,
}

impl Reply {
    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.to_ascii_lowercase().split("\r\n").any(|l| l == line)
    }
}

/// A connection to the proxy.
pub(crate) struct Client {
    stream: TcpStream,
    got: Vec<u8>,
    end: Option<End>,
    to_head: bool,
}

/// A limit on every wait of the client: what takes longer is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    pub(crate) fn new(proxy: SocketAddr) -> Self {
        let stream = TcpStream::connect(proxy).expect("the proxy listens");
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, got: Vec::new(), end: None, to_head: false }
    }

    /// With little room for what is not read, in segments as of a network: the kernel makes the proxy's send buffer a
    /// multiple of the segment, and one of loopback has 64 KiB.
    pub(crate) fn with_small_buffer(proxy: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.set_mss(1_460).unwrap();
        socket.connect(&proxy.into()).expect("the proxy listens");
        Self { stream: socket.into(), got: Vec::new(), end: None, to_head: false }
    }

    /// The answers are to HEAD.
    pub(crate) fn asking_head(mut self) -> Self {
        self.to_head = true;
        self
    }

    /// Sends what the other side takes; says how much that was.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(n @ 1..) => sent += n,
                _ => break,
            }
        }
        sent
    }

    pub(crate) fn half_close(&self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Reads until `done` says so of all bytes so far, or the connection ends, or patience does.
    pub(crate) fn read_until(&mut self, limit: Duration, done: impl Fn(&[u8]) -> bool) {
        let end = Instant::now() + limit;
        let mut buf = vec![0; 64 << 10];
        while self.end.is_none() && !done(&self.got) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut buf) {
                Ok(0) => self.end = Some(End::Closed),
                Ok(n) => self.got.extend_from_slice(&buf[..n]),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => return,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => self.end = Some(End::Reset),
            }
        }
    }

    /// Reads so many whole answers.
    pub(crate) fn replies(&mut self, count: usize) -> Result<Vec<Reply>, String> {
        let to_head = self.to_head;
        self.read_until(PATIENCE, |got| {
            parse(got, to_head).is_err()
                || parse(got, to_head).is_ok_and(|r| r.iter().filter(|r| r.whole).count() >= count)
        });
        parse(&self.got, to_head)
    }

    /// Reads to the end of the connection.
    pub(crate) fn read_to_end(&mut self) -> Result<(Vec<Reply>, End), String> {
        self.read_until(PATIENCE, |_| false);
        let mut replies = parse(&self.got, self.to_head)?;
        let end = self.end.unwrap_or(End::Open);
        if let Some(last) = replies.last_mut() {
            last.whole |= last.until_close && end == End::Closed;
        }
        Ok((replies, end))
    }

    /// All bytes so far.
    pub(crate) fn got(&self) -> &[u8] {
        &self.got
    }
}

/// The answers in the bytes, the last one perhaps unfinished. An error: the bytes are not HTTP.
pub(crate) fn parse(mut bytes: &[u8], to_head: bool) -> Result<Vec<Reply>, String> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let Some(head_len) = memchr::memmem::find(bytes, b"\r\n\r\n").map(|n| n + 4) else {
            check_lines(bytes)?;
            break;
        };
        let (head, rest) = bytes.split_at(head_len);
        check_lines(head)?;
        let head = String::from_utf8_lossy(head).into_owned();
        let status: u16 = head.get(9..12).and_then(|s| s.parse().ok()).ok_or("no status")?;
        if !head.starts_with("HTTP/1.1 ") {
            return Err(format!("not a status line: {head:?}"));
        }
        if status < 200 {
            bytes = rest;
            continue;
        }
        let (reply, used) = body(status, head, rest, to_head)?;
        let whole = reply.whole;
        replies.push(reply);
        bytes = if whole { &rest[used..] } else { &[] };
    }
    Ok(replies)
}

fn check_lines(head: &[u8]) -> Result<(), String> {
    for (i, &b) in head.iter().enumerate() {
        let bad = match b {
            b'\n' => i == 0 || head[i - 1] != b'\r',
            b'\r' => head.get(i + 1).is_some_and(|&n| n != b'\n'),
            _ => (b < b' ' && b != b'\t') || b == 0x7f,
        };
        if bad {
            return Err(format!("a malformed byte {b:#x} at {i} of {:?}", String::from_utf8_lossy(head)));
        }
    }
    Ok(())
}

fn body(status: u16, head: String, rest: &[u8], to_head: bool) -> Result<(Reply, usize), String> {
    let lower = head.to_ascii_lowercase();
    let field = |name: &str| lower.split("\r\n").find_map(|l| l.strip_prefix(name)).map(str::trim);
    let mut reply = Reply { status, head: head.clone(), body: Vec::new(), whole: false, until_close: false };
    let lengths = lower.matches("\r\ncontent-length:").count();
    let codings = lower.matches("\r\ntransfer-encoding:").count();
    if lengths + codings > 1 {
        return Err(format!("two framings: {head:?}"));
    }
    if to_head || matches!(status, 204 | 304) {
        reply.whole = true;
        return Ok((reply, 0));
    }
    if field("transfer-encoding:") == Some("chunked") {
        let used = chunks(rest, &mut reply)?;
        return Ok((reply, used));
    }
    let Some(length) = field("content-length:") else {
        (reply.body, reply.until_close) = (rest.to_vec(), true);
        return Ok((reply, rest.len()));
    };
    let length: usize = length.parse().map_err(|_| format!("a bad length: {head:?}"))?;
    reply.whole = rest.len() >= length;
    reply.body = rest[..rest.len().min(length)].to_vec();
    let used = reply.body.len();
    Ok((reply, used))
}

fn chunks(rest: &[u8], reply: &mut Reply) -> Result<usize, String> {
    let mut at = 0;
    loop {
        let Some(line) = memchr::memmem::find(&rest[at..], b"\r\n") else { return Ok(rest.len()) };
        let size = std::str::from_utf8(&rest[at..at + line]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let size = size.ok_or_else(|| format!("a bad chunk size: {:?}", &rest[at..at + line]))?;
        at += line + 2;
        if size == 0 {
            reply.whole = rest[at..].starts_with(b"\r\n");
            return Ok(at + 2);
        }
        let end = (at + size).min(rest.len());
        reply.body.extend_from_slice(&rest[at..end]);
        if rest.len() < at + size + 2 {
            return Ok(rest.len());
        }
        if &rest[end..end + 2] != b"\r\n" {
            return Err("a chunk overruns".into());
        }
        at = end + 2;
    }
}
