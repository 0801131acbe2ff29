//! The chart, rendered or installed by the real helm.

pub mod readme;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What is rendered with.
#[derive(Debug, Clone, Default)]
pub struct Render<'a> {
    /// The chart's folder; ours where it is empty.
    pub folder: &'a str,
    /// `--values`; the chart's own alone where it is empty.
    pub values: &'a str,
    /// `--set`, each.
    pub set: &'a [&'a str],
    /// `--api-versions`, each.
    pub api_versions: &'a [&'a str],
    /// `--kube-version`; helm's own where it is empty.
    pub kubernetes: &'a str,
    /// Of the release; `serving` where it is empty.
    pub namespace: &'a str,
    /// Its name; `kthena` where it is empty.
    pub release: &'a str,
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm")
}

/// helm with these arguments. It is found in `$KTHENA_HELM`, else on the path.
pub fn helm(arguments: &[&str]) -> Result<Output> {
    let program = env::var_os("KTHENA_HELM").unwrap_or_else(|| "helm".into());
    let output = Command::new(&program).args(arguments).output();
    output.with_context(|| format!("running {}: `.ci/run helm` brings it", program.display()))
}

impl<'a> Render<'a> {
    /// The values as helm is told them.
    pub fn settings(&self) -> Vec<&'a str> {
        let file = if self.values.is_empty() { Vec::new() } else { vec!["--values", self.values] };
        file.into_iter().chain(self.set.iter().flat_map(|set| ["--set", *set])).collect()
    }

    /// The objects of the release, or what helm says against it.
    pub fn objects(&self) -> Result<Vec<Value>> {
        let ours = chart();
        let ours = ours.to_string_lossy();
        let folder = if self.folder.is_empty() { &ours } else { self.folder };
        let namespace = if self.namespace.is_empty() { "serving" } else { self.namespace };
        let release = if self.release.is_empty() { "kthena" } else { self.release };
        let mut arguments = vec!["template", release, folder, "--namespace", namespace];
        arguments.extend(self.settings());
        self.api_versions.iter().for_each(|version| arguments.extend(["--api-versions", version]));
        if !self.kubernetes.is_empty() {
            arguments.extend(["--kube-version", self.kubernetes]);
        }
        let output = helm(&arguments)?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        documents(&String::from_utf8(output.stdout)?)
    }
}

/// The objects of a YAML stream. A key that a map has twice is an error: which of the two counts is each reader's own choice.
pub fn documents(stream: &str) -> Result<Vec<Value>> {
    use serde::Deserialize as _;
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_str(stream) {
        // serde_json's own value would keep the last of two.
        let value = serde_norway::Value::deserialize(document).context("what helm rendered is no YAML")?;
        if !value.is_null() {
            objects.push(serde_json::to_value(value)?);
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_an_error() {
        let said = format!("{:#}", documents("a: {b: 1}\n---\na:\n  b: 1\n  c: 2\n  b: 3\n").unwrap_err());
        assert!(said.contains("duplicate entry with key \"b\""), "{said}");
        let stream = "a: &one {b: '1'}\nc: *one\n---\n# nothing\n---\na: 2\n";
        assert_eq!(
            documents(stream).unwrap(),
            [serde_json::json!({"a": {"b": "1"}, "c": {"b": "1"}}), serde_json::json!({"a": 2})]
        );
    }
}
