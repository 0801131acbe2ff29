//! The chunk machine: resumable at every byte.

use super::body::Scan;
use super::error::BadChunk;

/// Follows one chunked body. A copy taken before [`scan`](Self::scan) can [`rewrite`](Self::rewrite) the same bytes when
/// they turn out not to be forwardable as they are.
#[derive(Clone, Debug)]
pub struct ChunkScanner {
    trailer_limit: u32,
}

impl ChunkScanner {
    /// `trailer_limit`: bytes that the trailers may take (the head limit).
    pub fn new(trailer_limit: u32) -> Self {
        Self { trailer_limit }
    }

    /// Looks at the next bytes of the body; `on_data` gets the data in them, in order, possibly in several pieces.
    pub fn scan(&mut self, bytes: &[u8], on_data: impl FnMut(&[u8])) -> Result<Scan, BadChunk> {
        let _ = on_data;
        unimplemented!("{bytes:?} {}", self.trailer_limit)
    }

    /// As `scan`, appending to `out` the same chunks without extensions, trailers and superfluous zeros. What `scan`
    /// calls verbatim is what this would write unchanged, so that calls of both kinds may alternate on one body.
    pub fn rewrite(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Scan, BadChunk> {
        unimplemented!("{bytes:?} {out:?}")
    }
}
