//! Kthena's least-request: routed requests, those that the engine does not run yet a hundredfold, relative to the most
//! loaded endpoint.

use smallvec::SmallVec;

use super::Scores;

/// From (routed requests, requests that the engine runs).
pub(super) fn scores(loads: impl Iterator<Item = (u32, u32)>) -> Scores {
    let bases: SmallVec<[f64; 64]> =
        loads.map(|(routed, running)| f64::from(routed) + 100.0 * f64::from(routed.saturating_sub(running))).collect();
    let most = bases.iter().fold(0.0, |most: f64, base| most.max(*base));
    bases.iter().map(|base| if most == 0.0 { 100 } else { ((most - base) / most * 100.0) as u32 }).collect()
}

#[cfg(test)]
mod tests {
    fn check(loads: &[(u32, u32)], expected: &[u32]) {
        assert_eq!(super::scores(loads.iter().copied()).as_slice(), expected, "{loads:?}");
    }

    #[test]
    fn follows_the_reference() {
        check(&[(4, 4), (6, 4), (0, 0)], &[98, 0, 100]);
        check(&[(0, 0), (0, 7)], &[100, 100]);
        check(&[(5, 9)], &[0]);
        check(&[], &[]);
    }
}
