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
    let _ = (out, answer);
    unimplemented!()
}

/// Appends `size CRLF`. A chunk of size 0 would end the body: write [`LAST_CHUNK`] for that and skip empty data.
pub fn write_chunk_header(out: &mut Vec<u8>, size: usize) {
    let _ = (out, size);
    unimplemented!()
}

/// Appends the CRLF after a chunk's data.
pub fn write_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// The usual words for a status.
pub fn reason_phrase(status: u16) -> &'static str {
    let _ = status;
    unimplemented!()
}
