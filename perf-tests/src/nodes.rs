//! A bed of several nodes: each node and each pod has a network namespace of its own, with the real kube-proxy on each node. Pods
//! have addresses of 10.244.0.0/16, so Services have endpoints and work as they do in a cluster, from each node and each pod.
//!
//! It needs a network and a mount namespace that are the test's alone ([`within`] makes them), so nothing of it is seen
//! outside, and nothing is left of it when the last of its processes has ended, however that comes about.
//!
//! Two things stand in for what a real cluster has: names of Services are in every pod's /etc/hosts, which is kept current, where
//! there would be a DNS server; and there is no image, but a root of the machine's libraries and the programs of the table.

mod logs;
mod service_proxy;
mod within;

use std::time::Duration;

use anyhow::{Context, Result};
use kubelet::{Config, Kubelet, Network, NodeSpec, plan, shell};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::cluster::program::Program;
pub use within::{enter, within};

/// Of a kube-proxy, from its start to the first rules: a second on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A kubelet for all nodes and a kube-proxy on each. Dropped, it kills pods and proxies; the networks stay.
#[derive(Debug)]
pub struct Nodes {
    /// Which plays the pods.
    pub kubelet: Kubelet,
    _proxies: Vec<Program>,
}

/// Lays the bridge and the nodes' networks. For a test that runs [`within`], before its cluster is started.
pub async fn lay(specs: &[NodeSpec]) -> Result<()> {
    let names: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
    shell::carry_out(&plan::ground(&names)).await.context("the networks of the nodes")
}

/// Lays IPv6 beside it, for pods of [`Config::dual_stack`].
pub async fn lay_second(specs: &[NodeSpec]) -> Result<()> {
    let names: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
    shell::carry_out(&plan::ground_second(&names)).await.context("IPv6 between the nodes")
}

impl Nodes {
    /// Starts them for a cluster of [`Parts::Nodes`](crate::cluster::Parts::Nodes) on a bed that is laid for the nodes of `config`, and returns
    /// when the API server is reached by its Service from each node. Calling thread and proxies live together.
    pub async fn start(cluster: &Cluster, config: Config) -> Result<Self> {
        let names: Vec<_> = config.nodes.iter().map(|spec| spec.name.clone()).collect();
        let server = format!("https://{}:443", plan::API_SERVER);
        let kubelet = Kubelet::start(Config { network: Network::Nodes, server, ..config }).await?;
        let (program, (kubeconfig, folder)) = (Cluster::service_proxy()?, cluster.node_kubeconfig()?);
        let proxies = names.iter().map(|name| service_proxy::start(&program, folder, name, &kubeconfig));
        let nodes = Self { kubelet, _proxies: proxies.collect::<Result<_>>()? };
        // By a certificate that nobody looks at: an API server does not unless it is told to.
        let acceptor = cluster.acceptor()?;
        for name in names {
            let (node, acceptor, pods) = (name.clone(), acceptor.clone(), nodes.kubelet.logs());
            // It lives as long as the test's process, in which the networks are.
            tokio::spawn(async move {
                let Err(error) = enter(&node, move || logs::serve(acceptor, pods)).await.flatten();
                panic!("node {node} tells no logs: {error:#}");
            });
            enter(&name, reach).await?.with_context(|| format!("node {name} reaches no Service after {DEADLINE:?}"))?;
        }
        Ok(nodes)
    }
}

/// Connects to the API server's Service, as soon as it can be reached from here.
async fn reach() -> Result<()> {
    let connect = async {
        while TcpStream::connect((plan::API_SERVER, 443)).await.is_err() {
            sleep(POLL).await;
        }
    };
    Ok(timeout(DEADLINE, connect).await?)
}
