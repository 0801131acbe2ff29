//! The rights that the chart gives, beside what the programs ask for: each verb of each resource of each rule is one without which a request
//! would have been refused, and no request was refused. The programs run as pods, from the chart's own templates, as the chart's own service
//! accounts, and the API server's audit log says what they asked. So with the chart's defaults; `shapes` has the other ones.
//!
//! Gateway and node proxies have no rights: none is given to them here, and `examples` runs them and sees that they ask for none.

pub mod life;
mod shapes;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams};
use kubelet::{Config, Kubelet, Network, built};
use perf_tests::cluster::{Cluster, Parts};
use perf_tests::helm::Render;
use perf_tests::rights::{Account, asked, compare, granted, unmissed};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::chart::make_namespace;
use crate::fleet::programs;
use crate::network;
use crate::wait::{DEADLINE, until};
use life::Life;

const NAMESPACE: &str = "serving";
/// Each pod has an address of its own, and the certificate is for it.
const VALUES: &[&str] = &[
    "global.listenAddress=$(POD_IP)",
    "controlplane.extraEnv[0].name=POD_IP",
    "controlplane.extraEnv[0].valueFrom.fieldRef.fieldPath=status.podIP",
    "controlplane.extraArgs={--certificate-hosts=$(POD_IP)}",
];
/// What makes no pod.
const APPLIED: [&str; 9] = [
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Secret",
    "ConfigMap",
    "Service",
    "Lease",
];

/// Waits until an account has used every right that these objects give to it, and says what stayed wrong: then of its rights whichever is taken away
/// would be missed.
pub async fn settled(cluster: &Cluster, objects: &[Value], account: Account<'_>) -> String {
    let granted = granted(objects, account).unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let log = std::fs::read_to_string(cluster.audit_log()).unwrap();
        let asked = asked(&log, account);
        let findings = compare(&granted, &asked);
        if findings.unneeded.is_empty() || Instant::now() > deadline {
            assert_eq!(unmissed(&granted, &asked), findings.unneeded, "{account:?}");
            println!(
                "{}: {} rights, each of them missed where it is taken away",
                account.name,
                granted.len() - findings.unneeded.len()
            );
            return findings.to_string();
        }
        sleep(std::time::Duration::from_millis(250)).await;
    }
}

/// The accounts that have any rights by these objects.
fn bound(objects: &[Value]) -> BTreeSet<&str> {
    let subjects = objects.iter().flat_map(|object| object["subjects"].as_array().into_iter().flatten());
    subjects.map(|subject| subject["name"].as_str().unwrap()).collect()
}

struct Bed {
    cluster: Cluster,
    client: Client,
    kubelet: Kubelet,
    objects: Vec<Value>,
    pods: Api<Pod>,
}

impl Bed {
    /// A cluster with all of the chart but its workloads and its webhook configuration.
    async fn start() -> Self {
        let cluster = Cluster::start(Parts::Controllers).unwrap();
        let client = cluster.admin().await.unwrap();
        make_namespace(&client, NAMESPACE).await;
        let programs = programs().with("kthena-controlplane", built("kthena-controlplane").unwrap());
        let config = Config { network: Network::Private, ..cluster.kubelet(programs).unwrap() };
        let kubelet = Kubelet::start(config).await.unwrap();
        let objects = Render { set: VALUES, ..Render::default() }.objects().unwrap();
        let pods = Api::namespaced(client.clone(), NAMESPACE);
        let bed = Self { cluster, client, kubelet, objects, pods };
        for object in bed.objects.iter().filter(|object| APPLIED.iter().any(|kind| object["kind"] == *kind)) {
            bed.apply(object).await;
        }
        bed
    }

    async fn apply(&self, object: &Value) {
        // JSON is YAML.
        self.cluster.apply(&self.client, NAMESPACE, &object.to_string()).await.unwrap();
    }

    fn find(&self, kind: &str, name: &str) -> &Value {
        let found = self.objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("the chart has no {kind} {name}"))
    }

    /// One pod of a workload.
    async fn run(&self, kind: &str, workload: &str, pod: &str) {
        let template = &self.find(kind, workload)["spec"]["template"];
        let mut spec = template["spec"].clone();
        // The node is a small one.
        spec["containers"][0].as_object_mut().unwrap().remove("resources");
        let metadata = json!({"name": pod, "labels": template["metadata"]["labels"]});
        self.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await;
    }

    async fn status(&self, pod: &str) -> Value {
        serde_json::to_value(self.pods.get(pod).await.unwrap().status).unwrap()
    }

    /// Waits until a pod has done its work and ended.
    async fn ended(&self, pod: &str) {
        let deadline = Instant::now() + DEADLINE;
        while self.status(pod).await["phase"] != "Succeeded" {
            assert!(Instant::now() < deadline, "{pod}: {}", self.kubelet.log(NAMESPACE, pod, "apply"));
            sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn settled(&self, name: &str) -> String {
        settled(&self.cluster, &self.objects, Account { namespace: NAMESPACE, name }).await
    }
}

/// The webhook as the chart has it, by an address that this API server reaches.
fn reached_at(configuration: &Value, ip: &str) -> Value {
    let mut configuration = configuration.clone();
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"] = json!({"url": format!("https://{ip}:8443/validate")});
    }
    configuration
}

#[test]
fn each_right_of_the_chart_is_one_that_its_program_needs_and_none_is_missing() {
    network::within("rights::each_right_of_the_chart_is_one_that_its_program_needs_and_none_is_missing", needed);
}

async fn needed() {
    let bed = Bed::start().await;
    assert_eq!(bound(&bed.objects), BTreeSet::from(["kthena-controlplane", "kthena-crds"]));
    // Once to make the definitions, and once more over those that are there.
    for pod in ["crds-first", "crds-again"] {
        bed.run("Job", "kthena-crds", pod).await;
        bed.ended(pod).await;
    }
    assert_eq!(bed.settled("kthena-crds").await, "");

    bed.run("Deployment", "kthena-controlplane", "controlplane").await;
    let mut ip = Value::Null;
    until("the pod's address", async || {
        ip = bed.status("controlplane").await["podIP"].clone();
        ip.is_string()
    })
    .await;
    let configuration = bed.find("ValidatingWebhookConfiguration", "kthena-controlplane");
    bed.apply(&reached_at(configuration, ip.as_str().unwrap())).await;
    let ready = async || {
        let status = bed.status("controlplane").await;
        status["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let deadline = Instant::now() + DEADLINE;
    while !ready().await {
        assert!(Instant::now() < deadline, "{}", bed.kubelet.log(NAMESPACE, "controlplane", "controlplane"));
        sleep(std::time::Duration::from_millis(50)).await;
    }
    Life { cluster: &bed.cluster, client: &bed.client }.lead(NAMESPACE, &[]).await;
    let said = bed.settled("kthena-controlplane").await;
    assert_eq!(said, "", "{}", bed.kubelet.log(NAMESPACE, "controlplane", "controlplane"));
    bed.pods.delete("controlplane", &DeleteParams::default()).await.unwrap();
}
