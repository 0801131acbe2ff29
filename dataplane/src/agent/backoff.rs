//! How long to wait before the control plane is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// Below the time in which a fleet has to be in sync after the control plane has come back.
const LONGEST: Duration = Duration::from_secs(5);
/// A stream that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// Doubles with each failure, less up to a half by chance, so that a fleet does not come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    step: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { step: FIRST }
    }

    /// The next wait; `chance` is from 0 to 1.
    pub(super) fn next(&mut self, chance: f32) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(LONGEST);
        step.mul_f32(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }

    /// How long to wait after a stream that lasted so long: one that ends at once is as bad as none.
    pub(super) fn after(&mut self, lasted: Duration, chance: f32) -> Duration {
        if lasted < GOOD {
            return self.next(chance);
        }
        self.step = FIRST;
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_bound_and_differ_by_chance() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(backoff.next(1.0).as_millis(), 2_500);
    }

    #[test]
    fn only_a_stream_that_lasted_starts_anew() {
        let mut backoff = Backoff::new();
        backoff.next(0.0);
        assert_eq!(backoff.after(Duration::from_secs(1), 0.0).as_millis(), 200);
        assert_eq!(backoff.after(GOOD, 0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.0).as_millis(), 100);
    }
}
