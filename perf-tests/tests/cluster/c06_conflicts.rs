//! C6: for some seconds every write of a status conflicts.

use std::time::{Duration, Instant};

use perf_tests::proxy::{Fault, Often, Verb, When};
use tokio::time::interval;

use crate::scene::{Scene, Where};
use crate::wait::until;

const STORM: Duration = Duration::from_secs(6);
const EDITS_APART: Duration = Duration::from_millis(100);
const AFTER: Duration = Duration::from_secs(10);
/// Attempts on one object within a second.
const MOST: usize = 5;

/// Of what happened at these times, in their order.
fn most_in_a_second(times: &[Instant]) -> usize {
    let within =
        |from: &Instant| times.iter().filter(|at| *at >= from && **at < *from + Duration::from_secs(1)).count();
    times.iter().map(within).max().unwrap_or_default()
}

#[tokio::test]
async fn c06_statuses_that_conflict_are_tried_seldom_and_are_right_ten_seconds_after_the_storm() {
    let mut scene = Scene::new("storm").await;
    let patches = |name: &str| When { name: Some(name.to_owned()), ..When::of(Verb::Patch, "modelroutes/status") };
    let storm = scene.home.proxy.inject(
        When::of(Verb::Patch, "modelroutes/status"),
        Fault::Refuse { code: 409, retry_after_s: None },
        Often::Always,
    );
    let (begin, mut weight) = (Instant::now(), 1);
    // One is edited once, so that it is tried in ever longer pauses; the other one all the time, which begins anew.
    scene.make_route(Where::Here, "gone", 1).await;
    let mut edits = interval(EDITS_APART);
    while begin.elapsed() < STORM {
        edits.tick().await;
        weight = 1 + weight % 100;
        scene.make_route(Where::Here, "r0", weight).await;
    }
    storm.lift();
    let lifted = Instant::now();
    until("right statuses", async || scene.statuses_are_right().await).await;
    let took = lifted.elapsed();
    assert!(took < AFTER, "statuses are right {took:?} after the storm");
    for (name, least) in [("gone", 3), ("r0", 10)] {
        let tried = scene.home.proxy.written(&patches(name));
        let storm: Vec<_> = tried.into_iter().filter(|at| (begin..lifted).contains(at)).collect();
        println!("{name}: {} attempts in {STORM:?} of conflicts, right {took:?} after it", storm.len());
        assert!(most_in_a_second(&storm) <= MOST && storm.len() >= least, "{name}: {:?}", offsets(begin, &storm));
    }
    scene.check();
}

fn offsets(begin: Instant, times: &[Instant]) -> Vec<Duration> {
    times.iter().map(|at| at.duration_since(begin)).collect()
}
