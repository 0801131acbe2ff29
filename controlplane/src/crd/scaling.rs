//! What AutoscalingPolicy and AutoscalingPolicyBinding share: targets, and where their metrics come from.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pod::LabelSelector;

/// core/v1 ObjectReference to a ModelServing of the same namespace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.kind) || self.kind in ['', 'ModelServing']").message(
        "targetRef.kind must be ModelServing: nothing else can be scaled"
    ),
    validation = Rule::new(
        "!has(self.apiVersion) || self.apiVersion == '' || self.apiVersion.startsWith('workload.serving.volcano.sh/')"
    ).message("targetRef.apiVersion must be workload.serving.volcano.sh/v1alpha1, or left out"),
    validation = Rule::new("has(self.name) && self.name != ''").message("targetRef.name must name a ModelServing")
)]
pub struct TargetRef {
    /// `workload.serving.volcano.sh/v1alpha1`, or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub api_version: Option<String>,
    /// `ModelServing`, or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub kind: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub name: String,
    /// The object's own namespace, or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_path: Option<String>,
    /// Without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// Where a metric comes from: pods or Prometheus.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.pod) || has(self.prometheus)").message(
        "one metric source backend config is required: set pod or prometheus"
    ),
    validation = Rule::new("!has(self.pod) || !has(self.prometheus)").message(
        "pod and prometheus configs are mutually exclusive: remove one"
    ),
    validation = Rule::new("!has(self.type) || (self.type == 'Prometheus' ? has(self.prometheus) : has(self.pod))").message(
        "type must name the backend config that is set; it can be left out"
    )
)]
pub struct MetricSource {
    /// Of release 0.4; follows from which of the two is set.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<MetricSourceType>,
    /// The target's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodMetric>,
    /// A Prometheus server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusMetric>,
}

/// Where a metric comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum MetricSourceType {
    Pod,
    Prometheus,
}

/// A metric that the target's pods expose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetric {
    /// The Prometheus family; the metric's own name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The path.
    #[serde(default = "metrics_path")]
    #[schemars(length(max = 1024), regex(pattern = "^/"))]
    pub uri: String,
    /// The port.
    #[serde(default = "metrics_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Which of the target's pods; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
}

fn metrics_path() -> String {
    "/metrics".to_owned()
}

fn metrics_port() -> i32 {
    8100
}

/// A metric that a Prometheus server computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusMetric {
    /// The server.
    #[serde(rename = "serverURL")]
    #[schemars(length(min = 1, max = 2048), extend("format" = "uri"))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#\\\\s]+')").message(
        "serverURL must begin with http:// or https:// and name a host"
    ))]
    pub server_url: String,
    /// PromQL that results in one number.
    #[schemars(length(min = 1))]
    pub query: String,
    /// Reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<PrometheusAuth>,
}

/// Reserved.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PrometheusAuth {}

/// By metric name.
pub type MetricSources = BTreeMap<String, MetricSource>;

/// The bounds of one scaled number.
pub(super) const MIN_UP_TO_MAX: (&str, &str) =
    ("self.minReplicas <= self.maxReplicas", "minReplicas must not be above maxReplicas");
