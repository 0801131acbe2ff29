//! ModelServing: groups of pods that together serve a model.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pod::{PodTemplate, any};

/// Groups of pods that together serve a model.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelServing",
    namespaced,
    status = "ModelServingStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.labelSelector"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableReplicas"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.updatedReplicas"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "self.recoveryPolicy != 'ServingGroupRecreate' || !has(self.rolloutStrategy) || \
         self.rolloutStrategy.type != 'RoleRollingUpdate'"
    ).message(
        "ServingGroupRecreate does not go with RoleRollingUpdate: use recoveryPolicy RoleRecreate, or \
         rolloutStrategy.type ServingGroupRollingUpdate"
    ),
    validation = Rule::new(
        "(has(self.rolloutStrategy) && self.rolloutStrategy.type == 'RoleRollingUpdate') || \
         self.template.roles.all(r, !has(r.partition))"
    ).message("partition of a role is for rolloutStrategy.type RoleRollingUpdate: set that, or remove partition")
)]
pub struct ModelServingSpec {
    /// Serving groups.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Put into every pod, over what its template says.
    #[serde(default = "ModelServingSpec::default_scheduler")]
    pub scheduler_name: String,
    /// Run in order on every pod that is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.all(p, self.exists_one(other, other.name == p.name))").message(
        "a plugin runs once: remove one of the two with the same name"
    ))]
    pub plugins: Vec<Plugin>,
    /// One serving group.
    pub template: ServingGroup,
    /// How pods are replaced when the template changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_strategy: Option<RolloutStrategy>,
    /// What is made anew when a pod fails.
    #[serde(default)]
    pub recovery_policy: RecoveryPolicy,
}

fn one() -> i32 {
    1
}

impl ModelServingSpec {
    fn default_scheduler() -> String {
        "volcano".to_owned()
    }
}

/// Changes pods when they are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// The name of a built-in plugin.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where the plugin comes from.
    #[serde(default, rename = "type")]
    pub kind: PluginType,
    /// What the plugin takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any")]
    pub config: Option<Value>,
    /// Which pods; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<PluginScope>,
}

/// Where a plugin comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum PluginType {
    #[default]
    BuiltIn,
}

/// Which pods a plugin changes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginScope {
    /// Roles by name; all where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Which pods of a role.
    #[serde(default)]
    pub target: PluginTarget,
}

/// Which pods of a role a plugin changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum PluginTarget {
    #[default]
    All,
    Entry,
    Worker,
}

/// One serving group: its roles, and what holds them together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.gangPolicy) || has(self.gangPolicy)").message(
        "gangPolicy is required once set: running groups were scheduled by it"
    ),
    validation = Rule::new(
        "!has(self.gangPolicy) || !has(self.gangPolicy.minRoleReplicas) || self.gangPolicy.minRoleReplicas.all(name, \
         self.roles.exists(r, r.name == name && self.gangPolicy.minRoleReplicas[name] <= r.replicas))"
    ).message("minRoleReplicas must name roles of this template, each with no more replicas than the role has")
)]
pub struct ServingGroup {
    /// How long a failed pod may take to come back before its recovery begins.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub restart_grace_period_seconds: i64,
    /// How much of a group must fit before any of it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang_policy: Option<GangPolicy>,
    /// How near to each other its pods must be; passed on to Volcano.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_topology: Option<GroupTopology>,
    /// Kinds of pods.
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(validation = Rule::new("self.all(r, self.exists_one(other, other.name == r.name))").message(
        "roles name must be unique: give each role its own name"
    ))]
    pub roles: Vec<Role>,
}

/// How much of a group must fit before any of it starts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.minRoleReplicas) || has(self.minRoleReplicas)").message(
    "minRoleReplicas is required once set: running groups were scheduled by it"
))]
pub struct GangPolicy {
    /// By role: replicas that must fit. A role that is not named counts with all of its replicas.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 4,
        "additionalProperties" = {"type": "integer", "format": "int32", "minimum": 0}
    ))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "minRoleReplicas is immutable: running groups were scheduled by it; create another ModelServing instead"
    ))]
    pub min_role_replicas: BTreeMap<String, i32>,
}

/// How near to each other pods must be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupTopology {
    /// All pods of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_policy: Option<NetworkTopology>,
    /// The pods of each role replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_policy: Option<NetworkTopology>,
}

/// Volcano's NetworkTopologySpec.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkTopology {
    /// Whether it must or should hold.
    #[serde(default)]
    pub mode: TopologyMode,
    /// The highest tier that pods may span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub highest_tier_allowed: Option<i64>,
    /// The same by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub highest_tier_name: Option<String>,
}

/// Whether a topology must or should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum TopologyMode {
    #[default]
    Hard,
    Soft,
}

/// One kind of pods of a group: an entry pod and its workers, so many times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.workerReplicas == 0 || has(self.workerTemplate)").message(
    "workerTemplate is required when workerReplicas is above 0"
))]
pub struct Role {
    /// Part of pod names, therefore short.
    #[schemars(length(min = 1, max = 12), regex(pattern = "^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(
        "a role name is part of pod names: use lower-case letters, digits and '-', beginning with a letter"
    ))]
    pub name: String,
    /// How many of it in each group.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// The pod that takes requests.
    pub entry_template: PodTemplate,
    /// Worker pods beside each entry pod.
    #[schemars(range(min = 0))]
    pub worker_replicas: i32,
    /// The worker pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_template: Option<PodTemplate>,
    /// With RoleRollingUpdate: role replicas that may be missing at once, a number or a share; shares round down.
    #[serde(default = "one_of_them")]
    pub max_unavailable: IntOrString,
    /// With RoleRollingUpdate: the first so many role replicas keep their revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<IntOrString>,
}

fn one_of_them() -> IntOrString {
    IntOrString::Int(1)
}

/// How pods are replaced when the template changes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.type != 'RoleRollingUpdate' || !has(self.rollingUpdateConfiguration)"
).message("with RoleRollingUpdate set maxUnavailable and partition on each role, not rollingUpdateConfiguration"))]
pub struct RolloutStrategy {
    /// What is replaced at a time.
    #[serde(default, rename = "type")]
    pub kind: RolloutType,
    /// With ServingGroupRollingUpdate: how many at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update_configuration: Option<RollingUpdate>,
}

/// What a rollout replaces at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum RolloutType {
    #[default]
    ServingGroupRollingUpdate,
    RoleRollingUpdate,
}

/// How many groups a rollout replaces at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdate {
    /// Groups that may be missing at once, a number or a share; shares round down.
    #[serde(default = "one_of_them")]
    pub max_unavailable: IntOrString,
    /// The first so many groups keep their revision; shares round up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<IntOrString>,
}

/// What is made anew when a pod fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum RecoveryPolicy {
    ServingGroupRecreate,
    #[default]
    RoleRecreate,
    None,
}

/// What became of the groups.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelServingStatus {
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Groups that exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Groups of the old revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_replicas: Option<i32>,
    /// Groups of the new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_replicas: Option<i32>,
    /// Groups that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,
    /// The old revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,
    /// The new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_revision: Option<String>,
    /// `Available`, `Progressing`, `UpdateInProgress`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Selects one pod of each group, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,
}
