//! Answers that the proxy makes itself, and our own chunks.

use super::encode::Downstream;

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The end of a chunked body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An answer made here, with its whole body.
#[derive(Clone, Copy, Debug)]
pub struct LocalResponse<'a> {
    /// The status.
    pub status: u16,
    /// `content-type`.
    pub content_type: &'a str,
    /// The body; for HEAD only its length is told.
    pub body: &'a [u8],
    /// The request was HEAD: no body is written.
    pub to_head: bool,
    /// `x-request-id`.
    pub request_id: Option<&'a [u8]>,
    /// What becomes of the connection.
    pub connection: Downstream,
    /// Further lines (`retry-after`, `allow`): names and values must be valid.
    pub extra: &'a [(&'a str, &'a [u8])],
}

/// Appends a whole answer, head and body.
pub fn write_local_response(out: &mut Vec<u8>, answer: &LocalResponse<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(answer.status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(answer.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    // 1xx, 204 and 304 have no body, and the first two may not tell a length.
    let bodiless = answer.status < 200 || matches!(answer.status, 204 | 304);
    if !bodiless {
        line(out, "content-type", answer.content_type.as_bytes());
        line_number(out, "content-length", answer.body.len() as u64);
    }
    if let Some(id) = answer.request_id {
        line(out, "x-request-id", id);
    }
    answer.extra.iter().for_each(|(name, value)| line(out, name, value));
    match answer.connection {
        Downstream::Close => line(out, "connection", b"close"),
        Downstream::KeepHttp10 => line(out, "connection", b"keep-alive"),
        Downstream::Keep => {}
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless && !answer.to_head {
        out.extend_from_slice(answer.body);
    }
}

/// Appends `size CRLF`. A chunk of size 0 would end the body: write [`LAST_CHUNK`] for that and skip empty data.
pub fn write_chunk_header(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|i| b"0123456789abcdef"[size >> (4 * i) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// Appends the CRLF after a chunk's data.
pub fn write_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends one field line.
pub(super) fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends one field line with a number.
pub(super) fn line_number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    write_decimal(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub(super) fn write_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The usual words for a status; empty, which is legal, for one without.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
