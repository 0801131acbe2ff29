//! The best of the candidates, ties at random.

use super::Rng;
use crate::plan::{Considered, Verdict};

/// The position of the best candidate; none where there is none.
pub(super) fn best(candidates: &[Considered], verdict: Verdict, rng: &mut Rng) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    let mut ties = 1;
    for (at, candidate) in candidates.iter().enumerate() {
        let loss = match verdict {
            Verdict::LeastCost => f64::from(candidate.cost),
            Verdict::HighestScore => -(candidate.score as f64),
        };
        match best {
            Some((_, least)) if loss > least => continue,
            Some((_, least)) if loss == least => {
                ties += 1;
                if rng.below(ties) != 0 {
                    continue;
                }
            }
            _ => ties = 1,
        }
        best = Some((at, loss));
    }
    best.map(|(at, _)| at)
}
