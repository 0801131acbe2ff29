//! Locality-weighted marginal cost: the seconds until an endpoint would have prefilled the prompt, where a block that
//! it lacks counts more than its own time, the less it is in demand.

use api::limits::BLOCK_BYTES;

use crate::plan::Considered;
use crate::scheduler::{Matches, Scene};

/// What a running request costs the others, in tokens of prefill.
pub(in crate::scheduler) const RUNNING_TOKENS: f32 = 100.0;
/// What a block that nobody asks for counts beyond its own work. A flat optimum, from a simulation.
const LOCALITY: f32 = 15.0;
/// Uses per endpoint from which on a block weighs half its work, so that an idle endpoint gets its copy. The queues alone do
/// not bring that about: three of four endpoints can bear a hot prefix with queues that are long, and shorter than its
/// prefill. From a simulation. Not less than half, for many hot prefixes would drive each other out of the caches; and in
/// relation to the endpoints, for a copy that is used now and then is not worth its room.
const HOT: f32 = 32.0;

pub(in crate::scheduler) fn score(scene: &Scene<'_>, candidates: &mut [Considered]) {
    let tokens_per_block = BLOCK_BYTES as f32 / scene.bytes_per_token;
    let tail_bytes = scene.request.prompt_bytes.saturating_sub(scene.matches.blocks.saturating_mul(BLOCK_BYTES as u32));
    let tail = tail_bytes as f32 / BLOCK_BYTES as f32 * weight(0.0, 1.0);
    let hot = HOT * scene.backend.slots.len() as f32;
    let all = lack(scene.matches, 0, hot) + tail;
    for candidate in candidates {
        let lacks = match candidate.matched_blocks {
            0 => all,
            blocks => lack(scene.matches, blocks, hot) + tail,
        };
        candidate.missing_tokens = lacks * tokens_per_block;
        let queued = candidate.queued_tokens.saturating_add(candidate.guessed_tokens) as f32;
        let load = queued + RUNNING_TOKENS * candidate.running as f32;
        candidate.cost = (load + candidate.missing_tokens) / candidate.speed;
    }
}

fn weight(uses: f32, hot: f32) -> f32 {
    (1.0 + LOCALITY / (1.0 + uses)) / (1.0 + (uses / hot).min(1.0).powi(3))
}

/// The weighted blocks from `from` on; those of `hot` uses weigh half.
fn lack(matches: &Matches, from: u32, hot: f32) -> f32 {
    let mut sum = 0.0;
    let mut start = from;
    for sample in &matches.uses {
        if sample.end > start {
            sum += (sample.end - start) as f32 * weight(sample.uses, hot);
            start = sample.end;
        }
    }
    sum + matches.blocks.saturating_sub(start) as f32 * weight(0.0, hot)
}

#[cfg(test)]
mod tests {
    use super::{lack, weight};
    use crate::scheduler::{Matches, Uses};

    fn check(from: u32, expected: f32) {
        let uses = [Uses { end: 16, uses: 14.0 }, Uses { end: 32, uses: 2.0 }];
        let matches = Matches { blocks: 40, uses: uses.into_iter().collect(), ..Matches::default() };
        assert_eq!(lack(&matches, from, f32::INFINITY), expected, "from {from}");
    }

    #[test]
    fn sums_the_weights_of_what_is_missing() {
        check(0, 16.0 * 2.0 + 16.0 * 6.0 + 8.0 * 16.0);
        check(16, 16.0 * 6.0 + 8.0 * 16.0);
        check(24, 8.0 * 6.0 + 8.0 * 16.0);
        check(32, 8.0 * 16.0);
        check(40, 0.0);
    }

    #[test]
    fn a_block_weighs_less_the_more_it_is_used_down_to_half_its_work() {
        let check = |uses, least, most| {
            let weight = weight(uses, 128.0);
            assert!((least..=most).contains(&weight), "{uses}: {weight}");
        };
        check(0.0, 16.0, 16.0);
        check(40.0, 1.3, 1.4);
        check(128.0, 0.5, 0.6);
        check(1_280.0, 0.5, 0.51);
        check(f32::MAX, 0.5, 0.5);
    }
}
