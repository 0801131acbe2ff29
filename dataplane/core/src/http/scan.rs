//! Finds the end of a head in a buffer that grows, looking at every byte once.

use super::error::{BadRequest, BadResponse};
use super::field::HeadLimits;
use super::request::RequestHead;
use super::response::ResponseHead;

/// How far one growing buffer was looked at. Start a new one (`default()`) for each head; the buffer must keep the bytes
/// that were shown before and only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    at: u32,
    first_line: bool,
}

impl HeadScanner {
    /// As [`parse_request`](super::parse_request), without looking again at what earlier calls looked at.
    pub fn request(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, BadRequest> {
        unimplemented!("{:?} {limits:?} {self:?}", buf.len())
    }

    /// As [`parse_response`](super::parse_response), without looking again at what earlier calls looked at.
    pub fn response(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        to_head: bool,
    ) -> Result<Option<ResponseHead>, BadResponse> {
        unimplemented!("{:?} {limits:?} {self:?} {to_head}", buf.len())
    }
}
