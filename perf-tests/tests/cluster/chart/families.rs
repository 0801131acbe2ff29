//! The chart and the IP families of its Services and of its cluster.

use http::Method;
use perf_tests::helm::chart;
use serde_json::{Value, json};

use super::{Bed, NAMESPACE, make_namespace, send};
use crate::wait::until;

/// Whether each address of a Service is of IPv6, the first one being the Service's own.
async fn families(bed: &Bed, service: &str) -> Vec<bool> {
    let found = bed.get(&format!("/api/v1/namespaces/{NAMESPACE}/services/{service}")).await.unwrap();
    let addresses = found["spec"]["clusterIPs"].as_array().unwrap();
    addresses.iter().map(|address| address.as_str().unwrap().parse::<std::net::IpAddr>().unwrap().is_ipv6()).collect()
}

#[tokio::test]
async fn services_are_of_the_ip_families_that_are_asked_for_and_of_others_after_an_upgrade() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let folder = chart();
    let folder = folder.to_str().unwrap();
    let services = [
        "kthena-router",
        "kthena-router-metrics",
        "kthena-node",
        "kthena-controlplane",
        "kthena-controlplane-webhook",
        "kthena-controlplane-webhook-starting",
    ];
    let both = "global.ipFamilyPolicy=PreferDualStack";
    for (act, set, expected) in [
        ("install", &[][..], &[false][..]),
        ("upgrade", &[both], &[false, true]),
        ("upgrade", &["global.ipFamilyPolicy=SingleStack"], &[false]),
        ("uninstall", &[], &[]),
        ("install", &["global.ipFamilies={IPv6}"], &[true]),
        ("upgrade", &["global.ipFamilies={IPv6,IPv4}", both], &[true, false]),
    ] {
        let mut arguments = vec![act, "kthena"];
        if act != "uninstall" {
            arguments.extend([folder, "--set", "node.enabled=true,global.listenAddress=::"]);
        }
        set.iter().for_each(|set| arguments.extend(["--set", set]));
        bed.helm(&[&arguments[..], &["--no-hooks"]].concat());
        for service in services.iter().filter(|_| act != "uninstall") {
            assert_eq!(families(&bed, service).await, expected, "{service} after {act} with {set:?}");
        }
    }
}

/// Without a word of families in the values: pods have addresses of IPv6 there, and the kubelet asks them by these whether they are ready.
#[tokio::test]
async fn a_cluster_that_has_ipv6_first_is_told_where_to_listen() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let path = "/api/v1/namespaces/default/services";
    let six = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes"},
        "spec": {"ipFamilies": ["IPv6"], "ports": [{"name": "https", "port": 443}]}});
    let name = format!("{path}/kubernetes");
    until("the cluster's own Service is of IPv6", async || {
        // The API server makes it anew as well, of IPv4.
        drop(send(&bed.client, Method::DELETE, &name, &Value::Null).await);
        send(&bed.client, Method::POST, path, &six).await.is_ok()
    })
    .await;
    let folder = chart();
    let install = ["install", "kthena", folder.to_str().unwrap(), "--no-hooks"];
    let refused = bed.try_helm(&install).unwrap_err();
    let address = bed.get(&name).await.unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let said = format!(
        "this cluster has IPv6 first (Service default/kubernetes is {address}), but the programs listen on 0.0.0.0 alone; \
         set global.listenAddress to \"::\""
    );
    assert!(refused.contains(&said), "{said} is not in {refused}");
    bed.helm(&[&install[..], &["--set", "global.listenAddress=::"]].concat());
}
