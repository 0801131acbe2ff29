//! Chance, where replicas must not do the same thing at the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

#[cfg(test)]
pub(crate) mod testing;

/// A number from 0 to 1, of the system's: each hasher has keys of its own.
pub(crate) fn random() -> f64 {
    #[cfg(test)]
    if let Some(fixed) = testing::fixed() {
        return fixed;
    }
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

/// A time that is up to a fifth shorter or longer, as `random` has it.
pub(crate) fn jittered(time: Duration, random: f64) -> Duration {
    time.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jittered_time_is_within_a_fifth() {
        let second = Duration::from_secs(1);
        assert_eq!([0.0, 0.5, 1.0].map(|r| jittered(second, r).as_millis()), [800, 1000, 1200]);
        let drawn = random();
        assert!((0.0..=1.0).contains(&drawn), "{drawn}");
    }
}
