//! What is counted. Each core writes cells of its own; a scrape sums them. Nothing on a core locks, formats or looks up
//! by name in a shared map.

mod cells;
mod export;
mod in_force;
mod roll;
mod series;

use std::sync::Arc;

pub use cells::{Counter, Heartbeat, Histogram, Level};
pub use export::{Gauges, Kv, encode};
pub use in_force::InForce;
pub use roll::{All, MAX_SERIES, OfCore};
pub use series::{Active, ActiveLabels, Labels, Series};

/// A bound that was hit, by the name of its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Limit {
    /// `limits.head_bytes` or `limits.head_fields`
    Head,
    /// `limits.uri_bytes`
    Uri,
    /// `limits.body_bytes`
    Body,
    /// `limits.buffered_bytes`
    Buffered,
    /// `limits.header_time`
    HeaderTime,
    /// `limits.body_idle`
    BodyIdle,
    /// `limits.write_idle`
    WriteIdle,
    /// `limits.keep_alive_idle`
    KeepAliveIdle,
    /// `limits.connections`
    Connections,
    /// A backend's `timeouts.connect`
    Connect,
    /// A backend's `timeouts.firstByte`
    FirstByte,
    /// A backend's `timeouts.idle`
    StreamIdle,
    /// A backend's `timeouts.total`
    Total,
    /// A backend's `maxInFlight`
    InFlight,
    /// The helper threads' queue
    Offload,
    /// A backend's retry budget
    RetryBudget,
}

impl Limit {
    /// All of them, in the order of their numbers.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Head, "head"),
        (Self::Uri, "uri"),
        (Self::Body, "body"),
        (Self::Buffered, "buffered"),
        (Self::HeaderTime, "header_time"),
        (Self::BodyIdle, "body_idle"),
        (Self::WriteIdle, "write_idle"),
        (Self::KeepAliveIdle, "keep_alive_idle"),
        (Self::Connections, "connections"),
        (Self::Connect, "connect"),
        (Self::FirstByte, "first_byte"),
        (Self::StreamIdle, "stream_idle"),
        (Self::Total, "total"),
        (Self::InFlight, "in_flight"),
        (Self::Offload, "offload"),
        (Self::RetryBudget, "retry_budget"),
    ];
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum StreamOutcome {
    /// To its end.
    Ok,
    /// The engine said so inside a 200.
    InBandError,
    /// The engine broke off.
    UpstreamError,
    /// The client left.
    ClientGone,
}

impl StreamOutcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Ok, "ok"),
        (Self::InBandError, "in_band_error"),
        (Self::UpstreamError, "upstream_error"),
        (Self::ClientGone, "client_gone"),
    ];
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The engines': they fail, are full, or there are none.
    Upstream,
    /// The proxy's own.
    Internal,
}

impl Side {
    /// All of them, in the order of their numbers.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Downstream, "downstream"), (Self::Upstream, "upstream"), (Self::Internal, "internal")];

    /// Of an engine's own answer; none where that is no error. Which requests are too many is the engine's to say.
    pub fn of_answer(status: u16) -> Option<Self> {
        match status {
            ..400 => None,
            429 | 500.. => Some(Self::Upstream),
            _ => Some(Self::Downstream),
        }
    }
}

/// How the text of a prompt was had, where a backend's chat template is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum PromptText {
    /// By the template's segments, on the core.
    Segments,
    /// By the template itself, on a helper thread.
    Template,
    /// In the plain form: the template refused it, or failed.
    Plain,
    /// Not at all: no helper thread had the time.
    Late,
}

impl PromptText {
    /// All of them, in the order of their numbers.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Segments, "segments"), (Self::Template, "template"), (Self::Plain, "plain"), (Self::Late, "late")];
}

/// Seconds, for how late a core is.
const LAG_BOUNDS: &[f64] = &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The cells of one core.
#[derive(Debug)]
pub struct CoreMetrics {
    /// Requests by label.
    pub series: OfCore<Series>,
    /// What is going on, by label.
    pub active: OfCore<Active>,
    /// Cells without labels.
    pub plain: Arc<PlainCells>,
}

/// One core's cells without labels.
#[derive(Debug)]
pub struct PlainCells {
    /// Requests inside the proxy.
    pub active_requests: Level,
    /// Client connections.
    pub connections: Level,
    /// Those of them that doze.
    pub idle: Level,
    /// Connections accepted so far.
    pub accepted: Counter,
    /// Connections given to another core.
    pub handed_off: Counter,
    /// Limits hit, by [`Limit`].
    pub limits: [Counter; Limit::ALL.len()],
    /// Streams, by [`StreamOutcome`].
    pub streams: [Counter; StreamOutcome::ALL.len()],
    /// Requests that failed, by [`Side`].
    pub errors: [Counter; Side::ALL.len()],
    /// Prompts of backends with a chat template, by [`PromptText`].
    pub prompts: [Counter; PromptText::ALL.len()],
    /// Attempts beyond the first.
    pub retries: Counter,
    /// Blocks of prompts that another endpoint held and the chosen one did not.
    pub locality_given_up: Counter,
    /// Engine connections made.
    pub connects: Counter,
    /// Engine connections found dead when they were to be used again.
    pub stale: Counter,
    /// The process's clock in ms when the core's sweep last ran.
    pub heartbeat_ms: Heartbeat,
    /// Log records that found no room.
    pub records_dropped: Counter,
    /// How late the core was, each time that something was due.
    pub loop_lag: Histogram,
}

impl Default for PlainCells {
    fn default() -> Self {
        Self {
            active_requests: Level::default(),
            connections: Level::default(),
            idle: Level::default(),
            accepted: Counter::default(),
            handed_off: Counter::default(),
            limits: Default::default(),
            streams: Default::default(),
            errors: Default::default(),
            prompts: Default::default(),
            retries: Counter::default(),
            locality_given_up: Counter::default(),
            connects: Counter::default(),
            stale: Counter::default(),
            heartbeat_ms: Heartbeat::default(),
            records_dropped: Counter::default(),
            loop_lag: Histogram::new(LAG_BOUNDS),
        }
    }
}

impl CoreMetrics {
    /// Counts a limit.
    pub fn hit(&self, limit: Limit) {
        self.plain.limits[limit as usize].add(1);
    }

    /// Counts a stream's end.
    pub fn stream(&self, outcome: StreamOutcome) {
        self.plain.streams[outcome as usize].add(1);
    }

    /// Counts a request that failed.
    pub fn error(&self, side: Side) {
        self.plain.errors[side as usize].add(1);
    }

    /// Counts a prompt.
    pub fn prompt(&self, text: PromptText) {
        self.plain.prompts[text as usize].add(1);
    }

    /// Lets go of what is not counted any more. Once a second.
    pub fn sweep(&self) {
        self.series.sweep();
        self.active.sweep();
    }
}

/// The cells of all cores.
#[derive(Debug)]
pub struct Metrics {
    series: Arc<All<Series>>,
    active: Arc<All<Active>>,
    cores: Vec<Arc<PlainCells>>,
}

impl Metrics {
    /// For so many cores.
    pub fn new(cores: usize) -> Self {
        let cores = (0..cores).map(|_| Arc::default()).collect();
        Self { series: Arc::default(), active: Arc::default(), cores }
    }

    /// The cells that core `id` writes; called once for each core, on its thread.
    pub fn of_core(&self, id: usize) -> CoreMetrics {
        CoreMetrics {
            series: OfCore::new(self.series.clone()),
            active: OfCore::new(self.active.clone()),
            plain: self.cores[id].clone(),
        }
    }

    /// Forgets, some minutes later, what has labels that the table in force has not; `roll.rs` says how. Now and then, off the cores.
    pub fn forget(&self, names: &InForce<'_>, now_ms: u64) {
        self.series.forget(names, now_ms);
        self.active.forget(names, now_ms);
    }

    /// Cells that are to be forgotten, and are told until then.
    pub fn leaving(&self) -> usize {
        self.series.leaving() + self.active.leaving()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for (n, (limit, _)) in Limit::ALL.iter().enumerate() {
            assert_eq!(n, *limit as usize);
        }
        for (n, (outcome, _)) in StreamOutcome::ALL.iter().enumerate() {
            assert_eq!(n, *outcome as usize);
        }
        for (n, (side, _)) in Side::ALL.iter().enumerate() {
            assert_eq!(n, *side as usize);
        }
    }
}
