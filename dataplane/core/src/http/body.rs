//! One way to follow a body, however it is delimited.

use super::chunk::ChunkScanner;
use super::error::BadChunk;
use super::field::HeadLimits;
use super::request::RequestFraming;
use super::response::ResponseFraming;

/// What one look at the next bytes of a body found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Bytes that belong to the body and its framing; what follows belongs to the next message.
    pub consumed: usize,
    /// The body ended with the last consumed byte.
    pub done: bool,
    /// The consumed bytes can be forwarded as they are under the same framing: no extension, trailer or superfluous zero.
    pub verbatim: bool,
}

/// Follows a body of any framing. A relay under the same framing keeps a clone from before each scan: what is not
/// verbatim, the clone rewrites.
///
/// ```
/// # use dataplane_core::http::{BodyReader, HeadLimits, ResponseFraming};
/// let mut body = BodyReader::response(ResponseFraming::Chunked, &HeadLimits::default());
/// let (mut data, mut out) = (Vec::new(), Vec::new());
/// for read in [&b"5;x\r\nhel"[..], b"lo\r\n0\r\n\r\n"] {
///     let mut before = body.clone();
///     let scan = body.scan(read, |piece| data.extend_from_slice(piece))?;
///     match scan.verbatim {
///         true => out.extend_from_slice(&read[..scan.consumed]),
///         false => assert_eq!(before.rewrite(read, &mut out)?, scan),
///     }
/// }
/// assert_eq!((&data[..], &out[..]), (&b"hello"[..], &b"5\r\nhello\r\n0\r\n\r\n"[..]));
/// # Ok::<(), dataplane_core::http::BadChunk>(())
/// ```
#[derive(Clone, Debug)]
pub enum BodyReader {
    /// No body: done before the first byte.
    None,
    /// So many bytes are still to come.
    Length {
        /// The bytes still to come.
        left: u64,
    },
    /// Chunks.
    Chunked(ChunkScanner),
    /// Until the other side closes: never done by itself.
    UntilClose,
}

impl BodyReader {
    /// The reader for a request's body.
    pub fn request(framing: RequestFraming, limits: &HeadLimits) -> Self {
        match framing {
            RequestFraming::None => Self::None,
            RequestFraming::Length(left) => Self::Length { left },
            RequestFraming::Chunked => Self::Chunked(ChunkScanner::new(limits.head_bytes)),
        }
    }

    /// The reader for a response's body.
    pub fn response(framing: ResponseFraming, limits: &HeadLimits) -> Self {
        match framing {
            ResponseFraming::None => Self::None,
            ResponseFraming::Length(left) => Self::Length { left },
            ResponseFraming::Chunked => Self::Chunked(ChunkScanner::new(limits.head_bytes)),
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }

    /// Looks at the next bytes; `on_data` gets the data in them, in order, possibly in several pieces.
    pub fn scan(&mut self, bytes: &[u8], mut on_data: impl FnMut(&[u8])) -> Result<Scan, BadChunk> {
        if let Self::Chunked(chunks) = self {
            return chunks.scan(bytes, on_data);
        }
        let scan = self.take(bytes);
        if scan.consumed > 0 {
            on_data(&bytes[..scan.consumed]);
        }
        Ok(scan)
    }

    /// As `scan`, appending to `out` what may be forwarded under the same framing (see [`ChunkScanner::rewrite`]).
    pub fn rewrite(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Scan, BadChunk> {
        if let Self::Chunked(chunks) = self {
            return chunks.rewrite(bytes, out);
        }
        let scan = self.take(bytes);
        out.extend_from_slice(&bytes[..scan.consumed]);
        Ok(scan)
    }

    /// Counts bytes of a body whose framing has no bytes of its own.
    fn take(&mut self, bytes: &[u8]) -> Scan {
        let consumed = match self {
            Self::Length { left } => {
                let taken = (*left).min(bytes.len() as u64);
                *left -= taken;
                taken as usize
            }
            Self::UntilClose => bytes.len(),
            Self::None | Self::Chunked(_) => 0,
        };
        Scan { consumed, done: self.is_done(), verbatim: true }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        match self {
            Self::None => true,
            Self::Length { left } => *left == 0,
            Self::Chunked(chunks) => chunks.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Whether a chunk could begin here; always so for a body that is not in chunks.
    pub fn is_between_chunks(&self) -> bool {
        match self {
            Self::Chunked(chunks) => chunks.is_between_chunks(),
            Self::None | Self::Length { .. } | Self::UntilClose => true,
        }
    }

    /// Whether the other side may close now without cutting the body: it has ended, or ends by closing.
    pub fn ends_at_close(&self) -> bool {
        matches!(self, Self::UntilClose) || self.is_done()
    }
}
