//! Clients elsewhere: on a node that has no proxy, and outside of the cluster, where no kube-proxy is.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{Api, Patch, PatchParams};
use kubelet::plan;
use perf_tests::nodes::enter;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::clients::ask;
use super::site::{GATEWAY, MODEL, NODE, Ready, Site, finished_by};
use crate::nodes::NAMES;
use crate::wait::until;

/// So many requests come by each way.
const ASKED: usize = 5;
/// Who is dropped hears nothing; who is answered on this bed is within a second, if the machine has time.
const PATIENCE: Duration = Duration::from_secs(5);

/// From now on no pod of the chart comes to this node; those that are there stay.
pub async fn keep_away(site: &Site, node: &str) {
    taint(site, node, json!([{"key": "example.com/away", "effect": "NoSchedule"}])).await;
}

pub async fn let_come(site: &Site, node: &str) {
    taint(site, node, Value::Null).await;
}

async fn taint(site: &Site, node: &str, taints: Value) {
    let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
    Api::<Node>::all(site.client.clone()).patch(node, &PatchParams::default(), &patch).await.unwrap();
}

/// Of a node without a proxy: by the node proxies' Service, which prefers the node, others' proxies answer; by the one that keeps to the node nobody does;
/// by the gateway's Service the gateways do, and from outside by each node's port, that of this one too.
pub async fn without_a_proxy(site: &Site, client: &Ready, keeps_to_node: &str) {
    let others = site.proxies(NODE).await;
    assert!(others.len() == NAMES.len() - 1 && others.iter().all(|proxy| proxy.node != client.node), "{others:?}");
    let local = site.service(keeps_to_node).await;
    until("rule that drops what keeps to a node without a proxy", async || {
        let (local, namespace) = (local.clone(), client.namespace());
        // Neither an answer nor a refusal.
        enter(&namespace, move || async move { timeout(PATIENCE, ask(&local, MODEL)).await }).await.unwrap().is_err()
    })
    .await;
    let gateways = site.proxies(GATEWAY).await;
    for (service, by) in [(NODE, &others), (GATEWAY, &gateways)] {
        let (address, before) = (site.service(service).await, finished_by(by).await.values().sum::<u64>());
        for _ in 0..ASKED {
            let address = address.clone();
            let answer = enter(&client.namespace(), move || async move { ask(&address, MODEL).await }).await.unwrap();
            assert_eq!(answer, Ok(()), "asked from {} by {service}", client.node);
        }
        let after: u64 = finished_by(by).await.values().sum();
        assert_eq!(after - before, ASKED as u64, "asked from {} by {service}", client.node);
    }
    from_outside(site, &gateways).await;
}

async fn from_outside(site: &Site, gateways: &[Ready]) {
    let services = Api::<Service>::namespaced(site.client.clone(), &site.namespace);
    let ports = services.get(GATEWAY).await.unwrap().spec.unwrap().ports.unwrap();
    let port = ports[0].node_port.expect("a port of the nodes");
    let before: u64 = finished_by(gateways).await.values().sum();
    for (index, node) in NAMES.iter().enumerate() {
        let answer = timeout(PATIENCE, ask(&format!("{}:{port}", plan::node(index)), MODEL)).await;
        assert!(matches!(answer, Ok(Ok(()))), "by a port of {node}: {answer:?}");
    }
    let after: u64 = finished_by(gateways).await.values().sum();
    assert_eq!(after - before, NAMES.len() as u64, "from outside");
}
