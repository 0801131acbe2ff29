//! Numbers that one core writes and the scrape reads. One writer means a plain load and store instead of a locked
//! read-modify-write.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts up. Written by one thread only.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning core may call it.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down. Written by one thread only.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// One more.
    pub fn up(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }

    /// One less.
    pub fn down(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// The level now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A point in time. Written by one thread only.
#[derive(Debug, Default)]
pub struct Heartbeat(AtomicU64);

impl Heartbeat {
    /// Now.
    pub fn beat(&self, now_ms: u64) {
        self.0.store(now_ms, Relaxed);
    }

    /// The last one.
    pub fn last_ms(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Observations by upper bound. Written by one thread only.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[Counter]>,
    sum_ns: Counter,
}

impl Histogram {
    /// Empty, with the bounds in seconds in ascending order.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| Counter::default()).collect(), sum_ns: Counter::default() }
    }

    /// Counts one duration.
    pub fn observe(&self, d: Duration) {
        let seconds = d.as_secs_f64();
        let bucket = self.bounds.iter().position(|b| seconds <= *b).unwrap_or(self.bounds.len());
        self.counts[bucket].add(1);
        self.sum_ns.add(d.as_nanos() as u64);
    }

    /// Counts so many of no length.
    pub fn observe_nothing(&self, times: u64) {
        self.counts[0].add(times);
    }

    /// Counts all that another one of the same bounds has counted.
    pub fn absorb(&self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds, "only histograms of one family are summed");
        for (mine, theirs) in self.counts.iter().zip(&other.counts) {
            mine.add(theirs.value());
        }
        self.sum_ns.add(other.sum_ns.value());
    }

    /// What was observed so far.
    pub fn read(&self) -> Buckets {
        Buckets {
            bounds: self.bounds,
            counts: self.counts.iter().map(Counter::value).collect(),
            sum_ns: self.sum_ns.value(),
        }
    }
}

/// A copy of a histogram, to be summed with others of the same bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Upper bounds in seconds; one more count than bounds.
    pub bounds: &'static [f64],
    /// Observations per bucket, not cumulative.
    pub counts: Vec<u64>,
    /// Sum of all observations. Whole, for a sum of fractions depends on their order, and one that is less by a rounding is a restart for Prometheus.
    pub sum_ns: u64,
}

impl Buckets {
    /// Adds the other's observations.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds, "only histograms of one family are summed");
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum_ns += other.sum_ns;
    }

    /// Sum of all observations in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// How many observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_falls_into_the_first_bucket_that_holds_it() {
        let h = Histogram::new(&[0.1, 1.0]);
        for ms in [50, 100, 101, 5000] {
            h.observe(Duration::from_millis(ms));
        }
        let read = h.read();
        assert_eq!(read.counts, [2, 1, 1]);
        assert_eq!(read.sum_ns, 5_251_000_000);
    }

    #[test]
    fn a_level_never_wraps() {
        let l = Level::default();
        l.down();
        assert_eq!(l.value(), 0);
    }
}
