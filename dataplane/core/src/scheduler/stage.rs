//! The steps of a decision, for whoever times them: there is no clock here.

/// A step of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Candidates are drawn, and each goes through all filters at once.
    Filters,
    /// Our own cost.
    LocalityCost,
    /// Kthena's scorer of that name, as the others.
    LeastRequest,
    /// `least-latency`
    LeastLatency,
    /// `gpu-usage`
    GpuUsage,
    /// `prefix-cache`
    PrefixCache,
    /// `kvcache-aware`
    KvCacheAware,
    /// `session-affinity`
    SessionAffinity,
    /// `random`
    Random,
}

impl Stage {
    /// All of them in the order of their numbers, with the plugin's name and type.
    pub const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Filters, "filters", "filter"),
        (Self::LocalityCost, "locality-cost", "score"),
        (Self::LeastRequest, "least-request", "score"),
        (Self::LeastLatency, "least-latency", "score"),
        (Self::GpuUsage, "gpu-usage", "score"),
        (Self::PrefixCache, "prefix-cache", "score"),
        (Self::KvCacheAware, "kvcache-aware", "score"),
        (Self::SessionAffinity, "session-affinity", "score"),
        (Self::Random, "random", "score"),
    ];
}

/// Is told when a step has ended.
pub type Ended<'a> = dyn FnMut(Stage) + 'a;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_the_number_of_its_place() {
        for (n, (stage, ..)) in Stage::ALL.iter().enumerate() {
            assert_eq!(n, *stage as usize);
        }
    }
}
