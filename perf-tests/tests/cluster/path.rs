//! The whole path: both planes and engines run as pods, each under its own identity, and what is applied is how requests go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kubelet::Network;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::played::Played;
use crate::wait::until;

const CONTROL_PLANE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: controlplane}
spec:
  serviceAccountName: kthena-controlplane
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: kthena-controlplane
    args: [serve, --kubernetes, --namespaces=HERE, '--listen=$(POD_IP):15010', --always-tls, '--metrics-address=$(POD_IP):9091', --debug-port=0]
    env:
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    ports: [{name: metrics, containerPort: 9091}]
    readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 1}
";

const DATA_PLANE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: dataplane}
spec:
  serviceAccountName: kthena-dataplane
  terminationGracePeriodSeconds: 5
  volumes:
  - name: identity
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: kthena-controlplane, expirationSeconds: 3600}
      - configMap: {name: kthena-controlplane-ca}
  - name: state
    emptyDir: {}
  containers:
  - name: main
    image: kthena-dataplane
    args:
    - --bind=$(POD_IP)
    - --port=8080
    - --metrics-port=9090
    - --debug-port=0
    - --cores=1
    - --control-plane=https://CONTROL:15010
    - --control-plane-server-name=kthena-controlplane.HERE
    - --control-plane-ca=/etc/kthena/identity/ca.crt
    - --control-plane-token=/etc/kthena/identity/token
    - --state-dir=/var/lib/kthena
    env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    volumeMounts: [{name: identity, mountPath: /etc/kthena/identity}, {name: state, mountPath: /var/lib/kthena}]
    ports: [{name: metrics, containerPort: 9090}]
    readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 1}
";

const ENGINES: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: engines}
spec:
  replicas: 2
  selector: {matchLabels: {app: llama}}
  template:
    metadata: {labels: {app: llama}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: engine-sim
        args: [--listen, '$(POD_IP):8000', --model, llama]
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{name: http, containerPort: 8000}]
        readinessProbe: {httpGet: {path: /health, port: http}, periodSeconds: 1}
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: llama}
spec:
  inferenceEngine: vLLM
  model: llama
  workloadPort: {port: 8000}
  workloadSelector: {matchLabels: {app: llama}}
";

fn route(name: &str) -> String {
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\n\
         spec: {{modelName: {name}, rules: [{{targetModels: [{{modelServerName: llama}}]}}]}}\n"
    )
}

async fn condition(site: &Played, route: &str, kind: &str) -> Value {
    let gvk = GroupVersionKind::gvk("networking.serving.volcano.sh", "v1alpha1", "ModelRoute");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "modelroutes");
    let api: Api<DynamicObject> = Api::namespaced_with(site.client.clone(), &site.namespace, &resource);
    let object = api.get(route).await.unwrap();
    let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// The status of a chat completion, 0 where there is no answer.
async fn ask(proxy: &str, model: &str) -> u16 {
    let body = json!({"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect((proxy, 8080)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(Duration::from_secs(10), exchange).await;
    let answer = answer.unwrap_or_else(|_| Ok(String::new())).unwrap_or_default();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn c01_what_is_applied_is_how_requests_go_also_while_the_api_server_is_away() {
    let site = Played::start("path", Network::Loopback).await;
    site.apply(&CONTROL_PLANE.replace("HERE", &site.namespace)).await;
    let control = site.ready("controlplane").await;
    // A real kubelet fills the volume later, too; this one writes it once.
    let bundles: Api<ConfigMap> = Api::namespaced(site.client.clone(), &site.namespace);
    until("CA bundle", async || bundles.get("kthena-controlplane-ca").await.unwrap().data.is_some()).await;
    let data_plane = DATA_PLANE.replace("CONTROL", &control).replace("HERE", &site.namespace);
    site.apply(&data_plane).await;
    let proxy = site.ready("dataplane").await;
    assert_eq!(ask(&proxy, "chat").await, 404, "there is no route yet");

    site.apply(ENGINES).await;
    site.apply(&route("chat")).await;
    until("answer", async || ask(&proxy, "chat").await == 200).await;
    until("programmed route", async || condition(&site, "chat", "Programmed").await["status"] == "True").await;
    assert_eq!(condition(&site, "chat", "Accepted").await["status"], "True");

    // The API server is away: requests go on, both planes stay ready.
    site.cluster.kill_api_server().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let (over, proxy) = (over.clone(), proxy.clone());
        async move {
            let (mut asked, mut failed) = (0_u32, 0_u32);
            while !over.load(Relaxed) {
                asked += 1;
                failed += u32::from(ask(&proxy, "chat").await != 200);
            }
            (asked, failed)
        }
    });
    let control_plane = format!("{control}:9091");
    until("failed watch", async || failures(&control_plane).await > 0).await;
    assert_eq!(ask(&proxy, "chat").await, 200);
    site.cluster.start_api_server().await.unwrap();
    site.apply(&route("code")).await;
    until("answer by a new route", async || ask(&proxy, "code").await == 200).await;
    over.store(true, Relaxed);
    let (asked, failed) = asking.await.unwrap();
    println!("{asked} requests while the API server was killed and came back, {failed} failed");
    assert!(asked > 20 && failed == 0, "{failed} of {asked} failed");
}

/// Watches of the control plane that have failed so far.
async fn failures(metrics: &str) -> u64 {
    let mut stream = TcpStream::connect(metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with("kthena_controlplane_watch_failures_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
