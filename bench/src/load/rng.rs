//! Seeded randomness: SplitMix64 and the two distributions that load needs.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `bound`, which is positive.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Exponential with this mean: the gaps of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// Ranks with probability ∝ 1 / (rank + 1)^s.
#[derive(Debug, Clone)]
pub struct Zipf(Box<[f64]>);

impl Zipf {
    /// Over `n` ranks, at least one.
    pub fn new(n: usize, s: f64) -> Self {
        let mut sum = 0.0;
        let mut steps: Vec<f64> = (1..=n.max(1))
            .map(|rank| {
                sum += (rank as f64).powf(-s);
                sum
            })
            .collect();
        steps.iter_mut().for_each(|step| *step /= sum);
        Self(steps.into_boxed_slice())
    }

    /// One rank.
    pub fn pick(&self, rng: &mut Rng) -> usize {
        let at = rng.unit();
        self.0.partition_point(|&step| step <= at).min(self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_follows_its_law() {
        let (mut rng, zipf, mut seen) = (Rng::new(7), Zipf::new(4, 1.0), [0u32; 4]);
        for _ in 0..25_000 {
            seen[zipf.pick(&mut rng)] += 1;
        }
        for (rank, &count) in seen.iter().enumerate() {
            let expected = 12_000.0 / (rank + 1) as f64;
            assert!((f64::from(count) / expected - 1.0).abs() < 0.06, "rank {rank}: {count}, expected {expected}");
        }
    }

    #[test]
    fn exponential_has_its_mean() {
        let mut rng = Rng::new(11);
        let mean = (0..100_000).map(|_| rng.exponential(5.0)).sum::<f64>() / 100_000.0;
        assert!((mean - 5.0).abs() < 0.1, "{mean}");
    }
}
