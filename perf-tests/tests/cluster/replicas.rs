//! Replicas of the control plane as pods behind a Service, and data planes spread over them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, WatchParams};
use kube::core::WatchEvent;
use kubelet::Network;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::network;
use crate::played::Played;
use crate::wait::until;

/// Where data planes find the Service.
const SERVICE: &str = "10.77.255.1:15010";

const CONTROL_PLANE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: REPLICA, labels: {app: kthena-controlplane}}
spec:
  serviceAccountName: kthena-controlplane
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
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
    - --namespaces=HERE
    - --listen=$(POD_IP):15010
    - --peer-token=/etc/kthena/identity/token
    - --metrics-address=$(POD_IP):9091
    - --debug-port=0
    env:
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    volumeMounts: [{name: identity, mountPath: /etc/kthena/identity}]
    ports: [{name: grpc, containerPort: 15010}, {name: metrics, containerPort: 9091}]
    readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 1}
";

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: kthena-controlplane}
spec: {selector: {app: kthena-controlplane}, ports: [{name: grpc, port: 15010}]}
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: llama}
spec: {inferenceEngine: vLLM, model: llama, workloadPort: {port: 8000}, workloadSelector: {matchLabels: {app: llama}}}
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: still}
spec: {modelName: still, rules: [{targetModels: [{modelServerName: llama}]}]}
";

const DATA_PLANE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  serviceAccountName: kthena-dataplane
  terminationGracePeriodSeconds: 5
  volumes:
  - name: identity
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: kthena-controlplane, expirationSeconds: 3600}
      - configMap: {name: kthena-controlplane-ca}
  containers:
  - name: main
    image: kthena-dataplane
    args:
    - --bind=$(POD_IP)
    - --port=8080
    - --metrics-port=9090
    - --debug-port=0
    - --cores=1
    - --control-plane=https://SERVICE
    - --control-plane-server-name=kthena-controlplane.HERE
    - --control-plane-ca=/etc/kthena/identity/ca.crt
    - --control-plane-token=/etc/kthena/identity/token
    env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    volumeMounts: [{name: identity, mountPath: /etc/kthena/identity}]
    ports: [{name: metrics, containerPort: 9090}]
    readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 1}
";

/// The Service as kube-proxy plays it: each connection goes to the next replica that takes it.
#[derive(Clone, Default)]
struct Balancer {
    replicas: Arc<Mutex<Vec<String>>>,
}

impl Balancer {
    async fn start() -> Self {
        let balancer = Self::default();
        let (listener, replicas) = (TcpListener::bind(SERVICE).await.unwrap(), balancer.replicas.clone());
        tokio::spawn(async move {
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let mut next = replicas.lock().unwrap().clone();
                replicas.lock().unwrap().rotate_left(usize::from(!next.is_empty()));
                tokio::spawn(async move {
                    for ip in next.drain(..) {
                        if let Ok(mut to) = TcpStream::connect((ip.as_str(), 15010)).await {
                            // An error means that one of the two has left.
                            let _ = copy_bidirectional(&mut from, &mut to).await;
                            return;
                        }
                    }
                });
            }
        });
        balancer
    }

    /// These are ready.
    fn to(&self, replicas: &[&Replica]) {
        *self.replicas.lock().unwrap() = replicas.iter().map(|replica| replica.ip.clone()).collect();
    }
}

/// A control plane.
struct Replica {
    name: String,
    ip: String,
    process: Pid,
}

impl Replica {
    fn signal(&self, signal: Signal) {
        kill_process(self.process, signal).unwrap();
    }

    /// One of its metrics; none while it does not answer.
    async fn metric(&self, name: &str) -> Option<f64> {
        let exchange = async {
            let mut stream = TcpStream::connect((self.ip.as_str(), 9091)).await?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        let text = timeout(Duration::from_secs(2), exchange).await.ok()?.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    async fn leads(&self) -> bool {
        self.metric("kthena_controlplane_leader").await == Some(1.0)
    }

    async fn has(&self, data_planes: usize) {
        until(&format!("{data_planes} data planes of {}", self.name), async || {
            self.metric("kthena_controlplane_subscribers_connected").await == Some(data_planes as f64)
        })
        .await;
    }
}

/// The process of a pod, by where it listens: in this network, for each run of this test has the same addresses.
fn process_of(ip: &str) -> Pid {
    let wanted = format!("--listen={ip}:15010");
    let network = std::fs::read_link("/proc/self/ns/net").unwrap();
    let is_it = |process: &u32| {
        if std::fs::read_link(format!("/proc/{process}/ns/net")).ok().as_ref() != Some(&network) {
            return false;
        }
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let mut processes = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let found = processes.find(is_it).unwrap_or_else(|| panic!("no process listens at {ip}"));
    Pid::from_raw(found.cast_signed()).unwrap()
}

struct Site {
    played: Played,
    routes: Api<DynamicObject>,
    balancer: Balancer,
}

impl Site {
    async fn start() -> Self {
        let played = Played::start("replicas", Network::Private).await;
        let gvk = GroupVersionKind::gvk("networking.serving.volcano.sh", "v1alpha1", "ModelRoute");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "modelroutes");
        let routes = Api::namespaced_with(played.client.clone(), &played.namespace, &resource);
        let balancer = Balancer::start().await;
        played.apply(OBJECTS).await;
        Self { played, routes, balancer }
    }

    async fn replica(&self, name: &str) -> Replica {
        self.played.apply(&CONTROL_PLANE.replace("REPLICA", name).replace("HERE", &self.played.namespace)).await;
        let ip = self.played.ready(name).await;
        let process = process_of(&ip);
        Replica { name: name.to_owned(), ip, process }
    }

    async fn data_planes(&self, names: &[&str]) {
        for name in names {
            let pod =
                DATA_PLANE.replace("NAME", name).replace("HERE", &self.played.namespace).replace("SERVICE", SERVICE);
            self.played.apply(&pod).await;
        }
        for name in names {
            self.played.ready(name).await;
        }
    }

    /// The next generation of a route, which is Programmed then on so many data planes, and how long that took.
    async fn edit(&self, name: &str, data_planes: u64) {
        static EDITS: AtomicU32 = AtomicU32::new(0);
        let path = format!("/{}", EDITS.fetch_add(1, Relaxed));
        let begin = Instant::now();
        self.played.apply(&route(name, &path)).await;
        let wanted = self.routes.get(name).await.unwrap().metadata.generation;
        let mut status = Value::Null;
        let there = async || {
            status = self.routes.get(name).await.unwrap().data["status"].clone();
            status["observedGeneration"].as_i64() == wanted && programmed(&status) == Some(true)
        };
        let in_time = timeout(Duration::from_secs(40), until("programmed route", there)).await;
        assert!(in_time.is_ok(), "{name} at {wanted:?}: {status}");
        let counts = &status["dataPlanes"];
        assert_eq!(
            (counts["acknowledged"].as_u64(), counts["connected"].as_u64()),
            (Some(data_planes), Some(data_planes))
        );
        println!("{name}: programmed on {data_planes} after {:?}", begin.elapsed());
    }

    /// What `Programmed` of a route is from here on, each time that the object is written. The task ends when the watch does.
    async fn watch(&self, name: &str) -> (Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
        let object = self.routes.get(name).await.unwrap();
        let (api, name, seen) = (self.routes.clone(), name.to_owned(), Arc::<Mutex<Vec<String>>>::default());
        let told = seen.clone();
        let watching = tokio::spawn(async move {
            let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(290);
            let events = api.watch(&params, &object.metadata.resource_version.unwrap()).await.unwrap();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let line = match event.unwrap() {
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Modified(object) => format!("{:?}", programmed(&object.data["status"])),
                    other => format!("{other:?}"),
                };
                told.lock().unwrap().push(line);
            }
        });
        (seen, watching)
    }
}

fn route(name: &str, path: &str) -> String {
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\n\
         spec: {{modelName: {name}, rules: [{{modelMatch: {{uri: {{exact: {path}}}}}, targetModels: [{{modelServerName: llama}}]}}]}}\n"
    )
}

fn programmed(status: &Value) -> Option<bool> {
    let mut conditions = status["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == "Programmed").map(|condition| condition["status"] == "True")
}

/// As promised. The lease is 15 s of it.
const TAKES_OVER: Duration = Duration::from_secs(20);

/// Waits until one other leads, and says how long that took.
async fn takes_over(replica: &Replica, since: Instant) {
    until(&format!("lease of {}", replica.name), async || replica.leads().await).await;
    let took = since.elapsed();
    println!("{} leads after {took:?}", replica.name);
    assert!(took <= TAKES_OVER, "{took:?}");
}

/// Which pods' writes of statuses the API server took, in its order, by object.
fn writers(site: &Site) -> BTreeMap<String, Vec<String>> {
    let log = std::fs::read_to_string(site.played.cluster.audit_log()).unwrap();
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut taken: Vec<_> = entries
        .filter(|entry| {
            let (object, code) = (&entry["objectRef"], &entry["responseStatus"]["code"]);
            entry["stage"] == "ResponseComplete"
                && code.as_u64().is_some_and(|code| code / 100 == 2)
                && entry["verb"] == "patch"
                && object["namespace"] == *site.played.namespace
                && object["subresource"] == "status"
                && text(&entry["user"]["username"]).ends_with(":kthena-controlplane")
        })
        .map(|entry| {
            let object = &entry["objectRef"];
            let by = text(&entry["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]);
            (text(&entry["stageTimestamp"]), format!("{} {}", text(&object["resource"]), text(&object["name"])), by)
        })
        .collect();
    taken.sort();
    let mut writers = BTreeMap::<String, Vec<String>>::new();
    for (_, object, by) in taken {
        let of = writers.entry(object).or_default();
        if of.last() != Some(&by) {
            of.push(by);
        }
    }
    writers
}

#[test]
fn c07_replicas_count_all_data_planes_and_one_that_dies_or_stops_changes_nothing() {
    let name = "replicas::c07_replicas_count_all_data_planes_and_one_that_dies_or_stops_changes_nothing";
    network::within(name, scenario);
}

async fn scenario() {
    let site = Site::start().await;
    let (a, b) = (site.replica("a").await, site.replica("b").await);
    let bundles: Api<ConfigMap> = Api::namespaced(site.played.client.clone(), &site.played.namespace);
    until("CA bundle", async || bundles.get("kthena-controlplane-ca").await.unwrap().data.is_some()).await;
    site.balancer.to(&[&a, &b]);
    site.data_planes(&["one", "two", "three", "four"]).await;
    a.has(2).await;
    b.has(2).await;
    until("leader", async || a.leads().await || b.leads().await).await;
    site.edit("edited", 4).await;
    site.edit("edited", 4).await;
    let status = async || site.routes.get("still").await.unwrap().data["status"].clone();
    until("programmed route", async || programmed(&status().await) == Some(true)).await;
    let (seen, watching) = site.watch("still").await;

    // The leader dies. Its data planes move, the other one leads and counts them.
    let (first, second) = if a.leads().await { (a, b) } else { (b, a) };
    let killed = Instant::now();
    first.signal(Signal::KILL);
    site.balancer.to(&[&second]);
    takes_over(&second, killed).await;
    second.has(4).await;
    site.edit("edited", 4).await;

    // There is another one, with data planes of its own.
    let third = site.replica("c").await;
    site.balancer.to(&[&third]);
    site.data_planes(&["five", "six"]).await;
    third.has(2).await;
    site.edit("edited", 6).await;

    // The leader stops, for longer than its lease, and wakes.
    let stopped = Instant::now();
    second.signal(Signal::STOP);
    takes_over(&third, stopped).await;
    third.has(6).await;
    site.edit("edited", 6).await;
    site.balancer.to(&[&second, &third]);
    second.signal(Signal::CONT);
    until("replica that follows", async || second.metric("kthena_controlplane_leader").await == Some(0.0)).await;
    site.edit("edited", 6).await;
    assert!(third.leads().await && !second.leads().await);
    let wrote = writers(&site);
    println!("{wrote:?}");
    let names: Vec<&str> = [&first, &second, &third].iter().map(|replica| replica.name.as_str()).collect();
    assert_eq!(wrote["modelroutes edited"], names, "each wrote while it led, and none after the next one had");
    assert_eq!(wrote.values().filter(|by| by.len() > 3).count(), 0, "{wrote:?}");
    assert!(!watching.is_finished(), "the watch has ended");
    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().all(|line| line == "Some(true)"), "it flapped: {seen:?}");
}
