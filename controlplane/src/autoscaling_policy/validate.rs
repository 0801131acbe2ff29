//! What the schema's CEL rules say, and what CEL cannot say.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ratio;
use crate::crd::{
    AutoscalingPolicySpec, DisaggregatedTarget, HeterogeneousTarget, Metric, MetricSource, MetricSources, RoleTarget,
    ScaledTarget, TargetRef, duration,
};
use crate::problem::{At, Problem, Problems, SPEC};
use crate::valid::Valid;

/// The longest that anything is looked back over.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Checks all of a policy of this namespace. That its targets exist is not checked: they may come later.
pub fn validate(namespace: &str, spec: &AutoscalingPolicySpec) -> Result<Valid<AutoscalingPolicySpec>, Vec<Problem>> {
    let mut problems = Problems::default();
    let shared = metrics(&mut problems, &SPEC.field("metrics"), &spec.metrics);
    behavior(&mut problems, spec);
    let targets =
        [spec.homogeneous_target.is_some(), spec.heterogeneous_target.is_some(), spec.disaggregated_target.is_some()];
    let sentence = "set one of homogeneousTarget, heterogeneousTarget and disaggregatedTarget; none where an \
                    AutoscalingPolicyBinding carries the target";
    problems.require(targets.iter().filter(|set| **set).count() <= 1, &SPEC, sentence);
    if spec.disaggregated_target.is_none() {
        let sentence = "must hold at least one metric: only the roles of a disaggregatedTarget can have their own";
        problems.require(!spec.metrics.is_empty(), &SPEC.field("metrics"), sentence);
    }
    if let Some(wanted) = &spec.homogeneous_target {
        let at = SPEC.field("homogeneousTarget");
        target(&mut problems, &at.field("target"), namespace, &wanted.target, &shared);
        bounds(&mut problems, &at, wanted.min_replicas, wanted.max_replicas);
    }
    if let Some(wanted) = &spec.heterogeneous_target {
        heterogeneous(&mut problems, namespace, wanted, &shared);
    }
    if let Some(wanted) = &spec.disaggregated_target {
        disaggregated(&mut problems, namespace, wanted, &shared);
    }
    problems.or(Valid::new(spec.clone()))
}

/// The names, each once.
fn metrics<'a>(problems: &mut Problems, at: &At<'_>, metrics: &'a [Metric]) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (i, metric) in metrics.iter().enumerate() {
        let at = at.item(i);
        let name = match (&metric.name, &metric.metric_name) {
            (Some(name), None) | (None, Some(name)) => name.as_str(),
            _ => {
                let sentence =
                    "set name; metricName is what releases before 1.0 called it, and only one of the two can be set";
                problems.add(&at, sentence);
                continue;
            }
        };
        let sentence = format!("duplicate metric name {name} is not allowed: remove one of them");
        problems.require(names.insert(name), &at.field("name"), sentence);
        let usable = metric.target_value.value().is_some_and(|value| value > 0.0 && value.is_finite());
        let sentence = "metric target value must be greater than 0 and not equal to infinity";
        problems.require(usable, &at.field("targetValue"), sentence);
    }
    names
}

fn behavior(problems: &mut Problems, spec: &AutoscalingPolicySpec) {
    let at = SPEC.field("behavior");
    let (down_at, up_at) = (at.field("scaleDown"), at.field("scaleUp"));
    let (stable_at, panic_at) = (up_at.field("stablePolicy"), up_at.field("panicPolicy"));
    let (down, up) = (&spec.behavior.scale_down, &spec.behavior.scale_up);
    for (at, name, text) in [
        (&down_at, "period", &down.period),
        (&down_at, "stabilizationWindow", &down.stabilization_window),
        (&stable_at, "period", &up.stable_policy.period),
        (&stable_at, "stabilizationWindow", &up.stable_policy.stabilization_window),
        (&panic_at, "period", &up.panic_policy.period),
        (&panic_at, "panicModeHold", &up.panic_policy.panic_mode_hold),
    ] {
        let fits = duration::parse(text).is_some_and(|length| length <= LONGEST);
        let sentence = format!("{text:?} must be a duration from 0s to 30m, such as 15s or 1m30s");
        problems.require(fits, &at.field(name), sentence);
    }
}

/// A ModelServing of the same namespace: a policy must not scale what its author may not touch.
pub(crate) fn target_ref(problems: &mut Problems, at: &At<'_>, namespace: &str, wanted: &TargetRef) {
    let set = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let sentence = "targetRef.kind must be ModelServing: nothing else can be scaled";
    problems.require(set(&wanted.kind).is_none_or(|kind| kind == "ModelServing"), &at.field("kind"), sentence);
    let ours = |version: String| version.starts_with("workload.serving.volcano.sh/");
    let sentence = "targetRef.apiVersion must be workload.serving.volcano.sh/v1alpha1, or left out";
    problems.require(set(&wanted.api_version).is_none_or(ours), &at.field("apiVersion"), sentence);
    problems.require(!wanted.name.is_empty(), &at.field("name"), "targetRef.name must name a ModelServing");
    let sentence = format!("must be {namespace} or left out: a policy scales ModelServings of its own namespace");
    problems.require(set(&wanted.namespace).is_none_or(|other| other == namespace), &at.field("namespace"), sentence);
}

/// The least and the most.
pub(crate) fn bounds(problems: &mut Problems, at: &At<'_>, min: i32, max: i32) {
    let sentence = format!("{min} is above maxReplicas {max}: minReplicas must not be");
    problems.require(min <= max, &at.field("minReplicas"), sentence);
}

fn target(problems: &mut Problems, at: &At<'_>, namespace: &str, wanted: &ScaledTarget, metrics: &BTreeSet<&str>) {
    target_ref(problems, &at.field("targetRef"), namespace, &wanted.target_ref);
    sources(problems, &at.field("metricSources"), &wanted.metric_sources, metrics);
}

fn sources(problems: &mut Problems, at: &At<'_>, sources: &MetricSources, metrics: &BTreeSet<&str>) {
    for (name, source) in sources {
        let at = at.key(name);
        let known = metrics.iter().copied().collect::<Vec<_>>().join(", ");
        let sentence = format!("no metric has this name: use one of {known}");
        problems.require(metrics.contains(name.as_str()), &at, sentence);
        metric_source(problems, &at, source);
    }
}

/// Exactly one way to get at a metric.
pub(crate) fn metric_source(problems: &mut Problems, at: &At<'_>, source: &MetricSource) {
    use crate::crd::MetricSourceType::{Pod, Prometheus};
    let MetricSource { kind, pod, prometheus } = source;
    match (pod, prometheus) {
        (None, None) => problems.add(at, "one metric source backend config is required: set pod or prometheus"),
        (Some(_), Some(_)) => problems.add(at, "pod and prometheus configs are mutually exclusive: remove one"),
        (Some(_), None) | (None, Some(_)) => {
            let agrees = kind.is_none_or(|kind| kind == if pod.is_some() { Pod } else { Prometheus });
            let sentence = "type must name the backend config that is set; it can be left out";
            problems.require(agrees, &at.field("type"), sentence);
        }
    }
    if let Some(prometheus) = prometheus {
        let url = &prometheus.server_url;
        let uri = url.parse::<http::Uri>().ok();
        let fits = uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        let (at, sentence) = (at.field("prometheus"), "serverURL must begin with http:// or https:// and name a host");
        problems.require(fits, &at.field("serverURL"), sentence);
    }
}

fn heterogeneous(problems: &mut Problems, namespace: &str, wanted: &HeterogeneousTarget, metrics: &BTreeSet<&str>) {
    let target_at = SPEC.field("heterogeneousTarget");
    let at = target_at.field("params");
    for (i, param) in wanted.params.iter().enumerate() {
        let at = at.item(i);
        target(problems, &at.field("target"), namespace, &param.target, metrics);
        bounds(problems, &at, param.min_replicas, param.max_replicas);
        let name = &param.target.target_ref.name;
        let twice = wanted.params[..i].iter().any(|other| other.target.target_ref.name == *name);
        let (at, sentence) = (at.field("target"), format!("{name} is there twice: a ModelServing has one cost"));
        problems.require(!twice, &at.field("targetRef"), sentence);
    }
}

fn disaggregated(problems: &mut Problems, namespace: &str, wanted: &DisaggregatedTarget, shared: &BTreeSet<&str>) {
    let at = SPEC.field("disaggregatedTarget");
    target_ref(problems, &at.field("targetRef"), namespace, &wanted.target_ref);
    let roles_at = at.field("roles");
    for (name, role) in &wanted.roles {
        let at = roles_at.key(name);
        problems.require(!name.is_empty(), &at, "a role needs a name");
        bounds(problems, &at, role.min_replicas, role.max_replicas);
        role_metrics(problems, &at, role, shared);
    }
    if let Some(constraint) = &wanted.ratio_constraint {
        ratio::check(problems, &at.field("ratioConstraint"), constraint, &wanted.roles);
    }
}

fn role_metrics(problems: &mut Problems, at: &At<'_>, role: &RoleTarget, shared: &BTreeSet<&str>) {
    let own = role.metrics.as_deref().map(|own| metrics(problems, &at.field("metrics"), own));
    let names = own.as_ref().unwrap_or(shared);
    let fixed = role.max_replicas > 0 && role.min_replicas == role.max_replicas;
    if !fixed {
        let sentence =
            "a role with a range needs metrics, its own or the policy's: add one, or set minReplicas = maxReplicas";
        problems.require(!names.is_empty(), &at.field("metrics"), sentence);
        let sentence = "a role with a range needs metricSources: say where its metrics come from";
        problems.require(!role.metric_sources.is_empty(), &at.field("metricSources"), sentence);
    }
    sources(problems, &at.field("metricSources"), &role.metric_sources, names);
}
