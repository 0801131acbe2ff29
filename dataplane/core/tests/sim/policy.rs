//! How endpoints are chosen: the real scheduler with some profile, or a rule that it is compared with.

use api::snapshot::{Profile, Scorer, Scorers};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Policy {
    /// The default profile.
    Ours,
    /// The same cost with one weight for all blocks, whatever their use.
    Constant(f32),
    /// The default profile of Kthena without its filter, which would refuse; knowledge of caches is exact.
    Kthena,
    /// As sglang's router: the best match from half the prompt on, unless the load is out of balance.
    CacheAware,
    RoundRobin,
    LeastRequest,
    Random,
    /// No policy, but what none can beat: all engines share one cache as large as all of theirs, and the idlest takes it.
    Pooled,
}

impl Policy {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Ours => "ours".into(),
            Self::Constant(weight) => format!("w = {weight}"),
            Self::Kthena => "Kthena's default".into(),
            Self::CacheAware => "sglang's cache-aware".into(),
            Self::RoundRobin => "round robin".into(),
            Self::LeastRequest => "least request".into(),
            Self::Random => "random".into(),
            Self::Pooled => "one pooled cache".into(),
        }
    }

    pub(crate) fn profile(self) -> Profile {
        let prefix = Scorer::PrefixCache { max_blocks: 128, top_k: 5 };
        let kthena = [Scorer::LeastRequest, Scorer::GpuUsage, Scorer::LeastLatency { ttft_weight: 0.5 }, prefix];
        let scorers = match self {
            Self::Kthena => Scorers::Weighted(kthena.into_iter().map(|scorer| (scorer, 1)).collect()),
            _ => Scorers::LocalityCost,
        };
        Profile { name: "sim".into(), filters: vec![], scorers }
    }

    /// The use count that gives every block the policy's weight; none where the true one counts.
    pub(crate) fn uses(self) -> Option<f32> {
        match self {
            Self::Constant(weight) if weight <= 1.0 => Some(f32::INFINITY),
            Self::Constant(weight) => Some(15.0 / (weight - 1.0) - 1.0),
            _ => None,
        }
    }
}

/// From (requests, leading units that match) of each endpoint, of `units` in all.
pub(crate) fn cache_aware(endpoints: &[(u32, u32)], units: u32) -> usize {
    let loads = || endpoints.iter().map(|(requests, _)| *requests);
    let (least, most) = (loads().min().unwrap_or(0), loads().max().unwrap_or(0));
    let idlest = || loads().position(|requests| requests == least).unwrap_or(0);
    if most - least > 32 && f64::from(most) > 1.5 * f64::from(least) {
        return idlest();
    }
    let (at, (_, held)) = endpoints.iter().enumerate().max_by_key(|(_, (_, held))| *held).expect("there are engines");
    if 2 * held > units { at } else { idlest() }
}
