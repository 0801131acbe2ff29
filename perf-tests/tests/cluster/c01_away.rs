//! C1 and C14: the API server is away. The control plane lives with that for half of the time and then dies; a data plane dies and starts
//! again, and no request is lost but those that were on their way through the one that died.

use std::time::Duration;

use perf_tests::cluster::{Cluster, Parts};
use tokio::time::{Instant, sleep, sleep_until};

use crate::data_plane::{Client, DataPlane};
use crate::program::{Home, get, route};
use crate::told::{Bounds, Watcher};
use crate::wait::{until, within};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// From its start until a data plane serves by what it finds on disk.
const FROM_DISK: Duration = Duration::from_secs(2);
/// Starts from disk; the middle one counts, for a machine that is busy with other tests makes one slow.
const STARTS: usize = 3;

/// Between two questions whether it is ready.
const ASKED: Duration = Duration::from_millis(5);

/// Kills it and starts it again, and says how long it took until it was ready, by what was on disk.
async fn restart(plane: &mut DataPlane) -> Duration {
    plane.kill();
    let begin = Instant::now();
    plane.run();
    within("a ready data plane", async {
        while plane.ready().await.is_none() {
            sleep(ASKED).await;
        }
    })
    .await;
    let took = begin.elapsed();
    let ready = plane.ready().await.unwrap();
    assert_eq!(ready["control_plane"]["table_from_disk"], true, "{ready}");
    took
}

#[tokio::test]
async fn c01_c14_an_api_server_away_for_a_minute_a_dead_control_plane_and_a_restarted_data_plane_lose_no_request() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Parts::ApiServer).unwrap()));
    let home = Home::new(cluster, "away").await;
    let _engines = home.chat().await;
    let control = home.control(&[]);
    let (steady, mut restarted) = (DataPlane::start(&home, "steady"), DataPlane::start(&home, "restarted"));
    for proxy in [&steady, &restarted] {
        proxy.until_ready().await;
        until("an answer", async || proxy.ask("chat").await == 200).await;
    }
    let (all_along, before) = (Client::of(&steady, "chat"), Client::of(&restarted, "chat"));

    let watcher = Watcher::of(&home, Bounds { strange: true, ..Bounds::default() }).await;
    let table = watcher.newest();
    assert_eq!((table.routes.len(), table.endpoints.len()), (1, 2));
    watcher.tighten(&table);
    cluster.kill_api_server().await.unwrap();
    let (half, back) = (Instant::now() + AWAY / 2, Instant::now() + AWAY);
    until("failing watches", async || {
        let text = get(home.metrics, "/metrics").await.unwrap_or_default().1;
        text.lines().any(|line| line == "kthena_controlplane_watches_failing{kind=\"Pod\"} 1")
    })
    .await;
    let tables = watcher.tables();
    sleep_until(half).await;
    watcher.check();
    assert_eq!((watcher.newest(), watcher.tables()), (table, tables), "it goes on to say what it said");
    for (who, port) in [("control", home.metrics), ("data", steady.metrics)] {
        assert_eq!(get(port, "/readyz").await.unwrap().0, 200, "the {who} plane is ready all along");
    }
    drop(watcher);
    control.kill();
    until("it knows", async || steady.ready().await.is_some_and(|ready| ready["control_plane"]["connected"] == false))
        .await;
    before.end("the one that is restarted, before").await;
    let mut took = Vec::new();
    for _ in 0..STARTS {
        took.push(restart(&mut restarted).await);
    }
    took.sort_unstable();
    assert!(took[STARTS / 2] < FROM_DISK, "ready from disk after {took:?}");
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
