//! What came of a run, as JSON.

use serde::Serialize;

use super::hist::Histogram;
use super::plan::Plan;
use super::process::Usage;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection was not made.
    Connect,
    /// It was reset, or closed before the answer began.
    Reset,
    /// The answer's status is not 2xx.
    Status,
    /// The answer ended before its framing said so.
    Truncated,
    /// The answer did not end in time.
    Timeout,
    /// The answer's bytes make no sense.
    Framing,
    /// A stream carried an error event.
    InBand,
    /// A stream ended well but without `[DONE]`.
    Undone,
    /// An open loop was so far behind that a request was given up before it was sent.
    Backlog,
}

/// Failures by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are the kinds of `Failure`")]
pub struct Errors {
    pub connect: u64,
    pub reset: u64,
    pub status: u64,
    pub truncated: u64,
    pub timeout: u64,
    pub framing: u64,
    pub in_band: u64,
    pub undone: u64,
    pub backlog: u64,
}

impl Errors {
    /// Counts one.
    pub fn add(&mut self, failure: Failure) {
        *match failure {
            Failure::Connect => &mut self.connect,
            Failure::Reset => &mut self.reset,
            Failure::Status => &mut self.status,
            Failure::Truncated => &mut self.truncated,
            Failure::Timeout => &mut self.timeout,
            Failure::Framing => &mut self.framing,
            Failure::InBand => &mut self.in_band,
            Failure::Undone => &mut self.undone,
            Failure::Backlog => &mut self.backlog,
        } += 1;
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        let Self { connect, reset, status, truncated, timeout, framing, in_band, undone, backlog } = self;
        connect + reset + status + truncated + timeout + framing + in_band + undone + backlog
    }

    fn merge(&mut self, other: &Self) {
        let Self { connect, reset, status, truncated, timeout, framing, in_band, undone, backlog } = other;
        self.connect += connect;
        self.reset += reset;
        self.status += status;
        self.truncated += truncated;
        self.timeout += timeout;
        self.framing += framing;
        self.in_band += in_band;
        self.undone += undone;
        self.backlog += backlog;
    }
}

/// What one thread counted within the measured window.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) events: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) latency: Histogram,
    pub(super) ttft: Histogram,
    pub(super) gap: Histogram,
    pub(super) hop: Histogram,
    pub(super) errors: Errors,
    pub(super) connected_peak: usize,
    pub(super) answering_peak: usize,
}

impl Tally {
    pub(super) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.events += other.events;
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.latency.merge(&other.latency);
        self.ttft.merge(&other.ttft);
        self.gap.merge(&other.gap);
        self.hop.merge(&other.hop);
        self.errors.merge(&other.errors);
        // Threads peak at nearly the same time, for they run the same plan.
        self.connected_peak += other.connected_peak;
        self.answering_peak += other.answering_peak;
    }
}

/// A distribution in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Quantiles {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl From<&Histogram> for Quantiles {
    fn from(histogram: &Histogram) -> Self {
        let at = |q| histogram.quantile(q) as f64 / 1e3;
        Self {
            count: histogram.count(),
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

/// A measured process over the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessReport {
    /// As the plan named it.
    pub label: String,
    /// CPU time used within the window.
    pub cpu_ns: u64,
    /// Per request completed within the window; 0 where there was none.
    pub cpu_us_per_request: f64,
    /// Per SSE event received within the window; 0 where there was none.
    pub cpu_us_per_event: f64,
    /// At the start of the window.
    pub before: Usage,
    /// At its end.
    pub after: Usage,
}

/// How many connections the run really had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Concurrency {
    /// By the plan.
    pub asked: usize,
    /// Open at once, at most.
    pub connected_peak: usize,
    /// With an answer begun and not ended at once, at most: the peer has admitted these.
    pub answering_peak: usize,
}

/// The outcome of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// The measured time.
    pub seconds: f64,
    /// Answers completed without an error.
    pub requests: u64,
    /// Of them per second.
    pub requests_per_s: f64,
    /// SSE events received.
    pub events: u64,
    /// HTTP chunks received in answers that were completed.
    pub chunks: u64,
    /// Bytes received.
    pub bytes: u64,
    /// From the scheduled time (closed loop: from sending) to the end of the answer.
    pub latency: Quantiles,
    /// From the same start to the first event, or the first byte of a unary answer's body.
    pub ttft: Quantiles,
    /// Between two events of a stream.
    pub gap: Quantiles,
    /// From an event's own send time to its arrival here; empty where events carry none.
    pub hop: Quantiles,
    /// What went wrong.
    pub errors: Errors,
    /// What was really admitted.
    pub concurrency: Concurrency,
    /// The measured processes.
    pub processes: Vec<ProcessReport>,
}

impl Report {
    pub(super) fn new(plan: &Plan, seconds: f64, tally: &Tally, usage: &[(Usage, Usage)]) -> Self {
        let per = |cpu_ns: u64, count: u64| if count == 0 { 0.0 } else { cpu_ns as f64 / 1e3 / count as f64 };
        let processes = plan.processes.iter().zip(usage).map(|(process, (before, after))| {
            let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
            ProcessReport {
                label: process.label.clone(),
                cpu_ns,
                cpu_us_per_request: per(cpu_ns, tally.requests),
                cpu_us_per_event: per(cpu_ns, tally.events),
                before: *before,
                after: *after,
            }
        });
        Self {
            plan: plan.clone(),
            seconds,
            requests: tally.requests,
            requests_per_s: tally.requests as f64 / seconds.max(1e-9),
            events: tally.events,
            chunks: tally.chunks,
            bytes: tally.bytes,
            latency: (&tally.latency).into(),
            ttft: (&tally.ttft).into(),
            gap: (&tally.gap).into(),
            hop: (&tally.hop).into(),
            errors: tally.errors,
            concurrency: Concurrency {
                asked: plan.connections,
                connected_peak: tally.connected_peak,
                answering_peak: tally.answering_peak,
            },
            processes: processes.collect(),
        }
    }
}
