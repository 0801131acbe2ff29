use std::time::{Duration, Instant};

use super::feed::Listener;
use super::*;

const A: Owner = Owner::Proxy(1);
const B: Owner = Owner::Proxy(2);
const PER_SECOND: u32 = 1_000_000;

/// A run of marks at an endpoint.
fn run(handle: u32, hashes: &[u64]) -> Vec<Mark> {
    (0..).zip(hashes).map(|(position, hash)| Mark { hash: *hash, handle, position }).collect()
}

/// Endpoints whose caches take so many marks.
fn predictions(endpoints: &[(u32, u64)]) -> Predictions {
    let predictions = Predictions::new();
    predictions.book().keep(endpoints.iter().map(|(handle, marks)| (*handle, Some(marks * MARK_TOKENS))));
    predictions
}

fn proxy(owner: Owner) -> Feed {
    Feed::new(Listener::Proxy(owner), PER_SECOND, Instant::now())
}

/// All that is told now.
fn told(feed: &mut Feed, predictions: &Predictions) -> Vec<Mark> {
    let mut told = Vec::new();
    while feed.is_behind(predictions.book().logged) {
        told.extend(feed.next(predictions, Instant::now()));
    }
    told
}

#[test]
fn each_is_told_what_others_predict_and_once() {
    let predictions = predictions(&[(1, 100)]);
    let (mut a, mut b) = (proxy(A), proxy(B));
    assert_eq!((told(&mut a, &predictions), told(&mut b, &predictions)), (vec![], vec![]));
    predictions.take(A, run(1, &[10, 11]).into_iter());
    predictions.take(B, run(1, &[11, 12]).into_iter());
    assert_eq!((told(&mut a, &predictions), told(&mut b, &predictions)), (run(1, &[11, 12]), run(1, &[10, 11])));
    assert_eq!((told(&mut a, &predictions), told(&mut b, &predictions)), (vec![], vec![]));
}

#[test]
fn who_joins_is_told_all_in_the_order_of_use() {
    let predictions = predictions(&[(1, 100)]);
    predictions.take(A, run(1, &[10, 11, 12]).into_iter());
    predictions.take(A, run(1, &[20, 21]).into_iter());
    // It goes on from a mark that is known, and makes all of its chain the newest.
    predictions.take(A, run(1, &[11, 13]).into_iter());
    let all = [run(1, &[11, 12]), run(1, &[20, 21]), run(1, &[10, 11, 13])].concat();
    assert_eq!(told(&mut proxy(B), &predictions), all);
}

#[test]
fn an_endpoint_keeps_what_its_cache_takes_and_leaves_go_first() {
    let predictions = predictions(&[(1, 4)]);
    predictions.take(A, run(1, &[10, 11, 12]).into_iter());
    predictions.take(A, run(1, &[10]).into_iter());
    predictions.take(A, run(1, &[20, 21]).into_iter());
    assert_eq!(predictions.marks(), 4);
    assert_eq!(told(&mut proxy(B), &predictions), [run(1, &[10, 11]), run(1, &[20, 21])].concat());
}

#[test]
fn an_endpoint_that_went_is_forgotten_and_one_that_is_not_known_is_not_taken() {
    let predictions = predictions(&[(1, 10), (2, 10)]);
    predictions.take(A, [run(1, &[10]), run(2, &[10]), run(3, &[10])].concat().into_iter());
    assert_eq!(predictions.marks(), 2);
    predictions.book().keep([(2, None)].into_iter());
    assert_eq!(told(&mut proxy(B), &predictions), run(2, &[10]));
}

#[test]
fn one_that_falls_behind_is_told_all_again() {
    let predictions = predictions(&[(1, 50)]);
    let mut slow = proxy(B);
    told(&mut slow, &predictions);
    for hash in 1..LOG as u64 + 10 {
        predictions.take(A, run(1, &[hash]).into_iter());
    }
    let all = told(&mut slow, &predictions);
    assert_eq!(all.len(), 50, "what has left meanwhile is not told");
    assert_eq!(predictions.book().log.len(), LOG);
}

#[test]
fn a_run_is_not_cut_by_the_end_of_a_message() {
    let predictions = predictions(&[(1, 20_000)]);
    let mut feed = proxy(B);
    told(&mut feed, &predictions);
    let long: Vec<u64> = (1..6_000).collect();
    predictions.take(A, run(1, &[7_000_001]).into_iter());
    predictions.take(A, run(1, &long).into_iter());
    predictions.take(A, run(1, &[7_000_002]).into_iter());
    assert_eq!(feed.next(&predictions, Instant::now()).len(), 6_000);
    assert_eq!(feed.next(&predictions, Instant::now()).len(), 1);
}

#[test]
fn a_replica_is_told_what_our_proxies_predict_and_not_what_it_or_others_said() {
    let predictions = predictions(&[(1, 100)]);
    let mut peer = Feed::new(Listener::Peer, PER_SECOND, Instant::now());
    told(&mut peer, &predictions);
    predictions.take(Owner::Peer(9), run(1, &[1]).into_iter());
    predictions.take(A, run(1, &[2]).into_iter());
    assert_eq!(told(&mut peer, &predictions), run(1, &[2]));
    // Also one that comes when all that was already said.
    let mut later = Feed::new(Listener::Peer, PER_SECOND, Instant::now());
    assert_eq!(told(&mut later, &predictions), run(1, &[2]));
}

/// By the clock of its budget: what a stream may take decides, not this machine.
#[test]
fn who_joins_is_warm_within_five_seconds_where_there_are_a_million_marks() {
    const EACH: u64 = 1_600;
    let endpoints: Vec<(u32, u64)> = (0..MOST as u32 / EACH as u32).map(|handle| (handle, EACH)).collect();
    let predictions = predictions(&endpoints);
    for (handle, _) in &endpoints {
        // Prompts of 16 KiB.
        for prompt in 0..EACH / 16 {
            let hashes: Vec<u64> = (1..17).map(|mark| u64::from(*handle) << 32 | prompt << 8 | mark).collect();
            predictions.take(A, run(*handle, &hashes).into_iter());
        }
    }
    let begun = Instant::now();
    let (mut now, mut marks, mut feed) = (begun, 0, Feed::new(Listener::Proxy(B), PER_SECOND, begun));
    while feed.is_behind(predictions.book().logged) {
        now = now.max(feed.due());
        let part = feed.next(&predictions, now).len();
        assert!(part * 16 < 900_000);
        marks += part;
    }
    assert!(marks as u64 >= endpoints.len() as u64 * EACH && marks > 1_000_000, "{marks}");
    let took = now - begun;
    println!("{marks} marks are told within {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_replica_that_comes_again_with_all_it_knows_is_no_news_to_anybody() {
    const EACH: u64 = 3_000;
    let predictions = predictions(&(0..100).map(|handle| (handle, EACH)).collect::<Vec<_>>());
    let all: Vec<Vec<Mark>> = (0..100).map(|handle| run(handle, &(1..EACH).collect::<Vec<_>>())).collect();
    let mut feed = proxy(A);
    let say = |feed: &mut Feed| {
        all.iter().for_each(|marks| predictions.learn(Owner::Peer(9), marks.iter().copied()));
        told(feed, &predictions).len()
    };
    assert!(say(&mut feed) >= all.len() * (EACH as usize - 1), "it was not known");
    let logged = predictions.book().logged;
    assert_eq!((say(&mut feed), predictions.book().logged), (0, logged));
    // With a new end the whole run is told, so that it is known where that belongs.
    predictions.learn(Owner::Peer(9), run(1, &[1, 2, 1_000_000]).into_iter());
    assert_eq!(told(&mut feed, &predictions), run(1, &[1, 2, 1_000_000]));
    // What is asked for is told, known or not: it is in use.
    predictions.take(Owner::Peer(9), run(1, &[1, 2]).into_iter());
    assert_eq!(told(&mut feed, &predictions), run(1, &[1, 2]));
}

#[test]
fn an_endpoint_that_comes_when_there_is_no_room_left_gets_its_share() {
    let each = 20_000;
    let endpoints: Vec<(u32, u64)> = (0..60).map(|handle| (handle, each)).collect();
    let predictions = predictions(&endpoints);
    let ask = |handle: u32| {
        let marks = (1..each + 1).map(|hash| Mark { hash, handle, position: 0 });
        predictions.take(A, marks);
        predictions.book().endpoints[&handle].len()
    };
    assert!((0..60).map(ask).all(|held| held > 0));
    let all: Vec<u64> = (0..61).map(|_| each).collect();
    predictions.book().keep((0..).zip(all).map(|(handle, marks)| (handle, Some(marks * MARK_TOKENS))));
    let share = MOST / 61;
    let got = ask(60);
    assert!((share..=each as usize).contains(&got), "{got} of {share}");
    assert!(predictions.marks() <= MOST);
    let least = predictions.book().endpoints.values().map(Endpoint::len).min().unwrap();
    assert!(least > share * 9 / 10, "{least}: no other lost more than that");
}

#[test]
fn there_is_no_more_than_the_bound_in_all() {
    let each = 20_000;
    let endpoints: Vec<(u32, u64)> = (0..60).map(|handle| (handle, each)).collect();
    let predictions = predictions(&endpoints);
    for (handle, _) in &endpoints {
        let hashes = (1..each + 1).map(|hash| Mark { hash, handle: *handle, position: 0 });
        predictions.take(A, hashes);
    }
    assert_eq!(predictions.marks(), MOST);
}

#[test]
fn a_mark_that_is_known_needs_no_room() {
    let each = 20_000;
    let predictions = predictions(&(0..61).map(|handle| (handle, each)).collect::<Vec<_>>());
    for handle in 0..60 {
        predictions.take(A, (1..each + 1).map(|hash| Mark { hash, handle, position: 0 }));
    }
    let ask = |hashes: std::ops::Range<u64>| {
        predictions.take(A, hashes.map(|hash| Mark { hash, handle: 60, position: 0 }));
        predictions.marks()
    };
    let room = (MOST - ask(1..2)) as u64;
    assert_eq!((room > 0, ask(2..2 + room)), (true, MOST));
    assert_eq!(ask(1..2), MOST);
}
