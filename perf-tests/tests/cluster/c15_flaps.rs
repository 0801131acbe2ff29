//! C15: a pod flaps ten times a second, beside one that flaps as fast as an API server takes it.

use std::time::Duration;

use perf_tests::proxy::{Verb, When};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::program::server;
use crate::scene::Scene;

const FLAPS: usize = 50;
const APART: Duration = Duration::from_millis(100);
/// The one pod of a server of its own, which is ready or not with it.
const IP: &str = "10.3.0.1";
const FLAPS_AT: &str = "10.3.0.1:8000";
/// From the API server's answer until data planes are told, for half of the flaps: a machine that is busy with other tests makes some slow.
const TOLD: Duration = Duration::from_millis(500);
/// The same for each of them: no request for one that is not ready begins later.
const ALL_TOLD: Duration = Duration::from_secs(1);
/// Writes of the server's status meanwhile: pauses between its turns double from 0.25 s.
const WRITES: usize = 8;

/// From each flap's answer until a table has it.
async fn flaps(scene: &Scene) -> Vec<Duration> {
    let (mut ticks, mut took) = (interval(APART), Vec::new());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..FLAPS {
        ticks.tick().await;
        let ready = n % 2 == 1;
        scene.home.pod_ready("flaps", ready).await;
        let answered = Instant::now();
        scene.told("the flap", |table| table.endpoints.contains_key(FLAPS_AT) == ready).await;
        took.push(answered.elapsed());
    }
    took.sort();
    took
}

/// Another one that never rests.
async fn noise(scene: &Scene) {
    for n in 0_usize.. {
        scene.home.pod_ready("p1", n.is_multiple_of(2)).await;
    }
}

#[tokio::test]
async fn c15_a_pod_that_flaps_is_told_of_at_once_and_written_of_ever_more_seldom() {
    let mut scene = Scene::new("flaps").await;
    scene.let_flap(&["p1"]);
    scene.let_any();
    scene.home.apply(&server("flaps", 8000)).await;
    scene.home.pod("flaps", "flaps", IP).await;
    scene.told("the pod", |table| table.endpoints.contains_key(FLAPS_AT)).await;
    let statuses = When {
        name: Some("flaps".to_owned()),
        namespace: Some(scene.home.namespace.clone()),
        ..When::of(Verb::Patch, "modelservers/status")
    };
    let (written, begin) = (scene.home.proxy.written(&statuses).len(), Instant::now());
    let took = tokio::select! {
        took = flaps(&scene) => took,
        () = noise(&scene) => unreachable!("it has no end"),
    };
    let lasted = begin.elapsed();
    let written = scene.home.proxy.written(&statuses).len() - written;
    let (half, worst) = (took[FLAPS / 2], took[FLAPS - 1]);
    println!(
        "{FLAPS} flaps in {lasted:?}: half of them told of within {half:?}, all within {worst:?}; {written} writes"
    );
    assert!(half < TOLD, "half of the flaps were told of within {half:?}");
    assert!(worst < ALL_TOLD, "a flap was told of after {worst:?}");
    assert!((1..=WRITES).contains(&written), "{written} writes of one status in {lasted:?}");
    scene.home.pod_ready("p1", true).await;
    scene.home.pod_ready("flaps", false).await;
    scene.rests().await;
}
