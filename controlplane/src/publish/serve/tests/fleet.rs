//! What one data plane learns of prompts goes to all others.

use super::plane::{Plane, Site};
use super::*;

/// Of endpoints with the handles 1 and 2.
fn two_endpoints() -> Snapshot {
    let endpoint =
        |n: u32| format!(r#"{{"handle": {n}, "name": "d/e{n}", "uid": "u{n}", "address": "10.0.0.{n}:80"}}"#);
    let text = format!(r#"{{"backends": [{{"name": "d/b", "endpoints": [{}, {}]}}]}}"#, endpoint(1), endpoint(2));
    api::json::snapshot_from_json(text.as_bytes()).unwrap()
}

async fn joined(site: &Site) -> Plane {
    let mut plane = site.subscribe(|subscribe| subscribe.kv = true).await;
    plane.apply().await;
    plane
}

/// As this site names the endpoint.
fn handle(plane: &Plane, n: usize) -> u32 {
    plane.held.backends[0].endpoints[n].handle
}

/// Runs come in the order of their use.
fn sorted(mut hashes: Vec<u64>) -> Vec<u64> {
    hashes.sort_unstable();
    hashes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_predicts_the_others_are_told_and_who_joins_is_told_all() {
    let site = Site::start(Options::default()).await;
    site.send(two_endpoints());
    let (mut one, mut two) = (joined(&site).await, joined(&site).await);
    let (first, second) = (handle(&one, 0), handle(&one, 1));
    // Who hears the first of it is told all there is; from then on what is its own is left out.
    let zero = joined(&site).await;
    zero.predict(second, &[9]).await;
    for plane in [&mut one, &mut two] {
        plane.predicted_at(second, 1).await;
        plane.predicted.clear();
    }
    one.predict(first, &[10, 11, 12]).await;
    assert_eq!(two.predicted_at(first, 3).await, [10, 11, 12]);
    two.predict(second, &[10, 11]).await;
    assert_eq!(one.predicted_at(second, 2).await, [10, 11]);
    assert_eq!((one.predicted.len(), two.predicted.len()), (2, 3), "and nothing of their own");
    let mut three = joined(&site).await;
    assert_eq!(three.predicted_at(first, 3).await, [10, 11, 12]);
    assert_eq!(sorted(three.predicted_at(second, 3).await), [9, 10, 11]);
    // An endpoint that goes takes along what it held.
    let mut less = two_endpoints();
    less.backends[0].endpoints.remove(0);
    site.send(less);
    three.apply().await;
    let mut four = joined(&site).await;
    // Who joins may be brought to the newest state by way of an older one.
    while four.held.backends[0].endpoints.len() > 1 {
        four.apply().await;
    }
    assert_eq!(sorted(four.predicted_at(second, 3).await), [9, 10, 11]);
    assert!(four.predicted.iter().all(|mark| mark.handle == second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_ask_for_the_kv_lane_is_told_no_predictions() {
    let site = Site::start(Options::default()).await;
    site.send(two_endpoints());
    let mut without = site.join().await;
    without.apply().await;
    let (one, mut two) = (joined(&site).await, joined(&site).await);
    one.predict(handle(&one, 0), &[10]).await;
    two.predicted_at(handle(&two, 0), 1).await;
    assert!(without.quiet().await);
    assert_eq!(without.predicted, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_ask_for_is_summed_and_told_to_those_who_are_not_alone_with_it() {
    let site = Site::start(Options::default()).await;
    site.send(two_endpoints());
    let (mut one, mut two) = (joined(&site).await, joined(&site).await);
    one.use_blocks(&[(7, 4.0), (8, 1.0)]).await;
    two.used(7, 4.0).await;
    two.use_blocks(&[(7, 6.0)]).await;
    one.used(7, 10.0).await;
    two.used(7, 10.0).await;
    assert_eq!(two.uses.get(&8), None, "one use is no news");
    let mut three = joined(&site).await;
    three.used(7, 10.0).await;
    assert!(!one.uses.contains_key(&8));
}
