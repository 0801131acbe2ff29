//! Every block of the chart at once (`tests/chart/everything.yaml`), on nodes of both IP families, IPv6 first, and on a cluster with the kinds of
//! Prometheus Operator and cert-manager: it is installed, each proxy answers by each of its addresses, `helm test` says what is wrong and
//! passes when it is mended, and nothing is left.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod, Secret, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use perf_tests::cluster::Cluster;
use perf_tests::helm::chart;
use perf_tests::nodes;
use serde_json::json;

use super::clients::Place;
use super::others::{balance, issue};
use super::site::{GATEWAY, MODEL, NODE, RELEASE, Ready, Site, asked, engines_and_clients, route_to_engines};
use super::{left, uninstalled};
use crate::nodes::NAMES;
use crate::values::EVERYTHING;
use crate::wait::until;

/// As `everything.yaml` has it.
const REGISTRY: &str = "registry.example.com/kthena";
const IPV6: &str = "edge-of-ipv6";
/// Of the gateway, from outside.
const OUTSIDE: &str = "192.0.2.10";
/// Kinds of the chart's objects that only a block of its own switches on.
const KINDS: [&str; 7] = [
    "Certificate.cert-manager.io",
    "HorizontalPodAutoscaler.autoscaling",
    "NetworkPolicy.networking.k8s.io",
    "PodDisruptionBudget.policy",
    "PodMonitor.monitoring.coreos.com",
    "PrometheusRule.monitoring.coreos.com",
    "ServiceMonitor.monitoring.coreos.com",
];

/// From now on only who tolerates it comes to this node.
async fn taint(site: &Site, node: &str) {
    let taints = json!([{"key": "example.com/only", "value": "serving", "effect": "NoSchedule"}]);
    let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
    Api::<Node>::all(site.client.clone()).patch(node, &PatchParams::default(), &patch).await.unwrap();
}

/// Returns when all of it is ready.
async fn install(site: &Site) {
    let folder = chart();
    // The namespaces of the matrix are not there.
    let namespaces = format!("controlplane.namespaces={{{}}}", site.models);
    let values = ["--values", EVERYTHING, "--set", &namespaces, "--wait", "--timeout=3m"];
    let said = site.helm(&[&["install", RELEASE, folder.to_str().unwrap()][..], &values].concat()).await;
    assert!(!said.contains("has no kinds of monitoring.coreos.com"), "it has: {said}");
    // The gateway is as large as its HPA wants it at least.
    for (name, count) in [(GATEWAY, 3), (NODE, NAMES.len()), ("kthena-controlplane", 3)] {
        until(&format!("{count} of {name}"), async || site.proxies(name).await.len() == count).await;
    }
}

/// Each kind is there, each data plane runs as it is told, and each pod has an address of each family.
async fn is_as_asked(site: &Site, before: &BTreeSet<String>) {
    let made: BTreeSet<_> = left::objects(&site.client).await.difference(before).cloned().collect();
    for kind in KINDS {
        assert!(
            made.iter().any(|object| object.starts_with(&format!("{kind} {}/", site.namespace))),
            "{kind}: {made:#?}"
        );
    }
    let uring = BTreeSet::from(["uring".to_owned()]);
    assert_eq!((site.drivers(NODE).await, site.drivers(GATEWAY).await), (uring.clone(), uring));
    let pods = Api::<Pod>::namespaced(site.client.clone(), &site.namespace);
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        let ips = pod.status.and_then(|status| status.pod_ips).unwrap_or_default();
        assert!(ips.is_empty() || ips.len() == 2, "{ips:?}");
    }
}

/// Each client, asking by all addresses of a Service.
async fn places(site: &Site, service: &str) -> Vec<Place> {
    let services = Api::<Service>::namespaced(site.client.clone(), &site.namespace);
    let service = services.get(service).await.unwrap();
    let spec = service.spec.unwrap();
    let outside = service.status.and_then(|status| status.load_balancer?.ingress).into_iter().flatten();
    let port = spec.ports.unwrap()[0].port;
    let ips: Vec<_> = spec.cluster_ips.unwrap().into_iter().chain(outside.filter_map(|ingress| ingress.ip)).collect();
    assert!(ips[0].contains(':'), "{ips:?}");
    let address = |ip: &String| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    let addresses: Vec<_> = ips.iter().map(address).collect();
    let clients = site.clients().await;
    let of_client = |client: &Ready| {
        let namespace = client.namespace();
        addresses.iter().map(move |address| Place { namespace: namespace.clone(), address: address.clone() })
    };
    clients.iter().flat_map(of_client).collect()
}

/// A Service of the gateway that has no address of IPv4.
async fn add_service_of_ipv6(site: &Site) {
    let metadata = json!({"name": IPV6});
    let spec = json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"], "ports": [{"port": 80, "targetPort": "http"}],
        "selector": {"app.kubernetes.io/name": GATEWAY}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
    let services = Api::<Service>::namespaced(site.client.clone(), &site.namespace);
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
}

/// Of which pods the gateway's Service is.
async fn select(site: &Site, name: &str) {
    let services = Api::<Service>::namespaced(site.client.clone(), &site.namespace);
    let patch = Patch::Merge(json!({"spec": {"selector": {"app.kubernetes.io/name": name}}}));
    services.patch(GATEWAY, &PatchParams::default(), &patch).await.unwrap();
}

/// With no pod behind the gateway's Service the test fails, and helm prints where and why.
async fn test_fails(site: &Site) {
    select(site, "nobody").await;
    let said = site.try_helm(&["test", RELEASE, "--timeout=2m"]).await.unwrap_err();
    assert!(said.contains("kthena-test"), "{said}");
    let target = format!("at {GATEWAY}.{}.svc:8082/v1/chat/completions", site.namespace);
    for words in [target.as_str(), "cannot connect (is the Service there, and a pod ready?)"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    select(site, GATEWAY).await;
}

#[test]
fn every_block_at_once_is_installed_serves_is_tested_and_leaves_nothing() {
    let name = "installed::everything::every_block_at_once_is_installed_serves_is_tested_and_leaves_nothing";
    Cluster::fetch_definitions_of_others().unwrap();
    nodes::within(name, || async {
        let site = Site::dual_stack_and_air_gapped(REGISTRY).await;
        site.cluster.install_definitions_of_others(&site.client).await.unwrap();
        let before = left::objects(&site.client).await;
        engines_and_clients(&site).await;
        taint(&site, NAMES[0]).await;
        let (client, namespace) = (&site.client, &*site.namespace);
        let issued = issue(client, namespace, "kthena-controlplane");
        let ((), secret, ()) = tokio::join!(install(&site), issued, balance(client, namespace, (GATEWAY, OUTSIDE)));
        route_to_engines(&site).await;
        is_as_asked(&site, &before).await;
        let far = places(&site, GATEWAY).await;
        assert_eq!(far.len(), NAMES.len() * 3, "an address of each family, and one from outside");
        asked(&far, MODEL).await;
        add_service_of_ipv6(&site).await;
        let by_ipv6 = places(&site, IPV6).await;
        assert_eq!(by_ipv6.len(), NAMES.len());
        asked(&by_ipv6, MODEL).await;
        let near = places(&site, NODE).await;
        // The proxies of the nodes have nothing to do with it.
        tokio::join!(test_fails(&site), asked(&near, MODEL));
        let said = site.helm(&["test", RELEASE, "--timeout=2m"]).await;
        assert!(said.contains("Succeeded"), "{said}");
        Api::<Service>::namespaced(client.clone(), namespace).delete(IPV6, &DeleteParams::default()).await.unwrap();
        site.helm(&["uninstall", RELEASE, "--wait"]).await;
        // cert-manager's, which keeps it.
        Api::<Secret>::namespaced(client.clone(), namespace).delete(&secret, &DeleteParams::default()).await.unwrap();
        uninstalled(&site, &before).await;
    })
    .unwrap();
}
