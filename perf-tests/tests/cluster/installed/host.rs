//! Proxies at a port of their nodes, asked by addresses of both families: on the nodes' own network two share it while the one takes over from the other; a hostPort belongs to one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use kubelet::plan;
use perf_tests::nodes::{self, enter};
use tokio::time::{Instant, sleep, timeout};

use super::clients::{Place, ask, stream};
use super::load::Load;
use super::site::{MODEL, NODE, RELEASE, Ready, Site, asked, install, populate, populate_as_kthena_left_it, upgrade};
use super::{notes, replaced_all, scraped};
use crate::nodes::NAMES;

/// Between two requests of who measures a gap, and how long he waits for one.
const EACH: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);
/// Of a stream, with an engine of the bed: six seconds.
const TOKENS: u32 = 60;

/// For both families of addresses.
const LISTEN: &str = "global.listenAddress=::";

/// Each client, asking its own node by each of its addresses.
async fn own_nodes(site: &Site) -> Vec<Place> {
    let places = |client: Ready| {
        let index = NAMES.iter().position(|name| *name == client.node).unwrap();
        [plan::node(index).into(), plan::node_second(index).into()]
            .map(|ip: IpAddr| Place { namespace: client.namespace(), address: SocketAddr::new(ip, 8080).to_string() })
    };
    site.clients().await.into_iter().flat_map(places).collect()
}

#[test]
fn on_the_nodes_own_network_an_upgrade_costs_no_request_either() {
    nodes::within("installed::host::on_the_nodes_own_network_an_upgrade_costs_no_request_either", || async {
        let site = Site::dual_stack().await;
        // As where the platform chooses whom a pod runs as: here it is whom the image says. What was taken away so stays away in the upgrade, which
        // uses these values again, or has its default.
        let taken = ["node.podSecurityContext=null", "gateway.replicas=null"];
        let settings = [&["node.exposure=hostNetwork", "node.config.drain.lead=2s", LISTEN][..], &taken].concat();
        // As after way A of helm/MIGRATION.md: the Job of the chart takes the definitions over, and what is stored is served as it is.
        populate_as_kthena_left_it(&site).await;
        install(&site, &settings).await;
        let places = own_nodes(&site).await;
        asked(&places, MODEL).await;
        let said = site.helm(&["test", RELEASE, "--timeout=2m"]).await;
        assert!(said.contains("Succeeded"), "{said}");
        // Its pods declare no ports: their monitor says where to ask.
        let folder = tempfile::tempdir().unwrap();
        drop(scraped::by_monitors(&site, folder.path(), &settings).await);
        let load = Load::start(&places, MODEL).await;
        let act = upgrade(&site, &["node.podAnnotations.revision=two"]);
        load.during("the upgrade of proxies on the nodes' own network", replaced_all(&site, NODE, act)).await;
        load.unharmed(&site).await;
    })
    .unwrap();
}

/// The longest time in which a place was served nothing, until it is over.
async fn longest_gap(address: String, over: Arc<AtomicBool>) -> Duration {
    let (mut served, mut longest) = (Instant::now(), Duration::ZERO);
    while !over.load(Relaxed) {
        if matches!(timeout(PATIENCE, ask(&address, MODEL)).await, Ok(Ok(()))) {
            longest = longest.max(served.elapsed());
            served = Instant::now();
        }
        sleep(EACH).await;
    }
    longest.max(served.elapsed())
}

/// One stream after the other until it is over: how many were whole, and how many were cut.
async fn streams(address: String, over: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut whole, mut cut) = (0, Vec::new());
    while !over.load(Relaxed) {
        match stream(&address, MODEL, TOKENS).await {
            Ok(()) => whole += 1,
            // Who was never let in, or was told that there are no routes yet, has lost no stream.
            Err(why) if why.starts_with("0 of ") => sleep(EACH).await,
            Err(why) => cut.push(why),
        }
    }
    (whole, cut)
}

/// The longest gap of any node over an upgrade, without or with a stream on each.
async fn gap(site: &Site, places: &[Place], (revision, streaming): (&str, bool)) -> Duration {
    let over = Arc::<AtomicBool>::default();
    let (mut gaps, mut streamed) = (Vec::new(), Vec::new());
    for Place { namespace, address } in places.iter().cloned() {
        let (ends, asked, at) = (over.clone(), address.clone(), namespace.clone());
        gaps.push(tokio::spawn(async move { enter(&at, move || longest_gap(asked, ends)).await.unwrap() }));
        let ends = over.clone();
        if streaming {
            streamed
                .push(tokio::spawn(async move { enter(&namespace, move || streams(address, ends)).await.unwrap() }));
        }
    }
    replaced_all(site, NODE, upgrade(site, &[&format!("node.podAnnotations.revision={revision}")])).await;
    asked(places, MODEL).await;
    over.store(true, Relaxed);
    let mut longest = Duration::ZERO;
    for (Place { address, .. }, gap) in places.iter().zip(gaps) {
        let gap = gap.await.unwrap();
        println!("{address} was served nothing for {gap:?}");
        longest = longest.max(gap);
    }
    for client in streamed {
        let (whole, cut) = client.await.unwrap();
        assert!(cut.is_empty() && whole > 1, "{whole} streams were whole; {cut:?}");
    }
    longest
}

#[test]
fn by_a_host_port_an_upgrade_cuts_no_stream() {
    nodes::within("installed::host::by_a_host_port_an_upgrade_cuts_no_stream", || async {
        let site = Site::dual_stack().await;
        install(&site, &["node.exposure=hostPort", "node.config.drain.lead=1s", LISTEN]).await;
        populate(&site).await;
        let places = own_nodes(&site).await;
        asked(&places, MODEL).await;
        notes::by_the_nodes_address(&site).await;
        let said = site.helm(&["test", RELEASE, "--timeout=2m"]).await;
        assert!(said.contains("Succeeded"), "{said}");
        let without = gap(&site, &places, ("two", false)).await;
        let with = gap(&site, &places, ("three", true)).await;
        // The old pod keeps the port until its streams have ended.
        println!("the gap of a hostPort: {without:?} without streams, {with:?} with streams of six seconds");
    })
    .unwrap();
}
