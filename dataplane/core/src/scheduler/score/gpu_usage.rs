//! Kthena's gpu-usage: the free share of the KV cache.

use super::Scores;

/// From used shares of 0 to 1.
pub(super) fn scores(usages: impl Iterator<Item = f32>) -> Scores {
    // The product of an f32 share falls just below the whole number that was meant; a thousandth lifts it over.
    usages.map(|usage| ((1.0 - f64::from(usage.clamp(0.0, 1.0))) * 100.0 + 0.001) as u32).collect()
}

#[cfg(test)]
mod tests {
    fn check(usages: &[f32], expected: &[u32]) {
        assert_eq!(super::scores(usages.iter().copied()).as_slice(), expected, "{usages:?}");
    }

    #[test]
    fn is_the_free_share() {
        check(&[0.0, 0.25, 0.3, 0.999, 1.0], &[100, 75, 70, 0, 0]);
        check(&[-1.0, 2.0, f32::NAN], &[100, 0, 0]);
    }
}
