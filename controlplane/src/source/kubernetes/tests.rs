//! How changes become readings, on a clock of its own.

use std::sync::Mutex;

use super::entry::entry;
use super::state::Change;
use super::*;
use crate::source::reached::Reach;

mod away;
mod fleet;
mod histories;
mod plane;
mod rest;
mod site;
mod tokens;

/// The times of the readings, from the start, for pods that change at `changes`.
async fn readings(changes: &[u64]) -> Vec<(u64, usize)> {
    readings_beside(changes, &[]).await
}

/// The same while one pod is said at each of `noise`, and says nothing new from the second time on.
async fn readings_beside(changes: &[u64], noise: &[u64]) -> Vec<(u64, usize)> {
    let watched = Watched::all(&Scope::default());
    let pods = watched.iter().position(|watched| watched.kind() == "Pod").unwrap();
    let (tell, told) = mpsc::channel(CHANGES);
    let (begin, said) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let log = said.clone();
    let note = move |reading: Reading| {
        log.lock().unwrap().push((begin.elapsed().as_millis() as u64, reading.world.pods.len()));
    };
    let posts = Posts { waiting: watch::channel(Waiting::new()).0, reached: watch::channel(Reached::default()).0 };
    let gathering = gather(State::new(watched.clone()), told, &posts, note);
    let telling = async {
        for place in 0..watched.len() {
            let change = Some(Change::Listed(place, Vec::new()));
            tell.send(Step { place, change, reach: Reach::Nowhere }).await.unwrap();
        }
        let changes = changes.iter().enumerate().map(|(number, at)| (*at, format!("p{number}")));
        let mut all: Vec<_> = changes.chain(noise.iter().map(|at| (*at, "noise".to_owned()))).collect();
        all.sort();
        for (at, name) in all {
            tokio::time::sleep_until(begin + Duration::from_millis(at)).await;
            let pod = serde_json::json!({"metadata": {"name": name, "namespace": "d"}});
            let change = Some(Change::Put(pods, entry(&watched[pods], pod).unwrap()));
            tell.send(Step { place: pods, change, reach: Reach::Nowhere }).await.unwrap();
        }
        tokio::time::sleep(PERIOD * 2).await;
        drop(tell);
    };
    tokio::join!(gathering, telling);
    Arc::try_unwrap(said).expect("the reader is gone").into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_change_is_read_once_it_is_quiet() {
    assert_eq!(readings(&[1_000]).await, [(10, 0), (1_010, 1)]);
}

#[tokio::test(start_paused = true)]
async fn changes_close_together_are_read_together() {
    assert_eq!(readings(&[1_000, 1_005, 1_012]).await, [(10, 0), (1_022, 3)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_news_delays_nothing() {
    let noise: Vec<u64> = (0..100).map(|n| 900 + 2 * n).collect();
    assert_eq!(readings_beside(&[1_001], &noise).await, [(10, 0), (910, 1), (1_011, 2)]);
}

#[tokio::test(start_paused = true)]
async fn c12_a_storm_is_read_twenty_times_a_second() {
    let storm: Vec<u64> = (0..1_000).map(|n| 1_000 + n).collect();
    let readings = readings(&storm).await;
    let during = readings.iter().filter(|(at, _)| (1_000..2_000).contains(at)).count();
    assert!((15..=20).contains(&during), "{readings:?}");
    assert!(readings.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 50), "{readings:?}");
    assert_eq!(readings.last().unwrap().1, 1_000);
}
