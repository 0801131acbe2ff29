//! Three nodes with engines, clients and the chart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use kube::api::{Api, ListParams};
use kubelet::{Config, NodeSpec, Programs, Seccomp, built, plan};
use perf_tests::cluster::{Cluster, Parts};
use perf_tests::helm::{chart, helm};
use perf_tests::nodes::{self, Nodes, enter};

use super::clients::{Place, ask, exchange};
use crate::fleet::{holds, programs};
use crate::migration::install_theirs;
use crate::nodes::{NAMES, specs};
use crate::program::{route, server};
use crate::wait::until;

pub const RELEASE: &str = "front";
pub const GATEWAY: &str = "edge";
pub const NODE: &str = "local";
/// So many.
pub const ENGINES: usize = 6;
pub const MODEL: &str = "chat";
/// What pods have, where the machine has it.
pub const CURL: &str = "/usr/bin/curl";
/// Whom the chart's images say (`images/`).
const IMAGES: i64 = 65532;
/// After so long a pod has another token.
pub const RENEWED: Duration = Duration::from_secs(10);

/// Six engines, two on each node, which are told to end when no stream that began before can still run, and on each node a pod from which
/// clients ask.
const PODS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  replicas: 6
  selector: {matchLabels: {app: chat}}
  template:
    metadata: {labels: {app: chat}}
    spec:
      terminationGracePeriodSeconds: 60
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {app: chat}}
      containers:
      - name: main
        image: registry.example.com/kthena/engine-sim
        args: ['--listen=[::]:8000', '--model=chat', '--gap-us=100000', '--enable-prompt-tokens-details']
        lifecycle: {preStop: {sleep: {seconds: 15}}}
        readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: clients}
spec:
  selector: {matchLabels: {app: clients}}
  template:
    metadata: {labels: {app: clients}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: registry.example.com/kthena/sleep, args: ['100000']}]
";

/// A pod that is ready and stays.
#[derive(Clone, Debug)]
pub struct Ready {
    pub name: String,
    pub node: String,
    pub ip: String,
}

impl Ready {
    pub fn namespace(&self) -> String {
        plan::pod_namespace(self.ip.parse().unwrap())
    }

    pub fn at(&self, port: u16) -> String {
        SocketAddr::new(self.ip.parse().unwrap(), port).to_string()
    }
}

pub struct Site {
    pub cluster: Cluster,
    pub client: Client,
    pub bed: Nodes,
    /// Of the release.
    pub namespace: String,
    /// Of engines and clients.
    pub models: String,
}

impl Site {
    pub async fn new() -> Self {
        Self::on(specs(), false, None).await
    }

    /// With IPv6 beside IPv4, and first.
    pub async fn dual_stack() -> Self {
        Self::on(specs(), true, None).await
    }

    /// So, and with images from this registry alone.
    pub async fn dual_stack_and_air_gapped(registry: &str) -> Self {
        Self::on(specs(), true, Some(registry)).await
    }

    /// On these nodes.
    pub async fn on(specs: Vec<NodeSpec>, dual_stack: bool, registry: Option<&str>) -> Self {
        nodes::lay(&specs).await.unwrap();
        if dual_stack {
            nodes::lay_second(&specs).await.unwrap();
        }
        let cluster = Cluster::start(Parts::Nodes).unwrap();
        let client = cluster.admin().await.unwrap();
        let programs = programs()
            .with("sleep", "/bin/sleep")
            .with_user("kthena-controlplane", built("kthena-controlplane").unwrap(), IMAGES)
            .with_user("kthena-dataplane", built("kthena-dataplane").unwrap(), IMAGES)
            .with_user("kthena-tools", built("kthena-ask").unwrap(), IMAGES);
        let curl = Some(CURL).filter(|path| Path::new(path).exists());
        let programs = curl.into_iter().fold(programs, |programs, path| programs.with("curl", path));
        let programs = registry.into_iter().fold(programs, Programs::only_of);
        // As containerd has it, generated from its module.
        let runtime_default = concat!(env!("CARGO_MANIFEST_DIR"), "/../tuning/seccomp/containerd-default.amd64.json");
        let seccomp = Seccomp { program: built("seccomp-exec").unwrap(), runtime_default: runtime_default.into() };
        let config = Config {
            nodes: specs,
            seccomp: Some(seccomp),
            dual_stack,
            renew_after: RENEWED,
            ..cluster.kubelet(programs).unwrap()
        };
        let bed = Nodes::start(&cluster, config).await.unwrap();
        let namespace = cluster.namespace(&client, "inference").await.unwrap();
        let models = cluster.namespace(&client, "models").await.unwrap();
        Self { cluster, client, bed, namespace, models }
    }

    pub async fn apply(&self, yaml: &str) {
        self.cluster.apply(&self.client, &self.models, yaml).await.unwrap();
    }

    pub async fn helm(&self, arguments: &[&str]) -> String {
        match self.try_helm(arguments).await {
            Ok(said) => said,
            Err(said) => {
                self.tell().await;
                panic!("helm {arguments:?}: {said}");
            }
        }
    }

    /// What it says, and whether it was content.
    pub async fn try_helm(&self, arguments: &[&str]) -> Result<String, String> {
        let kubeconfig = self.cluster.kubeconfig();
        let mut all = vec!["--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", &self.namespace];
        all.extend(arguments);
        let all: Vec<_> = all.into_iter().map(str::to_owned).collect();
        let began = Instant::now();
        let run = move || helm(&all.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        println!("helm {}: {:?}", arguments[0], began.elapsed());
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// What the pods of the chart have come to, for whoever reads a failure.
    pub async fn tell(&self) {
        for pod in self.pods(&self.namespace).list(&ListParams::default()).await.unwrap().items {
            let (name, status) = (pod.metadata.name.unwrap(), pod.status.unwrap_or_default());
            println!("{name}: {}", serde_json::to_string(&status.container_statuses).unwrap());
            for container in ["controlplane", "dataplane", "doctor", "apply", "client", "engine"] {
                let log = self.bed.kubelet.log(&self.namespace, &name, container);
                let lines: Vec<_> = log.lines().collect();
                let end = &lines[lines.len().saturating_sub(15)..];
                end.iter().for_each(|line| println!("  {container}: {line}"));
            }
        }
    }

    pub fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Those with a label that are ready and stay.
    pub async fn ready(&self, namespace: &str, label: &str) -> Vec<Ready> {
        let listed = self.pods(namespace).list(&ListParams::default().labels(label)).await.unwrap();
        let stay = listed.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let ready = stay.filter(|pod| holds(&serde_json::to_value(pod.status.clone()).unwrap(), "Ready"));
        ready
            .map(|pod| Ready {
                name: pod.metadata.name.unwrap(),
                node: pod.spec.unwrap().node_name.unwrap(),
                ip: pod.status.unwrap().pod_ip.unwrap(),
            })
            .collect()
    }

    pub async fn proxies(&self, name: &str) -> Vec<Ready> {
        self.ready(&self.namespace, &format!("app.kubernetes.io/name={name},app.kubernetes.io/instance={RELEASE}"))
            .await
    }

    /// On which driver each data plane of that name runs, as it says.
    pub async fn drivers(&self, name: &str) -> BTreeSet<String> {
        let driver = |pod: &Ready| {
            let log = self.bed.kubelet.log(&self.namespace, &pod.name, "dataplane");
            let said =
                log.split_once("driver=\"").and_then(|(_, rest)| rest.split(['/', '"']).next().map(str::to_owned));
            said.unwrap_or_default()
        };
        self.proxies(name).await.iter().map(driver).collect()
    }

    pub async fn clients(&self) -> Vec<Ready> {
        self.ready(&self.models, "app=clients").await
    }

    /// Address and port of a Service of the chart.
    pub async fn service(&self, name: &str) -> String {
        let services = Api::<Service>::namespaced(self.client.clone(), &self.namespace);
        let spec = services.get(name).await.unwrap().spec.unwrap();
        let ip = spec.cluster_ip.unwrap().parse().unwrap();
        SocketAddr::new(ip, spec.ports.unwrap()[0].port.try_into().unwrap()).to_string()
    }
}

/// Asks from each place, until it is answered.
pub async fn asked(places: &[Place], model: &'static str) {
    for Place { namespace, address } in places {
        until(&format!("answer for {namespace} by {address}"), async || {
            let address = address.clone();
            enter(namespace, move || async move { ask(&address, model).await }).await.unwrap().is_ok()
        })
        .await;
    }
}

/// Requests that a proxy has finished.
pub async fn finished(proxy: &Ready) -> u64 {
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let text = exchange(&proxy.at(9090), request).await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with("kthena_router_requests_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

pub async fn finished_by(proxies: &[Ready]) -> BTreeMap<String, u64> {
    let counts = join_all(proxies.iter().map(finished)).await;
    proxies.iter().map(|proxy| proxy.name.clone()).zip(counts).collect()
}

/// What all are installed with, and more.
pub fn settings<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let all = [
        "node.enabled=true",
        "gateway.name=edge",
        "node.name=local",
        "gateway.config.access_log.format=json",
        "node.config.expose.endpoint=true",
        "global.commonLabels.team=serving",
    ];
    all.into_iter().chain(more.iter().copied()).collect()
}

/// With more settings than the ones that all have.
pub async fn install(site: &Site, more: &[&str]) {
    let folder = chart();
    let mut arguments = vec!["install", RELEASE, folder.to_str().unwrap(), "--wait", "--timeout=2m"];
    settings(more).iter().for_each(|set| arguments.extend(["--set", set]));
    site.helm(&arguments).await;
    assert_eq!((site.proxies(GATEWAY).await.len(), site.proxies(NODE).await.len()), (2, NAMES.len()));
    assert_eq!(site.proxies("kthena-controlplane").await.len(), 2);
}

/// With these settings besides, and waits until it is done.
pub async fn upgrade(site: &Site, settings: &[&str]) {
    let folder = chart();
    let mut arguments = vec!["upgrade", RELEASE, folder.to_str().unwrap(), "--reuse-values", "--wait", "--timeout=3m"];
    settings.iter().for_each(|set| arguments.extend(["--set", set]));
    site.helm(&arguments).await;
}

/// Engines, a route to them, and clients on all nodes.
pub async fn populate(site: &Site) {
    engines_and_clients(site).await;
    route_to_engines(site).await;
}

pub async fn engines_and_clients(site: &Site) {
    site.apply(PODS).await;
    until("engines", async || site.ready(&site.models, "app=chat").await.len() == ENGINES).await;
    until("clients", async || site.clients().await.len() == NAMES.len()).await;
}

/// The same, before anything of ours: under definitions of Kthena's.
pub async fn populate_as_kthena_left_it(site: &Site) {
    install_theirs(&site.client).await;
    engines_and_clients(site).await;
    let objects = server("chat", 8000) + "---\n" + &route("chat", "chat");
    until("their kinds are served", async || site.cluster.apply(&site.client, &site.models, &objects).await.is_ok())
        .await;
}

/// For this the definitions have to be there.
pub async fn route_to_engines(site: &Site) {
    site.apply(&(server("chat", 8000) + "---\n" + &route("chat", "chat"))).await;
}

/// Each client, asking its node's proxy and the gateway.
pub async fn places(site: &Site) -> Vec<Place> {
    let (near, far) = (site.service(NODE).await, site.service(GATEWAY).await);
    let both =
        |client: Ready| [&near, &far].map(|address| Place { namespace: client.namespace(), address: address.clone() });
    site.clients().await.into_iter().flat_map(both).collect()
}

/// The chart's pods that are ready and stay.
pub async fn everything(site: &Site) -> Vec<Ready> {
    let all = [NODE, GATEWAY, "kthena-controlplane"].map(|name| site.proxies(name));
    join_all(all).await.concat()
}
