//! The chart as its users meet it: helm installs it on three nodes, its pods run as it says, requests are answered, it is upgraded
//! under load, rolled back under load and uninstalled. Release, namespace and names are not the defaults.

mod allowed;
pub mod clients;
mod doctor;
mod elsewhere;
mod everything;
mod host;
mod left;
mod load;
mod near;
mod notes;
mod others;
mod rollback;
mod scraped;
pub mod site;
mod trouble;
mod written;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use perf_tests::cluster::Cluster;
use perf_tests::nodes;
use tokio::time::{sleep, timeout};

use crate::program::{route, server};
use crate::wait::{DEADLINE, until};
use clients::ask;
use load::Load;
use site::{GATEWAY, MODEL, NODE, RELEASE, Ready, Site, asked, everything, install, places, populate, upgrade};

/// Within which an edit is in force on every proxy.
const EDIT: Duration = Duration::from_secs(1);

/// So many are timed.
const EDITS: usize = 5;

/// An edit is in force on every proxy within a second: of a route whose target becomes another, and new ones.
async fn edited(site: &Site) {
    let all = [site.proxies(NODE).await, site.proxies(GATEWAY).await].concat();
    // One that leads to a server without a pod, on all of them.
    site.apply(&(server("nobody", 8000) + "---\n" + &route("edited-0", "nobody"))).await;
    for proxy in &all {
        let address = proxy.at(8080);
        let is_led = async || ask(&address, "edited-0").await.is_err_and(|answer| answer.starts_with("HTTP/1.1 503 "));
        until(&format!("route on {}", proxy.name), is_led).await;
    }
    let mut times = Vec::new();
    for n in 0..EDITS {
        times.push(edit(site, &all, &format!("edited-{n}")).await);
    }
    assert!(times.iter().all(|time| *time < EDIT), "in force everywhere after {times:?}");
}

/// How long it takes until a route to the engines is in force on all of these.
async fn edit(site: &Site, all: &[Ready], name: &str) -> Duration {
    let began = Instant::now();
    site.apply(&route(name, "chat")).await;
    let applied = began.elapsed();
    let in_force = all.iter().map(|proxy| async move {
        let address = proxy.at(8080);
        while ask(&address, name).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    });
    let last = join_all(in_force).await.into_iter().max().unwrap();
    println!("an edit was applied after {applied:?}, in force on {} proxies after {last:?}", all.len());
    last
}

/// All three workloads are replaced while requests and streams go on.
async fn upgraded(site: &Site) {
    let load = Load::start(&places(site).await, MODEL).await;
    let of_runtime = BTreeSet::from(["epoll".to_owned()]);
    assert_eq!((site.drivers(NODE).await, site.drivers(GATEWAY).await), (of_runtime.clone(), of_runtime.clone()));
    let settings = [
        "gateway.podAnnotations.revision=two",
        "controlplane.podAnnotations.revision=two",
        "node.ioUring.seccomp=localhost",
        "node.ioUring.install=true",
    ];
    load.during("the upgrade", replaced(site, upgrade(site, &settings))).await;
    // Under the profile that the chart installs on each node it runs on io_uring.
    assert_eq!((site.drivers(NODE).await, site.drivers(GATEWAY).await), (["uring".to_owned()].into(), of_runtime));
    load.unharmed(site).await;
}

/// By this every pod of the chart is replaced by another.
async fn replaced(site: &Site, act: impl Future<Output = ()>) {
    let names = async || everything(site).await.into_iter().map(|pod| pod.name).collect::<Vec<_>>();
    let before = names().await;
    act.await;
    let after = names().await;
    let kept: Vec<_> = before.iter().filter(|name| after.contains(name)).collect();
    assert!(kept.is_empty() && after.len() == before.len(), "{kept:?} are not of the new revision");
}

/// By this each pod of a workload is replaced by another.
async fn replaced_all(site: &Site, name: &str, act: impl Future<Output = ()>) {
    let names = async || site.proxies(name).await.into_iter().map(|pod| pod.name).collect::<BTreeSet<_>>();
    let before = names().await;
    act.await;
    let after = names().await;
    assert!(after.len() == before.len() && after.is_disjoint(&before), "{before:?} {after:?}");
}

#[test]
fn the_chart_serves_from_every_node_is_upgraded_and_rolled_back_under_load_and_leaves_nothing() {
    let name = "installed::the_chart_serves_from_every_node_is_upgraded_and_rolled_back_under_load_and_leaves_nothing";
    // Built where there is a network.
    let kubectl = Cluster::kubectl().unwrap();
    nodes::within(name, || async {
        let site = Site::new().await;
        let before = left::objects(&site.client).await;
        install(&site, &["gateway.service.type=NodePort"]).await;
        populate(&site).await;
        asked(&places(&site).await, MODEL).await;
        near::engines(&site).await;
        near::proxies(&site).await;
        near::one_goes(&site, notes::carried_out(&site, &kubectl)).await;
        edited(&site).await;
        scraped::dashboards(&site).await;
        doctor::tested(&site, "epoll").await;
        rollback::keeps_all(&site, upgraded(&site)).await;
        doctor::tested(&site, "uring").await;
        rollback::rolled_back(&site).await;
        for account in ["kthena-controlplane", "kthena-crds"] {
            allowed::no_more_than_it_may(&site, &site::settings(&[]), account);
        }
        site.helm(&["uninstall", RELEASE, "--wait"]).await;
        uninstalled(&site, &before).await;
    })
    .unwrap();
}

/// What is left of it is the definitions and what users made.
async fn uninstalled(site: &Site, before: &BTreeSet<String>) {
    let of_models = format!(" {}/", site.models);
    // Among what users made there may be rights of the chart.
    let is_users = |object: &str| object.contains(&of_models) && !object.starts_with("RoleBinding.");
    let is_definitions = |object: &str| {
        object.contains("serving.volcano.sh")
            && ["CustomResourceDefinition.", "APIService."].iter().any(|kind| object.starts_with(kind))
    };
    let ours = |object: &&String| !is_users(object) && !is_definitions(object);
    let mut left = Vec::new();
    let gone = async || {
        let now = left::objects(&site.client).await;
        left = now.difference(before).filter(ours).cloned().collect();
        left.is_empty()
    };
    // Shorter than `until`, so that what is left is seen.
    let in_time = timeout(DEADLINE - Duration::from_secs(5), until("end of all that helm made", gone)).await;
    assert!(in_time.is_ok(), "left behind: {left:#?}");
    let after = left::objects(&site.client).await;
    for kept in [
        "CustomResourceDefinition.apiextensions.k8s.io /modelroutes.networking.serving.volcano.sh".to_owned(),
        format!("ModelRoute.networking.serving.volcano.sh {}/chat", site.models),
    ] {
        assert!(after.contains(&kept), "{kept} is gone");
    }
}
