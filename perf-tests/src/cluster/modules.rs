//! The definitions of others, as files of the Go modules that `perf-tests/cluster/definitions` pins. Go keeps modules in a cache of its own, so
//! they are fetched once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// A module, and where in it are the kinds that the chart makes objects of.
const DEFINED: [(&str, &[&str]); 2] = [
    (
        "github.com/cert-manager/cert-manager",
        &["deploy/crds/cert-manager.io_certificates.yaml", "deploy/crds/cert-manager.io_issuers.yaml"],
    ),
    (
        "github.com/prometheus-operator/prometheus-operator",
        &[
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        ],
    ),
];

/// Of what go says of a module.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    path: String,
    dir: Option<PathBuf>,
    error: Option<String>,
}

/// The files of all definitions.
pub(super) fn definitions() -> Result<Vec<PathBuf>> {
    let output = Command::new("go")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/definitions"))
        .env("GOTOOLCHAIN", "auto")
        .args(["mod", "download", "-json"])
        .args(DEFINED.map(|(module, _)| module))
        .output()
        .context("running go: install it (`.ci/run kube` does)")?;
    // What is wrong with one module is in what is said of it, and the rest here.
    let said = String::from_utf8_lossy(&output.stderr);
    let modules = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Downloaded>();
    let modules = modules.collect::<Result<Vec<_>, _>>().with_context(|| format!("go mod download: {said}"))?;
    let mut found = Vec::new();
    for (module, files) in DEFINED {
        let folder = match modules.iter().find(|downloaded| downloaded.path == module) {
            Some(Downloaded { dir: Some(folder), error: None, .. }) => folder,
            other => bail!("go has no module {module}: {other:?} {said}"),
        };
        found.extend(files.iter().map(|file| folder.join(file)));
    }
    ensure!(output.status.success(), "go mod download: {said}");
    Ok(found)
}
