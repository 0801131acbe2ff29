//! Request heads.

use super::error::BadRequest;
use super::field::{Field, Fields, HeadLimits, Known, Span};
use super::scan::HeadScanner;

/// The method of a request. `CONNECT` and `TRACE` are refused while parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// Any other token; [`RequestHead::method_span`] says which.
    Other,
}

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// No body.
    None,
    /// So many bytes (0 included), at most 2^63 - 1.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A request head: ranges into the buffer it was parsed from, which every look-up takes as `buf`.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Bytes of the buffer that the head takes; the body starts here.
    pub len: u32,
    /// The method.
    pub method: Method,
    /// The method as it was sent.
    pub method_span: Span,
    /// The path: `*` for `OPTIONS *`, else starting with `/`. Match and forward exactly these bytes.
    pub path: Span,
    /// The query without its `?`; `None` where the target has no `?`.
    pub query: Option<Span>,
    /// The authority of an absolute-form target, which replaces Host.
    pub authority: Option<Span>,
    /// The path holds `%2f`: refuse it wherever that is not part of a name.
    pub encoded_slash: bool,
    /// The version.
    pub version: Version,
    /// How the body is delimited.
    pub framing: RequestFraming,
    /// Whether the client wants to send another request here.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` (1.1 only, and only when there is a body).
    pub expect_continue: bool,
    /// The fields.
    pub fields: Fields,
}

impl RequestHead {
    /// Value of the first field of this name, which must be written in lower case.
    pub fn header<'b>(&self, buf: &'b [u8], name: &str) -> Option<&'b [u8]> {
        self.fields.value(buf, name)
    }

    /// Value of the first field of a known name, found while parsing.
    pub fn known<'b>(&self, buf: &'b [u8], known: Known) -> Option<&'b [u8]> {
        self.fields.first(known).map(|f| f.value(buf))
    }

    /// The authority that the request is for: of the target, else of Host. HTTP/1.0 may have neither.
    pub fn host<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8]> {
        self.authority.map(|a| a.of(buf)).or_else(|| self.known(buf, Known::Host))
    }

    /// The fields in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.fields.iter()
    }
}

/// Parses one request head at the start of `buf`. `None`: more bytes are needed. What can never become valid is refused
/// as soon as it is seen. To feed a head in small pieces, keep a [`HeadScanner`] and call its `request` instead.
pub fn parse_request(buf: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, BadRequest> {
    HeadScanner::default().request(buf, limits)
}
