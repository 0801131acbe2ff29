//! Objects of any kind from YAML, put there by server-side apply.

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, DynamicObject, GroupVersionKind, Patch, PatchParams, ValidationDirective};
use kube::core::discovery::Scope;
use kube::discovery::pinned_kind;
use serde::Deserialize;

/// Applies each document, in order. An object without a namespace goes into `namespace` where its kind has any.
pub(super) async fn apply(client: &Client, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for document in serde_norway::Deserializer::from_str(yaml) {
        let object = Option::<DynamicObject>::deserialize(document).context("a document that is no object")?;
        // A file may end with a separator.
        if let Some(object) = object {
            applied.push(apply_one(client, namespace, &object).await?);
        }
    }
    Ok(applied)
}

async fn apply_one(client: &Client, namespace: &str, object: &DynamicObject) -> Result<DynamicObject> {
    let types = object.types.as_ref().context("an object without apiVersion and kind")?;
    let name = object.metadata.name.as_deref().with_context(|| format!("a {} without a name", types.kind))?;
    let (resource, capabilities) = pinned_kind(client, &GroupVersionKind::try_from(types)?).await?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
    let api = match capabilities.scope {
        Scope::Namespaced => Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource),
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    };
    let params =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("perf-tests").force() };
    let applied = api.patch(name, &params, &Patch::Apply(object)).await;
    applied.with_context(|| format!("applying {} {name} in {namespace}", types.kind))
}
