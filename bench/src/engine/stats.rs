//! What happened to the requests, for tests to assert on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::Notify;

/// Abort times kept; older ones are forgotten.
const ABORTS_KEPT: usize = 4096;

/// A reading of the counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StatsView {
    /// Inference requests whose head and body arrived.
    pub requests: u64,
    /// Answered to the end, failures on command included.
    pub finished: u64,
    /// Left by the client before the answer's end.
    pub aborted: u64,
    /// When each of the last aborts was seen, in µs since the engine started.
    pub aborted_at_us: Vec<u64>,
    /// In flight now.
    pub in_flight: u64,
    /// Most that were ever in flight at once.
    pub max_in_flight: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open_connections: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub query_tokens: u64,
    /// Prompt tokens found there.
    pub hit_tokens: u64,
    /// Now, in µs since the engine started.
    pub now_us: u64,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Stats {
    started: Instant,
    requests: AtomicU64,
    finished: AtomicU64,
    aborted: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    connections: AtomicU64,
    open_connections: AtomicU64,
    aborted_at_us: Mutex<VecDeque<u64>>,
    idle: Notify,
}

/// One request in flight. Dropped before [`Flight::finish`], it counts as left by the client.
#[derive(Debug)]
pub(crate) struct Flight {
    stats: Arc<Stats>,
    finished: bool,
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Open(Arc<Stats>);

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            requests: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            max_in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open_connections: AtomicU64::new(0),
            aborted_at_us: Mutex::default(),
            idle: Notify::new(),
        }
    }

    /// Returns once nothing is in flight.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.in_flight.load(Relaxed) == 0 {
                return;
            }
            notified.await;
        }
    }

    pub(crate) fn view(&self) -> StatsView {
        let aborted_at_us = self.aborted_at_us.lock().unwrap_or_else(PoisonError::into_inner);
        StatsView {
            requests: self.requests.load(Relaxed),
            finished: self.finished.load(Relaxed),
            aborted: self.aborted.load(Relaxed),
            aborted_at_us: aborted_at_us.iter().copied().collect(),
            in_flight: self.in_flight.load(Relaxed),
            max_in_flight: self.max_in_flight.load(Relaxed),
            connections: self.connections.load(Relaxed),
            open_connections: self.open_connections.load(Relaxed),
            query_tokens: 0,
            hit_tokens: 0,
            now_us: self.now_us(),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn note_abort(&self) {
        self.aborted.fetch_add(1, Relaxed);
        let mut times = self.aborted_at_us.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == ABORTS_KEPT {
            times.pop_front();
        }
        times.push_back(self.now_us());
    }
}

impl Flight {
    pub(crate) fn begin(stats: Arc<Stats>) -> Self {
        let counters = &stats;
        counters.requests.fetch_add(1, Relaxed);
        let now = counters.in_flight.fetch_add(1, Relaxed) + 1;
        counters.max_in_flight.fetch_max(now, Relaxed);
        Self { stats, finished: false }
    }

    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let stats = &self.stats;
        if self.finished {
            stats.finished.fetch_add(1, Relaxed);
        } else {
            stats.note_abort();
        }
        if stats.in_flight.fetch_sub(1, Relaxed) == 1 {
            stats.idle.notify_waiters();
        }
    }
}

impl Open {
    pub(crate) fn begin(stats: Arc<Stats>) -> Self {
        stats.connections.fetch_add(1, Relaxed);
        stats.open_connections.fetch_add(1, Relaxed);
        Self(stats)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Relaxed);
    }
}
