//! What is counted.

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::plan::Outcome;

/// Writes, events, and how far behind the statuses are.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    writes: IntCounterVec,
    events: IntCounterVec,
    behind: IntGauge,
}

impl Counts {
    pub(super) fn new(registry: &Registry) -> Self {
        let of = |name, help| IntCounterVec::new(Opts::new(name, help), &["result"]).expect("name and label are valid");
        let counts = Self {
            writes: of(
                "kthena_controlplane_status_writes_total",
                "Attempts to write a status, by what became of them.",
            ),
            events: of("kthena_controlplane_events_total", "Warning events, by what became of them."),
            behind: IntGauge::new("kthena_controlplane_status_behind", "Objects whose status is yet to be written.")
                .expect("the name is valid"),
        };
        let collectors: [Box<dyn Collector>; 3] =
            [Box::new(counts.writes.clone()), Box::new(counts.events.clone()), Box::new(counts.behind.clone())];
        for collector in collectors {
            registry.register(collector).expect("a registry takes one of these");
        }
        counts
    }

    pub(super) fn wrote(&self, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Written => "written",
            Outcome::Found(_) => "unchanged",
            Outcome::Stale => "stale",
            Outcome::Conflict => "conflict",
            Outcome::Gone => "gone",
            Outcome::Failed(_) => "failed",
            Outcome::Lost => "not_leading",
        };
        self.writes.with_label_values(&[result]).inc();
    }

    /// `result` is one of `created`, `repeated`, `dropped`, `failed`.
    pub(super) fn event(&self, result: &str) {
        self.events.with_label_values(&[result]).inc();
    }

    pub(super) fn behind(&self, objects: usize) {
        self.behind.set(i64::try_from(objects).unwrap_or(i64::MAX));
    }
}
