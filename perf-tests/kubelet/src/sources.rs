//! The ConfigMaps and Secrets that a pod reads.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, PodSpec, Secret};
use kube::Client;
use kube::api::Api;
use serde_json::Value;

type Files = BTreeMap<String, Vec<u8>>;

/// What those have that exist.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) config_maps: BTreeMap<String, Files>,
    pub(super) secrets: BTreeMap<String, Files>,
}

impl Sources {
    pub(super) async fn fetch(client: &Client, namespace: &str, spec: &PodSpec) -> Result<Self> {
        let names = Names::of(spec);
        let mut found = Self::default();
        let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        for name in names.config_maps {
            if let Some(map) = maps.get_opt(&name).await? {
                let text = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
                let bytes = map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0));
                found.config_maps.insert(name, text.chain(bytes).collect());
            }
        }
        let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
        for name in names.secrets {
            if let Some(secret) = secrets.get_opt(&name).await? {
                let bytes = secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0));
                found.secrets.insert(name, bytes.collect());
            }
        }
        Ok(found)
    }
}

/// Which ones a pod names, anywhere.
#[derive(Debug, Default, PartialEq)]
struct Names {
    config_maps: Vec<String>,
    secrets: Vec<String>,
}

impl Names {
    /// The API has six places for them, all of which say what they are by the names of their fields.
    fn of(spec: &PodSpec) -> Self {
        let mut names = Self::default();
        names.seek(&serde_json::to_value(spec).unwrap_or_default());
        for list in [&mut names.config_maps, &mut names.secrets] {
            list.sort();
            list.dedup();
        }
        names
    }

    fn seek(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.seek(item)),
            Value::Object(fields) => {
                for (field, value) in fields {
                    let name = value["name"].as_str().or(value["secretName"].as_str()).map(str::to_owned);
                    match field.as_str() {
                        "configMap" | "configMapRef" | "configMapKeyRef" => self.config_maps.extend(name),
                        "secret" | "secretRef" | "secretKeyRef" => self.secrets.extend(name),
                        _ => self.seek(value),
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_names_a_source_is_seen() {
        let spec: PodSpec = serde_norway::from_str(
            "
containers:
- name: c
  envFrom: [{configMapRef: {name: a}}, {secretRef: {name: b}}]
  env:
  - {name: X, valueFrom: {configMapKeyRef: {name: c, key: k}}}
  - {name: Y, valueFrom: {secretKeyRef: {name: d, key: k}}}
volumes:
- {name: v, configMap: {name: e}}
- {name: w, secret: {secretName: f}}
- {name: x, projected: {sources: [{configMap: {name: a}}, {secret: {name: g}}]}}
",
        )
        .unwrap();
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let expected = Names { config_maps: owned(&["a", "c", "e"]), secrets: owned(&["b", "d", "f", "g"]) };
        assert_eq!(Names::of(&spec), expected);
    }
}
