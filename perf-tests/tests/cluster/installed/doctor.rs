//! What the doctor said of each node, in `helm test` too, and the profile that the chart put on the nodes, which an uninstall would leave there.

use dataplane::seccomp_profile::NAME as PROFILE;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use perf_tests::nodes;

use super::site::{GATEWAY, NODE, RELEASE, Site, install, upgrade};
use crate::nodes::NAMES;
use crate::wait::until;

/// `helm test`, and that the doctor named there on what the node proxies run, by which the gateways have gone all along.
pub async fn tested(site: &Site, driver: &str) {
    let said = site.helm(&["test", RELEASE, "--timeout=2m"]).await;
    assert!(said.contains("Succeeded"), "{said}");
    for (name, driver) in [(GATEWAY, "epoll"), (NODE, driver)] {
        // Of this test and of the ones before.
        let log = site.bed.kubelet.log(&site.namespace, &format!("{name}-doctor"), "doctor");
        let last = log.lines().rfind(|line| line.starts_with("driver: ")).unwrap_or_default();
        assert!(last.starts_with(&format!("driver: {driver}")), "{name}: {log}");
    }
    let left: Vec<_> = pods(site).await.into_iter().filter(|name| name.ends_with("-doctor")).collect();
    assert_eq!(left, Vec::<String>::new());
    for pod in [GATEWAY, NODE].map(|name| site.proxies(name)) {
        let pod = pod.await.remove(0);
        let log = site.bed.kubelet.log(&site.namespace, &pod.name, "doctor");
        assert!(log.starts_with("driver: "), "{pod:?}: {log:?}");
    }
}

async fn pods(site: &Site) -> Vec<String> {
    let listed = site.pods(&site.namespace).list(&ListParams::default()).await.unwrap();
    listed.items.iter().map(|pod: &Pod| pod.name_any()).collect()
}

/// The nodes that have the profile.
fn profiled(site: &Site) -> Vec<&'static str> {
    let file = |node: &&str| site.bed.kubelet.root(node).join("var/lib/kubelet/seccomp").join(PROFILE).exists();
    NAMES.into_iter().filter(file).collect()
}

/// An uninstall would leave it, as a rollback does.
#[test]
fn the_profile_that_was_put_on_each_node_goes_by_an_upgrade_before_an_uninstall() {
    let name = "installed::doctor::the_profile_that_was_put_on_each_node_goes_by_an_upgrade_before_an_uninstall";
    nodes::within(name, || async {
        let site = Site::new().await;
        install(&site, &["node.ioUring.install=true", "node.ioUring.seccomp=localhost", "node.config.drain.lead=1s"])
            .await;
        assert_eq!(profiled(&site), NAMES);
        let command = ["node.ioUring.install=false", "node.ioUring.remove=true", "node.ioUring.seccomp=runtimeDefault"];
        upgrade(&site, &command).await;
        until("nodes without the profile", async || profiled(&site).is_empty()).await;
    })
    .unwrap();
}
