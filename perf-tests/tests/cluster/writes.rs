//! What controllers rely on when several of them and people write one object.

use controlplane::object::Kind;
use perf_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::objects::{Place, refusal};

async fn place(prefix: &str) -> Place {
    let cluster = Cluster::shared();
    let client = cluster.admin().await.unwrap();
    cluster.install_definitions(&client).await.unwrap();
    let namespace = cluster.namespace(&client, prefix).await.unwrap();
    Place::of(&client, Kind::ModelServer, &namespace)
}

fn server(model: &str) -> Value {
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": "small"},
        "spec": {
            "inferenceEngine": "vLLM",
            "model": model,
            "workloadSelector": {"matchLabels": {"app": "small"}},
            "workloadPort": {"port": 8000},
        },
    })
}

fn condition(status: &str) -> Value {
    json!({
        "type": "Accepted", "status": status, "reason": "Tested", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn a_conflict_of_two_appliers_names_the_owner_and_force_ends_it() {
    let place = place("conflict").await;
    place.apply(&server("one"), "alice", false).await.unwrap();
    let (code, sentence) = refusal(place.apply(&server("two"), "bob", false).await);
    assert_eq!(code, 409);
    assert!(sentence.contains("\"alice\"") && sentence.contains(".spec.model"), "{sentence}");
    let forced = place.apply(&server("two"), "bob", true).await.unwrap();
    assert_eq!(forced["spec"]["model"], "two");
}

#[tokio::test]
async fn a_replacement_of_an_older_version_is_refused() {
    let place = place("stale").await;
    let first = place.create(&server("one")).await.unwrap();
    let mut edit = first.clone();
    edit["spec"]["model"] = "two".into();
    place.replace(&edit).await.unwrap();
    let mut late = first;
    late["spec"]["model"] = "three".into();
    let (code, sentence) = refusal(place.replace(&late).await);
    assert_eq!(code, 409, "{sentence}");
}

#[tokio::test]
async fn status_and_spec_are_written_apart_and_only_the_spec_counts_generations() {
    let place = place("status").await;
    let created = place.create(&server("one")).await.unwrap();

    let mut by_controller = created.clone();
    by_controller["spec"]["model"] = "not the controller's to say".into();
    by_controller["status"] = json!({"conditions": [condition("True")]});
    let stored = place.replace_status(&by_controller).await.unwrap();
    assert_eq!(stored["spec"], created["spec"]);
    assert_eq!(stored["status"]["conditions"][0]["status"], "True");
    assert_eq!(stored["metadata"]["generation"], 1);

    let mut by_person = stored.clone();
    by_person["spec"]["model"] = "two".into();
    by_person["status"]["conditions"] = json!([condition("False")]);
    let edited = place.replace(&by_person).await.unwrap();
    assert_eq!(edited["spec"]["model"], "two");
    assert_eq!(edited["status"], stored["status"]);
    assert_eq!(edited["metadata"]["generation"], 2);
}
