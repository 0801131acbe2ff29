//! Definitions, put there as the chart puts its own: by server-side apply.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::discovery::Discovery;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use tokio::time::{Instant, sleep};

use super::modules;

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Those of `helm/crds`.
pub(super) async fn install(client: &Client) -> Result<Vec<String>> {
    let folder = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/crds"))?;
    let files = folder.map(|entry| Ok(entry?.path()));
    apply(client, files.collect::<Result<_>>()?).await
}

/// Those of Prometheus Operator and cert-manager, as far as the chart makes objects of them, and waits until helm would see them.
pub(super) async fn install_of_others(client: &Client) -> Result<Vec<String>> {
    let names = apply(client, modules::definitions()?).await?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let told = Discovery::new(client.clone()).run_aggregated().await?;
        // A name is the plural of its kind, and the group after the first dot.
        let hidden = names.iter().find(|name| {
            let (plural, group) = name.split_once('.').unwrap_or_default();
            let group = told.get(group).map(|group| group.recommended_resources()).unwrap_or_default();
            !group.iter().any(|(resource, _)| resource.plural == plural)
        });
        let Some(one) = hidden else { return Ok(names) };
        ensure!(Instant::now() < deadline, "the API server does not tell of {one} after {DEADLINE:?}");
        sleep(POLL).await;
    }
}

async fn apply(client: &Client, files: Vec<PathBuf>) -> Result<Vec<String>> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let mut names = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
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
