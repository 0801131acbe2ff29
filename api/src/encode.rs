//! Domain to wire. What the decoder would take as a default is written out, so that a snapshot shows its values.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::{proto, snapshot};

mod profile;
mod refusal;
mod template;

pub(crate) use profile::profile;
pub use refusal::refusals;

/// The wire form; `decode::snapshot` gives the same value back.
pub fn snapshot(snapshot: &snapshot::Snapshot) -> proto::Snapshot {
    let snapshot::Snapshot { version, fleet_seed, routes, backends, profiles, seen } = snapshot;
    proto::Snapshot {
        epoch: version.epoch,
        version: version.version,
        fleet_seed: *fleet_seed,
        routes: routes.iter().map(route).collect(),
        backends: backends.iter().map(backend).collect(),
        profiles: profiles.iter().map(profile).collect(),
        resource_versions: seen.wire(),
    }
}

pub(crate) fn route(route: &snapshot::Route) -> proto::Route {
    let snapshot::Route { name, model, adapters, rules, rate_limit } = route;
    proto::Route {
        name: name.to_string(),
        model: text(model.as_ref()),
        adapters: adapters.iter().map(ToString::to_string).collect(),
        rules: rules.iter().map(rule).collect(),
        rate_limit: rate_limit.as_ref().map(rate_limit_of),
        needs: Vec::new(),
    }
}

fn rate_limit_of(limit: &snapshot::RateLimit) -> proto::RateLimit {
    use proto::rate_limit::Unit;
    let snapshot::RateLimit { tokens, unit, store } = limit;
    let unit = match unit {
        snapshot::RateUnit::Second => Unit::Second,
        snapshot::RateUnit::Minute => Unit::Minute,
        snapshot::RateUnit::Hour => Unit::Hour,
        snapshot::RateUnit::Day => Unit::Day,
        snapshot::RateUnit::Month => Unit::Month,
    };
    let redis = match store {
        snapshot::RateStore::Local => None,
        snapshot::RateStore::Redis(address) => Some(proto::RedisStore { address: address.to_string() }),
    };
    proto::RateLimit {
        input_tokens: tokens.input().map(NonZeroU32::get),
        output_tokens: tokens.output().map(NonZeroU32::get),
        unit: unit.into(),
        redis,
    }
}

fn rule(rule: &snapshot::Rule) -> proto::Rule {
    let snapshot::Rule { name, headers, uri, body_model, targets } = rule;
    proto::Rule {
        name: name.clone(),
        headers: headers.iter().map(|(name, condition)| (name.clone(), string_match(condition))).collect(),
        uri: uri.as_ref().map(string_match),
        body_model: text(body_model.as_ref()),
        targets: targets.iter().map(target).collect(),
    }
}

fn string_match(condition: &snapshot::StringMatch) -> proto::StringMatch {
    use proto::string_match::Match;
    let r#match = match condition.clone() {
        snapshot::StringMatch::Exact(value) => Match::Exact(value),
        snapshot::StringMatch::Prefix(value) => Match::Prefix(value),
        snapshot::StringMatch::Regex(value) => Match::Regex(value),
    };
    proto::StringMatch { r#match: Some(r#match) }
}

fn target(target: &snapshot::Target) -> proto::Target {
    let snapshot::Target { backend, weight } = target;
    proto::Target { backend: backend.to_string(), weight: Some(*weight) }
}

pub(crate) fn backend(backend: &snapshot::Backend) -> proto::Backend {
    use proto::backend as wire;
    let snapshot::Backend {
        name,
        engine,
        model,
        endpoints,
        profile,
        timeouts,
        retry,
        ejection,
        max_in_flight,
        usage,
        credentials,
        chat_template,
    } = backend;
    let engine = match engine {
        snapshot::Engine::Vllm => wire::Engine::Vllm,
        snapshot::Engine::Sglang => wire::Engine::Sglang,
        snapshot::Engine::Triton => wire::Engine::Triton,
        snapshot::Engine::Torchserve => wire::Engine::Torchserve,
    };
    let usage = match usage {
        snapshot::UsageInjection::Always => wire::Usage::Always,
        snapshot::UsageInjection::Policy => wire::Usage::Policy,
        snapshot::UsageInjection::Never => wire::Usage::Never,
    };
    let credentials = match credentials {
        snapshot::Credentials::Pass => wire::Credentials::Pass,
        snapshot::Credentials::Strip => wire::Credentials::Strip,
    };
    proto::Backend {
        name: name.to_string(),
        engine: engine.into(),
        model: text(model.as_ref()),
        endpoints: endpoints.iter().map(|e| endpoint(e)).collect(),
        profile: text(profile.as_ref()),
        timeouts: Some(timeouts_of(timeouts)),
        retry: Some(retry_of(retry)),
        ejection: Some(ejection_of(ejection)),
        max_in_flight: Some(*max_in_flight),
        usage: usage.into(),
        credentials: credentials.into(),
        chat_template: chat_template.as_deref().map(template::chat_template),
        needs: Vec::new(),
    }
}

pub(crate) fn endpoint(endpoint: &snapshot::Endpoint) -> proto::Endpoint {
    let snapshot::Endpoint {
        handle,
        key,
        name,
        address,
        labels,
        role,
        group,
        revision,
        node,
        zone,
        adapters,
        cache_tokens,
    } = endpoint;
    let role = match role {
        snapshot::Role::Both => proto::endpoint::Role::Both,
        snapshot::Role::Prefill => proto::endpoint::Role::Prefill,
        snapshot::Role::Decode => proto::endpoint::Role::Decode,
    };
    proto::Endpoint {
        handle: *handle,
        name: name.to_string(),
        uid: text((key.uid != *name).then_some(&key.uid)),
        address: address.to_string(),
        rank: key.rank.into(),
        labels: labels.clone(),
        role: role.into(),
        group: text(group.as_ref()),
        revision: text(revision.as_ref()),
        node: text(node.as_ref()),
        zone: text(zone.as_ref()),
        adapters: (adapters.as_ref())
            .map(|names| proto::LoadedAdapters { names: names.iter().map(ToString::to_string).collect() }),
        cache_tokens: *cache_tokens,
    }
}

fn timeouts_of(timeouts: &snapshot::Timeouts) -> proto::Timeouts {
    let snapshot::Timeouts { connect, first_byte, idle, total } = *timeouts;
    proto::Timeouts {
        connect: duration(connect),
        first_byte: duration(first_byte),
        idle: duration(idle),
        total: duration(total),
    }
}

fn retry_of(retry: &snapshot::Retry) -> proto::Retry {
    let snapshot::Retry { attempts, interval, budget_percent } = *retry;
    proto::Retry {
        attempts: Some(attempts.into()),
        interval: duration(interval),
        budget_percent: Some(budget_percent.into()),
    }
}

fn ejection_of(ejection: &snapshot::Ejection) -> proto::Ejection {
    let snapshot::Ejection { failures, base, max, max_percent, slow_start } = *ejection;
    proto::Ejection {
        failures: Some(failures),
        base: duration(base),
        max: duration(max),
        max_percent: Some(max_percent.into()),
        slow_start: duration(slow_start),
    }
}

fn duration(value: Duration) -> Option<crate::duration::Duration> {
    Some(value.into())
}

/// Absent texts are empty on the wire.
fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}
