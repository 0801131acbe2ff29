//! Response heads.

use super::error::{Bad, BadResponse, Fault};
use super::field::{Field, Fields, HeadLimits, Known, Span};
use super::grammar;
use super::request::{Version, check_coding, keeps_alive, parse_length};
use super::scan::{HeadParts, HeadScanner};

/// How a response's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body: 1xx, 204, 304 and answers to HEAD.
    None,
    /// So many bytes (0 included).
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the upstream closes.
    UntilClose,
}

/// A response head: ranges into the buffer it was parsed from, which every look-up takes as `buf`.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Bytes of the buffer that the head takes; the body starts here.
    pub len: u32,
    /// The version of the status line.
    pub version: Version,
    /// The status, 100 to 599.
    pub status: u16,
    /// The reason phrase, often empty.
    pub reason: Span,
    /// 1xx: another head follows.
    pub interim: bool,
    /// How the body is delimited.
    pub framing: ResponseFraming,
    /// Content-Length as sent, also where there is no body (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether the connection can be used again after this message, as far as its head says.
    pub keep_alive: bool,
    /// The fields.
    pub fields: Fields,
}

impl ResponseHead {
    /// Value of the first field of this name, which must be written in lower case.
    pub fn header<'b>(&self, buf: &'b [u8], name: &str) -> Option<&'b [u8]> {
        self.fields.value(buf, name)
    }

    /// Value of the first field of a known name, found while parsing.
    pub fn known<'b>(&self, buf: &'b [u8], known: Known) -> Option<&'b [u8]> {
        self.fields.first(known).map(|f| f.value(buf))
    }

    /// The fields in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.fields.iter()
    }
}

/// Parses one response head at the start of `buf`; `None`: more bytes are needed. `to_head`: the request was HEAD.
/// To feed a head in small pieces, keep a [`HeadScanner`] and call its `response` instead.
pub fn parse_response(buf: &[u8], limits: &HeadLimits, to_head: bool) -> Result<Option<ResponseHead>, BadResponse> {
    HeadScanner::default().response(buf, limits, to_head)
}

/// Refuses bytes that no response starts with, as soon as they are seen.
pub(super) fn check_version(buf: &[u8]) -> Result<(), Bad> {
    let place = buf.iter().zip(b"HTTP/1.").position(|(a, b)| a != b);
    match place {
        Some(i) => Err(Bad::new(if i < 5 { Fault::BadStatusLine } else { Fault::BadVersion }, i)),
        None => Ok(()),
    }
}

/// Parses a whole head that passed [`check_version`].
pub(super) fn parse(buf: &[u8], parts: &HeadParts, limits: &HeadLimits, to_head: bool) -> Result<ResponseHead, Bad> {
    let head = &buf[..parts.len];
    let (version, status) = parse_status(&head[..parts.line_end])?;
    let fields = Fields::parse(head, parts.line_end + 2, limits)?;
    let bodiless = to_head || status < 200 || matches!(status, 204 | 304);
    let length = fields.first(Known::ContentLength).map(|field| parse_length(head, field)).transpose()?;
    let delimited = parse_framing(head, &fields, length)?;
    let framing = if bodiless { ResponseFraming::None } else { delimited };
    // RFC 9112 6.1: chunks from HTTP/1.0 are a faulty framing; what they delimit is clear, what follows is not.
    let doubtful = version == Version::Http10 && delimited == ResponseFraming::Chunked;
    // A body where there can be none may follow all the same, and would be read as the next answer. HEAD and 304 tell a
    // length without sending it.
    let unasked =
        status == 204 && length.is_some_and(|n| n > 0) || bodiless && !to_head && delimited == ResponseFraming::Chunked;
    let keep_alive = keeps_alive(&fields, version) && !doubtful && !unasked && framing != ResponseFraming::UntilClose;
    Ok(ResponseHead {
        len: parts.len as u32,
        version,
        status,
        reason: Span::new((parts.start + "HTTP/1.1 200 ".len()).min(parts.line_end), parts.line_end),
        interim: status < 200,
        framing,
        content_length: length,
        keep_alive,
        fields,
    })
}

/// `HTTP/1.x SP 3DIGIT [SP reason]`: the second space is missing from some servers that have no reason to tell.
fn parse_status(line: &[u8]) -> Result<(Version, u16), Bad> {
    let version = match line.get(7) {
        Some(b'1') => Version::Http11,
        Some(b'0') => Version::Http10,
        _ => return Err(Bad::new(Fault::BadVersion, 7)),
    };
    let [b' ', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = &line[8..] else {
        return Err(Bad::new(Fault::BadStatusLine, 8));
    };
    if !rest.is_empty() && rest[0] != b' ' || grammar::find_control(rest, 0) != rest.len() {
        return Err(Bad::new(Fault::BadStatusLine, 12));
    }
    match u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0') {
        101 => Err(Bad::new(Fault::UnaskedSwitch, 9)),
        status @ 100..=599 => Ok((version, status)),
        _ => Err(Bad::new(Fault::BadStatus, 9)),
    }
}

/// How the fields delimit a body, if there is one.
fn parse_framing(head: &[u8], fields: &Fields, length: Option<u64>) -> Result<ResponseFraming, Bad> {
    let Some(coding) = fields.first(Known::TransferEncoding) else {
        return Ok(length.map_or(ResponseFraming::UntilClose, ResponseFraming::Length));
    };
    if length.is_some() {
        return Err(Bad::new(Fault::LengthAndCoding, coding.start()));
    }
    check_coding(head, coding)?;
    Ok(ResponseFraming::Chunked)
}
