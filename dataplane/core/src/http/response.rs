//! Response heads.

use super::error::BadResponse;
use super::field::{Field, Fields, HeadLimits, Known, Span};
use super::request::Version;
use super::scan::HeadScanner;

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
