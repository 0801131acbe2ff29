//! Writes heads: raw field lines that pass, in order, then ours.

use super::field::{Field, Fields, Known};
use super::hop::HOP_BY_HOP;
use super::local::{line, line_number, write_decimal};
use super::request::{Method, RequestFraming, RequestHead};
use super::response::ResponseHead;

/// What changes on the way upstream. An own line replaces every field of its name that the client sent.
#[derive(Clone, Copy, Debug)]
pub struct RequestEdits<'a> {
    /// How the body is delimited upstream: our own framing, whatever the client's was.
    pub framing: RequestFraming,
    /// Replaces path and query (`/v1/x?y`); the client's target goes on as it is where this is `None`.
    pub target: Option<&'a [u8]>,
    /// Replaces Host; the client's is kept where this is `None`, and is empty where an HTTP/1.0 client had none.
    pub host: Option<&'a [u8]>,
    /// `x-request-id`.
    pub request_id: Option<&'a [u8]>,
    /// The client's address, appended to `x-forwarded-for`.
    pub forwarded_for: Option<&'a [u8]>,
    /// `x-forwarded-proto`.
    pub forwarded_proto: Option<&'a [u8]>,
    /// `X-Data-Parallel-Rank`.
    pub data_parallel_rank: Option<u32>,
    /// Drop `authorization`, `x-api-key`, `api-key` and `cookie`.
    pub strip_credentials: bool,
    /// Drop `accept-encoding`, so that the answer can be read on its way.
    pub strip_accept_encoding: bool,
    /// Further lines: names and values must be valid.
    pub extra: &'a [(&'a str, &'a [u8])],
}

impl Default for RequestEdits<'_> {
    fn default() -> Self {
        Self {
            framing: RequestFraming::None,
            target: None,
            host: None,
            request_id: None,
            forwarded_for: None,
            forwarded_proto: None,
            data_parallel_rank: None,
            strip_credentials: false,
            strip_accept_encoding: false,
            extra: &[],
        }
    }
}

/// How a body is delimited downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownstreamFraming {
    /// No body: Content-Length as the upstream sent it for HEAD and 304, none for 1xx and 204.
    Bodiless,
    /// So many bytes.
    Length(u64),
    /// Chunks: for HTTP/1.1 clients only.
    Chunked,
    /// Until we close: for HTTP/1.0 clients. Implies [`Downstream::Close`].
    Close,
}

/// What becomes of the client's connection after this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downstream {
    /// It stays open, as is the rule of HTTP/1.1: nothing is written.
    Keep,
    /// It stays open and an HTTP/1.0 client must be told: `connection: keep-alive`.
    KeepHttp10,
    /// `connection: close`.
    Close,
}

/// What changes on the way downstream. An own line replaces every field of its name that the upstream sent.
#[derive(Clone, Copy, Debug)]
pub struct ResponseEdits<'a> {
    /// How the body is delimited.
    pub framing: DownstreamFraming,
    /// What becomes of the connection.
    pub connection: Downstream,
    /// `x-request-id`.
    pub request_id: Option<&'a [u8]>,
    /// Further lines: names and values must be valid.
    pub extra: &'a [(&'a str, &'a [u8])],
}

/// Appends the head that goes upstream: always HTTP/1.1, kept alive, hop-by-hop fields removed, repeated fields in order.
pub fn write_request_head(out: &mut Vec<u8>, head: &RequestHead, buf: &[u8], edits: &RequestEdits<'_>) {
    out.reserve(head.len as usize + 256);
    write_request_line(out, head, buf, edits);
    write_host(out, head, buf, edits);
    let dropped = dropped_upstream(head, edits);
    copy_fields(out, &head.fields, buf, (dropped, edits.extra));
    if let Some(id) = edits.request_id {
        line(out, "x-request-id", id);
    }
    if let Some(client) = edits.forwarded_for {
        write_forwarded_for(out, head, buf, client);
    }
    if let Some(proto) = edits.forwarded_proto {
        line(out, "x-forwarded-proto", proto);
    }
    if let Some(rank) = edits.data_parallel_rank {
        line_number(out, "x-data-parallel-rank", u64::from(rank));
    }
    edits.extra.iter().for_each(|(name, value)| line(out, name, value));
    write_request_framing(out, head.method, edits.framing);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head that goes downstream: always HTTP/1.1, the reason phrase as it came, hop-by-hop fields removed,
/// repeated fields (Set-Cookie) in order. Interim heads (1xx) are written with `Bodiless` and `Keep`.
pub fn write_response_head(out: &mut Vec<u8>, head: &ResponseHead, buf: &[u8], edits: &ResponseEdits<'_>) {
    out.reserve(head.len as usize + 256);
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason.of(buf));
    out.extend_from_slice(b"\r\n");
    let mut dropped = HOP_BY_HOP;
    if edits.request_id.is_some() {
        dropped |= Known::RequestId.bit();
    }
    copy_fields(out, &head.fields, buf, (dropped, edits.extra));
    if let Some(id) = edits.request_id {
        line(out, "x-request-id", id);
    }
    edits.extra.iter().for_each(|(name, value)| line(out, name, value));
    write_response_framing(out, head, edits);
    out.extend_from_slice(b"\r\n");
}

fn write_request_line(out: &mut Vec<u8>, head: &RequestHead, buf: &[u8], edits: &RequestEdits<'_>) {
    out.extend_from_slice(head.method_span.of(buf));
    out.push(b' ');
    match edits.target {
        Some(target) => out.extend_from_slice(target),
        None => {
            out.extend_from_slice(head.path.of(buf));
            if let Some(query) = head.query {
                out.push(b'?');
                out.extend_from_slice(query.of(buf));
            }
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Host is copied with the other fields unless something replaces it; HTTP/1.1 needs one even if the client had none.
fn write_host(out: &mut Vec<u8>, head: &RequestHead, buf: &[u8], edits: &RequestEdits<'_>) {
    if let Some(host) = edits.host.or_else(|| head.authority.map(|a| a.of(buf))) {
        line(out, "host", host);
    } else if head.fields.first(Known::Host).is_none() {
        line(out, "host", b"");
    }
}

fn dropped_upstream(head: &RequestHead, edits: &RequestEdits<'_>) -> u32 {
    [
        (edits.host.is_some() || head.authority.is_some(), Known::Host.bit()),
        (edits.request_id.is_some(), Known::RequestId.bit()),
        (edits.forwarded_for.is_some(), Known::ForwardedFor.bit()),
        (edits.forwarded_proto.is_some(), Known::ForwardedProto.bit()),
        (edits.data_parallel_rank.is_some(), Known::DataParallelRank.bit()),
        (edits.strip_credentials, Known::Authorization.bit() | Known::Credential.bit()),
        (edits.strip_accept_encoding, Known::AcceptEncoding.bit()),
    ]
    .into_iter()
    .fold(HOP_BY_HOP, |all, (asked, bits)| if asked { all | bits } else { all })
}

/// Copies the lines that pass, neighbours in one piece. `not`: the known names that do not pass, and lines that replace
/// others.
fn copy_fields(out: &mut Vec<u8>, fields: &Fields, buf: &[u8], not: (u32, &[(&str, &[u8])])) {
    let (dropped, extra) = not;
    let replaced = |field: &Field| extra.iter().any(|(name, _)| field.name(buf).eq_ignore_ascii_case(name.as_bytes()));
    let mut run = None;
    for field in fields.iter() {
        let passes = dropped & field.known.bit() == 0 && !field.is_named() && !replaced(field);
        match (passes, run) {
            (true, None) => run = Some(field.start()),
            (false, Some(from)) => {
                out.extend_from_slice(&buf[from..field.start()]);
                run = None;
            }
            _ => {}
        }
    }
    if let Some(from) = run {
        out.extend_from_slice(&buf[from..fields.end()]);
    }
}

/// One list of all hops: what the client sent, in order, then the client itself.
fn write_forwarded_for(out: &mut Vec<u8>, head: &RequestHead, buf: &[u8], client: &[u8]) {
    out.extend_from_slice(b"x-forwarded-for: ");
    if head.fields.first(Known::ForwardedFor).is_some() {
        let lists = head.iter().filter(|f| f.known == Known::ForwardedFor).map(|f| f.value(buf));
        for list in lists.filter(|list| !list.is_empty()) {
            out.extend_from_slice(list);
            out.extend_from_slice(b", ");
        }
    }
    out.extend_from_slice(client);
    out.extend_from_slice(b"\r\n");
}

fn write_request_framing(out: &mut Vec<u8>, method: Method, framing: RequestFraming) {
    match framing {
        RequestFraming::Length(n) => line_number(out, "content-length", n),
        RequestFraming::Chunked => line(out, "transfer-encoding", b"chunked"),
        // Servers wait for, or refuse, such requests without a length (RFC 9110 8.6).
        RequestFraming::None if matches!(method, Method::Post | Method::Put | Method::Patch) => {
            line(out, "content-length", b"0");
        }
        RequestFraming::None => {}
    }
}

fn write_response_framing(out: &mut Vec<u8>, head: &ResponseHead, edits: &ResponseEdits<'_>) {
    match edits.framing {
        DownstreamFraming::Length(n) => line_number(out, "content-length", n),
        DownstreamFraming::Chunked => line(out, "transfer-encoding", b"chunked"),
        DownstreamFraming::Bodiless if head.interim || head.status == 204 => {}
        DownstreamFraming::Bodiless => {
            if let Some(n) = head.content_length {
                line_number(out, "content-length", n);
            }
        }
        DownstreamFraming::Close => {}
    }
    match edits.connection {
        _ if edits.framing == DownstreamFraming::Close => line(out, "connection", b"close"),
        Downstream::Close => line(out, "connection", b"close"),
        Downstream::KeepHttp10 => line(out, "connection", b"keep-alive"),
        Downstream::Keep => {}
    }
}
