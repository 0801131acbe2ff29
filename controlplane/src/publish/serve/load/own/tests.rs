use std::time::Duration;

use api::proto::LoadReport;

use super::super::tests::report;
use super::*;

const MOST: usize = 10;

fn told(loads: &Loads, seen: &mut u64, most: usize) -> Vec<(u32, u64, u32)> {
    let own = loads.own(*seen, most, Instant::now());
    *seen = own.up_to;
    own.loads.iter().map(|(handle, load)| (*handle, load.queued_tokens, load.running)).collect()
}

fn load(queued_tokens: u64, running: u32) -> Load {
    Load { queued_tokens, running, ..Load::default() }
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

#[test]
fn what_the_proxies_of_a_peer_decide_counts_as_theirs_and_is_not_told_on() {
    let share =
        |backend: &str, token_rate, proxies| BackendShare { backend: backend.into(), token_rate, age_ms: 0, proxies };
    let with = |shares| LoadReport { epoch: 1, shares, ..LoadReport::default() };
    let loads = Loads::new(1);
    loads.report(Owner::Proxy(1), 1, &with(vec![share("d/a", 100.0, 0)]));
    loads.report(Owner::Proxy(2), 2, &with(vec![share("d/a", 20.0, 9), share("d/b", 1.0, 0)]));
    let own = loads.own(0, MOST, Instant::now());
    assert_eq!(own.shares, [share("d/a", 120.0, 2), share("d/b", 1.0, 1)]);
    loads.peer(5, 1, &[]);
    loads.peer_shares(5, true, &[share("d/a", 3.0, 2), share("d/c", 4.0, 1)]);
    let seen = own.up_to;
    assert_eq!(loads.own(seen, MOST, Instant::now()).shares, [], "what a peer says is no news for peers");
    let of_first = loads.sum(Owner::Proxy(1), seen, Instant::now()).0.shares;
    assert_eq!(of_first, [share("d/a", 23.0, 3), share("d/c", 4.0, 1)]);
    // One goes; a new stream says all anew; the peer goes.
    loads.forget(Owner::Proxy(2), 2);
    let mut own = loads.own(seen, MOST, Instant::now());
    own.shares.sort_by(|a, b| a.backend.cmp(&b.backend));
    assert_eq!(own.shares, [share("d/a", 100.0, 1), share("d/b", 0.0, 0)]);
    loads.peer_shares(5, true, &[share("d/c", 5.0, 1)]);
    let (sum, up_to) = loads.sum(Owner::Proxy(1), own.up_to, Instant::now());
    assert_eq!(sum.shares, [share("d/a", 0.0, 0), share("d/c", 5.0, 1)]);
    loads.forget(Owner::Peer(5), 1);
    assert_eq!(loads.sum(Owner::Proxy(1), up_to, Instant::now()).0.shares, [share("d/c", 0.0, 0)]);
}

#[test]
fn shares_beyond_what_one_message_takes_come_in_the_next() {
    let shares =
        (0..25).map(|n| BackendShare { backend: format!("d/{n}"), token_rate: 1.0, ..BackendShare::default() });
    let loads = Loads::new(1);
    loads.report(Owner::Proxy(1), 1, &LoadReport { epoch: 1, shares: shares.collect(), ..LoadReport::default() });
    let (mut seen, mut parts) = (0, Vec::new());
    while seen < *loads.watch().borrow() {
        let own = loads.own(seen, MOST, Instant::now());
        (seen, _) = (own.up_to, parts.push(own.shares.len()));
    }
    assert_eq!(parts, [10, 10, 5]);
}
