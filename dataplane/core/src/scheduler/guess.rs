//! A guess at where the others' requests went of which nothing was heard yet.
//!
//! Few proxies know that well from their own decisions (see [`crate::load::Echo`]), and only blur what they know. Of many each
//! decides too seldom for that, but all know the same and choose alike: what they have sent went where least waits. So each
//! draws how much that was, and takes it to have filled up the least loaded endpoints to one level. Two proxies that decide
//! at once draw differently, and so do not both take the endpoint that was idle when they last heard of it.

use super::score::locality_cost::RUNNING_TOKENS;
use super::{MANY_PROXIES, Rng, Scene};
use crate::plan::Considered;

/// Of what an endpoint is filled up by, the part that is drawn for each, so that those at one level are not all equal.
const BLUR: f32 = 0.2;

/// Gives each candidate its part; none to any of a proxy that is alone.
pub(super) fn guess(scene: &Scene<'_>, candidates: &mut [Considered], rng: &mut Rng) {
    let (Some(unheard), slots) = (scene.unheard, scene.backend.slots.len()) else { return };
    if scene.request.peers <= MANY_PROXIES {
        for candidate in candidates {
            candidate.guessed_tokens = unheard.guess(slots, rng.unit());
        }
        return;
    }
    // The candidates stand for all.
    let sent = unheard.drawn(rng.unit()) * candidates.len() as f64 / slots.max(1) as f64;
    let level = filled(candidates.iter().map(load).collect(), sent);
    for candidate in candidates {
        let part = (level - load(candidate)).max(0.0);
        let blur = 1.0 + BLUR * (rng.unit() - 0.5);
        candidate.guessed_tokens = (part * f64::from(blur)) as u64;
    }
}

fn load(candidate: &Considered) -> f64 {
    candidate.queued_tokens as f64 + f64::from(RUNNING_TOKENS) * f64::from(candidate.running)
}

/// The level of the lowest once so much has filled them up.
fn filled(mut levels: smallvec::SmallVec<[f64; 64]>, amount: f64) -> f64 {
    levels.sort_unstable_by(f64::total_cmp);
    let (mut level, mut sum) = (0.0, 0.0);
    for (at, lowest) in levels.iter().enumerate() {
        // With one more the level would be lower than that one is.
        if at > 0 && level <= *lowest {
            break;
        }
        sum += lowest;
        level = (sum + amount) / (at + 1) as f64;
    }
    level
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn the_lowest_are_filled_up_to_one_level() {
        let check = |levels: &[f64], amount, expected| {
            assert_eq!(filled(levels.into(), amount), expected, "{levels:?} and {amount}");
        };
        check(&[], 5.0, 0.0);
        check(&[4.0], 2.0, 6.0);
        check(&[3.0, 0.0, 0.0], 2.0, 1.0);
        check(&[3.0, 0.0, 0.0], 6.0, 3.0);
        check(&[3.0, 0.0, 0.0], 9.0, 4.0);
        check(&[5.0, 1.0, 0.0], 0.5, 0.5);
        check(&[5.0, 1.0, 0.0], 2.0, 1.5);
        check(&[2.0, 1.0, 7.0], 0.0, 1.0);
    }
}
