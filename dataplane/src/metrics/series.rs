//! What is counted by label. Every label comes from the table or from a fixed list, and the number of series is
//! bounded besides: what a client sends never becomes a label.

use std::sync::OnceLock;
use std::time::Duration;

use dataplane_core::scheduler::Stage;

use super::cells::{Counter, Histogram, Level};
use super::in_force::InForce;
use super::roll::{Departure, Keyed};

/// Seconds; the reference's buckets, continued because generations run for minutes.
pub(super) const DURATION_BOUNDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Seconds, for the time to the first token.
pub(super) const TTFT_BOUNDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0];
/// Seconds, for the gap between two events of a stream.
pub(super) const GAP_BOUNDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1.0, 2.5, 5.0];
/// Seconds, for what the proxy itself adds before a request leaves.
pub(super) const ADDED_BOUNDS: &[f64] =
    &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25];

/// Seconds, for one scheduling decision.
pub(super) const SCHEDULE_BOUNDS: &[f64] =
    &[0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_05, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5];
/// Shares, as the reference's.
pub(super) const RATIO_BOUNDS: &[f64] = &[0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0];

/// The labels of one finished request, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels<'a> {
    /// As some route registers it, else `unknown`.
    pub model: &'a str,
    /// One of a fixed list.
    pub path: &'static str,
    /// The status that the client saw.
    pub status: u16,
    /// Why it failed; `successful_request` if it did not.
    pub error_type: &'static str,
    /// `namespace/name`, or `none`.
    pub route: &'a str,
    /// `namespace/name`, or `none`.
    pub backend: &'a str,
    /// The name sent to the engine, or `none`.
    pub upstream_model: &'a str,
}

impl Labels<'_> {
    /// `model_server` once a backend was bound.
    pub fn backend_type(&self) -> &'static str {
        if self.backend == "none" { "unresolved" } else { "model_server" }
    }
}

/// The cells of one set of labels on one core.
#[derive(Debug)]
pub struct Series {
    departure: Departure,
    model: Box<str>,
    path: &'static str,
    status: u16,
    error_type: &'static str,
    route: Box<str>,
    backend: Box<str>,
    upstream_model: Box<str>,
    /// Finished requests.
    pub requests: Counter,
    /// From the first byte of the request to the last of the answer.
    pub duration: Histogram,
    /// To the first event of a stream, or the first byte of the body.
    pub ttft: Histogram,
    /// Time that the proxy itself took, from the request's last byte until it left.
    pub added: Histogram,
    /// Estimated tokens of prompts.
    pub input_tokens: Counter,
    /// Tokens that engines reported.
    pub output_tokens: Counter,
}

impl Series {
    fn new(l: &Labels<'_>) -> Self {
        Self {
            departure: Departure::default(),
            model: l.model.into(),
            path: l.path,
            status: l.status,
            error_type: l.error_type,
            route: l.route.into(),
            backend: l.backend.into(),
            upstream_model: l.upstream_model.into(),
            requests: Counter::default(),
            duration: Histogram::new(DURATION_BOUNDS),
            ttft: Histogram::new(TTFT_BOUNDS),
            added: Histogram::new(ADDED_BOUNDS),
            input_tokens: Counter::default(),
            output_tokens: Counter::default(),
        }
    }

    /// Its labels.
    pub fn labels(&self) -> Labels<'_> {
        Labels {
            model: &self.model,
            path: self.path,
            status: self.status,
            error_type: self.error_type,
            route: &self.route,
            backend: &self.backend,
            upstream_model: &self.upstream_model,
        }
    }
}

impl Keyed for Series {
    type Labels<'a> = Labels<'a>;

    fn with(labels: &Labels<'_>) -> Self {
        Self::new(labels)
    }

    fn labels(&self) -> Labels<'_> {
        Series::labels(self)
    }

    fn is(&self, labels: &Labels<'_>) -> bool {
        Series::labels(self) == *labels
    }

    fn other<'a>(labels: &Labels<'a>) -> Labels<'a>
    where
        Self: 'a,
    {
        Labels { model: "other", route: "other", backend: "other", upstream_model: "other", ..*labels }
    }

    fn group<'a>(labels: &Labels<'a>) -> Labels<'a>
    where
        Self: 'a,
    {
        Labels { path: "", status: 0, error_type: "", ..*labels }
    }

    fn coarser<'a>(labels: &Labels<'a>) -> Option<Labels<'a>>
    where
        Self: 'a,
    {
        let Labels { model, backend, .. } = *labels;
        let by_backend = Labels { model, path: "", status: 0, error_type: "", route: "", backend, upstream_model: "" };
        (*labels != by_backend).then_some(by_backend)
    }

    fn in_force(l: &Labels<'_>, names: &InForce<'_>) -> bool {
        names.model(l.model) && names.route(l.route) && names.backend(l.backend, l.upstream_model)
    }

    fn departure(&self) -> &Departure {
        &self.departure
    }

    fn absorb(&self, other: &Self) {
        self.ttft.absorb(&other.ttft);
        self.added.absorb(&other.added);
    }
}

/// The labels of requests that are being served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActiveLabels<'a> {
    /// As some route registers it, else `unknown`.
    pub model: &'a str,
    /// `namespace/name`, or `none`.
    pub route: &'a str,
    /// `namespace/name`, or `none`.
    pub backend: &'a str,
    /// The name sent to the engine, or `none`.
    pub upstream_model: &'a str,
}

/// What is going on under one set of labels on one core, and what its scheduler did.
#[derive(Debug)]
pub struct Active {
    departure: Departure,
    model: Box<str>,
    route: Box<str>,
    backend: Box<str>,
    upstream_model: Box<str>,
    /// Requests of clients.
    pub downstream: Level,
    /// Attempts at engines.
    pub upstream: Level,
    /// How long a decision took.
    pub schedule: Histogram,
    /// And each step of it, by its number, from the first time that it was taken: a profile has few of them, and there may be thousands of these.
    stages: [OnceLock<Histogram>; Stage::ALL.len()],
    /// Share of the prompt that the best candidate was predicted to hold; its sum is of shares.
    pub match_ratio: Histogram,
    /// Each gap between two events of a stream; events that arrive together have none between them.
    pub gap: Histogram,
    /// Prompt tokens that the chosen endpoints were taken to hold, of requests whose engine says how many it held.
    pub predicted_tokens: Counter,
    /// How many it held.
    pub cached_tokens: Counter,
}

impl Active {
    /// Counts one step of a decision.
    pub fn observe_stage(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].get_or_init(|| Histogram::new(SCHEDULE_BOUNDS)).observe(took);
    }

    /// How long a step took, if it was ever taken.
    pub fn stage(&self, stage: Stage) -> Option<&Histogram> {
        self.stages[stage as usize].get()
    }
}

impl Keyed for Active {
    type Labels<'a> = ActiveLabels<'a>;

    fn with(l: &ActiveLabels<'_>) -> Self {
        Self {
            departure: Departure::default(),
            model: l.model.into(),
            route: l.route.into(),
            backend: l.backend.into(),
            upstream_model: l.upstream_model.into(),
            downstream: Level::default(),
            upstream: Level::default(),
            schedule: Histogram::new(SCHEDULE_BOUNDS),
            stages: Default::default(),
            match_ratio: Histogram::new(RATIO_BOUNDS),
            gap: Histogram::new(GAP_BOUNDS),
            predicted_tokens: Counter::default(),
            cached_tokens: Counter::default(),
        }
    }

    fn labels(&self) -> ActiveLabels<'_> {
        ActiveLabels {
            model: &self.model,
            route: &self.route,
            backend: &self.backend,
            upstream_model: &self.upstream_model,
        }
    }

    fn is(&self, labels: &ActiveLabels<'_>) -> bool {
        Keyed::labels(self) == *labels
    }

    fn other<'a>(_: &ActiveLabels<'a>) -> ActiveLabels<'a>
    where
        Self: 'a,
    {
        ActiveLabels { model: "other", route: "other", backend: "other", upstream_model: "other" }
    }

    fn group<'a>(labels: &ActiveLabels<'a>) -> ActiveLabels<'a>
    where
        Self: 'a,
    {
        *labels
    }

    /// By model and backend, then by model.
    fn coarser<'a>(labels: &ActiveLabels<'a>) -> Option<ActiveLabels<'a>>
    where
        Self: 'a,
    {
        let by_backend = ActiveLabels { route: "", upstream_model: "", ..*labels };
        let by_model = ActiveLabels { backend: "", ..by_backend };
        [by_backend, by_model].into_iter().find(|coarser| coarser != labels)
    }

    fn in_force(l: &ActiveLabels<'_>, names: &InForce<'_>) -> bool {
        names.model(l.model) && names.route(l.route) && names.backend(l.backend, l.upstream_model)
    }

    fn departure(&self) -> &Departure {
        &self.departure
    }

    fn absorb(&self, other: &Self) {
        self.schedule.absorb(&other.schedule);
        for (mine, theirs) in self.stages.iter().zip(&other.stages) {
            if let Some(theirs) = theirs.get() {
                mine.get_or_init(|| Histogram::new(SCHEDULE_BOUNDS)).absorb(theirs);
            }
        }
        self.match_ratio.absorb(&other.match_ratio);
        self.gap.absorb(&other.gap);
        self.predicted_tokens.add(other.predicted_tokens.value());
        self.cached_tokens.add(other.cached_tokens.value());
    }
}
