//! ExternalModelProvider: an OpenAI- or Anthropic-shaped API outside the cluster.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::ConditionStatus;

/// An OpenAI- or Anthropic-shaped API outside the cluster.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ExternalModelProvider",
    namespaced,
    status = "ConditionStatus",
    derive = "PartialEq",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.providerType"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.baseURL"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ExternalModelProviderSpec {
    /// Which API it speaks.
    #[serde(default)]
    pub provider_type: ProviderType,
    /// Replaces the request's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub model: Option<String>,
    /// The root of the API.
    #[serde(rename = "baseURL")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https://.+"))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^/?#@\\\\s]+(/[^?#\\\\s]*)?$')").message(
        "baseURL must be https://host[:port][/path], without user info, query or fragment"
    ))]
    pub base_url: String,
    /// Skips the check of the provider's certificate.
    #[serde(default)]
    pub insecure_skip_verify: bool,
    /// Our credential there; none where it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ProviderAuth>,
    /// Sent with every request; nothing secret belongs here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    #[x_kube(validation = Rule::new("self.all(h, !self[h].contains('\\n') && !self[h].contains('\\r'))").message(
        "the value of a header must not contain line breaks"
    ))]
    pub headers: BTreeMap<String, String>,
}

/// Which API a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum ProviderType {
    #[default]
    OpenAI,
    Anthropic,
}

/// Our credential at a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderAuth {
    /// How it is sent; where absent, Bearer for OpenAI and APIKey for Anthropic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<AuthScheme>,
    /// The Secret that holds it. It needs the label
    /// `networking.serving.volcano.sh/external-model-provider-credential: "true"`.
    pub secret_ref: SecretKey,
}

/// How a credential is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthScheme {
    /// `Authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    #[serde(rename = "APIKey")]
    ApiKey,
}

/// One key of a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.optional) || !self.optional")
        .message("secretRef.optional must be false or unset"),
    validation = Rule::new("has(self.name) && self.name != ''").message("secretRef.name must name a Secret")
)]
pub struct SecretKey {
    /// The Secret's name.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Not supported: a provider without its credential is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}
