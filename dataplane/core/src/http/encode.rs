//! Writes heads: raw field lines that pass, in order, then ours.

use super::request::{RequestFraming, RequestHead};
use super::response::ResponseHead;

/// What changes on the way upstream. An own line replaces every field of its name that the client sent.
#[derive(Clone, Copy, Debug)]
pub struct RequestEdits<'a> {
    /// How the body is delimited upstream: our own framing, whatever the client's was.
    pub framing: RequestFraming,
    /// Replaces path and query (`/v1/x?y`); the client's target goes on as it is where this is `None`.
    pub target: Option<&'a [u8]>,
    /// Replaces Host; the client's is kept where this is `None`.
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
    let _ = (out, head, buf, edits);
    unimplemented!()
}

/// Appends the head that goes downstream: always HTTP/1.1, the reason phrase as it came, hop-by-hop fields removed,
/// repeated fields (Set-Cookie) in order. Interim heads (1xx) are written with `Bodiless` and `Keep`.
pub fn write_response_head(out: &mut Vec<u8>, head: &ResponseHead, buf: &[u8], edits: &ResponseEdits<'_>) {
    let _ = (out, head, buf, edits);
    unimplemented!()
}
