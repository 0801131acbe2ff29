//! Every YAML under `examples/`, applied to a cluster of two nodes as its reader would apply it: what it says of itself is so there. A file that
//! nobody asks for here fails the test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{Config as ClientConfig, KubeConfigOptions, Kubeconfig};
use perf_tests::cluster::{Cluster, Parts};
use perf_tests::kubelet::{Config, NodeSpec, built};
use perf_tests::nodes::{self, Nodes, enter, plan};
use serde_json::Value;

use crate::fleet::{holds, programs};
use crate::installed::clients::{completion, exchange};
use crate::wait::until;

const SYSTEM: &str = "kthena-system";
/// As `examples/directory` calls them.
const NODES: [&str; 2] = ["node-a", "node-b"];
const MODEL: &str = "llama-3-8b";

/// The planes under the identities that `examples/cluster` gives them.
const PLANES: &str = "
apiVersion: v1
kind: Service
metadata: {name: kthena-controlplane}
spec: {selector: {app.kubernetes.io/name: kthena-controlplane}, ports: [{name: grpc, port: 15010}]}
---
apiVersion: v1
kind: Pod
metadata: {name: controlplane, labels: {app.kubernetes.io/name: kthena-controlplane}}
spec:
  serviceAccountName: kthena-controlplane
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: kthena-controlplane
    args: [serve, --kubernetes, '--listen=0.0.0.0:15010', '--webhook-address=0.0.0.0:8443', '--metrics-address=0.0.0.0:9091']
    env: [{name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}]
    readinessProbe: {httpGet: {path: /readyz, port: 9091}, periodSeconds: 1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {config.yaml: 'expose: {endpoint: true}'}
---
apiVersion: v1
kind: Pod
metadata: {name: proxy}
spec:
  serviceAccountName: kthena-dataplane
  automountServiceAccountToken: false
  nodeName: node-a
  terminationGracePeriodSeconds: 1
  volumes:
  - name: identity
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: kthena-controlplane, expirationSeconds: 3600}
      - configMap: {name: kthena-controlplane-ca}
  - {name: settings, configMap: {name: settings}}
  containers:
  - name: main
    image: kthena-dataplane
    args:
    - --config=/etc/kthena/settings/config.yaml
    - --cores=1
    - --bind=0.0.0.0
    - --control-plane=https://kthena-controlplane.kthena-system.svc:15010
    - --control-plane-ca=/etc/kthena/identity/ca.crt
    - --control-plane-token=/etc/kthena/identity/token
    env: [{name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
    volumeMounts: [{name: identity, mountPath: /etc/kthena/identity}, {name: settings, mountPath: /etc/kthena/settings}]
    readinessProbe: {httpGet: {path: /readyz, port: 9090}, periodSeconds: 1}
";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// The YAML below it, by its path from `examples/`.
fn files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            found.insert(path.strip_prefix(self::folder()).unwrap().to_str().unwrap().to_owned());
        }
    }
}

struct Stage {
    cluster: Cluster,
    client: Client,
    bed: Nodes,
    /// Which examples were asked for.
    known: Mutex<BTreeSet<String>>,
}

impl Stage {
    async fn new() -> Self {
        let specs = || NODES.map(|name| NodeSpec::in_zone(name, "elsewhere")).to_vec();
        nodes::lay(&specs()).await.unwrap();
        let cluster = Cluster::start(Parts::Nodes).unwrap();
        let client = cluster.admin().await.unwrap();
        cluster.install_definitions(&client).await.unwrap();
        let programs = programs()
            .with("kthena-tools", built("kthena-ask").unwrap())
            .with("kthena-controlplane", built("kthena-controlplane").unwrap())
            .with("kthena-dataplane", built("kthena-dataplane").unwrap());
        let config = Config { nodes: specs(), ..Config::of(&cluster, programs).unwrap() };
        let bed = Nodes::start(&cluster, config).await.unwrap();
        Self { cluster, client, bed, known: Mutex::default() }
    }

    fn read(&self, example: &str) -> String {
        self.known.lock().unwrap().insert(example.to_owned());
        std::fs::read_to_string(folder().join(example)).unwrap()
    }

    async fn apply(&self, namespace: &str, yaml: &str) {
        self.cluster.apply(&self.client, namespace, yaml).await.unwrap();
    }

    /// A pod's address, once it is ready.
    async fn ready(&self, namespace: &str, name: &str) -> String {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let mut address = String::new();
        let ready = async || {
            let status = pods.get(name).await.unwrap().status.unwrap_or_default();
            address = status.pod_ip.clone().unwrap_or_default();
            holds(&serde_json::to_value(status).unwrap(), "Ready")
        };
        until(&format!("ready {name}"), ready).await;
        address
    }

    /// Who answers a request for a model with these further header lines; nobody where it is not answered.
    async fn served(&self, proxy: &str, model: &str, headers: &str) -> Option<String> {
        let request = completion(model, "hi", (2, false)).replacen("Host: x\r\n", &format!("Host: x\r\n{headers}"), 1);
        let answer = exchange(&format!("{proxy}:8080"), &request).await.ok()?;
        let served = answer.lines().find_map(|line| line.strip_prefix("x-kthena-endpoint: "))?;
        answer.starts_with("HTTP/1.1 200 ").then(|| served.to_owned())
    }

    /// Waits until each of ten requests is answered by one of these.
    async fn served_by(&self, (proxy, model, headers): (&str, &str, &str), expected: &[String]) {
        until(&format!("answer for {model} {headers:?} by {expected:?} alone"), async || {
            for _ in 0..10 {
                match self.served(proxy, model, headers).await {
                    Some(served) if expected.contains(&served) => {}
                    _ => return false,
                }
            }
            true
        })
        .await;
    }

    /// What a data plane has in its table.
    async fn endpoints(&self, proxy: &str) -> Vec<Value> {
        let pod = plan::pod_namespace(proxy.parse().unwrap());
        let request = "GET /debug/table HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = enter(&pod, move || async move { exchange("127.0.0.1:15000", request).await }).await.unwrap();
        let answer = answer.unwrap();
        let table: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        table["endpoints"].as_array().unwrap().clone()
    }
}

/// With these rights and no others the control plane follows the cluster and fills what the files leave empty.
async fn planes(stage: &Stage) -> String {
    stage.apply(SYSTEM, &stage.read("cluster/controlplane.yaml")).await;
    stage.apply(SYSTEM, &stage.read("cluster/webhook.yaml")).await;
    stage.apply(SYSTEM, PLANES).await;
    stage.ready(SYSTEM, "controlplane").await;
    let maps = Api::<ConfigMap>::namespaced(stage.client.clone(), SYSTEM);
    let told = maps.get("kthena-controlplane-ca").await.unwrap().data.unwrap_or_default();
    assert!(told["ca.crt"].contains("BEGIN CERTIFICATE"), "{told:?}");
    let secrets = Api::<Secret>::namespaced(stage.client.clone(), SYSTEM);
    for name in ["kthena-controlplane-certificates", "kthena-fleet-seed"] {
        assert!(secrets.get(name).await.unwrap().data.is_some(), "{name} is filled");
    }
    assert_eq!(rights(stage, "kthena-dataplane").await, ["authentication.k8s.io", "authorization.k8s.io"]);
    stage.ready(SYSTEM, "proxy").await
}

/// The groups in which an account may do anything.
async fn rights(stage: &Stage, account: &str) -> Vec<String> {
    let mut config = Kubeconfig::read_from(stage.cluster.kubeconfig()).unwrap();
    for named in &mut config.auth_infos {
        let info = named.auth_info.as_mut().unwrap();
        info.impersonate = Some(format!("system:serviceaccount:{SYSTEM}:{account}"));
        info.impersonate_groups = Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]);
    }
    let config = ClientConfig::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(SYSTEM.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let asked = Api::all(Client::try_from(config).unwrap()).create(&PostParams::default(), &review).await.unwrap();
    let rules = asked.status.unwrap().resource_rules;
    let groups: BTreeSet<_> = rules.into_iter().flat_map(|rule| rule.api_groups.unwrap_or_default()).collect();
    groups.into_iter().collect()
}

/// A wrong object is refused with what to do, and the file applied again takes no bundle away.
async fn webhook(stage: &Stage) {
    let wrong = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {name: wrong}\n\
                 spec: {modelName: m, rules: [{modelMatch: {uri: {regex: '('}}, targetModels: [{modelServerName: s}]}]}\n";
    let bundle = async || {
        let hooks = Api::<ValidatingWebhookConfiguration>::all(stage.client.clone());
        let webhooks = hooks.get("kthena-controlplane").await.unwrap().webhooks.unwrap();
        webhooks.into_iter().map(|webhook| webhook.client_config.ca_bundle).collect::<Vec<_>>()
    };
    let before = bundle().await;
    assert!(before.iter().all(Option::is_some), "{before:?}");
    stage.apply(SYSTEM, &stage.read("cluster/webhook.yaml")).await;
    assert_eq!(bundle().await, before);
    let refused = stage.cluster.apply(&stage.client, "default", wrong).await;
    let why = format!("{:#}", refused.expect_err("it is refused"));
    assert!(why.contains("spec.rules[0].modelMatch.uri.regex"), "{why}");
}

/// One route to both engines; put `canary` for `llama`, and all goes to the second.
async fn quickstart(stage: &Stage, proxy: &str) {
    let here = stage.cluster.namespace(&stage.client, "quickstart").await.unwrap();
    for file in ["pods", "servers", "route"] {
        stage.apply(&here, &stage.read(&format!("quickstart/{file}.yaml"))).await;
    }
    let (first, second) = (stage.ready(&here, "llama-0").await, stage.ready(&here, "llama-1").await);
    let both = [first, second].map(|ip| format!("{ip}:18001"));
    for model in [MODEL, "sql-adapter"] {
        stage.served_by((proxy, model, ""), &both).await;
    }
    let endpoints = stage.endpoints(proxy).await;
    let of_servers = endpoints.iter().filter(|endpoint| endpoint["modelServers"].as_array().unwrap().len() == 2);
    assert_eq!((endpoints.len(), of_servers.count()), (2, 1), "{endpoints:#?}");
    let edited = stage.read("quickstart/route.yaml").replace("modelServerName: llama", "modelServerName: canary");
    stage.apply(&here, &edited).await;
    stage.served_by((proxy, MODEL, ""), &both[1..]).await;
    let pods = Api::<Pod>::namespaced(stage.client.clone(), &here);
    pods.delete("llama-1", &DeleteParams::default()).await.unwrap();
    // Else the model name is this namespace's.
    for yaml in ["route", "servers"].map(|file| stage.read(&format!("quickstart/{file}.yaml"))) {
        delete(stage, &here, &yaml).await;
    }
}

async fn delete(stage: &Stage, namespace: &str, yaml: &str) {
    for object in stage.cluster.apply(&stage.client, namespace, yaml).await.unwrap() {
        let types = object.types.clone().unwrap();
        let kind = kube::api::GroupVersionKind::try_from(&types).unwrap();
        let (resource, _) = kube::discovery::pinned_kind(&stage.client, &kind).await.unwrap();
        let api = Api::<kube::api::DynamicObject>::namespaced_with(stage.client.clone(), namespace, &resource);
        api.delete(object.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    }
}

/// A proxy learns of its node's zone as it connects.
async fn another_proxy(stage: &Stage) -> String {
    let pods = Api::<Pod>::namespaced(stage.client.clone(), SYSTEM);
    pods.delete("proxy", &DeleteParams::default()).await.unwrap();
    until("end of the proxy", async || pods.get_opt("proxy").await.unwrap().is_none()).await;
    stage.apply(SYSTEM, PLANES).await;
    stage.ready(SYSTEM, "proxy").await
}

/// A canary by a header, engines on both nodes of one zone; an engine that is deleted is asked no more.
async fn directory(stage: &Stage) {
    let here = stage.cluster.namespace(&stage.client, "directory").await.unwrap();
    for file in ["pods", "servers", "route"] {
        stage.apply(&here, &stage.read(&format!("directory/{file}.yaml"))).await;
    }
    let proxy = &another_proxy(stage).await;
    let (first, second) = (stage.ready(&here, "llama-0").await, stage.ready(&here, "llama-1").await);
    let llama = [first, second].map(|ip| format!("{ip}:18001"));
    let canary = [stage.ready(&here, "llama-canary-0").await + ":18002"];
    for model in [MODEL, "sql-adapter"] {
        stage.served_by((proxy, model, ""), &llama).await;
    }
    stage.served_by((proxy, MODEL, "x-canary: yes\r\n"), &canary).await;
    stage.served_by((proxy, MODEL, "x-canary: no\r\n"), &llama).await;
    let mut distances: Vec<_> = stage.endpoints(proxy).await;
    distances.sort_by_key(|endpoint| endpoint["name"].as_str().unwrap().to_owned());
    let distances: Vec<_> = distances.iter().map(|endpoint| endpoint["distance"].as_str().unwrap()).collect();
    assert_eq!(distances, ["node", "zone", "zone"], "the proxy is on node-a, and both nodes are of zone-1");
    let pods = Api::<Pod>::namespaced(stage.client.clone(), &here);
    pods.delete("llama-0", &DeleteParams::default().grace_period(1)).await.unwrap();
    stage.served_by((proxy, MODEL, ""), &llama[1..]).await;
}

#[test]
fn every_example_does_on_a_cluster_what_it_says() {
    nodes::within("examples::every_example_does_on_a_cluster_what_it_says", || async {
        let stage = Stage::new().await;
        let proxy = planes(&stage).await;
        webhook(&stage).await;
        quickstart(&stage, &proxy).await;
        directory(&stage).await;
        let mut all = BTreeSet::new();
        files(&folder(), &mut all);
        assert_eq!(*stage.known.lock().unwrap(), all, "an example that this test does not know");
        drop(stage.bed);
    })
    .unwrap();
}
