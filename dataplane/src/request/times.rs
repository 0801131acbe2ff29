//! How long a decision takes, and each of its steps.

use std::time::{Duration, Instant};

use dataplane_core::scheduler::Stage;
use smallvec::SmallVec;

pub(crate) struct Times {
    begun: Instant,
    last: Instant,
    /// With room for all that there are: only a profile that names a scorer twice takes a heap.
    pub(crate) stages: SmallVec<[(Stage, Duration); Stage::ALL.len()]>,
}

impl Times {
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, stages: SmallVec::new() }
    }

    /// The next step begins.
    pub(crate) fn next(&mut self) -> Duration {
        let before = std::mem::replace(&mut self.last, Instant::now());
        self.last - before
    }

    pub(crate) fn ended(&mut self, stage: Stage) {
        let took = self.next();
        self.stages.push((stage, took));
    }

    /// From its begin to the last step's end.
    pub(crate) fn whole(&self) -> Duration {
        self.last - self.begun
    }
}
