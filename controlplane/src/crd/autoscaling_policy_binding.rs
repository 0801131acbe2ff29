//! AutoscalingPolicyBinding, of releases 0.1 to 0.4: the target of an AutoscalingPolicy that has none of its own.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::ConditionStatus;
use super::pod::LabelSelector;
use super::scaling::{MIN_UP_TO_MAX, MetricSources, TargetRef};

/// The target of an AutoscalingPolicy that has none of its own.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "AutoscalingPolicyBinding",
    namespaced,
    status = "ConditionStatus",
    derive = "PartialEq",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.homogeneousTarget) != has(self.heterogeneousTarget)").message(
    "set exactly one of homogeneousTarget and heterogeneousTarget"
))]
pub struct AutoscalingPolicyBindingSpec {
    /// The policy, of the same namespace.
    pub policy_ref: PolicyRef,
    /// Scales one ModelServing, or one role of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homogeneous_target: Option<BoundHomogeneousTarget>,
    /// Scales several ModelServings together, the cheap ones first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heterogeneous_target: Option<BoundHeterogeneousTarget>,
}

/// An AutoscalingPolicy of the same namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Scales one ModelServing, or one role of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (MIN_UP_TO_MAX.0, MIN_UP_TO_MAX.1))]
pub struct BoundHomogeneousTarget {
    /// What is scaled.
    pub target: BoundTarget,
    /// The fewest replicas.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_replicas: i32,
    /// The most replicas.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_replicas: i32,
}

/// A ModelServing or a role of it, and its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.metricEndpoint) || !has(self.metricSources) || size(self.metricSources) == 0"
).message("set metricEndpoint or metricSources, not both: each says where the metrics come from"))]
pub struct BoundTarget {
    /// The ModelServing.
    pub target_ref: TargetRef,
    /// A role of it: then the role's replicas are scaled, not the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_targets: Option<SubTarget>,
    /// Where its pods expose metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_endpoint: Option<MetricEndpoint>,
    /// Where the metrics come from, by metric name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub metric_sources: MetricSources,
}

/// A role of a ModelServing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubTarget {
    /// What it is.
    #[serde(default)]
    pub kind: SubTargetKind,
    /// The role's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// What a part of a ModelServing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum SubTargetKind {
    #[default]
    Role,
}

/// Where pods expose metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricEndpoint {
    /// The path.
    #[serde(default = "MetricEndpoint::default_uri")]
    #[schemars(length(max = 1024), regex(pattern = "^/"))]
    pub uri: String,
    /// The port.
    #[serde(default = "MetricEndpoint::default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Which of the target's pods; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
}

impl MetricEndpoint {
    fn default_uri() -> String {
        "/metrics".to_owned()
    }

    fn default_port() -> i32 {
        8100
    }
}

/// Scales several ModelServings together, the cheap ones first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundHeterogeneousTarget {
    /// The ModelServings.
    #[schemars(length(min = 1, max = 32))]
    pub params: Vec<BoundHeterogeneousParam>,
    /// How much dearer than the cheapest a choice may be, in percent.
    #[serde(default = "BoundHeterogeneousTarget::default_expansion")]
    #[schemars(range(min = 0))]
    pub cost_expansion_rate_percent: i32,
}

impl BoundHeterogeneousTarget {
    fn default_expansion() -> i32 {
        200
    }
}

/// One of several ModelServings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (MIN_UP_TO_MAX.0, MIN_UP_TO_MAX.1),
    validation = Rule::new("!has(self.target.subTargets)").message(
        "subTargets is of homogeneousTarget only: remove it here"
    )
)]
pub struct BoundHeterogeneousParam {
    /// What is scaled.
    pub target: BoundTarget,
    /// Of one group, in any unit.
    #[schemars(range(min = 0))]
    pub cost: i64,
    /// The fewest groups.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_replicas: i32,
    /// The most groups.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_replicas: i32,
}
