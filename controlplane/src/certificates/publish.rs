//! Where clients find the bundle: what differs is a value, writing it is a thin shell.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::Options;

/// Owns what we write into these objects, beside whoever installed them.
pub(super) const MANAGER: &str = "kthena-controlplane-certificates";

const BUNDLE: &str = "ca.crt";

/// The objects that carry the bundle.
#[derive(Debug)]
pub(super) struct Places {
    config_map: Option<(Api<ConfigMap>, String)>,
    webhooks: Api<ValidatingWebhookConfiguration>,
    names: Vec<String>,
}

impl Places {
    pub(super) fn new(client: &Client, options: &Options) -> Self {
        let config_maps = Api::namespaced(client.clone(), &options.namespace);
        Self {
            config_map: options.config_map.clone().map(|name| (config_maps, name)),
            webhooks: Api::all(client.clone()),
            names: options.webhooks.clone(),
        }
    }

    /// Brings the bundle to all of them, and says whether one lacked it. The error names the first that could not be brought up to date.
    pub(super) async fn bring(&self, bundle: &str) -> Result<bool, (String, Error)> {
        let parameters = PatchParams::apply(MANAGER).force();
        let mut outcome = Ok(false);
        if let Some((config_maps, name)) = &self.config_map {
            let done = async {
                let Some(patch) = config_map_patch(&config_maps.get(name).await?, bundle) else { return Ok(false) };
                config_maps.patch(name, &parameters, &Patch::Apply(patch)).await.map(|_| true)
            };
            outcome = both(outcome, done.await.map_err(|error| (format!("ConfigMap {name}"), error)));
        }
        for name in &self.names {
            let done = async {
                let Some(patch) = webhook_patch(&self.webhooks.get(name).await?, bundle) else { return Ok(false) };
                self.webhooks.patch(name, &parameters, &Patch::Apply(patch)).await.map(|_| true)
            };
            let named = |error| (format!("ValidatingWebhookConfiguration {name}"), error);
            outcome = both(outcome, done.await.map_err(named));
        }
        outcome
    }
}

/// One place that fails keeps no other from its bundle.
fn both<E>(first: Result<bool, E>, second: Result<bool, E>) -> Result<bool, E> {
    Ok(first? | second?)
}

/// None where it has the bundle.
fn config_map_patch(found: &ConfigMap, bundle: &str) -> Option<Value> {
    let held = found.data.as_ref().and_then(|data| data.get(BUNDLE));
    let metadata = json!({"name": found.metadata.name, "resourceVersion": found.metadata.resource_version});
    (held.map(String::as_str) != Some(bundle))
        .then(|| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {BUNDLE: bundle}}))
}

/// None where all of its webhooks have the bundle. The resourceVersion keeps a webhook that was removed meanwhile from coming back as a stump.
fn webhook_patch(found: &ValidatingWebhookConfiguration, bundle: &str) -> Option<Value> {
    let webhooks = found.webhooks.as_deref().unwrap_or_default();
    let held = |ca: &Option<k8s_openapi::ByteString>| ca.as_ref().is_some_and(|held| held.0 == bundle.as_bytes());
    if webhooks.iter().all(|webhook| held(&webhook.client_config.ca_bundle)) {
        return None;
    }
    let encoded = k8s_openapi::ByteString(bundle.as_bytes().to_vec());
    let entries = webhooks.iter().map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": encoded}}));
    Some(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": found.metadata.name, "resourceVersion": found.metadata.resource_version},
        "webhooks": entries.collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: &[Option<&str>]) -> ValidatingWebhookConfiguration {
        let encode = |bundle: &str| k8s_openapi::ByteString(bundle.as_bytes().to_vec());
        let webhook = |(index, bundle): (usize, &Option<&str>)| {
            json!({"name": format!("w{index}"), "clientConfig": {"url": "https://x", "caBundle": bundle.map(encode)},
                   "sideEffects": "None", "admissionReviewVersions": ["v1"]})
        };
        let webhooks: Vec<_> = bundles.iter().enumerate().map(webhook).collect();
        serde_json::from_value(json!({"metadata": {"name": "ours", "resourceVersion": "7"}, "webhooks": webhooks}))
            .unwrap()
    }

    #[test]
    fn a_configuration_is_written_only_where_it_differs() {
        assert_eq!(webhook_patch(&configuration(&[Some("b"), Some("b")]), "b"), None);
        for differs in [[Some("b"), Some("a")], [None, Some("b")]] {
            let patch = webhook_patch(&configuration(&differs), "b").unwrap();
            assert_eq!(patch["metadata"], json!({"name": "ours", "resourceVersion": "7"}));
            // All entries, for what an apply leaves out is given up.
            let entry = |name: &str| json!({"name": name, "clientConfig": {"caBundle": "Yg=="}});
            assert_eq!(patch["webhooks"], json!([entry("w0"), entry("w1")]));
        }
    }

    #[test]
    fn a_config_map_is_written_only_where_it_differs() {
        let with = |data: Value| serde_json::from_value(json!({"metadata": {"name": "ca"}, "data": data})).unwrap();
        assert_eq!(config_map_patch(&with(json!({"ca.crt": "b"})), "b"), None);
        for differs in [json!({"ca.crt": "a"}), json!(null)] {
            assert_eq!(config_map_patch(&with(differs), "b").unwrap()["data"], json!({"ca.crt": "b"}));
        }
    }
}
