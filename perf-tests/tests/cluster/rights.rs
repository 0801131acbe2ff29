//! The rights that the chart gives, beside what the programs ask for: each verb of each resource of each rule is one without which a request
//! would have been refused, and no request was refused. The programs run as pods, from the chart's own templates, as the chart's own service
//! accounts, and the API server's audit log says what they asked.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject};
use perf_tests::cluster::{Cluster, Parts};
use perf_tests::helm::Render;
use perf_tests::kubelet::{Config, Kubelet, Network, built};
use perf_tests::rights::{Account, Findings, asked, compare, granted};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::chart::make_namespace;
use crate::fleet::programs;
use crate::network;
use crate::program::{route, server};
use crate::wait::{DEADLINE, until};

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
        let config = Config { network: Network::Private, ..Config::of(&cluster, programs).unwrap() };
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

    /// How often the control plane says that it has built something.
    fn findings(&self, name: &str) -> Findings {
        let account = Account { namespace: NAMESPACE, name };
        let log = std::fs::read_to_string(self.cluster.audit_log()).unwrap();
        compare(&granted(&self.objects, account).unwrap(), &asked(&log, account))
    }

    /// Waits until every right was used, and says what stayed wrong.
    async fn settled(&self, account: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let findings = self.findings(account);
            let unneeded = !findings.unneeded.is_empty();
            if !unneeded || Instant::now() > deadline {
                return findings.to_string();
            }
            sleep(std::time::Duration::from_millis(250)).await;
        }
    }

    /// The webhook as the chart has it, by an address that this API server reaches.
    async fn configure_webhook(&self, ip: &str) {
        let mut configuration = self.find("ValidatingWebhookConfiguration", "kthena-controlplane").clone();
        configuration["webhooks"][0]["clientConfig"] = json!({"url": format!("https://{ip}:8443/validate")});
        self.apply(&configuration).await;
    }

    async fn resolved(&self, name: &str) -> Value {
        let resource = kube::api::ApiResource::from_gvk_with_plural(
            &kube::api::GroupVersionKind::gvk("networking.serving.volcano.sh", "v1alpha1", "ModelRoute"),
            "modelroutes",
        );
        let routes = Api::<DynamicObject>::namespaced_with(self.client.clone(), NAMESPACE, &resource);
        let status = routes.get(name).await.unwrap().data["status"].take();
        let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default().into_iter();
        conditions.find(|condition| condition["type"] == "ResolvedRefs").unwrap_or_default()["status"].take()
    }

    /// What the scheduler goes by stays when it is broken, once it was seen whole, and is kept then. A program that is busy may see
    /// two edits as one.
    async fn break_scheduler(&self) {
        let maps = Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(self.client.clone(), NAMESPACE);
        let kept = "networking.serving.volcano.sh/last-good-router-configuration";
        let deadline = Instant::now() + DEADLINE;
        for text in ["scheduler: {}", "scheduler: 7"].into_iter().cycle() {
            assert!(Instant::now() < deadline, "no form of it is kept");
            self.apply(&json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kthena-router-config"},
                "data": {"routerConfiguration": text},
            }))
            .await;
            let looks = Instant::now() + std::time::Duration::from_secs(2);
            while Instant::now() < looks {
                let map = maps.get("kthena-router-config").await.unwrap();
                if map.metadata.annotations.is_some_and(|all| all.contains_key(kept)) {
                    return;
                }
                sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }

    async fn delete_server(&self, name: &str) {
        let path = format!("/apis/networking.serving.volcano.sh/v1alpha1/namespaces/{NAMESPACE}/modelservers/{name}");
        let request = http::Request::delete(path).body(Vec::new()).unwrap();
        self.client.request::<Value>(request).await.unwrap();
    }
}

#[test]
fn each_right_of_the_chart_is_one_that_its_program_needs_and_none_is_missing() {
    network::within("rights::each_right_of_the_chart_is_one_that_its_program_needs_and_none_is_missing", needed);
}

async fn needed() {
    let bed = Bed::start().await;
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
    bed.configure_webhook(ip.as_str().unwrap()).await;
    let provider = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ExternalModelProvider\nmetadata: {name: p}\n\
                    spec: {baseURL: 'https://api.example.com/v1', model: gpt, auth: {secretRef: {name: key, key: api-key}}}\n";
    let ready = async || {
        let status = bed.status("controlplane").await;
        status["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let deadline = Instant::now() + DEADLINE;
    while !ready().await {
        assert!(Instant::now() < deadline, "{}", bed.kubelet.log(NAMESPACE, "controlplane", "controlplane"));
        sleep(std::time::Duration::from_millis(50)).await;
    }
    // One of each kind whose status has a condition of ours and no more.
    let judged = |kind: &str, spec: &str| {
        format!(
            "apiVersion: workload.serving.volcano.sh/v1alpha1\nkind: {kind}\nmetadata: {{name: it}}\nspec: {spec}\n"
        )
    };
    let role = "{name: server, entryTemplate: {spec: {containers: [{name: engine, image: nginx}]}}, workerReplicas: 0}";
    let target = "{minReplicas: 1, maxReplicas: 2, target: {targetRef: {kind: ModelServing, name: it}}}";
    let judged = [
        judged("ModelServing", &format!("{{replicas: 0, template: {{roles: [{role}]}}}}")),
        judged(
            "ModelBooster",
            "{backend: {name: b, type: vLLM, modelURI: 'hf://a/b', cacheURI: 'hostpath://tmp/cache', replicas: 0, workers: [{type: \
             server, image: 'vllm/vllm-openai:latest', replicas: 1, pods: 1}]}}",
        ),
        judged("AutoscalingPolicy", "{metrics: [{name: rps, targetValue: '1'}]}"),
        judged("AutoscalingPolicyBinding", &format!("{{policyRef: {{name: it}}, homogeneousTarget: {target}}}")),
    ];
    for object in &judged {
        until("it is taken", async || bed.cluster.apply(&bed.client, NAMESPACE, object).await.is_ok()).await;
    }
    // A route whose server is away, comes and goes again: the same warning twice.
    for object in [&*route("r", "s"), provider] {
        // The API server tells of kinds that it has just learnt a moment after it serves them.
        until("it is taken", async || bed.cluster.apply(&bed.client, NAMESPACE, object).await.is_ok()).await;
    }
    until("the first warning", async || bed.resolved("r").await == "False").await;
    bed.cluster.apply(&bed.client, NAMESPACE, &server("s", 8000)).await.unwrap();
    until("it is well", async || bed.resolved("r").await == "True").await;
    bed.delete_server("s").await;
    until("the second warning", async || bed.resolved("r").await == "False").await;
    bed.cluster.apply(&bed.client, NAMESPACE, &server("s", 8000)).await.unwrap();
    until("it is well again", async || bed.resolved("r").await == "True").await;
    bed.break_scheduler().await;
    let said = bed.settled("kthena-controlplane").await;
    assert_eq!(said, "", "{}", bed.kubelet.log(NAMESPACE, "controlplane", "controlplane"));

    let log = std::fs::read_to_string(bed.cluster.audit_log()).unwrap();
    for name in ["kthena-router", "kthena-node"] {
        let account = Account { namespace: NAMESPACE, name };
        assert_eq!((granted(&bed.objects, account).unwrap(), asked(&log, account)), (BTreeSet::new(), BTreeSet::new()));
    }
    bed.pods.delete("controlplane", &DeleteParams::default()).await.unwrap();
}
