//! AutoscalingPolicy: by which metrics, how fast and between which bounds ModelServings are scaled.

mod behavior;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Quantity;
use super::scaling::{MIN_UP_TO_MAX, MetricSources, TargetRef};

pub use behavior::{Behavior, PanicPolicy, ScaleDown, ScaleUp, SelectPolicy, StablePolicy};

/// By which metrics, how fast and between which bounds ModelServings are scaled.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "AutoscalingPolicy",
    plural = "autoscalingpolicies",
    namespaced,
    status = "AutoscalingPolicyStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "(has(self.homogeneousTarget) ? 1 : 0) + (has(self.heterogeneousTarget) ? 1 : 0) + \
         (has(self.disaggregatedTarget) ? 1 : 0) <= 1"
    ).message(
        "set one of homogeneousTarget, heterogeneousTarget and disaggregatedTarget; none where an \
         AutoscalingPolicyBinding carries the target"
    ),
    validation = Rule::new("has(self.disaggregatedTarget) || (has(self.metrics) && size(self.metrics) > 0)").message(
        "metrics must hold at least one metric: only the roles of a disaggregatedTarget can have their own"
    )
)]
pub struct AutoscalingPolicySpec {
    /// How far the metrics may be from their targets before anything is scaled, in percent.
    #[serde(default = "AutoscalingPolicySpec::default_tolerance")]
    #[schemars(range(min = 0, max = 100))]
    pub tolerance_percent: i32,
    /// What is held at which value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub metrics: Vec<Metric>,
    /// How fast.
    #[serde(default)]
    pub behavior: Behavior,
    /// Scales the groups of one ModelServing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homogeneous_target: Option<HomogeneousTarget>,
    /// Scales several ModelServings together, the cheap ones first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heterogeneous_target: Option<HeterogeneousTarget>,
    /// Scales the roles of one ModelServing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disaggregated_target: Option<DisaggregatedTarget>,
}

impl AutoscalingPolicySpec {
    fn default_tolerance() -> i32 {
        10
    }
}

/// A metric and the value at which it is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.metricName)").message(
    "set name; metricName is what releases before 1.0 called it, and only one of the two can be set"
))]
pub struct Metric {
    /// The key into metricSources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// What releases before 1.0 called `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub metric_name: Option<String>,
    /// Per instance.
    pub target_value: Quantity,
}

/// Scales the groups of one ModelServing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (MIN_UP_TO_MAX.0, MIN_UP_TO_MAX.1))]
pub struct HomogeneousTarget {
    /// What is scaled.
    pub target: ScaledTarget,
    /// The fewest groups.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_replicas: i32,
    /// The most groups.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_replicas: i32,
}

/// A ModelServing and its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaledTarget {
    /// The ModelServing.
    pub target_ref: TargetRef,
    /// Where the metrics come from, by metric name; its pods where absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub metric_sources: MetricSources,
}

/// Scales several ModelServings together, the cheap ones first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeterogeneousTarget {
    /// The ModelServings.
    #[schemars(length(min = 1, max = 32))]
    pub params: Vec<HeterogeneousParam>,
    /// How much dearer than the cheapest a choice may be, in percent.
    #[serde(default = "HeterogeneousTarget::default_expansion")]
    #[schemars(range(min = 0))]
    pub cost_expansion_rate_percent: i32,
}

impl HeterogeneousTarget {
    fn default_expansion() -> i32 {
        200
    }
}

/// One of several ModelServings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (MIN_UP_TO_MAX.0, MIN_UP_TO_MAX.1))]
pub struct HeterogeneousParam {
    /// What is scaled.
    pub target: ScaledTarget,
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

/// Scales the roles of one ModelServing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.ratioConstraint) || size(self.roles) >= 2").message(
    "ratioConstraint needs two roles: add the second one, or remove ratioConstraint"
))]
pub struct DisaggregatedTarget {
    /// The ModelServing.
    pub target_ref: TargetRef,
    /// By role name.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 2))]
    pub roles: BTreeMap<String, RoleTarget>,
    /// Holds two roles in proportion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_constraint: Option<RatioConstraint>,
}

/// The bounds of one role, and its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (MIN_UP_TO_MAX.0, MIN_UP_TO_MAX.1))]
pub struct RoleTarget {
    /// The fewest role replicas.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_replicas: i32,
    /// The most role replicas. Equal to the fewest, the role is fixed and needs no metrics.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_replicas: i32,
    /// Instead of the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub metrics: Option<Vec<Metric>>,
    /// Where the metrics come from, by metric name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub metric_sources: MetricSources,
}

/// Holds two roles in proportion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.numeratorRole != self.denominatorRole").message(
    "numeratorRole and denominatorRole must differ"
))]
pub struct RatioConstraint {
    /// The role above the line.
    #[schemars(length(max = 63))]
    pub numerator_role: String,
    /// The role below the line.
    #[schemars(length(max = 63))]
    pub denominator_role: String,
    /// The least of numerator over denominator.
    pub min_ratio: Quantity,
    /// The most of numerator over denominator.
    pub max_ratio: Quantity,
}

/// What the policy did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoscalingPolicyStatus {
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `TargetFound`, `RatioConstraintViolated`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Of a homogeneousTarget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homogeneous_status: Option<TargetStatus>,
    /// Of a heterogeneousTarget.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heterogeneous_status: Vec<TargetStatus>,
    /// Of a disaggregatedTarget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disaggregated_status: Option<DisaggregatedStatus>,
}

/// What became of one scaled number: a ModelServing's groups, or a role's replicas.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetStatus {
    /// The ModelServing or role.
    pub name: String,
    /// What there is.
    pub current_replicas: i32,
    /// What there is to be.
    pub desired_replicas: i32,
    /// Which policy is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ScalingMode>,
    /// When it was last scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
}

/// Which policy is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum ScalingMode {
    Stable,
    Panic,
}

/// What became of the roles.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DisaggregatedStatus {
    /// One entry per role.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub roles: Vec<TargetStatus>,
    /// Of the ratioConstraint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_status: Option<RatioStatus>,
    /// Whether the ratio changed what the metrics asked for.
    pub ratio_adjusted: bool,
}

/// The proportion of two roles.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RatioStatus {
    /// The role above the line.
    pub numerator_role: String,
    /// The role below the line.
    pub denominator_role: String,
    /// Numerator over denominator.
    pub current_ratio: String,
}
