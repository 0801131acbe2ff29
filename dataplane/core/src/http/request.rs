//! Request heads.

use super::error::{Bad, BadRequest, Fault};
use super::field::{Field, Fields, HeadLimits, Known, Span};
use super::scan::{HeadParts, HeadScanner};
use super::{grammar, hop, target};

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

/// Checks that the request line, which starts at `at` of the buffer, ends in a version that we speak.
pub(super) fn check_line(line: &[u8], at: usize) -> Result<(), Bad> {
    let Some(space) = memchr::memrchr(b' ', line) else { return Err(Bad::new(Fault::BadRequestLine, at)) };
    let method_only = memchr::memchr(b' ', line) == Some(space);
    match &line[space + 1..] {
        b"HTTP/1.1" | b"HTTP/1.0" if !method_only => Ok(()),
        b"" => Err(Bad::new(Fault::BadRequestLine, at + space)),
        // `GET /path` is HTTP/0.9.
        version if method_only || version.starts_with(b"HTTP/") => Err(Bad::new(Fault::BadVersion, at + space + 1)),
        _ => Err(Bad::new(Fault::BadRequestLine, at + space + 1)),
    }
}

/// Parses a whole head whose request line passed [`check_line`].
pub(super) fn parse(buf: &[u8], parts: &HeadParts, limits: &HeadLimits) -> Result<RequestHead, Bad> {
    let head = &buf[..parts.len];
    let line = &head[parts.start..parts.line_end];
    let space = memchr::memchr(b' ', line).unwrap_or(line.len());
    let method_span = Span::new(parts.start, parts.start + space);
    let method = parse_method(method_span.of(head)).ok_or(Bad::new(Fault::MethodRefused, parts.start))?;
    let uri = Span::new(parts.start + space + 1, parts.line_end - " HTTP/1.1".len());
    if uri.len() > limits.uri_bytes as usize {
        return Err(Bad::new(Fault::UriTooLong, uri.start as usize));
    }
    let target = target::parse(head, uri, method)?;
    let version = if head[parts.line_end - 1] == b'1' { Version::Http11 } else { Version::Http10 };
    let fields = Fields::parse(head, parts.line_end + 2, limits)?;
    check_fields(head, &fields, version)?;
    let framing = parse_framing(head, &fields, version)?;
    let expects = expects_continue(head, &fields)? && version == Version::Http11;
    Ok(RequestHead {
        len: parts.len as u32,
        method,
        method_span,
        path: target.path,
        query: target.query,
        authority: target.authority,
        encoded_slash: target.encoded_slash,
        version,
        framing,
        keep_alive: keeps_alive(&fields, version),
        expect_continue: expects && !matches!(framing, RequestFraming::None | RequestFraming::Length(0)),
        fields,
    })
}

/// `None` for the methods that are not served.
fn parse_method(method: &[u8]) -> Option<Method> {
    Some(match method {
        b"GET" => Method::Get,
        b"POST" => Method::Post,
        b"HEAD" => Method::Head,
        b"PUT" => Method::Put,
        b"PATCH" => Method::Patch,
        b"DELETE" => Method::Delete,
        b"OPTIONS" => Method::Options,
        b"CONNECT" | b"TRACE" => return None,
        _ => Method::Other,
    })
}

/// Checks what only requests are held to: names that confuse, and one valid Host.
fn check_fields(head: &[u8], fields: &Fields, version: Version) -> Result<(), Bad> {
    if let Some(field) = fields.iter().find(|f| f.has_underscore() && hop::confuses(f.name(head))) {
        return Err(Bad::new(Fault::ConfusingName, field.start()));
    }
    match fields.first(Known::Host) {
        Some(host) if target::is_host_and_port(host.value(head)) => Ok(()),
        Some(host) => Err(Bad::new(Fault::BadHost, host.value_span().start as usize)),
        None if version == Version::Http10 => Ok(()),
        None => Err(Bad::new(Fault::MissingHost, fields.end())),
    }
}

fn parse_framing(head: &[u8], fields: &Fields, version: Version) -> Result<RequestFraming, Bad> {
    let length = fields.first(Known::ContentLength);
    let Some(coding) = fields.first(Known::TransferEncoding) else {
        let Some(length) = length else { return Ok(RequestFraming::None) };
        return parse_length(head, length).map(RequestFraming::Length);
    };
    if length.is_some() {
        return Err(Bad::new(Fault::LengthAndCoding, coding.start()));
    }
    check_coding(head, coding)?;
    match version {
        Version::Http11 => Ok(RequestFraming::Chunked),
        Version::Http10 => Err(Bad::new(Fault::OldTransferEncoding, coding.start())),
    }
}

/// The one value of Content-Length.
pub(super) fn parse_length(head: &[u8], field: &Field) -> Result<u64, Bad> {
    grammar::length(field.value(head)).ok_or(Bad::new(Fault::BadContentLength, field.value_span().start as usize))
}

/// Checks that Transfer-Encoding says `chunked` and nothing else.
pub(super) fn check_coding(head: &[u8], field: &Field) -> Result<(), Bad> {
    let value = field.value(head);
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|&b| b == b',').map(grammar::trim).peekable();
    let mut well_formed = true;
    while let Some(coding) = codings.next() {
        well_formed &= grammar::all_token(coding) && (!chunked(coding) || codings.peek().is_none());
    }
    let reason = if well_formed { Fault::UnknownCoding } else { Fault::BadTransferEncoding };
    Err(Bad::new(reason, field.value_span().start as usize))
}

fn expects_continue(head: &[u8], fields: &Fields) -> Result<bool, Bad> {
    match fields.first(Known::Expect) {
        None => Ok(false),
        Some(expect) if expect.value(head).eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(expect) => Err(Bad::new(Fault::BadExpect, expect.start())),
    }
}

/// Whether the connection stays open after a message with these fields.
pub(super) fn keeps_alive(fields: &Fields, version: Version) -> bool {
    match version {
        Version::Http11 => !fields.close,
        Version::Http10 => fields.keep_alive && !fields.close,
    }
}
