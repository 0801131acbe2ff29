//! Subscribers that do not read cost bounded memory, and are cut off in the end. Alone in its process, for it measures
//! that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message as Said;
use api::proto::{FromDataPlane, Subscribe};
use api::snapshot::{Route, Snapshot, Version};
use controlplane::publish::serve::{Inputs, Listener, Options, Server};
use futures_util::StreamExt;
use futures_util::stream::{iter, pending};
use tokio::sync::watch;
use tonic::transport::Channel;

const FIRST: u64 = 40;
const VERSIONS: u64 = 200;
const ROUTES: usize = 5_000;
const WINDOW: u32 = 65_535;
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// About 1 MB of routes on the wire, all of which change from one version to the next.
fn snapshot(version: u64) -> Snapshot {
    let one = br#"{"routes": [{"name": "n/r", "model": "m", "rules": [{"targets": [{"backend": "n/b"}]}]}]}"#;
    let one = api::json::snapshot_from_json(one).unwrap().routes.remove(0);
    let padding = "x".repeat(120);
    let route = |n: usize| Route {
        name: format!("namespace/route-{n}").into(),
        model: Some(format!("model-{n}-{version}-{padding}").into()),
        ..one.clone()
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
    let (zones, reached) = (watch::channel(Arc::default()).1, watch::channel(Default::default()).1);
    let inputs = Inputs { snapshots: snapshots.subscribe(), zones, reached };
    let options =
        Options { answer_time: ANSWER_TIME, publish_interval: Duration::from_millis(1), ..Options::default() };
    let server = Server::new(listener, inputs, options);
    let (address, counts, progress) = (server.address(), server.counts(), server.progress());
    tokio::spawn(server.serve(std::future::pending()));
    let publish = async |version| {
        snapshots.send_replace(Some(Arc::new(snapshot(version))));
        until("it is published", || counts.published.load(Relaxed) == version + 1).await;
    };
    // The archive is full and the allocator has its fill before anything is measured.
    for version in 1..=FIRST {
        publish(version).await;
    }
    let before = resident();
    let mut streams = Vec::new();
    for version in FIRST + 1..=FIRST + VERSIONS {
        publish(version).await;
        // One joins with each version, so that as many states as can be are on their way to someone.
        let subscribe = Subscribe { instance: version, load: true, ..Subscribe::default() };
        let first = FromDataPlane { message: Some(Said::Subscribe(subscribe)) };
        let messages = iter([first]).chain(pending());
        // Small windows: what the client's HTTP/2 layer takes in is not the server's to hold.
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let endpoint = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let channel = endpoint.connect().await.unwrap();
        let mut client = DataPlaneClient::new(channel);
        // Held and never read; the connection answers pings.
        streams.push(client.stream(messages).await.unwrap());
    }
    until("all are there", || counts.sent.load(Relaxed) == VERSIONS).await;
    let grown = resident().saturating_sub(before);
    let (encoded, bytes) = (counts.encoded.load(Relaxed), counts.encoded_bytes.load(Relaxed));
    println!("{VERSIONS} subscribers that do not read, as many versions: {} KiB each", (grown / VERSIONS) >> 10);
    println!("{encoded} changes encoded, {} MiB", bytes >> 20);
    // Both ends of each connection are in this process, and HTTP/2 holds a copy of 400 KiB of what waits at each. What is
    // on its way to someone is held once, as bytes and as the state that they tell (about twice as large); how many of
    // the versions that are is a matter of time. Were each version kept, or queued for each, that would be 2 MiB each.
    let allowed = VERSIONS * (512 << 10) + 3 * bytes;
    assert!(grown < allowed, "{} MiB of {} MiB", grown >> 20, allowed >> 20);
    until("all are cut off", || progress.borrow().connected == 0).await;
    assert_eq!(counts.sent.load(Relaxed), VERSIONS, "one change was on its way to each, and no more");
    assert_eq!(counts.cut_off.load(Relaxed), VERSIONS);
}
