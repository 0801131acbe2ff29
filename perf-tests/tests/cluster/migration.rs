//! From Kthena's chart to ours (helm/MIGRATION.md): its definitions and its users' objects are there, its router runs. Ours is refused until that
//! is gone or it is told to install all the same; our definitions take the place of theirs, and no field of any object is lost by it, not even
//! where an object says what only an older release knew.
//!
//! Kthena's own definitions are not at hand here. The ones that play them take whatever theirs would take.

mod lines;

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

fn their_definition(kind: Kind) -> Value {
    let mut definition = crd::generate(kind);
    definition["spec"]["versions"][0]["schema"] =
        json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    definition["metadata"] = json!({"name": definition["metadata"]["name"]});
    definition
}

/// As `helm install` leaves what lies in a chart's `crds`: made, with nothing said of a release, and never looked at again.
pub async fn install_theirs(client: &Client) {
    for kind in Kind::ALL {
        let definition = their_definition(kind);
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

/// As Kthena's chart renders one of them, with the rules that count here and nobody behind it.
fn theirs(kind: &str, program: &str, (group, resource): (&str, &str)) -> Value {
    let lower = kind.to_lowercase();
    let service = json!({"namespace": "kthena-system", "name": format!("{program}-webhook"), "path": format!("/{lower}"), "port": 443});
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": format!("{program}-{lower}-webhook")},
        "webhooks": [{"name": format!("{lower}-{resource}.volcano.sh"), "clientConfig": {"service": service},
            "rules": [{"apiGroups": [group], "apiVersions": ["v1alpha1"], "resources": [format!("{resource}s")],
                "operations": ["CREATE", "UPDATE"], "scope": "Namespaced"}],
            "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 30}]})
}

#[tokio::test]
async fn webhook_configurations_that_outlived_kthena_are_named_with_what_takes_them_away() {
    let bed = Bed::bare().await;
    make_namespace(&bed.client, NAMESPACE).await;
    make_namespace(&bed.client, "kthena-system").await;
    for kind in Kind::ALL {
        definitions::apply(&bed.client, kind, &Release::ours()).await.unwrap();
    }
    let networking = ("networking.serving.volcano.sh", "modelroute");
    let workload = ("workload.serving.volcano.sh", "modelbooster");
    let all = [
        theirs("Validating", "kthena-router", networking),
        theirs("Validating", "kthena-controller-manager", workload),
        theirs("Mutating", "kthena-controller-manager", workload),
    ];
    let path = |object: &Value| {
        let plural = object["kind"].as_str().unwrap().to_lowercase();
        format!("/apis/admissionregistration.k8s.io/v1/{plural}s")
    };
    for object in &all {
        send(&bed.client, Method::POST, &path(object), object).await.unwrap();
    }
    let routes = format!("/apis/{}/v1alpha1/namespaces/{NAMESPACE}/modelroutes", networking.0);
    let route = json!({"apiVersion": format!("{}/v1alpha1", networking.0), "kind": "ModelRoute", "metadata": {"generateName": "mine-"},
        "spec": {"modelName": "m", "rules": [{"targetModels": [{"modelServerName": "s"}]}]}});
    let write = async || send(&bed.client, Method::POST, &routes, &route).await.map_err(|error| error.to_string());
    let mut said = String::new();
    until("they are in force", async || {
        said = write().await.err().unwrap_or_default();
        !said.is_empty()
    })
    .await;
    assert!(said.contains("validating-modelroute.volcano.sh"), "{said}");

    let chart = perf_tests::helm::chart();
    let install = [
        "upgrade",
        "--install",
        "kthena",
        chart.to_str().unwrap(),
        "--no-hooks",
        "--set",
        "controlplane.webhook.enabled=false",
    ];
    let refused = bed.try_helm(&install).unwrap_err();
    for object in &all {
        let kind = object["kind"].as_str().unwrap().to_lowercase();
        let command = format!("kubectl delete {kind} {}", object["metadata"]["name"].as_str().unwrap());
        assert!(refused.contains(&command), "{command} is not in {refused}");
    }
    // Those of a program that is there are its own business, and the switch says that it may be.
    let labels = json!({"app": "kthena-controller-manager"});
    let manager = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kthena-controller-manager"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "manager", "image": "ghcr.io/volcano-sh/kthena-controller-manager:latest"}]}}}});
    send(&bed.client, Method::POST, "/apis/apps/v1/namespaces/kthena-system/deployments", &manager).await.unwrap();
    let beside = [&install[..], &["--set", "migration.besideKthena=true"]].concat();
    let refused = bed.try_helm(&beside).unwrap_err();
    assert!(refused.contains("kthena-router-validating-webhook") && !refused.contains("manager"), "{refused}");
    // Ours in their namespace is not the program that they ask.
    let labels = json!({"app": "kthena-router", "app.kubernetes.io/part-of": "kthena"});
    let ours = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kthena-router", "labels": labels},
        "spec": manager["spec"].clone()});
    send(&bed.client, Method::POST, "/apis/apps/v1/namespaces/kthena-system/deployments", &ours).await.unwrap();
    let refused = bed.try_helm(&beside).unwrap_err();
    assert!(refused.contains("kthena-router-validating-webhook") && !refused.contains("manager"), "{refused}");

    let router = format!("{}/kthena-router-validating-webhook", path(&all[0]));
    send(&bed.client, Method::DELETE, &router, &Value::Null).await.unwrap();
    bed.helm(&beside);
    until("objects are taken again", async || write().await.is_ok()).await;
}
