//! Scheduler profiles.

use crate::proto;
use crate::snapshot::{Filter, Profile, Scorer, Scorers};

pub(crate) fn profile(profile: &Profile) -> proto::Profile {
    let Profile { name, filters, scorers } = profile;
    let scorers = match scorers {
        Scorers::LocalityCost => proto::profile::Scorers::LocalityCost(proto::LocalityCost {}),
        Scorers::Weighted(list) => {
            let scorers = list.iter().map(|(s, weight)| scorer(s, *weight)).collect();
            proto::profile::Scorers::Weighted(proto::WeightedScorers { scorers })
        }
    };
    let (filters, needs) = (filters.iter().map(filter).collect(), Vec::new());
    proto::Profile { name: name.to_string(), filters, scorers: Some(scorers), needs }
}

fn filter(filter: &Filter) -> proto::Filter {
    use proto::filter::Filter as Wire;
    let wire = match *filter {
        Filter::LeastRequest { max_waiting } => {
            Wire::LeastRequest(proto::LeastRequestFilter { max_waiting: Some(max_waiting) })
        }
        Filter::LoraAffinity => Wire::LoraAffinity(proto::LoraAffinity {}),
    };
    proto::Filter { filter: Some(wire) }
}

fn scorer(scorer: &Scorer, weight: u32) -> proto::WeightedScorer {
    use proto::weighted_scorer::Scorer as Wire;
    let wire = match scorer {
        Scorer::LeastRequest => Wire::LeastRequest(proto::LeastRequest {}),
        Scorer::LeastLatency { ttft_weight } => {
            Wire::LeastLatency(proto::LeastLatency { ttft_weight: Some(*ttft_weight) })
        }
        Scorer::GpuUsage => Wire::GpuUsage(proto::GpuUsage {}),
        Scorer::PrefixCache { max_blocks, top_k } => {
            Wire::PrefixCache(proto::PrefixCache { max_blocks: Some(*max_blocks), top_k: Some(*top_k) })
        }
        Scorer::Random => Wire::Random(proto::Random {}),
        Scorer::KvCacheAware { max_blocks } => {
            Wire::KvCacheAware(proto::KvCacheAware { max_blocks: Some(*max_blocks) })
        }
        Scorer::SessionAffinity { header } => {
            Wire::SessionAffinity(proto::SessionAffinity { header: Some(header.to_string()) })
        }
    };
    proto::WeightedScorer { weight: Some(weight), scorer: Some(wire) }
}
