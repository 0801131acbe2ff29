//! Kthena's prefix-cache: the share of the prompt that an endpoint is predicted to hold. The tables are ours, and they
//! name the 8 best endpoints at most.

use smallvec::SmallVec;

use super::Scores;

/// From matched blocks; only so many blocks are looked at, and only the `top_k` best endpoints score.
pub(super) fn scores(matched: impl Iterator<Item = u32>, blocks: u32, (max_blocks, top_k): (u32, u32)) -> Scores {
    let total = blocks.min(max_blocks);
    let matched: SmallVec<[u32; 64]> = matched.map(|blocks| blocks.min(total)).collect();
    let mut sorted = matched.clone();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    // As in the reference, where the search ends once it knows so many: of those that tie at the end some score.
    let least = sorted.get(top_k.max(1) as usize - 1).copied().unwrap_or(0);
    let mut ties = sorted.iter().take(top_k as usize).filter(|blocks| **blocks == least).count();
    let score = |blocks: u32| {
        if blocks == 0 || blocks < least {
            return 0;
        }
        if blocks == least {
            let Some(left) = ties.checked_sub(1) else { return 0 };
            ties = left;
        }
        (f64::from(blocks) / f64::from(total) * 100.0) as u32
    };
    matched.into_iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    fn check(matched: &[u32], blocks: u32, args: (u32, u32), expected: &[u32]) {
        assert_eq!(super::scores(matched.iter().copied(), blocks, args).as_slice(), expected, "{matched:?}");
    }

    #[test]
    fn is_the_matched_share() {
        check(&[3, 1, 0], 3, (128, 5), &[100, 33, 0]);
        check(&[200, 64, 0], 400, (128, 5), &[100, 50, 0]);
        check(&[0, 0], 0, (128, 5), &[0, 0]);
    }

    #[test]
    fn only_the_best_score() {
        check(&[1, 4, 3, 2], 4, (128, 2), &[0, 100, 75, 0]);
        check(&[2, 2, 2], 4, (128, 2), &[50, 50, 0]);
        check(&[2, 2, 2], 4, (128, 0), &[0, 0, 0]);
    }
}
