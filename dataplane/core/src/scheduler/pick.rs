//! The best of the candidates; of those that are as good the nearest, ties at random.

use std::cmp::Ordering;

use super::Rng;
use crate::plan::{Considered, Verdict};

/// Costs that differ by less than this part are equal: speeds are not measured better than that.
const EQUAL: f64 = 0.02;

/// The position of the best candidate; none where there is none.
pub(super) fn best(candidates: &[Considered], verdict: Verdict, rng: &mut Rng) -> Option<usize> {
    let loss = |candidate: &Considered| match verdict {
        Verdict::LeastCost => f64::from(candidate.cost),
        Verdict::HighestScore => -(candidate.score as f64),
    };
    let least = candidates.iter().map(loss).min_by(f64::total_cmp)?;
    let bound = match verdict {
        Verdict::LeastCost => least * (1.0 + EQUAL),
        Verdict::HighestScore => least,
    };
    let mut best: Option<(usize, (_, f64))> = None;
    let mut ties = 1;
    for (at, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| loss(candidate) <= bound) {
        let rank = (candidate.distance, loss(candidate));
        match best.map(|(_, least)| rank.0.cmp(&least.0).then(rank.1.total_cmp(&least.1))) {
            Some(Ordering::Greater) => continue,
            Some(Ordering::Equal) => {
                ties += 1;
                if rng.below(ties) != 0 {
                    continue;
                }
            }
            _ => ties = 1,
        }
        best = Some((at, rank));
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Distance::{self, Far, Node, Zone};

    fn check(costs: &[(f32, Distance)], expected: Option<usize>) {
        let candidates: Vec<_> = costs
            .iter()
            .map(|(cost, distance)| Considered { cost: *cost, distance: *distance, ..Considered::default() })
            .collect();
        assert_eq!(best(&candidates, Verdict::LeastCost, &mut Rng::new(1)), expected, "{costs:?}");
    }

    #[test]
    fn the_nearest_of_equal_cost_wins() {
        check(&[(1.0, Far), (1.0, Zone), (1.0, Node), (1.0, Zone)], Some(2));
        check(&[(0.0, Far), (0.0, Zone)], Some(1));
        check(&[(1.0, Far), (1.019, Zone), (1.021, Node)], Some(1));
        check(&[(1.0, Zone), (0.99, Zone)], Some(1));
        check(&[], None);
    }

    #[test]
    fn a_higher_score_wins_over_a_nearer_endpoint() {
        let of = |score, distance| Considered { score, distance, ..Considered::default() };
        let pick = |candidates: &[Considered]| best(candidates, Verdict::HighestScore, &mut Rng::new(1));
        assert_eq!(pick(&[of(100, Far), of(99, Node)]), Some(0));
        assert_eq!(pick(&[of(100, Far), of(100, Node)]), Some(1));
    }
}
