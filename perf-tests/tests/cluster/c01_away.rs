//! C1 and C14: the API server is away, the control plane dies, a data plane dies and starts again, and no request is lost but those that
//! were on their way through the one that died.

use std::time::Duration;

use perf_tests::cluster::{Cluster, Parts};
use tokio::time::{Instant, sleep_until};

use crate::data_plane::{Client, DataPlane};
use crate::program::{Home, get, ports, route, server};
use crate::wait::until;

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// From its start until a data plane serves by what it finds on disk.
const FROM_DISK: Duration = Duration::from_secs(2);
/// Starts from disk, of which the quickest counts: a busy machine makes one slow, a wait that the program should not make all of them.
const STARTS: usize = 3;

/// Kills it and starts it again, and says how long it took until it was ready, by what was on disk.
async fn restart(plane: &mut DataPlane) -> Duration {
    plane.kill();
    let begin = Instant::now();
    plane.run();
    plane.until_ready().await;
    let took = begin.elapsed();
    let ready = plane.ready().await.unwrap();
    assert_eq!(ready["control_plane"]["table_from_disk"], true, "{ready}");
    took
}

#[tokio::test]
async fn c01_c14_an_api_server_away_for_a_minute_a_dead_control_plane_and_a_restarted_data_plane_lose_no_request() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Parts::ApiServer).unwrap()));
    let home = Home::new(cluster, "away").await;
    let [engine] = ports();
    let _engines = [home.engine("one", "127.0.0.2", engine), home.engine("two", "127.0.0.3", engine)];
    home.apply(&server("chat", engine)).await;
    home.pod("one", "chat", "127.0.0.2").await;
    home.pod("two", "chat", "127.0.0.3").await;
    home.apply(&route("chat", "chat")).await;
    let control = home.control(&[]);
    let (steady, mut restarted) = (DataPlane::start(&home, "steady"), DataPlane::start(&home, "restarted"));
    for proxy in [&steady, &restarted] {
        proxy.until_ready().await;
        until("an answer", async || proxy.ask("chat").await == 200).await;
    }
    let (all_along, before) = (Client::of(&steady, "chat"), Client::of(&restarted, "chat"));

    cluster.kill_api_server().await.unwrap();
    let back = Instant::now() + AWAY;
    until("failing watches", async || {
        let text = get(home.metrics, "/metrics").await.unwrap_or_default().1;
        text.lines().any(|line| line == "kthena_controlplane_watches_failing{kind=\"Pod\"} 1")
    })
    .await;
    control.kill();
    until("it knows", async || steady.ready().await.is_some_and(|ready| ready["control_plane"]["connected"] == false))
        .await;
    before.end("the one that is restarted, before").await;
    let mut took = Duration::MAX;
    for _ in 0..STARTS {
        took = took.min(restart(&mut restarted).await);
    }
    assert!(took < FROM_DISK, "ready from disk after {took:?} at best");
    let after = Client::of(&restarted, "chat");

    sleep_until(back).await;
    cluster.start_api_server().await.unwrap();
    let _control = home.control(&[]);
    home.apply(&route("code", "chat")).await;
    for proxy in [&steady, &restarted] {
        until("an answer by a new route", async || proxy.ask("code").await == 200).await;
    }
    let asked = all_along.end("the steady one").await + after.end("the one that was restarted").await;
    println!("{asked} requests in {AWAY:?} without an API server, none lost; ready from disk after {took:?}");
}
