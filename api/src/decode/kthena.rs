//! Kthena's scheduler configuration, as existing installations have it in `routerConfiguration.yaml`.

use serde::{Deserialize, Deserializer};

use self::arguments::Arguments;
use self::node::Node;
use self::shape::{Config, Score};
use super::field::{count, name};
use super::path::{Path, Problems};
use super::{Object, Problem, Reason};
use crate::id::ProfileName;
use crate::limits::{MAX_FILTERS, MAX_SCORER_WEIGHT, MAX_SCORERS};
use crate::snapshot::{Filter, Profile, Scorer, Scorers};

mod arguments;
mod node;
mod shape;
#[cfg(test)]
mod tests;

/// A profile made from Kthena's configuration, and what of that has no effect here.
#[derive(Debug, Clone, PartialEq)]
pub struct KthenaProfile {
    /// What it amounts to.
    pub profile: Profile,
    /// Sentences for the operator.
    pub warnings: Vec<String>,
}

/// What an operator who knows Kthena's plugin has to know of ours.
const KVCACHE_AWARE: &str = "kvcache-aware: scores by the prefix table that all data planes share; Redis is not read and no \
    engine is asked to tokenise";

/// Reads the shape `{scheduler: {pluginConfig, plugins: {Filter, Score}}}` from a YAML or JSON value.
///
/// Kthena's own rules hold: only what is enabled runs, in the order listed; a score's weight is 0 where it is left out; of
/// two scores of one name the last weight counts; `random` beside other scores is dropped; counts of 0 or less are the
/// default. Two of its faults do not: no score at all gives locality-cost and not 503, and scores whose weights are
/// all 0 give a random choice. Refused are arguments of the wrong type and a weight factor outside 0 to 1. All that is
/// wrong is told at once, each with its path; only a text that is no YAML at all ends with the first fault.
pub fn kthena_profile<'de, D: Deserializer<'de>>(
    profile_name: ProfileName,
    config: D,
) -> Result<KthenaProfile, Vec<Problem>> {
    let config = match Node::deserialize(config) {
        Ok(config) => config,
        Err(error) => {
            let reason = Reason::Wire(error.to_string());
            return Err(vec![Problem { object: None, path: String::new(), reason }]);
        }
    };
    let mut problems = Problems::default();
    problems.object = Some(Object::Profile(profile_name.clone()));
    let root = Path::root();
    name(&mut problems, &root.field("name"), profile_name.as_str());
    let mut warnings = Vec::new();
    let Config { plugins: configured, filters, scores } = Config::read(&mut problems, &mut warnings, config);
    let args = Arguments::read(&mut problems, &mut warnings, configured);
    count(&mut problems, &root.field("scheduler.plugins.Filter.enabled"), filters.len(), ("filters", MAX_FILTERS));
    count(&mut problems, &root.field("scheduler.plugins.Score.enabled"), scores.len(), ("scores", MAX_SCORERS));
    let profile = Profile {
        name: profile_name,
        filters: filters.iter().filter_map(|plugin| filter(plugin, &args, &mut warnings)).collect(),
        scorers: scorers(scores, &args, &mut warnings),
    };
    problems.finish(KthenaProfile { profile, warnings })
}

fn filter(plugin: &str, args: &Arguments, warnings: &mut Vec<String>) -> Option<Filter> {
    match plugin {
        "least-request" => Some(Filter::LeastRequest { max_waiting: args.max_waiting }),
        "lora-affinity" => Some(Filter::LoraAffinity),
        other => {
            warnings.push(format!("there is no filter {other:?}: it is left out"));
            None
        }
    }
}

fn scorers(enabled: Vec<Score>, args: &Arguments, warnings: &mut Vec<String>) -> Scorers {
    let mut list: Vec<(Scorer, u32)> = Vec::new();
    for Score { name, weight } in enabled {
        let Some(scorer) = scorer(&name, args) else {
            warnings.push(format!("there is no score {name:?}: it is left out"));
            continue;
        };
        if matches!(scorer, Scorer::KvCacheAware { .. }) {
            warnings.push(KVCACHE_AWARE.to_owned());
        }
        let weight = weight_of(&name, weight, warnings);
        match list.iter_mut().find(|(other, _)| *other == scorer) {
            Some((_, earlier)) => {
                warnings.push(format!("score {name:?} is enabled twice: the last weight counts"));
                *earlier = weight;
            }
            None => list.push((scorer, weight)),
        }
    }
    if list.len() > 1 && list.iter().any(|(scorer, _)| *scorer == Scorer::Random) {
        warnings.push("score `random` is left out, as it would drown the others".to_owned());
        list.retain(|(scorer, _)| *scorer != Scorer::Random);
    }
    if list.is_empty() {
        warnings.push("no score is enabled: locality-cost is used".to_owned());
        return Scorers::LocalityCost;
    }
    if list.iter().all(|(_, weight)| *weight == 0) {
        warnings.push("all scores have weight 0 (the default): the choice is random".to_owned());
        return Scorers::Weighted(vec![(Scorer::Random, 1)]);
    }
    Scorers::Weighted(list)
}

fn weight_of(name: &str, weight: i64, warnings: &mut Vec<String>) -> u32 {
    let held = weight.clamp(0, MAX_SCORER_WEIGHT.into());
    if held != weight {
        warnings.push(format!("score {name:?}: weight {weight} is taken as {held}"));
    }
    u32::try_from(held).expect("clamped to a u32's range")
}

fn scorer(plugin: &str, args: &Arguments) -> Option<Scorer> {
    match plugin {
        "least-request" => Some(Scorer::LeastRequest),
        "least-latency" => Some(Scorer::LeastLatency { ttft_weight: args.ttft_weight }),
        "gpu-usage" => Some(Scorer::GpuUsage),
        "prefix-cache" => Some(Scorer::PrefixCache { max_blocks: args.max_blocks, top_k: args.top_k }),
        "kvcache-aware" => Some(Scorer::KvCacheAware { max_blocks: args.kv_blocks }),
        "session-affinity" => Some(Scorer::SessionAffinity { header: args.session_header.clone() }),
        "random" => Some(Scorer::Random),
        _ => None,
    }
}
