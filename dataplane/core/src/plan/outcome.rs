//! What happened to a request: one value for the access log, the metrics, and learning.

use super::Refusal;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client.
    Downstream,
    /// The engine.
    Upstream,
    /// This proxy.
    Internal,
}

/// What kind of error ended a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request could not be understood.
    BadRequest,
    /// No route, or its backend is missing.
    NotFound,
    /// A limit was hit.
    Limited,
    /// No endpoint could take it.
    Unavailable,
    /// No connection.
    Connect,
    /// The connection broke off.
    Cut,
    /// An answer that is not HTTP.
    Framing,
    /// A wait took too long.
    Timeout,
    /// The engine answered with an error.
    Status(Refusal),
    /// An error inside a stream of status 200.
    InBand,
    /// The client left.
    Gone,
    /// A bug or a lack of memory here.
    Bug,
}

/// An error and its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutcomeError {
    /// Whose.
    pub side: Side,
    /// Of which kind.
    pub class: ErrorClass,
}

/// Tokens as the engine counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// In the prompt.
    pub prompt_tokens: u64,
    /// Of these, found in the engine's cache, where it says so.
    pub cached_tokens: Option<u64>,
    /// In the answer.
    pub completion_tokens: u64,
}

/// Points in time in ms; 0 where the request did not get that far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// The first byte of the request.
    pub received_ms: u64,
    /// The decision was made.
    pub decided_ms: u64,
    /// The last byte went to the engine.
    pub sent_ms: u64,
    /// The first byte of the answer came.
    pub first_byte_ms: u64,
    /// The first event, or the first byte of the body.
    pub first_event_ms: u64,
    /// The last byte went to the client, or the request ended otherwise.
    pub ended_ms: u64,
}

/// Everything that the shell needs to log and count a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Sent to the client; 0 where none was.
    pub status: u16,
    /// None where all went well.
    pub error: Option<OutcomeError>,
    /// Attempts at endpoints.
    pub attempts: u8,
    /// Bytes of the request's body.
    pub received_bytes: u64,
    /// Bytes of the answer's body.
    pub sent_bytes: u64,
    /// Events of a streamed answer.
    pub events: u64,
    /// As the engine counted.
    pub usage: Option<Usage>,
    /// Full blocks of the prompt.
    pub prompt_blocks: u32,
    /// Of these, predicted to be cached where the request went.
    pub cached_blocks: u32,
    /// When what happened.
    pub timings: Timings,
}

impl Outcome {
    /// Time to the first event in ms; none where there was none.
    pub fn ttft_ms(&self) -> Option<u64> {
        let Timings { received_ms, first_event_ms, .. } = self.timings;
        (first_event_ms > 0).then(|| first_event_ms.saturating_sub(received_ms))
    }
}
