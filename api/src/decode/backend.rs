//! Backends and their policies.

use std::sync::Arc;
use std::time::Duration;

use super::Object;
use super::endpoint::endpoint;
use super::field::{choice, duration, name, namespaced, narrow, needs, number, object, optional_model, wait};
use super::path::{Path, Problems};
use super::template::chat_template;
use crate::proto::backend as wire_enum;
use crate::snapshot::{Backend, Credentials, Ejection, Endpoint, Engine, Retry, Timeouts, UsageInjection};
use crate::{limits, proto};

pub(crate) fn backend(problems: &mut Problems, at: &Path<'_>, wire: proto::Backend) -> Backend {
    problems.object = object(&wire.name, Object::Backend);
    needs(problems, at, wire.needs);
    namespaced(problems, &at.field("name"), &wire.name);
    if !wire.profile.is_empty() {
        name(problems, &at.field("profile"), &wire.profile);
    }
    let in_flight = (limits::MAX_IN_FLIGHT, 1..=limits::HIGHEST_IN_FLIGHT);
    let backend = Backend {
        engine: engine(problems, at, wire.engine),
        model: optional_model(problems, &at.field("model"), wire.model),
        endpoints: endpoints(problems, at, 0, wire.endpoints),
        profile: (!wire.profile.is_empty()).then(|| wire.profile.into()),
        timeouts: timeouts(problems, &at.field("timeouts"), wire.timeouts.unwrap_or_default()),
        retry: retry(problems, &at.field("retry"), wire.retry.unwrap_or_default()),
        ejection: ejection(problems, &at.field("ejection"), wire.ejection.unwrap_or_default()),
        max_in_flight: number(problems, &at.field("maxInFlight"), wire.max_in_flight, in_flight),
        usage: usage(problems, at, wire.usage),
        credentials: credentials(problems, at, wire.credentials),
        chat_template: (wire.chat_template)
            .map(|wire| Arc::new(chat_template(problems, &at.field("chatTemplate"), wire))),
        name: wire.name.into(),
    };
    problems.object = None;
    backend
}

/// Further members of a backend.
pub(crate) fn more_endpoints(
    problems: &mut Problems,
    at: &Path<'_>,
    backend: &mut Backend,
    wire: Vec<proto::Endpoint>,
) {
    problems.object = object(backend.name.as_str(), Object::Backend);
    let more = endpoints(problems, at, backend.endpoints.len(), wire);
    backend.endpoints.extend(more);
    problems.object = None;
}

fn endpoints(problems: &mut Problems, at: &Path<'_>, first: usize, wire: Vec<proto::Endpoint>) -> Vec<Arc<Endpoint>> {
    let one = |(place, wire)| Arc::new(endpoint(problems, &at.item("endpoints", place), wire));
    (first..).zip(wire).map(one).collect()
}

fn engine(problems: &mut Problems, at: &Path<'_>, wire: i32) -> Engine {
    match choice(problems, &at.field("engine"), wire, "VLLM, SGLANG, TRITON, TORCHSERVE") {
        wire_enum::Engine::Vllm => Engine::Vllm,
        wire_enum::Engine::Sglang => Engine::Sglang,
        wire_enum::Engine::Triton => Engine::Triton,
        wire_enum::Engine::Torchserve => Engine::Torchserve,
    }
}

fn usage(problems: &mut Problems, at: &Path<'_>, wire: i32) -> UsageInjection {
    match choice(problems, &at.field("usage"), wire, "ALWAYS, POLICY, NEVER") {
        wire_enum::Usage::Always => UsageInjection::Always,
        wire_enum::Usage::Policy => UsageInjection::Policy,
        wire_enum::Usage::Never => UsageInjection::Never,
    }
}

fn credentials(problems: &mut Problems, at: &Path<'_>, wire: i32) -> Credentials {
    match choice(problems, &at.field("credentials"), wire, "PASS, STRIP") {
        wire_enum::Credentials::Pass => Credentials::Pass,
        wire_enum::Credentials::Strip => Credentials::Strip,
    }
}

fn timeouts(problems: &mut Problems, at: &Path<'_>, wire: proto::Timeouts) -> Timeouts {
    let proto::Timeouts { connect, first_byte, idle, total } = wire;
    Timeouts {
        connect: wait(problems, &at.field("connect"), connect, limits::CONNECT_TIMEOUT),
        first_byte: wait(problems, &at.field("firstByte"), first_byte, limits::FIRST_BYTE_TIMEOUT),
        idle: wait(problems, &at.field("idle"), idle, limits::STREAM_IDLE_TIMEOUT),
        total: wait(problems, &at.field("total"), total, limits::TOTAL_TIMEOUT),
    }
}

fn retry(problems: &mut Problems, at: &Path<'_>, wire: proto::Retry) -> Retry {
    let proto::Retry { attempts, interval, budget_percent } = wire;
    let attempts_range = (limits::RETRY_ATTEMPTS.into(), 0..=limits::MAX_RETRY_ATTEMPTS.into());
    let interval_range = (limits::RETRY_INTERVAL, Duration::ZERO..=limits::MAX_RETRY_INTERVAL);
    let budget_range = (limits::RETRY_BUDGET_PERCENT.into(), 0..=100);
    Retry {
        attempts: narrow(number(problems, &at.field("attempts"), attempts, attempts_range)),
        interval: duration(problems, &at.field("interval"), interval, interval_range),
        budget_percent: narrow(number(problems, &at.field("budgetPercent"), budget_percent, budget_range)),
    }
}

fn ejection(problems: &mut Problems, at: &Path<'_>, wire: proto::Ejection) -> Ejection {
    let proto::Ejection { failures, base, max, max_percent, slow_start } = wire;
    let base = wait(problems, &at.field("base"), base, limits::EJECT_BASE);
    let max_range = (limits::EJECT_MAX.max(base), base..=limits::MAX_TIMEOUT);
    let slow_range = (limits::SLOW_START, Duration::ZERO..=limits::MAX_TIMEOUT);
    let percent_range = (limits::EJECT_MAX_PERCENT.into(), 0..=100);
    Ejection {
        failures: number(problems, &at.field("failures"), failures, (limits::EJECT_FAILURES, 1..=u32::MAX)),
        base,
        max: duration(problems, &at.field("max"), max, max_range),
        max_percent: narrow(number(problems, &at.field("maxPercent"), max_percent, percent_range)),
        slow_start: duration(problems, &at.field("slowStart"), slow_start, slow_range),
    }
}
