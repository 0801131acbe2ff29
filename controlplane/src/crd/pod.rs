//! What is Kubernetes' own in our objects: pod templates and their parts. They stay JSON, for typed structs would drop the
//! fields of newer servers; their schema is the API server's (`pod_spec.json`, made by `.ci/pod_spec.py`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

static POD_SPEC: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("pod_spec.json")).expect("a generated file, parsed by a test"));

/// A pod to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// What the pod gets besides what we add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodMetadata>,
    /// core/v1 PodSpec.
    pub spec: PodSpec,
}

/// Labels and annotations of a pod to be made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

macro_rules! kubernetes {
    ($(#[$doc:meta])* $name:ident, $path:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Value);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let found = POD_SPEC.pointer($path).expect("a part of PodSpec").clone();
                Schema::try_from(found).expect("a schema is an object")
            }
        }
    };
}

kubernetes!(
    /// core/v1 PodSpec.
    PodSpec, ""
);
kubernetes!(
    /// A list of core/v1 EnvVar, by name.
    Env, "/properties/containers/items/properties/env"
);
kubernetes!(
    /// A list of core/v1 EnvFromSource.
    EnvFrom, "/properties/containers/items/properties/envFrom"
);
kubernetes!(
    /// core/v1 ResourceRequirements.
    Resources, "/properties/containers/items/properties/resources"
);
kubernetes!(
    /// core/v1 Affinity.
    Affinity, "/properties/affinity"
);
kubernetes!(
    /// A list of core/v1 Toleration.
    Tolerations, "/properties/tolerations"
);
kubernetes!(
    /// meta/v1 LabelSelector.
    LabelSelector, "/properties/topologySpreadConstraints/items/properties/labelSelector"
);

impl PodSpec {
    /// The images of the containers, with their position; init containers and ephemeral ones are not looked at.
    pub fn images(&self) -> impl Iterator<Item = (usize, &str)> {
        let containers = self.0["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        containers.iter().enumerate().filter_map(|(i, c)| Some((i, c["image"].as_str()?)))
    }
}

/// Any object. Unlike [`any`] it has a type, without which CEL does not see the field.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Any list of objects.
pub(super) fn any_list(generator: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "array", "items": any_object(generator), "maxItems": 1000 })
}

/// Any JSON: the API server keeps it as it is.
pub(super) fn any(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}
