//! Every YAML under `examples/`, applied to a cluster of two nodes as its reader would apply it: what it says of itself is so there. The identities of
//! `cluster/`, which are for planes without the chart, have such planes; all else is asked of the planes that the chart installs. A file that nobody
//! asks for here fails the test.

mod directory;
mod narrowed;
mod walked;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{Config as ClientConfig, KubeConfigOptions, Kubeconfig};
use kubelet::{NodeSpec, plan};
use perf_tests::cluster::Cluster;
use perf_tests::helm::documents;
use perf_tests::nodes::{self, enter};
use perf_tests::rights::{Account, asked};
use serde_json::Value;

use crate::fleet::holds;
use crate::installed::clients::{completion, exchange};
use crate::installed::site::{Ready, Site};
use crate::program::route;
use crate::rights::{life::Life, settled};
use crate::wait::until;

const SYSTEM: &str = "kthena-system";
/// As `examples/directory` calls them.
const NODES: [&str; 2] = ["node-a", "node-b"];
const MODEL: &str = "llama-3-8b";
/// The chart's own names.
const GATEWAY: &str = "kthena-router";
const NODE: &str = "kthena-node";

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
  volumes:
  - name: identity
    projected:
      sources: [{serviceAccountToken: {path: token, audience: kthena-controlplane, expirationSeconds: 3600}}]
  containers:
  - name: main
    image: kthena-controlplane
    args:
    - serve
    - --kubernetes
    - --listen=0.0.0.0:15010
    - --webhook-address=0.0.0.0:8443
    - --metrics-address=0.0.0.0:9091
    - --peer-token=/etc/kthena/identity/token
    env: [{name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}]
    volumeMounts: [{name: identity, mountPath: /etc/kthena/identity}]
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
    site: Site,
    client: Client,
    /// Which examples were asked for.
    known: Mutex<BTreeSet<String>>,
}

impl Stage {
    async fn new() -> Self {
        let site = Site::on(NODES.map(|name| NodeSpec::in_zone(name, "elsewhere")).to_vec(), false, None).await;
        let client = site.client.clone();
        site.cluster.install_definitions(&client).await.unwrap();
        Self { site, client, known: Mutex::default() }
    }

    fn read(&self, example: &str) -> String {
        self.known.lock().unwrap().insert(example.to_owned());
        std::fs::read_to_string(folder().join(example)).unwrap()
    }

    async fn apply(&self, namespace: &str, yaml: &str) {
        self.site.cluster.apply(&self.client, namespace, yaml).await.unwrap();
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

    /// Waits until each of ten requests to each of these proxies is answered by one of those.
    async fn served_by(&self, proxies: &[String], (model, headers): (&str, &str), expected: &[String]) {
        until(&format!("answer for {model} {headers:?} by {expected:?} alone"), async || {
            for proxy in proxies.iter().flat_map(|proxy| std::iter::repeat_n(proxy, 10)) {
                match self.served(proxy, model, headers).await {
                    Some(served) if expected.contains(&served) => {}
                    _ => return false,
                }
            }
            true
        })
        .await;
    }

    async fn endpoints(&self, proxy: &str) -> Vec<Value> {
        self.table(proxy).await["endpoints"].as_array().unwrap().clone()
    }

    /// What a data plane goes by.
    async fn table(&self, proxy: &str) -> Value {
        let pod = plan::pod_namespace(proxy.parse().unwrap());
        let request = "GET /debug/table HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = enter(&pod, move || async move { exchange("127.0.0.1:15000", request).await }).await.unwrap();
        let answer = answer.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Deletes a pod and waits until it is gone.
    async fn end(&self, namespace: &str, pod: &str) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        pods.delete(pod, &DeleteParams::default()).await.unwrap();
        until(&format!("end of {pod}"), async || pods.get_opt(pod).await.unwrap().is_none()).await;
    }
}

/// With these rights and no others the control plane follows the cluster and fills what the files leave empty. Its proxy is asked for the quickstart's
/// model, too. Then they make room.
async fn identities(stage: &Stage, engines: &[String]) {
    let planes = stage.read("cluster/controlplane.yaml");
    stage.apply(SYSTEM, &planes).await;
    stage.apply(SYSTEM, &stage.read("cluster/webhook.yaml")).await;
    stage.apply(SYSTEM, PLANES).await;
    stage.ready(SYSTEM, "controlplane").await;
    let filled = filled(stage).await;
    assert!(filled[0]["ca.crt"].as_str().unwrap().contains("BEGIN CERTIFICATE"), "{filled:?}");
    assert_eq!(rights(stage, SYSTEM, "kthena-dataplane").await, ANYONES);
    let proxy = stage.ready(SYSTEM, "proxy").await;
    webhook(stage).await;
    stage.served_by(&[proxy], (MODEL, ""), engines).await;
    every_right(stage).await;
    stage.apply(SYSTEM, &planes).await;
    assert_eq!(self::filled(stage).await, filled, "what was left out is the control plane's");
    stage.end(SYSTEM, "proxy").await;
    stage.end(SYSTEM, "controlplane").await;
    nobody_answers(stage).await;
    let hooks = Api::<ValidatingWebhookConfiguration>::all(stage.client.clone());
    hooks.delete("kthena-controlplane", &DeleteParams::default()).await.unwrap();
}

/// What the control plane has put into what the files leave empty.
async fn filled(stage: &Stage) -> [Value; 3] {
    let maps = Api::<ConfigMap>::namespaced(stage.client.clone(), SYSTEM);
    let secrets = Api::<Secret>::namespaced(stage.client.clone(), SYSTEM);
    let secret = async |name| serde_json::to_value(secrets.get(name).await.unwrap().data).unwrap();
    let ca = serde_json::to_value(maps.get("kthena-controlplane-ca").await.unwrap().data).unwrap();
    let all = [ca, secret("kthena-controlplane-certificates").await, secret("kthena-fleet-seed").await];
    assert!(all.iter().all(Value::is_object), "all are filled: {all:?}");
    all
}

/// Each right that the files give is one that the control plane uses, and it asks for nothing else. What it makes it makes as a dry run.
async fn every_right(stage: &Stage) {
    Life { cluster: &stage.site.cluster, client: &stage.client }.lead(SYSTEM, &[]).await;
    let files = ["cluster/controlplane.yaml", "cluster/webhook.yaml"].map(|file| documents(&stage.read(file)).unwrap());
    let account = Account { namespace: SYSTEM, name: "kthena-controlplane" };
    assert_eq!(settled(&stage.site.cluster, &files.concat(), account).await, "");
    let tried = uris(stage, &["create"], "modelroutes");
    assert!(!tried.is_empty() && tried.iter().all(|uri| uri.contains("dryRun=All")), "{tried:?}");
    // Of secrets those with the label; its own two it gets by name.
    let labelled = "labelSelector=networking.serving.volcano.sh%2Fexternal-model-provider-credential%3Dtrue";
    let secrets = uris(stage, &["list", "watch"], "secrets");
    assert!(secrets.len() > 1 && secrets.iter().all(|uri| uri.contains(labelled)), "{secrets:?}");
}

/// What the control plane of the file asked for by these verbs, as the API server's log has it.
fn uris(stage: &Stage, verbs: &[&str], resource: &str) -> Vec<String> {
    let log = std::fs::read_to_string(stage.site.cluster.audit_log()).unwrap();
    let user = format!("system:serviceaccount:{SYSTEM}:kthena-controlplane");
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let those = events.filter(|event| {
        let asked = verbs.iter().any(|verb| event["verb"] == *verb) && event["objectRef"]["resource"] == resource;
        asked && event["user"]["username"] == *user
    });
    those.map(|event| event["requestURI"].as_str().unwrap().to_owned()).collect()
}

/// An object whose spec stays goes through while the webhook is there and no control plane is; one whose spec changes does not.
async fn nobody_answers(stage: &Stage) {
    let name = &format!("r-{SYSTEM}");
    let apply = async |yaml: &str| stage.site.cluster.apply(&stage.client, SYSTEM, yaml).await;
    let labelled = route(name, "s").replace("metadata: {", "metadata: {labels: {seen: alone}, ");
    let applied = apply(&labelled).await.unwrap();
    assert_eq!(applied[0].metadata.labels.as_ref().unwrap()["seen"], "alone");
    let why = format!("{:#}", apply(&route(name, "other")).await.expect_err("it cannot be judged"));
    assert!(why.contains("failed calling webhook \"validate.kthena.volcano.sh\""), "{why}");
}

/// The groups in which every account may ask something about itself.
const ANYONES: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// The groups in which an account may do anything.
async fn rights(stage: &Stage, namespace: &str, account: &str) -> Vec<String> {
    let mut config = Kubeconfig::read_from(stage.site.cluster.kubeconfig()).unwrap();
    for named in &mut config.auth_infos {
        let info = named.auth_info.as_mut().unwrap();
        info.impersonate = Some(format!("system:serviceaccount:{namespace}:{account}"));
        info.impersonate_groups = Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]);
    }
    let config = ClientConfig::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let asked = Api::all(Client::try_from(config).unwrap()).create(&PostParams::default(), &review).await.unwrap();
    let rules = asked.status.unwrap().resource_rules;
    let groups: BTreeSet<_> = rules.into_iter().flat_map(|rule| rule.api_groups.unwrap_or_default()).collect();
    groups.into_iter().collect()
}

/// A wrong object is refused with what to do, and the file applied again takes no bundle away.
async fn webhook(stage: &Stage) {
    let bundle = async || {
        let hooks = Api::<ValidatingWebhookConfiguration>::all(stage.client.clone());
        let webhooks = hooks.get("kthena-controlplane").await.unwrap().webhooks.unwrap();
        webhooks.into_iter().map(|webhook| webhook.client_config.ca_bundle).collect::<Vec<_>>()
    };
    let before = bundle().await;
    assert!(before.iter().all(Option::is_some), "{before:?}");
    stage.apply(SYSTEM, &stage.read("cluster/webhook.yaml")).await;
    assert_eq!(bundle().await, before);
    refuses(stage).await;
}

async fn refuses(stage: &Stage) {
    let wrong = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {name: wrong}\n\
                 spec: {modelName: m, rules: [{modelMatch: {uri: {regex: '('}}, targetModels: [{modelServerName: s}]}]}\n";
    let refused = stage.site.cluster.apply(&stage.client, "default", wrong).await;
    let why = format!("{:#}", refused.expect_err("it is refused"));
    assert!(why.contains("spec.rules[0].modelMatch.uri.regex"), "{why}");
}

/// The chart's proxies on all nodes and of the gateway.
async fn proxies(stage: &Stage) -> Vec<Ready> {
    let all = [stage.site.proxies(NODE).await, stage.site.proxies(GATEWAY).await].concat();
    assert_eq!(all.len(), NODES.len() + 2, "{all:?}");
    all
}

/// Puts the quickstart into a namespace, and returns where its engines are.
async fn engines(stage: &Stage, here: &str) -> [String; 2] {
    for file in ["pods", "servers", "route"] {
        stage.apply(here, &stage.read(&format!("quickstart/{file}.yaml"))).await;
    }
    ready_engines(stage, here).await
}

async fn ready_engines(stage: &Stage, here: &str) -> [String; 2] {
    let (first, second) = (stage.ready(here, "llama-0").await, stage.ready(here, "llama-1").await);
    [first, second].map(|ip| format!("{ip}:18001"))
}

/// One route to both engines; put `canary` for `llama`, and all goes to the second; delete that one, and all goes to the first.
async fn quickstart(stage: &Stage, here: &str, both: &[String; 2]) {
    let proxies: Vec<_> = proxies(stage).await.into_iter().map(|proxy| proxy.ip).collect();
    for model in [MODEL, "sql-adapter"] {
        stage.served_by(&proxies, (model, ""), both).await;
    }
    let endpoints = stage.endpoints(&proxies[0]).await;
    let of_servers = endpoints.iter().filter(|endpoint| endpoint["modelServers"].as_array().unwrap().len() == 2);
    assert_eq!((endpoints.len(), of_servers.count()), (2, 1), "{endpoints:#?}");
    let edited = stage.read("quickstart/route.yaml").replace("modelServerName: llama", "modelServerName: canary");
    stage.apply(here, &edited).await;
    stage.served_by(&proxies, (MODEL, ""), &both[1..]).await;
    stage.apply(here, &stage.read("quickstart/route.yaml")).await;
    stage.served_by(&proxies, (MODEL, ""), both).await;
    let pods = Api::<Pod>::namespaced(stage.client.clone(), here);
    pods.delete("llama-1", &DeleteParams::default().grace_period(1)).await.unwrap();
    stage.served_by(&proxies, (MODEL, ""), &both[..1]).await;
    leave(stage, here).await;
}

/// Else the model's name is this namespace's.
async fn leave(stage: &Stage, here: &str) {
    for yaml in ["route", "servers"].map(|file| stage.read(&format!("quickstart/{file}.yaml"))) {
        delete(stage, here, &yaml).await;
    }
}

async fn delete(stage: &Stage, namespace: &str, yaml: &str) {
    for object in stage.site.cluster.apply(&stage.client, namespace, yaml).await.unwrap() {
        let types = object.types.clone().unwrap();
        let kind = kube::api::GroupVersionKind::try_from(&types).unwrap();
        let (resource, _) = kube::discovery::pinned_kind(&stage.client, &kind).await.unwrap();
        let api = Api::<kube::api::DynamicObject>::namespaced_with(stage.client.clone(), namespace, &resource);
        api.delete(object.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    }
}

/// Gateway and node proxies may do nothing at the API server, and in all of this asked it for nothing; the others for nothing that was refused.
async fn accounts(stage: &Stage) {
    let log = std::fs::read_to_string(stage.site.cluster.audit_log()).unwrap();
    let namespace = &stage.site.namespace;
    for name in [GATEWAY, NODE] {
        assert_eq!(asked(&log, Account { namespace, name }), BTreeSet::new(), "{name}");
        assert_eq!(rights(stage, namespace, name).await, ANYONES, "{name}");
    }
    for name in ["kthena-controlplane", "kthena-crds"] {
        let asked = asked(&log, Account { namespace, name });
        let refused: Vec<_> = asked.iter().filter(|asked| asked.refused).collect();
        assert!(refused.is_empty() && !asked.is_empty(), "{name}: {refused:?}");
    }
}

#[test]
fn every_example_does_on_a_cluster_what_it_says() {
    // Built where there is a network.
    let kubectl = Cluster::kubectl().unwrap();
    nodes::within("examples::every_example_does_on_a_cluster_what_it_says", || async {
        let stage = Stage::new().await;
        let here = stage.site.cluster.namespace(&stage.client, "identities").await.unwrap();
        identities(&stage, &engines(&stage, &here).await).await;
        leave(&stage, &here).await;
        narrowed::follows(&stage).await;
        walked::through(&stage.site, &kubectl, NODES[0]).await;
        refuses(&stage).await;
        quickstart(&stage, walked::NAMESPACE, &ready_engines(&stage, walked::NAMESPACE).await).await;
        directory::serves(&stage).await;
        accounts(&stage).await;
        let mut all = BTreeSet::new();
        files(&folder(), &mut all);
        assert_eq!(*stage.known.lock().unwrap(), all, "an example that this test does not know");
        drop(stage.site.bed);
    })
    .unwrap();
}
