//! From Kthena's chart to ours (helm/MIGRATION.md): its definitions and its users' objects are there, its router runs. Ours is refused until that
//! is gone or it is told to install all the same; our definitions take the place of theirs, and no field of any object is lost by it, not even
//! where an object says what only an older release knew.
//!
//! Kthena's own definitions are not at hand here. The ones that play them take whatever theirs would take.

use controlplane::crd;
use controlplane::definitions::{self, Release};
use controlplane::object::Kind;
use http::Method;
use kube::Client;
use serde_json::{Value, json};

use crate::chart::{Bed, NAMESPACE, make_namespace, send};
use crate::corpus::corpus;
use crate::objects::Place;
use crate::wait::until;

/// As `helm install` leaves what lies in a chart's `crds`: made, with nothing said of a release, and never looked at again.
async fn install_theirs(client: &Client) {
    for kind in Kind::ALL {
        let mut definition = crd::generate(kind);
        definition["spec"]["versions"][0]["schema"] =
            json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        definition["metadata"] = json!({"name": definition["metadata"]["name"]});
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?fieldManager=helm";
        send(client, Method::POST, path, &definition).await.unwrap();
    }
}

/// Objects that are good ones, and such as releases before took, each under a name of its own.
fn objects() -> Vec<(Kind, Value)> {
    let stored = corpus().into_iter().filter(|(_, case)| {
        case.old.is_none() && (case.expect.refused_by.is_none() || case.name.contains(" of release "))
    });
    let named = stored.enumerate().map(|(n, (_, case))| {
        let mut object = case.object;
        object["metadata"] = json!({"name": format!("stored-{n}"), "namespace": NAMESPACE});
        (Kind::of(&object).unwrap(), object)
    });
    named.collect()
}

/// Fields that were there before and are not as they were.
fn lost(before: &Value, after: &Value, path: &str) -> Vec<String> {
    match (before, after) {
        // Says nothing, and may be read as a default.
        (Value::Null, _) => Vec::new(),
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .flat_map(|(key, value)| lost(value, after.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}")))
            .collect(),
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            let pairs = before.iter().zip(after).enumerate();
            pairs.flat_map(|(n, (before, after))| lost(before, after, &format!("{path}[{n}]"))).collect()
        }
        _ if before == after => Vec::new(),
        _ => vec![format!("{path}: {before} became {after}")],
    }
}

#[tokio::test]
async fn what_kthena_leaves_behind_is_taken_over_and_no_field_of_it_is_lost() {
    let bed = Bed::bare().await;
    make_namespace(&bed.client, NAMESPACE).await;
    install_theirs(&bed.client).await;
    let mut before = Vec::new();
    for (kind, object) in objects() {
        let place = Place::of(&bed.client, kind, NAMESPACE);
        let mut made = None;
        until("their kind is served", async || {
            made = place.create(&object).await.ok();
            made.is_some()
        })
        .await;
        before.push((kind, made.unwrap()));
    }
    assert!(before.len() > 60, "only {} objects", before.len());

    for kind in Kind::ALL {
        let outcome = definitions::apply(&bed.client, kind, &Release::ours()).await.unwrap();
        assert_eq!(outcome, definitions::Outcome::Updated, "{kind}");
    }
    bed.helm(&["install", "kthena", perf_tests::helm::chart().to_str().unwrap(), "--no-hooks"]);
    // Nobody answers for our webhook here; an object whose spec stays is not its business.
    let mut wrong = Vec::new();
    for (kind, made) in &before {
        let name = made["metadata"]["name"].as_str().unwrap();
        let path = format!("/apis/{}/v1alpha1/namespaces/{NAMESPACE}/{}/{name}", kind.group(), kind.plural());
        let found = bed.get(&path).await.expect("objects stay");
        wrong.extend(lost(&made["spec"], &found["spec"], &format!("{kind} {name}: spec")));
        let mut labelled = found.clone();
        labelled["metadata"]["labels"] = json!({"team": "serving"});
        // What an API server does not look into, it takes for changed, and so this field of release 0.1 is refused at every write.
        let stuck = !made["spec"]["backend"]["autoscalingPolicy"].is_null();
        let written = send(&bed.client, Method::PUT, &path, &labelled).await;
        assert!(!stuck || written.is_err(), "an API server that sees it unchanged: helm/MIGRATION.md can say so");
        if let Err(error) = written
            && !stuck
        {
            wrong.push(format!("{kind} {name} cannot be labelled: {error}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
