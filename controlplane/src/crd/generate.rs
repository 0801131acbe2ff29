//! The CustomResourceDefinitions, as they are applied to a cluster.

use std::path::Path;
use std::{fs, io};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;
use serde_json::Value;

use super::{
    AutoscalingPolicy, AutoscalingPolicyBinding, ExternalModelProvider, ModelBooster, ModelRoute, ModelServer,
    ModelServing,
};
use crate::object::Kind;

/// What writes the files that hold them.
pub const GENERATED_BY: &str = "cargo run -p controlplane -- crdgen --write helm/crds";

/// The definition of a kind.
pub fn generate(kind: Kind) -> Value {
    let definition: CustomResourceDefinition = match kind {
        Kind::ModelRoute => ModelRoute::crd(),
        Kind::ModelServer => ModelServer::crd(),
        Kind::ExternalModelProvider => ExternalModelProvider::crd(),
        Kind::ModelServing => ModelServing::crd(),
        Kind::ModelBooster => ModelBooster::crd(),
        Kind::AutoscalingPolicy => AutoscalingPolicy::crd(),
        Kind::AutoscalingPolicyBinding => AutoscalingPolicyBinding::crd(),
    };
    let mut definition = serde_json::to_value(definition).expect("a definition is plain data");
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    // kube-derive's own text names the Rust type.
    schema["description"] = schema["properties"]["spec"]["description"].clone();
    tidy(schema);
    definition
}

/// The schema of a kind's objects.
pub fn schema(kind: Kind) -> Value {
    generate(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

/// The definition as a file's content.
pub fn yaml(kind: Kind) -> String {
    let body = serde_norway::to_string(&generate(kind)).expect("a definition is plain data");
    format!("# Generated: {GENERATED_BY}\n{body}")
}

/// All definitions as one YAML stream.
pub fn stream() -> String {
    Kind::ALL.into_iter().map(|kind| format!("---\n{}", yaml(kind))).collect()
}

/// Writes one file for each definition into the folder.
pub fn write(folder: &Path) -> io::Result<()> {
    Kind::ALL.into_iter().try_for_each(|kind| {
        let file = folder.join(file_name(kind));
        fs::write(&file, yaml(kind)).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))
    })
}

/// As controller-gen names its files, so that they replace Kthena's.
pub fn file_name(kind: Kind) -> String {
    format!("{}_{}.yaml", kind.group(), kind.plural())
}

/// Makes of what schemars says of Rust types what API servers expect: a null is an absent field (they then drop it and apply
/// the default), and only their own number formats.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("nullable");
            if let Some(Value::Array(values)) = fields.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(format) = fields.get_mut("format") {
                match format.as_str() {
                    Some("uint16" | "uint8") => *format = "int32".into(),
                    Some("uint32") => *format = "int64".into(),
                    _ => {}
                }
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
