//! C1 for all that a control plane does at an API server, on a paused clock: it follows objects, builds of them, is elected, and writes
//! statuses. Whatever of that holds a time comes back by itself, and data planes are told nothing meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::fleet::{Fleet, holds};
use super::plane::{Plane, put, until};
use crate::api_server::testing::{Server, Weather, Write};
use crate::chance::testing::{Rng, fix};
use crate::identity::RENEWAL;

const SECOND: Duration = Duration::from_secs(1);
/// The longest pause of whoever follows a list.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause between two looks at the lease.
const LOOK: Duration = Duration::from_millis(2400);
/// What a kubelet asks for.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// Whether the route's status says of this generation that it is programmed.
fn programmed(server: &Server, generation: i64) -> bool {
    let route = server.held("modelroutes", "r").unwrap();
    let conditions = route["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let holds = |found: &Value| found["type"] == "Programmed" && found["status"] == "True";
    route["status"]["observedGeneration"] == generation && conditions.iter().any(holds)
}

fn route(server: &Server, generation: i64) {
    let rules = json!([{"targetModels": [{"modelServerName": "s"}]}]);
    let spec = json!({"modelName": format!("m{generation}"), "rules": rules});
    let status = server.held("modelroutes", "r").map(|held| held["status"].clone()).unwrap_or_default();
    let metadata = json!({"uid": "r", "generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"});
    put(server, "modelroutes", "r", json!({"metadata": metadata, "spec": spec, "status": status}));
}

fn pod(server: &Server, n: u8) {
    let (ip, ready) = (format!("10.0.0.{}", n + 1), json!([{"type": "Ready", "status": "True"}]));
    let status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready});
    let metadata = json!({"uid": format!("p{n}"), "labels": {"app": "a"}});
    put(server, "pods", &format!("p{n}"), json!({"metadata": metadata, "status": status}));
}

fn furnish(server: &Server) {
    let spec = json!({
        "inferenceEngine": "vLLM", "workloadPort": {"port": 8000}, "workloadSelector": {"matchLabels": {"app": "a"}},
    });
    put(server, "modelservers", "s", json!({"metadata": {"uid": "s", "generation": 1}, "spec": spec}));
    (0..5).for_each(|n| pod(server, n));
    route(server, 1);
}

fn named(endpoints: &[u8]) -> BTreeSet<String> {
    endpoints.iter().map(|n| format!("p{n}")).collect()
}

async fn away_for(away: Duration) {
    fix(7);
    let server = Server::new(Rng::new(7));
    furnish(&server);
    let plane = Plane::start(&server);
    let mut fleet = Fleet::start(&server).await;
    fleet.follow(plane.rounds());
    let token = fleet.token(TOKEN_LIFE);
    let data_plane = fleet.join(&token).await.unwrap();
    until("a status", SECOND * 10, || programmed(&server, 1)).await;
    holds(&data_plane, &named(&[0, 1, 2, 3, 4])).await;
    let told = plane.told().len();

    server.set(Weather::Away);
    let begin = Instant::now();
    sleep(SECOND).await;
    server.write(Write { plural: "pods", name: "p1".to_owned(), object: None });
    pod(&server, 9);
    route(&server, 2);
    server.compact();
    sleep(away).await;
    assert_eq!((plane.told().len(), plane.newest()), (told, named(&[0, 1, 2, 3, 4])), "data planes are told nothing");
    assert!(!plane.leads(), "who cannot renew does not lead");
    let since = begin + SECOND * 20;
    assert_eq!(plane.asked("one of modelroutes", since), 0, "nor does it write");
    let looks = plane.asked("one of leases", begin) as u64;
    assert!(looks <= away.as_secs() * 10 / 16 + 2, "{looks} looks at the lease in {away:?}");
    let past_its_end = away > TOKEN_LIFE;
    assert_eq!((data_plane.lives(), fleet.excused()), (true, u64::from(past_its_end)), "its stream has gone on");
    let restarted = fleet.join(&token).await.unwrap();
    holds(&restarted, &named(&[0, 1, 2, 3, 4])).await;

    server.set(Weather::Fair);
    let back = Instant::now();
    let force = until("the new state", LONGEST_PAUSE + SECOND, || plane.newest() == named(&[0, 2, 3, 4, 9])).await;
    until("leadership", LOOK + SECOND, || plane.leads()).await;
    until("the new status", LONGEST_PAUSE, || programmed(&server, 2)).await;
    for data_plane in [&data_plane, &restarted] {
        holds(data_plane, &named(&[0, 2, 3, 4, 9])).await;
    }
    println!("away for {away:?}: in force {force:?} after it was back, status written after {:?}", back.elapsed());
    // What both states share was there all the time.
    let shared = named(&[0, 2, 3, 4]);
    assert!(plane.told()[told - 1..].iter().all(|(_, endpoints)| endpoints.is_superset(&shared)), "{:?}", plane.told());
    // By then there is a newer one, and the old one is worth nothing.
    sleep(RENEWAL + LONGEST_PAUSE).await;
    assert_eq!((data_plane.lives(), fleet.join(&token).await.is_err()), (!past_its_end, past_its_end));
    let renewed = fleet.join(&fleet.token(TOKEN_LIFE)).await.unwrap();
    holds(&renewed, &named(&[0, 2, 3, 4, 9])).await;
}

#[tokio::test(start_paused = true)]
async fn c01_an_api_server_that_is_away_for_ten_minutes_costs_no_endpoint_and_no_leader_stays_or_is_missed() {
    away_for(SECOND * 600).await;
}

#[tokio::test(start_paused = true)]
async fn c01_an_api_server_that_is_away_for_a_day_costs_no_endpoint_and_no_leader_stays_or_is_missed() {
    away_for(SECOND * 86_400).await;
}
