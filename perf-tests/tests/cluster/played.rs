//! A cluster of its own in which both planes and engines run as pods, each under its own identity.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;
use kubelet::{Config, Kubelet, Network, built};
use perf_tests::cluster::{Cluster, Parts};
use tokio::time::timeout;

use crate::fleet::{holds, programs};
use crate::wait::{DEADLINE, until};

pub struct Played {
    pub cluster: Cluster,
    pub client: Client,
    pub namespace: String,
    pub pods: Api<Pod>,
    /// Ends its pods when it is dropped.
    kubelet: Kubelet,
}

impl Played {
    /// With the rights that `examples/cluster` gives the planes.
    pub async fn start(namespace: &str, network: Network) -> Self {
        let cluster = Cluster::start(Parts::Controllers).unwrap();
        let client = cluster.admin().await.unwrap();
        cluster.install_definitions(&client).await.unwrap();
        let namespace = cluster.namespace(&client, namespace).await.unwrap();
        let programs = programs()
            .with("kthena-controlplane", built("kthena-controlplane").unwrap())
            .with("kthena-dataplane", built("kthena-dataplane").unwrap());
        let config = Config { network, ..cluster.kubelet(programs).unwrap() };
        let kubelet = Kubelet::start(config).await.unwrap();
        let pods = Api::namespaced(client.clone(), &namespace);
        let played = Self { cluster, client, namespace, pods, kubelet };
        let rights = include_str!("../../../examples/cluster/controlplane.yaml");
        played.apply(&rights.replace("kthena-system", &played.namespace)).await;
        played
    }

    pub async fn apply(&self, yaml: &str) {
        self.cluster.apply(&self.client, &self.namespace, yaml).await.unwrap();
    }

    /// A pod's address, once it is ready.
    pub async fn ready(&self, name: &str) -> String {
        let mut address = String::new();
        let told = async || {
            let status = self.pods.get(name).await.unwrap().status.unwrap_or_default();
            address = status.pod_ip.clone().unwrap_or_default();
            holds(&serde_json::to_value(status).unwrap(), "Ready")
        };
        // Shorter than `until`, so that what it said is seen.
        let in_time = timeout(DEADLINE - Duration::from_secs(5), until(name, told)).await;
        assert!(in_time.is_ok(), "{name} is not ready: {}", self.log(name));
        address
    }

    pub fn log(&self, pod: &str) -> String {
        self.kubelet.log(&self.namespace, pod, "main")
    }
}
