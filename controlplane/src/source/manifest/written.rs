//! A manifest as JSON again: what `read` makes the same manifest of. It has what was read and no more: nothing that a Secret holds.

use serde::Serialize;
use serde_json::{Value, json};

use super::{CREDENTIAL_LABEL, Custom, Identity, Manifest, SCHEDULER, secret};
use crate::crd;
use crate::world::{Life, Pod};

/// The object.
pub(crate) fn written(identity: &Identity, manifest: &Manifest) -> Value {
    match manifest {
        Manifest::Route(custom) => of_custom(identity, custom),
        Manifest::Server(custom) => of_custom(identity, custom),
        Manifest::Provider(custom) => of_custom(identity, custom),
        Manifest::Pod(pod) => of_pod(identity, pod),
        Manifest::Node(_, labels) => {
            let mut object = core(identity);
            object["metadata"]["labels"] = json!(**labels);
            object
        }
        Manifest::Secret(_, credentials) => {
            let mut object = core(identity);
            object["metadata"]["labels"] = json!({CREDENTIAL_LABEL: "true"});
            object["data"] = secret::stand_ins(credentials);
            object
        }
        Manifest::Scheduler(custom) => scheduler(identity, &custom.spec),
    }
}

/// The scheduler's ConfigMap that says this.
pub(crate) fn scheduler(identity: &Identity, text: &str) -> Value {
    let mut object = core(identity);
    object["data"] = json!({SCHEDULER.1: text});
    object
}

/// One of Kthena's networking kinds that says this.
pub(crate) fn custom(identity: &Identity, generation: i64, spec: Value) -> Value {
    let mut object = core(identity);
    object["apiVersion"] = format!("{}/{}", crd::NETWORKING, crd::VERSION).into();
    if generation != 0 {
        object["metadata"]["generation"] = generation.into();
    }
    object["spec"] = spec;
    object
}

fn of_custom<T: Serialize>(identity: &Identity, of: &Custom<T>) -> Value {
    custom(identity, of.generation, serde_json::to_value(&*of.spec).expect("a spec is plain data"))
}

fn of_pod(identity: &Identity, pod: &Pod) -> Value {
    let Pod { name: _, uid, labels, node, ips, life, started } = pod;
    let mut object = core(identity);
    object["metadata"]["uid"] = json!(**uid);
    object["metadata"]["labels"] = json!(labels);
    if let Some(node) = node {
        object["spec"] = json!({"nodeName": **node});
    }
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
    object["status"] = json!({"podIPs": ips});
    if let Some(started) = started {
        object["status"]["startTime"] = started.to_string().into();
    }
    let ready = |ready: &str| json!([{"type": "Ready", "status": ready}]);
    match life {
        Life::Ready => object["status"]["conditions"] = ready("True"),
        Life::NotReady => object["status"]["conditions"] = ready("False"),
        Life::Pending => object["status"]["phase"] = "Pending".into(),
        Life::Ended => object["status"]["phase"] = "Succeeded".into(),
        // When that began nobody here reads.
        Life::Terminating => object["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z".into(),
    }
    object
}

fn core(identity: &Identity) -> Value {
    let Identity { kind, namespace, name } = identity;
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": **name}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(**namespace);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Unknown;
    use crate::source::manifest::{Read, read};

    /// What is read of it is what was read before it was written.
    #[track_caller]
    fn check(object: Value) -> Value {
        let Read::Object(identity, manifest) = read(object.clone(), Unknown::Refuse) else { panic!("{object}") };
        let again = written(&identity, &manifest);
        let Read::Object(same, reread) = read(again.clone(), Unknown::Refuse) else { panic!("{again}") };
        assert_eq!((&same, format!("{reread:?}")), (&identity, format!("{manifest:?}")));
        again
    }

    #[test]
    fn what_is_written_is_read_again() {
        let meta = |name: &str| json!({"name": name, "namespace": "d", "labels": {"a": "b"}, "generation": 4});
        let group = "networking.serving.volcano.sh/v1alpha1";
        check(json!({"apiVersion": group, "kind": "ModelRoute", "metadata": meta("r"), "spec": {
            "modelName": "m", "rules": [{"modelMatch": {"uri": {"prefix": "/v1"}}, "targetModels": [{"modelServerName": "s"}]}],
        }}));
        check(json!({"apiVersion": group, "kind": "ModelServer", "metadata": meta("s"), "spec": {
            "inferenceEngine": "SGLang", "workloadSelector": {"matchLabels": {"a": "b"}}, "workloadPort": {"port": 1},
            "trafficPolicy": {"timeout": "10s", "retry": {"attempts": 2}},
        }}));
        let provider = json!({"apiVersion": group, "kind": "ExternalModelProvider", "metadata": {"name": "p"}});
        let mut provider = provider;
        provider["spec"] = json!({"baseURL": "https://x.example", "auth": {"secretRef": {"name": "k", "key": "k"}}});
        check(provider);
        check(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"z": "1"}}}));
        check(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kthena-router-config", "namespace": "k"},
            "data": {"routerConfiguration": "scheduler: {}"}}),
        );
    }

    #[test]
    fn pods_of_any_life_are_read_again() {
        let pod = |metadata: Value, status: Value| {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}});
            pod["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
            pod["status"] = status;
            pod["spec"] = json!({"nodeName": "n"});
            check(pod);
        };
        let ready = |ready: &str| {
            json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}],
                "startTime": "2026-01-02T03:04:05Z"})
        };
        pod(json!({}), ready("True"));
        pod(json!({"uid": "u"}), ready("False"));
        pod(json!({}), json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}));
        pod(json!({}), json!({"phase": "Pending"}));
        pod(json!({}), json!({"phase": "Failed", "podIP": "10.0.0.1"}));
        pod(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), ready("True"));
    }

    #[test]
    fn nothing_that_a_secret_holds_is_written() {
        let labels = json!({"networking.serving.volcano.sh/external-model-provider-credential": "true"});
        let again = check(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "k", "namespace": "d", "labels": labels},
            "data": {"key": "aHVzaA==", "blank": "Cg=="}, "stringData": {"other": "hush"}}),
        );
        assert_eq!(again["data"].as_object().map(serde_json::Map::len), Some(3), "{again}");
        assert!(!again.to_string().contains("hush") && !again.to_string().contains("aHVzaA"), "{again}");
    }
}
