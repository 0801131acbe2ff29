//! What a stream may send: a bucket that fills evenly. Config always goes and may leave it in debt; load waits for it, and KV for more.

use std::time::{Duration, Instant};

/// Time's worth of bytes that is saved up at most, and owed at most.
const DEPTH: f64 = 1.0;
/// Of which so much is left to what may not wait as long.
const RESERVE: f64 = 0.25;

/// The bucket of one stream.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(bytes_per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(bytes_per_second.max(1));
        Self { per_second, level: per_second * DEPTH, at: now }
    }

    /// So many bytes were sent.
    pub(super) fn spend(&mut self, bytes: usize, now: Instant) {
        self.fill(now);
        self.level = (self.level - bytes as f64).max(-self.per_second * DEPTH);
    }

    /// How long to wait until what can wait may be sent.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        Duration::from_secs_f64((-self.level / self.per_second).max(0.0))
    }

    /// How long to wait until what gives way to all else may be sent: it leaves a part of what is saved up to the rest.
    pub(super) fn wait_last(&mut self, now: Instant) -> Duration {
        self.fill(now);
        Duration::from_secs_f64((RESERVE - self.level / self.per_second).max(0.0))
    }

    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + gained).min(self.per_second * DEPTH);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_wait_is_sent_no_faster_than_the_budget() {
        let start = Instant::now();
        let mut budget = Budget::new(1_000, start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            now += budget.wait(now).max(Duration::from_millis(20));
            budget.spend(100, now);
            sent += 100;
        }
        assert!((10_000..=11_200).contains(&sent), "{sent}");
    }

    #[test]
    fn what_gives_way_leaves_room_for_the_rest() {
        let start = Instant::now();
        let mut budget = Budget::new(1_000, start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            now += budget.wait_last(now).max(Duration::from_millis(1));
            budget.spend(100, now);
            sent += 100;
            assert!(budget.wait(now).is_zero(), "load need not wait for it");
        }
        assert!((10_000..=10_900).contains(&sent), "{sent}");
    }

    #[test]
    fn a_large_config_delays_the_rest_by_a_second_at_most() {
        let now = Instant::now();
        let mut budget = Budget::new(1_000, now);
        budget.spend(1 << 30, now);
        assert_eq!(budget.wait(now), Duration::from_secs(1));
        assert_eq!(budget.wait(now + Duration::from_secs(1)), Duration::ZERO);
    }
}
