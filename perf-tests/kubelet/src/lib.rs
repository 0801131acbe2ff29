//! A kubelet that plays pods as processes of this machine. It decides from the pod alone, never from test code: the container's image
//! names a program of a table, which runs with the container's args, env, volumes and probes, at a loopback address of its own that
//! is the pod's.
//!
//! What it does as the real one: phases, container states and conditions, init containers and sidecars, probes (HTTP, TCP, exec),
//! restarts with back-off, preStop, SIGTERM, grace and SIGKILL, tokens that are bound to the pod and renewed, volumes that change with
//! their ConfigMaps and Secrets, nodes with leases. What it does not: HTTPS and gRPC probes, `resourceFieldRef`, limits, the files of
//! an image.
//!
//! A container sees this machine's file system. Where its command, args or env name a path that the pod mounts, they get the
//! folder of the volume instead. A container whose service account token is mounted has `KUBECONFIG` in its env, so a client that
//! asks for its usual configuration acts as the pod's service account. On a bed of nodes none of this is needed: see `jail`.
//!
//! A thread of its own starts the processes and the kernel kills them when it ends, however that comes about.

mod access;
mod address;
mod container;
pub mod folder;
mod hosts;
mod jail;
pub mod kubeconfig;
mod launch;
mod node;
mod order;
pub mod plan;
mod pod;
mod probe;
mod process;
mod programs;
mod sandbox;
pub mod shell;
mod sources;
mod status;
mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};

pub use address::Network;
pub use launch::Seccomp;
pub use programs::{Program, Programs, built};

/// A node and what the scheduler is to know of it.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Unique in the cluster.
    pub name: String,
    /// Beside the host name, which it has anyway.
    pub labels: BTreeMap<String, String>,
    /// Its `nvidia.com/gpu`.
    pub gpus: u32,
}

impl NodeSpec {
    /// One without accelerators in this zone.
    pub fn in_zone(name: &str, zone: &str) -> Self {
        let labels = BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), zone.to_owned())]);
        Self { name: name.to_owned(), labels, gpus: 0 }
    }
}

/// The pauses between restarts of a container that ends: the first restart is immediate, then the pause doubles.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    /// Before the second restart.
    pub first: Duration,
    /// However often it ended.
    pub longest: Duration,
    /// A container that ran for so long begins anew.
    pub forgiven_after: Duration,
}

impl BackOff {
    /// As Kubernetes has it.
    pub const KUBERNETES: Self = Self {
        first: Duration::from_secs(10),
        longest: Duration::from_secs(300),
        forgiven_after: Duration::from_secs(600),
    };
    /// Twenty times as fast, for tests.
    pub const FAST: Self = Self {
        first: Duration::from_millis(500),
        longest: Duration::from_secs(15),
        forgiven_after: Duration::from_secs(30),
    };
}

/// What a kubelet is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// By which it reaches the API server: an administrator's.
    pub kubeconfig: PathBuf,
    /// At least one.
    pub nodes: Vec<NodeSpec>,
    /// What images mean.
    pub programs: Programs,
    /// The API server as pods are told of it; may be a proxy's URL.
    pub server: String,
    /// Who signed that server's certificate.
    pub authority: PathBuf,
    /// Between restarts.
    pub back_off: BackOff,
    /// What addresses pods have.
    pub network: Network,
    /// Whether nodes and pods have an address of IPv6, too, which comes first, on a bed of nodes that was laid for both.
    pub dual_stack: bool,
    /// Service-account tokens are renewed after so long at the latest. A real kubelet lets four fifths of their lives go by.
    pub renew_after: Duration,
    /// How seccomp profiles are applied, on a bed of nodes; none is where there is nothing.
    pub seccomp: Option<Seccomp>,
}

impl Config {
    /// One node in zone `a`, fast back-off, pods on loopback that ask the API server itself.
    pub fn new(kubeconfig: PathBuf, server: String, authority: PathBuf, programs: Programs) -> Self {
        Self {
            kubeconfig,
            nodes: vec![NodeSpec::in_zone("node-a", "a")],
            programs,
            server,
            authority,
            back_off: BackOff::FAST,
            network: Network::Loopback,
            dual_stack: false,
            renew_after: Duration::MAX,
            seccomp: None,
        }
    }
}

/// The port at which the API server asks a node for logs. They are told on a bed of nodes alone.
pub const LOGS: u16 = 10250;

/// Where in the folder of all logs a container's is.
pub fn log_in(logs: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    logs.join(namespace).join(pod).join(container).with_extension("log")
}

/// One that runs. Dropped, it kills its pods' processes and takes its nodes out of the cluster.
#[derive(Debug)]
pub struct Kubelet {
    folder: TempDir,
    links: BTreeMap<String, watch::Sender<bool>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelet {
    /// Starts one and returns when its nodes are registered and ready. A while later the controllers take the taint of new nodes
    /// away.
    pub async fn start(config: Config) -> Result<Self> {
        let folder = folder::make()?;
        let mut links = BTreeMap::new();
        let mut nodes = Vec::new();
        for node in &config.nodes {
            let (sender, link) = watch::channel(true);
            links.insert(node.name.clone(), sender);
            nodes.push((node.clone(), link));
        }
        let (stop, stopped) = oneshot::channel();
        let (started, ready) = oneshot::channel();
        let here = folder.path().to_owned();
        let thread = std::thread::Builder::new()
            .name("kubelet".to_owned())
            .spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    LocalSet::new().block_on(&runtime, serve(config, nodes, here, Signals { started, stopped }))
                }
                Err(error) => drop(started.send(Err(error.into()))),
            })
            .context("a thread for the kubelet")?;
        let kubelet = Self { folder, links, stop: Some(stop), thread: Some(thread) };
        ready.await.context("the kubelet's thread panicked")??;
        Ok(kubelet)
    }

    /// What the container has printed, over all its restarts. Empty where there is no such container.
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> String {
        std::fs::read_to_string(log_in(&self.logs(), namespace, pod, container)).unwrap_or_default()
    }

    /// The folder of all logs, see [`log_in`].
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("pods")
    }

    /// A file of a pod's volume, as it is now.
    pub fn file(&self, namespace: &str, pod: &str, (volume, file): (&str, &str)) -> std::io::Result<String> {
        let folder = self.folder.path().join("pods").join(namespace).join(pod);
        std::fs::read_to_string(folder.join("volumes").join(volume).join(file))
    }

    /// What a node's file system is, on a bed of nodes.
    pub fn root(&self, node: &str) -> PathBuf {
        self.folder.path().join("nodes").join(node)
    }

    /// Cuts a node off, or joins it again: no lease is renewed and no pod's status written, while its processes go on.
    ///
    /// # Panics
    /// Where there is no such node.
    pub fn link(&self, node: &str, up: bool) {
        self.links[node].send_replace(up);
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that panicked has nothing left to wait for.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Signals {
    started: oneshot::Sender<Result<()>>,
    stopped: oneshot::Receiver<()>,
}

/// Until it is told to stop. What runs then is dropped, which kills the processes.
async fn serve(config: Config, specs: Vec<(NodeSpec, watch::Receiver<bool>)>, folder: PathBuf, signals: Signals) {
    let nodes = match register(config, specs, folder).await {
        Ok(nodes) => nodes,
        Err(error) => return drop(signals.started.send(Err(error))),
    };
    let _ = signals.started.send(Ok(()));
    let mut running = JoinSet::new();
    if let Some((client, path)) = nodes.first().and_then(|node| node.names()) {
        running.spawn_local(async move { drop(hosts::keep(client, &path).await) });
    }
    for node in nodes.iter().cloned() {
        running.spawn_local(node.run());
    }
    // Only ever an error: the other end was dropped.
    let _ = signals.stopped.await;
    running.shutdown().await;
    for node in nodes {
        node.leave().await;
    }
}

async fn register(
    config: Config,
    specs: Vec<(NodeSpec, watch::Receiver<bool>)>,
    folder: PathBuf,
) -> Result<Vec<Rc<node::Node>>> {
    let client = kubeconfig::client(&config.kubeconfig).await?;
    let block = Rc::new(address::Block::claim(config.network, std::process::id())?);
    // A map with one user maps whoever runs this, and nobody else.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let users = map.split_whitespace().nth(2).is_some_and(|count| count != "1");
    let shared = Rc::new(sandbox::Shared { client, block, config, folder, users });
    shared.hosts().map_or(Ok(()), |path| hosts::make(&path))?;
    let mut nodes = Vec::new();
    for (index, (spec, link)) in specs.into_iter().enumerate() {
        let node = node::Node::register(shared.clone(), spec, index, link).await?;
        nodes.push(Rc::new(node));
    }
    Ok(nodes)
}
