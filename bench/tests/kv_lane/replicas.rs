//! Replicas of the control plane share the engines, and a data plane of any of them is told what all engines hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bench::engine::Running;

use super::plane::{ControlPlane, DataPlane, Replicas};
use super::{ask, engine_at, hashes, prompt};
use crate::client;

const ENGINES: usize = 6;
/// Less than the 30 s after which a replica lets go of an engine though no peer knows as much: that would show here as a hand-over.
const PATIENCE: Duration = Duration::from_secs(20);

/// Engines on one port of addresses of their own.
async fn engines(test: u8) -> Vec<Running> {
    let ips: Vec<Ipv4Addr> = (0..ENGINES as u8).map(|n| Ipv4Addr::new(127, 0, 40 + test, n + 1)).collect();
    let free = || {
        let port = TcpListener::bind((ips[0], 0)).ok()?.local_addr().ok()?.port();
        ips.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok()).then_some(port)
    };
    let port = (0..100).find_map(|_| free()).expect("one of a hundred ports is free on all");
    let mut engines = Vec::new();
    for ip in ips {
        engines.push(engine_at((ip, port).into(), true).await);
    }
    engines
}

fn addresses(engines: &[Running]) -> Vec<SocketAddr> {
    engines.iter().map(|engine| engine.addr).collect()
}

fn uid(n: usize) -> String {
    format!("uid-{n}")
}

/// Each engine gets prompts of its own.
async fn ask_each(engines: &[Running], round: usize) {
    for (n, engine) in engines.iter().enumerate() {
        ask(engine, &prompt(100 * round + n)).await;
    }
}

/// Just what all engines have cached after so many rounds.
fn holds_all(data: &DataPlane, rounds: usize) -> bool {
    data.trusts_all()
        && (0..ENGINES).all(|n| data.holds_of(&uid(n)) == hashes((0..rounds).map(|round| 100 * round + n)))
}

/// Waits until each engine is heard by just one of these.
async fn shared(planes: &[&ControlPlane]) -> Vec<BTreeSet<String>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut shares = Vec::new();
        for plane in planes {
            shares.push(plane.hears().await);
        }
        let mut heard = BTreeMap::<&str, usize>::new();
        shares.iter().flatten().for_each(|uid| *heard.entry(uid).or_default() += 1);
        if heard.len() == ENGINES && heard.values().all(|times| *times == 1) && shares.iter().all(|s| !s.is_empty()) {
            return shares;
        }
        assert!(Instant::now() < deadline, "waited in vain: {shares:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_engine_is_heard_by_one_replica_and_the_data_planes_of_both_are_told_all() {
    let engines = engines(1).await;
    ask_each(&engines, 0).await;
    let mut replicas = Replicas::of(&addresses(&engines));
    let (one, other) = (replicas.add().await, replicas.add().await);
    shared(&[&one, &other]).await;
    let (mut of_one, mut of_other) = (DataPlane::join(&one, None).await, DataPlane::join(&other, None).await);
    for round in 1..4 {
        ask_each(&engines, round).await;
        of_one.until("all", |data| holds_all(data, round + 1)).await;
        of_other.until("all", |data| holds_all(data, round + 1)).await;
    }
    // What an engine loses all know, too.
    let reset = client::call(engines[0].addr, "POST", "/reset_prefix_cache", &[], "").await;
    assert_eq!(reset.status, 200);
    let lost = |data: &DataPlane| data.holds_of(&uid(0)).is_empty() && !data.holds_of(&uid(1)).is_empty();
    of_one.until("nothing of the first engine", lost).await;
    of_other.until("nothing of the first engine", lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_ends_is_stood_in_for_at_once_and_only_what_is_new_is_told() {
    let engines = engines(2).await;
    ask_each(&engines, 0).await;
    let mut replicas = Replicas::of(&addresses(&engines));
    let (one, other) = (replicas.add().await, replicas.add().await);
    let shares = shared(&[&one, &other]).await;
    let (mut moves, mut stays) = (DataPlane::join(&one, None).await, DataPlane::join(&other, None).await);
    moves.until("all", |data| holds_all(data, 1)).await;
    stays.until("all", |data| holds_all(data, 1)).await;
    let before = stays.entries();
    drop(one);
    let ended = Instant::now();
    let mut moved = DataPlane::join(&other, Some(moves)).await;
    moved.until("how engines stand", DataPlane::trusts_all).await;
    // What comes at an engine that the other replica heard until now.
    let taken: usize = shares[0].first().unwrap().strip_prefix("uid-").unwrap().parse().unwrap();
    ask(&engines[taken], &prompt(700)).await;
    let all = hashes([taken, 700]);
    stays.until("what is new", |data| data.holds_of(&uid(taken)) == all && data.trusts_all()).await;
    println!("taken over after {:?}", ended.elapsed());
    assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
    moved.until("what is new", |data| data.holds_of(&uid(taken)) == all && data.trusts_all()).await;
    let new = all.difference(&hashes([taken])).count();
    assert_eq!((stays.entries() - before, moved.entries()), (new, new), "nothing was told again");
    assert_eq!(other.hears().await.len(), ENGINES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_takes_its_share_and_nothing_is_told_again() {
    let engines = engines(3).await;
    ask_each(&engines, 0).await;
    let mut replicas = Replicas::of(&addresses(&engines));
    let one = replicas.add().await;
    let mut data = DataPlane::join(&one, None).await;
    data.until("all", |data| holds_all(data, 1)).await;
    let before = data.entries();
    let other = replicas.add().await;
    shared(&[&one, &other]).await;
    let mut late = DataPlane::join(&other, None).await;
    late.until("all", |data| holds_all(data, 1)).await;
    ask_each(&engines, 1).await;
    data.until("what is new", |data| holds_all(data, 2)).await;
    late.until("what is new", |data| holds_all(data, 2)).await;
    let new: usize = (0..ENGINES).map(|n| hashes([n, 100 + n]).difference(&hashes([n])).count()).sum();
    assert_eq!(data.entries() - before, new, "nothing was told again");
}
