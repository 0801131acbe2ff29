//! Kthena's kvcache-aware: the share of the prompt that an endpoint holds, of every endpoint that the tables name. Kthena
//! asks Redis for the blocks that engines reported; here the answer comes from the one table that events and predictions
//! fill, and an endpoint without a match scores 0 instead of being dropped.

use super::Scores;

/// From matched blocks, of which only so many are looked at.
pub(super) fn scores(matched: impl Iterator<Item = u32>, blocks: u32, max_blocks: u32) -> Scores {
    let total = blocks.min(max_blocks).max(1);
    matched.map(|held| (f64::from(held.min(total)) / f64::from(total) * 100.0) as u32).collect()
}

#[cfg(test)]
mod tests {
    fn check(matched: &[u32], blocks: u32, max_blocks: u32, expected: &[u32]) {
        let scores = super::scores(matched.iter().copied(), blocks, max_blocks);
        assert_eq!(scores.as_slice(), expected, "{matched:?}");
    }

    #[test]
    fn is_the_matched_share_of_all() {
        check(&[3, 1, 0], 3, 128, &[100, 33, 0]);
        check(&[200, 64, 32, 16, 8, 4, 2], 400, 128, &[100, 50, 25, 12, 6, 3, 1]);
        check(&[0, 0], 0, 128, &[0, 0]);
    }
}
