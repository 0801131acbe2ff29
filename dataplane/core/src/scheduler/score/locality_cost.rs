//! Locality-weighted marginal cost: the seconds until an endpoint would have prefilled the prompt, where a block that
//! it lacks counts more than its own time, the less it is in demand.

use api::limits::BLOCK_BYTES;

use crate::plan::Considered;
use crate::scheduler::{Matches, Scene};

/// What a running request costs the others, in tokens of prefill.
pub(in crate::scheduler) const RUNNING_TOKENS: f32 = 100.0;
/// What a block that nobody asks for counts beyond its own work. A flat optimum, from a simulation.
const LOCALITY: f32 = 15.0;

pub(in crate::scheduler) fn score(scene: &Scene<'_>, candidates: &mut [Considered]) {
    let tokens_per_block = BLOCK_BYTES as f32 / scene.bytes_per_token;
    let tail_bytes = scene.request.prompt_bytes.saturating_sub(scene.matches.blocks.saturating_mul(BLOCK_BYTES as u32));
    let tail = tail_bytes as f32 / BLOCK_BYTES as f32 * weight(0.0);
    let all = lack(scene.matches, 0) + tail;
    for candidate in candidates {
        let lacks = match candidate.matched_blocks {
            0 => all,
            blocks => lack(scene.matches, blocks) + tail,
        };
        candidate.missing_tokens = lacks * tokens_per_block;
        let load = candidate.queued_tokens as f32 + RUNNING_TOKENS * candidate.running as f32;
        candidate.cost = (load + candidate.missing_tokens) / candidate.speed;
    }
}

fn weight(uses: f32) -> f32 {
    1.0 + LOCALITY / (1.0 + uses)
}

/// The weighted blocks from `from` on.
fn lack(matches: &Matches, from: u32) -> f32 {
    let mut sum = 0.0;
    let mut start = from;
    for sample in &matches.uses {
        if sample.end > start {
            sum += (sample.end - start) as f32 * weight(sample.uses);
            start = sample.end;
        }
    }
    sum + matches.blocks.saturating_sub(start) as f32 * weight(0.0)
}

#[cfg(test)]
mod tests {
    use super::lack;
    use crate::scheduler::{Matches, Uses};

    fn check(from: u32, expected: f32) {
        let uses = [Uses { end: 16, uses: 14.0 }, Uses { end: 32, uses: 2.0 }];
        let matches = Matches { blocks: 40, uses: uses.into_iter().collect(), ..Matches::default() };
        assert_eq!(lack(&matches, from), expected, "from {from}");
    }

    #[test]
    fn sums_the_weights_of_what_is_missing() {
        check(0, 16.0 * 2.0 + 16.0 * 6.0 + 8.0 * 16.0);
        check(16, 16.0 * 6.0 + 8.0 * 16.0);
        check(24, 8.0 * 6.0 + 8.0 * 16.0);
        check(32, 8.0 * 16.0);
        check(40, 0.0);
    }
}
