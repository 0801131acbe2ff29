//! C10: a rollout stops at the second pod of a new revision, which dies again and again. What is ready serves, nobody notices, and after
//! the rollback all is as before. (A Deployment's: ModelServing has no controller yet.)

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kubelet::built;
use perf_tests::cluster::Cluster;
use serde_json::Value;

use crate::data_plane::{Client, DataPlane};
use crate::fleet::{holds, kubelet};
use crate::program::{Home, route, server};
use crate::published::{Published, published};
use crate::wait::until;

const PODS: usize = 3;

/// Of three pods, never fewer.
const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  replicas: 3
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: chat}}
  template:
    metadata: {labels: {app: chat, revision: REVISION}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: main
        image: shell
        args: [-c, 'SCRIPT']
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 1, successThreshold: SUCCESSES}
";

/// Serves.
fn good() -> String {
    let deployment = DEPLOYMENT.replace("REVISION", "good").replace("SUCCESSES", "1");
    deployment.replace("SCRIPT", &format!("exec {}", engine()))
}

/// Its first pod serves. Each other one answers for two seconds at a time and is dead before it is taken to be ready.
fn bad(home: &Home) -> String {
    let first = home.folder.path().join("first");
    let script = format!(
        "mkdir {} && exec {engine}; exec timeout -s KILL 2 setpriv --pdeathsig KILL -- {engine}",
        first.display(),
        engine = engine()
    );
    DEPLOYMENT.replace("REVISION", "bad").replace("SUCCESSES", "5").replace("SCRIPT", &script)
}

fn engine() -> String {
    format!("{} --listen $POD_IP:8000 --model chat", built("engine-sim").unwrap().display())
}

/// What is looked at of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    uid: String,
    revision: String,
    endpoint: String,
    ready: bool,
    restarts: i32,
}

/// The pods that are to stay.
async fn pods(home: &Home) -> Vec<Seen> {
    let listed =
        Api::<Pod>::namespaced(home.admin.clone(), &home.namespace).list(&ListParams::default()).await.unwrap();
    let stay = listed.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    stay.map(|pod| {
        let status = pod.status.unwrap_or_default();
        let restarts = status.container_statuses.iter().flatten().map(|container| container.restart_count).sum();
        Seen {
            uid: pod.metadata.uid.unwrap(),
            revision: pod.metadata.labels.unwrap()["revision"].clone(),
            endpoint: format!("{}:8000", status.pod_ip.clone().unwrap_or_default()),
            ready: holds(&serde_json::to_value(status).unwrap(), "Ready"),
            restarts,
        }
    })
    .collect()
}

/// Waits until the pods are as they should be, and returns them.
async fn pods_that(home: &Home, what: &str, hold: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let mut found = Vec::new();
    until(what, async || {
        found = pods(home).await;
        hold(&found)
    })
    .await;
    found
}

fn of(pods: &[Seen], revision: &str, ready: bool) -> BTreeSet<String> {
    let those = pods.iter().filter(|pod| pod.revision == revision && pod.ready == ready);
    those.map(|pod| pod.endpoint.clone()).collect()
}

/// Who was asked, by lines of the access log; none where a request had to be sent twice.
fn asked(lines: &[Value]) -> Option<BTreeSet<String>> {
    let once = |line: &Value| (line["upstream_attempts"] == 1).then(|| line["endpoint"].as_str().map(str::to_owned))?;
    lines.iter().map(once).collect()
}

/// The rollout, up to where it stops: pods as they are then.
async fn until_stuck(home: &Home, plane: &DataPlane) -> Vec<Seen> {
    home.apply(&bad(home)).await;
    let dies = |pods: &[Seen], times| pods.iter().any(|pod| pod.revision == "bad" && pod.restarts >= times);
    let stuck = pods_that(home, "pod that dies again and again", |pods| dies(pods, 2)).await;
    let (kept, first) = (of(&stuck, "good", true), of(&stuck, "bad", true));
    assert_eq!((kept.len(), first.len(), stuck.len()), (PODS - 1, 1, PODS + 1), "{stuck:?}");
    // Who left is out of it for long. From here on the other one has two more lives to be asked in.
    plane.endpoint("chat").await;
    let begin = plane.log().len();
    pods_that(home, "two lives more", |pods| dies(pods, 4)).await;
    plane.endpoint("chat").await;
    let ready = kept.union(&first).cloned().collect();
    assert_eq!(asked(&plane.log()[begin..]), Some(ready), "who is ready is asked, of either revision, and nobody else");
    stuck
}

/// The rollback, to its end: pods as they are then.
async fn until_back(home: &Home, plane: &DataPlane) -> Vec<Seen> {
    home.apply(&good()).await;
    let back = |pods: &[Seen]| pods.len() == PODS && of(pods, "good", true).len() == PODS;
    let after = pods_that(home, "three pods of the old revision", back).await;
    let all = Some(of(&after, "good", true));
    until("requests to the old revision alone", async || {
        let log = plane.log();
        asked(&log[log.len().saturating_sub(40)..]) == all
    })
    .await;
    after
}

#[tokio::test]
async fn c10_a_revision_that_dies_at_its_second_pod_costs_no_request_and_neither_does_the_rollback() {
    let home = Home::new(Cluster::shared(), "rollout").await;
    let _pods = kubelet().await;
    home.apply(&server("chat", 8000)).await;
    home.apply(&route("chat", "chat")).await;
    home.apply(&good()).await;
    let _control = home.control(&[]);
    let plane = DataPlane::start(&home, "dataplane");
    plane.until_ready().await;
    let before = pods_that(&home, "three pods", |pods| of(pods, "good", true).len() == PODS).await;
    until("three endpoints", async || published(&home).await == Some(PODS)).await;
    until("an answer", async || plane.ask("chat").await == 200).await;
    let clients = [Client::of(&plane, "chat"), Client::of(&plane, "chat")];
    let endpoints = Published::of(&home);

    let stuck = until_stuck(&home, &plane).await;
    let after = until_back(&home, &plane).await;
    let stayed = before.iter().filter(|pod| after.contains(pod)).count();
    assert_eq!(stayed, PODS - 1, "who served all along still does: {before:?} {after:?}");
    let endpoints = endpoints.end();
    assert!(endpoints.is_subset(&[PODS, PODS + 1].into()), "so many endpoints were published: {endpoints:?}");
    let mut requests = 0;
    for client in clients {
        requests += client.end("a client").await;
    }
    let never = of(&stuck, "bad", false);
    let log = plane.log();
    let to_never = log.iter().filter(|line| never.contains(line["endpoint"].as_str().unwrap_or_default())).count();
    assert_eq!((never.len(), to_never), (1, 0), "who was never ready was never asked");
    println!("{requests} requests over a rollout that failed and its rollback, none lost");
}
