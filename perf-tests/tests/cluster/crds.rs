//! `kthena-controlplane crds apply`, by the function that it calls. Each test has a cluster of its own: definitions have no namespace,
//! and all other tests rely on the real ones.

use controlplane::crd;
use controlplane::definitions::{Error, MANAGER, Outcome, RELEASE, Release, apply};
use controlplane::object::Kind;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use perf_tests::cluster::{Cluster, Parts};
use serde_json::{Value, json};

const KIND: Kind = Kind::ModelRoute;
const NAME: &str = "modelroutes.networking.serving.volcano.sh";

fn release(text: &str) -> Release {
    text.parse().unwrap()
}

fn definitions(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<CustomResourceDefinition>(&()))
}

/// What a schema says of ModelRoute's spec.
async fn spec_fields(client: &Client) -> Value {
    let held = definitions(client).get(NAME).await.unwrap();
    held.data["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].clone()
}

#[tokio::test]
async fn all_are_created_served_and_the_second_time_left_alone() {
    let cluster = Cluster::start(Parts::ApiServer).unwrap();
    let client = cluster.admin().await.unwrap();
    let ours = Release::ours();
    for expected in [Outcome::Created, Outcome::Updated, Outcome::Unchanged] {
        for kind in Kind::ALL {
            let outcome = apply(&client, kind, &ours).await.unwrap();
            // The first apply after a creation changes who owns what, and nothing else.
            assert!(outcome == expected || expected == Outcome::Updated, "{kind}: {outcome}");
            let listed = format!("/apis/{}/v1alpha1/{}", kind.group(), kind.plural());
            let request = http::Request::get(listed).body(Vec::new()).unwrap();
            let list: Value = client.request(request).await.expect("what is established is served");
            assert_eq!(list["items"], json!([]));
        }
    }
    assert_eq!(definitions(&client).get(NAME).await.unwrap().annotations()[RELEASE], ours.to_string());
}

#[tokio::test]
async fn kthenas_own_definition_and_an_older_one_are_replaced_and_a_newer_one_stays() {
    let cluster = Cluster::start(Parts::ApiServer).unwrap();
    let client = cluster.admin().await.unwrap();
    let api = definitions(&client);
    // As their chart installs it: helm's, without our annotation, and without a field of ours.
    let mut theirs = crd::generate(KIND);
    let spec = &mut theirs["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"].as_object_mut().unwrap().remove("loraAdapters");
    spec.as_object_mut().unwrap().remove("x-kubernetes-validations");
    api.patch(NAME, &PatchParams::apply("helm"), &Patch::Apply(&theirs)).await.unwrap();
    assert!(spec_fields(&client).await["loraAdapters"].is_null());

    assert_eq!(apply(&client, KIND, &release("0.2.0")).await.unwrap(), Outcome::Updated);
    let full = spec_fields(&client).await;
    assert!(full["loraAdapters"].is_object());

    assert_eq!(apply(&client, KIND, &release("0.3.0")).await.unwrap(), Outcome::Updated);
    let before = api.get(NAME).await.unwrap().resource_version();
    for older in ["0.1.0", "0.2.0", "0.3.0-rc.1"] {
        assert_eq!(apply(&client, KIND, &release(older)).await.unwrap(), Outcome::Kept(release("0.3.0")));
    }
    assert_eq!(api.get(NAME).await.unwrap().resource_version(), before, "a kept one is not written");

    let odd = json!({"metadata": {"annotations": {RELEASE: "latest"}}});
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(&odd)).await.unwrap();
    let refused = apply(&client, KIND, &release("0.4.0")).await.unwrap_err();
    assert!(matches!(&refused, Error::Unclear(_)) && refused.to_string().contains("take it away"), "{refused}");
}

#[tokio::test]
async fn of_many_releases_at_once_the_newest_stays() {
    let cluster = Cluster::start(Parts::ApiServer).unwrap();
    let client = cluster.admin().await.unwrap();
    let all = (0..8).map(|minor| {
        let client = client.clone();
        async move { apply(&client, KIND, &release(&format!("0.{minor}.0"))).await }
    });
    let outcomes = futures_util::future::join_all(all).await;
    for outcome in &outcomes {
        assert!(outcome.is_ok(), "{outcomes:?}");
    }
    let held = definitions(&client).get(NAME).await.unwrap();
    assert_eq!(held.annotations()[RELEASE], "0.7.0", "{outcomes:?}");
    assert!(held.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some(MANAGER)));
}
