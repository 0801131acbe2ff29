//! Kinds whose controller is another program, perhaps Kthena's own: whether an object is valid is said beside what that one says of it.

use controlplane::object::Kind;
use http::Request;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use perf_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::corpus::{By, corpus};
use crate::objects::Place;
use crate::program::{Home, get};
use crate::wait::until;

/// Of each kind the cases of the corpus: one that is accepted, and one that an API server takes and we refuse.
const CASES: [(Kind, &str, &str); 4] = [
    (Kind::ModelServing, "prefill and decode with a worker each", "an image with a space"),
    (Kind::ModelBooster, "vLLM in one pod", "an image with a space"),
    (Kind::AutoscalingPolicy, "one ModelServing by Prometheus", "a metric twice"),
    (Kind::AutoscalingPolicyBinding, "one ModelServing", "a target in another namespace"),
];

/// The object of a case, under a name.
fn object(home: &Home, kind: Kind, case: &str, name: &str) -> Value {
    let mut found = corpus().into_iter().map(|(_, found)| found);
    let found = found.find(|found| found.name == case && Kind::of(&found.object) == Some(kind)).unwrap();
    assert!(found.expect.refused_by.is_none_or(|by| by == By::Webhook), "{case}");
    let mut object = found.object;
    object["metadata"] = json!({"name": name, "namespace": home.namespace});
    object
}

async fn read(home: &Home, kind: Kind, name: &str) -> Value {
    let path = format!("/apis/{}/v1alpha1/namespaces/{}/{}/{name}", kind.group(), home.namespace, kind.plural());
    home.admin.request(Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
}

/// A condition, without its time and its sentence.
async fn condition(home: &Home, kind: Kind, name: &str, condition: &str) -> Value {
    let object = read(home, kind, name).await;
    let mut found = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = found.find(|found| found["type"] == condition).cloned().unwrap_or_default();
    json!([found["status"], found["reason"], found["observedGeneration"]])
}

/// How many snapshots have been built.
async fn builds(home: &Home) -> u64 {
    let text = get(home.metrics, "/metrics").await.unwrap().1;
    let value = text.lines().find_map(|line| line.strip_prefix("kthena_controlplane_build_seconds_count "));
    value.unwrap().parse().unwrap()
}

async fn says(home: &Home, kind: Kind, name: &str, expected: Value) {
    until(&format!("Accepted {expected} of {kind} {name}"), async || {
        condition(home, kind, name, "Accepted").await == expected
    })
    .await;
}

/// What another controller says, as it does that: all of a status, with the conditions that it found there.
async fn play(home: &Home, name: &str, available: bool) -> Value {
    let serving = Kind::ModelServing;
    let mut object = read(home, serving, name).await;
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut conditions: Vec<Value> = conditions.into_iter().filter(|found| found["type"] != "Available").collect();
    conditions.push(json!({
        "type": "Available", "status": if available { "True" } else { "False" }, "reason": "AllGroupsReady", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }));
    object["status"]["conditions"] = conditions.into();
    object["status"]["observedGeneration"] = json!(1);
    object["status"]["replicas"] = json!(1);
    Place::of(&home.admin, serving, &home.namespace).replace_status(&object).await.unwrap()
}

#[tokio::test]
async fn an_object_of_another_controller_says_whether_it_is_valid_and_keeps_what_that_one_says() {
    let home = Home::new(Cluster::shared(), "judged").await;
    let _control = home.control(&[]);
    home.until_ready().await;
    for (kind, good, bad) in CASES {
        let place = Place::of(&home.admin, kind, &home.namespace);
        place.create(&object(&home, kind, good, "good")).await.unwrap();
        place.create(&object(&home, kind, bad, "bad")).await.unwrap();
    }
    for (kind, ..) in CASES {
        says(&home, kind, "good", json!(["True", "Accepted", 1])).await;
        says(&home, kind, "bad", json!(["False", "Invalid", 1])).await;
        let status = read(&home, kind, "good").await["status"].take();
        let said: Vec<&String> = status.as_object().unwrap().keys().collect();
        assert_eq!(said, ["conditions"], "{kind}: of the rest nothing is said: {status}");
        assert_eq!(status["conditions"].as_array().unwrap().len(), 1, "{kind}");
    }
    let events = Api::<Event>::namespaced(home.admin.clone(), &home.namespace);
    let warned = async || {
        let listed = events.list(&ListParams::default()).await.unwrap().items;
        let about = |event: Event| {
            assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some("Warning"), Some("Invalid")));
            let regarding = event.regarding.unwrap();
            format!("{} {}", regarding.kind.unwrap(), regarding.name.unwrap())
        };
        let mut warned: Vec<String> = listed.into_iter().map(about).collect();
        warned.sort();
        warned
    };
    let expected = ["AutoscalingPolicy", "AutoscalingPolicyBinding", "ModelBooster", "ModelServing"];
    let expected = expected.map(|kind| format!("{kind} bad"));
    until("a warning of each", async || warned().await == expected).await;

    // Its own controller has said something, and a person edits it.
    let serving = Kind::ModelServing;
    play(&home, "good", true).await;
    let place = Place::of(&home.admin, serving, &home.namespace);
    let edit = json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing", "metadata": {"name": "good"},
        "spec": {"replicas": 3},
    });
    place.apply(&edit, "people", true).await.unwrap();
    says(&home, serving, "good", json!(["True", "Accepted", 2])).await;
    assert_eq!(condition(&home, serving, "good", "Available").await, json!(["True", "AllGroupsReady", 1]));
    let status = read(&home, serving, "good").await["status"].take();
    assert_eq!((&status["observedGeneration"], &status["replicas"]), (&json!(1), &json!(1)), "these are not ours");

    // What it goes on to say is no reason to write: what came later has been written, and this has not.
    let theirs = play(&home, "good", false).await["metadata"]["resourceVersion"].clone();
    let (_, good, _) = CASES[0];
    place.create(&object(&home, serving, good, "later")).await.unwrap();
    says(&home, serving, "later", json!(["True", "Accepted", 1])).await;
    assert_eq!(read(&home, serving, "good").await["metadata"]["resourceVersion"], theirs);

    // Nor does it begin a build that it is edited. Other tests' nodes do, wherever they come and go: so this is of one edit of some.
    let mut generation = 2;
    until("a status of an edit without a build", async || {
        generation += 1;
        let (before, replicas) = (builds(&home).await, json!({"replicas": generation + 1}));
        let mut edit = edit.clone();
        edit["spec"] = replicas;
        place.apply(&edit, "people", true).await.unwrap();
        says(&home, serving, "good", json!(["True", "Accepted", generation])).await;
        builds(&home).await == before
    })
    .await;
}
