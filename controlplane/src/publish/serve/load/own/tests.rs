use std::time::Duration;

use super::super::tests::report;
use super::*;

const MOST: usize = 10;

fn told(loads: &Loads, seen: &mut u64, most: usize) -> Vec<(u32, u64, u32)> {
    let own = loads.own(*seen, most, Instant::now());
    *seen = own.up_to;
    own.loads.iter().map(|(handle, load)| (*handle, load.queued_tokens, load.running)).collect()
}

fn load(queued_tokens: u64, running: u32) -> Load {
    Load { queued_tokens, running, ttft: 0.0 }
}

#[test]
fn a_peer_is_told_the_sum_of_our_proxies_and_nothing_of_peers() {
    let loads = Loads::new(1);
    let mut seen = 0;
    loads.report(Owner::Proxy(1), 1, &report(&[(7, 100, 1), (8, 5, 1)]));
    loads.report(Owner::Proxy(2), 2, &report(&[(7, 10, 2)]));
    loads.peer(5, 1, &[(7, load(1_000, 50)), (9, load(1, 1))]);
    assert_eq!(told(&loads, &mut seen, MOST), [(8, 5, 1), (7, 110, 3)]);
    loads.peer(5, 1, &[(7, load(2_000, 60))]);
    assert_eq!(told(&loads, &mut seen, MOST), [], "what a peer says is no news for peers");
    loads.report(Owner::Proxy(1), 1, &report(&[(7, 0, 0)]));
    assert_eq!(told(&loads, &mut seen, MOST), [(7, 10, 2)]);
    assert_eq!((loads.at(7), loads.proxies()), (load(2_010, 62), 2));
}

#[test]
fn nothing_is_lost_where_a_peer_changes_what_was_cut_off() {
    let loads = Loads::new(1);
    loads.report(Owner::Proxy(1), 1, &report(&[(1, 1, 1), (2, 2, 1), (3, 3, 1)]));
    let mut seen = 0;
    assert_eq!(told(&loads, &mut seen, 2), [(1, 1, 1), (2, 2, 1)]);
    loads.peer(5, 1, &[(1, load(9, 9)), (3, load(9, 9))]);
    assert_eq!(told(&loads, &mut seen, 2), [(3, 3, 1)]);
    assert_eq!(told(&loads, &mut seen, 2), []);
}

#[test]
fn a_peers_new_stream_replaces_what_the_old_one_said() {
    let loads = Loads::new(1);
    loads.peer(5, 1, &[(7, load(1, 1)), (8, load(2, 2))]);
    loads.peer(5, 2, &[(8, load(3, 3))]);
    assert_eq!((loads.at(7), loads.at(8)), (Load::default(), load(3, 3)));
    loads.forget(Owner::Peer(5), 1);
    assert_eq!(loads.at(8), load(3, 3));
    loads.forget(Owner::Peer(5), 2);
    assert_eq!(loads.at(8), Load::default());
    assert_eq!(loads.proxies(), 0);
}

#[test]
fn a_peer_with_the_number_of_a_proxy_is_another() {
    let loads = Loads::new(1);
    loads.report(Owner::Proxy(5), 1, &report(&[(7, 1, 1)]));
    loads.peer(5, 1, &[(7, load(2, 2))]);
    assert_eq!(loads.at(7), load(3, 3));
}

#[test]
fn an_engines_newest_reading_counts_and_only_our_own_are_told() {
    let loads = Loads::new(1);
    let begin = Instant::now();
    let later = begin + Duration::from_millis(200);
    let said = |handle, running| EngineLoad { handle, running, ..EngineLoad::default() };
    let engines = |seen| loads.own(seen, MOST, later).engines.iter().map(|e| (e.handle, e.running)).collect::<Vec<_>>();
    loads.engine(said(7, 1), begin);
    loads.engine_of_peer(said(8, 2), begin);
    assert_eq!(engines(0), [(7, 1)]);
    loads.engine_of_peer(said(7, 5), later);
    assert_eq!(engines(0), [], "a peer asks it now");
    loads.engine(said(7, 1), begin);
    let (sum, _) = loads.sum(Owner::Proxy(1), 0, later);
    let mut told: Vec<_> = sum.engines.iter().map(|e| (e.handle, e.running)).collect();
    told.sort_unstable();
    assert_eq!(told, [(7, 5), (8, 2)], "what is older does not come back");
}
