//! How long a decision takes, and each of its steps.

use std::time::{Duration, Instant};

use dataplane_core::scheduler::Stage;
use smallvec::SmallVec;

pub(crate) struct Times {
    begun: Instant,
    last: Instant,
    /// A step that was taken twice is there twice.
    pub(crate) stages: SmallVec<[(Stage, Duration); 4]>,
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
