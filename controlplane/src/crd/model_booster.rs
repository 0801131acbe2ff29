//! ModelBooster: a model in a few lines; makes ModelServing, ModelServer and ModelRoute.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::ConditionStatus;
use super::matching::ModelMatch;
use super::pod::{Affinity, Env, EnvFrom, Resources, Tolerations, any, any_list, any_object};

/// A model in a few lines; makes ModelServing, ModelServer and ModelRoute.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelBooster",
    namespaced,
    status = "ConditionStatus",
    derive = "PartialEq",
    printcolumn(name = "Active", type_ = "string", json_path = ".status.conditions[?(@.type=='Active')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.backends)").message(
        "backends was replaced by backend: write its one entry as spec.backend, and a ModelBooster for each further one"
    ),
    validation = Rule::new("has(self.backend) || has(self.backends)").message("backend is missing: this field is required")
)]
pub struct ModelBoosterSpec {
    /// The name that clients ask for; metadata.name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What runs the model. Required: by a rule, for without a required field API servers ask no rule, and whoever writes
    /// `backends` would not be told what took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BoosterBackend>,
    /// Conditions of the rule of the ModelRoute that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_match: Option<ModelMatch>,
    /// Of release 0.1; refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_list")]
    pub backends: Option<Value>,
}

/// What runs the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minReplicas) && !has(self.maxReplicas)").message(
        "minReplicas and maxReplicas were replaced: set replicas, and for a range an AutoscalingPolicy whose \
         homogeneousTarget names the ModelServing"
    ),
    validation = Rule::new("!has(self.autoscalingPolicy)").message(
        "autoscalingPolicy was replaced: create an AutoscalingPolicy whose homogeneousTarget names the ModelServing"
    ),
    validation = Rule::new("!has(self.routeWeight)").message(
        "routeWeight was replaced: set weight on the targetModels of a ModelRoute"
    )
)]
pub struct BoosterBackend {
    /// Part of the names of what is made.
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The engine, and whether prefill and decode are apart.
    #[serde(rename = "type")]
    pub kind: BoosterBackendType,
    /// Where the weights come from.
    #[serde(rename = "modelURI")]
    #[schemars(length(max = 2048), regex(pattern = "^(hf://|s3://|obs://|pvc://|ms://).+"))]
    pub model_uri: String,
    /// Where the weights are kept.
    #[serde(default, rename = "cacheURI", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = "^(hostpath://|pvc://).+"))]
    pub cache_uri: Option<String>,
    /// For the downloader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_from: Option<EnvFrom>,
    /// For engine and downloader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Env>,
    /// Serving groups.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: i32,
    /// The pods of a group.
    #[schemars(length(min = 1, max = 1000))]
    pub workers: Vec<BoosterWorker>,
    /// The scheduler of the pods; ModelServing's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// The runtime class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Adapters that are loaded into every engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub lora_adapters: Vec<LoraAdapter>,
    /// Of release 0.1; refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// Of release 0.1; refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
    /// Of release 0.1; refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_weight: Option<i32>,
    /// Of release 0.1; refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub autoscaling_policy: Option<Value>,
}

/// The engine, and whether prefill and decode are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BoosterBackendType {
    /// vLLM, one kind of pods.
    #[serde(rename = "vLLM")]
    Vllm,
    /// vLLM, prefill and decode apart.
    #[serde(rename = "vLLMDisaggregated")]
    VllmDisaggregated,
}

/// The pods of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoosterWorker {
    /// What they do.
    #[serde(default, rename = "type")]
    pub kind: WorkerType,
    /// The engine's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Role replicas.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: i32,
    /// Pods of each role replica.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pods: i32,
    /// Of the engine's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Tolerations>,
    /// The engine's flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any")]
    pub config: Option<Value>,
}

/// What worker pods do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum WorkerType {
    #[default]
    Server,
    Prefill,
    Decode,
    Controller,
    Coordinator,
}

/// An adapter that is loaded into every engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoraAdapter {
    /// The name that clients ask for.
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where its weights come from.
    #[serde(rename = "artifactURL")]
    #[schemars(length(max = 2048), regex(pattern = "^(hf://|s3://|pvc://).+"))]
    pub artifact_url: String,
}
