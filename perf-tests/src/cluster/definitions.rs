//! The definitions of `helm/crds`, put there as the chart puts them: by server-side apply.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};

const DEADLINE: Duration = Duration::from_secs(30);

pub(super) async fn install(client: &Client) -> Result<Vec<String>> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/crds"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        // Untyped, so that nothing of the file is lost on its way.
        let definition: serde_json::Value =
            serde_norway::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        let name = definition["metadata"]["name"].as_str().context("a definition without a name")?.to_owned();
        let params = PatchParams {
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..PatchParams::apply("perf-tests")
        };
        let applied = api.patch(&name, &params, &Patch::Apply(&definition)).await;
        names.push(applied.with_context(|| format!("applying {}", path.display()))?.name_any());
    }
    for name in &names {
        let established = await_condition(api.clone(), name, conditions::is_crd_established());
        tokio::time::timeout(DEADLINE, established)
            .await
            .with_context(|| format!("{name} is not established after {DEADLINE:?}"))??;
    }
    Ok(names)
}
