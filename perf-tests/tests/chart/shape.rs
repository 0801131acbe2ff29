//! Every rendered object is one that Kubernetes knows, field by field, and its references lead somewhere.

use controlplane::object::{Kind, Unknown, admit};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use perf_tests::helm::{chart, helm};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::object::{Object, has, items, selects};
use crate::values;

#[test]
fn lint_has_nothing_against_any_of_the_matrix() {
    for case in values::all() {
        let folder = chart();
        let mut arguments = vec!["lint", "--strict", folder.to_str().unwrap()];
        arguments.extend(case.render.settings());
        let output = helm(&arguments).unwrap();
        assert!(output.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&output.stdout));
    }
}

/// What is lost when the object goes through Kubernetes' own type: fields that it does not know.
fn lost<T: DeserializeOwned + Serialize>(object: &Value) -> Vec<String> {
    let typed: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    let mut lost = Vec::new();
    compare(object, &serde_json::to_value(typed).unwrap(), "", &mut lost);
    lost
}

fn compare(before: &Value, after: &Value, path: &str, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                match after.get(key) {
                    Some(after) => compare(value, after, &format!("{path}.{key}"), lost),
                    // An empty value says nothing and is left out.
                    None if value.is_null() || value.as_object().is_some_and(|map| map.is_empty()) => {}
                    None => lost.push(format!("{path}.{key}")),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            before.iter().zip(after).enumerate().for_each(|(n, (b, a))| compare(b, a, &format!("{path}[{n}]"), lost));
        }
        _ if before == after => {}
        _ => lost.push(format!("{path}: {before} became {after}")),
    }
}

fn unknown_fields(object: &Object) -> Vec<String> {
    let value = &object.0;
    match object.kind() {
        "ClusterRole" => lost::<ClusterRole>(value),
        "ClusterRoleBinding" => lost::<ClusterRoleBinding>(value),
        "ConfigMap" => lost::<ConfigMap>(value),
        "DaemonSet" => lost::<DaemonSet>(value),
        "Deployment" => lost::<Deployment>(value),
        "HorizontalPodAutoscaler" => lost::<HorizontalPodAutoscaler>(value),
        "Job" => lost::<Job>(value),
        "Lease" => lost::<Lease>(value),
        "NetworkPolicy" => lost::<NetworkPolicy>(value),
        "Pod" => lost::<Pod>(value),
        "PodDisruptionBudget" => lost::<PodDisruptionBudget>(value),
        "ResourceQuota" => lost::<ResourceQuota>(value),
        "Role" => lost::<Role>(value),
        "RoleBinding" => lost::<RoleBinding>(value),
        "Secret" => lost::<Secret>(value),
        "Service" => lost::<Service>(value),
        "ServiceAccount" => lost::<ServiceAccount>(value),
        "ValidatingWebhookConfiguration" => lost::<ValidatingWebhookConfiguration>(value),
        // Of Prometheus Operator and of cert-manager: an API server that has their definitions judges them (`tests/cluster/chart.rs`).
        "PodMonitor" | "ServiceMonitor" | "PrometheusRule" | "Certificate" | "Issuer" => Vec::new(),
        // Ours: our own reader judges them.
        "ModelServer" | "ModelRoute" => {
            let problems = admit(Kind::of(value).unwrap(), value.clone(), Unknown::Refuse);
            problems.err().map(|problems| format!("{problems:?}")).into_iter().collect()
        }
        other => panic!("no test knows what a {other} is"),
    }
}

#[test]
fn kubernetes_knows_every_field_of_every_object() {
    for case in values::all() {
        for object in case.objects() {
            assert_eq!(unknown_fields(&object), Vec::<String>::new(), "{}: {object}", case.name);
        }
    }
}

#[test]
fn what_refers_to_something_refers_to_something_that_is_there() {
    for case in values::all() {
        let objects = case.objects();
        for object in &objects {
            let references = references(object);
            for (kind, name) in references {
                assert!(has(&objects, kind, &name), "{}: {object} needs {kind} {name}", case.name);
            }
        }
    }
}

fn references(object: &Object) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut needs = |kind, name: &Value| found.extend(name.as_str().map(|name| (kind, name.to_owned())));
    if let Some((_, spec)) = object.pod() {
        needs("ServiceAccount", &spec["serviceAccountName"]);
        for volume in items(&spec["volumes"]) {
            needs("ConfigMap", &volume["configMap"]["name"]);
            needs("Secret", &volume["secret"]["secretName"]);
            items(&volume["projected"]["sources"]).for_each(|source| needs("ConfigMap", &source["configMap"]["name"]));
        }
        for env in object.containers().into_iter().flat_map(|container| items(&container["env"])) {
            needs("Secret", &env["valueFrom"]["secretKeyRef"]["name"]);
        }
    }
    match object.kind() {
        "RoleBinding" | "ClusterRoleBinding" => {
            let kind = if object.0["roleRef"]["kind"] == "Role" { "Role" } else { "ClusterRole" };
            needs(kind, &object.0["roleRef"]["name"]);
            items(&object.0["subjects"]).for_each(|subject| needs("ServiceAccount", &subject["name"]));
        }
        "HorizontalPodAutoscaler" => needs("Deployment", &object.0["spec"]["scaleTargetRef"]["name"]),
        // One for the whole cluster is the user's.
        "Certificate" if object.0["spec"]["issuerRef"]["kind"] == "Issuer" => {
            needs("Issuer", &object.0["spec"]["issuerRef"]["name"]);
        }
        "ValidatingWebhookConfiguration" => {
            items(&object.0["webhooks"]).for_each(|hook| needs("Service", &hook["clientConfig"]["service"]["name"]));
        }
        _ => {}
    }
    found
}

#[test]
fn every_selector_selects_the_pods_of_one_workload() {
    for case in values::all() {
        let objects = case.objects();
        for object in &objects {
            let selector = match object.kind() {
                "Service" => &object.0["spec"]["selector"],
                "Deployment" | "DaemonSet" | "PodDisruptionBudget" | "PodMonitor" => {
                    &object.0["spec"]["selector"]["matchLabels"]
                }
                "NetworkPolicy" => &object.0["spec"]["podSelector"]["matchLabels"],
                _ => continue,
            };
            let pods = objects.iter().filter(|other| other.pod().is_some_and(|(labels, _)| selects(selector, labels)));
            let selected: Vec<_> = pods.map(ToString::to_string).collect();
            assert_eq!(selected.len(), 1, "{}: {object} selects {selected:?}", case.name);
        }
    }
}

#[test]
fn every_port_of_a_service_is_one_that_its_pods_declare() {
    for case in values::all() {
        let objects = case.objects();
        for service in objects.iter().filter(|object| object.kind() == "Service") {
            let selector = &service.0["spec"]["selector"];
            let workload =
                objects.iter().find(|other| other.pod().is_some_and(|(labels, _)| selects(selector, labels)));
            let containers = workload.unwrap().containers();
            let declared: Vec<_> = containers.iter().flat_map(|container| items(&container["ports"])).collect();
            for port in items(service.at("/spec/ports")) {
                let target = &port["targetPort"];
                let there = declared.iter().any(|port| port["containerPort"] == *target || port["name"] == *target);
                assert!(there && port["protocol"] == "TCP", "{}: {service}: {port}", case.name);
            }
        }
    }
}
