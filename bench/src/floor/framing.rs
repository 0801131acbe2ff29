//! Where an HTTP/1.1 message ends, and nothing else. Lenient: it measures peers, it does not defend against them.

use memchr::{memchr, memmem};

/// A head larger than this is refused.
const MAX_HEAD: usize = 64 * 1024;
/// Trailers larger than this are refused.
const MAX_TRAILER: u32 = 8 * 1024;

/// Which side of an exchange is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requests: without a length there is no body.
    Request,
    /// Responses: without a length the body ends with the connection.
    Response,
}

/// Why the bytes cannot be framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The head did not end within the bound.
    #[error("head over {MAX_HEAD} bytes")]
    HeadTooLarge,
    /// The first line is not HTTP/1.x.
    #[error("bad start line")]
    StartLine,
    /// Content-Length is not a number.
    #[error("bad content length")]
    Length,
    /// The chunk framing is broken.
    #[error("bad chunk framing")]
    Chunk,
}

/// What framing needs of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status of a response, 0 for a request.
    pub status: u16,
    /// A HEAD request, whose answer has no body.
    pub is_head: bool,
    /// The connection may carry another message.
    pub keep_alive: bool,
    length: Option<u64>,
    chunked: bool,
}

/// How far a feed got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All bytes were used and the message goes on.
    More,
    /// The message ended after this many bytes; the rest belongs to the next one.
    Done(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Size { value: u64, digits: u8, extension: bool },
    Data(u64),
    DataEnd,
    Trailer { line: u32, total: u32 },
    UntilClose,
}

/// Follows the messages of one direction of one connection.
#[derive(Debug)]
pub struct Framing {
    kind: Kind,
    state: State,
    partial: Vec<u8>,
    bodiless: bool,
    head: Option<Head>,
    chunks: u64,
}

impl Framing {
    /// At the start of a message.
    pub fn new(kind: Kind) -> Self {
        Self { kind, state: State::Head, partial: Vec::new(), bodiless: false, head: None, chunks: 0 }
    }

    /// The head of the current message, or of the last one where none has begun since.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// HTTP chunks with data seen so far on this connection.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Nothing of a further message has been seen.
    pub fn at_start(&self) -> bool {
        self.state == State::Head && self.partial.is_empty()
    }

    /// The end of the connection is the end of the body.
    pub fn until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The next final response answers a HEAD request.
    pub fn expect_no_body(&mut self) {
        self.bodiless = true;
    }

    /// Takes bytes up to the end of one message; `data` sees the body without its framing.
    pub fn feed(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<Progress, FramingError> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Head => match self.take_head(rest)? {
                    None => return Ok(Progress::More),
                    Some((used, ended)) => {
                        at += used;
                        if ended {
                            return Ok(self.end(at));
                        }
                    }
                },
                State::Length(left) => {
                    let (used, left) = split(rest, left);
                    data(&rest[..used]);
                    at += used;
                    self.state = State::Length(left);
                    if left == 0 {
                        return Ok(self.end(at));
                    }
                }
                State::UntilClose => {
                    data(rest);
                    return Ok(Progress::More);
                }
                State::Data(left) => {
                    let (used, left) = split(rest, left);
                    data(&rest[..used]);
                    at += used;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                }
                State::Size { .. } | State::DataEnd | State::Trailer { .. } => {
                    at += 1;
                    if self.chunk_byte(rest[0])? {
                        return Ok(self.end(at));
                    }
                }
            }
        }
        Ok(Progress::More)
    }

    fn end(&mut self, used: usize) -> Progress {
        self.state = State::Head;
        Progress::Done(used)
    }

    /// `None` while the head is incomplete; else the bytes used and whether the message ends with its head.
    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<(usize, bool)>, FramingError> {
        let held = self.partial.len();
        let parsed = if held == 0 {
            // A blank line before a start line is skipped by everyone.
            match memmem::find(bytes, b"\r\n\r\n") {
                Some(end) => Some((end + 4, parse_head(&bytes[..end + 2], self.kind)?)),
                None => None,
            }
        } else {
            self.partial.extend_from_slice(bytes);
            let from = held.saturating_sub(3);
            match memmem::find(&self.partial[from..], b"\r\n\r\n") {
                Some(end) => {
                    let head = parse_head(&self.partial[..from + end + 2], self.kind)?;
                    self.partial.clear();
                    Some((from + end + 4 - held, head))
                }
                None => None,
            }
        };
        let Some((used, head)) = parsed else {
            if held == 0 {
                self.partial.extend_from_slice(bytes);
            }
            return if self.partial.len() > MAX_HEAD { Err(FramingError::HeadTooLarge) } else { Ok(None) };
        };
        self.head = Some(head);
        Ok(Some((used, self.begin_body(head))))
    }

    /// Sets the state for the body; true when there is none.
    fn begin_body(&mut self, head: Head) -> bool {
        if (100..200).contains(&head.status) {
            // An interim answer: the final one follows in the same message.
            return false;
        }
        let bodiless = std::mem::take(&mut self.bodiless) || matches!(head.status, 204 | 304);
        match (bodiless, head.chunked, head.length) {
            (true, _, _) | (false, false, Some(0)) => return true,
            (false, true, _) => self.state = State::Size { value: 0, digits: 0, extension: false },
            (false, false, Some(length)) => self.state = State::Length(length),
            (false, false, None) if self.kind == Kind::Request => return true,
            (false, false, None) => self.state = State::UntilClose,
        }
        false
    }

    /// One byte of chunk framing; true at the end of the body.
    fn chunk_byte(&mut self, byte: u8) -> Result<bool, FramingError> {
        self.state = match (self.state, byte) {
            (State::Size { digits: 0, .. }, b'\n') => return Err(FramingError::Chunk),
            (State::Size { value: 0, .. }, b'\n') => State::Trailer { line: 0, total: 0 },
            (State::Size { value, .. }, b'\n') => {
                self.chunks += 1;
                State::Data(value)
            }
            (size @ State::Size { extension: true, .. }, _) | (size @ State::Size { .. }, b'\r') => size,
            (State::Size { value, digits, .. }, b';' | b' ' | b'\t') => State::Size { value, digits, extension: true },
            (State::Size { value, digits, .. }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(FramingError::Chunk)?;
                if digits >= 15 {
                    return Err(FramingError::Chunk);
                }
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1, extension: false }
            }
            (State::DataEnd, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size { value: 0, digits: 0, extension: false },
            (State::Trailer { line: 0, .. }, b'\n') => return Ok(true),
            (State::Trailer { total, .. }, b'\n') => State::Trailer { line: 0, total },
            (trailer @ State::Trailer { .. }, b'\r') => trailer,
            (State::Trailer { line, total }, _) if total < MAX_TRAILER => {
                State::Trailer { line: line + 1, total: total + 1 }
            }
            _ => return Err(FramingError::Chunk),
        };
        Ok(false)
    }
}

fn split(bytes: &[u8], left: u64) -> (usize, u64) {
    let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (used, left - used as u64)
}

fn parse_head(bytes: &[u8], kind: Kind) -> Result<Head, FramingError> {
    let line_end = memchr(b'\n', bytes).ok_or(FramingError::StartLine)?;
    let (line, mut rest) = bytes.split_at(line_end + 1);
    let mut head = start_line(line, kind)?;
    while let Some(end) = memchr(b'\n', rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        // Of all fields three matter, and two letters tell them from nearly all others.
        if matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            field(line, &mut head)?;
        }
    }
    Ok(head)
}

fn start_line(line: &[u8], kind: Kind) -> Result<Head, FramingError> {
    let line = line.trim_ascii_end();
    let (status, version) = match kind {
        Kind::Response => {
            let digits = line.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
            let status = digits.and_then(|digits| digits.parse().ok()).ok_or(FramingError::StartLine)?;
            (status, &line[..8])
        }
        Kind::Request => (0, line.len().checked_sub(8).map(|from| &line[from..]).ok_or(FramingError::StartLine)?),
    };
    let keep_alive = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(FramingError::StartLine),
    };
    Ok(Head { status, is_head: line.starts_with(b"HEAD "), keep_alive, length: None, chunked: false })
}

fn field(line: &[u8], head: &mut Head) -> Result<(), FramingError> {
    let Some(colon) = memchr(b':', line) else { return Ok(()) };
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.eq_ignore_ascii_case(b"content-length") {
        let digits = std::str::from_utf8(value).map_err(|_| FramingError::Length)?;
        head.length = Some(digits.parse().map_err(|_| FramingError::Length)?);
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        head.chunked = value.to_ascii_lowercase().ends_with(b"chunked");
    } else if name.eq_ignore_ascii_case(b"connection") {
        if value.eq_ignore_ascii_case(b"close") {
            head.keep_alive = false;
        } else if value.eq_ignore_ascii_case(b"keep-alive") {
            head.keep_alive = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` cut at every `step`, and says where each message ended, what its bodies held and how many chunks came.
    fn run(kind: Kind, bytes: &[u8], step: usize) -> Result<(Vec<usize>, Vec<u8>, u64), FramingError> {
        let mut framing = Framing::new(kind);
        let (mut ends, mut body, mut base) = (Vec::new(), Vec::new(), 0);
        for piece in bytes.chunks(step) {
            let mut at = 0;
            while at < piece.len() {
                match framing.feed(&piece[at..], |data| body.extend_from_slice(data))? {
                    Progress::More => break,
                    Progress::Done(used) => at += used,
                }
                ends.push(base + at);
            }
            base += piece.len();
        }
        Ok((ends, body, framing.chunks()))
    }

    fn check(kind: Kind, bytes: &str, ends: &[usize], body: &str, chunks: u64) {
        for step in 1..=bytes.len() {
            let got = run(kind, bytes.as_bytes(), step).unwrap();
            assert_eq!(got, (ends.to_vec(), body.as_bytes().to_vec(), chunks), "in steps of {step}: {bytes:?}");
        }
    }

    #[test]
    fn messages_end_where_they_should_at_every_split() {
        check(Kind::Request, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[27], "", 0);
        check(
            Kind::Request,
            "POST / HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            &[41, 59],
            "abc",
            0,
        );
        check(Kind::Response, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &[38], "", 0);
        check(Kind::Response, "HTTP/1.1 204 \r\n\r\n", &[17], "", 0);
        check(Kind::Response, "HTTP/1.1 200\r\n\r\nto the end", &[], "to the end", 0);
        check(
            Kind::Response,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            &[64],
            "x",
            0,
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
        check(Kind::Response, &format!("{chunked}{body}"), &[chunked.len() + body.len()], "abc0123456789", 2);
    }

    #[test]
    fn broken_framing_is_an_error() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (bytes, error) in [
            ("HTTP/3 200 OK\r\n\r\n".to_owned(), FramingError::StartLine),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_owned(), FramingError::Length),
            (format!("{chunked}\r\n"), FramingError::Chunk),
            (format!("{chunked}xyz\r\n"), FramingError::Chunk),
            (format!("{chunked}1\r\nab"), FramingError::Chunk),
            ("a".repeat(MAX_HEAD + 1), FramingError::HeadTooLarge),
        ] {
            assert_eq!(run(Kind::Response, bytes.as_bytes(), 7), Err(error), "{:.60}", bytes);
        }
    }

    #[test]
    fn connection_persists_as_version_and_field_say() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", true),
        ] {
            let mut framing = Framing::new(Kind::Response);
            framing.feed(head.as_bytes(), |_| ()).unwrap();
            assert_eq!(framing.head().map(|head| head.keep_alive), Some(expected), "{head}");
        }
    }
}
