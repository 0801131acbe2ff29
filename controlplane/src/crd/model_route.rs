//! ModelRoute: which ModelServer or external provider answers for a model name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Programming;
use super::last_good::LastGoodForm;
use super::matching::ModelMatch;

/// Which ModelServer or external provider answers for a model name.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelRoute",
    namespaced,
    status = "ModelRouteStatus",
    derive = "PartialEq",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.modelName"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status"
    ),
    printcolumn(name = "Acknowledged", type_ = "integer", json_path = ".status.dataPlanes.acknowledged"),
    printcolumn(name = "Connected", type_ = "integer", json_path = ".status.dataPlanes.connected", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "(has(self.modelName) && self.modelName != '') || (has(self.loraAdapters) && size(self.loraAdapters) > 0)"
    ).message("set modelName, or list at least one name in loraAdapters: a route answers for a model name"),
    validation = Rule::new(
        "!has(self.loraAdapters) || size(self.loraAdapters) == 0 || self.rules.all(r, r.targetModels.all(t, \
         !has(t.externalModelProviderName) || t.externalModelProviderName == ''))"
    ).message("a route with loraAdapters must target modelServerName only: an external provider has no adapters"),
    validation = Rule::new(
        "!has(self.modelName) || !has(self.loraAdapters) || !(self.modelName in self.loraAdapters)"
    ).message("modelName must not stand in loraAdapters too: remove it from one of them")
)]
pub struct ModelRouteSpec {
    /// The model that clients ask for; may be virtual. Cannot be changed once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "modelName is immutable: create a ModelRoute with the new name and delete this one"
    ))]
    pub model_name: Option<String>,
    /// Further names that clients ask for. A match by one of these forwards the name unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub lora_adapters: Vec<String>,
    /// The Gateways that this route attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentReference>,
    /// In order; the first rule whose match succeeds is used.
    #[schemars(length(max = 16))]
    pub rules: Vec<RouteRule>,
    /// Tokens that this model may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// Gateway API's reference to a Gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// The API group of the parent.
    #[serde(default = "ParentReference::default_group")]
    #[schemars(length(max = 253))]
    pub group: String,
    /// The kind of the parent.
    #[serde(default = "ParentReference::default_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The parent's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The parent's namespace; the route's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The listener of the Gateway; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
    /// The port of the listener; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

impl ParentReference {
    fn default_group() -> String {
        "gateway.networking.k8s.io".to_owned()
    }

    fn default_kind() -> String {
        "Gateway".to_owned()
    }
}

/// Conditions, and where the request goes when all of them hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.targetModels.exists(t, !has(t.weight) || t.weight > 0)").message(
    "the weights of a rule's targetModels must not all be 0: give at least one target a weight above 0"
))]
pub struct RouteRule {
    /// A label for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub name: Option<String>,
    /// Absent matches every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_match: Option<ModelMatch>,
    /// Weighted choices.
    #[schemars(length(min = 1, max = 16))]
    pub target_models: Vec<TargetModel>,
}

/// One weighted choice: exactly one of the two names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(has(self.modelServerName) && self.modelServerName != '') != \
     (has(self.externalModelProviderName) && self.externalModelProviderName != '')"
).message("exactly one of modelServerName or externalModelProviderName must be set"))]
pub struct TargetModel {
    /// A ModelServer of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub model_server_name: Option<String>,
    /// An ExternalModelProvider of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub external_model_provider_name: Option<String>,
    /// Relative to the sum of the rule's weights; 0 takes no traffic.
    #[serde(default = "TargetModel::default_weight")]
    #[schemars(range(min = 0, max = 100))]
    pub weight: u32,
}

impl TargetModel {
    fn default_weight() -> u32 {
        100
    }
}

/// Token buckets over all requests for the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Prompt tokens per unit; absent is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub input_tokens_per_unit: Option<u32>,
    /// Answer tokens per unit; absent is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub output_tokens_per_unit: Option<u32>,
    /// What the limits are per.
    #[serde(default)]
    pub unit: RateLimitUnit,
    /// Counts over all data planes instead of each on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<GlobalRateLimit>,
}

/// The time over which a limit is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum RateLimitUnit {
    #[default]
    Second,
    Minute,
    Hour,
    Day,
    Month,
}

/// Where the counts are kept that all data planes share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GlobalRateLimit {
    /// A Redis server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// `host:port`.
    #[schemars(length(max = 261))]
    #[x_kube(validation = Rule::new("self.matches('^[^/@\\\\s]+:[0-9]{1,5}$')").message(
        "address must be host:port, such as redis-server.kthena-system.svc:6379"
    ))]
    pub address: String,
}

/// What became of the route.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `ResolvedRefs`, `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many data planes run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_planes: Option<Programming>,
    /// The form that was good before a later one that is refused, and is in force meanwhile, also after a restart of the control plane.
    /// It is here only while that is so; one larger than 64 KiB is not kept. Written by the control plane:
    /// who else may write statuses chooses thereby what is in force of a refused object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGoodForm>,
}
