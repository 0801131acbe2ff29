//! What the schema's CEL rules say, and what CEL cannot say.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::id::ModelName;
use api::limits::MAX_MODEL_NAME_BYTES;
use api::snapshot::StringMatch;

use super::{TargetName, ValidRateLimit, ValidRoute, ValidRule, ValidTarget};
use crate::crd;
use crate::naming::is_header_name;
use crate::problem::{At, Problem, Problems, SPEC};

/// Checks all of a route. References to other objects are not followed: they may come later.
pub fn validate(spec: &crd::ModelRouteSpec) -> Result<ValidRoute, Vec<Problem>> {
    let crd::ModelRouteSpec { model_name, lora_adapters, parent_refs, rules, rate_limit } = spec;
    let mut problems = Problems::default();
    let model = model_name.as_deref().filter(|name| !name.is_empty());
    if model.is_none() && lora_adapters.is_empty() {
        problems
            .add(&SPEC, "set modelName, or list at least one name in loraAdapters: a route answers for a model name");
    }
    if let Some(model) = model {
        name(&mut problems, &SPEC.field("modelName"), model);
    }
    let adapters_at = SPEC.field("loraAdapters");
    for (i, adapter) in lora_adapters.iter().enumerate() {
        let at = adapters_at.item(i);
        name(&mut problems, &at, adapter);
        problems.require(
            model != Some(adapter.as_str()) && !lora_adapters[..i].contains(adapter),
            &at,
            format!("{adapter:?} is there twice: a name stands in modelName or once in loraAdapters"),
        );
    }
    let rules_at = SPEC.field("rules");
    let valid = ValidRoute {
        model: model.map(ModelName::from),
        adapters: lora_adapters.iter().map(|name| ModelName::from(name.as_str())).collect(),
        parents: parent_refs.clone(),
        rules: (rules.iter().enumerate())
            .map(|(i, wanted)| rule(&mut problems, &rules_at.item(i), wanted, !lora_adapters.is_empty()))
            .collect(),
        rate_limit: rate_limit.as_ref().map(|wanted| limit(&mut problems, &SPEC.field("rateLimit"), wanted)),
    };
    problems.or(valid)
}

/// What cannot be changed once it is set.
pub fn transition(old: &crd::ModelRouteSpec, new: &crd::ModelRouteSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    if let (Some(old), Some(new)) = (&old.model_name, &new.model_name) {
        let sentence = "modelName is immutable: create a ModelRoute with the new name and delete this one";
        problems.require(old == new, &SPEC.field("modelName"), sentence);
    }
    problems.into_vec()
}

fn name(problems: &mut Problems, at: &At<'_>, name: &str) {
    problems.require(!name.trim().is_empty(), at, "must not be blank: no request can ask for such a model");
    let sentence = format!("is {} bytes long, at most {MAX_MODEL_NAME_BYTES} are allowed", name.len());
    problems.require(name.len() <= MAX_MODEL_NAME_BYTES, at, sentence);
}

fn rule(problems: &mut Problems, at: &At<'_>, wanted: &crd::RouteRule, has_adapters: bool) -> ValidRule {
    let crd::RouteRule { name, model_match, target_models } = wanted;
    let crd::ModelMatch { headers, uri, body } = model_match.clone().unwrap_or_default();
    let targets_at = at.field("targetModels");
    if target_models.iter().all(|target| target.weight == 0) {
        let sentence = match target_models.len() {
            0 => "is empty: name at least one target",
            _ => "total weight must be greater than zero: give at least one target a weight above 0",
        };
        problems.add(&targets_at, sentence);
    }
    let match_at = at.field("modelMatch");
    ValidRule {
        name: name.clone().unwrap_or_default(),
        headers: header_matches(problems, &match_at.field("headers"), headers),
        uri: uri.and_then(|wanted| string_match(problems, &match_at.field("uri"), wanted)),
        body_model: body.and_then(|body| body.model).filter(|name| !name.is_empty()).map(ModelName::from),
        targets: (target_models.iter().enumerate())
            .filter_map(|(i, wanted)| target(problems, &targets_at.item(i), wanted, has_adapters))
            .collect(),
    }
}

/// The conditions of a ModelBooster become those of the route that is made for it.
pub(crate) fn check_match(problems: &mut Problems, at: &At<'_>, wanted: &crd::ModelMatch) {
    header_matches(problems, &at.field("headers"), wanted.headers.clone());
    wanted.uri.clone().and_then(|uri| string_match(problems, &at.field("uri"), uri));
}

fn header_matches(
    problems: &mut Problems,
    at: &At<'_>,
    wanted: BTreeMap<String, crd::StringMatch>,
) -> BTreeMap<String, StringMatch> {
    let mut valid = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for (name, condition) in wanted {
        let at = at.key(&name);
        problems.require(is_header_name(&name), &at, "is no header name: use letters, digits and !#$%&'*+-.^_`|~");
        if let Some(other) = seen.insert(name.to_ascii_lowercase(), name.clone()) {
            problems.add(&at, format!("is the same header as {other}: case does not count, keep one"));
        }
        if let Some(condition) = string_match(problems, &at, condition) {
            valid.insert(name.to_ascii_lowercase(), condition);
        }
    }
    valid
}

/// None where it always holds.
fn string_match(problems: &mut Problems, at: &At<'_>, wanted: crd::StringMatch) -> Option<StringMatch> {
    match wanted {
        crd::StringMatch { exact: None, prefix: None, regex: None } => None,
        crd::StringMatch { exact: Some(value), prefix: None, regex: None } => Some(StringMatch::Exact(value)),
        crd::StringMatch { exact: None, prefix: Some(value), regex: None } => Some(StringMatch::Prefix(value)),
        crd::StringMatch { exact: None, prefix: None, regex: Some(pattern) } => {
            if let Err(error) = api::decode::compile(&pattern) {
                let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                problems.add(&at.field("regex"), format!("does not compile: {error}"));
            }
            Some(StringMatch::Regex(pattern))
        }
        _ => {
            problems.add(at, "set only one of exact, prefix and regex");
            None
        }
    }
}

fn target(problems: &mut Problems, at: &At<'_>, wanted: &crd::TargetModel, has_adapters: bool) -> Option<ValidTarget> {
    let crd::TargetModel { model_server_name, external_model_provider_name, weight } = wanted;
    let set = |name: &Option<String>| name.as_deref().filter(|name| !name.is_empty()).map(Arc::<str>::from);
    let to = match (set(model_server_name), set(external_model_provider_name)) {
        (Some(server), None) => TargetName::ModelServer(server),
        (None, Some(provider)) => {
            let sentence = "lora routes must target modelServerName: an external provider has no adapters";
            problems.require(!has_adapters, &at.field("externalModelProviderName"), sentence);
            TargetName::ExternalModelProvider(provider)
        }
        _ => {
            problems.add(at, "exactly one of modelServerName or externalModelProviderName must be set");
            return None;
        }
    };
    Some(ValidTarget { to, weight: *weight })
}

fn limit(problems: &mut Problems, at: &At<'_>, wanted: &crd::RateLimit) -> ValidRateLimit {
    let crd::RateLimit { input_tokens_per_unit, output_tokens_per_unit, unit, global } = wanted;
    let redis = global.as_ref().and_then(|global| global.redis.as_ref()).and_then(|redis| {
        let address = host_and_port(&redis.address);
        if address.is_none() {
            let (global, sentence) =
                (at.field("global"), "address must be host:port, such as redis-server.kthena-system.svc:6379");
            problems.add(&global.field("redis").field("address"), sentence);
        }
        address
    });
    ValidRateLimit { input: *input_tokens_per_unit, output: *output_tokens_per_unit, unit: *unit, redis }
}

fn host_and_port(address: &str) -> Option<(Arc<str>, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let clean = !host.is_empty() && !host.contains(|c: char| c == '/' || c == '@' || c.is_ascii_whitespace());
    // The rule allows as many digits. `parse` takes a sign, too.
    let digits = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (clean && digits).then(|| (host.into(), port))
}

#[cfg(test)]
mod tests;
