//! `helm rollback` to the first revision while requests and streams go on: nothing fails, and nothing that is stored changes, not even a field
//! that only a later release of the definitions knows.

use std::collections::{BTreeMap, BTreeSet};

use controlplane::definitions::RELEASE as DEFINED_BY;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::{DynamicObject, ObjectMeta};
use kube::discovery::Discovery;
use serde_json::{Value, json};

use super::load::Load;
use super::replaced;
use super::site::{GATEWAY, MODEL, NODE, RELEASE, Site, places};

const ROUTES: &str = "modelroutes.networking.serving.volcano.sh";
/// What this release has never heard of.
const LATER: &str = "ofALaterRelease";

/// As after an upgrade to a release that came after this one: its definition has one more field, and an object has it.
async fn later_release(site: &Site) {
    let definitions = Api::<CustomResourceDefinition>::all(site.client.clone());
    let held = serde_json::to_value(definitions.get(ROUTES).await.unwrap()).unwrap();
    let mut versions = held["spec"]["versions"].clone();
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][LATER] = json!({"type": "string"});
    let later = json!({"metadata": {"annotations": {DEFINED_BY: "99.0.0"}}, "spec": {"versions": versions}});
    definitions.patch(ROUTES, &PatchParams::default(), &Patch::Merge(later)).await.unwrap();
    let route = crate::program::route("later", "chat").replace("spec: {", &format!("spec: {{{LATER}: kept, "));
    // The API server takes a moment to know the field.
    crate::wait::until("field of a later release", async || {
        let applied = site.cluster.apply(&site.client, &site.models, &route).await;
        applied.is_ok_and(|applied| applied[0].data["spec"][LATER] == "kept")
    })
    .await;
}

/// What the fleet has stored: objects as users wrote them with their labels and annotations, definitions, and all that the control plane fills. None of
/// it has been made anew in between, for each has its UID.
async fn stored(site: &Site) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut keep = |kind: &str, metadata: &ObjectMeta, value: Value| {
        let name = metadata.name.as_deref().unwrap_or_default();
        assert!(!value.is_null(), "{kind} {name} is empty");
        let ObjectMeta { uid, labels, annotations, finalizers, .. } = metadata;
        let value =
            json!({"uid": uid, "labels": labels, "annotations": annotations, "finalizers": finalizers, "is": value});
        found.insert(format!("{kind} {name}"), value);
    };
    let discovery = Discovery::new(site.client.clone()).run().await.unwrap();
    for group in discovery.groups().filter(|group| group.name().ends_with("serving.volcano.sh")) {
        for (resource, _) in group.recommended_resources() {
            let api = Api::<DynamicObject>::all_with(site.client.clone(), &resource);
            for object in api.list(&ListParams::default()).await.unwrap() {
                keep(&resource.kind, &object.metadata, object.data["spec"].clone());
            }
        }
    }
    for definition in
        Api::<CustomResourceDefinition>::all(site.client.clone()).list(&ListParams::default()).await.unwrap()
    {
        keep("definition", &definition.metadata, serde_json::to_value(&definition.spec).unwrap());
    }
    let secrets = Api::<Secret>::namespaced(site.client.clone(), &site.namespace);
    for name in ["kthena-controlplane-certificates", "kthena-fleet-seed"] {
        let secret = secrets.get(name).await.unwrap();
        keep("Secret", &secret.metadata, json!(secret.data));
    }
    let maps = Api::<ConfigMap>::namespaced(site.client.clone(), &site.namespace);
    let ca = maps.get("kthena-controlplane-ca").await.unwrap();
    keep("ConfigMap", &ca.metadata, json!(ca.data));
    let hooks = Api::<ValidatingWebhookConfiguration>::all(site.client.clone());
    let hooks = hooks.get("kthena-controlplane").await.unwrap();
    let bundles = hooks.webhooks.iter().flatten().map(|webhook| webhook.client_config.ca_bundle.clone());
    let bundles: Vec<_> = bundles.collect();
    assert!(bundles.iter().all(Option::is_some), "{bundles:?}");
    keep("caBundles", &hooks.metadata, json!(bundles));
    found
}

/// An object of each kind of ours, with what a user says of it besides.
async fn add_one_of_each(site: &Site) {
    let all = crate::rights::life::judged().into_iter().chain([crate::rights::life::PROVIDER.to_owned()]);
    for object in all {
        let said =
            object.replacen("metadata: {", "metadata: {labels: {of: a-user}, annotations: {note: 'kept, too'}, ", 1);
        site.apply(&said).await;
    }
}

/// Nothing that is stored is another after `act`, and nothing is gone.
pub async fn keeps_all(site: &Site, act: impl Future<Output = ()>) {
    add_one_of_each(site).await;
    let before = stored(site).await;
    let kinds: BTreeSet<_> = before.keys().filter_map(|what| what.split(' ').next()).collect();
    // Seven of ours, and the four that are the chart's.
    assert_eq!(kinds.len(), 11, "{kinds:?}");
    act.await;
    let after = stored(site).await;
    for (what, held) in &before {
        assert_eq!(after.get(what), Some(held), "{what}");
    }
    assert_eq!(after.len(), before.len());
}

/// From the revision of an upgrade to the first one.
pub async fn rolled_back(site: &Site) {
    later_release(site).await;
    keeps_all(site, async {
        let load = Load::start(&places(site).await, MODEL).await;
        let act = async {
            site.helm(&["rollback", RELEASE, "1", "--wait", "--timeout=3m"]).await;
        };
        load.during("the rollback", replaced(site, act)).await;
        let of_runtime = BTreeSet::from(["epoll".to_owned()]);
        assert_eq!((site.drivers(NODE).await, site.drivers(GATEWAY).await), (of_runtime.clone(), of_runtime));
        load.unharmed(site).await;
    })
    .await;
}
