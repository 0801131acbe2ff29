//! Subscribers that do not read cost bounded memory, and are cut off in the end. Alone in its process, for it measures
//! that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message as Said;
use api::proto::{FromDataPlane, Subscribe};
use api::snapshot::{Route, Rule, Snapshot, Target, Version};
use controlplane::publish::serve::{Inputs, Listener, Options, Server};
use futures_util::StreamExt;
use futures_util::stream::{iter, pending};
use tokio::sync::watch;
use tonic::transport::Channel;

const SUBSCRIBERS: u64 = 200;
const VERSIONS: u64 = 150;
const ROUTES: usize = 5_000;
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// About 1 MB of routes on the wire, all of which change from one version to the next.
fn snapshot(version: u64) -> Snapshot {
    let route = |n: usize| {
        let targets = vec![Target { backend: "namespace/backend".into(), weight: 1 }];
        let rule = Rule { name: String::new(), headers: Default::default(), uri: None, body_model: None, targets };
        let padding = "x".repeat(120);
        Route {
            name: format!("namespace/route-{n}").into(),
            model: Some(format!("model-{n}-{version}-{padding}").into()),
            adapters: Vec::new(),
            rules: vec![rule],
        }
    };
    let routes = (0..ROUTES).map(route).collect();
    Snapshot { version: Version { epoch: 0, version }, routes, ..Snapshot::default() }
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_costs_bounded_memory_and_is_cut_off() {
    let listener = Listener::plain("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let snapshots = watch::channel(Some(Arc::new(snapshot(0)))).0;
    let inputs = Inputs { snapshots: snapshots.subscribe(), zones: watch::channel(Arc::default()).1 };
    let options =
        Options { answer_time: ANSWER_TIME, publish_interval: Duration::from_millis(1), ..Options::default() };
    let server = Server::new(listener, inputs, options);
    let (address, counts, progress) = (server.address(), server.counts(), server.progress());
    tokio::spawn(server.serve(std::future::pending()));
    until("the first version is out", || counts.published.load(Relaxed) == 1).await;
    let before = resident();
    let mut streams = Vec::new();
    for instance in 1..=SUBSCRIBERS {
        let subscribe = Subscribe { instance, load: true, ..Subscribe::default() };
        let first = FromDataPlane { message: Some(Said::Subscribe(subscribe)) };
        let messages = iter([first]).chain(pending());
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut client = DataPlaneClient::new(channel);
        // Held and never read; the connection answers pings.
        streams.push(client.stream(messages).await.unwrap());
    }
    until("all are there", || progress.borrow().connected == SUBSCRIBERS as usize).await;
    for version in 1..=VERSIONS {
        snapshots.send_replace(Some(Arc::new(snapshot(version))));
        until("it is published", || counts.published.load(Relaxed) == version + 1).await;
    }
    let grown = resident().saturating_sub(before);
    println!("{SUBSCRIBERS} subscribers that do not read, {VERSIONS} versions of 1 MB: {} MiB more", grown >> 20);
    println!("{} changes encoded, {} MiB", counts.encoded.load(Relaxed), counts.encoded_bytes.load(Relaxed) >> 20);
    // The archive has 24 states of a few MB each; a subscriber has its socket's queues on both sides.
    assert!(grown < 320 << 20, "{} MiB", grown >> 20);
    assert_eq!(counts.sent.load(Relaxed), SUBSCRIBERS, "one change is on its way to each, and no more");
    until("all are cut off", || progress.borrow().connected == 0).await;
    assert_eq!(counts.cut_off.load(Relaxed), SUBSCRIBERS);
}
