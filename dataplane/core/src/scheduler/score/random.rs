//! Kthena's random: uniform from 0 to 100.

use super::Scores;
use crate::scheduler::Rng;

pub(super) fn scores(candidates: usize, rng: &mut Rng) -> Scores {
    (0..candidates).map(|_| rng.below(101)).collect()
}
