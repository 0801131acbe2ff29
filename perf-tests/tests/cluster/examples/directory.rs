//! `examples/directory` on a cluster that has its nodes.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};

use super::{MODEL, NODE, NODES, Stage, proxies};
use crate::installed::clients::exchange;
use crate::installed::site::Ready;
use crate::wait::until;

/// Longer than an answer takes on a machine that is busy, shorter than any pause that a ModelServer could mean.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A proxy learns of its node's zone as it connects, so the one of the first node makes room for another.
async fn another_proxy(stage: &Stage) -> Ready {
    let here = async || stage.site.proxies(NODE).await.into_iter().find(|proxy| proxy.node == NODES[0]);
    let before = here().await.unwrap().name;
    let at_once = DeleteParams::default().grace_period(1);
    stage.site.pods(&stage.site.namespace).delete(&before, &at_once).await.unwrap();
    let mut next = None;
    until("another proxy", async || {
        next = here().await.filter(|proxy| proxy.name != before);
        next.is_some()
    })
    .await;
    next.unwrap()
}

/// A canary by a header, engines on both nodes of one zone; an engine that is deleted is asked no more.
pub async fn serves(stage: &Stage) {
    let here = stage.site.cluster.namespace(&stage.client, "directory").await.unwrap();
    for file in ["pods", "servers", "route"] {
        stage.apply(&here, &stage.read(&format!("directory/{file}.yaml"))).await;
    }
    let near = another_proxy(stage).await.ip;
    let proxies: Vec<_> = proxies(stage).await.into_iter().map(|proxy| proxy.ip).collect();
    let (first, second) = (stage.ready(&here, "llama-0").await, stage.ready(&here, "llama-1").await);
    let llama = [first, second].map(|ip| format!("{ip}:18001"));
    let canary = [stage.ready(&here, "llama-canary-0").await + ":18002"];
    for model in [MODEL, "sql-adapter"] {
        stage.served_by(&proxies, (model, ""), &llama).await;
    }
    stage.served_by(&proxies, (MODEL, "x-canary: yes\r\n"), &canary).await;
    stage.served_by(&proxies, (MODEL, "x-canary: no\r\n"), &llama).await;
    let mut distances: Vec<_> = stage.endpoints(&near).await;
    distances.sort_by_key(|endpoint| endpoint["name"].as_str().unwrap().to_owned());
    let distances: Vec<_> = distances.iter().map(|endpoint| endpoint["distance"].as_str().unwrap()).collect();
    assert_eq!(distances, ["node", "zone", "zone"], "the proxy is on node-a, and both nodes are of zone-1");
    another_is_tried(stage, &near, &llama).await;
    limits(&stage.table(&near).await["backends"], &format!("{here}/llama"));
    let pods = Api::<Pod>::namespaced(stage.client.clone(), &here);
    pods.delete("llama-0", &DeleteParams::default().grace_period(1)).await.unwrap();
    stage.served_by(&proxies, (MODEL, ""), &llama[1..]).await;
}

/// How long the engines of a group may take, and how often another is tried.
fn limits(backends: &Value, name: &str) {
    let backend = backends.as_array().unwrap().iter().find(|backend| backend["name"] == *name).unwrap();
    let seconds = |what: &str| backend["timeouts"][what].as_f64().unwrap();
    assert_eq!(seconds("firstByteSeconds"), 600.0, "{backend:#}");
    assert!(seconds("totalSeconds") >= 600.0, "{backend:#}");
    let retry = (&backend["retry"]["attempts"], &backend["retry"]["intervalSeconds"]);
    assert_eq!(retry, (&json!(1), &json!(0.0)), "{backend:#}");
}

/// What an engine answers about itself, or does at a test's command.
async fn engine(address: &str, request: &str) -> Value {
    let request = request.replacen("\r\n", "\r\nHost: x\r\nConnection: close\r\n", 1);
    let answer = exchange(address, &request).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// While one engine ends each connection without a word, the other one answers in its place, at once.
async fn another_is_tried(stage: &Stage, proxy: &str, [failing, other]: &[String; 2]) {
    let asked = async || engine(failing, "GET /sim/stats HTTP/1.1\r\n\r\n").await["requests"].as_u64().unwrap();
    let fail = async |body: Value| {
        let body = body.to_string();
        engine(failing, &format!("POST /sim/fail HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await
    };
    let before = asked().await;
    fail(json!({"mode": "drop", "count": 1000})).await;
    until(&format!("request that {failing} failed"), async || {
        let began = Instant::now();
        let served = stage.served(proxy, MODEL, "").await;
        assert_eq!(served.as_ref(), Some(other), "while {failing} fails");
        assert!(began.elapsed() < AT_ONCE, "{other} was tried after {:?}", began.elapsed());
        asked().await > before
    })
    .await;
    fail(json!({"mode": "none"})).await;
}
