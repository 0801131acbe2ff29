//! kube-proxy, one on each node: what makes a Service's address reach its pods.

use std::path::{Path, PathBuf};

use anyhow::Result;
use kubelet::plan;
use serde_json::json;

use crate::cluster::program::Program;

/// What it is told. JSON is YAML.
fn configuration(node: &str, kubeconfig: &Path) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node,
        "clusterCIDR": plan::PODS,
        "bindAddress": "127.0.0.1",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 200, "burst": 400},
        // These are the whole machine's, which a namespace may not set.
        "conntrack": {"maxPerCore": 0, "min": 0},
        // Its own defaults: what changes is in force within a second or so.
        "nftables": {"minSyncPeriod": "1s", "syncPeriod": "30s"},
    })
    .to_string()
}

/// Starts the one of a node that is registered: it waits half a minute for one that is not.
pub(super) fn start(program: &Path, folder: &Path, node: &str, kubeconfig: &Path) -> Result<Program> {
    let config: PathBuf = folder.join(format!("kube-proxy-{node}.json"));
    std::fs::write(&config, configuration(node, kubeconfig))?;
    let command = ["ip", "netns", "exec", node, &program.to_string_lossy(), "--config", &config.to_string_lossy()];
    Program::run(&command.map(str::to_owned), folder, &format!("kube-proxy-{node}"))
}
