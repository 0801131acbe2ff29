//! Who is near serves: the proxy of the client's node, and of engines that cost the same the one on the proxy's node.

use perf_tests::nodes::enter;
use serde_json::Value;

use super::clients::{Place, completion, exchange};
use super::site::{GATEWAY, MODEL, NODE, Ready, Site, asked, finished_by};
use crate::wait::until;

/// As many fresh prompts each client asks with, of some 450 tokens: fewer than tell one engine's speed from another's (1,000).
const FRESH: usize = 2;
/// Tokens per second of the other proxies' traffic as last told, for whose unseen part a proxy allows at each engine at random. So little of it
/// is less than what counts as the same cost (two in a hundred).
const QUIET: f64 = 100.0;

/// A request from each node is served by its own node's proxy, and by the gateway where it asks that.
pub async fn proxies(site: &Site) {
    let (near, far) = (site.service(NODE).await, site.service(GATEWAY).await);
    let (proxies, gateways) = (site.proxies(NODE).await, site.proxies(GATEWAY).await);
    for client in site.clients().await {
        let place = |address: &str| Place { namespace: client.namespace(), address: address.to_owned() };
        let before = finished_by(&proxies).await;
        asked(&vec![place(&near); 5], MODEL).await;
        let after = finished_by(&proxies).await;
        for proxy in &proxies {
            let own = if proxy.node == client.node { 5 } else { 0 };
            assert_eq!(after[&proxy.name] - before[&proxy.name], own, "{proxy:?}, asked from {}", client.node);
        }
        let before: u64 = finished_by(&gateways).await.values().sum();
        asked(&[place(&far)], MODEL).await;
        assert!(finished_by(&gateways).await.values().sum::<u64>() > before, "a gateway served {client:?}");
    }
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
