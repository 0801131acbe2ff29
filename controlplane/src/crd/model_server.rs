//! ModelServer: a group of engines that serve the same model, and how they are to be treated.
#![allow(dead_code, reason = "KubeSchema copies the struct, and of the copy no field is read that serde skips")]

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Programming;
use super::last_good::LastGoodForm;

/// A group of engines that serve the same model, and how they are to be treated.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelServer",
    namespaced,
    status = "ModelServerStatus",
    derive = "PartialEq",
    printcolumn(name = "Engine", type_ = "string", json_path = ".spec.inferenceEngine"),
    printcolumn(name = "Port", type_ = "integer", json_path = ".spec.workloadPort.port"),
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.workloadPort.protocol"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.workloadSelector.pdGroup) || self.inferenceEngine in ['vLLM', 'SGLang']"
    ).message("pdGroup needs inferenceEngine vLLM or SGLang: Triton and TorchServe do not split prefill from decode"),
    validation = Rule::new("!has(self.managementPort) || self.inferenceEngine == 'TorchServe'").message(
        "managementPort is TorchServe's management API: remove it, or set inferenceEngine: TorchServe"
    ),
    validation = Rule::new(
        "!has(self.kvConnector) || self.inferenceEngine == 'vLLM' || \
         (self.inferenceEngine == 'SGLang' && self.kvConnector.type in ['http', 'lmcache'])"
    ).message("this kvConnector is not for this inferenceEngine: nixl and mooncake are vLLM's, remove kvConnector")
)]
pub struct ModelServerSpec {
    /// Replaces the request's model, unless the route matched by an adapter name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub model: Option<String>,
    /// The program that runs in the pods.
    pub inference_engine: InferenceEngine,
    /// Which pods of the same namespace.
    pub workload_selector: WorkloadSelector,
    /// Where they take inference requests.
    pub workload_port: WorkloadPort,
    /// Time limits and retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
    /// How prefill hands its result to decode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_connector: Option<KvConnector>,
    /// Where the engine's metrics are, if not where the engine has them by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsEndpoint>,
    /// TorchServe's management API; 8081 where absent. Only it tells which workers live and how much waits, and the control plane has no
    /// token to show there: start TorchServe with disable_token_authorization=true, which is not its default. Else each pod counts as
    /// ready, and of what waits no more is known than metrics say, which are empty unless metrics_mode=prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub management_port: Option<u16>,
    /// The model's chat template. With it data planes know which text an engine has cached, and route by it.
    /// Where it is absent it is the model's own, by spec.model, from the control plane's folder of vocabularies:
    /// chat_template.jinja, else chat_template of tokenizer_config.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<ChatTemplate>,
    /// What was found among the model's files where `chat_template` is absent. No part of the object: it is neither read nor written.
    #[serde(skip)]
    pub found_template: Option<Arc<ChatTemplate>>,
}

/// The model's chat template and what its tokenizer adds, as the model's tokenizer_config.json has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatTemplate {
    /// The Jinja text: `chat_template` there, or the file chat_template.jinja.
    #[schemars(length(min = 1, max = 131_072))]
    pub template: String,
    /// Variables of the template such as `bos_token` and `eos_token`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": 256}))]
    pub tokens: BTreeMap<String, String>,
    /// The text that the tokenizer puts before a plain prompt, such as `<s>` where `add_bos_token` is true; none where absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub prompt_prefix: String,
}

/// The program that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum InferenceEngine {
    /// vLLM's OpenAI server.
    #[serde(rename = "vLLM")]
    Vllm,
    /// SGLang.
    #[serde(rename = "SGLang")]
    Sglang,
    /// Triton, its HTTP endpoint.
    Triton,
    /// TorchServe, its inference endpoint.
    TorchServe,
}

/// Which pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.matchLabels) && size(self.matchLabels) > 0").message(
    "matchLabels must hold at least one label: without one it would select every pod of the namespace"
))]
pub struct WorkloadSelector {
    /// Pods that have all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Prefill and decode in pods of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pd_group: Option<PdGroup>,
}

/// How prefill and decode pods are told apart and paired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.decodeLabels.exists(k, !(k in self.prefillLabels) || self.prefillLabels[k] != self.decodeLabels[k])"
).message(
    "decodeLabels must hold a label that prefillLabels does not: decode is tried first, so no pod would be prefill"
))]
pub struct PdGroup {
    /// A label key: prefill and decode pods pair only if they share its value.
    #[schemars(length(min = 1, max = 317))]
    pub group_key: String,
    /// Pods that have all of these labels are prefill.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "maxLength": 63}
    ))]
    pub prefill_labels: BTreeMap<String, String>,
    /// Pods that have all of these labels are decode; tried first.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "maxLength": 63}
    ))]
    pub decode_labels: BTreeMap<String, String>,
}

/// Where pods take inference requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPort {
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Plain text or TLS.
    #[serde(default)]
    pub protocol: PortProtocol,
}

/// Plain text or TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum PortProtocol {
    #[default]
    Http,
    Https,
}

/// Time limits and retries.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// From connecting to the head of the answer, for example `10s` or `1m30s`. More than a day counts as a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = super::duration::rule())]
    pub timeout: Option<String>,
    /// When a failed attempt is repeated at another pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
}

/// When a failed attempt is repeated at another pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Attempts beyond the first. More than 5 count as 5.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempts: i32,
    /// Pause before each of them. More than a minute counts as a minute.
    #[serde(default = "RetryPolicy::default_interval")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = super::duration::rule())]
    pub retry_interval: String,
}

impl RetryPolicy {
    fn default_interval() -> String {
        "100ms".to_owned()
    }
}

/// How prefill hands its result to decode.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KvConnector {
    /// The protocol.
    #[serde(default, rename = "type")]
    pub kind: KvConnectorType,
}

/// The protocol between prefill and decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum KvConnectorType {
    #[default]
    Http,
    Lmcache,
    Nixl,
    Mooncake,
}

/// Where the engine's metrics are. vLLM and SGLang have them on the workload port, Triton on 8002, TorchServe on 8082.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsEndpoint {
    /// The port; the engine's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The path; `/metrics` where absent.
    #[serde(default = "MetricsEndpoint::default_path")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("path must begin with /, such as /metrics"))]
    pub path: String,
}

impl MetricsEndpoint {
    fn default_path() -> String {
        "/metrics".to_owned()
    }
}

/// What became of the server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelServerStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Programmed`, `Ready`.
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
