//! Scorers: our own cost, and Kthena's scores of 0 to 100 summed by weight.

mod gpu_usage;
mod kvcache_aware;
mod least_latency;
mod least_request;
pub(super) mod locality_cost;
mod prefix_cache;
mod random;
mod session_affinity;

use api::snapshot::Scorer;
use smallvec::SmallVec;

use super::sample::Drawn;
use super::{Ended, Rng, Scene, Stage};
use crate::load::Report;
use crate::plan::Considered;

/// Scores of 0 to 100, one per candidate.
type Scores = SmallVec<[u32; 64]>;

/// Adds up each scorer's scores by its weight.
pub(super) fn weighted(
    scene: &Scene<'_>,
    scorers: &[(Scorer, u32)],
    drawn: &mut Drawn,
    (rng, ended): (&mut Rng, &mut Ended<'_>),
) {
    for (scorer, weight) in scorers {
        let scores = scores(scene, scorer, drawn, rng);
        for (candidate, score) in drawn.candidates.iter_mut().zip(scores) {
            candidate.score += u64::from(score) * u64::from(*weight);
        }
        ended(stage(scorer));
    }
}

fn scores(scene: &Scene<'_>, scorer: &Scorer, drawn: &Drawn, rng: &mut Rng) -> Scores {
    let candidates = &drawn.candidates;
    match scorer {
        Scorer::LeastRequest => {
            least_request::scores(candidates.iter().map(|c| (routed(scene, c), report(scene, c).running)))
        }
        Scorer::LeastLatency { ttft_weight } => {
            let latencies = candidates.iter().map(|c| report(scene, c)).map(|r| (r.ttft_us, r.tpot_us));
            least_latency::scores(latencies, *ttft_weight)
        }
        Scorer::GpuUsage => gpu_usage::scores(candidates.iter().map(|c| report(scene, c).kv_usage)),
        Scorer::PrefixCache { max_blocks, top_k } => {
            let matched = candidates.iter().map(|c| c.matched_blocks);
            prefix_cache::scores(matched, scene.matches.blocks, (*max_blocks, *top_k))
        }
        Scorer::KvCacheAware { max_blocks } => {
            kvcache_aware::scores(candidates.iter().map(|c| c.matched_blocks), scene.matches.blocks, *max_blocks)
        }
        Scorer::SessionAffinity { .. } => session_affinity::scores(candidates.iter().map(|c| c.slot), drawn.session),
        Scorer::Random => random::scores(candidates.len(), rng),
    }
}

fn stage(scorer: &Scorer) -> Stage {
    match scorer {
        Scorer::LeastRequest => Stage::LeastRequest,
        Scorer::LeastLatency { .. } => Stage::LeastLatency,
        Scorer::GpuUsage => Stage::GpuUsage,
        Scorer::PrefixCache { .. } => Stage::PrefixCache,
        Scorer::KvCacheAware { .. } => Stage::KvCacheAware,
        Scorer::SessionAffinity { .. } => Stage::SessionAffinity,
        Scorer::Random => Stage::Random,
    }
}

fn routed(scene: &Scene<'_>, candidate: &Considered) -> u32 {
    scene.backend.slots[candidate.slot as usize].live.routed()
}

/// An engine that says nothing is as one without load.
fn report(scene: &Scene<'_>, candidate: &Considered) -> Report {
    scene.backend.slots[candidate.slot as usize].live.report(scene.now_ms).unwrap_or_default()
}
