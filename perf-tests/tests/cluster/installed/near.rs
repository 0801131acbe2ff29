//! Who is near serves: the proxy of the client's node, and of engines that cost the same the one on the proxy's node.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams};
use perf_tests::helm::Render;
use perf_tests::nodes::enter;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::clients::{Place, ask, completion, exchange};
use super::elsewhere;
use super::site::{GATEWAY, MODEL, NODE, RELEASE, Ready, Site, asked, finished_by, settings};
use crate::fleet::holds;
use crate::wait::until;

/// As many fresh prompts each client asks with, of some 450 tokens: fewer than tell one engine's speed from another's (1,000).
const FRESH: usize = 2;
/// So many requests of a client have to come to one proxy.
const ASKED: usize = 5;
const BEFORE_1_35: &str = "local-before-1-35";
/// Less than the chart's `drain.lead`, more than the time in which a readiness probe comes to another mind (6 s).
const LEAD: Duration = Duration::from_secs(9);
const PATIENCE: Duration = Duration::from_secs(2);
/// Tokens per second of the other proxies' traffic as last told, for whose unseen part a proxy allows at each engine at random. So little of it
/// is less than what counts as the same cost (two in a hundred).
const QUIET: f64 = 100.0;

/// A request from each node is served by its own node's proxy, also by the Service that older clusters get, and by the gateway where it asks that.
pub async fn proxies(site: &Site) {
    by_own_node(site, NODE).await;
    serve_before_1_35(site).await;
    by_own_node(site, BEFORE_1_35).await;
    let (far, gateways) = (site.service(GATEWAY).await, site.proxies(GATEWAY).await);
    for client in site.clients().await {
        let before: u64 = finished_by(&gateways).await.values().sum();
        asked(&[Place { namespace: client.namespace(), address: far.clone() }], MODEL).await;
        assert!(finished_by(&gateways).await.values().sum::<u64>() > before, "a gateway served {client:?}");
    }
}

/// A node whose proxy ends and has none then, and something that leaves both alone while the proxy still serves.
pub async fn one_goes(site: &Site, meanwhile: impl Future<Output = ()>) {
    let proxies = site.proxies(NODE).await;
    let client = site.clients().await.remove(0);
    let own = proxies.iter().find(|proxy| proxy.node == client.node).unwrap();
    elsewhere::keep_away(site, &client.node).await;
    tokio::join!(serves_to_its_end(site, &client, own), meanwhile);
    let pods = site.pods(&site.namespace);
    until("end of the proxy", async || pods.get_opt(&own.name).await.unwrap().is_none()).await;
    elsewhere::without_a_proxy(site, &client, BEFORE_1_35).await;
    elsewhere::let_come(site, &client.node).await;
    until("another proxy", async || site.proxies(NODE).await.len() == proxies.len()).await;
    let services = Api::<Service>::namespaced(site.client.clone(), &site.namespace);
    services.delete(BEFORE_1_35, &DeleteParams::default()).await.unwrap();
}

/// A proxy that is to end stays ready for its lead (`drain.readiness: keep`), so what still comes to it is served also by the Service that has nobody
/// else on the node.
async fn serves_to_its_end(site: &Site, client: &Ready, own: &Ready) {
    let address = site.service(BEFORE_1_35).await;
    let pods = site.pods(&site.namespace);
    pods.delete(&own.name, &DeleteParams::default()).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < LEAD {
        let address = address.clone();
        let ask = move || async move { timeout(PATIENCE, ask(&address, MODEL)).await };
        let answer = enter(&client.namespace(), ask).await.unwrap();
        let at = began.elapsed();
        assert!(matches!(answer, Ok(Ok(()))), "{answer:?} {at:?} after it was told to end");
        let pod = pods.get(&own.name).await.unwrap();
        assert!(holds(&json!(pod.status), "Ready"), "not ready {at:?} after it was told to end: {:?}", pod.status);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Asked by this Service.
async fn by_own_node(site: &Site, service: &str) {
    let (address, proxies) = (site.service(service).await, site.proxies(NODE).await);
    for client in site.clients().await {
        let place = Place { namespace: client.namespace(), address: address.clone() };
        // kube-proxy may not have heard of a new Service yet: this is asked until it is answered.
        asked(std::slice::from_ref(&place), MODEL).await;
        let before = finished_by(&proxies).await;
        asked(&vec![place; ASKED], MODEL).await;
        let after = finished_by(&proxies).await;
        for proxy in &proxies {
            let own = if proxy.node == client.node { ASKED as u64 } else { 0 };
            let finished = after[&proxy.name] - before[&proxy.name];
            assert_eq!(finished, own, "{proxy:?}, asked from {} by {service}", client.node);
        }
    }
}

/// The node proxies' Service as the chart makes it on a cluster of 1.34, by another name.
async fn serve_before_1_35(site: &Site) {
    let set = settings(&[]);
    let older =
        Render { set: &set, namespace: &site.namespace, release: RELEASE, kubernetes: "1.34.0", ..Render::default() };
    let mut objects = older.objects().unwrap();
    objects.retain(|object| object["kind"] == "Service" && object["metadata"]["name"] == NODE);
    let [service] = &mut objects[..] else { panic!("one Service of that name: {objects:?}") };
    assert_eq!(
        (&service["spec"]["internalTrafficPolicy"], &service["spec"]["trafficDistribution"]),
        (&json!("Local"), &Value::Null)
    );
    service["metadata"] = json!({"name": BEFORE_1_35});
    site.cluster.apply(&site.client, &site.namespace, &service.to_string()).await.unwrap();
}

/// A proxy has heard of next to no traffic of the others lately.
async fn alone(proxy: &Ready) {
    until("quiet among all other proxies", async || {
        let request = "GET /debug/table HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let ask = move || async move { exchange("127.0.0.1:15000", request).await };
        let answer = enter(&proxy.namespace(), ask).await.unwrap().unwrap();
        let table: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let backends = table["backends"].as_array().unwrap();
        !backends.is_empty()
            && backends.iter().all(|backend| backend["othersTokensPerSecond"].as_f64().unwrap() < QUIET)
    })
    .await;
}

/// While engines are idle and none has anything of a prompt, a proxy's requests go to the engines of its own node.
pub async fn engines(site: &Site) {
    let engines = site.ready(&site.models, "app=chat").await;
    let (address, proxies) = (site.service(NODE).await, site.proxies(NODE).await);
    for client in site.clients().await {
        alone(proxies.iter().find(|proxy| proxy.node == client.node).unwrap()).await;
        let of_node: Vec<_> = engines.iter().filter(|engine| engine.node == client.node).collect();
        assert!(!of_node.is_empty() && of_node.len() < engines.len(), "{engines:?}");
        for n in 0..FRESH {
            // Of some blocks that no cache has.
            let prompt = format!("{} asks for the {n}th time. ", client.node).repeat(60);
            let (request, address) = (completion(MODEL, &prompt, (2, false)), address.clone());
            let ask = move || async move { exchange(&address, &request).await };
            let answer = enter(&client.namespace(), ask).await.unwrap().unwrap();
            let served = answer.lines().find_map(|line| line.strip_prefix("x-kthena-endpoint: "));
            let served = served.unwrap_or_else(|| panic!("{answer}")).split(':').next().unwrap();
            let near = of_node.iter().any(|engine| engine.ip == served);
            assert!(near, "asked on {}, {n}, served by {served} of {engines:?}; {answer}", client.node);
        }
    }
}
