//! A shutdown under load: streams are open and requests come on new connections until readiness turns false.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::client::{self, Counts, Question};

/// A load balancer looks this often.
const PROBE: Duration = Duration::from_millis(100);

/// How much of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Streams that are open when the shutdown begins.
    pub streams: usize,
    /// Tokens of each.
    pub stream_tokens: u32,
    /// Requests a second beside them, each on a new connection.
    pub rate: f64,
    /// From all streams' begin to the shutdown's.
    pub before: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// The streams.
    pub streams: Counts,
    /// Of them, how many ended after the shutdown had begun.
    pub outlived: usize,
    /// The requests beside them.
    pub requests: Counts,
    /// From the shutdown's begin to readiness being false, in ms.
    pub unready_after_ms: f64,
}

impl Seen {
    /// Everything that was sent and not answered in full.
    pub fn dropped(&self) -> u64 {
        self.streams.cut + self.streams.failed + self.requests.cut + self.requests.failed
    }
}

/// Makes the load, calls `terminate`, and waits for every answer. `metrics` is where readiness is asked for.
pub async fn run(question: &Question, metrics: SocketAddr, plan: Plan, terminate: impl FnOnce()) -> Seen {
    let streams = Question { stream: true, max_tokens: plan.stream_tokens, ..question.clone() };
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let mut open = client::together(&streams, plan.streams, move || {
        count.fetch_add(1, Relaxed);
    });
    let mut counts = Counts { sent: plan.streams as u64, ..Counts::default() };
    while begun.load(Relaxed) < plan.streams - usize::try_from(counts.failed).unwrap_or(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        counts.collect(&mut open);
    }
    let unready = AtomicBool::new(false);
    let requests = client::open_loop(std::slice::from_ref(question), plan.rate, || unready.load(Relaxed));
    let shutdown = async {
        tokio::time::sleep(plan.before).await;
        let began = Instant::now();
        counts.collect(&mut open);
        let outlived = open.len();
        terminate();
        while matches!(client::get(metrics, "/readyz").await, Ok((200, _))) {
            tokio::time::sleep(PROBE).await;
        }
        unready.store(true, Relaxed);
        let unready_after_ms = began.elapsed().as_secs_f64() * 1e3;
        client::finish(open, &mut counts).await;
        (outlived, unready_after_ms, counts)
    };
    let (requests, (outlived, unready_after_ms, streams)) = tokio::join!(requests, shutdown);
    Seen { streams, outlived, requests, unready_after_ms }
}
