//! One request, as the access log and the debug page tell it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, SystemTime};

use api::id::{BackendName, ModelName, RouteName};
use dataplane_core::plan::Decision;
use dataplane_core::table::BackendTable;

use crate::metrics::Side;

/// What is logged for a client that left before it had an answer, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// What went wrong, if anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRecord {
    /// The reference's `error.type`.
    pub kind: &'static str,
    /// A sentence.
    pub message: String,
    /// `router` or `upstream`.
    pub origin: &'static str,
    /// Whose fault it is.
    pub side: Side,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durations {
    /// From the first byte of the request to the last of the answer.
    pub total: Duration,
    /// Until the request left for the engine.
    pub request: Duration,
    /// From there to the engine's head.
    pub upstream: Duration,
    /// From there to the end.
    pub response: Duration,
}

/// Everything that is told of a request.
#[derive(Debug, Clone)]
pub struct Record {
    /// When its first byte came.
    pub start: SystemTime,
    /// The client.
    pub client: SocketAddr,
    /// As sent, at most 24 bytes.
    pub method: Cow<'static, str>,
    /// Without the query, at most 1 KiB of it.
    pub path: Cow<'static, str>,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub protocol: &'static str,
    /// What the client saw; 499 if it left before.
    pub status: u16,
    /// What went wrong.
    pub error: Option<ErrorRecord>,
    /// As requested; empty if there was none.
    pub model: Arc<str>,
    /// `namespace/name`.
    pub route: Option<RouteName>,
    /// `namespace/name`.
    pub backend: Option<BackendName>,
    /// The name sent to the engine, if it was changed.
    pub upstream_model: Option<ModelName>,
    /// The endpoint that answered, or the last one tried.
    pub endpoint: Option<(Arc<str>, SocketAddr)>,
    /// `x-request-id`, the client's or ours.
    pub request_id: Arc<str>,
    /// The engine's last status.
    pub upstream_status: Option<u16>,
    /// How often it was sent.
    pub attempts: u32,
    /// Estimated.
    pub input_tokens: u64,
    /// As the engine reported.
    pub output_tokens: u64,
    /// Blocks of the prompt, and how many of them the endpoint was predicted to hold.
    pub blocks: (u32, u32),
    /// To the first event or body byte.
    pub ttft: Option<Duration>,
    /// Where the time went.
    pub durations: Durations,
    /// Bytes of the body from the client, and of the answer to it.
    pub bytes: (u64, u64),
    /// The candidates with each term of their cost, and the table that their slots belong to, while it is in use.
    pub decision: Option<(Arc<Decision>, Weak<BackendTable>)>,
}

impl Record {
    /// The pod's name without its namespace, as the reference logs it.
    pub fn pod(&self) -> Option<&str> {
        self.endpoint.as_ref().map(|(name, _)| name.rsplit('/').next().unwrap_or(name))
    }

    /// Of a request of which nothing is known.
    pub(crate) fn empty() -> Self {
        Self {
            start: SystemTime::UNIX_EPOCH,
            client: SocketAddr::from(([0, 0, 0, 0], 0)),
            method: Cow::Borrowed(""),
            path: Cow::Borrowed(""),
            protocol: "HTTP/1.1",
            status: CLIENT_LEFT,
            error: None,
            model: empty(),
            route: None,
            backend: None,
            upstream_model: None,
            endpoint: None,
            request_id: empty(),
            upstream_status: None,
            attempts: 0,
            input_tokens: 0,
            output_tokens: 0,
            blocks: (0, 0),
            ttft: None,
            durations: Durations::default(),
            bytes: (0, 0),
            decision: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self {
            start: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 120_000_000),
            client: ([127, 0, 0, 1], 5000).into(),
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            protocol: "HTTP/1.1",
            status: 200,
            error: None,
            model: "llama".into(),
            route: Some("default/r".into()),
            backend: Some("default/b".into()),
            upstream_model: None,
            endpoint: Some(("default/pod-0".into(), ([127, 0, 0, 2], 8000).into())),
            request_id: "id".into(),
            upstream_status: Some(200),
            attempts: 1,
            input_tokens: 8,
            output_tokens: 5,
            blocks: (40, 32),
            ttft: Some(Duration::from_millis(12)),
            durations: Durations {
                total: Duration::from_millis(30),
                request: Duration::from_millis(1),
                upstream: Duration::from_millis(11),
                response: Duration::from_millis(18),
            },
            bytes: (100, 200),
            decision: None,
        }
    }
}

/// One empty name for all records that have none yet.
fn empty() -> Arc<str> {
    static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
    EMPTY.clone()
}
