//! C1 with replicas: the API server is away while two of them tell each other what their data planes report.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::*;
use crate::data_plane::Client;
use crate::program::{get, ports};

/// How long the API server is away at least, besides the seconds in which it starts. After 16 s in all the cluster's own controllers would take the
/// node, and all pods with it, for lost.
const AWAY: Duration = Duration::from_secs(4);
/// Where data planes answer.
const PORT: u16 = 8080;

const ENGINE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: llama}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: engine-sim
    args: [--listen, '$(POD_IP):8000', --model, llama]
    env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    ports: [{name: http, containerPort: 8000}]
    readinessProbe: {httpGet: {path: /health, port: http}, periodSeconds: 1}
";

/// A data plane of a replica of its own.
struct Plane {
    name: &'static str,
    ip: String,
    debug: u16,
}

impl Plane {
    async fn start(site: &Site, name: &'static str) -> Self {
        let [debug] = ports();
        site.data_plane(name, debug).await;
        Self { name, ip: site.played.ready(name).await, debug }
    }

    fn client(&self) -> Client {
        Client::at(&self.ip, PORT, "still")
    }

    /// What it decides by: which proxies send to the engines, and how many tokens a second the others do.
    async fn others(&self) -> Option<(u64, f64)> {
        let table: Value = serde_json::from_str(&get(self.debug, "/debug/table").await?.1).ok()?;
        let backend = &table["backends"][0];
        Some((backend["proxies"].as_u64()?, backend["othersTokensPerSecond"].as_f64()?))
    }

    async fn hears(&self, what: &str, holds: impl Fn(u64, f64) -> bool) {
        until(&format!("{what}, at {}", self.name), async || {
            self.others().await.is_some_and(|(proxies, rate)| holds(proxies, rate))
        })
        .await;
    }
}

impl Site {
    /// When `Programmed` of a route turned last, where it is true.
    async fn turned(&self, name: &str) -> Option<String> {
        let status = self.routes.get(name).await.unwrap().data["status"].clone();
        let mut conditions = status["conditions"].as_array()?.iter();
        let programmed = conditions.find(|condition| condition["type"] == "Programmed")?;
        (programmed["status"] == "True").then(|| programmed["lastTransitionTime"].to_string())
    }
}

#[test]
fn c01_replicas_go_on_telling_each_other_while_the_api_server_is_away() {
    let name = "replicas::away::c01_replicas_go_on_telling_each_other_while_the_api_server_is_away";
    network::within(name, scenario);
}

async fn scenario() {
    let site = Site::start().await;
    for name in ["engine-0", "engine-1"] {
        site.played.apply(&ENGINE.replace("NAME", name)).await;
    }
    for name in ["engine-0", "engine-1"] {
        site.played.ready(name).await;
    }
    let (a, b) = (site.replica("a").await, site.replica("b").await);
    let bundles: Api<ConfigMap> = Api::namespaced(site.played.client.clone(), &site.played.namespace);
    until("CA bundle", async || bundles.get("kthena-controlplane-ca").await.unwrap().data.is_some()).await;
    site.balancer.to(&[&a]);
    let one = Plane::start(&site, "one").await;
    site.balancer.to(&[&b]);
    let two = Plane::start(&site, "two").await;
    site.balancer.to(&[&a, &b]);
    a.has(1).await;
    b.has(1).await;
    site.edit("edited", 2).await;
    until("programmed route", async || site.turned("still").await.is_some()).await;
    // One is asked all along; of the other one it hears first when the API server is gone.
    let steady = one.client();
    two.hears("the other one", |proxies, rate| proxies == 2 && rate > 0.0).await;
    one.hears("nobody else", |proxies, rate| (proxies, rate) == (1, 0.0)).await;

    let before = site.turned("still").await;
    let back = Instant::now() + AWAY;
    site.played.cluster.kill_api_server().await.unwrap();
    let other = two.client();
    one.hears("the other one", |proxies, rate| proxies == 2 && rate > 0.0).await;
    sleep_until(back).await;
    site.played.cluster.start_api_server().await.unwrap();

    until("leader", async || a.leads().await || b.leads().await).await;
    site.edit("edited", 2).await;
    a.has(1).await;
    b.has(1).await;
    for plane in [&one, &two] {
        plane.hears("two proxies, as before", |proxies, rate| proxies == 2 && rate > 0.0).await;
    }
    let asked = steady.end("one").await + other.end("two").await;
    assert_eq!(site.turned("still").await, before, "it flapped");
    println!("{asked} requests, none lost, over {AWAY:?} without an API server");
}
