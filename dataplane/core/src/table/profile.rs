//! Scheduler profiles as they are run.

use api::snapshot::{Filter, Profile, Scorer, Scorers};

/// A profile that can be run as it is: never empty, and `random` never beside another score.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledProfile {
    /// Applied in order.
    pub filters: Box<[Filter]>,
    /// At least one scorer.
    pub scorers: Scorers,
}

impl Default for CompiledProfile {
    fn default() -> Self {
        Self { filters: Box::default(), scorers: Scorers::LocalityCost }
    }
}

impl CompiledProfile {
    /// Whether a choice depends on what endpoints hold of the prompt.
    pub fn asks_for_prefixes(&self) -> bool {
        match &self.scorers {
            Scorers::LocalityCost => true,
            Scorers::Weighted(list) => {
                list.iter().any(|(s, _)| matches!(s, Scorer::PrefixCache { .. } | Scorer::KvCacheAware { .. }))
            }
        }
    }

    /// The header that names a request's session, in lower case; none where sessions do not matter.
    pub fn session_header(&self) -> Option<&str> {
        let Scorers::Weighted(list) = &self.scorers else { return None };
        list.iter().find_map(|(scorer, _)| match scorer {
            Scorer::SessionAffinity { header } => Some(&**header),
            _ => None,
        })
    }

    /// An empty list of scorers chooses at random; `random` beside other scorers would only add noise and is removed.
    pub fn compile(profile: &Profile) -> Self {
        let scorers = match &profile.scorers {
            Scorers::LocalityCost => Scorers::LocalityCost,
            Scorers::Weighted(list) => Scorers::Weighted(runnable(list)),
        };
        Self { filters: profile.filters.clone().into(), scorers }
    }
}

fn runnable(list: &[(Scorer, u32)]) -> Vec<(Scorer, u32)> {
    let scorers: Vec<_> = list.iter().filter(|(scorer, _)| *scorer != Scorer::Random).cloned().collect();
    if scorers.is_empty() { vec![(Scorer::Random, 1)] } else { scorers }
}
