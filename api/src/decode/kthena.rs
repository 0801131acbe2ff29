//! Kthena's scheduler configuration, as existing installations have it in `routerConfiguration.yaml`.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::field::{count, name};
use super::path::{Path, Problems};
use super::{Object, Problem, Reason};
use crate::id::ProfileName;
use crate::limits::{
    MAX_BLOCKS, MAX_FILTERS, MAX_PREFIX_TOP_K, MAX_SCORER_WEIGHT, MAX_SCORERS, MAX_WAITING, PREFIX_BLOCKS,
    PREFIX_TOP_K, TTFT_WEIGHT,
};
use crate::snapshot::{Filter, Profile, Scorer, Scorers};

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

/// Reads the shape `{scheduler: {pluginConfig, plugins: {Filter, Score}}}` from a YAML or JSON value.
///
/// Kthena's own rules hold: only what is enabled runs, in the order listed; a score's weight is 0 where it is left out; of
/// two scores of one name the last weight counts; `random` beside other scores is dropped; counts of 0 or less are the
/// default. Two of its faults do not: no score at all gives locality-cost and not 503, and scores whose weights are
/// all 0 give a random choice. Refused are arguments of the wrong type and a weight factor outside 0 to 1.
pub fn kthena_profile<'de, D: Deserializer<'de>>(
    profile_name: ProfileName,
    config: D,
) -> Result<KthenaProfile, Vec<Problem>> {
    let config = match Config::deserialize(config) {
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
    if config.auth.is_some() {
        warnings.push("`auth` is not part of a scheduler profile and has no effect here".to_owned());
    }
    let Scheduler { plugin_config, plugins } = config.scheduler;
    let args = arguments(&mut problems, &mut warnings, plugin_config);
    let (filters, scores) = (plugins.filter.enabled, plugins.score.enabled);
    count(&mut problems, &root.field("scheduler.plugins.Filter.enabled"), filters.len(), ("filters", MAX_FILTERS));
    count(&mut problems, &root.field("scheduler.plugins.Score.enabled"), scores.len(), ("scores", MAX_SCORERS));
    let profile = Profile {
        name: profile_name,
        filters: filters.iter().filter_map(|plugin| filter(plugin, &args, &mut warnings)).collect(),
        scorers: scorers(scores, &args, &mut warnings),
    };
    problems.finish(KthenaProfile { profile, warnings })
}

#[derive(Deserialize)]
struct Config {
    scheduler: Scheduler,
    auth: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scheduler {
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
    #[serde(default)]
    plugins: Plugins,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: BTreeMap<String, Arg>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Arg {
    Whole(i64),
    Real(f64),
    Other(IgnoredAny),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Plugins {
    #[serde(default, rename = "Filter")]
    filter: Plugged<String>,
    #[serde(default, rename = "Score")]
    score: Plugged<Score>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugged<T> {
    #[serde(default = "Vec::new")]
    enabled: Vec<T>,
    #[serde(default)]
    #[expect(dead_code, reason = "Kthena reads it and ignores it")]
    disabled: IgnoredAny,
}

impl<T> Default for Plugged<T> {
    fn default() -> Self {
        Self { enabled: Vec::new(), disabled: IgnoredAny }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Score {
    name: String,
    #[serde(default)]
    weight: i64,
}

/// Every argument that has an effect, with its default.
struct Arguments {
    max_waiting: u32,
    ttft_weight: f64,
    max_blocks: u32,
    top_k: u32,
}

fn arguments(problems: &mut Problems, warnings: &mut Vec<String>, list: Vec<PluginConfig>) -> Arguments {
    let mut known = Arguments {
        max_waiting: MAX_WAITING,
        ttft_weight: TTFT_WEIGHT,
        max_blocks: PREFIX_BLOCKS,
        top_k: PREFIX_TOP_K,
    };
    let root = Path::root();
    for (i, PluginConfig { name, args }) in list.into_iter().enumerate() {
        let at = root.item("scheduler.pluginConfig", i);
        for (key, arg) in args {
            let at = at.entry("args", &key);
            match (name.as_str(), key.as_str()) {
                ("least-request", "maxWaitingRequests") => waiting(problems, &at, arg, &mut known.max_waiting),
                ("least-latency", "TTFTTPOTWeightFactor") => factor(problems, &at, arg, &mut known.ttft_weight),
                ("prefix-cache", "maxBlocksToMatch") => {
                    let most = u32::try_from(MAX_BLOCKS).expect("65,536 fits");
                    positive(problems, &at, (arg, PREFIX_BLOCKS, most), &mut known.max_blocks);
                }
                ("prefix-cache", "topKMatches") => {
                    positive(problems, &at, (arg, PREFIX_TOP_K, MAX_PREFIX_TOP_K), &mut known.top_k);
                }
                ("prefix-cache", "blockSizeToHash") => warnings.push(
                    "prefix-cache: `blockSizeToHash` has no effect: every data plane hashes blocks of 64 bytes"
                        .to_owned(),
                ),
                ("prefix-cache", "maxHashCacheSize") => warnings.push(
                    "prefix-cache: `maxHashCacheSize` has no effect: the table's size is a setting of the data plane"
                        .to_owned(),
                ),
                _ => warnings.push(format!("pluginConfig: {name:?} has no argument {key:?}; it has no effect")),
            }
        }
    }
    known
}

/// Kthena lets a negative bound filter out everything, which is never meant.
fn waiting(problems: &mut Problems, at: &Path<'_>, arg: Arg, value: &mut u32) {
    match arg {
        Arg::Whole(0) => *value = MAX_WAITING,
        Arg::Whole(n) if u32::try_from(n).is_ok() => *value = u32::try_from(n).expect("just tried"),
        other => problems.add(at, out_of_range(other, ("0", u32::MAX.to_string()))),
    }
}

fn positive(problems: &mut Problems, at: &Path<'_>, (arg, default, most): (Arg, u32, u32), value: &mut u32) {
    match arg {
        Arg::Whole(n) if n <= 0 => *value = default,
        Arg::Whole(n) if n <= most.into() => *value = u32::try_from(n).expect("at most `most`"),
        other => problems.add(at, out_of_range(other, ("1", most.to_string()))),
    }
}

fn factor(problems: &mut Problems, at: &Path<'_>, arg: Arg, value: &mut f64) {
    match arg {
        Arg::Whole(0) => *value = 0.0,
        Arg::Whole(1) => *value = 1.0,
        Arg::Real(x) if (0.0..=1.0).contains(&x) => *value = x,
        other => problems.add(at, out_of_range(other, ("0", "1".to_owned()))),
    }
}

fn out_of_range(arg: Arg, (min, max): (&str, String)) -> Reason {
    let found = match arg {
        Arg::Whole(n) => n.to_string(),
        Arg::Real(x) => x.to_string(),
        Arg::Other(IgnoredAny) => "what is no number".to_owned(),
    };
    Reason::OutOfRange { found, min: min.to_owned(), max }
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
        "random" => Some(Scorer::Random),
        _ => None,
    }
}
