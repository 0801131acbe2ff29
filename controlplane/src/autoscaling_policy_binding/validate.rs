//! What the schema's CEL rules say, and what CEL cannot say.

use crate::autoscaling_policy::{bounds, metric_source, target_ref};
use crate::crd::{AutoscalingPolicyBindingSpec, BoundTarget};
use crate::problem::{At, Problem, Problems, SPEC};
use crate::valid::Valid;

/// Checks all of a binding of this namespace. That the policy exists and has no target is not checked: it may come later.
pub fn validate(
    namespace: &str,
    spec: &AutoscalingPolicyBindingSpec,
) -> Result<Valid<AutoscalingPolicyBindingSpec>, Vec<Problem>> {
    let mut problems = Problems::default();
    let one = spec.homogeneous_target.is_some() != spec.heterogeneous_target.is_some();
    problems.require(one, &SPEC, "set exactly one of homogeneousTarget and heterogeneousTarget");
    if let Some(wanted) = &spec.homogeneous_target {
        let at = SPEC.field("homogeneousTarget");
        target(&mut problems, &at.field("target"), namespace, &wanted.target);
        bounds(&mut problems, &at, wanted.min_replicas, wanted.max_replicas);
    }
    if let Some(wanted) = &spec.heterogeneous_target {
        let target_at = SPEC.field("heterogeneousTarget");
        let params_at = target_at.field("params");
        for (i, param) in wanted.params.iter().enumerate() {
            let at = params_at.item(i);
            let target_at = at.field("target");
            target(&mut problems, &target_at, namespace, &param.target);
            bounds(&mut problems, &at, param.min_replicas, param.max_replicas);
            let sentence = "subTargets is of homogeneousTarget only: remove it here";
            problems.require(param.target.sub_targets.is_none(), &target_at.field("subTargets"), sentence);
            let name = &param.target.target_ref.name;
            let twice = wanted.params[..i].iter().any(|other| other.target.target_ref.name == *name);
            let sentence = format!("{name} is there twice: a ModelServing has one cost");
            problems.require(!twice, &target_at.field("targetRef"), sentence);
        }
    }
    problems.or(Valid::new(spec.clone()))
}

fn target(problems: &mut Problems, at: &At<'_>, namespace: &str, wanted: &BoundTarget) {
    target_ref(problems, &at.field("targetRef"), namespace, &wanted.target_ref);
    let one = wanted.metric_endpoint.is_none() || wanted.metric_sources.is_empty();
    let sentence = "set metricEndpoint or metricSources, not both: each says where the metrics come from";
    problems.require(one, &at.field("metricEndpoint"), sentence);
    let sources_at = at.field("metricSources");
    for (name, source) in &wanted.metric_sources {
        metric_source(problems, &sources_at.key(name), source);
    }
}
