//! The strict, sans-IO HTTP/1.1 codec: bytes in, values out.
//!
//! Heads are parsed once into ranges of the caller's buffer ([`RequestHead`], [`ResponseHead`]); bodies are followed by
//! [`BodyReader`] without being copied; heads are written by copying the raw field lines that pass, in order, and adding
//! our own framing. Whatever two parsers could read differently is refused: the shell answers [`BadRequest`] with its
//! status and closes, turns [`BadResponse`] and an upstream's [`BadChunk`] into 502 (or a cut), and closes that side.
//!
//! The tokeniser is our own: `httparse` takes bare LF and lenient names in its stride and has no place to say where a head
//! is wrong; it serves as the second reader in the tests.
//!
//! Decisions on points where the RFCs leave a choice:
//! - One CRLF before a request line is skipped (RFC 9112 2.2), a second one is refused; none before a status line.
//! - A path is never rewritten: what is matched is what is forwarded. Dot segments (also as `%2e`), empty segments
//!   (`//`), backslashes, `%5c`, escaped controls, needless escapes of unreserved characters (`%61`) and escapes that are
//!   not UTF-8 are 400. `%2f` is legal here and reported ([`RequestHead::encoded_slash`]): model names in
//!   `/v1/models/{id}` need it, every other path should refuse it.
//! - A body's framing does not depend on the method. Content-Length has one field and one value, identical or not.
//! - `Host` has a value, without userinfo, list or escapes, and a port up to 65535; an absolute-form target replaces it.
//! - HTTP/1.0 responses with `chunked` and no Content-Length are read as chunked, and their connection is not reused
//!   (RFC 9112 6.1).
mod body;
mod chunk;
mod encode;
mod error;
mod field;
mod grammar;
mod hop;
mod local;
mod request;
mod response;
mod scan;
mod target;

pub use body::{BodyReader, Scan};
pub use chunk::ChunkScanner;
pub use encode::{Downstream, DownstreamFraming, RequestEdits, ResponseEdits, write_request_head, write_response_head};
pub use error::{BadChunk, BadRequest, BadResponse, ChunkFault, Fault};
pub use field::{Field, Fields, HeadLimits, Known, MAX_FIELDS, Span};
pub use local::{
    CONTINUE, LAST_CHUNK, LocalResponse, reason_phrase, write_chunk_end, write_chunk_header, write_local_response,
};
pub use request::{Method, RequestFraming, RequestHead, Version, parse_request};
pub use response::{ResponseFraming, ResponseHead, parse_response};
pub use scan::HeadScanner;

#[cfg(test)]
mod tests;
