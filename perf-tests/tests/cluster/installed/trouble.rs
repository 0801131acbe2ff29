//! What clusters do to pods, all of it under load. The release's Services have addresses of IPv6 alone here.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{Api, DeleteParams, EvictParams, ListParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, Error, ResourceExt};
use perf_tests::nodes::{self, enter};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::clients::{ask, exchange};
use super::edited;
use super::load::Load;
use super::site::{ENGINES, GATEWAY, MODEL, NODE, RENEWED, Ready, Site, asked, install, places, populate};
use crate::nodes::NAMES;
use crate::program::route;
use crate::wait::until;

const CONTROL: &str = "kthena-controlplane";
const OF_IPV6: [&str; 3] = ["global.ipFamilies={IPv6}", "global.ipFamilyPolicy=SingleStack", "global.listenAddress=::"];

/// As `kubectl drain` does it: again and again while a budget forbids it.
async fn evict(site: &Site, namespace: &str, pod: &str) {
    let pods = site.pods(namespace);
    until(&format!("eviction of {pod}"), async || match pods.evict(pod, &EvictParams::default()).await {
        Ok(_) => true,
        Err(Error::Api(status)) if status.code == 429 => false,
        Err(Error::Api(status)) if status.code == 404 => true,
        Err(error) => panic!("{pod}: {error}"),
    })
    .await;
}

/// Both gateways are evicted at once, and their budget lets one of them go: its name.
async fn evict_both(site: &Site) -> String {
    let kubeconfig = Kubeconfig::read_from(site.cluster.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // Else who is refused asks again, until it is let go.
    config.default_retry = false;
    let pods = Api::<Pod>::namespaced(Client::try_from(config).unwrap(), &site.namespace);
    let both = site.proxies(GATEWAY).await;
    let [first, second] = &both[..] else { panic!("two gateways: {both:?}") };
    let at_once = EvictParams::default();
    let mut gone = None;
    until("eviction of one gateway", async || {
        let answers = tokio::join!(pods.evict(&first.name, &at_once), pods.evict(&second.name, &at_once));
        let (is_let_go, refusal) = match answers {
            // The budget may have to be counted first.
            (Err(_), Err(_)) => return false,
            (Ok(_), Err(refusal)) => (first, refusal),
            (Err(refusal), Ok(_)) => (second, refusal),
            (Ok(_), Ok(_)) => panic!("both gateways were let go at once"),
        };
        let Error::Api(refusal) = refusal else { panic!("{refusal}") };
        assert_eq!(refusal.code, 429, "{refusal:?}");
        assert!(refusal.message.contains("disruption budget"), "{refusal:?}");
        gone = Some(is_let_go.name.clone());
        true
    })
    .await;
    gone.unwrap()
}

/// All Services of the chart have one address, of IPv6.
async fn are_of_ipv6(site: &Site) {
    let services = Api::<Service>::namespaced(site.client.clone(), &site.namespace);
    let services = services.list(&ListParams::default()).await.unwrap().items;
    let ips = |service: &Service| service.spec.as_ref().unwrap().cluster_ips.clone().unwrap_or_default();
    let all: Vec<_> = services.iter().map(|service| (service.name_any(), ips(service))).collect();
    let is_it = |ips: &[String]| matches!(ips, [ip] if ip == "None" || ip.contains(':'));
    assert!(all.len() >= 4 && all.iter().all(|(_, ips)| is_it(ips)), "{all:?}");
    let places = places(site).await;
    assert!(places.iter().all(|place| place.address.starts_with("[fd00:10:96::")), "{:?}", places[0].address);
}

/// As `kill -9`: no grace at all.
async fn kill_leader(site: &Site) {
    let leases = Api::<Lease>::namespaced(site.client.clone(), &site.namespace);
    let holder = async || {
        let spec = leases.get(CONTROL).await.unwrap().spec.unwrap_or_default();
        spec.holder_identity.unwrap_or_default()
    };
    let leader = holder().await;
    let controls = site.proxies(CONTROL).await;
    let killed = controls.iter().find(|pod| leader.starts_with(&pod.name)).expect("a leader among the pods");
    site.pods(&site.namespace).delete(&killed.name, &DeleteParams::default().grace_period(0)).await.unwrap();
    let began = Instant::now();
    until("another leader", async || holder().await != leader).await;
    println!("another control plane led {:?} after the leader was killed", began.elapsed());
}

/// The tokens of the data planes, by the names of their pods.
async fn tokens(site: &Site) -> BTreeMap<String, String> {
    let pods = [site.proxies(NODE).await, site.proxies(GATEWAY).await].concat();
    let token = |pod: Ready| {
        let token = site.bed.kubelet.file(&site.namespace, &pod.name, ("identity", "token")).unwrap();
        (pod.name, token)
    };
    pods.into_iter().map(token).collect()
}

/// When the tokens end that the data planes have shown to the control planes, by the names of their pods.
async fn shown(site: &Site) -> BTreeMap<String, i64> {
    let mut shown = BTreeMap::new();
    for control in site.proxies(CONTROL).await {
        let request = "GET /debug/dataplanes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let ask = move || async move { exchange("127.0.0.1:15000", request).await };
        let answer = enter(&control.namespace(), ask).await.unwrap().unwrap();
        let told: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let rows = told["data_planes"].as_array().unwrap().iter();
        shown.extend(rows.map(|row| (row["pod"].as_str().unwrap().to_owned(), row["token_ends_s"].as_i64().unwrap())));
    }
    shown
}

/// What the data planes had and had shown at one time.
struct Before {
    tokens: BTreeMap<String, String>,
    shown: BTreeMap<String, i64>,
}

impl Before {
    async fn of(site: &Site) -> Self {
        Self { tokens: tokens(site).await, shown: shown(site).await }
    }
}

/// Not with the tokens with which they began but with those that the kubelet has put in their place the data planes come to control planes that they
/// have never seen.
async fn come_anew(site: &Site, Before { tokens: before, shown: first }: &Before) {
    until("tokens of another making", async || {
        let now = tokens(site).await;
        let same = now.iter().filter(|(pod, token)| before.get(*pod) == Some(*token)).count();
        same == 0 && now.keys().filter(|pod| before.contains_key(*pod)).count() >= NAMES.len()
    })
    .await;
    let old = site.proxies(CONTROL).await;
    for pod in &old {
        site.pods(&site.namespace).delete(&pod.name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }
    until("two other control planes", async || {
        let ready = site.proxies(CONTROL).await;
        ready.len() == 2 && ready.iter().all(|pod| old.iter().all(|before| before.name != pod.name))
    })
    .await;
    // In force on all proxies.
    site.apply(&route("came-anew", "chat")).await;
    for proxy in [site.proxies(NODE).await, site.proxies(GATEWAY).await].concat() {
        let address = proxy.at(8080);
        until(&format!("new route on {}", proxy.name), async || ask(&address, "came-anew").await.is_ok()).await;
    }
    let later = shown(site).await;
    let both: Vec<_> = first.iter().filter_map(|(pod, ends)| Some((pod, ends, later.get(pod)?))).collect();
    // A token that is renewed ends as much later as it was made.
    let apart = RENEWED.as_secs().cast_signed() / 2;
    let stale: Vec<_> = both.iter().filter(|(_, ends, later)| *later - *ends < apart).collect();
    assert!(both.len() >= NAMES.len() && stale.is_empty(), "{stale:?} of {both:?}");
}

/// What is on a node and not a DaemonSet's.
async fn movable(site: &Site, node: &str) -> Vec<(String, String)> {
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let pods = Api::<Pod>::all(site.client.clone()).list(&on_node).await.unwrap().items;
    let stays = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet");
    let leaves = pods.into_iter().filter(|pod| !stays(pod));
    leaves.map(|pod| (pod.namespace().unwrap(), pod.name_any())).collect()
}

async fn drain(site: &Site, node: &str) {
    Api::<Node>::all(site.client.clone()).cordon(node).await.unwrap();
    let leaving = movable(site, node).await;
    for (namespace, pod) in &leaving {
        evict(site, namespace, pod).await;
    }
    until("end of what was drained", async || movable(site, node).await.is_empty()).await;
    println!("{} pods were drained from {node}", leaving.len());
    assert!(!leaving.is_empty());
}

/// All of it is ready again, and none of it on this node.
async fn recovered(site: &Site, node: &str) {
    let many = [(&site.namespace, GATEWAY, 2), (&site.namespace, CONTROL, 2)];
    for (namespace, name, count) in many {
        let label = format!("app.kubernetes.io/name={name}");
        until(&format!("{count} of {name}"), async || site.ready(namespace, &label).await.len() == count).await;
    }
    until("engines", async || site.ready(&site.models, "app=chat").await.len() == ENGINES).await;
    assert_eq!(movable(site, node).await, []);
}

#[test]
fn a_killed_control_plane_an_evicted_gateway_and_a_drained_node_cost_no_request() {
    let name = "installed::trouble::a_killed_control_plane_an_evicted_gateway_and_a_drained_node_cost_no_request";
    nodes::within(name, || async {
        let site = Site::dual_stack().await;
        install(&site, &OF_IPV6).await;
        populate(&site).await;
        are_of_ipv6(&site).await;
        asked(&places(&site).await, MODEL).await;
        let before = Before::of(&site).await;
        let load = Load::start(&places(&site).await, MODEL).await;
        load.during("a killed control plane", kill_leader(&site)).await;
        let gateway = OnceCell::new();
        // It serves its streams to their ends while the node is drained.
        let evicted = load.during("an evicted gateway", async {
            let gateway = gateway.get_or_init(|| evict_both(&site)).await;
            let pods = site.pods(&site.namespace);
            until("end of the gateway", async || pods.get_opt(gateway).await.unwrap().is_none()).await;
        });
        let drained = async {
            until("two gateways, none of them the evicted one", async || {
                let ready = site.proxies(GATEWAY).await;
                gateway.get().is_some_and(|gone| ready.len() == 2 && ready.iter().all(|pod| pod.name != *gone))
            })
            .await;
            let node = site.proxies(GATEWAY).await[0].node.clone();
            load.during("a drained node", async {
                drain(&site, &node).await;
                recovered(&site, &node).await;
            })
            .await;
        };
        tokio::join!(evicted, drained);
        load.unharmed(&site).await;
        // Not beside the load: its second is not that of a machine that has none to spare.
        edited(&site).await;
        come_anew(&site, &before).await;
    })
    .unwrap();
}
