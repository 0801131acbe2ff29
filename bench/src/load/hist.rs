//! A histogram of durations: logarithmic buckets, 256 to each doubling, so a quantile is off by less than 0.4 %.
//! Latencies that are subtracted from each other need it that fine.

/// Steps within a doubling, as a power of two.
const STEP_BITS: u32 = 8;
const STEPS: usize = 1 << STEP_BITS;
const BUCKETS: usize = STEPS * (64 - STEP_BITS as usize + 1);

/// Counts values of 0 to `u64::MAX` nanoseconds in constant memory.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Box<[u32]>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    /// Adds everything that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        for (into, from) in self.counts.iter_mut().zip(&other.counts) {
            *into += from;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Values recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exactly.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The mean, exactly; 0 where there are no values.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The middle of the bucket that holds the `q`-quantile (0 to 1); 0 where there are no values.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return middle(index).min(self.max);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    let value = value.max(1);
    let doubling = (64 - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    // Below two whole doublings every value has a bucket of its own.
    doubling as usize * STEPS + (value >> doubling) as usize
}

fn middle(index: usize) -> u64 {
    if index < 2 * STEPS {
        return index as u64;
    }
    let doubling = index / STEPS - 1;
    let low = ((index % STEPS + STEPS) as u64) << doubling;
    low + (1u64 << doubling) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_ordered_and_within_bounds() {
        let mut last = 0;
        for shift in 0..64 {
            for extra in [0u64, 1, 3] {
                let value = (1u64 << shift) | (extra << shift >> 2);
                let index = bucket(value);
                assert!(index >= last && index < BUCKETS, "{value}: {index} after {last}");
                last = index;
                let error = (middle(index) as f64 - value as f64).abs() / value as f64;
                assert!(error < 0.004, "{value} became {}", middle(index));
            }
        }
    }

    #[test]
    fn quantiles_of_a_uniform_run() {
        let mut all = Histogram::default();
        let mut half = Histogram::default();
        for value in 1..=100_000u64 {
            if value % 2 == 0 { &mut half } else { &mut all }.record(value * 1000);
        }
        all.merge(&half);
        for (q, expected) in [(0.5, 50e6), (0.99, 99e6), (0.999, 99.9e6)] {
            let got = all.quantile(q) as f64;
            assert!((got / expected - 1.0).abs() < 0.004, "{q}: {got}");
        }
        assert_eq!((all.count(), all.max(), all.mean()), (100_000, 100_000_000, 50_000_500.0));
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
