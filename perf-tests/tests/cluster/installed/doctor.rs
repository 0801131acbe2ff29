//! What the doctor said of each node, in `helm test` too, and the profile that the chart put on the nodes.

use dataplane::seccomp_profile::NAME as PROFILE;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use perf_tests::helm::chart;
use perf_tests::nodes;

use super::site::{GATEWAY, NODE, RELEASE, Site, route_to_engines};
use super::{allowed, left, uninstalled, written};
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

/// As helm 3 did it, which is no server-side apply.
async fn by_client(site: &Site, act: &[&str], set: &[&str]) {
    let mut arguments = [act, &["--server-side=false", "--wait", "--timeout=3m"]].concat();
    set.iter().for_each(|set| arguments.extend(["--set", set]));
    site.helm(&arguments).await;
}

/// A definition that ours cannot take the place of, for what is in it never changes.
const OTHER_SCOPE: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: modelroutes.networking.serving.volcano.sh}
spec:
  group: networking.serving.volcano.sh
  scope: Cluster
  names: {plural: modelroutes, singular: modelroute, kind: ModelRoute, listKind: ModelRouteList}
  versions:
  - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
";

/// Where the definitions cannot be brought helm says why, and the release goes as it came.
async fn refused(site: &Site, folder: &str) {
    site.apply(OTHER_SCOPE).await;
    let said = site.try_helm(&["install", RELEASE, folder, "--wait", "--timeout=20s"]).await.unwrap_err();
    for word in ["kthena-crds", "modelroutes.networking.serving.volcano.sh", "spec.scope"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    site.helm(&["uninstall", RELEASE]).await;
    let definitions = Api::<CustomResourceDefinition>::all(site.client.clone());
    let name = "modelroutes.networking.serving.volcano.sh";
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    until("end of it", async || definitions.get_opt(name).await.unwrap().is_none()).await;
}

/// The chart as it comes, and with a profile that is put on each node: by helm's other way to write than the one of the other tests.
#[test]
fn the_defaults_are_installed_and_a_profile_on_each_node_goes_by_an_upgrade_and_by_an_uninstall() {
    let name = "installed::doctor::the_defaults_are_installed_and_a_profile_on_each_node_goes_by_an_upgrade_and_by_an_uninstall";
    nodes::within(name, || async {
        let site = Site::new().await;
        let before = left::objects(&site.client).await;
        let folder = chart();
        let folder = folder.to_str().unwrap();
        refused(&site, folder).await;
        by_client(&site, &["install", RELEASE, folder], &[]).await;
        let said = site.helm(&["test", RELEASE, "--timeout=2m"]).await;
        assert!(said.contains("Succeeded"), "{said}");
        // For `uninstalled`, which looks whether what users made stays.
        route_to_engines(&site).await;
        let with = ["node.enabled=true", "node.ioUring.install=true", "node.ioUring.seccomp=localhost"];
        let quick = ["node.config.drain.lead=1s", "gateway.config.drain.lead=1s"];
        let upgrade = ["upgrade", RELEASE, folder, "--reuse-values"];
        // Another pod for each replica of the control plane, too.
        let another = ["controlplane.podAnnotations.again=yes"];
        let all = [&with[..], &quick, &another].concat();
        written::all_along(&site, by_client(&site, &upgrade, &all)).await;
        assert_eq!(profiled(&site), NAMES);
        let away = ["node.ioUring.install=false", "node.ioUring.remove=true", "node.ioUring.seccomp=runtimeDefault"];
        by_client(&site, &upgrade, &away).await;
        assert_eq!(profiled(&site), [""; 0]);
        by_client(&site, &["rollback", RELEASE, "2"], &[]).await;
        assert_eq!(profiled(&site), NAMES);
        site.helm(&["uninstall", RELEASE, "--wait"]).await;
        assert_eq!(profiled(&site), [""; 0]);
        allowed::exactly(&site, &with, "kthena-node-leave-wait");
        uninstalled(&site, &before).await;
    })
    .unwrap();
}
