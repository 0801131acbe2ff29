//! The chart on nodes of both IP families, IPv6 first: also the planes' own ways to each other are of IPv6 then.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use perf_tests::nodes;

use super::clients::Place;
use super::site::{GATEWAY, MODEL, NODE, RELEASE, Site, asked, install, populate};

const SETTINGS: [&str; 3] =
    ["global.ipFamilyPolicy=RequireDualStack", "global.ipFamilies={IPv6,IPv4}", "global.listenAddress=::"];

/// Both addresses of a Service, with its port.
async fn addresses(site: &Site, name: &str) -> Vec<String> {
    let services = Api::<Service>::namespaced(site.client.clone(), &site.namespace);
    let spec = services.get(name).await.unwrap().spec.unwrap();
    let port = spec.ports.unwrap()[0].port;
    let address = |ip: String| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    spec.cluster_ips.unwrap().into_iter().map(address).collect()
}

#[test]
fn services_of_both_families_are_answered_on_each() {
    nodes::within("installed::families::services_of_both_families_are_answered_on_each", || async {
        let site = Site::of_families(true).await;
        install(&site, &SETTINGS).await;
        populate(&site).await;
        for name in [NODE, GATEWAY] {
            let addresses = addresses(&site, name).await;
            assert!(addresses.len() == 2 && addresses[0].starts_with('['), "{name}: {addresses:?}");
            for client in site.clients().await {
                let place = |address: &String| Place { namespace: client.namespace(), address: address.clone() };
                asked(&addresses.iter().map(place).collect::<Vec<_>>(), MODEL).await;
            }
        }
        let pods = Api::<Pod>::namespaced(site.client.clone(), &site.namespace);
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            let ips = pod.status.and_then(|status| status.pod_ips).unwrap_or_default();
            assert!(ips.is_empty() || ips.len() == 2, "{ips:?}");
        }
        let said = site.helm(&["test", RELEASE, "--timeout=2m"]).await;
        assert!(said.contains("Succeeded"), "{said}");
    })
    .unwrap();
}
